//! Asks a program's port as a probe or a scraper does, and reads what it says. Opens connections; runs promtool.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use crate::process::{self, Finished};

/// An address of this machine nobody listens on at the moment.
pub fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

/// Status and body; `None` while nobody listens.
pub fn get(host: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Some((status, if chunked { joined(body) } else { body.to_owned() }))
}

/// The chunks of a body as one.
fn joined(mut body: &str) -> String {
    let mut all = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a chunk's length");
        all += &rest[..length];
        body = rest[length..].trim_start_matches("\r\n");
    }
    all
}

/// A metric: its type, and the names of its labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Family {
    pub kind: String,
    pub labels: BTreeSet<String>,
}

/// The metrics of a page by name.
pub fn families(page: &str) -> BTreeMap<String, Family> {
    let mut all = BTreeMap::<String, Family>::new();
    let mut name = String::new();
    for line in page.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (of, kind) = head.split_once(' ').expect("a name and a type");
            name = of.to_owned();
            all.entry(name.clone()).or_default().kind = kind.to_owned();
        } else if !line.starts_with('#') && !name.is_empty() {
            let labels =
                line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(l, _)| l);
            let names =
                labels.split("\",").filter_map(|pair| pair.split_once('=')).map(|(name, _)| name.to_owned());
            all.entry(name.clone()).or_default().labels.extend(names);
        }
    }
    all
}

/// What `promtool check metrics` says of a page.
pub fn promtool(page: &str) -> Finished {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("metrics");
    std::fs::write(&file, page).expect("written");
    let mut promtool = process::command("promtool");
    promtool.args(["check", "metrics"]);
    let input = std::fs::File::open(&file).expect("read");
    process::run(promtool.stdin(Stdio::from(input)), SOON)
}

const SOON: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_by_name_type_and_labels() {
        let page = "# HELP a b\n# TYPE a counter\na{x=\"1,y=\\\"\",z=\"2\"} 3\n# TYPE b gauge\nb 1\n";
        let families = families(page);
        let labels = |name: &str| families[name].labels.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!((families["a"].kind.as_str(), labels("a").as_str()), ("counter", "x z"));
        assert_eq!((families["b"].kind.as_str(), labels("b").as_str()), ("gauge", ""));
        assert_eq!(joined("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), "abcde");
    }
}
