//! The app's environment: where its database is, and none of the replica's secrets. Values in, values out.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use holdfast_config::systemd;

/// What the app may keep of what we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scrub {
    /// Take the replica's secrets and our own variables away
    Secrets,
    /// Leave them
    None,
}

/// What an app's environment is made of.
#[derive(Debug)]
pub(crate) struct ForApp {
    /// Its database, where we know it.
    pub(crate) database: Option<PathBuf>,
    pub(crate) is_station: bool,
    pub(crate) scrub: Scrub,
}

impl ForApp {
    /// `vars` as the app gets them.
    ///
    /// Removed with [`Scrub::Secrets`]: our own variables (`HOLDFAST_*`, `SUPERVISOR_*`) and the replica's secrets
    /// (`LITESTREAM_*KEY*`, `LITESTREAM_*SECRET*`, `LITESTREAM_*TOKEN*`, `LITESTREAM_*JSON*`), because the app hands its
    /// environment to every MCP server it starts. `AWS_*` and `GOOGLE_*` stay: they may be the app's own. Always removed:
    /// the way to systemd, which listens to the supervisor only (`NOTIFY_SOCKET`, `WATCHDOG_*`), and the descriptors'
    /// numbers (`HOLDFAST_*`).
    ///
    /// Set, when the database is known: `DATABASE_URL` and `STATION_DATABASE`. Station reads both, in different places
    /// (SUP-101), and makes a directory called `file:` of a URL, so it gets the path, with the query of a plain path: its
    /// driver reads pragmas there (SUP-102). Another app's own `DATABASE_URL` names the same file, in the spelling it
    /// wants, and stays.
    pub(crate) fn vars(
        &self,
        vars: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Vec<(OsString, OsString)> {
        let vars: Vec<_> = vars.into_iter().filter(|(name, _)| !self.is_ours(name)).collect();
        let Some(path) = &self.database else { return vars };
        let said = |name: &str| vars.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v);
        let (url, station) = match self.is_station {
            true => {
                let told = with_query(path, said(STATION).or_else(|| said(URL)));
                (told.clone(), told)
            }
            false => (said(URL).cloned().unwrap_or_else(|| path.into()), path.into()),
        };
        let set = [(URL.into(), url), (STATION.into(), station)];
        let kept = vars.into_iter().filter(|(name, _)| name != URL && name != STATION);
        kept.chain(set).collect()
    }

    fn is_ours(&self, name: &OsStr) -> bool {
        let name = name.as_encoded_bytes();
        let holds = |word: &[u8]| name.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
        let secret = || {
            name.starts_with(b"SUPERVISOR_")
                || name.starts_with(b"LITESTREAM_")
                    && [&b"KEY"[..], b"SECRET", b"TOKEN", b"JSON"].into_iter().any(holds)
        };
        name.starts_with(b"HOLDFAST_")
            || SYSTEMDS.iter().any(|s| name == s.as_bytes())
            || self.scrub == Scrub::Secrets && secret()
    }
}

/// `path`, with the pragmas of a plain path that said the same.
fn with_query(path: &Path, said: Option<&OsString>) -> OsString {
    let mut value = path.as_os_str().to_owned();
    let said = said.and_then(|said| said.to_str());
    if let Some((plain, query)) = said.and_then(|said| said.split_once('?'))
        && !plain.contains(':')
    {
        value.push("?");
        value.push(query);
    }
    value
}

const SYSTEMDS: [&str; 3] = [systemd::SOCKET_VAR, systemd::WATCHDOG_VARS[0], systemd::WATCHDOG_VARS[1]];
const URL: &str = "DATABASE_URL";
const STATION: &str = "STATION_DATABASE";

#[cfg(test)]
mod tests {
    use super::*;

    fn given(app: &ForApp, vars: &[(&str, &str)]) -> Vec<String> {
        let vars = vars.iter().map(|(k, v)| (k.into(), v.into()));
        let mut out: Vec<_> =
            app.vars(vars).into_iter().map(|(k, v)| format!("{}={}", k.display(), v.display())).collect();
        out.sort();
        out
    }

