//! A small file system of the test's own, in a mount namespace: it fills up, turns read-only, and comes and goes. Starts
//! processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{self, Running};

/// A mounted volume of four megabytes. Only programs started with [`Volume::enter`] see it.
#[derive(Debug)]
pub struct Volume {
    dir: TempDir,
    holder: Running,
}

impl Volume {
    pub fn mount() -> Self {
        let dir = tempfile::Builder::new().prefix("volume-").tempdir().expect("a temporary directory");
        for name in ["disk", "mnt"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let mut command = process::command("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
        command.arg("cd \"$0\" && mount -t tmpfs -o size=4m tmpfs disk && mount --bind disk mnt && echo mounted && exec sleep 600");
        command.arg(dir.path());
        let mut holder = Running::start(&mut command, &dir.path().join("log"));
        holder.wait_log("a volume", Duration::from_secs(20), |line| line == "mounted");
        Self { dir, holder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// The words in front of a program that is to see it.
    pub fn enter(&self) -> Vec<String> {
        let target = self.holder.pid().to_string();
        ["nsenter", "--target", &target, "--user", "--mount", "--preserve-credentials", "--"]
            .map(String::from)
            .into()
    }

    /// Nothing more fits.
    pub fn fill(&self) {
        self.sh("head -c 8m /dev/zero > disk/ballast; true");
    }

    pub fn make_room(&self) {
        self.sh("rm disk/ballast");
    }

    pub fn turn_read_only(&self) {
        self.sh("mount -o remount,ro,bind mnt");
    }

    pub fn turn_writable(&self) {
        self.sh("mount -o remount,rw,bind mnt");
    }

    /// What was mounted over stays: an empty directory.
    pub fn vanish(&self) {
        self.sh("umount -l mnt");
    }

    pub fn come_back(&self) {
        self.sh("mount --bind disk mnt");
    }

    /// Whether there is a file behind the mount point.
    pub fn is_bare_behind(&self) -> bool {
        std::fs::read_dir(self.path()).expect("it can be read").next().is_none()
    }

    fn sh(&self, script: &str) {
        let words = self.enter();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("sh").arg("-c").arg(format!("cd \"$0\" && {script}")).arg(self.root());
        process::run(&mut command, Duration::from_secs(20)).expect_success(script);
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }
}
