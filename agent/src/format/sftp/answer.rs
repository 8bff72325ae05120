//! What a server answers, from untrusted bytes: nothing of it is believed beyond its length.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

/// One answer, without its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To the first packet: what the server can do beyond version 3.
    Version(Extensions),
    /// How it went, and the server's words.
    Status(Code, String),
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<Name>),
    Attrs(Attrs),
    /// To a request of an extension, its fields.
    Extended(Bytes),
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Ok,
    /// The end of a file or of a folder.
    End,
    NoSuchFile,
    PermissionDenied,
    /// Anything else: OpenSSH says so of a file that exists, of a full disk and of a read-only one.
    Failure,
    BadMessage,
    Unsupported,
    Other(u32),
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Without the folder; also `.` and `..`.
    pub name: Bytes,
    /// Of the entry itself: links are not followed.
    pub attrs: Attrs,
}

/// What is known of a file; each part is there or not as the server likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attrs {
    pub size: Option<u64>,
    /// Type and permissions, as `st_mode`.
    pub mode: Option<u32>,
    /// The time of the last write, in seconds since 1970.
    pub modified: Option<u32>,
}

/// The extensions we use, where the server has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions {
    pub link: bool,
    pub sync: bool,
    pub space: bool,
}

/// What is left of the file system a path is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes an unprivileged user may still write.
    pub bytes: u64,
    /// Files that may still be created; `None` where nobody counts.
    pub files: Option<u64>,
    pub read_only: bool,
}

/// An answer that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Malformed {
    /// A packet of so many bytes, more than any answer has.
    Long(u32),
    /// It ends within a field.
    Short,
    /// A type that is no answer.
    Type(u8),
    /// Another version of the protocol than 3.
    Version(u32),
}

/// Reads one packet, without its length. An answer to the first packet has no id: it is 0.
pub fn answer(mut packet: Bytes) -> Result<(u32, Answer), Malformed> {
    let kind = u8::try_from(take(&mut packet, 1)?.get_uint(1)).map_err(|_| Malformed::Short)?;
    let number = u32(&mut packet)?;
    let answer = match kind {
        2 if number == 3 => return Ok((0, Answer::Version(Extensions::read(packet)?))),
        2 => return Err(Malformed::Version(number)),
        101 => {
            let code = Code::new(u32(&mut packet)?);
            // Version 3 has words here; some servers leave them out.
            let words = if packet.is_empty() { Bytes::new() } else { string(&mut packet)? };
            Answer::Status(code, String::from_utf8_lossy(&words).into_owned())
        }
        102 => Answer::Handle(string(&mut packet)?),
        103 => Answer::Data(string(&mut packet)?),
        104 => {
            let count = u32(&mut packet)?;
            let mut names = Vec::new();
            for _ in 0..count {
                let name = string(&mut packet)?;
                // The same in words, for people.
                string(&mut packet)?;
                names.push(Name { name, attrs: Attrs::read(&mut packet)? });
            }
            Answer::Names(names)
        }
        105 => Answer::Attrs(Attrs::read(&mut packet)?),
        201 => Answer::Extended(packet),
        other => return Err(Malformed::Type(other)),
    };
    Ok((number, answer))
}

impl Code {
    const fn new(number: u32) -> Self {
        match number {
            0 => Self::Ok,
            1 => Self::End,
            2 => Self::NoSuchFile,
            3 => Self::PermissionDenied,
            4 => Self::Failure,
            5 => Self::BadMessage,
            8 => Self::Unsupported,
            other => Self::Other(other),
        }
    }
}

impl Attrs {
    fn read(from: &mut Bytes) -> Result<Self, Malformed> {
        let flags = u32(from)?;
        let mut attrs = Self::default();
        if flags & SIZE != 0 {
            attrs.size = Some(u64(from)?);
        }
        if flags & OWNER != 0 {
            u64(from)?;
        }
        if flags & MODE != 0 {
            attrs.mode = Some(u32(from)?);
        }
        if flags & DATES != 0 {
            u32(from)?;
            attrs.modified = Some(u32(from)?);
        }
        if flags & EXTENDED != 0 {
            for _ in 0..u32(from)? {
                string(from)?;
                string(from)?;
            }
        }
        Ok(attrs)
    }

    /// `None` where the server does not say, or it is a link.
    pub fn is_dir(&self) -> Option<bool> {
        match self.mode? & TYPE {
            LINK => None,
            kind => Some(kind == DIR),
        }
    }

    pub fn is_file(&self) -> bool {
        self.mode.is_some_and(|mode| mode & TYPE == FILE)
    }
}

impl Extensions {
    pub(super) const LINK: &[u8] = b"hardlink@openssh.com";
    pub(super) const SYNC: &[u8] = b"fsync@openssh.com";
    pub(super) const SPACE: &[u8] = b"statvfs@openssh.com";

    fn read(mut from: Bytes) -> Result<Self, Malformed> {
        let mut found = Self::default();
        while !from.is_empty() {
            let name = string(&mut from)?;
            // The version of it.
            string(&mut from)?;
            found.link |= name == Self::LINK;
            found.sync |= name == Self::SYNC;
            found.space |= name == Self::SPACE;
        }
        Ok(found)
    }
}

