//! Listing and reading: several requests on the way at once, so that a round trip does not decide the pace. Touches the
//! network.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;

use super::session::{Open, Pending, Session, senseless};
use super::{TEMPORARY, Trouble, explained, parent};
use crate::format::sftp::{Answer, Attrs, Code, Name, Request};
use crate::store::{Kind, Object};

/// Every object below the folder at `path`, in no order; none where there is no such folder. `key` is the folder's,
/// `""` for the root.
pub(super) async fn list(session: &Session, path: String, key: &str) -> Result<Vec<Object>, Trouble> {
    let mut objects = Vec::new();
    let mut folders = vec![Folder { path, key: key.to_owned(), depth: 0 }];
    let mut flying = FuturesUnordered::new();
    loop {
        while flying.len() < FOLDERS
            && let Some(folder) = folders.pop()
        {
            flying.push(read_folder(session, folder));
        }
        match flying.next().await {
            None => return Ok(objects),
            Some(read) => {
                let (found, below) = read?;
                objects.extend(found);
                folders.extend(below);
            }
        }
    }
}

struct Folder {
    path: String,
    key: String,
    depth: usize,
}

/// The objects and the folders in a folder.
async fn read_folder(session: &Session, folder: Folder) -> Result<(Vec<Object>, Vec<Folder>), Trouble> {
    let (mut objects, mut folders) = (Vec::new(), Vec::new());
    let open = match session.open(&Request::OpenDir { path: &folder.path }).await? {
        Ok(open) => open,
        Err(Answer::Status(Code::NoSuchFile, _)) => {
            // Not there yet, or pruned since its parent was read. Of a file OpenSSH says the same.
            is_no_file(session, &folder.path).await?;
            return Ok((objects, folders));
        }
        Err(answer @ Answer::Status(Code::Failure, _)) => {
            is_no_file(session, &folder.path).await?;
            return Err(Trouble::of(&answer));
        }
        Err(other) => return Err(Trouble::of(&other)),
    };
    loop {
        let names = match session.ask(&Request::ReadDir { handle: &open.handle }).await? {
            Answer::Names(names) => names,
            Answer::Status(Code::End, _) => return Ok((objects, folders)),
            other => return Err(Trouble::of(&other)),
        };
        for Name { name, attrs } in names {
            // A name that is not text is none of ours and of no other reader's.
            let Ok(name) = std::str::from_utf8(&name) else { continue };
            if name == "." || name == ".." || name.contains('/') || name.ends_with(TEMPORARY) {
                continue;
            }
            let path =
                if folder.path == "/" { format!("/{name}") } else { format!("{}/{name}", folder.path) };
            let key = if folder.key.is_empty() { name.to_owned() } else { format!("{}/{name}", folder.key) };
            let attrs = match attrs.is_dir() {
                Some(_) => attrs,
                None => match attrs_of(session, &path).await? {
                    Some(attrs) => attrs,
                    None => continue,
                },
            };
            if attrs.is_dir() == Some(true) {
                if folder.depth < DEPTH {
                    folders.push(Folder { path, key, depth: folder.depth + 1 });
                }
            } else if attrs.is_file() {
                let Some(size) = attrs.size else {
                    return Err(Trouble::new(
                        Kind::Invalid,
                        format!("the server does not say how long {key} is"),
                    ));
                };
                objects.push(Object { key, size, created: created(&attrs) });
            }
        }
    }
}

/// A file where a folder should be is a mistake in the configuration, and no proof that there is no replica.
async fn is_no_file(session: &Session, path: &str) -> Result<(), Trouble> {
    let mut next = Some(path);
    while let Some(path) = next {
        match attrs_of(session, path).await? {
            Some(attrs) if attrs.is_dir() == Some(false) => {
                return Err(Trouble::new(Kind::Invalid, format!("{path} is not a directory")));
            }
            Some(_) => break,
            None => next = parent(path),
        }
    }
    Ok(())
}

