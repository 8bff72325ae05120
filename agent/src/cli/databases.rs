//! `databases`: what the configuration names, and what its directories hold.

use clap::Args;
use holdfast_config::Env;
use holdfast_config::exit::Exit;
use serde_json::json;

use super::{Common, print, print_json, table};
use crate::error::Error;

#[derive(Args)]
pub(super) struct Command {
    #[command(flatten)]
    pub(super) common: Common,
}

impl Command {
    pub(super) fn run(self, env: &Env) -> Result<Exit, Error> {
        let config = self.common.load(env)?;
        let names =
            |d: &holdfast_config::Database| d.replicas.iter().map(|r| r.name.clone()).collect::<Vec<_>>();
        let databases = crate::run::directories::databases(&config);
        if self.common.json {
            let databases = databases.iter().map(|d| json!({ "path": d.path, "replicas": names(d) }));
            print_json(&databases.collect());
        } else {
            let rows: Vec<_> =
                databases.iter().map(|d| [d.path.display().to_string(), names(d).join(",")]).collect();
            print(&table::table(["path", "replicas"], &rows));
        }
        Ok(Exit::Ok)
    }
}
