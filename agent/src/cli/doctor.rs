//! `doctor`: what would keep replication or a restore from working, found before it does.

use clap::Args;
use holdfast_config::exit::Exit;
use holdfast_config::{Config, Env, Origin};
use serde_json::{Value, json};

use super::listing::{database, is_url};
use super::{Common, block_on, config_error, log, print, print_json, usage};
use crate::error::{Error, Kind};
use crate::run::doctor::{self, Examined, Finding, Verdict};
use crate::store::OpenOptions;

/// Try every destination and look at every database of the configuration, or at one of either
///
/// Creates a small object in each destination, reads it, a range of it, lists it, creates it again (which must fail),
/// deletes it, and compares the clocks. Of a database: its header and mode, the SQLite that wrote it, its volume, the
/// space there is. Says for each finding what to do about it. A credential that may only read is tried as one.
///
/// Exit codes: 0 nothing is wrong, warnings included; else that of the worst finding: 65 the database, 78 bucket or
/// configuration, 77 access denied, 73 full or read-only, 69 not reachable.
#[derive(Args)]
pub(super) struct Command {
    #[command(flatten)]
    pub(super) common: Common,
    /// A database of the configuration, or a replica's URL, instead of the whole configuration
    #[arg(value_name = "DB|URL")]
    what: Option<String>,
}

impl Command {
    pub(super) fn run(self, env: &Env) -> Result<Exit, Error> {
        let all = match &self.what {
            Some(url) if is_url(url) => {
                if self.common.config.is_some() {
                    return Err(usage("cannot specify a replica URL and the -config flag"));
                }
                log::start(None);
                let found = holdfast_config::replica_from_url(url, env).map_err(|e| config_error(&e))?;
                for warning in holdfast_config::url_warnings(url, env) {
                    tracing::warn!("{warning}");
                }
                let one =
                    async { Ok(doctor::replica(&found.destination, None, OpenOptions::default()).await) };
                vec![block_on(one)?]
            }
            what => {
                let config = self.config(what.as_deref(), env)?;
                block_on(async { Ok(doctor::everything(&config).await) })?
            }
        };
        let exit = doctor::worst(&all);
        match self.common.json {
            true => print_json(&json(&all, exit)),
            false => print(&text(&all)),
        }
        Ok(exit)
    }

    /// The configuration, of which `what` may name one database.
    fn config(&self, what: Option<&str>, env: &Env) -> Result<Config, Error> {
        let config = self.common.load(env)?;
        if let Some(what) = what {
            let path = env.absolute(what.as_ref()).map_err(|e| usage(format!("{what:?}: {e}")))?;
            let config = config.with_database(&path);
            let databases = vec![database(&config, &path)?];
            return Ok(Config { databases, directories: Vec::new(), ..config });
        }
        let config = match config.origin {
            Origin::Environment if config.replicates() => {
                let path =
                    holdfast_config::database_path(&config, env, None).map_err(|e| config_error(&e))?;
                config.with_database(&path)
            }
            _ => config,
        };
        match config.databases.is_empty() && config.directories.is_empty() {
            false => Ok(config),
            true => Err(Error::new(Kind::Config, "find the configuration", "no database is configured")
                .hint("name a file with -config, or a replica by its URL")),
        }
    }
}

/// A paragraph for each subject: `  ok    create        12 ms`, and under what is not, what to do.
fn text(all: &[Examined]) -> String {
    let mut out = String::new();
    for one in all {
        let replica = one.replica.as_ref().map_or_else(String::new, |name| format!(" (replica {name})"));
        out += &format!("{}{replica}\n", one.subject);
        for Finding { check, verdict, detail, fix } in &one.findings {
            let mark = match verdict {
                Verdict::Ok => "ok",
                Verdict::Warning => "WARN",
                Verdict::Failed(_) => "FAIL",
                Verdict::Skipped => "-",
            };
            out += &format!("  {mark:<4}  {check:<12}  {detail}\n");
            if let Some(fix) = fix {
                out += &format!("        {:<12}  fix: {fix}\n", "");
            }
        }
    }
    out
}

fn json(all: &[Examined], exit: Exit) -> Value {
    let findings = all.iter().flat_map(|one| {
        one.findings.iter().map(|Finding { check, verdict, detail, fix }| {
            let (result, code) = match verdict {
                Verdict::Ok => ("ok", None),
                Verdict::Warning => ("warning", None),
                Verdict::Failed(exit) => ("failed", Some(exit.code())),
                Verdict::Skipped => ("skipped", None),
            };
            json!({
                "subject": one.subject, "replica": one.replica, "check": check, "result": result,
                "detail": detail, "fix": fix, "exit": code,
            })
        })
    });
    json!({ "exit": exit.code(), "findings": findings.collect::<Vec<_>>() })
}
