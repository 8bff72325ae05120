//! Which states can be restored from what is there. A function of a listing.

use jiff::Timestamp;

use super::files::{File, Files};
use crate::format::ltx::{Level, Txid};

/// A state that can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    pub txid: Txid,
    /// The time of the state.
    pub created: Timestamp,
    /// The lowest level that has a file ending with it.
    pub level: Level,
}

/// Every transaction at which a restore can end, in order.
///
/// A restore begins with a file of transaction 1 and goes on with files that begin at or before the next one and
/// reach further, none of which goes past where it is to end (spec/litestream-v05.md §4.1). So a file's end can be
/// reached if the furthest reachable end before it is not before its beginning.
pub fn restore_points(files: &Files) -> Vec<Point> {
    // A copy of everything begins with transaction 1; readers pass over a level-9 file that does not.
    let begins = |f: &&File| f.name.level != Level::SNAPSHOT || f.name.min == Txid::ONE;
    let mut by_end: Vec<&File> = files.iter().filter(begins).collect();
    by_end.sort_by_key(|f| (f.name.max, f.name.level, f.name.min));
    let mut points: Vec<Point> = Vec::new();
    for same in by_end.chunk_by(|a, b| a.name.max == b.name.max) {
        let reached = points.last().map_or(0, |p| p.txid.get());
        // Of the same end, that with the lowest level says best when it was.
        if same.iter().any(|f| f.name.min.get() <= reached + 1) {
            let File { name, created, .. } = *same[0];
            points.push(Point { txid: name.max, created, level: name.level });
        }
    }
    points
}
