//! A container engine of the test's own: its volumes and containers lie in one directory and go with it. Runs podman as
//! root; never looks at what else the machine's engine holds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{self, Finished, command};

/// The engine.
#[derive(Debug)]
pub struct Engine {
    dir: tempfile::TempDir,
}

impl Engine {
    /// An engine with the images that are in `images`, or why this machine has none. A machine that has one and cannot use
    /// it is an error, not a reason.
    pub fn find(images: &Path) -> Result<Self, String> {
        let engine = Self::installed()?;
        let options = format!("[storage.options]\nadditionalimagestores = [\"{}\"]\n", images.display());
        engine.configure(&engine.dir.path().join("images"), &options);
        Ok(engine)
    }

    /// An engine whose own images go into `images`, or why this machine has none.
    pub fn builder(images: &Path) -> Result<Self, String> {
        let engine = Self::installed()?;
        engine.configure(images, "");
        Ok(engine)
    }

    fn installed() -> Result<Self, String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|dir| dir.join("podman").is_file()) {
            return Err("podman is not installed".into());
        }
        if !nix::unistd::geteuid().is_root() {
            return Err("it needs root: the test reads the volumes of another user".into());
        }
        Ok(Self { dir: tempfile::Builder::new().prefix("hf").tempdir().expect("a temporary directory") })
    }

    fn configure(&self, images: &Path, options: &str) {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        // vfs mounts nothing, so it works wherever this runs, and it is gone when its directory is.
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n{options}",
            images.display(),
            at("run")
        );
        // runc with plain cgroups and modest limits also works without systemd, on cgroup v1 and without SYS_RESOURCE.
        let containers = format!(
            "[containers]\ndefault_ulimits = [\"nofile=8192:8192\", \"nproc=8192:8192\"]\n\
             [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\ntmp_dir = \"{}\"\n",
            at("tmp")
        );
        fs::write(at("storage.conf"), storage).expect("a file in a new directory");
        fs::write(at("containers.conf"), containers).expect("a file in a new directory");
    }

    /// `podman ARGS` on this engine's own storage.
    pub fn podman<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = command("podman");
        self.use_in(&mut command).args(args);
        command
    }

    /// Makes a program that runs podman use this engine.
    pub fn use_in<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("CONTAINERS_CONF", self.dir.path().join("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.dir.path().join("storage.conf"))
            // Health checks run when a test asks for one; a timer would need a systemd.
            .env("DISABLE_HC_SYSTEMD", "true")
    }

    /// Runs `podman ARGS` to its end.
    pub fn call<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Finished {
        process::run(&mut self.podman(args), PATIENCE)
    }

    /// Runs `podman ARGS`, which must succeed; its output without the line end.
    #[track_caller]
    pub fn ask<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> String {
        let args: Vec<_> = args.into_iter().collect();
        let done = self.call(args.iter().copied()).expect_success(&format!("podman {args:?}"));
        done.stdout.trim_end().to_owned()
    }

    /// Builds `file` from `context`, with nothing pulled from anywhere.
    #[track_caller]
    pub fn build(&self, tag: &str, file: &Path, context: &Path, flags: &[&str]) {
        let (file, context) = (file.display().to_string(), context.display().to_string());
        let mut args =
            vec!["build", "--quiet", "--pull=never", "--format=docker", "--tag", tag, "--file", &file];
        args.extend(flags);
        args.push(&context);
        self.ask(args);
    }

    /// A new, empty named volume.
    pub fn volume(&self, name: &str) -> Volume<'_> {
        self.ask(["volume", "create", name]);
        let path = self.ask(["volume", "inspect", "--format", "{{.Mountpoint}}", name]).into();
        Volume { engine: self, name: name.into(), path }
    }

    /// Starts `podman run -d --name NAME FLAGS IMAGE APP`.
    #[track_caller]
    pub fn start(&self, name: &str, flags: &[&str], image: &str, app: &[&str]) -> Container<'_> {
        let mut args = vec!["run", "--detach", "--name", name];
        args.extend(flags.iter().chain([&image]).chain(app));
        self.ask(args);
        Container { engine: self, name: name.into() }
    }

    /// A container that somebody else has started on this engine.
    pub fn container(&self, name: &str) -> Container<'_> {
        Container { engine: self, name: name.into() }
    }

    /// A directory that goes with the engine.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = process::run(&mut self.podman(["rm", "--all", "--force", "--time", "0"]), PATIENCE);
    }
}

