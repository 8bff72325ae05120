//! Stored bytes of a plan's objects, in order, fetched ahead. Touches the store and the clock.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};

use crate::run::tries::Tries;
use crate::store::{Store, StoreError};

/// A part of an object.
pub(super) struct Part {
    /// Which object.
    pub(super) item: usize,
    /// No more parts of it follow.
    pub(super) last: bool,
    pub(super) bytes: Bytes,
}

/// A part could not be had.
pub(super) struct Missed {
    pub(super) item: usize,
    pub(super) error: StoreError,
}

/// Fetches every object, keys with their stored bytes, in order, `parallelism` requests at a time and [`AHEAD`] bytes ahead.
///
/// Large objects are read by ranges, so that a connection that breaks costs one part and no part waits idle on an
/// open connection (spec/users-and-faults.md FT-13).
pub(super) fn parts<'a>(
    store: &'a Store,
    objects: &'a [(String, u64)],
    parallelism: usize,
) -> impl Stream<Item = Result<Part, Missed>> + 'a {
    let parallelism = if store.is_local() { parallelism.min(LOCAL_READS) } else { parallelism };
    let largest = if store.is_local() { LOCAL_PART } else { REMOTE_PART };
    let part = largest.min(AHEAD / parallelism as u64).max(64 << 10);
    let ranges = objects.iter().enumerate().flat_map(move |(item, (_, size))| cut(item, *size, part));
    let tries = Arc::new(Tries::new(ATTEMPTS));
    let fetched = move |cut: Cut| {
        let tries = tries.clone();
        async move { fetch(store, &objects[cut.item].0, cut, &tries).await }
    };
    stream::iter(ranges).map(fetched).buffered(parallelism)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cut {
    item: usize,
    range: Range<u64>,
    last: bool,
    /// It is the whole object, or all that was listed of it.
    whole: bool,
}

fn cut(item: usize, size: u64, part: u64) -> impl Iterator<Item = Cut> {
    (0..size.div_ceil(part).max(1)).map(move |n| {
        let range = n * part..size.min((n + 1) * part);
        Cut { item, last: range.end == size, whole: size <= part, range }
    })
}

async fn fetch(store: &Store, key: &str, cut: Cut, tries: &Tries) -> Result<Part, Missed> {
    let Cut { item, range, last, whole } = cut;
    // Some servers do not know ranges; without need none is asked for. A file is read by range for its allocation.
    let range = (!whole || store.is_local() && !range.is_empty()).then_some(range);
    let bytes = tries.ask(|| store.get(key, range.clone())).await.map_err(|error| Missed { item, error })?;
    Ok(Part { item, last, bytes })
}

/// Stored bytes on the wire or waiting for those before them.
const AHEAD: u64 = 12 << 20;
/// The largest part: a round trip should bring much, a read of a file need not.
const REMOTE_PART: u64 = 2 << 20;
const LOCAL_PART: u64 = 512 << 10;
/// Reads of a local file at a time: enough to keep a disk busy; more only hold memory.
const LOCAL_READS: usize = 4;
/// How often a part is asked for before the restore gives up, if none gets through meanwhile.
pub(super) const ATTEMPTS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_cut_into_ranges_that_join() {
        let cuts = |size| cut(3, size, 10).map(|c| (c.range, c.last, c.whole)).collect::<Vec<_>>();
        assert_eq!(cuts(0), [(0..0, true, true)]);
        assert_eq!(cuts(10), [(0..10, true, true)]);
        assert_eq!(cuts(25), [(0..10, false, false), (10..20, false, false), (20..25, true, false)]);
    }
}