    fn app(vars: &[(&str, &str)], database: Option<&str>) -> Vec<String> {
        let database = database.map(PathBuf::from);
        given(&ForApp { database, is_station: false, scrub: Scrub::Secrets }, vars)
    }

    #[test]
    fn the_replicas_secrets_and_our_own_variables_stay_here() {
        let vars = [
            ("LITESTREAM_S3_ACCESS_KEY_ID", "a"),
            ("LITESTREAM_SECRET_ACCESS_KEY", "b"),
            ("LITESTREAM_S3_SESSION_TOKEN", "c"),
            ("LITESTREAM_ABS_ACCOUNT_KEY", "d"),
            ("LITESTREAM_GCS_SERVICE_ACCOUNT_JSON", "g"),
            ("LITESTREAM_S3_ACCESS_KEY_ID_FILE", "e"),
            ("HOLDFAST_CONTROL_FD", "3"),
            ("SUPERVISOR_STOP_GRACE", "10s"),
            ("NOTIFY_SOCKET", "/run/systemd/notify"),
            ("WATCHDOG_USEC", "30000000"),
            ("WATCHDOG_PID", "7"),
        ];
        assert!(app(&vars, None).is_empty());
    }

    #[test]
    fn everything_that_is_the_apps_stays() {
        let vars = [
            ("AWS_SECRET_ACCESS_KEY", "a"),
            ("LITESTREAM_S3_BUCKET", "b"),
            ("STATION_ENCRYPTION_KEY", "c"),
            ("PATH", "/bin"),
        ];
        assert_eq!(app(&vars, None).len(), vars.len());
    }

    #[test]
    fn unscrubbed_it_keeps_all_but_the_way_to_systemd_and_our_descriptors() {
        let app = ForApp { database: None, is_station: false, scrub: Scrub::None };
        let vars = [
            ("LITESTREAM_S3_SECRET_ACCESS_KEY", "a"),
            ("SUPERVISOR_STOP_GRACE", "10s"),
            ("NOTIFY_SOCKET", "/run/systemd/notify"),
            ("HOLDFAST_CONTROL_FD", "3"),
        ];
        assert_eq!(given(&app, &vars), ["LITESTREAM_S3_SECRET_ACCESS_KEY=a", "SUPERVISOR_STOP_GRACE=10s"]);
    }

    #[test]
    fn the_database_is_told_in_both_variables_and_an_apps_own_spelling_of_it_stays() {
        let db = Some("/d/x.db");
        assert_eq!(app(&[("A", "b")], db), ["A=b", "DATABASE_URL=/d/x.db", "STATION_DATABASE=/d/x.db"]);
        assert_eq!(app(&[("DATABASE_URL", "")], db), ["DATABASE_URL=/d/x.db", "STATION_DATABASE=/d/x.db"]);
        for own in ["sqlite:///d/x.db", "file:./x.db?mode=rwc", "x.db"] {
            let all = app(&[("DATABASE_URL", own), ("STATION_DATABASE", "y")], db);
            assert_eq!(all, [format!("DATABASE_URL={own}"), "STATION_DATABASE=/d/x.db".into()]);
        }
        let elsewhere = [("DATABASE_URL", "./x.db"), ("STATION_DATABASE", "y")];
        assert_eq!(app(&elsewhere, None), ["DATABASE_URL=./x.db", "STATION_DATABASE=y"]);
    }

    #[test]
    fn station_is_told_a_path_and_keeps_its_pragmas() {
        let station = ForApp { database: Some("/d/x.db".into()), is_station: true, scrub: Scrub::Secrets };
        for (own, told) in [
            ("./x.db", "/d/x.db"),
            ("x.db?_pragma=busy_timeout(30000)", "/d/x.db?_pragma=busy_timeout(30000)"),
            ("file:/d/x.db?cache=shared", "/d/x.db"),
            ("sqlite:///d/x.db", "/d/x.db"),
        ] {
            let all = given(&station, &[("DATABASE_URL", own)]);
            let both = ["DATABASE_URL", "STATION_DATABASE"].map(|name| format!("{name}={told}"));
            assert_eq!(all, both, "{own}");
        }
    }
}
