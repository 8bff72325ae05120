//! The app's environment: where its database is, and none of the replica's secrets. Values in, values out.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use holdfast_config::systemd;

/// `vars` as the app gets them.
///
/// Removed: our own variables (`HOLDFAST_*`, `SUPERVISOR_*`) and the replica's secrets (`LITESTREAM_*KEY*`,
/// `LITESTREAM_*SECRET*`, `LITESTREAM_*TOKEN*`, `LITESTREAM_*JSON*`), because the app hands its environment to every MCP
/// server it starts. `AWS_*` and `GOOGLE_*` stay: they may be the app's own. Removed, too: the way to systemd, which
/// listens to the supervisor only (`NOTIFY_SOCKET`, `WATCHDOG_*`).
///
/// Set, when the database is known: `DATABASE_URL` and `STATION_DATABASE`. Station reads both, in different places
/// (SUP-101).
pub(crate) fn for_app(
    vars: impl IntoIterator<Item = (OsString, OsString)>,
    database: Option<&Path>,
) -> Vec<(OsString, OsString)> {
    let names_database = |name: &OsStr| database.is_some() && DATABASE.iter().any(|d| name == *d);
    let kept = vars.into_iter().filter(|(name, _)| !is_ours(name) && !names_database(name));
    let set = database.into_iter().flat_map(|path| DATABASE.map(|name| (name.into(), path.into())));
    kept.chain(set).collect()
}

const SYSTEMDS: [&str; 3] = [systemd::SOCKET_VAR, systemd::WATCHDOG_VARS[0], systemd::WATCHDOG_VARS[1]];
const DATABASE: [&str; 2] = ["DATABASE_URL", "STATION_DATABASE"];

fn is_ours(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    let holds = |word: &[u8]| name.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
    name.starts_with(b"HOLDFAST_")
        || SYSTEMDS.iter().any(|s| name == s.as_bytes())
        || name.starts_with(b"SUPERVISOR_")
        || name.starts_with(b"LITESTREAM_")
            && [&b"KEY"[..], b"SECRET", b"TOKEN", b"JSON"].into_iter().any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(vars: &[(&str, &str)], database: Option<&str>) -> Vec<String> {
        let vars = vars.iter().map(|(k, v)| (k.into(), v.into()));
        let mut out: Vec<_> = for_app(vars, database.map(Path::new))
            .into_iter()
            .map(|(k, v)| format!("{}={}", k.display(), v.display()))
            .collect();
        out.sort();
        out
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
    fn the_database_replaces_whatever_named_one_before() {
        let vars = [("DATABASE_URL", "./x.db"), ("STATION_DATABASE", "y"), ("A", "b")];
        assert_eq!(app(&vars, Some("/d/x.db")), ["A=b", "DATABASE_URL=/d/x.db", "STATION_DATABASE=/d/x.db"]);
        assert_eq!(app(&vars, None), ["A=b", "DATABASE_URL=./x.db", "STATION_DATABASE=y"]);
    }
}
