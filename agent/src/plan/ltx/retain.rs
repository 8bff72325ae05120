//! Which files nobody needs any more. A function of what is there and the time.
//!
//! *The base.* The states right after the cutoff of `snapshot.retention` (of `l0-retention`, where that is the longer
//! one) are restored from the newest snapshot at or before it. It stays, with everything that goes further; what ends
//! at or before it goes, but for the newest file of each level. Litestream drops that base the moment a younger snapshot
//! is inside the retention, and the states up to the younger one with it.
//!
//! *Level 0.* An upload older than `l0-retention` goes once it is merged, together with all others of the same merge:
//! the younger ones of it cannot be restored without those before them. Litestream deletes up to the first young one,
//! and leaves files that restore nothing.
//!
//! *The hold.* What a replica held when a database that does not descend from it began there is never deleted: it may be
//! all there is of what a human has yet to miss (spec/supervisor.md SUP-310).
//!
//! Where nothing merges them (`levels: []`, or before the first snapshot) the uploads stay as long as the base needs.

use std::time::Duration;

use jiff::Timestamp;

use super::Policy;
use super::files::{File, Files};
use crate::format::ltx::{Level, Name, Txid};

/// What to delete, in this order: a run may die anywhere in it.
pub fn expired(files: &Files, policy: &Policy, now: Timestamp) -> Vec<Name> {
    if !policy.deletes {
        return Vec::new();
    }
    let base = base(files, policy, now);
    let merged = merged(files, policy, now);
    let newest = Level::all().filter_map(|l| files.newest(l)).map(|f| f.name).collect::<Vec<_>>();
    let goes = |f: &&File| {
        let before_base = base.is_some_and(|base| f.name != base && f.name.max <= base.max);
        let young = is_young(f, policy, now);
        match f.name.level {
            Level::SNAPSHOT => before_base,
            Level::ZERO => {
                before_base && !young || merged.is_some_and(|m| f.name.max <= m) && covered(files, f)
            }
            _ => before_base,
        }
    };
    let mut names: Vec<Name> = files
        .iter()
        .filter(|f| !is_held(f, policy))
        .filter(goes)
        .map(|f| f.name)
        .filter(|n| !newest.contains(n))
        .collect();
    names.sort_by_key(|n| (std::cmp::Reverse(n.level), n.max));
    names
}

/// When the next file expires if nothing changes.
pub fn due_at(files: &Files, policy: &Policy) -> Option<Timestamp> {
    if !policy.deletes {
        return None;
    }
    // The first of each level goes first, once a snapshot that holds it is the base.
    let outlived = Level::all().filter_map(|level| {
        let file =
            files.level(level).find(|f| !is_held(f, policy)).filter(|f| files.newest(level) != Some(f))?;
        let base =
            files.level(Level::SNAPSHOT).find(|s| s.name != file.name && s.name.max >= file.name.max)?;
        let at = expires(base.created, window(policy))?;
        let young = expires(file.created, policy.l0_retention).filter(|_| level == Level::ZERO);
        Some(young.map_or(at, |young| at.max(young)))
    });
    // The newest upload stays whatever its age: alone it is nothing to wait for.
    let newest = files.newest(Level::ZERO).map(|f| f.name);
    let own = || files.level(Level::ZERO).filter(|f| !is_held(f, policy));
    let merge = own().filter(|f| Some(f.name) != newest).find_map(|f| merge_of(files, f));
    let last =
        merge.and_then(|merge| own().take_while(|f| f.name.max <= merge.name.max).map(|f| f.created).max());
    let l0 = last.and_then(|t| expires(t, policy.l0_retention));
    outlived.chain(l0).min()
}

/// The snapshot the oldest promised states are restored from.
fn base(files: &Files, policy: &Policy, now: Timestamp) -> Option<Name> {
    let old = |f: &&File| is_older(f.created, window(policy), now);
    files.level(Level::SNAPSHOT).filter(old).map(|f| f.name).max_by_key(|n| n.max)
}

/// How far back anything is promised: an upload, too, is restored from a base. Zero: everything is.
fn window(policy: &Policy) -> Duration {
    match policy.snapshot_retention.is_zero() {
        true => Duration::ZERO,
        false => policy.snapshot_retention.max(policy.l0_retention),
    }
}

/// The last transaction of the last merge all of whose uploads are old.
fn merged(files: &Files, policy: &Policy, now: Timestamp) -> Option<Txid> {
    if policy.l0_retention.is_zero() {
        return None;
    }
    let young = files.level(Level::ZERO).find(|f| is_young(f, policy, now)).map(|f| f.name.min);
    let whole = |f: &&File| young.is_none_or(|young| f.name.max < young);
    files.level(FIRST).filter(whole).map(|f| f.name.max).max()
}

fn covered(files: &Files, file: &File) -> bool {
    merge_of(files, file).is_some()
}

/// The file of level 1 that holds this upload.
fn merge_of<'a>(files: &'a Files, file: &File) -> Option<&'a File> {
    let up_to = Name { level: FIRST, min: file.name.min, max: Txid::MAX };
    files.up_to(up_to).filter(|f| f.name.level == FIRST && f.name.max >= file.name.max)
}

/// Somebody else's.
fn is_held(file: &File, policy: &Policy) -> bool {
    policy.hold.is_some_and(|hold| file.name.max <= hold)
}

/// An upload that is to stay by itself, whatever holds it besides.
fn is_young(file: &File, policy: &Policy, now: Timestamp) -> bool {
    !policy.l0_retention.is_zero() && !is_older(file.created, policy.l0_retention, now)
}

/// `false` for a retention of zero: it is off.
fn is_older(created: Timestamp, retention: Duration, now: Timestamp) -> bool {
    expires(created, retention).is_some_and(|at| at <= now)
}

fn expires(created: Timestamp, retention: Duration) -> Option<Timestamp> {
    if retention.is_zero() { None } else { created.checked_add(retention).ok() }
}

const FIRST: Level = match Level::new(1) {
    Some(level) => level,
    None => Level::SNAPSHOT,
};
