//! When to try again, by what went wrong and how often in a row. Decisions only.
//!
//! | class | first pause | longest | why |
//! | --- | --- | --- | --- |
//! | passing | 0.5 s, doubling | 30 s | a network comes back, a server starts again |
//! | throttled | 2 s, doubling | 60 s, or what was asked for | too many requests are not cured by more |
//! | refused | 10 s, steady | | only a person can mend it, and it should be seen within moments when they have |
//!
//! That is for a replica and its chores. One request that somebody waits for has a shorter breath, [`request`]: 0.2 s to 5 s,
//! throttled 1 s to 30 s, or what was asked for up to a minute.
//!
//! A part of every pause is chance, so that many agents do not return in step. One success and the count starts anew.

use std::time::Duration;

use super::chance::Dice;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may pass by itself: no connection, a timeout, a fault of the server's own.
    Passing,
    /// The service asked to slow down, for so long if it said how long.
    Throttled(Option<Duration>),
    /// The service understood and refused: wrong keys, a missing permission, no such bucket.
    Refused,
}

/// The pause of a replica after failure number `failures` in a row, counted from 1.
pub fn pause(class: Class, failures: u32, dice: &mut Dice) -> Duration {
    match class {
        Class::Passing => dice.backoff(failures),
        Class::Throttled(asked) => {
            let own = spread(doubled(THROTTLED_FIRST, failures, THROTTLED_CAP), dice);
            own.max(asked.unwrap_or_default().min(LONGEST_ASKED))
        }
        Class::Refused => spread(REFUSED, dice),
    }
}

/// As [`pause`], of work that can wait: what is refused, say to a writer that may not delete, is asked for ever more
/// rarely.
pub fn chore(class: Class, failures: u32, dice: &mut Dice) -> Duration {
    match class {
        Class::Passing | Class::Throttled(_) => pause(class, failures, dice),
        Class::Refused => spread(doubled(REFUSED, failures, CHORE_CAP), dice),
    }
}

/// The pause of a single request after failure number `failures` in a row, counted from 1: of a restore, or of a part of
/// an upload, which are not worth more than so many attempts.
pub fn request(class: Class, failures: u32, dice: &mut Dice) -> Duration {
    match class {
        Class::Passing | Class::Refused => spread(doubled(REQUEST_FIRST, failures, REQUEST_CAP), dice),
        Class::Throttled(asked) => {
            let own = spread(doubled(REQUEST_THROTTLED_FIRST, failures, REQUEST_THROTTLED_CAP), dice);
            own.max(asked.unwrap_or_default().min(REQUEST_LONGEST_ASKED))
        }
    }
}

fn doubled(first: Duration, times: u32, cap: Duration) -> Duration {
    first.saturating_mul(1 << times.saturating_sub(1).min(16)).min(cap)
}

/// Between half of it and all of it.
fn spread(whole: Duration, dice: &mut Dice) -> Duration {
    let ms = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(ms - dice.roll() % (ms / 2).max(1))
}

const THROTTLED_FIRST: Duration = Duration::from_secs(2);
const THROTTLED_CAP: Duration = Duration::from_secs(60);
const REFUSED: Duration = Duration::from_secs(10);
const CHORE_CAP: Duration = Duration::from_secs(3600);
const REQUEST_FIRST: Duration = Duration::from_millis(200);
const REQUEST_CAP: Duration = Duration::from_secs(5);
const REQUEST_THROTTLED_FIRST: Duration = Duration::from_secs(1);
const REQUEST_THROTTLED_CAP: Duration = Duration::from_secs(30);
/// Longer and whoever waits is better told so.
const REQUEST_LONGEST_ASKED: Duration = Duration::from_secs(60);
/// What a service may ask for at most: no mistake of its own must silence a replica for long.
const LONGEST_ASKED: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_class_has_its_own_pace_and_its_own_cap() {
        let mut dice = Dice::new(3);
        for failures in 1..40 {
            let doubled = |first: u64, cap: u64| (first << (failures - 1).min(16)).min(cap);
            let wait = pause(Class::Throttled(None), failures, &mut dice).as_millis() as u64;
            let whole = doubled(2_000, 60_000);
            assert!(wait <= whole && wait > whole / 2 - 1, "{failures}: {wait} of {whole}");
            let wait = pause(Class::Refused, failures, &mut dice);
            assert!(wait <= 10 * SECOND && wait >= 5 * SECOND, "{failures}: {wait:?}");
            let wait = pause(Class::Passing, failures, &mut dice);
            assert!(wait <= Duration::from_millis(doubled(500, 30_000)), "{failures}: {wait:?}");
        }
    }

    #[test]
    fn a_chore_that_is_refused_is_tried_once_an_hour_in_the_end() {
        let mut dice = Dice::new(3);
        let waits: Vec<_> = (1..30).map(|n| chore(Class::Refused, n, &mut dice)).collect();
        assert!(
            waits[0] <= 10 * SECOND && waits[28] >= 1800 * SECOND && waits[28] <= 3600 * SECOND,
            "{waits:?}"
        );
    }

    #[test]
    fn what_a_service_asks_for_is_waited_out_within_reason() {
        let mut dice = Dice::new(3);
        assert_eq!(pause(Class::Throttled(Some(7 * SECOND)), 1, &mut dice), 7 * SECOND);
        assert!(pause(Class::Throttled(Some(SECOND)), 9, &mut dice) >= 30 * SECOND);
        assert_eq!(pause(Class::Throttled(Some(86_400 * SECOND)), 1, &mut dice), 300 * SECOND);
    }

    #[test]
    fn a_request_that_somebody_waits_for_is_tried_again_sooner_and_not_before_it_was_asked_for() {
        let mut dice = Dice::new(3);
        for failures in 1..40 {
            let wait = request(Class::Passing, failures, &mut dice);
            assert!(wait >= SECOND / 10 && wait <= 5 * SECOND, "{failures}: {wait:?}");
            let wait = request(Class::Throttled(None), failures, &mut dice);
            assert!(wait >= SECOND / 2 && wait <= 30 * SECOND, "{failures}: {wait:?}");
        }
        assert!(request(Class::Passing, 40, &mut dice) >= 5 * SECOND / 2);
        assert_eq!(request(Class::Throttled(Some(7 * SECOND)), 1, &mut dice), 7 * SECOND);
        assert_eq!(request(Class::Throttled(Some(3600 * SECOND)), 1, &mut dice), 60 * SECOND);
    }
}
