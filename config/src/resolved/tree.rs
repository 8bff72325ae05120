//! A configuration as the tree a file would be. Values only.

use std::time::Duration;

use super::source::Sources;
use super::{Entry, Node, Value};
use crate::addr;
use crate::destination::{
    Abs, AbsCredentials, Credentials, Destination, Encryption, Gcs, GcsCredentials, S3, S3Options, Sftp,
};
use crate::directory::Directory;
use crate::duration::format_duration;
use crate::model::{Config, Database, Format, Layout, Level, Ltx, Origin, PageEncoding, Replica};
use crate::size::format_size;

/// The tree of `config`.
pub(super) fn of(config: &Config, sources: &Sources<'_>) -> Vec<Entry> {
    let at = At { sources, homes: vec![String::new()] };
    let mut top = Vec::new();
    if let Some(addr) = &config.addr {
        top.push(at.text("addr", addr, &[addr::ADDR]));
    }
    let lag = Value::Word(format_duration(config.max_lag));
    top.push(at.value("max-lag", lag, &[addr::MAX_LAG]));
    if let Some(exec) = &config.exec {
        top.push(at.text("exec", exec, &[]));
    }
    top.push(logging(config, &at));
    top.push(at.duration("shutdown-sync-timeout", config.shutdown_sync_timeout));
    // These stand at the top only, so every replica has the same.
    let all = || config.databases.iter().chain(config.directories.iter().map(|d| &d.each));
    let first = all().flat_map(|d| &d.replicas).next();
    let ltx = first.map_or_else(Ltx::default, |r| r.ltx.clone());
    top.extend(layers(&ltx, &at));
    let databases = config.databases.iter().map(|d| database(d, sources));
    let directories = config.directories.iter().map(|d| directory(d, sources));
    top.push(Entry { key: "dbs", node: Node::List(databases.chain(directories).collect()) });
    top
}

/// Where the keys of one map may stand, the nearest first; empty is the top.
struct At<'a> {
    sources: &'a Sources<'a>,
    homes: Vec<String>,
}

impl At<'_> {
    fn keys(&self, key: &str) -> Vec<String> {
        let name = |home: &String| if home.is_empty() { key.to_string() } else { format!("{home}.{key}") };
        self.homes.iter().map(name).collect()
    }

    fn value(&self, key: &'static str, value: Value, variables: &[&str]) -> Entry {
        Entry { key, node: Node::Value(value, self.sources.find(&self.keys(key), variables)) }
    }

    fn text(&self, key: &'static str, text: &str, variables: &[&str]) -> Entry {
        self.value(key, Value::Text(text.into()), variables)
    }

    fn word(&self, key: &'static str, word: &str) -> Entry {
        self.value(key, Value::Word(word.into()), &[])
    }

    fn duration(&self, key: &'static str, duration: Duration) -> Entry {
        self.word(key, &format_duration(duration))
    }

    fn switch(&self, key: &'static str, on: bool, variables: &[&str]) -> Entry {
        self.value(key, Value::Switch(on), variables)
    }

    fn secret(&self, key: &'static str, variables: &[&str]) -> Entry {
        Entry { key, node: Node::Comment(None, self.sources.find_secret(&self.keys(key), variables)) }
    }
}

fn logging(config: &Config, at: &At<'_>) -> Entry {
    let at = At { homes: vec!["logging".into()], ..*at };
    let level = match config.logging.level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    let format = match config.logging.format {
        Format::Text => "text",
        Format::Json => "json",
    };
    let entries = vec![
        at.word("level", level),
        at.word("type", format),
        at.switch("stderr", config.logging.stderr, &[]),
    ];
    Entry { key: "logging", node: Node::Map(entries) }
}

fn layers(ltx: &Ltx, at: &At<'_>) -> Vec<Entry> {
    let levels = ltx.levels.iter().enumerate().map(|(i, interval)| {
        let at = At { homes: vec![format!("levels[{i}]")], ..*at };
        vec![at.duration("interval", *interval)]
    });
    let levels = levels.collect();
    let kept = At { homes: vec!["retention".into()], ..*at };
    vec![
        Entry { key: "levels", node: Node::List(levels) },
        at.duration("l0-retention", ltx.l0_retention),
        at.duration("l0-retention-check-interval", ltx.l0_retention_check_interval),
        Entry { key: "retention", node: Node::Map(vec![kept.switch("enabled", ltx.retention_enabled, &[])]) },
    ]
}

