//! `holdfast-supervisor healthcheck`: asks the supervisor of this container, for images without a shell or curl.
//!
//! Needs no file, no name resolution and no user: it connects to one address and exits 0 or 1.

use std::time::Duration;

use super::probe::get;
use crate::cli::words::{Given, Stop, parsed};

/// Which page is asked, and where.
#[derive(Debug)]
pub(crate) struct Cli {
    page: Option<&'static str>,
    listen: String,
}

impl Cli {
    pub(crate) fn understand(given: &Given) -> Result<Self, Stop> {
        let mut page = None;
        for (name, path) in [("ready", "/readyz"), ("live", "/livez"), ("startup", "/startupz")] {
            if given.switch(name)? && page.replace(path).is_some() {
                return Err(given.mistake(&"ask one thing: -ready, -live or -startup"));
            }
        }
        Ok(Self { page, listen: given.value("listen", parsed::<String>)? })
    }

    /// The line to print, and whether all is well.
    pub(crate) fn ask(&self) -> Result<String, String> {
        if self.listen == "off" {
            return Err(
                "nobody answers: SUPERVISOR_LISTEN is off; then HEALTHCHECK NONE belongs to the image".into(),
            );
        }
        let host = reachable(&self.listen);
        let page =
            |path: &str| get(&host, path, PATIENCE).map_err(|why| format!("http://{host}{path}: {why}"));
        let path = match self.page {
            Some(path) => path,
            None if page("/startupz")?.0 == 200 => "/readyz",
            None => "/livez",
        };
        let (status, body) = page(path)?;
        let line = format!("http://{host}{path}: HTTP {status} {}", body.trim_end());
        if status == 200 { Ok(line) } else { Err(line) }
    }
}

/// An address that listens for everybody is asked on loopback.
fn reachable(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("" | "0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}

const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_listens_the_answer_says_so() {
        let off = Cli { page: None, listen: "off".into() };
        assert!(off.ask().unwrap_err().contains("SUPERVISOR_LISTEN is off"));
    }

    #[test]
    fn an_address_for_everybody_is_asked_here() {
        for (listens, asked) in [
            ("0.0.0.0:9811", "127.0.0.1:9811"),
            (":9811", "127.0.0.1:9811"),
            ("[::]:9811", "[::1]:9811"),
            ("10.1.2.3:80", "10.1.2.3:80"),
        ] {
            assert_eq!(reachable(listens), asked);
        }
    }
}
