//! Stored bytes of a plan's objects, in order, fetched ahead. Touches the store and the clock.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};

use crate::durable;
use crate::plan::restore::Item;
use crate::store::{Kind, Store, StoreError};

/// A part of an object.
pub(super) struct Part {
    /// Which item of the plan.
    pub(super) item: usize,
    /// No more parts of this item follow.
    pub(super) last: bool,
    pub(super) bytes: Bytes,
}

/// A part could not be had.
pub(super) struct Missed {
    pub(super) item: usize,
    pub(super) error: StoreError,
}

/// Fetches every item in order, `parallelism` requests at a time and [`AHEAD`] bytes ahead.
///
/// Large objects are read by ranges, so that a connection that breaks costs one part and no part waits idle on an
/// open connection (spec/users-and-faults.md FT-13).
pub(super) fn parts<'a>(
    store: &'a Store,
    items: &'a [Item],
    parallelism: usize,
) -> impl Stream<Item = Result<Part, Missed>> + 'a {
    let part = store.preferred_read().min(AHEAD / parallelism as u64).max(64 << 10);
    let ranges = items.iter().enumerate().flat_map(move |(item, object)| cut(item, object.size, part));
    stream::iter(ranges).map(move |cut| fetch(store, &items[cut.item], cut)).buffered(parallelism)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cut {
    item: usize,
    /// `None`: the whole object, which is no larger than a part.
    range: Option<Range<u64>>,
    last: bool,
}

fn cut(item: usize, size: u64, part: u64) -> impl Iterator<Item = Cut> {
    (0..size.div_ceil(part).max(1)).map(move |n| {
        let range = n * part..size.min((n + 1) * part);
        Cut { item, last: range.end == size, range: (size > part).then_some(range) }
    })
}

async fn fetch(store: &Store, object: &Item, cut: Cut) -> Result<Part, Missed> {
    let key = object.name.key();
    let Cut { item, range, last } = cut;
    let mut attempt = 1;
    loop {
        match store.get(&key, range.clone()).await {
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
/// How often a part is asked for before the restore gives up.
pub(super) const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_cut_into_ranges_that_join() {
        let whole = |item, last| Cut { item, range: None, last };
        assert_eq!(cut(3, 0, 10).collect::<Vec<_>>(), [whole(3, true)]);
        assert_eq!(cut(3, 10, 10).collect::<Vec<_>>(), [whole(3, true)]);
        let ranges: Vec<_> = cut(3, 25, 10).map(|c| (c.range.unwrap(), c.last)).collect();
        assert_eq!(ranges, [(0..10, false), (10..20, false), (20..25, true)]);
    }

    #[test]
    fn pauses_grow_to_a_cap_and_differ_by_chance() {
        assert_eq!(pause(1, 0), Duration::from_millis(100));
        assert_eq!(pause(2, 0), Duration::from_millis(200));
        assert_eq!(pause(40, 0), LAST_PAUSE / 2);
        assert!(pause(40, 999) > LAST_PAUSE * 99 / 100 && pause(40, 999) < LAST_PAUSE);
    }
}
