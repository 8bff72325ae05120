//! `restore-points`: the states a replica can bring back, and how to ask for each.

use clap::Args;
use holdfast_config::Env;
use holdfast_config::exit::Exit;
use serde_json::json;

use super::generations::{go_duration, shortened};
use super::listing::Subject;
use super::{Common, print, print_json, table};
use crate::error::Error;
use crate::plan::restore::points::{At, Point, restore_points};
use crate::plan::restore::{Refusal, Target, plan};
use crate::run::restore::Source;

/// List the states that can be restored, the youngest last
///
/// `created` is the date of a state, `since` the time from the one before it, `uploads` how many uploads lie between
/// them: 1 where each can be restored by itself, more where they are merged. `restore with` is what to add to the
/// command `restore` to get it.
///
/// Of LTX files (Litestream 0.5) each state listed can be restored, and no other. Of v0.3 objects it is what their
/// names and dates promise.
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
        let exit = subject.list_dated(|Source { name: replica, .. }, listing| {
            // What stands in the way of the latest state is the first thing to know.
            if let Err(refusal) = plan(listing, Target::LATEST)
                && refusal != Refusal::Empty
            {
                tracing::warn!(replica, "the latest state does not restore: {refusal}");
            }
            for point in restore_points(listing) {
                let at = point.at.to_string();
                let mut flags = flags(&point);
                if subject.sources.len() > 1 {
                    flags.splice(0..0, ["-replica".into(), replica.into()]);
                }
                let since = point.since;
                values.push(json!({
                    "replica": replica, "created": point.created.to_string(), "position": at,
                    "since_ms": since.map(|since| since.as_millis()), "uploads": point.uploads,
                    "restore_with": flags,
                }));
                let since = since.map_or("-".into(), |since| go_duration(shortened(since)));
                let uploads = point.uploads.to_string();
                let created = point.created.to_string();
                rows.push([replica.into(), created, since, uploads, at, flags.join(" ")]);
            }
        })?;
        match self.common.json {
            true => print_json(&values.into()),
            false => print(&table::table(COLUMNS, &rows)),
        }
        exit
    }
}

/// What to add to `restore`.
fn flags(point: &Point) -> Vec<String> {
    match point.at {
        At::Txid(txid) => vec!["-txid".into(), txid.to_string()],
        At::Object(name) => {
            let generation = name.generation().to_string();
            vec!["-generation".into(), generation, "-timestamp".into(), point.created.to_string()]
        }
    }
}

const COLUMNS: [&str; 6] = ["replica", "created", "since", "uploads", "position", "restore with"];