fn database(database: &Database, sources: &Sources<'_>) -> Vec<Entry> {
    let home = sources.notes.databases.iter().find(|(path, _)| *path == database.path);
    let home = home.map(|(_, name)| name.clone());
    let at = At { sources, homes: home.iter().cloned().collect() };
    let path = database.path.to_string_lossy();
    let mut entries = vec![at.text("path", &path, of_environment(sources, DATABASE))];
    entries.extend(settings(database, home.as_deref(), &at));
    entries
}

fn directory(directory: &Directory, sources: &Sources<'_>) -> Vec<Entry> {
    let known = sources.notes.directories.iter();
    let home =
        known.into_iter().find(|(path, pattern, _)| *path == directory.path && *pattern == directory.pattern);
    let home = home.map(|(.., name)| name.clone());
    let at = At { sources, homes: home.iter().cloned().collect() };
    let mut entries = vec![
        at.text("dir", &directory.path.to_string_lossy(), &[]),
        at.text("pattern", &directory.pattern.to_string(), &[]),
        at.switch("recursive", directory.recursive, &[]),
        at.switch("watch", directory.watch, &[]),
    ];
    if let Some(meta) = &directory.meta_dir {
        entries.push(at.text("meta-dir", &meta.to_string_lossy(), &[]));
    }
    entries.extend(settings(&directory.each, home.as_deref(), &at));
    entries
}

/// What an item of either kind may set, and its replicas.
fn settings(database: &Database, home: Option<&str>, at: &At<'_>) -> Vec<Entry> {
    let mut entries = Vec::new();
    if let Some(meta) = &database.meta_path {
        entries.push(at.text("meta-path", &meta.to_string_lossy(), &[]));
    }
    entries.push(at.duration("monitor-interval", database.monitor_interval));
    entries.push(at.duration("checkpoint-interval", database.checkpoint_interval));
    let pages = |key, n: u32| at.value(key, Value::Number(n.into()), &[]);
    entries.push(pages("min-checkpoint-page-count", database.min_checkpoint_pages));
    entries.push(pages("max-checkpoint-page-count", database.max_checkpoint_pages));
    entries.push(at.word("max-wal-size", &format_size(database.max_wal_bytes)));
    let replicas = database.replicas.iter().map(|r| replica(r, home, at.sources)).collect();
    entries.push(Entry { key: "replicas", node: Node::List(replicas) });
    entries
}

fn replica(replica: &Replica, database: Option<&str>, sources: &Sources<'_>) -> Vec<Entry> {
    let home = sources.notes.replicas.iter().find(|(d, _)| *d == replica.destination);
    let own: Vec<String> = home.iter().map(|(_, name)| name.clone()).collect();
    // What a replica does not say itself, the top may.
    let homes = own.iter().cloned().chain(home.map(|_| String::new())).collect();
    let (at, own) = (At { sources, homes }, At { sources, homes: own });
    let mut entries =
        vec![own.word("type", replica.destination.kind()), own.text("name", &replica.name, &[])];
    entries.extend(match &replica.destination {
        Destination::File { path } => {
            vec![own.text(
                "path",
                &path.to_string_lossy(),
                of_environment(sources, &["LITESTREAM_FILE_PATH"]),
            )]
        }
        Destination::S3(s3) => s3_entries(s3, &own, &at),
        Destination::Gcs(gcs) => gcs_entries(gcs, &own, &at),
        Destination::Abs(abs) => abs_entries(abs, &own, &at),
        Destination::Sftp(sftp) => sftp_entries(sftp, &own),
    });
    entries.extend(snapshots(replica, &own, database));
    entries.push(at.duration("retention-check-interval", replica.retention_check_interval));
    entries.push(at.duration("sync-interval", replica.sync_interval));
    entries.push(at.duration("validation-interval", replica.validation_interval));
    entries.push(at.duration("timeout", replica.timeout));
    if let Some(layout) = replica.layout {
        let name = match layout {
            Layout::V03 => "v0.3",
            Layout::Ltx => "ltx",
        };
        entries.push(own.word("format", name));
    }
    let encoding = match replica.ltx.page_encoding {
        PageEncoding::Block => "block",
        PageEncoding::Frame => "frame",
    };
    entries.push(own.word("ltx-page-encoding", encoding));
    entries
}

