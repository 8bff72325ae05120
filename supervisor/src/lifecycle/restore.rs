//! Decisions before the agent starts: which answers of the restore let the app start, and which end the run.
//!
//! What an app may start on is the agent's decision (`plan/start.rs` there): 0 lets it start, on what was here, on what was
//! restored, or on nothing where that is proven right. An app that starts on an empty database because the replica could
//! not be read looks healthy, and its replication then retires the good backup (spec §1.8, E2 and E3).

use std::time::Duration;

use holdfast_config::exit::Exit;

use super::{Action, Ended, Level, Lifecycle, Stage};

impl Lifecycle {
    pub(super) fn restore(&mut self, now: Duration, db: usize) {
        let give_up = now + self.rules.restore_wait;
        self.go(now, Stage::Restoring { db, tries: 1, give_up });
        self.act(Action::Restore(db));
    }

    pub(super) fn restored(&mut self, now: Duration, ended: Ended) {
        match self.stage {
            Stage::Restoring { db, tries, give_up } => self.restore_answered(now, db, tries, give_up, ended),
            Stage::Aborting { code, .. } => self.go(now, Stage::Gone(code)),
            _ => {}
        }
    }

    fn restore_answered(&mut self, now: Duration, db: usize, tries: u32, give_up: Duration, ended: Ended) {
        let path = self.rules.databases[db].clone();
        let code = ended.code();
        match Exit::from_code(code) {
            Some(Exit::Ok) => self.next_database(now, db),
            Some(Exit::Unavailable) if now < give_up => {
                let pause = self.restarts.jitter(restore_pause(tries));
                let until = (now + pause).min(give_up);
                let left = give_up.saturating_sub(now).as_secs();
                self.log(
                    Level::Warn,
                    format!("{path}: the replica could not be reached (try {tries}); trying again for {left} s more"),
                );
                self.go(now, Stage::Waiting { db, tries, give_up, until });
            }
            _ => {
                let why = format!("restore {path}: {}", restore_refusal(ended));
                self.log(Level::Error, format!("{why}; the app was not started"));
                self.progress.cause(why);
                self.go(now, Stage::Gone(code));
            }
        }
    }

    fn next_database(&mut self, now: Duration, db: usize) {
        if db + 1 < self.rules.databases.len() {
            self.restore(now, db + 1);
        } else {
            self.go(now, Stage::Attaching);
            self.start_agent(now);
        }
    }
}

/// 1, 2, 4, 8, then 15 s between tries to reach the replica.
fn restore_pause(tries: u32) -> Duration {
    Duration::from_secs(1u64.checked_shl(tries.saturating_sub(1)).unwrap_or(u64::MAX).min(15))
}

fn restore_refusal(ended: Ended) -> String {
    let code = match ended {
        Ended::Code(code) => code,
        Ended::Signal(sig) => return format!("the agent was ended by {sig}"),
        Ended::NotStarted(_) => return "the agent could not be started".to_owned(),
    };
    match Exit::from_code(code) {
        Some(Exit::Unavailable) => "the replica could not be reached in time".to_owned(),
        Some(Exit::Denied) => {
            "access denied; check the replica's credentials and the volume's owner".to_owned()
        }
        Some(Exit::Empty) => "the replica is empty, but there was a database or has to be one".to_owned(),
        Some(Exit::Behind) => "the local database is behind the replica, or of unknown origin".to_owned(),
        Some(Exit::Unrestorable) => "the replica holds data that does not restore".to_owned(),
        Some(Exit::LocalData) => "the local database is damaged, or something stands in its way".to_owned(),
        Some(Exit::CannotCreate) => "the volume is read-only or full".to_owned(),
        Some(Exit::Config) => "configuration error".to_owned(),
        Some(Exit::Busy) => "another live process holds the database or the replica".to_owned(),
        Some(other) => format!("the agent exited {} ({other:?})", other.code()),
        None => format!("the agent exited {code}"),
    }
}
