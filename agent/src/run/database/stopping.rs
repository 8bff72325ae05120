//! How a database's loop ends: what the outside asks of it, and when that is done. Touches the loop, and asks the file
//! system whether there is a database.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Command, Ended, Loop};
use crate::plan::database::Event;
use crate::plan::linger::{Linger, Next};
use crate::run::ending::Ending;
use crate::source::files::Files;

impl Loop {
    pub(super) fn obey(&mut self, command: Command) {
        let now = self.clock.now();
        match command {
            Command::Flush => self.machine.handle(now, Event::Flush),
            Command::Linger { timeout } if self.ending.is_none() => {
                tracing::info!(db = %self.config.path.display(), ?timeout, "going on until nobody else has the database");
                // What the app still commits should be over there when it is gone.
                self.machine.handle(now, Event::Flush);
                self.linger = Some((Linger::new(now, timeout), now + timeout));
            }
            Command::Linger { .. }
            | Command::Run
            | Command::Stop { .. }
            | Command::Release { .. }
            | Command::Leave { .. } => {}
        }
        let before = self.ending;
        self.ending = Ending::told(before, command, now);
        match (before, self.ending) {
            (_, None) => {}
            (None, Some(Ending::Leave { .. } | Ending::Release { .. })) => {
                self.machine.handle(now, Event::Stop);
            }
            (_, Some(Ending::Leave { .. } | Ending::Release { .. })) => {}
            (before, Some(Ending::Stop { quiesce, .. })) => {
                if !quiesce && !matches!(before, Some(Ending::Stop { .. })) {
                    self.begin_stop();
                }
                self.attempts.hurry(now);
            }
        }
        self.look(now);
    }

    /// Ends it once the app has let go of the database, or has no more time to; when to look again.
    pub(super) fn wait_for_the_app(&mut self, now: Duration) -> Option<Duration> {
        let (linger, end) = self.linger.as_mut().filter(|_| self.ending.is_none())?;
        let held = self.kept.as_ref().is_some_and(Files::is_held_elsewhere);
        let (next, end) = (linger.next(now, held), *end);
        let db = self.config.path.display();
        match next {
            Next::Look(at) => return Some(at),
            Next::Gone => tracing::info!(%db, "nobody else has the database any more"),
            Next::Late => {
                tracing::warn!(%db, "somebody has the database still: what is committed from now on stays here")
            }
        }
        self.obey(Command::Stop { quiesce: false, deadline: end.saturating_sub(now) });
        None
    }

    pub(super) fn begin_stop(&mut self) {
        let now = self.clock.now();
        self.machine.handle(now, Event::Stop);
        // A database put in the place of ours since the last safety poll has to be replicated, too.
        self.check_same(now);
        self.look(now);
    }

    /// Nothing is left to do: everything is replicated, or there is no database to replicate.
    pub(super) fn finished(&self, ending: Ending) -> bool {
        match ending {
            // A file that has left its path is not attached to again.
            Ending::Leave { .. } => !self.away && (self.detached() || self.machine.at_rest()),
            Ending::Release { .. } => !self.away && (self.detached() || self.machine.at_rest()),
            Ending::Stop { quiesce, .. } => {
                let nothing = self.live.is_none() && !self.away && self.no_database();
                nothing || ((self.quiesced || !quiesce) && self.machine.at_rest())
            }
        }
    }

    /// There is a database, but even a last attempt found nothing in it that could be replicated: no WAL.
    pub(super) fn hopeless(&self) -> bool {
        self.detached() && !self.away && self.waiting && self.attempts.tried() && !self.no_database()
    }

    pub(super) fn leaves(&self) -> bool {
        self.ending.is_some_and(Ending::leaves)
    }

    fn no_database(&self) -> bool {
        std::fs::metadata(&self.config.path).map_or(true, |m| m.len() == 0)
    }

    pub(super) fn end(&mut self, ending: Ending, late: bool) -> Ended {
        let now = self.clock.now();
        self.disarm();
        // Whoever takes over moves the pin as its own machine says: what is still being copied would not hold still.
        self.unpinned.store(true, Ordering::SeqCst);
        self.publish(now);
        let report = self.report.borrow().clone();
        let left = ending.leaves();
        // Of what has left before anybody attached to it there is nothing to know.
        let nothing = if left { self.kept.is_none() } else { self.live.is_none() && self.no_database() };
        let unlocked = ending.quiesces() && !self.quiesced;
        let incomplete = !nothing && ((late || left) && !self.machine.at_rest() || unlocked);
        if matches!(ending, Ending::Stop { .. }) && !incomplete && !late {
            self.mark();
        }
        let incomplete = incomplete.then(|| {
            let silent = || self.silences.iter().find_map(|silence| silence.words(now));
            let why = report.error().map(str::to_owned).or_else(silent);
            let why = why.unwrap_or_else(|| "out of time".to_owned());
            let place = report.position().map_or_else(|| "nothing".to_owned(), |p| format!("up to {p}"));
            format!("{}: replicated {place}, {} bytes behind: {why}", report.db, report.lag_bytes())
        });
        let quiesced = self.quiesced || nothing || left;
        Ended { report, quiesced, incomplete, live: self.live.take(), kept: self.kept.take() }
    }
}
