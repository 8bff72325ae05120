//! Which file is the app's database: every source that names one must name the same. Looks at the disk only to see
//! whether two paths are one file.

use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::error::{ConfigError, Place};
use crate::file_url::decoded;
use crate::model::{Config, Origin};
use crate::path::PathError;
use crate::replica_url::scheme;

/// What a `DATABASE_URL` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A SQLite file: a plain path, `file:PATH`, `sqlite:PATH`, `sqlite3:PATH`. Absolute, without the query.
    Local(PathBuf),
    /// `:memory:`, also in its `file:` forms.
    Memory,
    /// Any other scheme, lower case: `libsql`, `https`, `postgres`. There is no local file to keep.
    Remote { scheme: String },
}

impl DatabaseUrl {
    /// Reads a `DATABASE_URL`. The query is dropped: it holds pragmas or tokens, never a part of the path.
    pub fn parse(text: &str, env: &Env) -> Result<Self, PathError> {
        if text == ":memory:" || text.starts_with(":memory:?") {
            return Ok(Self::Memory);
        }
        let plain = text.split('?').next().unwrap_or_default();
        let local = match scheme(plain) {
            None => plain.to_string(),
            Some((name, rest)) => match (name.to_ascii_lowercase().as_str(), rest) {
                ("file", rest) => {
                    let rest = rest.split('#').next().unwrap_or_default();
                    let path =
                        rest.strip_prefix("//").map_or(rest, |r| r.strip_prefix("localhost").unwrap_or(r));
                    decoded(path).unwrap_or_else(|| path.into())
                }
                ("sqlite" | "sqlite3", rest) => rest.strip_prefix("//").unwrap_or(rest).into(),
                (other, rest) if rest.starts_with("//") => return Ok(Self::Remote { scheme: other.into() }),
                // A colon in a file's name.
                _ => plain.to_string(),
            },
        };
        if local == ":memory:"
            || text.split_once('?').is_some_and(|(_, q)| q.split('&').any(|p| p == "mode=memory"))
        {
            return Ok(Self::Memory);
        }
        env.absolute(local.as_ref()).map(Self::Local)
    }
}

/// The database the app opens, as an absolute path: `flag` (`--db`), `SUPERVISOR_DB`, `DATABASE_PATH`, the one
/// database of the configuration, `STATION_DATABASE`, `DATABASE_URL` if local, else `/data/station.db`.
///
/// Two sources that name two different local files are an error that prints both: to replicate one file while the
/// app writes another is the worst silent failure (SUP-500). Paths that differ in letters and are one file by way of
/// a symlink agree; the earlier source's spelling is the answer. Of a configuration with several databases the other
/// sources must name one.
pub fn database_path(config: &Config, env: &Env, flag: Option<&Path>) -> Result<PathBuf, ConfigError> {
    database_path_for(config, env, flag, &[])
}

/// As [`database_path`], for an app that is told where its database is in ways of its own: `said` are their names and
/// values, weighed after all other sources and read like `DATABASE_URL`.
pub fn database_path_for(
    config: &Config,
    env: &Env,
    flag: Option<&Path>,
    said: &[(&str, &str)],
) -> Result<PathBuf, ConfigError> {
    let mut sources = Vec::new();
    if let Some(flag) = flag {
        let path = env.absolute(flag).map_err(|e| fail("--db", e.to_string()))?;
        sources.push(Source { name: "--db".into(), path });
    }
    sources.extend(local(variables(env, &["SUPERVISOR_DB", "DATABASE_PATH"]), env)?);
    let place = match &config.origin {
        Origin::File(path) => Some(format!("dbs[0].path in {}", path.display())),
        Origin::CommandLine => Some("the command line".into()),
        // Made of the other sources, so not one of its own.
        Origin::Environment => None,
    };
    if let (Some(name), [only], []) = (place, &config.databases[..], &config.directories[..]) {
        sources.push(Source { name, path: only.path.clone() });
    }
    sources.extend(local(variables(env, &["STATION_DATABASE", "DATABASE_URL"]), env)?);
    sources.extend(local(said.iter().copied(), env)?);
    let chosen = agreed(sources)?;
    if config.databases.len() < 2 && config.directories.is_empty() {
        return Ok(chosen.map_or_else(|| DEFAULT.into(), |s| s.path));
    }
    let listed = |path: &Path| {
        config.databases.iter().any(|d| same_file(&d.path, path))
            || config.directories.iter().any(|d| d.covers(path))
    };
    match chosen {
        Some(source) if listed(&source.path) => Ok(source.path),
        Some(Source { name, path }) => {
            Err(fail("", format!("{name} says {}, and the configuration does not list it", path.display()))
                .fix("add it to `dbs`, or name one that is listed"))
        }
        None if listed(Path::new(DEFAULT)) => Ok(DEFAULT.into()),
        None => {
            let problem = match &config.directories[..] {
                [] => format!("the configuration lists {} databases", config.databases.len()),
                [first, ..] => {
                    format!("the configuration names a directory of databases, {}", first.path.display())
                }
            };
            Err(fail("", problem).fix("say which one the app opens with --db or DATABASE_URL"))
        }
    }
}

