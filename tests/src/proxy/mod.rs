//! A proxy between our programs and a real server that does to each request what the test says. One thread a connection.
//!
//! Bytes go through as they are, so signatures stay valid: a client signs the `Host` it connects to, and that is the
//! proxy for both ends. Faults happen where they do on the way: before the request, in the middle of either body, in
//! place of an answer, or under TLS.

mod answers;
mod dam;
pub mod tls;
mod wire;

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

pub use answers::{Answer, Service};
pub use dam::Dam;
use wire::{Copied, Framing, Head, Wire};

/// What happens to one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing.
    Pass,
    /// The request is read, and nothing happens for so long; then it goes on.
    Hang(Duration),
    /// So many bytes of the answer's body come at once, the others after a pause.
    Stall { after: u64, pause: Duration },
    /// Of the answer's body comes what the dam lets through, and the rest when it is opened.
    Dammed(Arc<Dam>),
    /// The request's body is taken at so many bytes a second.
    Slow { rate: u64 },
    /// The connection is reset after so many bytes of the request's body. The server never gets the others.
    ResetRequest { after: u64 },
    /// The server does what it was asked to; the connection is reset after so many bytes of the answer's body, or
    /// before it begins.
    ResetAnswer { after: Option<u64> },
    /// The server never hears of it: this is the answer.
    Answer(Answer),
}

/// A request as a [`Proxy::script`] sees it.
#[derive(Debug, Clone)]
pub struct Request {
    /// From 1, counted since the proxy was started.
    pub number: u64,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Of its body.
    pub length: u64,
}

/// A running proxy.
pub struct Proxy {
    at: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

type Script = Arc<dyn Fn(&Request) -> Fault + Send + Sync>;

struct Shared {
    upstream: SocketAddr,
    front: Option<Arc<rustls::ServerConfig>>,
    script: Mutex<Script>,
    up: AtomicBool,
    /// Shared, not doubled: a reset goes out when the last descriptor is closed.
    streams: Mutex<Vec<Weak<TcpStream>>>,
    requests: Mutex<Vec<String>>,
}

impl Proxy {
    /// Starts one that passes everything on to `upstream`, `http://127.0.0.1:PORT` with or without a path.
    pub fn to(upstream: &str) -> Self {
        Self::start(upstream, None)
    }

    /// The same, serving TLS.
    pub fn with_tls(upstream: &str, identity: &tls::Identity) -> Self {
        Self::start(upstream, Some(identity.server()))
    }

    fn start(upstream: &str, front: Option<Arc<rustls::ServerConfig>>) -> Self {
        let host = upstream.trim_start_matches("http://").split('/').next().unwrap_or_default();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            upstream: host.parse().expect("an address of loopback"),
            front,
            script: Mutex::new(Arc::new(|_| Fault::Pass)),
            up: false.into(),
            streams: Mutex::default(),
            requests: Mutex::default(),
        });
        let mut proxy = Self { at, shared, listening: None };
        proxy.listen(listener);
        proxy
    }

    /// `upstream` with the proxy in its place.
    pub fn endpoint(&self, upstream: &str) -> String {
        let path = upstream.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
        let scheme = if self.shared.front.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.at)
    }

    /// Asks `script` what to do with each request from now on.
    pub fn script(&self, script: impl Fn(&Request) -> Fault + Send + Sync + 'static) {
        *locked(&self.shared.script) = Arc::new(script);
    }

    /// The same for every request from now on.
    pub fn always(&self, fault: &Fault) {
        let fault = fault.clone();
        self.script(move |_| fault.clone());
    }

    /// Passes everything on from now on. Requests that hang stay where they are.
    pub fn pass(&self) {
        self.always(&Fault::Pass);
    }

    /// Hangs up on everybody and refuses connections.
    pub fn refuse(&mut self) {
        self.shared.up.store(false, Ordering::SeqCst);
        // Wakes the thread that waits for the next connection.
        let _ = TcpStream::connect(self.at);
        if let Some(listening) = self.listening.take() {
            listening.join().expect("the listening thread ends well");
        }
        for stream in locked(&self.shared.streams).drain(..).filter_map(|stream| stream.upgrade()) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Whether it takes connections.
    pub fn accepts(&self) -> bool {
        self.listening.is_some()
    }

    /// Takes connections again, at the same address.
    pub fn accept(&mut self) {
        self.listen(TcpListener::bind(self.at).expect("the same port"));
    }

    /// Method and target of every request so far.
    pub fn requests(&self) -> Vec<String> {
        locked(&self.shared.requests).clone()
    }

    fn listen(&mut self, listener: TcpListener) {
        let shared = self.shared.clone();
        shared.up.store(true, Ordering::SeqCst);
        self.listening = Some(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if !shared.up.load(Ordering::SeqCst) {
                    return;
                }
                let stream = Arc::new(stream);
                let mut streams = locked(&shared.streams);
                streams.retain(|stream| stream.strong_count() > 0);
                streams.push(Arc::downgrade(&stream));
                drop(streams);
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        }));
    }
}

