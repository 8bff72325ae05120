//! A server that answers as told, on the loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use holdfast::store::{Store, StoreError};

/// A server that gives each request to `answer`: method, path with query, headers, body. `None` hangs up.
pub(super) struct Server {
    pub(super) endpoint: String,
    pub(super) seen: Arc<Mutex<Vec<String>>>,
}

pub(super) struct Request {
    pub(super) line: String,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Request) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), seen.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (answer.clone(), log.clone());
                std::thread::spawn(move || serve(stream, answer.as_ref(), &log));
            }
        });
        Self { endpoint, seen }
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&Request) -> Option<String>, log: &Mutex<Vec<String>>) {
    let mut buf = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buf.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let mut part = [0; 65536];
            match stream.read(&mut part) {
                Ok(n) if n > 0 => buf.extend_from_slice(&part[..n]),
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&buf[..end]).to_lowercase();
        let length =
            head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        while buf.len() < end + length {
            let mut part = [0; 65536];
            match stream.read(&mut part) {
                Ok(n) if n > 0 => buf.extend_from_slice(&part[..n]),
                _ => return,
            }
        }
        let line = String::from_utf8_lossy(&buf[..end]).lines().next().unwrap().to_owned();
        let request = Request { line, head, body: buf[end..end + length].to_vec() };
        buf.drain(..end + length);
        let condition = match &request.head {
            head if head.contains("if-none-match: *") => " if-none-match",
            head if head.contains("x-goog-if-generation-match: 0") => " if-generation-match",
            _ => "",
        };
        log.lock().unwrap().push(format!("{}{condition}", request.line.replace(" HTTP/1.1", "")));
        let Some(answer) = answer(&request) else { return };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

pub(super) fn http(status: &str, headers: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()))
}

pub(super) fn failure(status: &str, code: &str) -> Option<String> {
    http(status, "", &format!("<Error><Code>{code}</Code><Message>because</Message></Error>"))
}

/// The first request of each kind, which must fail.
pub(super) async fn every_verb(store: &Store) -> Vec<(&'static str, StoreError)> {
    vec![
        ("list", store.list("").await.unwrap_err()),
        ("get", store.get("k", None).await.unwrap_err()),
        ("get", store.get("k", Some(2..4)).await.unwrap_err()),
        ("put", store.put("k", bytes::Bytes::from_static(b"x")).await.unwrap_err()),
    ]
}

/// A stream of this many bytes.
pub(super) async fn streamed(store: &Store, bytes: usize) -> Result<holdfast::store::Put, StoreError> {
    let mut upload = store.upload("snap").await?;
    for part in vec![7u8; bytes].chunks(1 << 20) {
        upload.write(bytes::Bytes::copy_from_slice(part)).await?;
    }
    upload.publish().await
}
