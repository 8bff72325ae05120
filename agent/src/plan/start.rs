//! What an app may start on. What was found here, what the replica holds and what was asked for in, one decision out.
//!
//! The rule above all rows: an app is never started on an empty database because its replica could not be read, and a
//! database that is here is never kept from its app because its replica could not be read. Where going on may lose what
//! one of the two holds, a person decides, beforehand by an option or after the refusal (spec/supervisor.md §3.4):
//!
//! | | restorable | proven empty | unreachable | denied, no bucket | not restorable |
//! | --- | --- | --- | --- | --- | --- |
//! | missing | restore | fresh; 66 if one lived here or must exist | 69 | 77, 78 | 76 |
//! | only its WAL | set aside, restore | 66 | 69 | 77, 78 | 76 |
//! | empty | set aside, restore; start if that has no tables either | start | 69 | 77, 78 | 76 |
//! | good | start | start, warn | start | start, warn; 77, 78 if one must exist | start, warn |
//! | behind | 79; `restore`: set aside, restore; `keep`: start | as good | as good | as good | 79; `keep`: start |
//! | unknown, older | 79; `restore`: set aside, restore; `keep`: start | start | as good | as good | start, warn |
//! | unknown | start; `refuse`: 79; `restore`: set aside, restore | start | as good | as good | start, warn |
//! | corrupt | 65; `restore`: set aside, restore | 65 | 65 | 65 | 65 |
//! | unusable | 73, 77, 78 | the same | the same | the same | the same |
//!
//! `allow-empty-start` with today's date makes each 66, 69, 76, 77 and 78 that the replica causes a start on nothing.
//!
//! Left out on purpose: *no replica* (nobody runs the agent then), and *leased by another* (there are no leases).

mod found;
mod lag;
mod standing;

use holdfast_config::exit::Exit;
use jiff::Timestamp;

pub use found::{Check, Facts, File, Found, Obstacle};
pub use lag::again;
pub use standing::{Lead, Now, Record, Standing, standing};

/// What the database is to its replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    Missing,
    /// The database is gone; what belonged to it is not.
    OrphanWal,
    /// A file that no application has put anything into.
    Empty,
    /// In line with the replica, as far as anybody can tell.
    Good,
    /// The replica provably holds what this database lacks.
    Behind,
    /// Nothing says where it comes from. `older`: it was last written before the replica was.
    Unknown {
        older: bool,
    },
    Corrupt,
    Unusable(Obstacle),
}

/// What the replica turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    Restorable,
    /// It restores to a database without tables.
    Bare,
    /// Positively: complete listings that hold nothing.
    Empty,
    Unreachable,
    Denied,
    NoBucket,
    /// It holds what does not restore.
    Broken,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    pub on_behind: OnBehind,
    pub on_unknown: OnUnknown,
    pub on_corrupt: OnCorrupt,
    /// A backup must exist.
    pub require_replica: bool,
    /// Somebody takes the blame for an empty database, today.
    pub empty_start: bool,
}

/// What to do with a database that is behind its replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnBehind {
    #[default]
    Refuse,
    /// Set it aside and restore.
    Restore,
    /// Start on it.
    Keep,
}

/// What to do with a database of which nothing says where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnUnknown {
    /// Start, unless it is older than the replica.
    #[default]
    Auto,
    Refuse,
    Restore,
    Keep,
}

/// What to do with a database that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnCorrupt {
    #[default]
    Refuse,
    /// Set it aside and restore.
    Restore,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// On what is here. `Some`: worth a warning.
    Start(Option<Alarm>),
    /// On nothing; what lies there without a database goes aside first.
    Fresh,
    /// What lies there goes aside under this word once the restored database is complete.
    Restore(Aside),
    Refuse(Refusal),
}

/// What somebody should look after although the app starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// The replica is empty although it cannot always have been.
    Wiped,
    Unreachable,
    Denied,
    NoBucket,
    Broken,
    /// The database is behind, and was kept because of an option.
    Behind,
    /// Nobody knows where it comes from.
    Unknown,
}

/// The word in the name of the folder that takes what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// There is no database; what lies around it belonged to another.
    OrphanWal,
    Empty,
    Behind,
    Unknown,
    Corrupt,
}

impl Aside {
    pub const fn word(self) -> &'static str {
        match self {
            Self::OrphanWal => "orphan-wal",
            Self::Empty => "empty",
            Self::Behind => "behind",
            Self::Unknown => "unknown",
            Self::Corrupt => "corrupt",
        }
    }
}

/// Why the app must not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 66: the replica is empty, and there was a database, or has to be one.
    Lost,
    /// 69
    Unreachable,
    /// 77
    Denied,
    /// 78
    NoBucket,
    /// 76
    Broken,
    /// 79
    Behind,
    /// 79
    Unknown,
    /// 65
    Corrupt,
    /// 73, 77 or 78
    Unusable(Obstacle),
}

