//! Our end of the agent's control socket: lines in, lines out. Touches that one descriptor and never blocks.
//!
//! PID 1 must not wait for anyone, so both directions are non-blocking and bounded: an agent that does not read
//! loses our message (and is found out by its silence), one that sends an endless line is cut off.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use holdfast_config::control::{FromAgent, ToAgent};

/// The supervisor's end.
#[derive(Debug)]
pub(crate) struct Control {
    socket: UnixStream,
    lines: Lines,
}

/// What one wake-up brought.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Arrived {
    pub(crate) messages: Vec<FromAgent>,
    /// Lines that are no message we know, cut to a readable length.
    pub(crate) unknown: Vec<String>,
    pub(crate) closed: bool,
}

impl Control {
    /// A connected pair: ours, and the one the agent inherits. Both are close-on-exec.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((Self { socket: ours, lines: Lines::default() }, theirs.into()))
    }

    /// Sends one message. `WouldBlock` means the agent has stopped reading.
    pub(crate) fn tell(&mut self, message: &ToAgent) -> io::Result<()> {
        let mut line = serde_json::to_string(message).map_err(io::Error::other)?;
        line.push('\n');
        // A line is far smaller than the socket's buffer: it fits whole or not at all.
        self.socket.write_all(line.as_bytes())
    }

    /// Everything that has arrived, up to a bound; the rest waits for the next call.
    pub(crate) fn read(&mut self) -> Arrived {
        let mut seen = Arrived::default();
        let mut chunk = [0; 4096];
        for _ in 0..MAX_CHUNKS {
            match self.socket.read(&mut chunk) {
                Ok(0) => seen.closed = true,
                Ok(n) => {
                    if self.lines.push(&chunk[..n], &mut seen) {
                        continue;
                    }
                    seen.closed = true;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => seen.closed = true,
            }
            break;
        }
        seen
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// False when the line in progress is longer than any message of ours.
    fn push(&mut self, bytes: &[u8], seen: &mut Arrived) -> bool {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            self.partial.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.partial);
            match serde_json::from_slice(&line) {
                Ok(message) => seen.messages.push(message),
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(_) => seen.unknown.push(String::from_utf8_lossy(&line).chars().take(120).collect()),
            }
        }
        self.partial.extend_from_slice(rest);
        self.partial.len() <= MAX_LINE
    }
}

/// No message comes near this; a stream without a line end must not fill PID 1's memory.
const MAX_LINE: usize = 64 * 1024;
/// 256 KiB a wake-up: a chatty agent must not keep us from signals.
const MAX_CHUNKS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_may_arrive_in_any_pieces() {
        let text = "{\"phase\":{\"name\":\"attach\"}}\n\n{\"fatal\":{\"code\":78,\"message\":\"x\"}}\n";
        for size in 1..text.len() {
            let (mut lines, mut seen) = (Lines::default(), Arrived::default());
            assert!(text.as_bytes().chunks(size).all(|piece| lines.push(piece, &mut seen)));
            assert_eq!(
                seen.messages,
                [
                    FromAgent::Phase { name: "attach".into() },
                    FromAgent::Fatal { code: 78, message: "x".into() }
                ]
            );
            assert!(seen.unknown.is_empty(), "an empty line is nothing");
        }
    }

    #[test]
    fn a_message_of_a_newer_agent_is_reported_and_skipped() {
        let (mut lines, mut seen) = (Lines::default(), Arrived::default());
        assert!(lines.push(b"{\"novel\":{}}\n{\"phase\":{\"name\":\"a\"}}\n", &mut seen));
        assert_eq!(seen.unknown, ["{\"novel\":{}}"]);
        assert_eq!(seen.messages.len(), 1);
    }

    #[test]
    fn an_endless_line_is_cut_off() {
        let (ours, theirs) = Control::pair().unwrap();
        let (mut ours, mut theirs) = (ours, UnixStream::from(theirs));
        let writer = std::thread::spawn(move || theirs.write_all(&[b'x'; 2 * MAX_LINE]));
        while !ours.read().closed {}
        drop(ours);
        // Broken pipe or all of it in the buffer: either way the writer is not held.
        let _ = writer.join().unwrap();
    }

    #[test]
    fn an_agent_that_does_not_read_does_not_block_us() {
        let (mut ours, theirs) = Control::pair().unwrap();
        let error = loop {
            if let Err(error) = ours.tell(&ToAgent::Flush {}) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        drop(theirs);
        assert!(ours.read().closed);
    }
}
