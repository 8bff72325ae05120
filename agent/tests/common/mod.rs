//! What the end-to-end tests of the agent share. Whoever holds a lock or dies in them is a process of its own.
//!
//! | module | one idea |
//! | --- | --- |
//! | [`child`] | this test binary, started again as another program |
//! | [`app`] | the app: a connection, or a statement over and over |
//! | [`agent`] | the agent: its log, its cost, its end |
//! | [`scene`] | a database and its replicas in one directory; restore and compare |

#![allow(dead_code, unreachable_pub, reason = "every test binary uses another part of it")]

pub mod agent;
pub mod app;
pub mod child;
pub mod scene;

use std::time::{Duration, Instant};

/// Asks until the answer is yes, or panics after `most`.
#[track_caller]
pub fn eventually(what: &str, most: Duration, mut answer: impl FnMut() -> bool) {
    let start = Instant::now();
    while !answer() {
        assert!(start.elapsed() < most, "{what}: not within {most:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Long enough for anything that happens at all, on a machine with other things to do.
pub const LONG: Duration = Duration::from_secs(30);