/// As [`database_path`], of the environment alone.
pub(crate) fn from_env(env: &Env) -> Result<PathBuf, ConfigError> {
    database_path(&Config::empty(Origin::Environment), env, None)
}

/// Where Station's images keep it.
const DEFAULT: &str = "/data/station.db";

/// Someone's opinion of where the database is.
struct Source {
    name: String,
    path: PathBuf,
}

fn variables<'a>(env: &'a Env, names: &'a [&'a str]) -> impl Iterator<Item = (&'a str, &'a str)> {
    names.iter().filter_map(|name| Some((*name, env.filled(name)?)))
}

/// The sources among `said` that name a file.
fn local<'a>(said: impl Iterator<Item = (&'a str, &'a str)>, env: &Env) -> Result<Vec<Source>, ConfigError> {
    let mut sources = Vec::new();
    for (name, text) in said {
        match DatabaseUrl::parse(text, env)
            .map_err(|e| fail(name, e.to_string()).fix("set an absolute path"))?
        {
            DatabaseUrl::Local(path) => sources.push(Source { name: name.into(), path }),
            DatabaseUrl::Memory | DatabaseUrl::Remote { .. } => {}
        }
    }
    Ok(sources)
}

/// The first source, if no other contradicts it.
fn agreed(sources: Vec<Source>) -> Result<Option<Source>, ConfigError> {
    let mut sources = sources.into_iter();
    let Some(first) = sources.next() else { return Ok(None) };
    match sources.find(|s| !same_file(&s.path, &first.path)) {
        None => Ok(Some(first)),
        Some(other) => Err(fail(
            "",
            format!(
                "{} says {}, and {} says {}",
                first.name,
                first.path.display(),
                other.name,
                other.path.display()
            ),
        )
        .fix("make them agree or remove one: replicating one file while the app writes another loses everything")),
    }
}

/// One path, or two paths to one file. The file itself need not exist, its directory must for symlinks to count.
fn same_file(a: &Path, b: &Path) -> bool {
    let real = |p: &Path| {
        p.canonicalize().ok().or_else(|| Some(p.parent()?.canonicalize().ok()?.join(p.file_name()?)))
    };
    a == b || real(a).is_some_and(|a| real(b).is_some_and(|b| a == b))
}

