//! HTTP/1.1 as far as it has to be understood to be passed on unchanged. Touches one connection.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// A socket that can be hung up on from elsewhere.
pub(super) struct Plain(pub(super) Arc<TcpStream>);

impl Read for Plain {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self.0).read(buf)
    }
}

impl Write for Plain {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self.0).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.0).flush()
    }
}

/// One end of a connection, with what was read of it and not yet used.
pub(super) struct Wire<S> {
    stream: S,
    buf: Vec<u8>,
}

/// The first line and the headers.
pub(super) struct Head {
    /// As they came, with the empty line.
    pub(super) bytes: Vec<u8>,
    text: String,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// Until the connection is closed.
    ToTheEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    All,
    /// As many bytes as were allowed.
    Enough,
    /// An end hung up, or made no sense.
    Broken,
}

impl Head {
    /// `PUT /bucket/key HTTP/1.1`, `HTTP/1.1 200 OK`
    pub(super) fn first(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// Of the body, as it is announced.
    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    pub(super) fn request_framing(&self) -> Framing {
        match self.header("transfer-encoding") {
            Some(_) => Framing::Chunked,
            None => Framing::Length(self.length().unwrap_or(0)),
        }
    }

    /// `request` is the first line of what it answers.
    pub(super) fn answer_framing(&self, request: &str) -> Framing {
        let status = self.first().split(' ').nth(1).unwrap_or_default();
        if request.starts_with("HEAD ") || matches!(status, "204" | "304") {
            return Framing::Length(0);
        }
        match (self.header("transfer-encoding"), self.length()) {
            (Some(_), _) => Framing::Chunked,
            (None, Some(length)) => Framing::Length(length),
            (None, None) => Framing::ToTheEnd,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut pairs = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        pairs.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl<S: Read + Write> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buf: Vec::new() }
    }

    /// The next request's or answer's; `None` when there is none.
    pub(super) fn head(&mut self) -> Option<Head> {
        let bytes = self.up_to(b"\r\n\r\n")?;
        Some(Head { text: String::from_utf8(bytes.clone()).ok()?, bytes })
    }

    /// Whether it went out.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    /// Passes a body on as it comes, `at_most` so many bytes of it.
    pub(super) fn copy(&mut self, to: &mut impl Write, body: Framing, at_most: Option<u64>) -> Copied {
        let mut left = at_most;
        match body {
            Framing::Length(length) => self.pass(to, Some(length), &mut left),
            Framing::ToTheEnd => self.pass(to, None, &mut left),
            Framing::Chunked => loop {
                let Some(line) = self.up_to(b"\r\n") else { return Copied::Broken };
                let size = String::from_utf8_lossy(&line);
                let size = size.trim().split(';').next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
                let Some(size) = size else { return Copied::Broken };
                if to.write_all(&line).is_err() {
                    return Copied::Broken;
                }
                match self.pass(to, Some(size + 2), &mut left) {
                    Copied::All if size > 0 => {}
                    end => return end,
                }
            },
        }
    }

    /// `length` bytes, or all there are.
    fn pass(&mut self, to: &mut impl Write, length: Option<u64>, left: &mut Option<u64>) -> Copied {
        let mut todo = length.unwrap_or(u64::MAX);
        while todo > 0 {
            if *left == Some(0) {
                let _ = to.flush();
                return Copied::Enough;
            }
            if self.buf.is_empty() && self.fill().is_none() {
                return if length.is_none() { Copied::All } else { Copied::Broken };
            }
            let take = (self.buf.len() as u64).min(todo).min(left.unwrap_or(u64::MAX));
            if to.write_all(&self.buf[..take as usize]).is_err() {
                return Copied::Broken;
            }
            self.buf.drain(..take as usize);
            todo -= take;
            *left = left.map(|left| left - take);
        }
        if to.flush().is_ok() { Copied::All } else { Copied::Broken }
    }

    fn up_to(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buf.windows(mark.len()).position(|w| w == mark) {
                return Some(self.buf.drain(..at + mark.len()).collect());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Option<()> {
        let mut part = [0; 65536];
        match self.stream.read(&mut part) {
            Ok(n) if n > 0 => {
                self.buf.extend_from_slice(&part[..n]);
                Some(())
            }
            _ => None,
        }
    }
}

/// What is copied to it is sent.
impl<S: Write> Write for Wire<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
