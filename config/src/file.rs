//! `litestream.yml` into a [`Config`]. Values only.

use std::path::PathBuf;

use crate::advice::nearest;
use crate::error::ConfigError;
use crate::keys::Level as KeyLevel;
use crate::ltx;
use crate::model::{Config, Database, Destination, Format, Level, Logging, Origin, Replica};
use crate::reader::Section;
use crate::replica;
use crate::replica_url::looks_like_url;

/// Reads the whole file from its root. Warnings are left in the document.
pub(crate) fn read(top: &Section<'_>, path: PathBuf) -> Result<Config, ConfigError> {
    top.check_keys(KeyLevel::Top)?;
    let mut config = Config::empty(Origin::File(path));
    config.addr = addr(top)?;
    config.exec = top.text("exec")?;
    if config.exec.is_some() {
        top.warn(
            "exec",
            "is the supervisor's work: `holdfast-supervisor -- COMMAND`; `replicate` alone refuses it",
        );
    }
    config.shutdown_sync_timeout =
        top.duration("shutdown-sync-timeout")?.unwrap_or(config.shutdown_sync_timeout);
    if let Some(section) = top.section("logging")? {
        config.logging = logging(&section)?;
    }
    let ltx = ltx::of_top(top)?;
    let mut seen = Seen::default();
    for section in top.sections("dbs")? {
        let (found, replicas) = database(&section)?;
        let ltx = ltx::of_database(&section, &ltx)?;
        let index = match config.databases.iter().position(|d| d.path == found.path) {
            Some(index) => {
                section.warn_here(format!(
                    "{} is listed already; these replicas are added to it, other settings here are ignored",
                    found.path.display()
                ));
                index
            }
            None => {
                config.databases.push(found);
                config.databases.len() - 1
            }
        };
        let database = &mut config.databases[index];
        for at in replicas {
            let replica = replica::read(&at, top, &ltx)?;
            seen.check(&at, database, &replica)?;
            database.replicas.push(replica);
        }
    }
    if config.databases.is_empty() {
        top.warn_here("no databases: nothing will be replicated");
    }
    Ok(config)
}

/// A database without its replicas, and where those stand in the file.
fn database<'a>(at: &Section<'a>) -> Result<(Database, Vec<Section<'a>>), ConfigError> {
    at.check_keys(KeyLevel::Database)?;
    let path = at.required("path", "name the database file")?;
    // Litestream 0.5 takes the two schemes off.
    let local = path.strip_prefix("sqlite://").or_else(|| path.strip_prefix("sqlite3://")).unwrap_or(&path);
    if looks_like_url(local) {
        return Err(at
            .fail("path", "it is a URL, and a file's path is expected")
            .fix("write something like /data/station.db"));
    }
    let absolute = |key: &str, path: &str| {
        at.env()
            .absolute(path.as_ref())
            .map_err(|e| at.fail(key, e.to_string()).fix("write an absolute path"))
    };
    let mut database = Database::at(absolute("path", local)?);
    at.trace(|trace, at| trace.database(&database.path, at.name()));
    if let Some(meta) = at.text("meta-path")? {
        database.meta_path = Some(absolute("meta-path", &meta)?);
    }
    let default = database.clone();
    database.monitor_interval =
        at.positive("monitor-interval", "nothing would be replicated")?.unwrap_or(default.monitor_interval);
    database.checkpoint_interval = at.duration("checkpoint-interval")?.unwrap_or(default.checkpoint_interval);
    database.min_checkpoint_pages =
        at.count("min-checkpoint-page-count")?.unwrap_or(default.min_checkpoint_pages);
    if database.min_checkpoint_pages == 0 {
        return Err(at
            .fail("min-checkpoint-page-count", "it must be more than 0")
            .fix("the default is 1000"));
    }
    database.max_checkpoint_pages =
        at.count("max-checkpoint-page-count")?.unwrap_or(default.max_checkpoint_pages);
    database.max_wal_bytes = at.size("max-wal-size")?.unwrap_or(default.max_wal_bytes);
    if database.max_wal_bytes == 0 {
        return Err(at.fail("max-wal-size", "it must be more than 0").fix("the default is 1GiB"));
    }
    let mut replicas = at.sections("replicas")?;
    if let Some(one) = at.section("replica")? {
        if at.has("replicas") {
            return Err(at
                .fail("replica", "`replica` and `replicas` are both given")
                .fix("keep one of them"));
        }
        replicas.push(one);
    }
    if replicas.is_empty() {
        at.warn("path", format!("{} has no replica: it will not be replicated", database.path.display()));
    }
    Ok((database, replicas))
}