impl Refusal {
    /// The row of the table of exit codes.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Lost => Exit::Empty,
            Self::Unreachable => Exit::Unavailable,
            Self::Denied | Self::Unusable(Obstacle::Denied) => Exit::Denied,
            Self::Broken => Exit::Unrestorable,
            Self::Behind | Self::Unknown => Exit::Behind,
            Self::Corrupt => Exit::LocalData,
            Self::Unusable(Obstacle::ReadOnly) => Exit::CannotCreate,
            Self::NoBucket | Self::Unusable(Obstacle::NoFile | Obstacle::NoDirectory | Obstacle::Network) => {
                Exit::Config
            }
        }
    }
}

/// Decides. `lived`: a database of this name was here before, as the sentinel says.
pub fn decide(local: Local, remote: Remote, lived: bool, wishes: Wishes) -> Decision {
    match local {
        Local::Missing => nothing_here(remote, lived, Aside::OrphanWal, wishes),
        Local::OrphanWal => nothing_here(remote, true, Aside::OrphanWal, wishes),
        Local::Empty => match remote {
            // One like the other: what is here need not make room, start after start.
            Remote::Empty | Remote::Bare => Decision::Start(None),
            Remote::Restorable | Remote::Unreachable | Remote::Denied | Remote::NoBucket | Remote::Broken => {
                match nothing_here(remote, lived, Aside::Empty, wishes) {
                    Decision::Fresh => Decision::Start(None),
                    decision => decision,
                }
            }
        },
        Local::Good => good(remote, wishes),
        Local::Behind => match (remote, wishes.on_behind) {
            (Remote::Empty | Remote::Unreachable | Remote::Denied | Remote::NoBucket, _) => {
                good(remote, wishes)
            }
            (Remote::Restorable | Remote::Bare, OnBehind::Restore) => Decision::Restore(Aside::Behind),
            (Remote::Restorable | Remote::Bare | Remote::Broken, OnBehind::Keep) => {
                Decision::Start(Some(Alarm::Behind))
            }
            (Remote::Restorable | Remote::Bare, OnBehind::Refuse)
            | (Remote::Broken, OnBehind::Refuse | OnBehind::Restore) => Decision::Refuse(Refusal::Behind),
        },
        Local::Unknown { older } => match (remote, wishes.on_unknown) {
            // A database that is replicated for the first time.
            (Remote::Empty, _) => Decision::Start(None),
            (Remote::Unreachable | Remote::Denied | Remote::NoBucket | Remote::Broken, _) => {
                good(remote, wishes)
            }
            (Remote::Restorable | Remote::Bare, OnUnknown::Restore) => Decision::Restore(Aside::Unknown),
            (Remote::Restorable | Remote::Bare, OnUnknown::Refuse) => Decision::Refuse(Refusal::Unknown),
            (Remote::Restorable | Remote::Bare, OnUnknown::Auto) if older => {
                Decision::Refuse(Refusal::Unknown)
            }
            (Remote::Restorable | Remote::Bare, OnUnknown::Keep | OnUnknown::Auto) => {
                Decision::Start(Some(Alarm::Unknown))
            }
        },
        Local::Corrupt => match (remote, wishes.on_corrupt) {
            (Remote::Restorable | Remote::Bare, OnCorrupt::Restore) => Decision::Restore(Aside::Corrupt),
            _ => Decision::Refuse(Refusal::Corrupt),
        },
        Local::Unusable(obstacle) => Decision::Refuse(Refusal::Unusable(obstacle)),
    }
}

/// There is nothing to lose here, and everything over there.
fn nothing_here(remote: Remote, lived: bool, aside: Aside, wishes: Wishes) -> Decision {
    let refusal = match remote {
        Remote::Restorable | Remote::Bare => return Decision::Restore(aside),
        Remote::Empty if !lived && !wishes.require_replica => return Decision::Fresh,
        Remote::Empty => Refusal::Lost,
        Remote::Unreachable => Refusal::Unreachable,
        Remote::Denied => Refusal::Denied,
        Remote::NoBucket => Refusal::NoBucket,
        Remote::Broken => Refusal::Broken,
    };
    if wishes.empty_start { Decision::Fresh } else { Decision::Refuse(refusal) }
}

fn good(remote: Remote, wishes: Wishes) -> Decision {
    let required = wishes.require_replica;
    match remote {
        Remote::Restorable | Remote::Bare => Decision::Start(None),
        Remote::Empty => Decision::Start(Some(Alarm::Wiped)),
        Remote::Unreachable => Decision::Start(Some(Alarm::Unreachable)),
        Remote::Denied if required => Decision::Refuse(Refusal::Denied),
        Remote::Denied => Decision::Start(Some(Alarm::Denied)),
        Remote::NoBucket if required => Decision::Refuse(Refusal::NoBucket),
        Remote::NoBucket => Decision::Start(Some(Alarm::NoBucket)),
        Remote::Broken => Decision::Start(Some(Alarm::Broken)),
    }
}

/// The token that allows an empty start on the day of `now`: the date in UTC, so that it cannot stay in a manifest.
pub fn token_of(now: Timestamp) -> String {
    now.strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests;
