//! Whether the app answers. Opens one connection, with a limit on everything.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::address::addresses;
use super::answer::AppSays;

/// How to ask an app whether it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// An app that lives is ready.
    None,
    /// It takes connections here: `HOST:PORT`.
    Tcp(String),
    /// It answers a GET of this path with 2xx or 3xx.
    Http { host: String, path: String },
}

/// `none`, `tcp://HOST:PORT` or `http://HOST:PORT/PATH`.
impl FromStr for Probe {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let with_port = |host: &str| addresses(host).map(|_| host.to_owned());
        match text.split_once("://") {
            None if text == "none" => Ok(Self::None),
            Some(("tcp", host)) => Ok(Self::Tcp(with_port(host.trim_end_matches('/'))?)),
            Some(("http", rest)) => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                Ok(Self::Http { host: with_port(host)?, path: format!("/{path}") })
            }
            _ => Err("write http://HOST:PORT/PATH, tcp://HOST:PORT or none".to_owned()),
        }
    }
}

impl Probe {
    /// Station's own health page: one port above its MCP server's (spec/supervisor.md §1.1).
    pub(crate) fn station(mcp_port: u16) -> Self {
        Self::Http { host: format!("127.0.0.1:{}", mcp_port.saturating_add(1)), path: "/health".into() }
    }

    /// Asks, for a second at most.
    pub(crate) fn ask(&self) -> AppSays {
        let no = |why: String| format!("the app does not answer: {why}");
        match self {
            Self::None => Ok(()),
            Self::Tcp(host) => connect(host, ASKING).map(drop).map_err(no),
            Self::Http { host, path } => match get(host, path, ASKING) {
                Ok((status, _)) if (200..400).contains(&status) => Ok(()),
                Ok((status, _)) => Err(no(format!("http://{host}{path}: HTTP {status}"))),
                Err(why) => Err(no(format!("http://{host}{path}: {why}"))),
            },
        }
    }
}

/// Status and body (its first 64 KiB) of a page. Errors are in words.
pub(super) fn get(host: &str, path: &str, within: Duration) -> Result<(u16, String), String> {
    let until = Instant::now() + within;
    let mut stream = connect(host, within)?;
    // HTTP/1.0: the end of the answer is the end of the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: holdfast-supervisor\r\n\r\n");
    stream.set_write_timeout(Some(within)).map_err(|e| e.to_string())?;
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let (mut bytes, mut buf) = (Vec::new(), [0; 4096]);
    while bytes.len() < LARGEST {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("timed out".into());
        }
        stream.set_read_timeout(Some(left)).map_err(|e| e.to_string())?;
        match stream.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&buf[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Err("timed out".into());
            }
            // A server that hangs up hard after its answer has answered.
            Err(_) if !bytes.is_empty() => break,
            Err(e) => return Err(e.to_string()),
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(&bytes) {
        Ok(httparse::Status::Complete(body)) => {
            Ok((response.code.unwrap_or(0), String::from_utf8_lossy(&bytes[body..]).into_owned()))
        }
        Ok(httparse::Status::Partial) => Err("the answer breaks off".into()),
        Err(e) => Err(format!("the answer is no HTTP: {e}")),
    }
}

fn connect(host: &str, within: Duration) -> Result<TcpStream, String> {
    let mut why = String::new();
    for address in addresses(host)? {
        match TcpStream::connect_timeout(&address, within) {
            Ok(stream) => return Ok(stream),
            Err(e) => why = e.to_string(),
        }
    }
    Err(why)
}

const ASKING: Duration = Duration::from_secs(1);
const LARGEST: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_probe_reads_as_it_is_written() {
        assert_eq!("none".parse(), Ok(Probe::None));
        assert_eq!("tcp://[::1]:80".parse(), Ok(Probe::Tcp("[::1]:80".into())));
        let http = |host: &str, path: &str| Ok(Probe::Http { host: host.into(), path: path.into() });
        assert_eq!("http://localhost:8080".parse(), http("localhost:8080", "/"));
        assert_eq!("http://127.0.0.1:8587/health".parse(), http("127.0.0.1:8587", "/health"));
        assert_eq!(Ok(Probe::station(8586)), "http://127.0.0.1:8587/health".parse());
        for wrong in ["", "8080", "http://localhost", "https://x:443", "tcp://app:80", "tcp://x:y"] {
            assert!(wrong.parse::<Probe>().is_err(), "{wrong}");
        }
    }

    /// Answers one connection with `bytes`, or hangs for a while.
    fn app(answer: Option<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            match answer {
                Some(answer) => drop(stream.write_all(answer.as_bytes())),
                None => std::thread::sleep(Duration::from_secs(3)),
            }
        });
        host
    }

    #[test]
    fn an_app_is_ready_if_it_says_so_in_time() {
        let ask = |answer| Probe::Http { host: app(answer), path: "/health".into() }.ask();
        assert_eq!(ask(Some("HTTP/1.1 200 OK\r\n\r\n")), Ok(()));
        assert_eq!(ask(Some("HTTP/1.0 302 Found\r\nlocation: /x\r\n\r\n")), Ok(()));
        for (answer, says) in [
            (Some("HTTP/1.1 500 Internal Server Error\r\n\r\n"), "HTTP 500"),
            (Some("SSH-2.0-x\r\n"), "no HTTP"),
            (Some("HTTP/1.1 200 O"), "breaks off"),
            (None, "timed out"),
        ] {
            let why = ask(answer).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
        assert_eq!(Probe::Tcp(app(None)).ask(), Ok(()));
        assert_eq!(Probe::None.ask(), Ok(()));
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert!(Probe::Tcp(nobody).ask().unwrap_err().contains("refused"));
    }
}
