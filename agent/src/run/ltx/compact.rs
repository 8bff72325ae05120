//! One merge: from the replica, to the replica, and read back. Only then are its inputs of no more use.
//!
//! *Verified against its inputs* means: every input was whole and proven by its own checksum when its pages were taken
//! (the merge fails otherwise), the pages taken went into the output's checksum as they are, uncompressed, and what is
//! stored is read back, decoded and has that very checksum. That costs a download of the output, and is the only way to
//! know what a destination stores rather than what it was sent.

use jiff::Timestamp;

use super::merge::{self, Failure, merge};
use super::{Object, is_there};
use crate::format::ltx::{Decoder, Error, Event as Found, PageEncoding, Summary};
use crate::plan::database::Event;
use crate::plan::ltx::compact::Compaction;
use crate::plan::ltx::files::File;
use crate::plan::ltx::replica::Done;
use crate::plan::replica::{Fault, FaultKind};
use crate::run::flights::Wing;
use crate::run::survey::ATTEMPTS;
use crate::run::tries::Tries;
use crate::store::{Store, StoreError};

impl Wing {
    /// Merges files into one of the next level.
    pub(in crate::run) async fn compact(self, compaction: Compaction, encoding: PageEncoding) {
        let started = std::time::Instant::now();
        let (db, replica, name) = (&self.db, &self.name, compaction.output);
        let result = compact(&self.store, &compaction, encoding).await;
        match &result {
            Ok(file) => tracing::info!(
                db, replica, level = %name.level, txid.min = %name.min, txid.max = %name.max,
                inputs = compaction.inputs.len(), size = file.size, elapsed = ?started.elapsed(),
                "compaction complete"
            ),
            Err(error) => {
                let error = &error.message;
                tracing::warn!(db, replica, %name, error, "compact; trying again");
            }
        }
        self.event(Event::LtxDone { replica: self.replica, done: Done::Compact(result) });
    }
}

async fn compact(store: &Store, compaction: &Compaction, encoding: PageEncoding) -> Result<File, Fault> {
    let Compaction { inputs, output: name } = compaction;
    let key = name.key(store.ltx_layout());
    let retry = |message: String| Fault { kind: FaultKind::Retry, message };
    let size = inputs.iter().map(|f| f.size).sum();
    let mut object = Object::new(store, key.clone(), size, Timestamp::UNIX_EPOCH);
    let trailer = match merge(store, inputs, *name, encoding, &mut object).await {
        Ok(trailer) => trailer,
        Err(error) => {
            object.abort().await;
            return Err(retry(format!("merge {name}: {error}")));
        }
    };
    let created = object.stamp;
    let published = object.publish().await;
    let there = is_there(&published);
    match published {
        Ok(()) => {}
        Err(_) if there => {}
        Err(error) => return Err(retry(format!("store {name}: {error}"))),
    }
    let stored = read_back(store, &key, if there { None } else { Some(trailer.size) }).await;
    let stored = stored.map_err(|e| retry(format!("verify {name}: {e}")))?;
    let same =
        (stored.checksum, stored.size, stored.pages) == (trailer.checksum, trailer.size, trailer.pages);
    // One that another run has put there, or Litestream, need not have the same bytes to be the same merge.
    let header = stored.header;
    let another = there && (header.min, header.max) == (name.min, name.max);
    if !same && !another {
        let (found, expected) = (stored.checksum, trailer.checksum);
        return Err(retry(format!("verify {name}: checksum {found:016x}, the inputs give {expected:016x}")));
    }
    Ok(File { name: *name, created, size: stored.size })
}

/// Reads an object from start to end and proves it.
async fn read_back(store: &Store, key: &str, size: Option<u64>) -> Result<Summary, Failure> {
    let size = match size {
        Some(size) => size,
        None => listed(store, key).await?,
    };
    let mut decoder = Decoder::new(1 << 16);
    let mut at = 0;
    loop {
        let broken = |error| Failure::Input { key: key.to_owned(), error };
        match decoder.next().map_err(broken)? {
            Found::Header(_) | Found::Page { .. } => {}
            Found::End(summary) => return Ok(summary),
            Found::More if at == size => {
                let truncated = Error::Truncated { stored: size, inside: "the pages" };
                return Err(broken(decoder.finish().err().unwrap_or(truncated)));
            }
            Found::More => {
                let end = (at + merge::MOST).min(size);
                decoder.feed(Tries::new(ATTEMPTS).ask(|| store.get(key, Some(at..end))).await?);
                at = end;
            }
        }
    }
}

/// How large an object is.
pub(super) async fn listed(store: &Store, key: &str) -> Result<u64, StoreError> {
    let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
    let listing = store.list(&format!("{folder}/")).await?;
    Ok(listing.iter().find(|o| o.key == key).map_or(0, |o| o.size))
}
