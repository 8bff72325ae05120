//! `config check`: whether the configuration can be used, what in it has no effect, and what it comes to.

use clap::{Args, Subcommand};
use holdfast_config::exit::Exit;
use holdfast_config::{Config, ConfigError, Env, Origin, Warning};
use serde_json::{Value, json};

use super::{Common, config_error, print, print_json};
use crate::error::Error;

#[derive(Args)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Check(Check),
}

/// Check the configuration file, or what the environment makes of it
///
/// Reads it as `replicate` does, with the files of its secrets, and asks no network. Warnings name file, line and column,
/// on stderr.
///
/// Exit codes: 0 it can be used; 78 it cannot, or there are warnings and -strict is given.
#[derive(Args)]
struct Check {
    #[command(flatten)]
    common: Common,
    /// Print the effective configuration as YAML, without secrets, and where each value comes from
    #[arg(long)]
    resolved: bool,
    /// Exit 78 on a warning, too
    #[arg(long)]
    strict: bool,
}

impl Command {
    pub(super) fn run(self, env: &Env) -> Result<Exit, Error> {
        match self.action {
            Action::Check(check) => check.run(env),
        }
    }

    /// An error of the configuration is part of the answer, and is printed here.
    pub(super) const fn json(&self) -> bool {
        false
    }
}

impl Check {
    fn run(self, env: &Env) -> Result<Exit, Error> {
        let path = self.common.config.as_deref();
        let found = holdfast_config::resolve(path, env, !self.common.no_expand_env);
        let resolved = match found {
            Ok(resolved) => resolved,
            Err(e) if self.common.json => {
                eprintln!("holdfast: {e}");
                print_json(
                    &json!({ "outcome": "error", "exit": Exit::Config.code(), "findings": [error(&e)] }),
                );
                return Ok(Exit::Config);
            }
            Err(e) => return Err(config_error(&e)),
        };
        let config = &resolved.config;
        for warning in &config.warnings {
            eprintln!("warning: {warning}");
        }
        let nothing = config.databases.is_empty()
            && config.directories.is_empty()
            && config.origin == Origin::Environment;
        if nothing {
            eprintln!("warning: {NOTHING}");
        }
        let exec = config.exec.is_some();
        if exec {
            eprintln!("warning: exec: {EXEC}");
        }
        let warned = nothing || exec || !config.warnings.is_empty();
        let exit = if warned && self.strict { Exit::Config } else { Exit::Ok };
        if self.common.json {
            let mut findings: Vec<_> = config.warnings.iter().map(finding).collect();
            findings.extend(exec.then(|| json!({ "severity": "warning", "key": "exec", "problem": EXEC })));
            findings.extend(nothing.then(|| json!({ "severity": "warning", "problem": NOTHING })));
            let mut answer = summary(config);
            answer["outcome"] = json!(if warned { "warning" } else { "ok" });
            answer["exit"] = json!(exit.code());
            answer["findings"] = json!(findings);
            if self.resolved {
                answer["resolved"] = resolved.to_json();
            }
            print_json(&answer);
        } else if self.resolved {
            print(&format!("# {}; secrets are not shown\n{}", origin(config), resolved.to_yaml()));
        } else {
            print(&format!("{}\n", sentence(config)));
        }
        Ok(exit)
    }
}

/// `/etc/litestream.yml: 1 database, 2 replicas, 1 warning`.
fn sentence(config: &Config) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let warnings = match config.warnings.len() + usize::from(config.exec.is_some()) {
        0 => "no warnings".into(),
        n => count(n, "warning"),
    };
    let mut databases = count(config.databases.len(), "database");
    if !config.directories.is_empty() {
        let many = if config.directories.len() == 1 { "y" } else { "ies" };
        databases += &format!(", {} director{many} of databases", config.directories.len());
    }
    format!("{}: {databases}, {}, {warnings}", origin(config), count(replicas(config), "replica"))
}

fn replicas(config: &Config) -> usize {
    let directories = config.directories.iter().map(|d| &d.each);
    config.databases.iter().chain(directories).map(|d| d.replicas.len()).sum()
}

fn origin(config: &Config) -> String {
    match &config.origin {
        Origin::File(path) => path.display().to_string(),
        Origin::Environment => "environment".into(),
        Origin::CommandLine => "command line".into(),
    }
}

fn summary(config: &Config) -> Value {
    let file = match &config.origin {
        Origin::File(path) => Some(path),
        Origin::Environment | Origin::CommandLine => None,
    };
    let (databases, directories) = (config.databases.len(), config.directories.len());
    json!({ "file": file, "databases": databases, "directories": directories, "replicas": replicas(config) })
}

fn finding(warning: &Warning) -> Value {
    let at = warning.position();
    json!({
        "severity": "warning", "file": warning.file(), "line": at.map(|a| a.line), "column": at.map(|a| a.column),
        "key": warning.key(), "problem": warning.problem(),
    })
}

fn error(e: &ConfigError) -> Value {
    let at = e.position();
    json!({
        "severity": "error", "file": e.file(), "line": at.map(|a| a.line), "column": at.map(|a| a.column),
        "key": e.key(), "problem": e.problem(), "fix": e.advice(),
    })
}

const EXEC: &str = "holdfast-supervisor runs it; `holdfast replicate` alone refuses it";

const NOTHING: &str = "there is no configuration: no file named with -config or LITESTREAM_CONFIG, no \
                       /config/litestream.yml, no /etc/litestream.yml, no variable that asks for a replica; nothing \
                       will be replicated";
