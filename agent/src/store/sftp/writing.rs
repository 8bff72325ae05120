//! Creating objects, and removing them. Touches the network. Memory: the part that fills, and as many as are on the wire.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::session::{Open, Pending, Session};
use super::{Sftp, TEMPORARY, Trouble, explained, parent, reading, succeeded};
use crate::durable;
use crate::format::sftp::{Answer, Code, Request};
use crate::store::{Kind, Put, StoreError};

/// A file being written. Dropped, it is removed in the background.
pub(in crate::store) struct Writer {
    sftp: Arc<Sftp>,
    session: Arc<Session>,
    verb: &'static str,
    key: String,
    /// Its name until it is published.
    temp: String,
    file: Option<Open>,
    /// What [`Writer::publish`] dates it, if not now.
    pub(in crate::store) date: Option<Timestamp>,
    /// Never sent before more follows: the last write dates the file, so it has to be the last thing that happens.
    held: BytesMut,
    /// Bytes sent.
    sent: u64,
    /// Oldest first.
    flying: VecDeque<Pending>,
    /// The last bytes written.
    tail: Vec<u8>,
}

impl Writer {
    /// Creates the file, and the folders it is in where they are missing.
    pub(super) async fn create(
        sftp: Arc<Sftp>,
        session: Arc<Session>,
        verb: &'static str,
        key: String,
    ) -> Result<Self, Trouble> {
        let temp = format!("{}.{:016x}{TEMPORARY}", sftp.path(&key), durable::random());
        let file = match session.open(&Request::Create { path: &temp }).await? {
            Ok(file) => file,
            Err(Answer::Status(Code::NoSuchFile, _)) => {
                make_folder(&session, parent(&temp).unwrap_or(".")).await?;
                match session.open(&Request::Create { path: &temp }).await? {
                    Ok(file) => file,
                    Err(answer) => return Err(refused(&session, &temp, answer).await),
                }
            }
            Err(answer) => return Err(refused(&session, &temp, answer).await),
        };
        let held = BytesMut::new();
        let (flying, tail) = (VecDeque::new(), Vec::new());
        Ok(Self { sftp, session, verb, key, temp, file: Some(file), date: None, held, sent: 0, flying, tail })
    }

    /// Appends `body`. Waits while enough is on its way.
    pub(in crate::store) async fn write(&mut self, body: Bytes) -> Result<(), StoreError> {
        self.tail.extend_from_slice(&body[body.len().saturating_sub(TAIL)..]);
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        let asked = self.sftp.pulse.begin(self.verb, &self.sftp.object(&self.key));
        let done = self.append(body).await.map_err(|trouble| self.error(trouble));
        asked.done(&done);
        done
    }

    /// Dates it, makes it durable and visible.
    pub(in crate::store) async fn publish(mut self) -> Result<Put, StoreError> {
        let asked = self.sftp.pulse.begin(self.verb, &self.sftp.object(&self.key));
        let done = self.finish().await.map_err(|trouble| self.error(trouble));
        asked.done(&done);
        if let Ok(Put::Created) = done {
            // Its temporary name is gone, or soon is: nothing to discard.
            self.file = None;
        } else {
            self.discard().await;
        }
        done
    }

    /// Leaves nothing behind, and waits until that is so.
    pub(in crate::store) async fn abort(mut self) {
        self.discard().await;
    }

    async fn append(&mut self, mut body: Bytes) -> Result<(), Trouble> {
        while !body.is_empty() {
            if self.held.len() == PART {
                let full = self.held.split().freeze();
                self.send(full).await?;
            }
            if self.held.is_empty() && body.len() > PART {
                self.send(body.split_to(PART)).await?;
            } else {
                let more = body.split_to(body.len().min(PART - self.held.len()));
                self.held.extend_from_slice(&more);
            }
        }
        Ok(())
    }

    async fn send(&mut self, part: Bytes) -> Result<(), Trouble> {
        let most = if self.sftp.config.concurrent_writes { WRITES } else { 1 };
        while self.flying.len() >= most {
            self.land().await?;
        }
        let Some(file) = &self.file else { return Err(over()) };
        let len = u32::try_from(part.len()).map_err(|e| Trouble::new(Kind::Invalid, e))?;
        let request = Request::Write { handle: &file.handle, at: self.sent, len };
        self.flying.push_back(self.session.send(&request, part).await?);
        self.sent += u64::from(len);
        Ok(())
    }