/// `snapshot-interval` and `retention`, whose defaults differ between the layouts.
fn snapshots(replica: &Replica, own: &At<'_>, database: Option<&str>) -> [Entry; 2] {
    let entry = |key: &'static str, long: &str, v03: Duration, ltx: Duration| {
        let mut keys = own.keys(key);
        keys.extend(database.map(|home| format!("{home}.snapshot.{long}")));
        keys.push(format!("snapshot.{long}"));
        let source = own.sources.find(&keys, &[]);
        let word = |d| Node::Value(Value::Word(format_duration(d)), source.clone());
        let node = match replica.layout {
            _ if v03 == ltx => word(v03),
            Some(Layout::V03) => word(v03),
            Some(Layout::Ltx) => word(ltx),
            None => {
                let both =
                    format!("{} in 0.3's layout, {} in 0.5's", format_duration(v03), format_duration(ltx));
                Node::Comment(Some(both), source)
            }
        };
        Entry { key, node }
    };
    let ltx = &replica.ltx;
    [
        entry("snapshot-interval", "interval", replica.snapshot_interval, ltx.snapshot_interval),
        entry("retention", "retention", replica.retention, ltx.snapshot_retention),
    ]
}

fn s3_entries(s3: &S3, own: &At<'_>, at: &At<'_>) -> Vec<Entry> {
    let made = |names| of_environment(at.sources, names);
    let mut entries = vec![
        at.text("bucket", &s3.bucket, made(&["LITESTREAM_S3_BUCKET"])),
        own.text("path", &s3.path, made(&["LITESTREAM_S3_PATH"])),
        at.text(
            "region",
            &s3.region,
            match (&s3.endpoint, at.sources.origin) {
                (_, Origin::Environment) => &["LITESTREAM_S3_REGION", "AWS_REGION"],
                (None, _) => &["AWS_REGION", "AWS_DEFAULT_REGION"],
                (Some(_), _) => &[],
            },
        ),
    ];
    if let Some(endpoint) = &s3.endpoint {
        entries.push(at.text("endpoint", endpoint, made(&["LITESTREAM_S3_ENDPOINT"])));
    }
    entries.push(at.switch(
        "force-path-style",
        s3.force_path_style,
        made(&["LITESTREAM_S3_FORCE_PATH_STYLE"]),
    ));
    entries.push(at.switch("skip-verify", s3.skip_verify, made(&["LITESTREAM_S3_SKIP_VERIFY"])));
    entries.extend(s3_options(&s3.options, own));
    if let Some(Credentials { access_key_id: id, session_token, .. }) = &s3.credentials {
        let shown: String = id.chars().take(4).chain(['…']).collect();
        let first = first(at.sources);
        let source = at.sources.find_secret(&at.keys("access-key-id"), &S3_ID[first..]);
        entries.push(Entry { key: "access-key-id", node: Node::Comment(Some(shown), source) });
        entries.push(at.secret("secret-access-key", &S3_SECRET[first..]));
        if session_token.is_some() {
            entries.push(own.secret("session-token", &S3_TOKEN[first..]));
        }
    }
    entries
}

fn s3_options(options: &S3Options, own: &At<'_>) -> Vec<Entry> {
    let size = options.part_size.map(|bytes| own.word("part-size", &format_size(bytes)));
    let parts = options.concurrency.map(|n| own.value("concurrency", Value::Number(n.into()), &[]));
    let class = options.storage_class.as_ref().map(|class| own.text("storage-class", class, &[]));
    let signed = (!options.sign_payload).then(|| own.switch("sign-payload", false, &[]));
    let encryption = options.encryption.as_ref().map(|encryption| match encryption {
        Encryption::Kms { key_id } => own.text("sse-kms-key-id", key_id, &[]),
        Encryption::Customer(_) => own.secret("sse-customer-key", &[]),
    });
    [size, parts, class, signed, encryption].into_iter().flatten().collect()
}

