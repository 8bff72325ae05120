//! Asking a store again while it is unavailable. Touches the clock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::durable;
use crate::plan::chance::Dice;
use crate::plan::retry::{self, Class};
use crate::store::{Kind, StoreError};

/// The patience of requests that serve one purpose, each of which is asked up to `most` times.
///
/// An answer to any of them refills it for all: a store that fails every third request is slow, and one that answers
/// nothing is down. It runs out all the same for a request that keeps failing, once the others are done.
#[derive(Debug)]
pub(super) struct Tries {
    most: u32,
    pause: fn(Class, u32, &mut Dice) -> Duration,
    answered: AtomicU64,
    /// The last attempt that was spoken of: of many requests that fail at once, one says so.
    said: AtomicU32,
}

impl Tries {
    pub(super) fn new(most: u32) -> Self {
        Self { most, pause: retry::request, answered: 0.into(), said: 0.into() }
    }

    /// The answer, or the last error.
    pub(super) async fn ask<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let (mut attempt, mut answered) = (1, self.answered.load(Ordering::Relaxed));
        loop {
            let error = match ask().await {
                Ok(answer) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    self.said.store(0, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let now = self.answered.load(Ordering::Relaxed);
            if now != answered {
                (attempt, answered) = (1, now);
            }
            if error.kind != Kind::Unavailable || attempt >= self.most {
                return Err(error);
            }
            if self.said.fetch_max(attempt, Ordering::Relaxed) < attempt {
                tracing::warn!(%error, attempt, "retrying");
            }
            let pause = (self.pause)(error.class(), attempt, &mut Dice::new(durable::random()));
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::store::Throttled;

    fn impatient() -> Tries {
        Tries { pause: |_, _, _| Duration::from_micros(100), ..Tries::new(5) }
    }

    fn error(kind: Kind) -> StoreError {
        StoreError { kind, verb: "get", object: "k".into(), cause: String::new(), throttled: None }
    }

    #[tokio::test]
    async fn a_service_that_says_how_long_to_wait_is_not_asked_before() {
        let (tries, asked) = (Tries::new(3), Cell::new(0));
        // More than the longest first pause of its own.
        let asked_for = Duration::from_millis(1_100);
        let throttled = Some(Throttled { retry_after: Some(asked_for) });
        let start = tokio::time::Instant::now();
        let ask = || async {
            asked.set(asked.get() + 1);
            match asked.get() {
                1 => Err(StoreError { throttled, ..error(Kind::Unavailable) }),
                _ => Ok(()),
            }
        };
        tries.ask(ask).await.unwrap();
        assert!(asked.get() == 2 && start.elapsed() >= asked_for, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_request_is_asked_so_often_and_no_more() {
        for (kind, expected) in [(Kind::Unavailable, 5), (Kind::Denied, 1)] {
            let (tries, asked) = (impatient(), Cell::new(0));
            let ask = || async {
                asked.set(asked.get() + 1);
                Err::<(), _>(error(kind))
            };
            assert_eq!(tries.ask(ask).await.unwrap_err().kind, kind);
            assert_eq!(asked.get(), expected);
        }
    }

    #[tokio::test]
    async fn an_answer_to_one_request_refills_the_patience_with_the_others() {
        let (tries, asked) = (impatient(), Cell::new(0));
        let ask = || async {
            asked.set(asked.get() + 1);
            if asked.get() % 4 == 0 {
                tries.ask(|| async { Ok(()) }).await?;
            }
            if asked.get() < 40 { Err(error(Kind::Unavailable)) } else { Ok(asked.get()) }
        };
        assert_eq!(tries.ask(ask).await.unwrap(), 40);
    }
}
