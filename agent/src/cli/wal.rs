//! `wal`: the WAL segments a replica holds.

use clap::Args;
use holdfast_config::Env;
use holdfast_config::exit::Exit;
use serde_json::json;

use super::listing::{Subject, point_to_ltx, second};
use super::{Common, print, print_json, table, usage};
use crate::error::Error;
use crate::format::layout::{Generation, Name};
use crate::run::restore::Source;

#[derive(Args)]
pub(super) struct Command {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only this replica of the database
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,
    /// Only this generation
    #[arg(long, value_name = "GENERATION")]
    generation: Option<String>,
    /// The database's path, or a replica's URL
    #[arg(value_name = "DB|URL")]
    what: String,
}

impl Command {
    pub(super) fn run(self, env: &Env) -> Result<Exit, Error> {
        let only: Option<Generation> = match &self.generation {
            Some(text) => Some(text.parse().map_err(usage)?),
            None => None,
        };
        let subject = Subject::find(&self.what, self.replica.as_deref(), &self.common, env)?;
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        let exit = subject.list(|Source { name: replica, .. }, listing| {
            point_to_ltx(replica, listing);
            let wanted =
                listing.generations().filter(|(generation, _)| only.is_none_or(|g| g == *generation));
            for item in wanted.flat_map(|(_, objects)| &objects.segments) {
                let Name::Segment { generation, index, offset } = item.name else { continue };
                let (generation, index) = (generation.to_string(), index.get());
                values.push(json!({
                    "replica": replica, "generation": generation, "index": index, "offset": offset,
                    "size": item.size, "created": item.created.to_string(),
                }));
                let numbers = [index.into(), offset, item.size].map(|n: u64| n.to_string());
                let [index, offset, size] = numbers;
                rows.push([replica.into(), generation, index, offset, size, second(item.created)]);
            }
        })?;
        match self.common.json {
            true => print_json(&values.into()),
            false => {
                print(&table::table(["replica", "generation", "index", "offset", "size", "created"], &rows))
            }
        }
        exit
    }
}