impl Shared {
    /// Answers requests of one connection until either end has enough.
    fn serve(&self, stream: Arc<TcpStream>) {
        let _ = stream.set_nodelay(true);
        match &self.front {
            None => self.converse(&stream, wire::Plain(stream.clone())),
            Some(config) => {
                let Ok(session) = rustls::ServerConnection::new(config.clone()) else { return };
                self.converse(&stream, rustls::StreamOwned::new(session, wire::Plain(stream.clone())));
            }
        }
    }

    fn converse(&self, socket: &TcpStream, client: impl Read + Write) {
        let mut client = Wire::new(client);
        while self.up.load(Ordering::SeqCst)
            && let Some(head) = client.head()
        {
            let fault = self.decide(&head);
            match self.exchange(&mut client, &head, &fault) {
                Went::On => {}
                Went::Wrong => return,
                Went::Reset => {
                    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                    let _ = setsockopt(&socket.as_fd(), sockopt::Linger, &linger);
                    return;
                }
            }
        }
    }

    fn decide(&self, head: &Head) -> Fault {
        let mut words = head.first().split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let number = {
            let mut requests = locked(&self.requests);
            requests.push(format!("{method} {target}"));
            requests.len() as u64
        };
        let script = locked(&self.script).clone();
        script(&Request { number, method, target, length: head.length().unwrap_or(0) })
    }

    /// One request and its answer. The server gets a connection for each: it may hang up between two as it likes.
    fn exchange(&self, client: &mut Wire<impl Read + Write>, head: &Head, fault: &Fault) -> Went {
        let body = head.request_framing();
        if let Fault::Answer(answer) = fault {
            // All of it is read first: an answer in the middle of it would be a reset.
            if client.copy(&mut std::io::sink(), body, None) != Copied::All {
                return Went::Wrong;
            }
            return if client.send(&answer.bytes(head.first())) { Went::On } else { Went::Wrong };
        }
        let Ok(server) = TcpStream::connect(self.upstream) else { return Went::Reset };
        let _ = server.set_nodelay(true);
        let mut server = Wire::new(wire::Plain(Arc::new(server)));
        if let Fault::ResetRequest { after } = fault {
            if server.send(&head.bytes) {
                client.copy(&mut server, body, Some(*after));
            }
            return Went::Reset;
        }
        let mut whole = head.bytes.clone();
        if let (Fault::Slow { rate }, Framing::Length(mut left)) = (fault, body) {
            while left > 0 {
                let some = left.min(*rate / 10 + 1);
                if client.copy(&mut whole, Framing::Length(some), None) != Copied::All
                    || !self.wait(Duration::from_millis(100))
                {
                    return Went::Wrong;
                }
                left -= some;
            }
        } else if client.copy(&mut whole, body, None) != Copied::All {
            return Went::Wrong;
        }
        if let Fault::Hang(pause) = fault
            && !self.wait(*pause)
        {
            return Went::Wrong;
        }
        if !server.send(&whole) {
            return Went::Wrong;
        }
        let Some(answer) = server.head() else { return Went::Wrong };
        let framing = answer.answer_framing(head.first());
        match fault {
            Fault::ResetAnswer { after } => {
                if let Some(after) = after
                    && client.send(&answer.bytes)
                {
                    server.copy(client, framing, Some(*after));
                } else {
                    server.copy(&mut std::io::sink(), framing, None);
                }
                return Went::Reset;
            }
            Fault::Stall { after, pause } => {
                let after = usize::try_from(*after).unwrap_or(usize::MAX);
                let wait = || self.wait(*pause);
                return in_two(&mut server, client, &answer, framing, |len| len.min(after), wait);
            }
            Fault::Dammed(dam) => {
                let wait = || dam.wait();
                return in_two(&mut server, client, &answer, framing, |len| dam.take(len), wait);
            }
            Fault::Pass
            | Fault::Hang(_)
            | Fault::Slow { .. }
            | Fault::ResetRequest { .. }
            | Fault::Answer(_) => {}
        }
        let went = client.send(&answer.bytes) && server.copy(client, framing, None) == Copied::All;
        if went && framing != Framing::ToTheEnd { Went::On } else { Went::Wrong }
    }

