//! The listening side: one thread takes connections, each of which has a short-lived thread and little time.
//!
//! HTTP/1.1 without anything that a probe does not need: GET and HEAD, a request of up to 4 KiB, one answer, the end.
//! Past [`CONNECTIONS`] at a time one more takes the place of the oldest that has yet to ask something: a probe asks as
//! soon as it is connected, and a thousand that only hang keep nobody from an answer, PID 1's loop least of all.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Wicket;
use super::address::addresses;
use super::answer::{Answer, Question};
use super::probe::Probe;

/// What the answers depend on.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) probe: Probe,
    /// See [`Question::max_lag`].
    pub(crate) max_lag: Duration,
}

struct Service {
    wicket: Arc<Wicket>,
    settings: Settings,
    started: AtomicBool,
    silent: Silent,
}

/// Connections that have yet to ask something, the oldest first.
#[derive(Default)]
struct Silent(Mutex<VecDeque<Arc<TcpStream>>>);

impl Silent {
    fn begin(&self, stream: &Arc<TcpStream>) {
        self.all().push_back(stream.clone());
    }

    fn end(&self, stream: &Arc<TcpStream>) {
        self.all().retain(|other| !Arc::ptr_eq(other, stream));
    }

    /// Whoever reads from it reads its end.
    fn hang_up_on_the_oldest(&self) {
        if let Some(oldest) = self.all().pop_front() {
            let _ = oldest.shutdown(Shutdown::Both);
        }
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Arc<TcpStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Listens on `address` (of [`addresses`]) until the process ends. Block signals first: the threads inherit the mask.
pub(crate) fn start(address: &str, settings: Settings, wicket: Arc<Wicket>) -> io::Result<()> {
    let addresses = addresses(address).map_err(io::Error::other)?;
    let listener = TcpListener::bind(addresses.as_slice())?;
    let started = AtomicBool::new(false);
    let service = Arc::new(Service { wicket, settings, started, silent: Silent::default() });
    let (queue, waiting) = sync_channel::<TcpStream>(0);
    let waiting = Arc::new(Mutex::new(waiting));
    let serving = service.clone();
    let worker = move || {
        let (service, waiting) = (serving.clone(), waiting.clone());
        thread::Builder::new().name("health".into()).stack_size(STACK).spawn(move || {
            loop {
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(stream) = next else { return };
                // A client that does not listen is its own loss.
                let _ = serve(stream, &service);
            }
        })
    };
    thread::Builder::new()
        .name("listen".into())
        .stack_size(STACK)
        .spawn(move || listen(&listener, &queue, &service.silent, worker))?;
    Ok(())
}

/// Hands each connection to a thread that is free, or to a new one as long as there are few.
fn listen(
    listener: &TcpListener,
    queue: &SyncSender<TcpStream>,
    silent: &Silent,
    worker: impl Fn() -> io::Result<thread::JoinHandle<()>>,
) {
    let mut workers = 0;
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, most likely; they come back.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        match queue.try_send(stream) {
            Ok(()) => {}
            Err(error) => {
                let (std::sync::mpsc::TrySendError::Full(stream)
                | std::sync::mpsc::TrySendError::Disconnected(stream)) = error;
                if workers < CONNECTIONS && worker().is_ok() {
                    workers += 1;
                } else {
                    silent.hang_up_on_the_oldest();
                }
                if workers == 0 || queue.send(stream).is_err() {
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

fn serve(stream: TcpStream, service: &Service) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let stream = Arc::new(stream);
    service.silent.begin(&stream);
    let request = request(&stream);
    service.silent.end(&stream);
    let (answer, with_body) = match request? {
        Request::Get { path, body } => (service.answer(&path), body),
        Request::Refused(status) => {
            (Answer { status, kind: "text/plain", body: format!("{}\n", reason(status)) }, true)
        }
    };
    let Answer { status, kind, body } = answer;
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n",
        reason(status),
        body.len()
    );
    let mut stream = stream.as_ref();
    stream.write_all(head.as_bytes())?;
    if with_body {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()
}

impl Service {
    fn answer(&self, path: &str) -> Answer {
        let view = self.wicket.ask(PATIENCE / 2);
        let started = self.started.load(Ordering::Relaxed);
        let question = Question { view: view.as_deref(), started, max_lag: self.settings.max_lag };
        question.answer(path, || {
            let says = self.settings.probe.ask();
            if says.is_ok() {
                self.started.store(true, Ordering::Relaxed);
            }
            says
        })
    }
}

enum Request {
    /// `body` is false for HEAD.
    Get {
        path: String,
        body: bool,
    },
    Refused(u16),
}

/// Reads a request's head; what follows it is nobody's.
fn request(mut stream: &TcpStream) -> io::Result<Request> {
    let until = Instant::now() + PATIENCE;
    let (mut bytes, mut len) = ([0; LARGEST], 0);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Request::Refused(408));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes[len..]) {
            Ok(0) => return Ok(Request::Refused(400)),
            Ok(more) => len += more,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(Request::Refused(408));
            }
            Err(e) => return Err(e),
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        match head.parse(&bytes[..len]) {
            Ok(httparse::Status::Complete(_)) => {
                let path = head.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
                return Ok(match head.method {
                    Some("GET") => Request::Get { path, body: true },
                    Some("HEAD") => Request::Get { path, body: false },
                    _ => Request::Refused(405),
                });
            }
            Ok(httparse::Status::Partial) if len < LARGEST => {}
            Ok(httparse::Status::Partial) => return Ok(Request::Refused(431)),
            Err(_) => return Ok(Request::Refused(400)),
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}

/// Connections served at a time.
const CONNECTIONS: usize = 16;
/// For reading a request, and as long again for sending the answer.
const PATIENCE: Duration = Duration::from_secs(2);
const LARGEST: usize = 4096;
/// Two buffers of 4 KiB and the headers, several times over.
const STACK: usize = 128 * 1024;
