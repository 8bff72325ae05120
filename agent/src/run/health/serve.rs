//! The listening side: HTTP/1.1 by hyper, as tasks on the loop's own thread. Touches sockets.
//!
//! A stranger may cost little: [`CONNECTIONS`] at a time, one request each, its head of 8 KiB at most within two seconds,
//! the whole of it within ten. One more takes the place of the oldest: a probe asks as soon as it is connected, and those
//! that only hang keep nobody from an answer. An address that cannot be listened on is said and tried again: replication
//! does not stop for a port of its metrics.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::answer::{self, Answer, Page};
use super::{Board, metrics};

/// Listens while it lives, if there is an address.
pub(in crate::run) struct Listener {
    board: Board,
    addr: Option<String>,
    task: Option<JoinHandle<()>>,
}

impl Listener {
    /// Begins to listen on `addr`: `HOST:PORT`, or `:PORT` for every address of this machine.
    pub(in crate::run) fn start(board: Board, addr: Option<String>) -> Self {
        let mut listener = Self { board, addr: None, task: None };
        listener.move_to(addr);
        listener
    }

    /// Listens there instead. The same address as before changes nothing.
    pub(in crate::run) fn move_to(&mut self, addr: Option<String>) {
        if self.addr == addr {
            return;
        }
        let old = self.task.take();
        if let Some(old) = &old {
            old.abort();
        }
        self.addr.clone_from(&addr);
        let board = self.board.clone();
        self.task = addr.map(|addr| {
            tokio::spawn(async move {
                // It may have the very port.
                if let Some(old) = old {
                    let _ = old.await;
                }
                listen(&addr, &board).await;
            })
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Never returns.
async fn listen(addr: &str, board: &Board) {
    let mut said = None;
    let listener = loop {
        match bind(addr).await {
            Ok(listener) => break listener,
            Err(error) => {
                let error = error.to_string();
                if said.as_ref() != Some(&error) {
                    tracing::error!(
                        "listen on {addr} for metrics: {error}; replication goes on without, trying again every \
                         {RETRY:?}"
                    );
                    said = Some(error);
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    if let Ok(address) = listener.local_addr() {
        tracing::info!(url = format!("http://{address}/metrics"), "serving metrics on");
    }
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    // The same, the oldest first.
    let mut served: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS);
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        served.retain(|connection| !connection.is_finished());
        match accepted {
            Ok((stream, _)) => {
                if served.len() >= CONNECTIONS
                    && let Some(oldest) = served.pop_front()
                {
                    oldest.abort();
                }
                let board = board.clone();
                served.push_back(connections.spawn(async move {
                    let _ = tokio::time::timeout(PATIENCE, serve(stream, board)).await;
                }));
            }
            // Out of descriptors, most likely; they come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn bind(addr: &str) -> io::Result<TcpListener> {
    let Some(port) = addr.strip_prefix(':') else { return TcpListener::bind(addr).await };
    let port = port.parse().map_err(|_| io::Error::other("no port"))?;
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(e) if e.kind() != io::ErrorKind::AddrInUse => {
            // A machine without IPv6.
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// One request. A client that does not listen is its own loss.
async fn serve(stream: TcpStream, board: Board) {
    let service = service_fn(move |request: Request<Incoming>| {
        let board = board.clone();
        async move { Ok::<_, Infallible>(response(answer(&request, &board).await)) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(LARGEST)
        .max_headers(64)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::trace!(%error, "answer a probe");
    }
}

async fn answer(request: &Request<Incoming>, board: &Board) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return answer::not_allowed();
    }
    match Page::of(request.uri().path()) {
        Some(Page::Live) => answer::live(),
        Some(Page::Startup) => board.view().startup(),
        Some(Page::Ready) => board.view().ready(),
        Some(Page::Status) => board.view().status(),
        Some(Page::Metrics) => metrics::answer(board).await,
        None => answer::nothing_here(),
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Served at a time: a scraper or two, the kubelet, a person. What bounds the memory, too: each may wait for a page.
const CONNECTIONS: usize = 16;
/// Bytes of a request's head; hyper takes no less.
const LARGEST: usize = 8 << 10;
/// For a request's head.
const HEAD: Duration = Duration::from_secs(2);
/// For all of a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to listen.
const RETRY: Duration = Duration::from_secs(10);
