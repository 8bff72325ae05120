//! A machine that boots a real systemd: nspawn over a root that `tests/run` has made, and that nothing changes. Its
//! network is this machine's. Runs systemd-nspawn as root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::process::{self, Finished, Running, command};
use crate::programs;

/// A booted machine. Dropping it powers it off.
#[derive(Debug)]
pub struct Machine {
    nspawn: Running,
    leader: i32,
    dir: tempfile::TempDir,
}

impl Machine {
    /// Boots one, or says why this one cannot. What can and fails is an error, not a reason.
    pub fn boot() -> Result<Self, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|dir| dir.join("systemd-nspawn").is_file()) {
            return Err("systemd-nspawn is not installed".into());
        }
        if !nix::unistd::geteuid().is_root() {
            return Err("it needs root: systemd-nspawn mounts".into());
        }
        let root = programs::state().join("sysroot");
        assert!(
            root.exists(),
            "{} is not there: `tests/run` once sets up what the tests need",
            root.display()
        );
        let dir = tempfile::Builder::new().prefix("hf").tempdir().expect("a temporary directory");
        let name = dir.path().file_name().expect("a directory has a name").to_string_lossy().replace('.', "");
        let mut nspawn = command("systemd-nspawn");
        nspawn.args(["--quiet", "--boot", "--volatile=overlay", "--register=no", "--keep-unit"]);
        nspawn
            .args(["--console=read-only", "--link-journal=no", "--machine", &name, "--directory"])
            .arg(&root);
        let mut nspawn = Running::start(&mut nspawn, &dir.path().join("console"));
        let until = Instant::now() + BOOT;
        loop {
            assert!(nspawn.alive(), "the machine does not boot:\n{}", nspawn.log());
            assert!(Instant::now() < until, "the machine boots for more than {BOOT:?}:\n{}", nspawn.log());
            std::thread::sleep(Duration::from_millis(100));
            if let Some(leader) = child(nspawn.pid()) {
                let state = process::run(enter(leader).args(["systemctl", "is-system-running"]), CALL).stdout;
                if ["running", "degraded"].contains(&state.trim()) {
                    return Ok(Self { nspawn, leader, dir });
                }
            }
        }
    }

    /// Runs a command in it to its end.
    pub fn call(&self, line: &[&str]) -> Finished {
        process::run(enter(self.leader).args(line), CALL)
    }

    /// Runs a command in it, which must succeed; its output without the line end.
    #[track_caller]
    pub fn ask(&self, line: &[&str]) -> String {
        let done = self.call(line);
        assert_eq!(done.code, 0, "{line:?}: {}{}\n{}", done.stdout, done.stderr, self.journal());
        done.stdout.trim_end().to_owned()
    }

    /// A unit's property.
    #[track_caller]
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.ask(&["systemctl", "show", "--value", "--property", property, unit])
    }

    /// Waits until a unit's property is as `wanted`.
    #[track_caller]
    pub fn wait_for(
        &self,
        unit: &str,
        property: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> String {
        let until = Instant::now() + within;
        loop {
            let is = self.show(unit, property);
            if wanted(&is) {
                return is;
            }
            assert!(
                Instant::now() < until,
                "{unit}: {property} is {is:?} after {within:?}\n{}",
                self.journal()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Holds the main thread of one of its processes, as if it were stuck in the kernel, until the answer is dropped: only
    /// SIGKILL reaches it.
    pub fn hold(&self, pid: i32) -> Running {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let inside = namespace(&self.leader.to_string());
        let processes = fs::read_dir("/proc").expect("there is /proc").flatten();
        let outside = processes
            .filter_map(|entry| entry.file_name().into_string().ok())
            .find(|outside: &String| {
                let status = fs::read_to_string(format!("/proc/{outside}/status")).unwrap_or_default();
                let known = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
                let last = known.and_then(|line| line.split_whitespace().next_back());
                last == Some(&pid.to_string()) && namespace(outside) == inside
            })
            .unwrap_or_else(|| panic!("the machine has no process {pid}"));
        process::hold(outside.parse().expect("a number"), &self.dir.path().join("held"))
    }

    /// What all units have said, without the kernel.
    pub fn journal(&self) -> String {
        self.call(&[
            "journalctl",
            "--no-pager",
            "--output=short-monotonic",
            "--no-hostname",
            "_TRANSPORT=stdout",
            "+",
            "_PID=1",
        ])
        .stdout
    }

    /// Where a file of the machine lies on this one, while it runs.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader))
    }

    /// Writes a file into it, with the directories above.
    pub fn write(&self, path: &str, contents: impl AsRef<[u8]>, mode: u32) {
        let file = self.path(path);
        fs::create_dir_all(file.parent().expect("a file lies in a directory")).expect("its directory");
        fs::write(&file, contents).unwrap_or_else(|e| panic!("{path}: {e}"));
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("our own file");
    }

    /// Copies a file of ours into it.
    pub fn install(&self, from: &Path, path: &str, mode: u32) {
        self.write(path, fs::read(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())), mode);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // systemd-nspawn passes it on as an order to power off.
        self.nspawn.signal(Signal::SIGTERM);
        let until = Instant::now() + BOOT;
        while self.nspawn.alive() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A command that will run in the machine.
fn enter(leader: i32) -> Command {
    let mut enter = command("nsenter");
    enter.args(["--target", &leader.to_string(), "--all", "--"]);
    enter.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    enter
}

fn child(pid: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

const BOOT: Duration = Duration::from_secs(40);
const CALL: Duration = Duration::from_secs(60);