    /// Waits for the oldest write on its way.
    async fn land(&mut self) -> Result<(), Trouble> {
        match self.flying.pop_front() {
            Some(write) => succeeded(&self.session, &self.temp, write.answer().await?).await,
            None => Ok(()),
        }
    }

    async fn finish(&mut self) -> Result<Put, Trouble> {
        let last = self.held.split().freeze();
        if !last.is_empty() {
            self.send(last).await?;
        }
        while !self.flying.is_empty() {
            self.land().await?;
        }
        let Some(file) = &self.file else { return Err(over()) };
        let (session, temp) = (&self.session, &self.temp);
        if let Some(date) = self.date {
            // To the second, as SFTP has it and both Litestreams write it: the fraction is cut.
            let seconds = u32::try_from(date.as_second()).unwrap_or_default();
            let dated = session.ask(&Request::Date { handle: &file.handle, seconds }).await?;
            succeeded(session, temp, dated).await?;
        }
        sync(session, temp, file).await?;
        let path = self.sftp.path(&self.key);
        match name(session, temp, &path).await? {
            Named::Linked => {
                // Once more, for the name: a journal that holds the file's newest state holds its link, too.
                sync(session, &path, file).await?;
                let removed = session.ask(&Request::Remove { path: temp }).await?;
                if !matches!(removed, Answer::Status(Code::Ok | Code::NoSuchFile, _)) {
                    self.sftp.leave(temp.clone());
                }
                Ok(Put::Created)
            }
            Named::Renamed => {
                sync(session, &path, file).await?;
                Ok(Put::Created)
            }
            Named::Taken => self.compare(&path).await,
        }
    }

    /// Whether what has the name is what an earlier attempt wrote: as long, and with the same end, which in an LZ4 frame
    /// and in an LTX file is the checksum of all of it. If so, it is made durable, as that attempt may have died before.
    async fn compare(&self, path: &str) -> Result<Put, Trouble> {
        let diverged = || Trouble::new(Kind::Diverged, "");
        let there = reading::attrs_of(&self.session, path).await?.and_then(|attrs| attrs.size);
        let tail = self.sent - self.tail.len() as u64..self.sent;
        if there != Some(self.sent) || reading::get(&self.session, path, Some(tail)).await? != self.tail {
            return Err(diverged());
        }
        let file =
            self.session.open(&Request::Open { path }).await?.map_err(|answer| Trouble::of(&answer))?;
        sync(&self.session, path, &file).await?;
        Ok(Put::AlreadyThere)
    }

    async fn discard(&mut self) {
        if self.file.take().is_some() {
            discard(&self.sftp, &self.session, std::mem::take(&mut self.temp)).await;
        }
    }

    fn error(&self, trouble: Trouble) -> StoreError {
        self.sftp.error(self.verb, &self.key, trouble)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            let (sftp, session, temp) =
                (self.sftp.clone(), self.session.clone(), std::mem::take(&mut self.temp));
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(async move { discard(&sftp, &session, temp).await })),
                Err(_) => sftp.leave(temp),
            }
        }
    }
}

/// Removes each of `paths`; what is not there counts as removed.
pub(super) async fn remove(session: &Session, paths: &[String]) -> Result<Vec<Result<(), Trouble>>, Trouble> {
    let mut done = Vec::with_capacity(paths.len());
    let mut flying: VecDeque<(&String, Pending)> = VecDeque::new();
    let mut rest = paths.iter();
    loop {
        while flying.len() < WRITES
            && let Some(path) = rest.next()
        {
            flying.push_back((path, session.send(&Request::Remove { path }, Bytes::new()).await?));
        }
        let Some((path, removed)) = flying.pop_front() else { return Ok(done) };
        done.push(match removed.answer().await? {
            Answer::Status(Code::NoSuchFile, _) => Ok(()),
            answer => succeeded(session, path, answer).await,
        });
    }
}

