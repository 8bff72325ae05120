//! `snapshots`: the full copies a replica holds.

use clap::Args;
use holdfast_config::Env;
use holdfast_config::exit::Exit;
use serde_json::json;

use super::listing::{Subject, point_to_ltx, second};
use super::{Common, print, print_json, table};
use crate::error::Error;
use crate::run::restore::Source;

#[derive(Args)]
pub(super) struct Command {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only this replica of the database
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,
    /// The database's path, or a replica's URL
    #[arg(value_name = "DB|URL")]
    what: String,
}

impl Command {
    pub(super) fn run(self, env: &Env) -> Result<Exit, Error> {
        let subject = Subject::find(&self.what, self.replica.as_deref(), &self.common, env)?;
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        let exit = subject.list(|Source { name: replica, .. }, listing| {
            point_to_ltx(replica, listing);
            for item in listing.generations().flat_map(|(_, objects)| &objects.snapshots) {
                let (generation, index) = (item.name.generation().to_string(), item.name.index().get());
                values.push(json!({
                    "replica": replica, "generation": generation, "index": index, "size": item.size,
                    "created": item.created.to_string(),
                }));
                rows.push([
                    replica.into(),
                    generation,
                    index.to_string(),
                    item.size.to_string(),
                    second(item.created),
                ]);
            }
        })?;
        match self.common.json {
            true => print_json(&values.into()),
            false => print(&table::table(["replica", "generation", "index", "size", "created"], &rows)),
        }
        exit
    }
}