/// A volume, and where its files lie on this machine.
#[derive(Debug)]
pub struct Volume<'e> {
    engine: &'e Engine,
    pub name: String,
    pub path: PathBuf,
}

impl Volume<'_> {
    /// `NAME:AT`, for `--volume`.
    pub fn at(&self, at: &str) -> String {
        format!("{}:{at}", self.name)
    }

    /// The names of what lies at its top, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.path).expect("a volume's directory can be read");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Its end, with all that is in it.
    pub fn remove(self) {
        self.engine.ask(["volume", "rm", &self.name]);
    }
}

/// One container, by name.
#[derive(Debug)]
pub struct Container<'e> {
    engine: &'e Engine,
    name: String,
}

impl Container<'_> {
    /// Both of its streams so far.
    pub fn log(&self) -> String {
        let done = self.engine.call(["logs", &self.name]);
        done.stdout + &done.stderr
    }

    /// Its first process, as this machine numbers it.
    pub fn pid(&self) -> i32 {
        let pid = self.engine.ask(["inspect", "--format", "{{.State.Pid}}", &self.name]);
        pid.parse().expect("a process id")
    }

    /// The words behind `NAME:` of its first process's status.
    #[track_caller]
    pub fn status(&self, name: &str) -> Vec<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the container runs");
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        let line = line.unwrap_or_else(|| panic!("{name} in {status}"));
        line.split_whitespace().map(String::from).collect()
    }

    /// Its first process is PID 1 of a namespace of its own, the supervisor, nobody special, and can never become anyone.
    #[track_caller]
    pub fn assert_unprivileged(&self) {
        let field = |name: &str| self.status(name);
        assert_eq!(field("Name"), ["holdfast-superv"], "the kernel keeps 15 letters");
        assert_eq!(field("NSpid").last().map(String::as_str), Some("1"));
        assert_eq!(field("Uid"), ["1000"; 4]);
        assert_eq!(field("Gid"), ["1000"; 4]);
        assert_eq!(field("NoNewPrivs"), ["1"]);
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(set), ["0000000000000000"], "{set}");
        }
    }

    /// Waits until `seen`, asked again and again, is true. Panics with the log when the container ends before.
    #[track_caller]
    pub fn wait_until(&self, what: &str, within: Duration, mut seen: impl FnMut() -> bool) {
        let until = Instant::now() + within;
        while !seen() {
            let running = self.engine.ask(["inspect", "--format", "{{.State.Running}}", &self.name]);
            assert!(running == "true", "{what}: the container has ended; its log:\n{}", self.log());
            assert!(Instant::now() < until, "{what}: not within {within:?}; the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// SIGKILL for its first process, and with it for all of them.
    #[track_caller]
    pub fn kill(&self) {
        self.engine.ask(["kill", "--signal", "KILL", &self.name]);
    }

    /// Waits for its own end: the exit code.
    #[track_caller]
    pub fn wait(&self) -> i32 {
        let code = self.engine.ask(["wait", &self.name]);
        code.parse().unwrap_or_else(|e| panic!("podman wait says {code:?}: {e}"))
    }

    /// The image's stop signal, then, `grace` seconds later, SIGKILL: how long it took, and the exit code.
    #[track_caller]
    pub fn stop(&self, grace: &str) -> (Duration, i32) {
        let began = Instant::now();
        self.engine.ask(["stop", "--time", grace, &self.name]);
        (began.elapsed(), self.wait())
    }
}

/// For one call of the engine, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);
