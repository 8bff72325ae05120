//! A replica in a directory of an SFTP server. Touches the network.
//!
//! Objects are the files below the root; an object's time is its file's, which SFTP 3 keeps in seconds. One connection
//! serves everybody, is opened when somebody wants something and closed when nobody has for a minute.
//!
//! An object is written to `NAME.RANDOM.tmp`, made durable (`fsync@openssh.com`), and given its name by what fails if
//! the name is taken: a hard link (`hardlink@openssh.com`) where the server offers it, as OpenSSH and Go's servers do,
//! else by a rename after a look, which the draft wants to fail, too, and some servers let replace: there two writers at
//! the very same moment are not noticed. Names that end in `.tmp` are no objects, ours or
//! Litestream's; what a crash leaves of them is in nobody's way.

mod connect;
mod known_hosts;
mod reading;
mod session;
mod writing;

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Shared;
use jiff::Timestamp;

use self::session::Session;
pub(super) use self::writing::Writer;
use super::pulse::{Pulse, Unanswered};
use super::requests::{Counter, Outcome, Verb};
use super::{ConditionalCreate, Kind, Object, OpenOptions, Put, Remark, StoreError};
use crate::format::sftp::{Answer, Code, Request, Space};

pub(super) struct Sftp {
    config: holdfast_config::Sftp,
    options: OpenOptions,
    /// The connection there is, or that is being made.
    link: Mutex<Option<Link>>,
    /// What the last server we were connected to makes of a name that is taken.
    create_only: Mutex<Option<ConditionalCreate>>,
    pub(super) requests: Counter,
    pub(super) pulse: Arc<Pulse>,
    /// Files of uploads that were given up while the server was away.
    left: Mutex<Vec<String>>,
}

/// Everybody waits for the same attempt.
type Link = Shared<Pin<Box<dyn Future<Output = Result<Arc<Session>, Trouble>> + Send>>>;

/// What stands in the way, before it is said of an object.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    kind: Kind,
    cause: String,
    /// The request never left: it may be made again on another connection.
    unsent: bool,
}

impl Sftp {
    pub(super) fn new(config: &holdfast_config::Sftp, options: &OpenOptions) -> Self {
        Self {
            config: config.clone(),
            options: options.clone(),
            link: Mutex::new(None),
            create_only: Mutex::new(None),
            requests: Counter::default(),
            pulse: Arc::default(),
            left: Mutex::new(Vec::new()),
        }
    }