fn gcs_entries(gcs: &Gcs, own: &At<'_>, at: &At<'_>) -> Vec<Entry> {
    let made = |names| of_environment(at.sources, names);
    let mut entries = vec![
        at.text("bucket", &gcs.bucket, made(&["LITESTREAM_GCS_BUCKET"])),
        own.text("path", &gcs.path, made(&["LITESTREAM_GCS_PATH"])),
    ];
    if let Some(endpoint) = &gcs.endpoint {
        entries.push(at.text("endpoint", endpoint, made(&["LITESTREAM_GCS_ENDPOINT"])));
    }
    match &gcs.credentials {
        GcsCredentials::Key(_) => {
            entries.push(at.secret("service-account-json", made(&["LITESTREAM_GCS_SERVICE_ACCOUNT_JSON"])));
        }
        GcsCredentials::File(path) => entries.push(at.text(
            "service-account-json-path",
            &path.to_string_lossy(),
            &["GOOGLE_APPLICATION_CREDENTIALS"],
        )),
        GcsCredentials::Platform => {}
    }
    entries
}

fn abs_entries(abs: &Abs, own: &At<'_>, at: &At<'_>) -> Vec<Entry> {
    let made = |names| of_environment(at.sources, names);
    let account = made(&["LITESTREAM_ABS_ACCOUNT_NAME", "LITESTREAM_AZURE_ACCOUNT_NAME"]);
    let mut entries = vec![
        at.text("account-name", &abs.account, account),
        at.text("bucket", &abs.container, made(&["LITESTREAM_ABS_BUCKET", "LITESTREAM_AZURE_CONTAINER"])),
        own.text("path", &abs.path, made(&["LITESTREAM_ABS_PATH"])),
    ];
    if let Some(endpoint) = &abs.endpoint {
        entries.push(at.text("endpoint", endpoint, made(&["LITESTREAM_ABS_ENDPOINT"])));
    }
    let first = first(at.sources);
    match &abs.credentials {
        AbsCredentials::Key(_) => entries.push(at.secret("account-key", &ABS_KEY[first..])),
        AbsCredentials::Sas(_) => entries.push(at.secret("sas-token", &ABS_SAS[first..])),
        AbsCredentials::Platform => {}
    }
    entries
}

fn sftp_entries(sftp: &Sftp, own: &At<'_>) -> Vec<Entry> {
    let host = if sftp.host.contains(':') { format!("[{}]", sftp.host) } else { sftp.host.clone() };
    let host = if sftp.port == 22 { host } else { format!("{host}:{}", sftp.port) };
    let mut entries = vec![
        own.text("host", &host, &[]),
        own.text("user", &sftp.user, &[]),
        own.text("path", &sftp.path, &[]),
    ];
    if let Some(path) = &sftp.key_path {
        entries.push(own.text("key-path", &path.to_string_lossy(), &["LITESTREAM_SFTP_KEY_PATH"]));
    }
    if sftp.password.is_some() {
        entries.push(own.secret("password", &["LITESTREAM_SFTP_PASSWORD"]));
    }
    if let Some(key) = &sftp.host_key {
        entries.push(own.text("host-key", key, &["LITESTREAM_SFTP_HOST_KEY"]));
    }
    entries.push(own.switch("concurrent-writes", sftp.concurrent_writes, &[]));
    entries
}

/// Variables that only a configuration made of the environment follows.
fn of_environment<'a>(sources: &Sources<'_>, names: &'a [&'a str]) -> &'a [&'a str] {
    if *sources.origin == Origin::Environment { names } else { &[] }
}

/// Of the lists below: the first name is for a configuration made of the environment.
fn first(sources: &Sources<'_>) -> usize {
    usize::from(*sources.origin != Origin::Environment)
}

const DATABASE: &[&str] = &["SUPERVISOR_DB", "DATABASE_PATH", "STATION_DATABASE", "DATABASE_URL"];

const S3_ID: [&str; 3] = ["LITESTREAM_S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID", "LITESTREAM_ACCESS_KEY_ID"];
const S3_SECRET: [&str; 3] =
    ["LITESTREAM_S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "LITESTREAM_SECRET_ACCESS_KEY"];
const S3_TOKEN: [&str; 2] = ["LITESTREAM_S3_SESSION_TOKEN", "AWS_SESSION_TOKEN"];
const ABS_KEY: [&str; 2] = ["LITESTREAM_ABS_ACCOUNT_KEY", "LITESTREAM_AZURE_ACCOUNT_KEY"];
const ABS_SAS: [&str; 2] = ["LITESTREAM_ABS_SAS_TOKEN", "LITESTREAM_AZURE_SAS_TOKEN"];
