//! Attaching to the database, and what blocking tasks that had the attachment give back.

use std::time::Duration;

use super::Loop;
use crate::plan::database::Event;
use crate::source::files::SourceError;
use crate::source::live::{Live, Rounded};

/// What a blocking task gives back.
pub(super) enum Returned {
    Attached(Result<Box<Live>, SourceError>),
    Rounded(Box<Live>, Result<Rounded, SourceError>),
    Quiesced(Box<Live>, Result<bool, SourceError>),
}

impl Loop {
    pub(super) fn start_attach(&mut self, now: Duration) {
        if self.live.is_some() || self.away || self.leaves() || now < self.attempts.at() {
            return;
        }
        self.away = true;
        self.attempts.begin(now);
        let (path, kept) = (self.config.path.clone(), self.kept.clone());
        let back = self.returned.0.clone();
        tokio::task::spawn_blocking(move || {
            let attached = Live::attach(&path, kept).map(Box::new);
            let _ = back.send(Box::new(Returned::Attached(attached)));
        });
    }

    pub(super) fn on_attached(&mut self, result: Result<Box<Live>, SourceError>) {
        let now = self.clock.now();
        self.waiting = result.as_ref().is_err_and(SourceError::is_waiting);
        self.damaged = matches!(result, Err(SourceError::NotADatabase { .. }));
        match result {
            Ok(live) => {
                if let Err(error) = self.open_stores() {
                    tracing::error!(%error, "open a replica");
                }
                tracing::info!(db = %self.config.path.display(), "wal pinned");
                self.kept = Some(live.files());
                self.error = None;
                self.attempts.succeed();
                self.disarm();
                self.wal = Some(live.wal());
                self.live = Some(live);
                self.look(now);
            }
            Err(e) if e.is_waiting() => {
                if self.error.as_deref() != Some(&e.to_string()) {
                    tracing::info!(state = %e, "waiting for the database");
                }
                self.error = Some(e.to_string());
                self.attempts.wait(now, self.config.monitor_interval);
            }
            Err(e) => {
                if self.error.as_deref() != Some(&e.to_string()) {
                    tracing::error!(error = %e, "attach; trying again");
                }
                self.error = Some(e.to_string());
                self.attempts.fail(now, &mut self.dice);
            }
        }
    }

    /// Takes back what a blocking task had; `true` when the write lock is ours now.
    pub(super) fn take_back(&mut self, returned: Returned) -> bool {
        self.away = false;
        let now = self.clock.now();
        let (live, result) = match returned {
            Returned::Attached(result) => {
                self.on_attached(result);
                return false;
            }
            Returned::Rounded(live, result) => {
                self.live = Some(live);
                self.books.round_ended(now, result.is_ok());
                match result {
                    Ok(rounded) => {
                        if !rounded.locked.is_zero() {
                            self.locks.observe(rounded.locked.as_secs_f64());
                        }
                        self.machine.handle(now, Event::HandOver { outcome: rounded.outcome });
                        tracing::debug!(outcome = ?rounded.outcome, locked = ?rounded.locked, "checkpoint");
                        self.look(now);
                    }
                    Err(e) => self.lose(now, e),
                }
                return false;
            }
            Returned::Quiesced(live, result) => (live, result),
        };
        self.live = Some(live);
        match result {
            Ok(locked) => {
                self.look(now);
                locked
            }
            Err(e) => {
                self.lose(now, e);
                false
            }
        }
    }

    pub(super) fn start_quiesce(&mut self) {
        let Some(mut live) = self.live.take() else { return };
        self.away = true;
        let back = self.returned.0.clone();
        tokio::task::spawn_blocking(move || {
            let result = live.quiesce();
            if matches!(result, Ok(false)) {
                std::thread::sleep(QUIESCE_PAUSE);
            }
            let _ = back.send(Box::new(Returned::Quiesced(live, result)));
        });
    }
}

/// Between two attempts to take the write lock.
const QUIESCE_PAUSE: Duration = Duration::from_millis(5);
