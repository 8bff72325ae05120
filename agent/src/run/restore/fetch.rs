//! Stored bytes of a plan's objects, in order, fetched ahead. Touches the store and the clock.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};

use crate::durable;
use crate::store::{Kind, Store, StoreError};

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
    stream::iter(ranges).map(move |cut| fetch(store, &objects[cut.item].0, cut)).buffered(parallelism)
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

async fn fetch(store: &Store, key: &str, cut: Cut) -> Result<Part, Missed> {
    let Cut { item, range, last, whole } = cut;
    // Some servers do not know ranges; without need none is asked for. A file is read by range for its allocation.
    let range = (!whole || store.is_local() && !range.is_empty()).then_some(range);
    let mut attempt = 1;
    loop {
        match store.get(key, range.clone()).await {
            Ok(bytes) => return Ok(Part { item, last, bytes }),
            Err(error) if error.kind == Kind::Unavailable && attempt < ATTEMPTS => {
                tracing::warn!(%error, attempt, "retrying");
                tokio::time::sleep(pause(attempt, durable::random())).await;
                attempt += 1;
            }
            Err(error) => return Err(Missed { item, error }),
        }
    }
}

/// Doubles with each attempt up to a cap; half of it is chance, so that many clients do not come back together.
pub(super) fn pause(attempt: u32, chance: u64) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LAST_PAUSE);
    full / 2 + full.mul_f64((chance % 1000) as f64 / 2000.0)
}

/// Stored bytes on the wire or waiting for those before them.
const AHEAD: u64 = 12 << 20;
/// The largest part: a round trip should bring much, a read of a file need not.
const REMOTE_PART: u64 = 2 << 20;
const LOCAL_PART: u64 = 512 << 10;
/// Reads of a local file at a time: enough to keep a disk busy; more only hold memory.
const LOCAL_READS: usize = 4;
/// How often a part is asked for before the restore gives up.
pub(super) const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

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

    #[test]
    fn pauses_grow_to_a_cap_and_differ_by_chance() {
        assert_eq!(pause(1, 0), Duration::from_millis(100));
        assert_eq!(pause(2, 0), Duration::from_millis(200));
        assert_eq!(pause(40, 0), LAST_PAUSE / 2);
        assert!(pause(40, 999) > LAST_PAUSE * 99 / 100 && pause(40, 999) < LAST_PAUSE);
    }
}
