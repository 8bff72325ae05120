//! One connection: requests go out while answers to earlier ones come in, in whatever order. Touches the network.
//!
//! ```text
//! send ─▶ queue ─▶ writing task ─▶ server ─▶ reading task ─▶ whoever waits for this id
//! ```
//! A session ends for good: when the server closes it, when it stays silent while we wait, when it says what makes no
//! sense, when nobody wanted anything for a minute, or when it is dropped. Ending cuts the connection, so that nothing
//! waits for a server that hangs.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use russh::client::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Trouble;
use super::connect::Host;
use crate::format::sftp::{Answer, Extensions, INIT, Packets, Request, answer};
use crate::store::{Kind, OpenOptions};

/// Drop it to end it.
pub(super) struct Session {
    shared: Arc<Shared>,
    pub(super) extensions: Extensions,
    /// Ends the SSH connection when it goes.
    _ssh: Handle<Host>,
}

/// An answer that will come.
pub(super) struct Pending {
    shared: Arc<Shared>,
    answer: oneshot::Receiver<Answer>,
    since: Instant,
}

/// An open file or folder, closed when it is dropped.
pub(super) struct Open {
    shared: Arc<Shared>,
    pub(super) handle: Bytes,
}

struct Shared {
    state: Mutex<State>,
    cut: Cut,
    read_timeout: Duration,
    request_timeout: Duration,
}

struct State {
    next: u32,
    /// Gone when it is over, so that the writing task ends.
    queue: Option<mpsc::Sender<Packet>>,
    waiting: HashMap<u32, oneshot::Sender<Answer>>,
    /// Files and folders that are open.
    open: usize,
    /// When the server last said anything, and how often it has.
    heard: Instant,
    packets: u64,
    /// Why it is over.
    over: Option<Trouble>,
}

/// A request, and the bytes that follow it.
type Packet = (Bytes, Bytes);

