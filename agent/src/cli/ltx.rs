//! `ltx`: the LTX files a replica holds.

use clap::Args;
use holdfast_config::Env;
use holdfast_config::exit::Exit;
use serde_json::{Value, json};

use super::listing::{Subject, point_to_generations, second};
use super::{Common, print, print_json, table, usage};
use crate::error::Error;
use crate::format::ltx::Level;
use crate::plan::restore::ltx::File;
use crate::run::restore::Source;

#[derive(Args)]
pub(super) struct Command {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only this replica of the database
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,
    /// Only this level: 0 to 9, or all
    #[arg(long, value_name = "LEVEL", default_value = "all")]
    level: String,
    /// The database's path, or a replica's URL
    #[arg(value_name = "DB|URL")]
    what: String,
}

impl Command {
    pub(super) fn run(self, env: &Env) -> Result<Exit, Error> {
        let only = match self.level.as_str() {
            "all" => None,
            level => {
                let level = level.parse().ok().and_then(Level::new);
                Some(level.ok_or_else(|| usage(format!("-level {}: want 0 to 9 or all", self.level)))?)
            }
        };
        let subject = Subject::find(&self.what, self.replica.as_deref(), &self.common, env)?;
        let mut files: Vec<(String, File)> = Vec::new();
        let exit = subject.list(|Source { name: replica, .. }, listing| {
            point_to_generations(replica, listing);
            let wanted = listing.ltx().filter(|f| only.is_none_or(|level| level == f.name.level));
            files.extend(wanted.map(|f| (replica.to_owned(), *f)));
        })?;
        match (self.common.json, subject.sources.len()) {
            (true, _) => {
                print_json(&files.iter().map(|(replica, f)| named(replica, f)).collect::<Vec<_>>().into())
            }
            (false, 1) => print(&files_table(files.iter().map(|(_, f)| f))),
            // Litestream 0.5 knows one replica only: it has no column for its name.
            (false, _) => {
                let row = |(replica, f): &(String, File)| {
                    let [level, min, max, size, created] = row(f);
                    [replica.clone(), level, min, max, size, created]
                };
                let rows: Vec<_> = files.iter().map(row).collect();
                print(&table::table(["replica", "level", "min_txid", "max_txid", "size", "created"], &rows));
            }
        }
        exit
    }
}

/// Litestream 0.5's columns.
pub(super) fn files_table<'a>(files: impl IntoIterator<Item = &'a File>) -> String {
    let rows: Vec<_> = files.into_iter().map(row).collect();
    table::table(["level", "min_txid", "max_txid", "size", "created"], &rows)
}

fn row(file: &File) -> [String; 5] {
    let (min, max) = (file.name.min.to_string(), file.name.max.to_string());
    [file.name.level.to_string(), min, max, file.size.to_string(), second(file.created)]
}

fn named(replica: &str, file: &File) -> Value {
    let mut value = file_json(file);
    value["replica"] = replica.into();
    value
}

/// Litestream 0.5's keys.
pub(super) fn file_json(file: &File) -> Value {
    json!({
        "level": file.name.level.get(), "name": file.name.file(), "min_txid": file.name.min.to_string(),
        "max_txid": file.name.max.to_string(), "size": file.size, "timestamp": file.created.to_string(),
    })
}
