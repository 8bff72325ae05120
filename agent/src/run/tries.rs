//! Asking a store again while it is unavailable. Touches the clock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::durable;
use crate::store::{Kind, StoreError};

/// The patience of requests that serve one purpose, each of which is asked up to `most` times.
///
/// An answer to any of them refills it for all: a store that fails every third request is slow, and one that answers
/// nothing is down. It runs out all the same for a request that keeps failing, once the others are done.
#[derive(Debug)]
pub(super) struct Tries {
    most: u32,
    first_pause: Duration,
    answered: AtomicU64,
    /// The last attempt that was spoken of: of many requests that fail at once, one says so.
    said: AtomicU32,
}

impl Tries {
    pub(super) fn new(most: u32) -> Self {
        Self { most, first_pause: FIRST_PAUSE, answered: 0.into(), said: 0.into() }
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
            tokio::time::sleep(pause(self.first_pause, attempt, durable::random())).await;
            attempt += 1;
        }
    }
}

/// Doubles with each attempt up to a cap; half of it is chance, so that many clients do not come back together.
fn pause(first: Duration, attempt: u32, chance: u64) -> Duration {
    let full = first.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LAST_PAUSE);
    full / 2 + full.mul_f64((chance % 1000) as f64 / 2000.0)
}

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn pauses_grow_to_a_cap_and_differ_by_chance() {
        let pause = |attempt, chance| pause(FIRST_PAUSE, attempt, chance);
        assert_eq!(pause(1, 0), Duration::from_millis(100));
        assert_eq!(pause(2, 0), Duration::from_millis(200));
        assert_eq!(pause(40, 0), LAST_PAUSE / 2);
        assert!(pause(40, 999) > LAST_PAUSE * 99 / 100 && pause(40, 999) < LAST_PAUSE);
    }

    fn impatient() -> Tries {
        Tries { first_pause: Duration::from_micros(100), ..Tries::new(5) }
    }

    fn error(kind: Kind) -> StoreError {
        StoreError { kind, verb: "get", object: "k".into(), cause: String::new(), throttled: None }
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
