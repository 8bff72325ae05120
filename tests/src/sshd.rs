//! A real SFTP server on loopback: OpenSSH, as whoever runs the test, with keys of its own. Starts processes.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use tempfile::TempDir;

use crate::process::{self, Running};
use crate::supervised::children;

/// A running `sshd` that serves one directory. What it holds outlives a stop.
#[derive(Debug)]
pub struct Sshd {
    /// Whom to log in as.
    pub user: String,
    pub port: u16,
    dir: TempDir,
    /// What the server takes for `/etc/shadow`.
    shadow: Option<PathBuf>,
    running: Option<Running>,
}

impl Sshd {
    /// Starts one (a tenth of a second).
    pub fn start() -> Self {
        Self::serving("internal-sftp")
    }

    /// Starts one with another subsystem: `internal-sftp -R` is read-only.
    pub fn serving(subsystem: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("sshd-").tempdir().expect("a temporary directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let user = User::from_uid(Uid::current()).ok().flatten().expect("the user has a name").name;
        let mut sshd = Self { user, port, dir, shadow: None, running: None };
        std::fs::create_dir(sshd.root()).expect("a directory to serve");
        for kind in ["ed25519", "ecdsa", "rsa"] {
            sshd.new_key(kind, "", kind);
        }
        sshd.new_host_key();
        let public = ["ed25519", "ecdsa", "rsa"].map(|kind| sshd.public_key(&sshd.key(kind)));
        std::fs::write(sshd.dir.path().join("authorized_keys"), public.concat()).expect("write the keys");
        sshd.configure(subsystem);
        sshd.start_again();
        sshd
    }

    /// Starts one that lets the user in with the password `hunter2`, too. Only root can: it shows the server passwords of
    /// its own, and nobody else.
    pub fn with_password() -> Self {
        let mut sshd = Self::start();
        sshd.stop();
        let shadow = sshd.dir.path().join("shadow");
        std::fs::write(&shadow, format!("{}:{HUNTER2}:19000:0:99999:7:::\n", sshd.user)).expect("write");
        sshd.shadow = Some(shadow);
        sshd.start_again();
        sshd
    }

    /// What is served, as the server sees it.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The private key of `kind` (`ed25519`, `ecdsa`, `rsa`) that the server lets in.
    pub fn key(&self, kind: &str) -> PathBuf {
        self.dir.path().join(kind)
    }

    /// Makes a private key the server does not know, with a passphrase if it is not empty.
    pub fn new_key(&self, name: &str, passphrase: &str, kind: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut keygen = process::command("ssh-keygen");
        keygen.args(["-q", "-t", kind, "-N", passphrase, "-C", name, "-f"]).arg(&path);
        process::run(&mut keygen, Duration::from_secs(20)).expect_success("ssh-keygen");
        path
    }

    /// The server's key, as `TYPE BASE64`.
    pub fn host_key(&self) -> String {
        let line = self.public_key(&self.dir.path().join("hostkey"));
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// Gives the server another key, from its next start on.
    pub fn new_host_key(&self) {
        let _ = std::fs::remove_file(self.dir.path().join("hostkey"));
        self.new_key("hostkey", "", "ed25519");
    }

    /// Serves the same directory with another subsystem, from its next start on.
    pub fn configure(&self, subsystem: &str) {
        let at = self.dir.path().display();
        let text = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {at}/hostkey\nPidFile none\n\
             AuthorizedKeysFile {at}/authorized_keys\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             PasswordAuthentication yes\nKbdInteractiveAuthentication no\nMaxStartups 100\nUseDNS no\n\
             LogLevel VERBOSE\nSubsystem sftp {subsystem}\n",
            self.port
        );
        std::fs::write(self.dir.path().join("sshd_config"), text).expect("write the configuration");
    }

    /// A subsystem that serves the directory with a file system of its own on it, mounted with these options and filled
    /// as far as a megabyte does.
    pub fn on_a_mount(&self, options: &str) -> String {
        let script = self.dir.path().join("serve");
        // A namespace of the session's own, which ends with it.
        let flags = if Uid::current().is_root() { "-m" } else { "-rm" };
        let text = format!(
            "#!/bin/sh\nexec unshare {flags} sh -c 'mount -t tmpfs -o {options} tmpfs {root} && \
             {{ head -c 1M /dev/zero >{root}/full; exec /usr/lib/openssh/sftp-server; }}'\n",
            root = self.root().display()
        );
        std::fs::write(&script, text).expect("write the script");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("make it a program");
        script.display().to_string()
    }

    /// Ends it and every session, at once.
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            let sessions = descendants(running.pid());
            running.kill();
            signal(&sessions, Signal::SIGKILL);
        }
    }

    /// Serves again what it had, at the same address.
    pub fn start_again(&mut self) {
        if Uid::current().is_root() {
            // Where root's sshd keeps what may do nothing.
            std::fs::create_dir_all("/run/sshd").expect("create /run/sshd");
        }
        let mut sshd = match &self.shadow {
            None => process::command(program()),
            Some(shadow) => {
                let mut namespace = process::command("unshare");
                namespace.args([
                    "-m",
                    "sh",
                    "-c",
                    "mount --bind \"$1\" /etc/shadow; shift; exec \"$@\"",
                    "sh",
                ]);
                namespace.arg(shadow).arg(program());
                namespace
            }
        };
        sshd.args(["-D", "-e", "-f"]).arg(self.dir.path().join("sshd_config"));
        let mut running = Running::start(&mut sshd, &self.dir.path().join("sshd.log"));
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(running.alive() && Instant::now() < until, "sshd does not start:\n{}", running.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.running = Some(running);
    }

    /// Lets it and every session hang: connections stay, and nothing answers.
    pub fn hang(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// What it has said since it was last started.
    pub fn log(&self) -> String {
        self.running.as_ref().map(Running::log).unwrap_or_default()
    }

    fn signal(&self, which: Signal) {
        let listener = self.running.as_ref().expect("it runs").pid();
        signal(&[vec![listener as i32], descendants(listener)].concat(), which);
    }

    fn public_key(&self, private: &Path) -> String {
        std::fs::read_to_string(private.with_extension("pub")).expect("the public half lies beside it")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.go_on();
        }
        self.stop();
    }
}

/// As crypt(3) keeps `hunter2`.
const HUNTER2: &str =
    "$6$holdfast$mZJdStaZy.PEYH/IvZ9ZqXxg3pdhKJvg4K7cC/aPALvBNX62X3f8T3IdBjK1pfW/na92jihbM5gaCBBZkkW.i1";

/// `sshd` has to be called by its full path, and is not on everybody's.
fn program() -> PathBuf {
    let found = ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"].map(PathBuf::from);
    found.into_iter().find(|path| path.exists()).unwrap_or_else(|| {
        panic!("sshd is not set up: `tests/run` once sets up what the tests need");
    })
}

/// The children of a process, and theirs.
fn descendants(pid: u32) -> Vec<i32> {
    let mut found = children(pid as i32);
    let mut next = 0;
    while next < found.len() {
        found.extend(children(found[next]));
        next += 1;
    }
    found
}

fn signal(pids: &[i32], signal: Signal) {
    for pid in pids {
        // It may be gone.
        let _ = kill(Pid::from_raw(*pid), signal);
    }
}