/// The attributes of what is at `path`, links followed; `None` where there is nothing.
pub(super) async fn attrs_of(session: &Session, path: &str) -> Result<Option<Attrs>, Trouble> {
    match session.ask(&Request::Stat { path }).await? {
        Answer::Attrs(attrs) => Ok(Some(attrs)),
        Answer::Status(Code::NoSuchFile, _) => Ok(None),
        other => Err(Trouble::of(&other)),
    }
}

fn created(attrs: &Attrs) -> Timestamp {
    Timestamp::from_second(attrs.modified.unwrap_or(0).into()).unwrap_or_default()
}

/// The bytes of a file, or of a range that must lie in it.
pub(super) async fn get(session: &Session, path: &str, range: Option<Range<u64>>) -> Result<Bytes, Trouble> {
    let open = match session.open(&Request::Open { path }).await? {
        Ok(open) => open,
        Err(answer @ Answer::Status(Code::Failure, _)) => {
            return Err(explained(session, path, Trouble::of(&answer)).await);
        }
        Err(answer) => return Err(Trouble::of(&answer)),
    };
    let range = match range {
        Some(range) => range,
        None => match session.ask(&Request::Fstat { handle: &open.handle }).await? {
            Answer::Attrs(Attrs { size: Some(size), .. }) => 0..size,
            Answer::Attrs(_) => {
                return Err(Trouble::new(Kind::Invalid, "the server does not say how long it is"));
            }
            other => return Err(Trouble::of(&other)),
        },
    };
    read(session, &open, range).await
}

/// Part of a file that is on its way.
struct Part {
    at: u64,
    len: u32,
    pending: Pending,
}

async fn read(session: &Session, open: &Open, range: Range<u64>) -> Result<Bytes, Trouble> {
    let len =
        usize::try_from(range.end.saturating_sub(range.start)).map_err(|e| Trouble::new(Kind::Invalid, e))?;
    let mut buf = BytesMut::zeroed(len);
    let mut flying: VecDeque<Part> = VecDeque::new();
    let ask = async |at: u64, len: u32| {
        let pending = session.send(&Request::Read { handle: &open.handle, at, len }, Bytes::new()).await?;
        Ok::<_, Trouble>(Part { at, len, pending })
    };
    let mut next = range.start;
    loop {
        while flying.len() < READS && next < range.end {
            let len = u32::try_from(range.end - next).unwrap_or(PART).min(PART);
            flying.push_back(ask(next, len).await?);
            next += u64::from(len);
        }
        let Some(Part { at, len, pending }) = flying.pop_front() else { return Ok(buf.freeze()) };
        let data = match pending.answer().await? {
            Answer::Data(data) if !data.is_empty() && data.len() <= len as usize => data,
            Answer::Data(_) => {
                return Err(Trouble::new(Kind::Invalid, "the server sent another length than was asked for"));
            }
            Answer::Status(Code::End, _) => {
                return Err(Trouble::new(Kind::Invalid, "shorter than it was listed"));
            }
            answer @ Answer::Status(..) => return Err(Trouble::of(&answer)),
            other => return Err(senseless(&other)),
        };
        let from = usize::try_from(at - range.start).map_err(|e| Trouble::new(Kind::Invalid, e))?;
        buf[from..from + data.len()].copy_from_slice(&data);
        // A server may send less than it was asked for.
        let got = u32::try_from(data.len()).unwrap_or(len);
        if got < len {
            flying.push_front(ask(at + u64::from(got), len - got).await?);
        }
    }
}

/// What every server reads at once.
const PART: u32 = 32 << 10;
/// Parts on the wire: a megabyte, enough for 100 Mbit/s at 80 ms.
const READS: usize = 32;
/// Folders being read at once.
const FOLDERS: usize = 8;
/// Folders of the layout are three deep; the bound only keeps a cycle of links from being walked for ever.
const DEPTH: usize = 8;
