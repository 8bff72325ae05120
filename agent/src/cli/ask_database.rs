//! `ask-database`: the supervisor's question before it starts an app whose database is on a server.

use std::time::Duration;

use clap::Args;
use holdfast_config::Env;
use holdfast_config::control::DATABASE_VAR;
use holdfast_config::exit::Exit;

use super::{block_on, usage};
use crate::error::{Error, Kind};
use crate::plan::remote::Question;
use crate::run::remote;

/// Asks the database whose URL is in HOLDFAST_DATABASE whether it answers, with the token of the URL, else of
/// LIBSQL_AUTH_TOKEN, TURSO_AUTH_TOKEN or DATABASE_AUTH_TOKEN.
///
/// Exit codes: 0 it does; 69 it cannot be reached; 77 it refuses the token; 78 there is no such database.
#[derive(Args)]
pub(super) struct Command {
    /// How long to try
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    wait: String,
}

impl Command {
    pub(super) fn run(self, env: &Env) -> Result<Exit, Error> {
        let wait: Duration =
            humantime::parse_duration(&self.wait).map_err(|e| usage(format!("--wait {}: {e}", self.wait)))?;
        let url = env.filled(DATABASE_VAR).ok_or_else(|| usage(format!("{DATABASE_VAR} is not set")))?;
        let token = TOKENS.iter().find_map(|name| env.filled(name));
        let question = Question::to(url, token).map_err(|why| {
            Error::new(Kind::Config, "read the app's DATABASE_URL", why).hint("write it like libsql://HOST")
        })?;
        if let Some(doubt) = block_on(remote::ask(&question, wait))? {
            eprintln!("holdfast: {doubt}");
        }
        Ok(Exit::Ok)
    }
}

/// Where the clients of libsql look.
const TOKENS: [&str; 3] = ["LIBSQL_AUTH_TOKEN", "TURSO_AUTH_TOKEN", "DATABASE_AUTH_TOKEN"];
