//! What kind of database the app is told to open, and what to say about a run without a replica (spec §5.3, §5.4).
//! Values in, values out.
//!
//! | the app is told | Station | another app |
//! | --- | --- | --- |
//! | a path, `file:…`, `sqlite:…`, nothing | a file here | a file here |
//! | `libsql://`, `http://`, `https://` | passed through, after a look whether it answers | the same |
//! | `ws://`, `wss://` | refused: Station does not speak it | passed through, after a look |
//! | `postgres://`, `mysql://`, … | refused: Station would make a file of that name | passed through |
//! | `:memory:` | refused: its pool would open ten of them | passed through |

use std::ffi::OsString;
use std::path::Path;

use holdfast_config::volume::{Kind, Volume};
use holdfast_config::{DatabaseUrl, Env, Secret};

use crate::lifecycle::Level;

/// Where the app's database is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A file here, whatever names it.
    File,
    /// Not here: there is nothing to restore and nothing to replicate.
    Elsewhere {
        /// `libsql://`, `:memory:`: what may be said of it in a log.
        what: String,
        /// What named it.
        by: &'static str,
        /// The URL, where it can be asked whether it answers.
        ask: Option<Secret<String>>,
    },
    /// The app would not do what whoever configured it wants.
    Refused(String),
}

/// The app, as far as it matters where its database is.
#[derive(Debug)]
pub(crate) struct App<'a> {
    pub(crate) is_station: bool,
    /// What names its database beside the variables every app has, in the order in which it believes them.
    pub(crate) said: Vec<(&'static str, &'a str)>,
    /// All that name its database, in the same order.
    all: Vec<(&'static str, &'a str)>,
}

impl<'a> App<'a> {
    /// The app that `command` starts. Station believes `STATION_DATABASE` before its own flag, and that before the rest
    /// (spec §1.2).
    pub(crate) fn new(command: &'a [OsString], env: &'a Env) -> Self {
        let name = command.first().and_then(|c| Path::new(c).file_name());
        let is_station = env.filled("SUPERVISOR_APP") == Some("station")
            || name.is_some_and(|n| n == "stn" || n == "station");
        let variable = |name: &'static str| Some((name, env.filled(name)?));
        let flag = is_station.then(|| flag(command, "--database")).flatten();
        let flag = flag.map(|value| ("the app's --database", value));
        let stations = |name| is_station.then(|| variable(name)).flatten();
        let (long, short) = (stations("STATION_DATABASE_URL"), stations("STN_DATABASE_URL"));
        let all = [variable("STATION_DATABASE"), flag, long, variable("DATABASE_URL"), short];
        Self {
            is_station,
            said: [flag, long, short].into_iter().flatten().collect(),
            all: all.into_iter().flatten().collect(),
        }
    }

    /// Whether anything names its database.
    pub(crate) fn is_told(&self) -> bool {
        !self.all.is_empty()
    }

    /// Where its database is, by the source it believes first.
    pub(crate) fn mode(&self, env: &Env) -> Mode {
        let Some((by, url)) = self.all.first().copied() else { return Mode::File };
        let elsewhere = |what: String, ask| Mode::Elsewhere { what, by, ask };
        match DatabaseUrl::parse(url, env) {
            // A path we cannot make absolute is refused with the other paths.
            Ok(DatabaseUrl::Local(_)) | Err(_) => Mode::File,
            Ok(DatabaseUrl::Memory) if self.is_station => Mode::Refused(format!(
                "read {by}: Station opens ten separate databases for :memory:; set a file's path"
            )),
            Ok(DatabaseUrl::Memory) => elsewhere(":memory:".into(), None),
            Ok(DatabaseUrl::Remote { scheme }) => match scheme.as_str() {
                "libsql" | "http" | "https" => elsewhere(format!("{scheme}://"), Some(secret(url))),
                _ if self.is_station => Mode::Refused(format!(
                    "read {by}: Station does not speak {scheme}:// and would silently make a SQLite file of that name; \
                     set a file's path or a libsql:// URL"
                )),
                "ws" | "wss" => elsewhere(format!("{scheme}://"), Some(secret(url))),
                _ => elsewhere(format!("{scheme}://"), None),
            },
        }
    }

    /// What Kubernetes says to Station by accident: a service called `station-mcp` becomes the variable that Station reads
    /// its port from (spec §6.1).
    pub(crate) fn service_links(&self, env: &Env) -> Option<String> {
        let link = |name: &&str| {
            name.ends_with("_PORT") && env.filled(name).is_some_and(|value| value.starts_with("tcp://"))
        };
        let name = env.names("STATION_").find(link).filter(|_| self.is_station)?;
        Some(format!(
            "{name} is a link to a service, which Station takes for a port number; set `enableServiceLinks: false` in the \
             pod, or rename the service"
        ))
    }
}

/// What follows `name` among the app's words, or stands behind `name=`.
pub(crate) fn flag<'a>(command: &'a [OsString], name: &str) -> Option<&'a str> {
    let words: Vec<_> = command.iter().filter_map(|word| word.to_str()).collect();
    words.iter().enumerate().find_map(|(i, word)| match word.strip_prefix(name)? {
        "" => words.get(i + 1).copied(),
        rest => rest.strip_prefix('='),
    })
}

fn secret(url: &str) -> Secret<String> {
    Secret::new(url.to_owned())
}

