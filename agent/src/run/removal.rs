//! Deletes a part of a replica because somebody asked for it by name. Touches the replica; the database's record is read.

use std::path::Path;

use super::lineage::descent;
use super::restore::{Source, list};
use crate::error::{Error, Kind};
use crate::plan::holds::Past;
use crate::plan::removal::{Entry, Refusal, Removal, decide};
use crate::store::{Store, StoreError};

/// What went, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The replica's name in the configuration.
    pub replica: String,
    pub objects: usize,
    /// Stored bytes.
    pub bytes: u64,
}

/// Deletes `past` from every source that has it, `db` being the database they are of, unless it is only to be said.
///
/// Every source is asked before anything is deleted. An object that fails to be deleted ends it: what a restore begins with is
/// gone before anything else is, and the same command goes on where this one ended.
///
/// # Errors
/// [`Kind::Empty`] if no source has it, [`Kind::Busy`] if it is in use, [`Kind::Unrestorable`] if nothing would restore.
pub async fn remove(
    sources: &[Source],
    db: Option<&Path>,
    past: Past,
    dry_run: bool,
) -> Result<Vec<Removed>, Error> {
    let mut found = Vec::new();
    for source in sources {
        let url = source.store.to_string();
        let own = db.and_then(|db| descent(db, &url)?.own.last().copied());
        let objects = list(&source.store).await?;
        let all: Vec<Entry> = objects.into_iter().map(|o| (o.key, o.size, o.created)).collect();
        match decide(&all, past, own) {
            Ok(removal) => found.push((source, removal)),
            Err(Refusal::Unknown) => {}
            Err(refusal) => return Err(refused(&url, past, &refusal)),
        }
    }
    if found.is_empty() {
        let hint = "`holdfast generations` lists those there are; /status of the agent, those on hold";
        return Err(Error::new(Kind::Empty, doing(past), Refusal::Unknown).hint(hint));
    }
    let mut removed = Vec::new();
    for (source, removal) in found {
        let Removal { bases, rest, bytes } = removal;
        let objects = bases.len() + rest.len();
        if !dry_run {
            for keys in [bases, rest] {
                delete(&source.store, &keys).await?;
            }
            tracing::info!(replica = source.name, name = %past, objects, bytes, "deleted, as asked for");
        }
        removed.push(Removed { replica: source.name.clone(), objects, bytes });
    }
    Ok(removed)
}

/// All of them, or the first error.
async fn delete(store: &Store, keys: &[String]) -> Result<(), StoreError> {
    store.delete(keys).await?.into_iter().try_for_each(|(_, result)| result)
}

fn refused(url: &str, past: Past, refusal: &Refusal) -> Error {
    let (kind, hint) = match refusal {
        Refusal::Unknown => (Kind::Empty, "`holdfast generations` lists those there are"),
        Refusal::Current => (Kind::Busy, "it goes by itself once another has followed it"),
        Refusal::Latest => (Kind::Busy, "it can go once the replica has a younger full copy"),
        Refusal::Nothing(_) => (Kind::Unrestorable, "let an agent write a full copy first"),
    };
    Error::new(kind, format!("{} of {url}", doing(past)), refusal).hint(hint)
}

fn doing(past: Past) -> String {
    format!("delete {past}")
}
