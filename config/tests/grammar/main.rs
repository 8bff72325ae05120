//! The grammar of `litestream.yml` from outside: what every key gives, what every mistake is told.

#![allow(clippy::unwrap_used)] // Tests; the helpers stand outside the test functions the lint knows.

mod directories;
mod litestream;
mod matrix;
mod messages;
mod readme;
mod resolved;
mod secrets;
mod settings;
mod station;

use std::path::Path;

use holdfast_config::{Config, ConfigError, Env, Replica};

/// A message without its column, which `columns` tests: so the tables can be read beside their files.
fn said(message: &impl ToString) -> String {
    let message = message.to_string();
    let Some((before, after)) = message.split_once("l.yml:") else { return message };
    let Some((line, rest)) = after.split_once(':') else { return message };
    match rest.split_once(':') {
        Some((column, rest)) if column.parse::<usize>().is_ok() => format!("{before}l.yml:{line}:{rest}"),
        _ => message,
    }
}

/// Reads `text` as the file `l.yml` with these variables, in the working directory `/work`.
fn read(text: &str, vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env = Env::from_pairs(vars.iter().copied()).with_cwd("/work");
    holdfast_config::parse(text, Path::new("l.yml"), &env, true)
}

/// The one replica of a file that says `replica` under one database. An AWS region is set, so that none is guessed.
fn replica(replica: &str, vars: &[(&str, &str)]) -> Result<(Replica, Vec<String>), String> {
    let indented = replica.replace('\n', "\n        ");
    let text = format!("dbs:\n  - path: /d.db\n    replicas:\n      - {indented}\n");
    let vars = [vars, &[("AWS_REGION", "eu-1")]].concat();
    let config = read(&text, &vars).map_err(|e| said(&e))?;
    let warnings = config.warnings.iter().map(said).collect();
    Ok((config.databases[0].replicas[0].clone(), warnings))
}