    /// A folder of it, with a connection of its own.
    pub(super) fn folder(&self, name: &str) -> Self {
        Self::new(&holdfast_config::Sftp { path: self.path(name), ..self.config.clone() }, &self.options)
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Object>, StoreError> {
        let folder = prefix.trim_end_matches('/');
        let mut objects = self
            .with("list", prefix, |session| {
                let path = self.path(folder);
                async move { reading::list(&session, path, folder).await }
            })
            .await?;
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    pub(super) async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, StoreError> {
        self.with("get", key, |session| {
            let range = range.clone();
            async move { reading::get(&session, &self.path(key), range).await }
        })
        .await
    }

    pub(super) async fn put_dated(
        self: &Arc<Self>,
        key: &str,
        body: Bytes,
        date: Option<Timestamp>,
    ) -> Result<Put, StoreError> {
        let mut writer = self.create("put", key).await?;
        writer.date = date;
        writer.write(body.clone()).await?;
        match writer.publish().await {
            // The end of it was compared; it is small enough to compare all of it.
            Ok(Put::AlreadyThere) if self.get(key, None).await? != body => {
                Err(self.error("put", key, Trouble::new(Kind::Diverged, "")))
            }
            other => other,
        }
    }

    /// Starts an object that appears under `key` when it is published.
    pub(super) async fn create(
        self: &Arc<Self>,
        verb: &'static str,
        key: &str,
    ) -> Result<Writer, StoreError> {
        self.with(verb, key, |session| Writer::create(self.clone(), session, verb, key.to_owned())).await
    }

    /// Deletes each of `keys`, in order, and the folders that become empty.
    pub(super) async fn delete(
        &self,
        keys: &[String],
    ) -> Result<Vec<(String, Result<(), StoreError>)>, StoreError> {
        let done = self
            .with("delete", "", |session| async move {
                let paths: Vec<_> = keys.iter().map(|key| self.path(key)).collect();
                let done = writing::remove(&session, &paths).await?;
                // A generation that is gone should not stay as empty folders.
                writing::prune(&session, &self.path(""), &paths).await?;
                Ok(done)
            })
            .await?;
        let named = |(key, done): (&String, Result<(), Trouble>)| {
            (key.clone(), done.map_err(|trouble| self.error("delete", key, trouble)))
        };
        Ok(keys.iter().zip(done).map(named).collect())
    }

    /// Runs `work` on a session. One that was found closed before anything was sent is replaced once: the server may
    /// close what is idle, and so do we.
    async fn with<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        verb: &'static str,
        key: &str,
        work: impl Fn(Arc<Session>) -> F,
    ) -> Result<T, StoreError> {
        let tried = async {
            match work(self.session().await?).await {
                Err(trouble) if trouble.unsent => work(self.session().await?).await,
                done => done,
            }
        };
        let asked = self.pulse.begin(verb, &self.object(key));
        let done = tried.await;
        let outcome = match &done {
            Ok(_) => Outcome::Ok,
            Err(trouble) if trouble.kind == Kind::Unavailable => Outcome::Failed,
            Err(_) => Outcome::Refused,
        };
        self.requests.count(counted(verb), outcome);
        let done = done.map_err(|trouble| self.error(verb, key, trouble));
        asked.done(&done);
        done
    }

    /// The operation that has been out for longest. An operation takes many requests: each answer makes it another one.
    pub(super) fn unanswered(&self) -> Option<Unanswered> {
        let asked = self.pulse.unanswered()?;
        let link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let session = link.as_ref().and_then(|link| link.peek()?.as_ref().ok());
        Some(Unanswered { number: asked.number + session.map_or(0, |session| session.packets()), ..asked })
    }

    /// Whether the server creates a name only if it is free: it does by a hard link, and for want of one we look.
    pub(super) async fn learn(&self) -> Result<ConditionalCreate, StoreError> {
        let session = self.session().await.map_err(|trouble| self.error("open", "", trouble))?;
        let answer = match session.extensions.link {
            true => ConditionalCreate::Honoured,
            false => ConditionalCreate::Unsupported,
        };
        *self.create_only.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        Ok(answer)
    }

    pub(super) fn remarks(&self) -> Vec<Remark> {
        match *self.create_only.lock().unwrap_or_else(PoisonError::into_inner) {
            None | Some(ConditionalCreate::Honoured) => Vec::new(),
            Some(how) => vec![Remark::NotCreateOnly(how)],
        }
    }

    async fn session(&self) -> Result<Arc<Session>, Trouble> {
        let link = {
            let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
            let usable = link.as_ref().filter(|link| match link.peek() {
                None => true,
                Some(Ok(session)) => session.is_open(),
                Some(Err(_)) => false,
            });
            match usable {
                Some(link) => link.clone(),
                None => link.insert(self.connect()).clone(),
            }
        };
        link.await
    }

    /// Begins to connect. Goes on when whoever asked for it has gone away, for it has a time limit of its own.
    fn connect(&self) -> Link {
        let (config, options) = (self.config.clone(), self.options.clone());
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        let connecting = tokio::spawn(async move {
            let session = Arc::new(connect::connect(&config, &options).await?);
            if !left.is_empty() {
                let session = session.clone();
                tokio::spawn(async move { writing::remove(&session, &left).await });
            }
            Ok(session)
        });
        async move {
            match connecting.await {
                Ok(connected) => connected,
                Err(e) => match e.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(Trouble::new(Kind::Unavailable, "shutting down")),
                },
            }
        }
        .boxed()
        .shared()
    }

    /// A temporary file that could not be removed now: it goes with the next connection.
    fn leave(&self, path: String) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.len() < LEFT {
            left.push(path);
        }
    }

    fn path(&self, key: &str) -> String {
        match (self.config.path.as_str(), key) {
            (root, "") => root.to_owned(),
            (".", key) => key.to_owned(),
            ("/", key) => format!("/{key}"),
            (root, key) => format!("{root}/{key}"),
        }
    }

    fn error(&self, verb: &'static str, key: &str, trouble: Trouble) -> StoreError {
        StoreError::new(trouble.kind, verb, self.object(key), trouble.cause)
    }

    fn object(&self, key: &str) -> String {
        if key.is_empty() { self.to_string() } else { format!("{self}/{key}") }
    }
}