/// Removes the folders below `root` that `paths` were in, as far as they are empty; the first in use ends it.
pub(super) async fn prune(session: &Session, root: &str, paths: &[String]) -> Result<(), Trouble> {
    let below = |folder: &&str| *folder != root && (root == "." || folder.starts_with(root));
    let folders: BTreeSet<_> = paths.iter().filter_map(|path| parent(path)).collect();
    // From the deepest: a folder sorts before what is in it.
    for folder in folders.into_iter().rev() {
        let mut next = Some(folder).filter(below);
        while let Some(path) = next {
            match session.ask(&Request::RemoveDir { path }).await? {
                Answer::Status(Code::Ok, _) => next = parent(path).filter(below),
                _ => break,
            }
        }
    }
    Ok(())
}

enum Named {
    Linked,
    Renamed,
    Taken,
}

/// Gives a file its name unless the name is taken.
async fn name(session: &Session, from: &str, to: &str) -> Result<Named, Trouble> {
    if session.extensions.link {
        match session.ask(&Request::Link { from, to }).await? {
            Answer::Status(Code::Ok, _) => return Ok(Named::Linked),
            // Taken, or a file system without links.
            Answer::Status(
                Code::Failure | Code::Unsupported | Code::PermissionDenied | Code::Other(_),
                _,
            ) => {}
            answer => return Err(Trouble::of(&answer)),
        }
    }
    if reading::attrs_of(session, to).await?.is_some() {
        return Ok(Named::Taken);
    }
    match session.ask(&Request::Rename { from, to }).await? {
        Answer::Status(Code::Ok, _) => Ok(Named::Renamed),
        answer if reading::attrs_of(session, to).await?.is_some() => {
            drop(answer);
            Ok(Named::Taken)
        }
        answer => Err(refused(session, to, answer).await),
    }
}

/// Makes a folder and those it is in.
async fn make_folder(session: &Session, path: &str) -> Result<(), Trouble> {
    let mut missing = vec![path];
    while let Some(path) = missing.last().copied() {
        match session.ask(&Request::MakeDir { path }).await? {
            Answer::Status(Code::Ok, _) => missing.truncate(missing.len() - 1),
            Answer::Status(Code::NoSuchFile, _) if missing.len() <= DEEPEST => match parent(path) {
                Some(above) => missing.push(above),
                None => return Err(Trouble::new(Kind::Invalid, format!("there is no {path}"))),
            },
            // OpenSSH says no more of one that exists.
            Answer::Status(Code::Failure, _)
                if reading::attrs_of(session, path)
                    .await?
                    .is_some_and(|attrs| attrs.is_dir() == Some(true)) =>
            {
                missing.truncate(missing.len() - 1);
            }
            answer => {
                let trouble = refused(session, path, answer).await;
                let cause = format!("create the directory {path}: {}", trouble.cause);
                return Err(Trouble { cause, ..trouble });
            }
        }
    }
    Ok(())
}

/// Makes what was written durable, where the server can.
async fn sync(session: &Session, path: &str, file: &Open) -> Result<(), Trouble> {
    if !session.extensions.sync {
        return Ok(());
    }
    match session.ask(&Request::Sync { handle: &file.handle }).await? {
        Answer::Status(Code::Unsupported, _) => Ok(()),
        answer => succeeded(session, path, answer).await,
    }
}

async fn refused(session: &Session, path: &str, answer: Answer) -> Trouble {
    match &answer {
        Answer::Status(Code::Failure, _) => explained(session, path, Trouble::of(&answer)).await,
        Answer::Status(Code::NoSuchFile, _) => {
            Trouble::new(Kind::Invalid, format!("there is no place for {path}"))
        }
        _ => Trouble::of(&answer),
    }
}

/// Nobody sees a temporary file; where the server is away it goes with the next connection.
async fn discard(sftp: &Sftp, session: &Session, temp: String) {
    if session.ask(&Request::Remove { path: &temp }).await.is_err() {
        sftp.leave(temp);
    }
}

fn over() -> Trouble {
    Trouble::new(Kind::Unavailable, "the upload was given up")
}

/// What every server writes at once.
const PART: usize = 32 << 10;
/// Requests on the wire: a megabyte of writes.
const WRITES: usize = 32;
/// Enough of the end of an LZ4 frame to hold its content checksum.
const TAIL: usize = 16;
/// Folders that may have to be made above one.
const DEEPEST: usize = 64;