fn addr(top: &Section<'_>) -> Result<Option<String>, ConfigError> {
    let Some(addr) = top.text("addr")? else { return Ok(None) };
    let port = addr.rsplit_once(':').map(|(_, port)| port);
    match port.and_then(|p| p.parse::<u16>().ok()) {
        Some(_) => {
            top.warn("addr", "the agent does not serve metrics yet; ignored");
            Ok(Some(addr))
        }
        None => Err(top.fail("addr", format!("{addr:?} has no port")).fix("write :9090 or 127.0.0.1:9090")),
    }
}

fn logging(at: &Section<'_>) -> Result<Logging, ConfigError> {
    at.check_keys(KeyLevel::Logging)?;
    let mut logging = Logging::default();
    if let Some(level) = at.text("level")? {
        logging.level = match level.to_ascii_lowercase().as_str() {
            "trace" => Level::Trace,
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warn" | "warning" => Level::Warn,
            "error" => Level::Error,
            other => {
                let meant = nearest(other, ["trace", "debug", "info", "warn", "warning", "error"]);
                let meant = meant.map(|m| format!("; did you mean {m}?")).unwrap_or_default();
                at.warn("level", format!("{level:?} is not a level; info is used{meant}"));
                Level::Info
            }
        };
    }
    if let Some(format) = at.text("type")? {
        logging.format = match format.as_str() {
            "text" => Format::Text,
            "json" => Format::Json,
            "pretty" => {
                at.warn("type", "pretty is not available; text is used");
                Format::Text
            }
            _ => {
                return Err(at
                    .fail("type", format!("{format:?} is not a log format"))
                    .fix("write text or json"));
            }
        };
    }
    logging.stderr = at.switch("stderr")?.unwrap_or(false);
    Ok(logging)
}

/// Every place a replica of this file writes to, and the replica's name in the file.
#[derive(Default)]
struct Seen(Vec<(Destination, String)>);

impl Seen {
    /// Fails on a name the database has already, and on a place any replica writes to already.
    fn check(&mut self, at: &Section<'_>, database: &Database, replica: &Replica) -> Result<(), ConfigError> {
        if database.replicas.iter().any(|r| r.name == replica.name) {
            return Err(at
                .fail("name", format!("the database has two replicas named {:?}", replica.name))
                .fix("give each a `name` of its own (the default is the type)"));
        }
        if matches!(&replica.destination, Destination::File { path } if *path == database.path) {
            return Err(at.fail("path", "it is the database itself").fix("name another directory"));
        }
        if let Some((_, first)) = self.0.iter().find(|(d, _)| same_place(d, &replica.destination)) {
            return Err(at
                .fail_here(format!("it writes to {}, as {first} does", replica.destination))
                .fix("give each replica a `path` of its own: two writers at one place destroy each other's backups"));
        }
        self.0.push((replica.destination.clone(), at.name()));
        Ok(())
    }
}

fn same_place(a: &Destination, b: &Destination) -> bool {
    match (a, b) {
        (Destination::File { path: a }, Destination::File { path: b }) => a == b,
        (Destination::S3(a), Destination::S3(b)) => {
            (&a.endpoint, &a.bucket, &a.path) == (&b.endpoint, &b.bucket, &b.path)
        }
        // One place may have two spellings: with its endpoint and without.
        (Destination::Gcs(a), Destination::Gcs(b)) => (&a.bucket, &a.path) == (&b.bucket, &b.path),
        (Destination::Abs(a), Destination::Abs(b)) => {
            (&a.account, &a.container, &a.path) == (&b.account, &b.container, &b.path)
        }
        (Destination::File { .. } | Destination::S3(_) | Destination::Gcs(_) | Destination::Abs(_), _) => {
            false
        }
    }
}
