//! `version`: which Holdfast this is, under whatever name it was called.

use clap::Args;
use holdfast_config::exit::Exit;
use serde_json::json;

use super::{VERSION, print, print_json};
use crate::error::Error;

/// Prints `v0.1.0` and nothing else, as Litestream prints its own. Called as `litestream` it says the same: a
/// script that looks for a feature of Litestream by number should look for the feature.
#[derive(Args)]
pub(super) struct Command {
    /// Print one JSON value on stdout
    #[arg(long)]
    pub(super) json: bool,
}

impl Command {
    pub(super) fn run(self) -> Result<Exit, Error> {
        match self.json {
            true => print_json(&json!({ "name": "holdfast", "version": VERSION })),
            false => print(&format!("{VERSION}\n")),
        }
        Ok(Exit::Ok)
    }
}
