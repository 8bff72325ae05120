//! Ranges of objects on servers that know none and send the whole object. Touches the network.
//!
//! A stream that brought one range is kept at its end, where the next range of a restore usually begins: an object is
//! then read once, not once for each of its ranges. Ranges of one object that are asked for at the same time take
//! turns in the order they came. Memory: a range for each caller, and what the network holds of [`STREAMS`] streams.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

/// The streams that are open, the oldest first.
#[derive(Default)]
pub(super) struct Streams(Mutex<Vec<(String, Turn)>>);

/// One caller at a time, in the order they came.
type Turn = Arc<tokio::sync::Mutex<Option<Open>>>;

/// A stream of a whole object.
struct Open {
    /// Where in the object it stands.
    at: u64,
    /// What came of it past `at`.
    ahead: Bytes,
    stream: Body,
}

pub(super) type Body = BoxStream<'static, object_store::Result<Bytes>>;

impl Streams {
    /// The bytes of `range`, fewer where the object ends before it does. `open` asks for the whole object.
    pub(super) async fn read<F>(
        &self,
        key: &str,
        range: Range<u64>,
        open: impl Fn() -> F,
    ) -> object_store::Result<Bytes>
    where
        F: Future<Output = object_store::Result<Body>>,
    {
        let turn = self.turn(key);
        let mut kept = turn.lock().await;
        if let Some(stream) = kept.take().filter(|kept| kept.at <= range.start)
            // A server closes a stream that rested for long; the object is still there.
            && let Ok((bytes, stream)) = stream.range(&range).await
        {
            *kept = stream;
            return Ok(bytes);
        }
        let fresh = Open { at: 0, ahead: Bytes::new(), stream: open().await? };
        let (bytes, stream) = fresh.range(&range).await?;
        *kept = stream;
        Ok(bytes)
    }

    fn turn(&self, key: &str) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, turn)) = turns.iter().find(|(of, _)| of == key) {
            return turn.clone();
        }
        if turns.len() == STREAMS {
            turns.remove(0);
        }
        let turn = Turn::default();
        turns.push((key.to_owned(), turn.clone()));
        turn
    }
}

impl Open {
    /// Reads `range`, and gives the stream back if there is more.
    async fn range(mut self, range: &Range<u64>) -> object_store::Result<(Bytes, Option<Self>)> {
        let mut found = BytesMut::new();
        while self.at < range.end {
            if self.ahead.is_empty() {
                match self.stream.next().await {
                    Some(next) => self.ahead = next?,
                    None => return Ok((found.freeze(), None)),
                }
            }
            let goal = if self.at < range.start { range.start } else { range.end };
            let some = usize::try_from(goal - self.at).unwrap_or(usize::MAX).min(self.ahead.len());
            let piece = self.ahead.split_to(some);
            if self.at >= range.start {
                found.extend_from_slice(&piece);
            }
            self.at += some as u64;
        }
        Ok((found.freeze(), Some(self)))
    }
}

/// As many as a merge reads at a time, and more than a restore has requests on the wire.
const STREAMS: usize = 16;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    async fn read(streams: &Streams, opened: &Cell<u32>, range: Range<u64>) -> Bytes {
        let open = || async {
            opened.set(opened.get() + 1);
            let pieces: Vec<_> =
                (0..100u8).collect::<Vec<_>>().chunks(7).map(Bytes::copy_from_slice).collect();
            Ok(futures_util::stream::iter(pieces.into_iter().map(Ok)).boxed())
        };
        streams.read("k", range, open).await.unwrap()
    }

    #[tokio::test]
    async fn ranges_in_order_take_one_stream_and_a_step_back_another() {
        let (streams, opened) = (Streams::default(), Cell::new(0));
        let expected = |range: Range<u8>| range.collect::<Vec<_>>();
        for (range, total) in [(0..10, 1), (10..11, 1), (30..58, 1), (5..6, 2), (6..100, 2), (0..1, 3)] {
            let got = read(&streams, &opened, range.clone()).await;
            assert_eq!(got, expected(range.start as u8..range.end as u8));
            assert_eq!(opened.get(), total, "{range:?}");
        }
        assert_eq!(read(&streams, &opened, 90..120).await, expected(90..100), "an object that is too short");
    }

    #[tokio::test]
    async fn a_stream_that_broke_while_it_rested_is_opened_again() {
        let (streams, opened) = (Streams::default(), Cell::new(0));
        let open = || async {
            opened.set(opened.get() + 1);
            let broke =
                object_store::Error::NotImplemented { operation: "x".into(), implementer: "x".into() };
            let first = futures_util::stream::iter([Ok(Bytes::from_static(b"0123"))]);
            Ok(match opened.get() {
                1 => first.chain(futures_util::stream::iter([Err(broke)])).boxed(),
                _ => first.chain(futures_util::stream::iter([Ok(Bytes::from_static(b"4567"))])).boxed(),
            })
        };
        assert_eq!(streams.read("k", 0..4, open).await.unwrap(), &b"0123"[..]);
        assert_eq!(streams.read("k", 4..6, open).await.unwrap(), &b"45"[..]);
        assert_eq!(opened.get(), 2);
    }
}
