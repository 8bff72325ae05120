//! A real S3 server on loopback, shared by all tests of a run. Starts `tests/servers/ceph.sh`.

use std::collections::HashMap;
use std::fs::File;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::signed::Signer;
use crate::{process, programs};

/// A running Ceph gateway. While any value of this type lives, in any process, the server stays up.
#[derive(Debug)]
pub struct Ceph {
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    pub bucket: String,
    _in_use: Flock<File>,
}

impl Ceph {
    /// Connects to the server of this checkout, starting it first when it does not run (about two seconds).
    pub fn connect() -> Self {
        let dir = programs::state().join("ceph");
        std::fs::create_dir_all(programs::state()).expect("the state directory");
        let users = File::create(dir.with_extension("users")).expect("the lock of the server's users");
        let in_use = Flock::lock(users, FlockArg::LockShared).map_err(|(_, e)| e).expect("a shared lock");
        let script = programs::root().join("tests/servers/ceph.sh");
        let mut start = process::command(script);
        process::run(start.arg("start").arg(&dir), Duration::from_secs(120)).expect_success("start Ceph");
        let text = std::fs::read_to_string(dir.join("env")).expect("the server's address");
        let of: HashMap<_, _> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let get = |name: &str| (*of.get(name).unwrap_or_else(|| panic!("{name} in {text}"))).to_owned();
        Self {
            endpoint: get("ENDPOINT"),
            access_key: get("ACCESS_KEY"),
            secret_key: get("SECRET_KEY"),
            bucket: get("BUCKET"),
            _in_use: in_use,
        }
    }

    /// A bucket that keeps versions, in which Ceph ignores conditions.
    pub fn versioned(&self) -> String {
        let name = format!("versioned-{}", std::process::id());
        let signer = Signer {
            endpoint: self.endpoint.clone(),
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            service: "s3",
        };
        signer.send("PUT", &format!("/{name}"), &[], "").expect_success("create a bucket");
        let versions = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                        <Status>Enabled</Status></VersioningConfiguration>";
        signer.send("PUT", &format!("/{name}?versioning"), &[], versions).expect_success("keep versions");
        name
    }
}
