//! HTTP/1.1 as far as a storage client speaks it. Touches one connection.

use std::io::{Read, Write};
use std::net::TcpStream;

/// A request, whole.
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query as they were sent.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// Names are in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The headers whose names start with `prefix`, without it.
    pub(crate) fn headers_of(&self, prefix: &str) -> Vec<(String, String)> {
        let own =
            |(name, value): &(String, String)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone()));
        self.headers.iter().filter_map(own).collect()
    }

    /// The path, decoded.
    pub(crate) fn path(&self) -> String {
        decoded(self.target.split('?').next().unwrap_or_default())
    }

    /// A parameter of the query, decoded; `Some` also where it has no value.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| {
            let (n, value) = pair.split_once('=').unwrap_or((pair, ""));
            (n == name).then(|| decoded(&value.replace('+', " ")))
        })
    }
}

/// An answer.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// What HEAD says of the length, if it is not that of the body.
    pub(crate) length: Option<u64>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    buf: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        Self { stream, buf: Vec::new() }
    }

    /// The next request; `None` when the client has gone or makes no sense.
    pub(crate) fn next_request(&mut self) -> Option<Request> {
        let end = loop {
            if let Some(at) = self.buf.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            // Whoever speaks something else, TLS for one, is told so as other servers do.
            if self.buf.first().is_some_and(|b| !b.is_ascii_uppercase()) {
                let _ = self.stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
                return None;
            }
            self.fill()?;
        };
        let head = String::from_utf8(self.buf[..end].to_vec()).ok()?;
        let mut lines = head.lines();
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut request = Request { method, target, headers, body: Vec::new() };
        let length = request.header("content-length").map_or(Some(0), |n| n.parse().ok())?;
        while self.buf.len() < end + length {
            self.fill()?;
        }
        request.body = self.buf[end..end + length].to_vec();
        self.buf.drain(..end + length);
        Some(request)
    }

    /// Whether it went out.
    pub(crate) fn send(&mut self, to: &Request, answer: &Answer) -> bool {
        let length = answer.length.unwrap_or(answer.body.len() as u64);
        let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
        let mut head =
            format!("HTTP/1.1 {} X\r\ndate: {date}\r\ncontent-length: {length}\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if to.method != "HEAD" {
            bytes.extend_from_slice(&answer.body);
        }
        self.stream.write_all(&bytes).is_ok()
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

/// With its percent sequences decoded.
pub(crate) fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&b, after)) = rest.split_first() {
        let hex = (b == b'%').then(|| after.get(..2)).flatten().and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &after[2..];
            }
            None => {
                out.push(b);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