fn fail(key: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::new(Place::DatabasePath, key, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Database;

    fn config(paths: &[&str]) -> Config {
        let databases = paths.iter().map(|p| Database::at(p.into())).collect();
        Config { databases, ..Config::empty(Origin::File("/etc/litestream.yml".into())) }
    }

    fn path(paths: &[&str], pairs: &[(&str, &str)], flag: Option<&str>) -> Result<String, String> {
        let env = Env::from_pairs(pairs.iter().copied()).with_cwd("/work");
        database_path(&config(paths), &env, flag.map(Path::new))
            .map(|p| p.display().to_string())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn database_urls_are_local_remote_or_memory() {
        let env = Env::default().with_cwd("/work");
        let local = |p: &str| DatabaseUrl::Local(p.into());
        let remote = |s: &str| DatabaseUrl::Remote { scheme: s.into() };
        for (text, want) in [
            ("/x.db", local("/x.db")),
            ("./x.db", local("/work/x.db")),
            ("station.db", local("/work/station.db")),
            ("/x.db?_pragma=busy_timeout(30000)&_pragma=foreign_keys(1)", local("/x.db")),
            ("file:/x.db?cache=shared", local("/x.db")),
            ("file:///x%20y.db", local("/x y.db")),
            ("file://localhost/x.db", local("/x.db")),
            ("file:x.db", local("/work/x.db")),
            ("sqlite:///x.db", local("/x.db")),
            ("sqlite://x.db", local("/work/x.db")),
            ("sqlite3:/x.db", local("/x.db")),
            ("a:b.db", local("/work/a:b.db")),
            (":memory:", DatabaseUrl::Memory),
            ("file::memory:?cache=shared", DatabaseUrl::Memory),
            ("file:x?mode=memory", DatabaseUrl::Memory),
            ("libsql://h?authToken=t", remote("libsql")),
            ("HTTPS://h", remote("https")),
            ("postgres://u:p@h/db", remote("postgres")),
        ] {
            assert_eq!(DatabaseUrl::parse(text, &env), Ok(want), "{text}");
        }
    }

    #[test]
    fn the_first_source_names_the_database() {
        let url = ("DATABASE_URL", "/e.db");
        assert_eq!(path(&[], &[], None).as_deref(), Ok("/data/station.db"));
        assert_eq!(path(&[], &[url], None).as_deref(), Ok("/e.db"));
        assert_eq!(path(&[], &[("DATABASE_URL", "libsql://h")], None).as_deref(), Ok("/data/station.db"));
        assert_eq!(path(&["/c.db"], &[], None).as_deref(), Ok("/c.db"));
        assert_eq!(path(&[], &[("DATABASE_PATH", "x.db")], None).as_deref(), Ok("/work/x.db"));
        let error = path(&[], &[("STATION_DATABASE", "/s.db")], Some("f.db")).unwrap_err();
        assert!(error.contains("--db says /work/f.db, and STATION_DATABASE says /s.db"), "{error}");
        assert_eq!(path(&[], &[], Some("f.db")).as_deref(), Ok("/work/f.db"));
        let all =
            ["SUPERVISOR_DB", "DATABASE_PATH", "STATION_DATABASE", "DATABASE_URL"].map(|n| (n, "/x/../c.db"));
        assert_eq!(path(&["/c.db"], &all, Some("/c.db")).as_deref(), Ok("/c.db"));
    }

    #[test]
    fn two_sources_that_disagree_are_both_printed() {
        assert_eq!(
            path(&["/data/a.db"], &[("DATABASE_URL", "/data/b.db?x=1")], None).unwrap_err(),
            "find the database: dbs[0].path in /etc/litestream.yml says /data/a.db, and DATABASE_URL says /data/b.db; \
             make them agree or remove one: replicating one file while the app writes another loses everything"
        );
        for name in ["SUPERVISOR_DB", "DATABASE_PATH", "STATION_DATABASE"] {
            let error = path(&["/data/a.db"], &[(name, "/data/b.db")], None).unwrap_err();
            assert!(error.contains(&format!("{name} says /data/b.db")), "{error}");
        }
    }

    #[test]
    fn what_an_app_is_told_in_its_own_ways_counts_too() {
        let path = |pairs: &[(&str, &str)], said: &[(&str, &str)]| {
            let env = Env::from_pairs(pairs.iter().copied()).with_cwd("/work");
            let path = database_path_for(&config(&[]), &env, None, said);
            path.map(|p| p.display().to_string()).map_err(|e| e.to_string())
        };
        assert_eq!(path(&[], &[("its --database", "x.db?a=b")]).as_deref(), Ok("/work/x.db"));
        assert_eq!(
            path(&[("DATABASE_URL", "/x.db")], &[("STN_DATABASE_URL", "/x.db")]).as_deref(),
            Ok("/x.db")
        );
        let error = path(&[("DATABASE_URL", "/x.db")], &[("STN_DATABASE_URL", "/y.db")]).unwrap_err();
        assert!(error.contains("DATABASE_URL says /x.db, and STN_DATABASE_URL says /y.db"), "{error}");
    }

    #[test]
    fn of_several_databases_a_source_must_name_one() {
        let two = ["/a.db", "/b.db"];
        assert_eq!(path(&two, &[("DATABASE_URL", "/b.db")], None).as_deref(), Ok("/b.db"));
        assert_eq!(path(&["/a.db", "/data/station.db"], &[], None).as_deref(), Ok("/data/station.db"));
        assert_eq!(
            path(&two, &[], None).unwrap_err(),
            "find the database: the configuration lists 2 databases; say which one the app opens with --db or DATABASE_URL"
        );
        assert_eq!(
            path(&two, &[("STATION_DATABASE", "/c.db")], None).unwrap_err(),
            "find the database: STATION_DATABASE says /c.db, and the configuration does not list it; add it to `dbs`, \
             or name one that is listed"
        );
    }

    #[test]
    fn of_a_directory_a_source_must_name_a_database() {
        let text = "dbs: [{dir: /data, pattern: '*.db', replica: {path: /b}}]";
        let env = |pairs: &[(&str, &str)]| Env::from_pairs(pairs.iter().copied());
        let config = crate::parse(text, Path::new("/etc/l.yml"), &env(&[]), true).unwrap();
        let path = |pairs: &[(&str, &str)]| {
            let path = database_path(&config, &env(pairs), None);
            path.map(|p| p.display().to_string()).map_err(|e| e.to_string())
        };
        assert_eq!(path(&[("DATABASE_URL", "/data/x.db")]).as_deref(), Ok("/data/x.db"));
        assert_eq!(path(&[]).as_deref(), Ok("/data/station.db"));
        let error = path(&[("DATABASE_URL", "/other/x.db")]).unwrap_err();
        assert!(error.contains("the configuration does not list it"), "{error}");
    }

    #[test]
    fn two_names_of_one_file_agree() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let (a, b) = (link.join("x.db"), real.join("x.db"));
        let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
        assert_eq!(path(&[a], &[("DATABASE_URL", b)], None).as_deref(), Ok(a));
    }
}
