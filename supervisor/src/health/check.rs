//! `holdfast-supervisor healthcheck`: asks the supervisor of this container, for images without a shell or curl.
//!
//! Needs no file, no name resolution and no user: it connects to one address and exits 0 or 1.

use std::time::Duration;

use clap::Parser;

use super::probe::get;

/// Asks the supervisor that runs here whether all is well. Prints one line.
///
/// Without a flag: whether the app is ready, and until it has been once, whether the supervisor lives. Exit codes: 0 yes,
/// 1 no, 64 bad command line.
#[derive(Debug, Parser)]
#[command(name = "holdfast-supervisor healthcheck", bin_name = "holdfast-supervisor healthcheck")]
pub(crate) struct Cli {
    /// Whether the app is ready
    #[arg(long, group = "which")]
    ready: bool,

    /// Whether the supervisor's loop turns
    #[arg(long, group = "which")]
    live: bool,

    /// Whether the app was ready once
    #[arg(long, group = "which")]
    startup: bool,

    /// Where the supervisor listens
    #[arg(long, env = "SUPERVISOR_LISTEN", hide_env_values = true, value_name = "HOST:PORT", default_value = super::super::cli::LISTEN)]
    listen: String,
}

impl Cli {
    /// The line to print, and whether all is well.
    pub(crate) fn ask(&self) -> Result<String, String> {
        let host = reachable(&self.listen);
        let page =
            |path: &str| get(&host, path, PATIENCE).map_err(|why| format!("http://{host}{path}: {why}"));
        let path = match (self.ready, self.live, self.startup) {
            (true, ..) => "/readyz",
            (_, true, _) => "/livez",
            (.., true) => "/startupz",
            _ if page("/startupz")?.0 == 200 => "/readyz",
            _ => "/livez",
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