/// What it means that `database` is kept nowhere but on `volume`; `None`: the kernel does not say what that is.
pub(crate) fn ephemeral(database: &Path, volume: Option<&Volume>) -> (Level, String) {
    let database = database.display();
    let lost = |volume: &Volume, what: &str| {
        let name = &volume.name;
        format!("{database} is on {name}, {what}: what is in it is lost when that goes; configure a replica")
    };
    match volume {
        Some(v) if v.kind == Kind::Layer => (Level::Error, lost(v, "the container's own layer")),
        Some(v) if v.kind == Kind::Memory => (Level::Error, lost(v, "memory of this container or machine")),
        _ => (Level::Warn, format!("{database} has no backup off this machine; configure a replica")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    /// `F`, `R`, or what is elsewhere, with `?` where it can be asked.
    fn mode(command: &str, pairs: &[(&str, &str)]) -> String {
        let (command, env) = (words(command), Env::from_pairs(pairs.iter().copied()));
        match App::new(&command, &env).mode(&env) {
            Mode::File => "F".into(),
            Mode::Refused(_) => "R".into(),
            Mode::Elsewhere { what, ask, .. } => what + if ask.is_some() { "?" } else { "" },
        }
    }

    #[test]
    fn every_scheme_is_a_file_passed_through_or_refused() {
        for (url, station, other) in [
            ("/x.db", "F", "F"),
            ("./x.db?_pragma=busy_timeout(1)", "F", "F"),
            ("file:/x.db?cache=shared", "F", "F"),
            ("sqlite:///x.db", "F", "F"),
            ("libsql://h?authToken=t", "libsql://?", "libsql://?"),
            ("http://h:8080", "http://?", "http://?"),
            ("HTTPS://h", "https://?", "https://?"),
            ("ws://h", "R", "ws://?"),
            ("wss://h", "R", "wss://?"),
            ("postgres://u:p@h/db", "R", "postgres://"),
            ("postgresql://u:p@h/db", "R", "postgresql://"),
            ("mysql://u:p@h/db", "R", "mysql://"),
            ("mongodb+srv://h", "R", "mongodb+srv://"),
            (":memory:", "R", ":memory:"),
            ("file::memory:?cache=shared", "R", ":memory:"),
        ] {
            let vars = [("DATABASE_URL", url)];
            assert_eq!(mode("/usr/bin/stn serve", &vars), station, "{url}");
            assert_eq!(mode("myapp", &vars), other, "{url}");
            assert_eq!(mode("myapp", &[("SUPERVISOR_APP", "station"), vars[0]]), station, "{url}");
        }
        assert_eq!(mode("stn", &[]), "F");
    }

    #[test]
    fn station_is_believed_in_its_own_order() {
        let remote = ("DATABASE_URL", "libsql://h");
        assert_eq!(mode("stn serve", &[("STATION_DATABASE", "/x.db"), remote]), "F");
        assert_eq!(
            mode("stn serve", &[("STATION_DATABASE", "libsql://h"), ("DATABASE_URL", "/x.db")]),
            "libsql://?"
        );
        assert_eq!(mode("stn serve --database /x.db", &[remote]), "F");
        assert_eq!(mode("stn serve --database=postgres://h/d", &[("DATABASE_URL", "/x.db")]), "R");
        // What Station's production guide recommends.
        assert_eq!(mode("stn serve", &[("STN_DATABASE_URL", "postgresql://h/d")]), "R");
        assert_eq!(
            mode("stn serve", &[("STN_DATABASE_URL", "postgresql://h/d"), ("DATABASE_URL", "/x.db")]),
            "F"
        );
        // Nobody else reads those.
        assert_eq!(mode("app --database=postgres://h/d", &[("STN_DATABASE_URL", "mysql://h")]), "F");
    }

    #[test]
    fn no_refusal_and_no_mode_shows_a_password() {
        let (command, env) = (words("stn"), Env::from_pairs([("DATABASE_URL", "postgres://u:p4ss@h/db")]));
        let refused = App::new(&command, &env).mode(&env);
        assert!(!format!("{refused:?}").contains("p4ss"), "{refused:?}");
        let env = Env::from_pairs([("DATABASE_URL", "libsql://h?authToken=s3cr3t")]);
        let elsewhere = App::new(&command, &env).mode(&env);
        assert!(!format!("{elsewhere:?}").contains("s3cr3t"), "{elsewhere:?}");
    }

    #[test]
    fn a_service_link_is_told_from_a_port() {
        let link = |command: &str, name: &str, value: &str| {
            let (command, env) = (words(command), Env::from_pairs([(name, value)]));
            App::new(&command, &env).service_links(&env)
        };
        let said = link("stn", "STATION_MCP_PORT", "tcp://10.0.0.7:8586").unwrap();
        assert!(said.starts_with("STATION_MCP_PORT is a link to a service"), "{said}");
        assert_eq!(link("stn", "STATION_MCP_PORT", "8586"), None);
        assert_eq!(link("stn", "STATION_MCP_SERVICE_HOST", "10.0.0.7"), None);
        assert_eq!(link("app", "STATION_MCP_PORT", "tcp://10.0.0.7:8586"), None);
    }

    #[test]
    fn t86_what_is_lost_with_the_container_is_an_error_and_a_disk_a_warning() {
        let volume = |name: &str, kind| Volume { name: name.into(), kind, free: 1, read_only: false };
        let said = |name, kind| ephemeral(Path::new("/data/x.db"), Some(&volume(name, kind)));
        let (level, line) = said("overlayfs", Kind::Layer);
        assert_eq!(level, Level::Error);
        assert_eq!(
            line,
            "/data/x.db is on overlayfs, the container's own layer: what is in it is lost when that goes; configure a \
             replica"
        );
        assert_eq!(said("tmpfs", Kind::Memory).0, Level::Error);
        for (name, kind) in [("ext4", Kind::Local), ("fuse", Kind::Foreign), ("nfs", Kind::Network)] {
            assert_eq!(said(name, kind).0, Level::Warn, "{name}");
        }
        assert_eq!(ephemeral(Path::new("/x"), None).0, Level::Warn);
    }
}
