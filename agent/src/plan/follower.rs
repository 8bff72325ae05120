//! One replica, whatever its layout: what the database's machine needs of it. Decisions only.
//!
//! A replica begins without a layout being known, as one of the v0.3 layout; what the first look at it finds may make
//! it one of LTX files. From then on it stays what it is.

use std::time::Duration;

use jiff::Timestamp;

use super::chance::Dice;
use super::database::{Policy, ReplicaPolicy, Wal, WalPos};
use super::ltx;
use super::position::Position;
use super::replica::{Broken, Fault, Head, Replica, Surroundings};
use crate::format::layout::WalIndex;

/// One replica of a database.
#[derive(Debug)]
pub(super) enum Follower {
    Wal(Box<Replica>),
    Ltx(Box<ltx::replica::Replica>),
}

impl Follower {
    pub(super) fn new(policy: ReplicaPolicy) -> Self {
        Self::Wal(Box::new(Replica::new(policy)))
    }

    /// Where in the WAL it stands.
    pub(super) fn cursor(&self) -> Option<WalPos> {
        match self {
            Self::Wal(r) => r.cursor().map(|c| WalPos { incarnation: c.incarnation, offset: c.offset }),
            Self::Ltx(r) => r.cursor(),
        }
    }

    pub(super) fn position(&self) -> Option<Position> {
        match self {
            Self::Wal(r) => r.acknowledged().map(Position::Wal),
            Self::Ltx(r) => r.acknowledged().map(Position::Ltx),
        }
    }

    pub(super) fn error(&self) -> Option<&Fault> {
        match self {
            Self::Wal(r) => r.error(),
            Self::Ltx(r) => r.error(),
        }
    }

    pub(super) fn failing(&self) -> bool {
        match self {
            Self::Wal(r) => r.failing(),
            Self::Ltx(r) => r.failing(),
        }
    }

    pub(super) fn holds_the_pin(&self) -> bool {
        match self {
            Self::Wal(r) => r.holds_the_pin(),
            Self::Ltx(r) => r.holds_the_pin(),
        }
    }

    pub(super) fn is_unknown(&self) -> bool {
        match self {
            Self::Wal(r) => r.is_unknown(),
            Self::Ltx(r) => r.is_unknown(),
        }
    }

    pub(super) fn behind(&self, wal: &Wal) -> u64 {
        match self.cursor() {
            Some(c) if c.incarnation == wal.incarnation => wal.end().saturating_sub(c.offset),
            Some(_) | None => wal.end(),
        }
    }

    pub(super) fn holds(&self, target: WalPos) -> bool {
        match self {
            Self::Wal(r) => r.holds(target),
            Self::Ltx(r) => r.holds(target),
        }
    }

    pub(super) fn wants_new_index(&self) -> bool {
        match self {
            Self::Wal(r) => r.wants_new_index(),
            Self::Ltx(_) => false,
        }
    }

    pub(super) fn waits_for_handover(&self, wal: &Wal, policy: &Policy) -> bool {
        match self {
            Self::Wal(r) => r.waits_for_handover(wal, policy),
            Self::Ltx(_) => false,
        }
    }

    pub(super) fn wants_commit(&self, now: Duration, wal: Option<&Wal>) -> bool {
        match self {
            Self::Wal(r) => r.wants_commit(now, wal),
            Self::Ltx(r) => r.wants_commit(now, wal),
        }
    }

    pub(super) fn wake_at(&self, now: Duration) -> Option<Duration> {
        match self {
            Self::Wal(r) => r.wake_at(now),
            Self::Ltx(r) => r.wake_at(now),
        }
    }

    pub(super) fn break_off(&mut self, reason: Broken) {
        match self {
            Self::Wal(r) => r.break_off(reason),
            Self::Ltx(r) => r.break_off(reason),
        }
    }

    pub(super) fn on_inspected(
        &mut self,
        now: Duration,
        dice: &mut Dice,
        wal: Option<&Wal>,
        result: Result<Option<Head>, Fault>,
    ) {
        match (self, result) {
            (Self::Wal(r), result) => r.on_inspected(now, dice, wal, result),
            // Who has seen LTX files asks for them.
            (Self::Ltx(r), Err(fault)) => r.on_inspected(now, dice, wal, Err(fault)),
            (Self::Ltx(_), Ok(_)) => {}
        }
    }

    /// The replica is to hold LTX files, and this is what it holds.
    pub(super) fn on_ltx(
        &mut self,
        now: Duration,
        dice: &mut Dice,
        wal: Option<&Wal>,
        result: Result<ltx::replica::Head, Fault>,
    ) {
        if let Self::Wal(r) = self {
            if !r.is_inspecting() {
                return;
            }
            *self = Self::Ltx(Box::new(r.become_ltx()));
        }
        if let Self::Ltx(r) = self {
            r.on_inspected(now, dice, wal, result);
        }
    }

    pub(super) fn on_done(&mut self, now: Duration, dice: &mut Dice, done: ltx::replica::Done) {
        match self {
            Self::Wal(_) => {}
            Self::Ltx(r) => r.on_done(now, dice, done),
        }
    }

    pub(super) fn on_wall(&mut self, now: Duration, wall: Timestamp) {
        match self {
            Self::Wal(_) => {}
            Self::Ltx(r) => r.on_wall(now, wall),
        }
    }

    pub(super) fn on_read(&mut self, to: u64) {
        match self {
            Self::Wal(r) => r.on_read(to),
            Self::Ltx(r) => r.on_read(to),
        }
    }

    pub(super) fn on_segment(&mut self, now: Duration, dice: &mut Dice, result: Result<(), Fault>) {
        match self {
            Self::Wal(r) => r.on_segment(now, dice, result),
            Self::Ltx(_) => {}
        }
    }

    pub(super) fn on_snapshot_read(&mut self) {
        match self {
            Self::Wal(r) => r.on_snapshot_read(),
            Self::Ltx(r) => r.on_snapshot_read(),
        }
    }

    pub(super) fn on_snapshot(&mut self, now: Duration, dice: &mut Dice, result: Result<WalIndex, Fault>) {
        match self {
            Self::Wal(r) => r.on_snapshot(now, dice, result),
            Self::Ltx(_) => {}
        }
    }

    pub(super) fn on_retained(&mut self, stale: bool) {
        match self {
            Self::Wal(r) => r.on_retained(stale),
            Self::Ltx(_) => {}
        }
    }

    pub(super) fn on_validated(&mut self) {
        match self {
            Self::Wal(r) => r.on_validated(),
            Self::Ltx(_) => {}
        }
    }

    pub(super) fn on_flush(&mut self) {
        match self {
            Self::Wal(r) => r.on_flush(),
            Self::Ltx(r) => r.on_flush(),
        }
    }

    pub(super) fn on_stop(&mut self) {
        match self {
            Self::Wal(r) => r.on_stop(),
            Self::Ltx(r) => r.on_stop(),
        }
    }

    pub(super) fn decide(&mut self, now: Duration, with: &mut Surroundings<'_>) {
        match self {
            Self::Wal(r) => r.decide(now, with),
            Self::Ltx(r) => r.decide(now, with),
        }
    }
}
