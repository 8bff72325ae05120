//! An S3 server on loopback that ignores conditions and ranges, as some people's do: `rclone serve s3`. It checks
//! signatures. Starts a process.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{self, Running};
use crate::programs;

/// A running rclone with one empty bucket.
#[derive(Debug)]
pub struct Rclone {
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    pub bucket: String,
    _running: Running,
    _dir: TempDir,
}

impl Rclone {
    /// Starts one (a fifth of a second).
    pub fn start() -> Self {
        let program = programs::state().join("venv/bin/rclone");
        assert!(program.exists(), "rclone is not set up: `tests/run` once sets up what the tests need");
        let dir = tempfile::Builder::new().prefix("rclone-").tempdir().expect("a temporary directory");
        let bucket = "holdfast";
        std::fs::create_dir_all(dir.path().join("data").join(bucket)).expect("the bucket's directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let (access_key, secret_key) = ("rclonetest", "rclone-test-secret");
        let mut command = process::command(program);
        command.args(["serve", "s3", "--addr", &format!("127.0.0.1:{port}")]);
        command.args(["--auth-key", &format!("{access_key},{secret_key}")]);
        command.args(["--config", "/dev/null", "--cache-dir"]).arg(dir.path().join("cache"));
        command.arg(dir.path().join("data"));
        let mut running = Running::start(&mut command, &dir.path().join("rclone.log"));
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(running.alive() && Instant::now() < until, "rclone does not start:\n{}", running.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            bucket: bucket.into(),
            _running: running,
            _dir: dir,
        }
    }
}
