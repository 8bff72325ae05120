//! This test binary, started again as another program. Spawned, never forked: a fork shares SQLite's locks.
//!
//! A role is picked by an environment variable inside a test, because that is where a test binary lets us in.

use std::process::{Child, Command};

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use super::{agent, app};

/// A process that does not outlive its owner.
#[derive(Debug)]
pub struct Reaped(pub Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        // Fails when it has ended and been waited for, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Reaped {
    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.0.id() as i32)
    }
}

/// This binary as `role`, with `arguments` it will understand.
pub fn command(role: &str, arguments: &serde_json::Value) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", ENTRY, "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(ARGUMENTS, arguments.to_string());
    command
}

#[test]
fn this_program_starts_again_in_another_role() {
    if let Ok(role) = std::env::var(ROLE) {
        std::process::exit(act(&role));
    }
    let out = command("echo", &serde_json::json!({ "say": "here" })).output().unwrap();
    assert_eq!(out.status.code(), Some(7), "a role ends with its own code");
    assert!(String::from_utf8_lossy(&out.stdout).lines().any(|l| l == "= here"), "{out:?}");
}

fn act(role: &str) -> i32 {
    // A test that is killed takes its programs with it, and none of them takes the machine's memory.
    prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    setrlimit(Resource::RLIMIT_AS, ADDRESS_SPACE, ADDRESS_SPACE).unwrap();
    let arguments = serde_json::from_str(&std::env::var(ARGUMENTS).unwrap()).unwrap();
    // The harness has begun a line with the test's name.
    println!();
    match role {
        "echo" => {
            println!("= {}", str_of(&arguments, "say"));
            7
        }
        "connection" => app::connection(&arguments),
        "repeat" => app::repeat(&arguments),
        "agent" => agent::main(&arguments),
        other => panic!("no role {other}"),
    }
}

pub fn str_of<'a>(arguments: &'a serde_json::Value, key: &str) -> &'a str {
    arguments[key].as_str().unwrap()
}

const ENTRY: &str = "common::child::this_program_starts_again_in_another_role";
const ROLE: &str = "HOLDFAST_TEST_ROLE";
const ARGUMENTS: &str = "HOLDFAST_TEST_ARGUMENTS";
const ADDRESS_SPACE: u64 = 4 << 30;