    /// Whether nobody stopped the proxy meanwhile.
    fn wait(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while Instant::now() < until && self.up.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10).min(pause));
        }
        self.up.load(Ordering::SeqCst)
    }
}

/// Passes an answer on in two parts, the first as long as `cut` says, the second once `wait` is over, if all is well.
fn in_two(
    server: &mut Wire<impl Read + Write>,
    client: &mut Wire<impl Read + Write>,
    answer: &Head,
    framing: Framing,
    cut: impl FnOnce(usize) -> usize,
    wait: impl FnOnce() -> bool,
) -> Went {
    let mut body = Vec::new();
    if server.copy(&mut body, framing, None) != Copied::All || !client.send(&answer.bytes) {
        return Went::Wrong;
    }
    let (first, second) = body.split_at(cut(body.len()));
    let went = client.send(first) && (second.is_empty() || wait() && client.send(second));
    if went { Went::On } else { Went::Wrong }
}

enum Went {
    On,
    /// One end hung up, or made no sense.
    Wrong,
    Reset,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every request with the length of its body and ten bytes more, one connection at a time.
    fn server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut client = Wire::new(wire::Plain(Arc::new(stream)));
                while let Some(head) = client.head() {
                    let mut body = Vec::new();
                    client.copy(&mut body, head.request_framing(), None);
                    let text = format!("{:04} 56789", body.len());
                    let length = text.len();
                    client.send(
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}").as_bytes(),
                    );
                }
            }
        });
        format!("http://{at}/base")
    }

    fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
        stream.write_all(b"PUT /k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello")?;
        let mut bytes = vec![0; 49];
        stream.read_exact(&mut bytes)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn requests_pass_hang_break_off_and_are_answered_as_the_script_says() {
        let upstream = server();
        let mut proxy = Proxy::to(&upstream);
        let at = proxy.at;
        assert_eq!(proxy.endpoint(&upstream), format!("http://{at}/base"));
        let connect = || TcpStream::connect(at).unwrap();
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0005 56789";
        let mut stream = connect();
        assert_eq!(ask(&mut stream).unwrap(), whole);
        let start = Instant::now();
        proxy.always(&Fault::Hang(Duration::from_millis(80)));
        assert_eq!(ask(&mut stream).unwrap(), whole);
        proxy.always(&Fault::Stall { after: 3, pause: Duration::from_millis(80) });
        assert_eq!(ask(&mut stream).unwrap(), whole);
        assert!(start.elapsed() >= Duration::from_millis(160));
        for fault in [
            Fault::ResetRequest { after: 2 },
            Fault::ResetAnswer { after: None },
            Fault::ResetAnswer { after: Some(4) },
        ] {
            proxy.always(&fault);
            let error = ask(&mut connect()).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{fault:?}");
        }
        proxy.script(|request| match request.number % 2 {
            0 => Fault::Answer(Answer::new(503, "0123456789abcdef")),
            _ => Fault::Pass,
        });
        let mut stream = connect();
        let answers = [ask(&mut stream).unwrap(), ask(&mut stream).unwrap()];
        assert!(answers[0] == whole && answers[1].starts_with("HTTP/1.1 503 "), "{answers:?}");
        assert_eq!(proxy.requests().len(), 8);
        proxy.refuse();
        assert!(TcpStream::connect(at).is_err());
        proxy.accept();
        proxy.pass();
        assert_eq!(ask(&mut connect()).unwrap(), whole);
    }
}