impl Space {
    /// From the answer to [`super::Request::Space`]: eleven numbers, as `statvfs` has them.
    pub fn read(mut fields: Bytes) -> Result<Self, Malformed> {
        let mut numbers = [0; 11];
        for number in &mut numbers {
            *number = u64(&mut fields)?;
        }
        let [_, block, _, _, free, files, _, files_free, _, flags, _] = numbers;
        Ok(Self {
            bytes: free.saturating_mul(block),
            files: (files > 0).then_some(files_free),
            read_only: flags & 1 != 0,
        })
    }
}

/// Cuts a stream into packets.
#[derive(Debug, Default)]
pub struct Packets {
    buffer: BytesMut,
}

impl Packets {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet without its length, if it is there.
    pub fn packet(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(length) = self.buffer.first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        if length > LONGEST {
            return Err(Malformed::Long(length));
        }
        if self.buffer.len() < 4 + length as usize {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length as usize).freeze()))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long(len) => {
                write!(f, "a packet of {len} bytes; is the server's login silent, and is it SFTP?")
            }
            Self::Short => f.write_str("a packet that ends within a field"),
            Self::Type(number) => write!(f, "a packet of type {number}"),
            Self::Version(number) => write!(f, "version {number} of SFTP, where 3 was asked for"),
        }
    }
}

impl std::error::Error for Malformed {}

fn take(from: &mut Bytes, len: usize) -> Result<Bytes, Malformed> {
    if from.len() < len { Err(Malformed::Short) } else { Ok(from.split_to(len)) }
}

fn u32(from: &mut Bytes) -> Result<u32, Malformed> {
    Ok(take(from, 4)?.get_u32())
}

fn u64(from: &mut Bytes) -> Result<u64, Malformed> {
    Ok(take(from, 8)?.get_u64())
}

fn string(from: &mut Bytes) -> Result<Bytes, Malformed> {
    let len = u32(from)?;
    take(from, len as usize)
}

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
pub(super) const DATES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

const TYPE: u32 = 0o170_000;
const DIR: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// OpenSSH's own limit is 256 KiB.
const LONGEST: u32 = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &'static [u8]) -> Result<(u32, Answer), Malformed> {
        answer(Bytes::from_static(bytes))
    }

    #[test]
    fn an_answer_is_what_the_draft_says() {
        let version = b"\x02\0\0\0\x03\0\0\0\x14hardlink@openssh.com\0\0\0\x011\0\0\0\x01x\0\0\0\0";
        let link = Extensions { link: true, ..Extensions::default() };
        assert_eq!(read(version), Ok((0, Answer::Version(link))));
        assert_eq!(
            read(b"\x65\0\0\0\x07\0\0\0\x04\0\0\0\x07Failure\0\0\0\0"),
            Ok((7, Answer::Status(Code::Failure, "Failure".into())))
        );
        assert_eq!(read(b"\x65\0\0\0\x07\0\0\0\x01"), Ok((7, Answer::Status(Code::End, String::new()))));
        assert_eq!(
            read(b"\x66\0\0\0\x07\0\0\0\x02\xff\0"),
            Ok((7, Answer::Handle(Bytes::from_static(b"\xff\0"))))
        );
        let names = b"\x68\0\0\0\x07\0\0\0\x01\0\0\0\x01a\0\0\0\x02-r\0\0\0\x0f\0\0\0\0\0\0\0\x05\
            \0\0\0\x01\0\0\0\x01\0\0\x81\xa4\0\0\0\x08\0\0\0\x09";
        let Ok((7, Answer::Names(names))) = read(names) else { panic!("{:?}", read(names)) };
        assert_eq!(names[0].name, "a");
        assert_eq!(names[0].attrs, Attrs { size: Some(5), mode: Some(0o100_644), modified: Some(9) });
        assert!(names[0].attrs.is_file());
    }

    #[test]
    fn bytes_that_are_no_answer_are_refused() {
        for (bytes, want) in [
            (&b""[..], Malformed::Short),
            (b"\x65\0\0\0", Malformed::Short),
            (b"\x66\0\0\0\x07\xff\xff\xff\xff", Malformed::Short),
            (b"\x68\0\0\0\x07\xff\xff\xff\xff", Malformed::Short),
            (b"\x02\0\0\0\x06", Malformed::Version(6)),
            (b"\x03\0\0\0\x07", Malformed::Type(3)),
        ] {
            assert_eq!(read(bytes), Err(want), "{bytes:?}");
        }
        let mut packets = Packets::default();
        packets.push(b"Welcome to");
        let e = packets.packet().unwrap_err();
        assert_eq!(
            e.to_string(),
            "a packet of 1466264675 bytes; is the server's login silent, and is it SFTP?"
        );
    }

    #[test]
    fn a_stream_is_cut_wherever_it_arrives() {
        let stream = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c";
        for cut in 0..stream.len() {
            let mut packets = Packets::default();
            let mut found = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                packets.push(part);
                while let Some(packet) = packets.packet().unwrap() {
                    found.push(packet);
                }
            }
            assert_eq!(found, [&b"ab"[..], b"", b"c"], "{cut}");
        }
    }

    #[test]
    fn what_is_left_of_a_file_system_is_what_an_unprivileged_user_may_use() {
        let numbers: [u64; 11] = [4096, 512, 100, 50, 3, 10, 5, 2, 0, 1, 255];
        let fields: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        let space = Space::read(fields.into()).unwrap();
        assert_eq!(space, Space { bytes: 1536, files: Some(2), read_only: true });
        assert_eq!(Space::read(Bytes::from_static(&[0; 80])), Err(Malformed::Short));
    }
}
