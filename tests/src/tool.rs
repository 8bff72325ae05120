//! Three programs, one set of commands: ours, Litestream 0.3.13 and 0.5.17. Spawns processes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{self, Finished, Running};
use crate::programs;

/// A replication program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Holdfast,
    V03,
    V05,
}

impl Tool {
    /// The binary.
    pub fn program(self) -> PathBuf {
        match self {
            Self::Holdfast => programs::ours("holdfast"),
            Self::V03 => programs::litestream("0.3.13"),
            Self::V05 => programs::litestream("0.5.17"),
        }
    }

    /// `TOOL replicate -config CONFIG`, running; its output goes to `log`.
    pub fn replicate(self, config: &Path, log: &Path) -> Running {
        Running::start(self.command("replicate").arg("-config").arg(config), log)
    }

    /// `TOOL restore -config CONFIG FLAGS -o OUT DB`, run to its end.
    pub fn restore(self, config: &Path, db: &Path, out: &Path, flags: &[&str]) -> Finished {
        let mut command = self.command("restore");
        command.arg("-config").arg(config).args(flags).arg("-o").arg(out).arg(db);
        process::run(&mut command, Duration::from_secs(60))
    }

    /// `TOOL VERB`, in a clean environment.
    pub fn command(self, verb: &str) -> Command {
        let mut command = process::command(self.program());
        command.arg(verb);
        command
    }
}

impl fmt::Display for Tool {
    /// `ours`, `0.3.13` or `0.5.17`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Holdfast => "ours",
            Self::V03 => "0.3.13",
            Self::V05 => "0.5.17",
        })
    }
}
