//! Decisions about which database the app has open (SUP-501). Values in, values out.
//!
//! The worst failure of a backup is a silent one: the app writes to one file while another is replicated. So somebody looks,
//! once the app has had time to open its database, and then now and again:
//!
//! | a descendant of ours has open | commits arrived since the last look | the app is |
//! | --- | --- | --- |
//! | a replicated database | | attached |
//! | another database only | no | detached |
//! | another database only | yes | attached: it opens ours for each request |
//! | none, or we may not see it | no | unknown |
//! | none, or we may not see it | yes | attached |
//!
//! Attached once is attached for good, and nobody looks again: an app that opens its database for each request, and has
//! none now, must not lose its requests for it.

use std::time::Duration;

use holdfast_config::control::Status;

use super::{Action, Level, Lifecycle, Stage};

/// What is known of the app and the replicated databases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Attached {
    /// Nobody has looked, or nobody could see.
    #[default]
    Unknown,
    Yes,
    /// These are open instead, at most [`NAMED`] of them.
    No(Vec<String>),
}

/// What a look at the open files of our descendants found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Somebody has a replicated database open.
    pub(crate) ours: bool,
    /// Other databases, by path.
    pub(crate) others: Vec<String>,
    /// Every process could be looked into.
    pub(crate) everything: bool,
}

/// The watch over one app.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// `None`: there is no app, or nobody wants to know.
    look_at: Option<Duration>,
    commits: bool,
    attached: Attached,
}

impl Watch {
    pub(super) fn attached(&self) -> &Attached {
        &self.attached
    }

    fn verdict(&self, mut seen: Seen) -> Attached {
        match seen {
            Seen { ours: true, .. } => Attached::Yes,
            _ if self.commits => Attached::Yes,
            Seen { everything: true, ref others, .. } if !others.is_empty() => {
                seen.others.sort_unstable();
                seen.others.truncate(NAMED);
                Attached::No(seen.others)
            }
            Seen { .. } => Attached::Unknown,
        }
    }
}

impl Lifecycle {
    /// The app has just been started.
    pub(super) fn watch(&mut self, now: Duration) {
        let wanted = self.replicated() && !self.rules.attach_wait.is_zero();
        self.watch = Watch { look_at: wanted.then(|| now + self.rules.attach_wait), ..Watch::default() };
    }

    pub(super) fn look_due(&self) -> Option<Duration> {
        self.watch.look_at.filter(|_| self.stage == Stage::Running)
    }

    pub(super) fn watch_time(&mut self, now: Duration) {
        if self.look_due().is_some_and(|due| due <= now) {
            self.watch.look_at = Some(now + self.rules.attach_wait * LOOKS);
            self.act(Action::LookForDatabases);
        }
    }

    /// A WAL grows by commits only. From nothing it also grows when an agent has just begun to read it.
    pub(super) fn watch_wal(&mut self, status: &Status) {
        let known = self.progress.databases().iter().find(|known| known.db == status.db);
        self.watch.commits |= known.is_some_and(|known| (1..status.wal_end).contains(&known.wal_end));
    }

    pub(super) fn looked(&mut self, seen: Seen) {
        if self.stage != Stage::Running || self.watch.attached == Attached::Yes {
            return;
        }
        let now = self.watch.verdict(seen);
        self.watch.commits = false;
        if now == Attached::Yes {
            self.watch.look_at = None;
        }
        let before = std::mem::replace(&mut self.watch.attached, now.clone());
        let ours = self.rules.databases.join(", ");
        match (now, before) {
            (now, before) if now == before => {}
            (Attached::No(others), _) => {
                let others = others.join(", ");
                self.log(
                    Level::Error,
                    format!(
                        "the app has {others} open and not {ours}, which is what is replicated: nothing of what it \
                         writes is; give both the same path"
                    ),
                );
            }
            (Attached::Yes, Attached::No(_)) => self.log(Level::Info, format!("the app has {ours} open now")),
            (Attached::Yes, _) => self.log(Level::Debug, format!("the app has {ours} open")),
            (Attached::Unknown, _) => {
                self.log(Level::Debug, format!("cannot tell whether the app has {ours} open"));
            }
        }
    }
}

/// A look every five minutes, where the first comes after one.
const LOOKS: u32 = 5;
/// Enough to recognise a wrong path by.
pub(super) const NAMED: usize = 4;
