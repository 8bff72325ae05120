//! The one table of exit codes, shared by the agent and the supervisor. Values only.
//!
//! The numbers follow `sysexits.h` where it has a word for it. A supervised app's own code (0..=255, 128+n for
//! a signal) passes through the supervisor unchanged and is not in this table.

/// Why a program of ours ended, as the number the shell sees.
///
/// | code | who | meaning | retry useful |
/// | --- | --- | --- | --- |
/// | 0 | both | done; after a stop: the final sync is proven | |
/// | 64 | both | bad command line | no |
/// | 65 | both | the local database is corrupt or something foreign stands in its way | no |
/// | 66 | agent | the replica is proven empty: there is nothing to restore | no |
/// | 69 | both | the replica could not be reached | yes |
/// | 70 | both | a bug in Holdfast | yes |
/// | 71 | both | the system refused a process, socket or thread | yes |
/// | 73 | both | cannot create or write: read-only or full volume | no |
/// | 74 | both | the final sync is incomplete | alert |
/// | 75 | both | another live process holds the database or the replica | later |
/// | 76 | both | the replica holds data that does not restore | no |
/// | 77 | both | access denied, by the replica or by the local volume | no |
/// | 78 | both | configuration error | no |
/// | 79 | both | the local database is behind the replica, or nobody knows whose it is | no |
/// | 80 | supervisor | the agent was away for too long, and that is a reason to stop | yes |
/// | 126 | supervisor | the command is not executable | no |
/// | 127 | supervisor | the command was not found | no |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Usage = 64,
    LocalData = 65,
    Empty = 66,
    Unavailable = 69,
    Bug = 70,
    System = 71,
    CannotCreate = 73,
    SyncIncomplete = 74,
    Busy = 75,
    Unrestorable = 76,
    Denied = 77,
    Config = 78,
    Behind = 79,
    AgentFailed = 80,
    NotExecutable = 126,
    NotFound = 127,
}

impl Exit {
    /// The number the shell sees.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The row of the table a child's exit code stands for, if it is one of ours.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.code() == code)
    }

    /// Every row, in ascending order.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Usage,
        Self::LocalData,
        Self::Empty,
        Self::Unavailable,
        Self::Bug,
        Self::System,
        Self::CannotCreate,
        Self::SyncIncomplete,
        Self::Busy,
        Self::Unrestorable,
        Self::Denied,
        Self::Config,
        Self::Behind,
        Self::AgentFailed,
        Self::NotExecutable,
        Self::NotFound,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_maps_back_to_its_row_and_no_other_number_does() {
        for e in Exit::ALL {
            assert_eq!(Exit::from_code(e.code()), Some(e));
        }
        assert_eq!((0..=255).filter(|c| Exit::from_code(*c).is_some()).count(), Exit::ALL.len());
    }
}
