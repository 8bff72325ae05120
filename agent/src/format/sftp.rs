//! SFTP, version 3: requests to bytes, bytes to answers (draft-ietf-secsh-filexfer-02; the extensions are OpenSSH's).
//! No I/O.
//!
//! ```text
//! length u32 │ type u8 │ id u32 │ fields        all big-endian; a string is its length u32 and its bytes
//! ```
//! The length counts what follows it. The bytes of a write are not part of what [`Request::encode`] gives: they follow
//! it, so that nobody copies them. Handles and names are bytes; what they mean is the server's business.

mod answer;

pub use answer::{Answer, Attrs, Code, Extensions, Malformed, Name, Packets, Space, answer};

/// What a client asks for. Paths are relative to the login directory or absolute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Opens for reading.
    Open {
        path: &'a str,
    },
    /// Creates a file that is not there yet, for writing.
    Create {
        path: &'a str,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        at: u64,
        len: u32,
    },
    /// `len` bytes follow the encoded request.
    Write {
        handle: &'a [u8],
        at: u64,
        len: u32,
    },
    /// Sets both dates of an open file, in seconds since 1970.
    Date {
        handle: &'a [u8],
        seconds: u32,
    },
    /// The attributes of an open file.
    Fstat {
        handle: &'a [u8],
    },
    /// The attributes of what a path leads to, links followed.
    Stat {
        path: &'a str,
    },
    OpenDir {
        path: &'a str,
    },
    ReadDir {
        handle: &'a [u8],
    },
    Remove {
        path: &'a str,
    },
    MakeDir {
        path: &'a str,
    },
    RemoveDir {
        path: &'a str,
    },
    /// Fails on OpenSSH if `to` exists, as the draft wants; servers that do otherwise are known.
    Rename {
        from: &'a str,
        to: &'a str,
    },
    /// `hardlink@openssh.com`: fails if `to` exists.
    Link {
        from: &'a str,
        to: &'a str,
    },
    /// `fsync@openssh.com`
    Sync {
        handle: &'a [u8],
    },
    /// `statvfs@openssh.com`
    Space {
        path: &'a str,
    },
}

/// The first packet of a client: it speaks version 3.
pub const INIT: [u8; 9] = [0, 0, 0, 5, 1, 0, 0, 0, 3];

impl Request<'_> {
    /// The packet, up to the bytes of a write.
    pub fn encode(&self, id: u32) -> Vec<u8> {
        let mut out = vec![0; 4];
        out.push(self.number());
        out.extend(id.to_be_bytes());
        let mut follows = 0;
        match *self {
            Self::Open { path } => {
                string(&mut out, path.as_bytes());
                words(&mut out, &[READ, 0]);
            }
            Self::Create { path } => {
                string(&mut out, path.as_bytes());
                // No attributes: the server's umask decides the mode, as with both Litestreams.
                words(&mut out, &[WRITE | CREATE | EXCLUSIVE, 0]);
            }
            Self::Close { handle } | Self::Fstat { handle } | Self::ReadDir { handle } => {
                string(&mut out, handle);
            }
            Self::Read { handle, at, len } => {
                string(&mut out, handle);
                out.extend(at.to_be_bytes());
                words(&mut out, &[len]);
            }
            Self::Write { handle, at, len } => {
                string(&mut out, handle);
                out.extend(at.to_be_bytes());
                words(&mut out, &[len]);
                follows = len;
            }
            Self::Date { handle, seconds } => {
                string(&mut out, handle);
                words(&mut out, &[answer::DATES, seconds, seconds]);
            }
            Self::Stat { path }
            | Self::OpenDir { path }
            | Self::Remove { path }
            | Self::RemoveDir { path } => {
                string(&mut out, path.as_bytes());
            }
            Self::MakeDir { path } => {
                string(&mut out, path.as_bytes());
                words(&mut out, &[0]);
            }
            Self::Rename { from, to } => {
                string(&mut out, from.as_bytes());
                string(&mut out, to.as_bytes());
            }
            Self::Link { from, to } => {
                string(&mut out, Extensions::LINK);
                string(&mut out, from.as_bytes());
                string(&mut out, to.as_bytes());
            }
            Self::Sync { handle } => {
                string(&mut out, Extensions::SYNC);
                string(&mut out, handle);
            }
            Self::Space { path } => {
                string(&mut out, Extensions::SPACE);
                string(&mut out, path.as_bytes());
            }
        }
        let len = u32::try_from(out.len() - 4).unwrap_or(u32::MAX).saturating_add(follows);
        out[..4].copy_from_slice(&len.to_be_bytes());
        out
    }

    const fn number(&self) -> u8 {
        match self {
            Self::Open { .. } | Self::Create { .. } => 3,
            Self::Close { .. } => 4,
            Self::Read { .. } => 5,
            Self::Write { .. } => 6,
            Self::Fstat { .. } => 8,
            Self::Date { .. } => 10,
            Self::OpenDir { .. } => 11,
            Self::ReadDir { .. } => 12,
            Self::Remove { .. } => 13,
            Self::MakeDir { .. } => 14,
            Self::RemoveDir { .. } => 15,
            Self::Stat { .. } => 17,
            Self::Rename { .. } => 18,
            Self::Link { .. } | Self::Sync { .. } | Self::Space { .. } => 200,
        }
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    words(out, &[u32::try_from(text.len()).unwrap_or(u32::MAX)]);
    out.extend(text);
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend(word.to_be_bytes());
    }
}

const READ: u32 = 1;
const WRITE: u32 = 2;
const CREATE: u32 = 8;
const EXCLUSIVE: u32 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_the_draft_says() {
        let cases: &[(Request<'_>, &[u8])] = &[
            (Request::Open { path: "/a" }, b"\0\0\0\x13\x03\0\0\0\x07\0\0\0\x02/a\0\0\0\x01\0\0\0\0"),
            (Request::Create { path: "a" }, b"\0\0\0\x12\x03\0\0\0\x07\0\0\0\x01a\0\0\0\x2a\0\0\0\0"),
            (
                Request::Write { handle: &[0xff], at: 1 << 32, len: 5 },
                b"\0\0\0\x1b\x06\0\0\0\x07\0\0\0\x01\xff\0\0\0\x01\0\0\0\0\0\0\0\x05",
            ),
            (
                Request::Date { handle: b"h", seconds: 2 },
                b"\0\0\0\x16\x0a\0\0\0\x07\0\0\0\x01h\0\0\0\x08\0\0\0\x02\0\0\0\x02",
            ),
            (
                Request::Link { from: "a", to: "b" },
                b"\0\0\0\x27\xc8\0\0\0\x07\0\0\0\x14hardlink@openssh.com\0\0\0\x01a\0\0\0\x01b",
            ),
        ];
        for (request, bytes) in cases {
            assert_eq!(request.encode(7), *bytes, "{request:?}");
        }
    }
}
