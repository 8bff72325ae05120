//! Which files of a level become one of the next, and when. A function of what is there and the time.
//!
//! A level's interval divides UTC time; a file of the level holds what the one below wrote in one of the divisions, and
//! is written when that is over. So no division is ever merged with the next, however late the run is: what an
//! hour's outage left behind becomes as many files as if there had been none. A database at rest has nothing
//! that waits, and no run ever finds out by asking.

use std::time::Duration;

use jiff::Timestamp;

use super::Policy;
use super::files::{File, Files};
use crate::format::ltx::{Level, Name, Txid};

/// A merge of files, oldest first, into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    pub inputs: Vec<File>,
    pub output: Name,
}

/// The merge that is due, if any: of the lowest level first, because the next one waits for its output.
pub fn next(files: &Files, policy: &Policy, now: Timestamp) -> Option<Compaction> {
    levels(policy).find_map(|(level, interval)| of_level(files, level, interval, now))
}

/// When the next merge is due if nothing changes; a time that has passed means now.
pub fn due_at(files: &Files, policy: &Policy) -> Option<Timestamp> {
    levels(policy)
        .filter_map(|(level, interval)| {
            let first = waiting(files, level).next()?;
            Some(division_ends(first.created, interval))
        })
        .min()
}

/// The end of the interval `at` lies in.
pub fn division_ends(at: Timestamp, interval: Duration) -> Timestamp {
    let interval = i128::try_from(interval.as_nanos()).unwrap_or(i128::MAX).max(1);
    let start = at.as_nanosecond() - at.as_nanosecond().rem_euclid(interval);
    start.checked_add(interval).and_then(|end| Timestamp::from_nanosecond(end).ok()).unwrap_or(Timestamp::MAX)
}

fn levels(policy: &Policy) -> impl Iterator<Item = (Level, Duration)> {
    let level = |n| u8::try_from(n + 1).ok().and_then(Level::new);
    policy.levels.iter().enumerate().filter_map(move |(n, interval)| Some((level(n)?, *interval)))
}

fn of_level(files: &Files, level: Level, interval: Duration, now: Timestamp) -> Option<Compaction> {
    let mut waiting = waiting(files, level).peekable();
    let first = **waiting.peek()?;
    let end = division_ends(first.created, interval);
    // A date in the future is a clock that was wrong, and nothing to wait for.
    if now < end && first.created <= now {
        return None;
    }
    let (mut inputs, mut min, mut max) = (Vec::new(), first.name.min, None::<Txid>);
    for file in waiting.take_while(|f| f.created < end).take(MOST_INPUTS) {
        if max.is_some_and(|max| file.name.min.get() > max.get() + 1) {
            break;
        }
        // One whose transactions are all there already adds nothing.
        if max.is_none_or(|max| file.name.max > max) {
            (min, max) = (min.min(file.name.min), Some(file.name.max));
            inputs.push(*file);
        }
    }
    Some(Compaction { inputs, output: Name { level, min, max: max? } })
}

/// The files below `level` that are not in it yet.
///
/// A level that holds nothing begins behind the newest snapshot: it would only hold the whole database once more
/// (Litestream writes it once per level, issue #1510).
fn waiting(files: &Files, level: Level) -> impl Iterator<Item = &File> {
    let reached = files.newest(level).or_else(|| files.newest(Level::SNAPSHOT)).map(|f| f.name.max);
    let below = level.get().checked_sub(1).and_then(Level::new).unwrap_or(Level::ZERO);
    files.past(below, reached)
}

/// Files merged at once: each takes a buffer, and each may take a request at a time. More become several outputs.
pub const MOST_INPUTS: usize = 1000;