/// `sftp://user@host/path`
impl fmt::Display for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

/// As it is displayed.
impl fmt::Debug for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sftp").field(&self.to_string()).finish()
    }
}

impl Trouble {
    fn new(kind: Kind, cause: impl ToString) -> Self {
        Self { kind, cause: cause.to_string(), unsent: false }
    }

    /// What an answer other than the one hoped for says.
    fn of(answer: &Answer) -> Self {
        let Answer::Status(code, words) = answer else { return session::senseless(answer) };
        match code {
            Code::NoSuchFile => Self::new(Kind::NotFound, ""),
            Code::PermissionDenied => Self::new(Kind::Denied, "the server permits it not"),
            Code::Unsupported | Code::BadMessage => {
                Self::new(Kind::Invalid, said(words, "it cannot do that"))
            }
            Code::Failure | Code::Ok | Code::End | Code::Other(_) => {
                Self::new(Kind::Unavailable, said(words, "no reason"))
            }
        }
    }
}

/// Operations are counted, as in a directory: a walk, a file read, written or removed.
fn counted(verb: &str) -> Verb {
    match verb {
        "list" => Verb::List,
        "get" => Verb::Get,
        "delete" => Verb::Delete,
        _ => Verb::Put,
    }
}

/// `the server says "Failure"`
fn said(words: &str, otherwise: &str) -> String {
    if words.is_empty() {
        format!("the server says {otherwise}")
    } else {
        format!("the server says {words:?}")
    }
}

/// An answer that should be `Ok`. OpenSSH says no more than `Failure` of a full disk, and of a read-only one: where it
/// can be asked, it is.
async fn succeeded(session: &Session, path: &str, answer: Answer) -> Result<(), Trouble> {
    match &answer {
        Answer::Status(Code::Ok, _) => Ok(()),
        Answer::Status(Code::Failure, _) => Err(explained(session, path, Trouble::of(&answer)).await),
        _ => Err(Trouble::of(&answer)),
    }
}

async fn explained(session: &Session, path: &str, trouble: Trouble) -> Trouble {
    match space(session, path).await {
        Some(space) if space.read_only => Trouble::new(Kind::Denied, "the server's file system is read-only"),
        Some(Space { bytes, .. }) if bytes < FULL => {
            Trouble::new(Kind::Full, format!("the server has {bytes} bytes left"))
        }
        Some(Space { files: Some(0), .. }) => {
            Trouble::new(Kind::Full, "the server can create no more files: it has no inodes left")
        }
        _ => Trouble {
            cause: format!("{}, and no more; its disk may be full, or a quota used up", trouble.cause),
            ..trouble
        },
    }
}

/// What is left where `path` is or would be.
async fn space(session: &Session, path: &str) -> Option<Space> {
    if !session.extensions.space {
        return None;
    }
    let mut path = path;
    loop {
        match session.ask(&Request::Space { path }).await.ok()? {
            Answer::Extended(fields) => return Space::read(fields).ok(),
            _ => path = parent(path)?,
        }
    }
}

/// The folder a path is in: `/a` is in `/`, `a` in `.`.
fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/') {
        _ if path == "/" || path == "." => None,
        Some(("", _)) => Some("/"),
        Some((folder, _)) => Some(folder),
        None => Some("."),
    }
}

/// Less than this is left when a write of 32 KiB fails for want of space.
const FULL: u64 = 1 << 20;
/// Temporary files to remember; more uploads than this are never given up at once.
const LEFT: usize = 64;
/// The end of the name of what is no object yet.
const TEMPORARY: &str = ".tmp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_parent_but_the_first() {
        for (path, want) in [
            ("/a/b", Some("/a")),
            ("/a", Some("/")),
            ("/", None),
            ("a/b", Some("a")),
            ("a", Some(".")),
            (".", None),
        ] {
            assert_eq!(parent(path), want, "{path}");
        }
    }
}