impl Session {
    /// Speaks SFTP on a channel that is ready for it.
    pub(super) async fn start(
        ssh: Handle<Host>,
        channel: Channel<Msg>,
        cut: Cut,
        options: &OpenOptions,
    ) -> Result<Self, Trouble> {
        let (queue, queued) = mpsc::channel(QUEUED);
        let state = State {
            next: 1,
            queue: Some(queue),
            waiting: HashMap::new(),
            open: 0,
            heard: Instant::now(),
            packets: 0,
            over: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            cut,
            read_timeout: options.read_timeout,
            request_timeout: options.request_timeout,
        });
        let (reading, writing) = channel.split();
        tokio::spawn(read(reading, shared.clone()));
        tokio::spawn(write(writing, queued, shared.clone()));
        let mut session = Self { shared: shared.clone(), extensions: Extensions::default(), _ssh: ssh };
        let (answer, waiting) = oneshot::channel();
        // The answer to the first packet has no id.
        shared.with(|state| state.waiting.insert(0, answer));
        let version = Pending::new(shared.clone(), waiting);
        shared.enqueue((Bytes::from_static(&INIT), Bytes::new())).await?;
        match version.answer().await? {
            Answer::Version(extensions) => session.extensions = extensions,
            other => return Err(senseless(&other)),
        }
        Ok(session)
    }

    /// It is not over, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        self.shared.with(|state| state.over.is_none())
    }

    /// How many answers there were.
    pub(super) fn packets(&self) -> u64 {
        self.shared.with(|state| state.packets)
    }

    /// Sends a request, once there is room for it. Its answer is awaited apart.
    pub(super) async fn send(&self, request: &Request<'_>, body: Bytes) -> Result<Pending, Trouble> {
        let (answer, waiting) = oneshot::channel();
        let id = self.shared.register(answer)?;
        let pending = Pending::new(self.shared.clone(), waiting);
        self.shared.enqueue((request.encode(id).into(), body)).await?;
        Ok(pending)
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn ask(&self, request: &Request<'_>) -> Result<Answer, Trouble> {
        self.send(request, Bytes::new()).await?.answer().await
    }

    /// Asks for a file or folder to be opened. Anything but a handle is given back.
    pub(super) async fn open(&self, request: &Request<'_>) -> Result<Result<Open, Answer>, Trouble> {
        match self.ask(request).await? {
            Answer::Handle(handle) => {
                self.shared.with(|state| state.open += 1);
                Ok(Ok(Open { shared: self.shared.clone(), handle }))
            }
            other => Ok(Err(other)),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.end(Trouble::new(Kind::Unavailable, "the connection was closed"));
    }
}

impl Pending {
    fn new(shared: Arc<Shared>, answer: oneshot::Receiver<Answer>) -> Self {
        Self { shared, answer, since: Instant::now() }
    }

    pub(super) async fn answer(self) -> Result<Answer, Trouble> {
        let Self { shared, answer, since } = self;
        match shared.patiently(since, answer).await? {
            Ok(answer) => Ok(answer),
            Err(_) => Err(shared.why()),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.with(|state| state.open = state.open.saturating_sub(1));
        self.shared.close(&self.handle);
    }
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A number for a request whose answer goes there.
    fn register(&self, answer: oneshot::Sender<Answer>) -> Result<u32, Trouble> {
        self.with(|state| {
            if let Some(over) = &state.over {
                return Err(Trouble { unsent: true, ..over.clone() });
            }
            let id = state.next;
            state.next = id.checked_add(1).unwrap_or(1);
            state.waiting.insert(id, answer);
            Ok(id)
        })
    }

    async fn enqueue(&self, packet: Packet) -> Result<(), Trouble> {
        let Some(queue) = self.with(|state| state.queue.clone()) else { return Err(self.why()) };
        match self.patiently(Instant::now(), queue.send(packet)).await? {
            Ok(()) => Ok(()),
            Err(_) => Err(self.why()),
        }
    }

    /// Waits for as long as the server says anything at all, and no longer than a request may take. Whoever loses
    /// patience ends the session.
    async fn patiently<T>(&self, since: Instant, work: impl Future<Output = T>) -> Result<T, Trouble> {
        let mut work = std::pin::pin!(work);
        loop {
            let heard = self.with(|state| state.heard).max(since);
            let silent = heard + self.read_timeout;
            let until = silent.min(since + self.request_timeout);
            if let Ok(done) = tokio::time::timeout_at(until, &mut work).await {
                return Ok(done);
            }
            if until < silent || self.with(|state| state.heard).max(since) == heard {
                let waited = if until < silent { self.request_timeout } else { self.read_timeout };
                self.end(Trouble::new(Kind::Unavailable, format!("timed out: no answer for {waited:?}")));
                return Err(self.why());
            }
        }
    }

    /// A packet from the server. An error ends the session.
    fn heard(&self, packet: Bytes) -> Result<(), Trouble> {
        let (id, answer) =
            answer(packet).map_err(|e| Trouble::new(Kind::Invalid, format!("the server sent {e}")))?;
        let waiting = self.with(|state| {
            state.heard = Instant::now();
            state.packets += 1;
            state.waiting.remove(&id)
        });
        // Whoever asked for it may be gone.
        if let Some(Err(Answer::Handle(handle))) = waiting.map(|waiting| waiting.send(answer)) {
            self.close(&handle);
        }
        Ok(())
    }

    /// Closes a handle without waiting for the answer. Where there is no room for that now, the server keeps it until
    /// the session ends.
    fn close(&self, handle: &[u8]) {
        let (answer, _) = oneshot::channel();
        let queue = self.with(|state| state.queue.clone());
        if let (Some(queue), Ok(id)) = (queue, self.register(answer)) {
            let _ = queue.try_send((Request::Close { handle }.encode(id).into(), Bytes::new()));
        }
    }

    /// Ends the session, if it is not over yet. Everybody who waits is told why.
    fn end(&self, why: Trouble) {
        let ended = self.with(|state| {
            state.over.get_or_insert(why);
            (std::mem::take(&mut state.waiting), state.queue.take())
        });
        drop(ended);
        self.cut.now();
    }

    fn why(&self) -> Trouble {
        let over = self.with(|state| state.over.clone());
        over.unwrap_or_else(|| Trouble::new(Kind::Unavailable, CLOSED))
    }
}

/// Hands answers to those who wait for them.
async fn read(mut channel: ChannelReadHalf, shared: Arc<Shared>) {
    let mut packets = Packets::default();
    let why = 'over: loop {
        match channel.wait().await {
            Some(ChannelMsg::Data { data }) => {
                packets.push(&data);
                loop {
                    match packets.packet() {
                        Ok(Some(packet)) => {
                            if let Err(trouble) = shared.heard(packet) {
                                break 'over trouble;
                            }
                        }
                        Ok(None) => break,
                        Err(e) => break 'over Trouble::new(Kind::Invalid, format!("the server sent {e}")),
                    }
                }
            }
            Some(ChannelMsg::Eof | ChannelMsg::Close) | None => {
                break Trouble::new(Kind::Unavailable, CLOSED);
            }
            Some(_) => {}
        }
    };
    shared.end(why);
}

/// Sends what is queued, until nobody has wanted anything for a while.
async fn write(channel: ChannelWriteHalf<Msg>, mut queued: mpsc::Receiver<Packet>, shared: Arc<Shared>) {
    loop {
        let (head, body) = match tokio::time::timeout(IDLE, queued.recv()).await {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(_) => {
                let idle = shared.with(|state| {
                    let idle = state.waiting.is_empty() && state.open == 0;
                    if idle || state.over.is_some() {
                        // Under the same lock as a request gets its number: none is on its way here.
                        state.over.get_or_insert(Trouble::new(Kind::Unavailable, "the connection was idle"));
                    }
                    state.over.is_some()
                });
                if idle {
                    break;
                }
                continue;
            }
        };
        if channel.data_bytes(head).await.is_err() || channel.data_bytes(body).await.is_err() {
            break;
        }
    }
    shared.end(Trouble::new(Kind::Unavailable, CLOSED));
}

/// Cuts a connection under whoever is reading or writing it.
pub(super) struct Cut(std::net::TcpStream);

impl Cut {
    pub(super) fn of(tcp: &TcpStream) -> std::io::Result<Self> {
        Ok(Self(tcp.as_fd().try_clone_to_owned()?.into()))
    }

    fn now(&self) {
        // It may be closed already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.now();
    }
}

/// An answer of a kind that does not fit the question.
pub(super) fn senseless(answer: &Answer) -> Trouble {
    let what = match answer {
        Answer::Version(_) => "a version",
        Answer::Status(..) => "a status",
        Answer::Handle(_) => "a handle",
        Answer::Data(_) => "data",
        Answer::Names(_) => "names",
        Answer::Attrs(_) => "attributes",
        Answer::Extended(_) => "an extension's answer",
    };
    Trouble::new(Kind::Invalid, format!("the server answered with {what}, which was not asked for"))
}

const CLOSED: &str = "the server closed the connection";

/// A connection nobody uses for so long is closed: an idle database keeps nothing open, and no keepalive is needed.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// Packets that wait to be sent, of 32 KiB at most.
const QUEUED: usize = 8;
