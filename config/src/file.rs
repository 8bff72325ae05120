//! `litestream.yml` into a [`Config`]. Values only.

use std::path::PathBuf;

use crate::addr;
use crate::advice::nearest;
use crate::entry::{self, Entry};
use crate::error::ConfigError;
use crate::keys::Level as KeyLevel;
use crate::ltx;
use crate::model::{Config, Format, Level, Logging, Origin};
use crate::reader::Section;
use crate::replica;
use crate::seen::Seen;

/// Reads the whole file from its root. Warnings are left in the document.
pub(crate) fn read(top: &Section<'_>, path: PathBuf) -> Result<Config, ConfigError> {
    top.check_keys(KeyLevel::Top)?;
    let mut config = Config::empty(Origin::File(path));
    addr::of_top(top, &mut config)?;
    config.exec = top.text("exec")?;
    if config.exec.is_some() && config.command().is_empty() {
        return Err(top
            .fail("exec", "it is no command: a quote is not closed, or it is blank")
            .fix("write it as in a shell"));
    }
    config.shutdown_sync_timeout =
        top.duration("shutdown-sync-timeout")?.unwrap_or(config.shutdown_sync_timeout);
    if let Some(section) = top.section("logging")? {
        config.logging = logging(&section)?;
    }
    let ltx = ltx::of_top(top)?;
    let mut seen = Seen::default();
    for section in top.sections("dbs")? {
        let (entry, replicas) = entry::read(&section)?;
        let ltx = ltx::of_database(&section, &ltx)?;
        let (database, directory) = match entry {
            Entry::Database(found) => (seen.database(&section, &mut config, found)?, None),
            Entry::Directory(found) => (&mut found.each.clone(), Some(found)),
        };
        for at in replicas {
            let replica = replica::read(&at, top, &ltx)?;
            seen.check(&at, database, directory.as_deref(), &replica)?;
            database.replicas.push(replica);
        }
        if let Some(mut found) = directory {
            found.each = database.clone();
            seen.directory(&section, &mut config, *found)?;
        }
    }
    if config.databases.is_empty() && config.directories.is_empty() {
        top.warn_here("no databases: nothing will be replicated");
    }
    Ok(config)
}

fn logging(at: &Section<'_>) -> Result<Logging, ConfigError> {
    at.check_keys(KeyLevel::Logging)?;
    let mut logging = Logging::default();
    if let Some(level) = at.text("level")? {
        logging.level = match level.to_ascii_lowercase().as_str() {
            "trace" => Level::Trace,
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warn" | "warning" => Level::Warn,
            "error" => Level::Error,
            other => {
                let meant = nearest(other, ["trace", "debug", "info", "warn", "warning", "error"]);
                let meant = meant.map(|m| format!("; did you mean {m}?")).unwrap_or_default();
                at.warn("level", format!("{level:?} is not a level; info is used{meant}"));
                Level::Info
            }
        };
    }
    if let Some(format) = at.text("type")? {
        logging.format = match format.as_str() {
            "text" => Format::Text,
            "json" => Format::Json,
            "pretty" => {
                at.warn("type", "pretty is not available; text is used");
                Format::Text
            }
            _ => {
                return Err(at
                    .fail("type", format!("{format:?} is not a log format"))
                    .fix("write text or json"));
            }
        };
    }
    logging.stderr = at.switch("stderr")?.unwrap_or(false);
    Ok(logging)
}
