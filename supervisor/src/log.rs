//! Log lines to stderr, from a thread of their own. Never blocks the caller.
//!
//! stdout is the app's. stderr may be a pipe nobody reads, and a full pipe must not stop PID 1: lines wait in a
//! bounded queue, and what does not fit is counted and dropped (SUP-202). A line reads
//!
//! ```text
//! 2026-01-31T12:00:00.123Z  WARN supervisor: No Litestream replica configured. Running in ephemeral mode.
//! ```
//!
//! and with `logging.type: json`, which is the agent's format then, too,
//!
//! ```text
//! {"level":"WARN","message":"No Litestream replica …","program":"supervisor","timestamp":"2026-01-31T12:00:00.123Z"}
//! ```

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use holdfast_config::Format;

use crate::lifecycle::Level;

/// The writing end of the log.
#[derive(Debug)]
pub(crate) struct Log {
    queue: SyncSender<String>,
    /// Disconnects when the writer has written its last line.
    written: Receiver<()>,
    /// Lines less important than this are not written.
    least: Level,
    format: Format,
    dropped: Cell<u64>,
    /// Those of them that no line has told of yet.
    untold: Cell<u64>,
}

impl Log {
    /// Starts the writer thread. Block signals first: the thread inherits the mask.
    pub(crate) fn start(level: Level, format: Format) -> io::Result<Self> {
        let (queue, lines) = sync_channel::<String>(QUEUE);
        let (alive, written) = sync_channel::<()>(0);
        thread::Builder::new().name("log".into()).stack_size(STACK).spawn(move || {
            for line in lines {
                // Nobody left to tell when stderr is closed.
                let _ = io::stderr().write_all(line.as_bytes());
            }
            drop(alive);
        })?;
        Ok(Self { queue, written, least: level, format, dropped: Cell::new(0), untold: Cell::new(0) })
    }

    pub(crate) fn line(&self, level: Level, text: &str) {
        if level > self.least {
            return;
        }
        let untold = self.untold.get();
        if untold > 0 && self.send(self.event(Level::Warn, &format!("{untold} log lines dropped"))) {
            self.untold.set(0);
        }
        if !self.send(self.event(level, text)) {
            self.lose();
        }
    }

    /// A line for machines, without time and level.
    pub(crate) fn raw(&self, line: &str) {
        if !self.send(format!("{line}\n")) {
            self.lose();
        }
    }

    fn lose(&self) {
        self.dropped.set(self.dropped.get() + 1);
        self.untold.set(self.untold.get() + 1);
    }

    /// How many lines were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// Waits until everything is written, or `patience` is over.
    pub(crate) fn close(self, patience: Duration) {
        drop(self.queue);
        // Nothing is ever sent: this returns when the writer is done, or late.
        let _ = self.written.recv_timeout(patience);
    }

    fn event(&self, level: Level, text: &str) -> String {
        match self.format {
            Format::Text => format(SystemTime::now(), level, text),
            Format::Json => json(SystemTime::now(), level, text),
        }
    }

    fn send(&self, line: String) -> bool {
        self.queue.try_send(line).is_ok()
    }
}

fn format(at: SystemTime, level: Level, text: &str) -> String {
    // One event is one line, whatever a child's message or a file name holds.
    let text = text.replace(['\n', '\r'], " ");
    format!("{} {:>5} supervisor: {text}\n", humantime::format_rfc3339_millis(at), word(level))
}

/// The agent's names for the same things, and who speaks.
fn json(at: SystemTime, level: Level, text: &str) -> String {
    let timestamp = humantime::format_rfc3339_millis(at).to_string();
    let event = serde_json::json!({
        "timestamp": timestamp, "level": word(level), "program": "supervisor", "message": text,
    });
    format!("{event}\n")
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "ERROR",
        Level::Warn => "WARN",
        Level::Info => "INFO",
        Level::Debug => "DEBUG",
    }
}

/// Lines that may wait for a slow reader: a burst of a few dozen children ending, several times over.
const QUEUE: usize = 256;
/// The thread copies strings to a descriptor, nothing more.
const STACK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_time_level_and_no_line_end_of_its_own() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_123);
        assert_eq!(format(at, Level::Warn, "a\nb"), "2026-01-01T00:00:00.123Z  WARN supervisor: a b\n");
        assert_eq!(format(at, Level::Error, "x"), "2026-01-01T00:00:00.123Z ERROR supervisor: x\n");
    }

    #[test]
    fn a_line_for_machines_is_one_object_with_the_agents_names() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_123);
        let line = json(at, Level::Warn, "a \"b\"\nc");
        assert_eq!(line.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["timestamp"], "2026-01-01T00:00:00.123Z");
        assert_eq!((&value["level"], &value["program"]), (&"WARN".into(), &"supervisor".into()));
        assert_eq!(value["message"], "a \"b\"\nc");
    }
}
