//! The configuration as both programs use it: every default filled in, every path absolute. Values only.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::directory::Directory;
use crate::error::Warning;
use crate::path;
use crate::secret::Secret;

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub databases: Vec<Database>,
    /// Where more databases are found.
    pub directories: Vec<Directory>,
    /// Where the agent answers probes and scrapers: `HOST:PORT` or `:PORT`. A port is always there.
    pub addr: Option<String>,
    /// How far behind a replica may be before the agent says that it is not ready. Default 0: any.
    pub max_lag: Duration,
    pub logging: Logging,
    /// How long the final sync may take after a stop. Default 30 s (Litestream 0.5's key).
    pub shutdown_sync_timeout: Duration,
    /// The command to run beside the replication, as Litestream's `-exec`; it splits into words.
    pub exec: Option<String>,
    pub origin: Origin,
    /// What had no effect or looked like a mistake. To be logged once, by whoever loaded it.
    pub warnings: Vec<Warning>,
}

/// Where a configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    File(PathBuf),
    /// The variables of Station's documentation; with no databases at all, the search for a file ended there and
    /// found nothing.
    Environment,
    CommandLine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging {
    pub level: Level,
    pub format: Format,
    /// Log to stderr, not stdout.
    pub stderr: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// One database and where it is replicated to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Absolute and cleaned.
    pub path: PathBuf,
    /// Where local state goes instead of beside the database. Absolute.
    pub meta_path: Option<PathBuf>,
    /// How often to look at the WAL when no event says so. Default 1 s; never 0.
    pub monitor_interval: Duration,
    /// How often to checkpoint even below the minimum. Default 1 m; 0 is off.
    pub checkpoint_interval: Duration,
    /// WAL pages from which a checkpoint is tried. Default 1000; never 0.
    pub min_checkpoint_pages: u32,
    /// WAL pages from which a checkpoint is pressed harder. Default 10000; 0 is off.
    pub max_checkpoint_pages: u32,
    /// Bytes the WAL may grow to before writers are held for a sealed checkpoint. Default 1 GiB; never 0.
    pub max_wal_bytes: u64,
    pub replicas: Vec<Replica>,
}

/// One replica of a database. Its name is unique within the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The `name`, by default the type: `file`, `s3`, `gcs`, `abs`, `sftp`.
    pub name: String,
    pub destination: Destination,
    /// How far back it must be possible to restore. Default 24 h; 0 keeps everything.
    pub retention: Duration,
    /// How often to look for what may go. Default 1 h; never 0.
    pub retention_check_interval: Duration,
    /// The shortest time between two uploads. Default 1 s; never 0.
    pub sync_interval: Duration,
    /// How often to write a new snapshot. Default 0: off.
    pub snapshot_interval: Duration,
    /// How often to restore and compare. Default 0: off.
    pub validation_interval: Duration,
    /// How long the destination may be silent before a request is given up. Default 30 s; never 0.
    pub timeout: Duration,
    /// The layout asked for. Default `None`: the one the replica already has, else [`Layout::V03`].
    pub layout: Option<Layout>,
    /// How it is kept where its layout is [`Layout::Ltx`].
    pub ltx: Ltx,
}

/// How a replica names and encodes what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Litestream 0.3: `generations/`, read by 0.3 and 0.5.
    V03,
    /// Litestream 0.5: LTX files in levels.
    Ltx,
}

/// The pace of a replica in Litestream 0.5's layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ltx {
    /// How pages are compressed. Default: as blocks.
    pub page_encoding: PageEncoding,
    /// How often each level above 0 is written, from level 1 on; at multiples of it in UTC. Default 30 s, 5 m, 1 h;
    /// at most 8, none of them 0.
    pub levels: Vec<Duration>,
    /// How often a full copy goes to level 9, at multiples of it in UTC. Default 24 h; 0 only at the start.
    pub snapshot_interval: Duration,
    /// How far back it must be possible to restore. Default 24 h; 0 keeps everything.
    pub snapshot_retention: Duration,
    /// How long each single upload stays restorable. Default 5 m; 0 keeps all of them.
    pub l0_retention: Duration,
    /// How often to look for what may go at level 0. Default 15 s; never 0.
    pub l0_retention_check_interval: Duration,
    /// Whether anything is ever deleted. Default true; false is for buckets whose own rules do that.
    pub retention_enabled: bool,
}

/// How the pages of an LTX file are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageEncoding {
    /// LZ4 blocks: read by Litestream 0.5.16 and later.
    Block,
    /// LZ4 frames: read by every Litestream 0.5.
    Frame,
}

/// What a replica is kept on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A directory. Absolute.
    File {
        path: PathBuf,
    },
    S3(S3),
    Gcs(Gcs),
    Abs(Abs),
    Sftp(Sftp),
}

/// A prefix in a bucket of S3 or of a service that speaks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    pub bucket: String,
    /// Without a slash at either end; empty for the whole bucket.
    pub path: String,
    /// Never empty.
    pub region: String,
    /// `SCHEME://HOST[:PORT]`; `None` is AWS itself.
    pub endpoint: Option<String>,
    /// Bucket in the path, not in the host name. By default true if there is an endpoint.
    pub force_path_style: bool,
    /// Do not check the TLS certificate.
    pub skip_verify: bool,
    /// Keys from the configuration or the environment; `None` asks the platform (web identity, ECS, IMDS).
    pub credentials: Option<Credentials>,
    pub options: S3Options,
}

/// How objects are sent, and how they are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Options {
    /// The least size of a part of a large upload. Default: 8 MiB.
    pub part_size: Option<u64>,
    /// Parts on their way at once. Default: 2.
    pub concurrency: Option<u32>,
    /// `STANDARD_IA` and the like. Default: the bucket's.
    pub storage_class: Option<String>,
    /// Whether the signature covers what is sent, not only where to. Default: true.
    pub sign_payload: bool,
    /// Default: the bucket's.
    pub encryption: Option<Encryption>,
}

/// How the service encrypts objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With a key it keeps for us.
    Kms { key_id: String },
    /// With a key we send along with every request, which it does not keep: AES-256, 32 bytes in base64.
    Customer(Secret<String>),
}

/// A prefix in a bucket of Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gcs {
    pub bucket: String,
    /// Without a slash at either end; empty for the whole bucket.
    pub path: String,
    /// `SCHEME://HOST[:PORT]`; `None` is Google itself.
    pub endpoint: Option<String>,
    pub credentials: GcsCredentials,
}

/// Who asks Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GcsCredentials {
    /// The key of a service account, as JSON.
    Key(Secret<String>),
    /// The file that holds such a key, or what `gcloud auth application-default login` wrote. Absolute.
    File(PathBuf),
    /// What `gcloud` left in the home directory, else the machine's own account (workload identity).
    Platform,
}

/// A prefix in a container of Azure Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abs {
    pub account: String,
    pub container: String,
    /// Without a slash at either end; empty for the whole container.
    pub path: String,
    /// `SCHEME://HOST[:PORT][/PATH]`; `None` is `https://ACCOUNT.blob.core.windows.net`.
    pub endpoint: Option<String>,
    pub credentials: AbsCredentials,
}

/// Who asks Azure Blob Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbsCredentials {
    /// A key of the account, base64.
    Key(Secret<String>),
    /// The query of a shared access signature.
    Sas(Secret<String>),
    /// Workload identity, a service principal of the environment, else the machine's managed identity.
    Platform,
}

/// A directory on a server that speaks SFTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sftp {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Absolute, or from the login directory on, which is `.` itself. Without a slash at its end, but for `/`.
    pub path: String,
    /// The private key's file. Absolute.
    pub key_path: Option<PathBuf>,
    pub password: Option<Secret<String>>,
    /// The only key the server may have, as `TYPE BASE64`; `None` asks the files of known hosts.
    pub host_key: Option<String>,
    /// Whether several writes may be under way in a file.
    pub concurrent_writes: bool,
    /// Where `.ssh` lies, with the hosts that are known and the keys that are tried if there is neither key nor password.
    pub home: Option<PathBuf>,
}

/// A key pair. `Debug` shows the first four characters of the key's id.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: Secret<String>,
    pub session_token: Option<Secret<String>>,
}

impl Config {
    /// A configuration with no databases.
    pub fn empty(origin: Origin) -> Self {
        Self {
            databases: Vec::new(),
            directories: Vec::new(),
            addr: None,
            max_lag: Duration::ZERO,
            logging: Logging::default(),
            shutdown_sync_timeout: Duration::from_secs(30),
            exec: None,
            origin,
            warnings: Vec::new(),
        }
    }

    /// What `replicate DB URL...` means: one database with Litestream's defaults. A relative path is taken from the
    /// working directory; a name that occurs again gets a number (`s3`, `s3-2`).
    pub fn for_command_line(db: &Path, replicas: Vec<Replica>) -> Self {
        let absolute = std::path::absolute(db).unwrap_or_else(|_| db.to_path_buf());
        let mut database = Database::at(path::clean(&absolute));
        for mut replica in replicas {
            let taken = |name: &str| database.replicas.iter().any(|r| r.name == name);
            if taken(&replica.name) {
                let free = (2_usize..).map(|n| format!("{}-{n}", replica.name)).find(|name| !taken(name));
                replica.name = free.unwrap_or(replica.name);
            }
            database.replicas.push(replica);
        }
        Self { databases: vec![database], ..Self::empty(Origin::CommandLine) }
    }

    /// The database at `path`, which must be absolute, whether it exists or not: the one listed with it, else the one
    /// the first directory that covers it makes of it. Compared letter by letter after cleaning, as Litestream does.
    pub fn database(&self, path: &Path) -> Option<Database> {
        let path = path::clean(path);
        let listed = self.databases.iter().find(|d| d.path == path).cloned();
        listed.or_else(|| self.directories.iter().find_map(|d| d.database(&path)))
    }

    /// The same configuration for the app's database at `path`, as [`crate::database_path`] found it. Only one that
    /// was made of the environment moves; a file or a command line means the database it names.
    #[must_use]
    pub fn with_database(mut self, path: &Path) -> Self {
        if let (Origin::Environment, [only]) = (&self.origin, &mut self.databases[..]) {
            only.path = path::clean(path);
        }
        self
    }

    /// The words of `exec`, as a shell splits them.
    pub fn command(&self) -> Vec<String> {
        self.exec.as_deref().and_then(shlex::split).unwrap_or_default()
    }

    /// Any database has a replica: replication is on.
    pub fn replicates(&self) -> bool {
        let mut all = self.databases.iter().chain(self.directories.iter().map(|d| &d.each));
        all.any(|d| !d.replicas.is_empty())
    }
}

impl Database {
    /// The database at an absolute path with Litestream 0.3.13's defaults and no replica.
    pub const fn at(path: PathBuf) -> Self {
        Self {
            path,
            meta_path: None,
            monitor_interval: Duration::from_secs(1),
            checkpoint_interval: Duration::from_secs(60),
            min_checkpoint_pages: 1_000,
            max_checkpoint_pages: 10_000,
            max_wal_bytes: 1 << 30,
            replicas: Vec::new(),
        }
    }
}

impl Replica {
    /// A replica with Litestream 0.3.13's defaults, named after its type.
    pub fn to(destination: Destination) -> Self {
        Self {
            name: destination.kind().into(),
            destination,
            retention: Duration::from_secs(24 * 3600),
            retention_check_interval: Duration::from_secs(3600),
            sync_interval: Duration::from_secs(1),
            snapshot_interval: Duration::ZERO,
            validation_interval: Duration::ZERO,
            timeout: Duration::from_secs(30),
            layout: None,
            ltx: Ltx::default(),
        }
    }
}

/// Litestream 0.5.17's.
impl Default for Ltx {
    fn default() -> Self {
        Self {
            page_encoding: PageEncoding::Block,
            levels: [30, 300, 3600].map(Duration::from_secs).to_vec(),
            snapshot_interval: Duration::from_secs(24 * 3600),
            snapshot_retention: Duration::from_secs(24 * 3600),
            l0_retention: Duration::from_secs(300),
            l0_retention_check_interval: Duration::from_secs(15),
            retention_enabled: true,
        }
    }
}

impl Default for S3Options {
    fn default() -> Self {
        Self { part_size: None, concurrency: None, storage_class: None, sign_payload: true, encryption: None }
    }
}

impl Destination {
    /// `file`, `s3`, `gcs`, `abs` or `sftp`: the type as the configuration writes it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::S3(_) => "s3",
            Self::Gcs(_) => "gcs",
            Self::Abs(_) => "abs",
            Self::Sftp(_) => "sftp",
        }
    }

    /// Where in the bucket or file system it lies.
    fn folder(&self) -> Cow<'_, str> {
        match self {
            Self::File { path } => path.to_string_lossy(),
            Self::S3(S3 { path, .. }) | Self::Gcs(Gcs { path, .. }) | Self::Abs(Abs { path, .. }) => {
                path.into()
            }
            // The login directory is in front of every path that starts there.
            Self::Sftp(Sftp { path, .. }) => {
                if path == "." {
                    "".into()
                } else {
                    path.into()
                }
            }
        }
    }

    /// The folder of this name in it, which may be several levels down: `a/b.db`.
    #[must_use]
    pub fn below(&self, relative: &str) -> Self {
        let mut below = self.clone();
        match &mut below {
            Self::File { path } => path.push(relative),
            Self::S3(S3 { path, .. }) | Self::Gcs(Gcs { path, .. }) | Self::Abs(Abs { path, .. }) => {
                if !path.is_empty() {
                    path.push('/');
                }
                path.push_str(relative);
            }
            Self::Sftp(Sftp { path, .. }) => match path.as_str() {
                "." => *path = relative.to_owned(),
                "/" => path.push_str(relative),
                _ => *path = format!("{path}/{relative}"),
            },
        }
        below
    }

    /// The bucket as a whole, with the same credentials, and the folder in it; `None` for a directory, also by SFTP.
    pub fn in_bucket(&self) -> Option<(Self, String)> {
        let mut root = self.clone();
        let folder = match &mut root {
            Self::File { .. } | Self::Sftp(_) => return None,
            Self::S3(S3 { path, .. }) | Self::Gcs(Gcs { path, .. }) | Self::Abs(Abs { path, .. }) => {
                std::mem::take(path)
            }
        };
        Some((root, folder))
    }

    /// Do both write to one and the same place?
    pub fn is_at(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { path: a }, Self::File { path: b }) => a == b,
            (Self::S3(a), Self::S3(b)) => {
                (&a.endpoint, &a.bucket, &a.path) == (&b.endpoint, &b.bucket, &b.path)
            }
            // One place may have two spellings: with its endpoint and without.
            (Self::Gcs(a), Self::Gcs(b)) => (&a.bucket, &a.path) == (&b.bucket, &b.path),
            (Self::Abs(a), Self::Abs(b)) => {
                (&a.account, &a.container, &a.path) == (&b.account, &b.container, &b.path)
            }
            // Users may have the same files before them, or each their own.
            (Self::Sftp(a), Self::Sftp(b)) => {
                (&a.host, a.port, &a.user, &a.path) == (&b.host, b.port, &b.user, &b.path)
            }
            (Self::File { .. } | Self::S3(_) | Self::Gcs(_) | Self::Abs(_) | Self::Sftp(_), _) => false,
        }
    }

    /// How `other` lies below this one: what [`Destination::below`] would make it of. Empty if they are one place.
    pub fn leads_to(&self, other: &Self) -> Option<String> {
        if self.is_at(other) {
            return Some(String::new());
        }
        let (own, theirs) = (self.folder(), other.folder());
        let rest = theirs.strip_prefix(&*own)?;
        let rest = if own.is_empty() || own.ends_with('/') { rest } else { rest.strip_prefix('/')? };
        (!rest.is_empty() && self.below(rest).is_at(other)).then(|| rest.to_owned())
    }

    fn endpoint(&self) -> Option<&str> {
        match self {
            Self::File { .. } | Self::Sftp(_) => None,
            Self::S3(S3 { endpoint, .. })
            | Self::Gcs(Gcs { endpoint, .. })
            | Self::Abs(Abs { endpoint, .. }) => endpoint.as_deref(),
        }
    }
}

/// A directory's path, `s3://BUCKET/PATH`, `gs://BUCKET/PATH` or `abs://ACCOUNT@CONTAINER/PATH`, with ` at ENDPOINT` if
/// there is one, or as [`Sftp`]. Never holds credentials.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path } => return write!(f, "{}", path.display()),
            Self::S3(s3) => write!(f, "s3://{}/{}", s3.bucket, s3.path)?,
            Self::Gcs(gcs) => write!(f, "gs://{}/{}", gcs.bucket, gcs.path)?,
            Self::Abs(abs) => write!(f, "abs://{}@{}/{}", abs.account, abs.container, abs.path)?,
            Self::Sftp(sftp) => sftp.fmt(f)?,
        }
        self.endpoint().map_or(Ok(()), |e| write!(f, " at {e}"))
    }
}

/// `sftp://USER@HOST[:PORT]/PATH`, with `/~/PATH` for one from the login directory on.
impl fmt::Display for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, path, .. } = self;
        write!(f, "sftp://{user}@")?;
        if host.contains(':') { write!(f, "[{host}]") } else { f.write_str(host) }?;
        if *port != 22 {
            write!(f, ":{port}")?;
        }
        match path.as_str() {
            "." => f.write_str("/~"),
            path if path.starts_with('/') => f.write_str(path),
            path => write!(f, "/~/{path}"),
        }
    }
}

impl Default for Logging {
    fn default() -> Self {
        Self { level: Level::Info, format: Format::Text, stderr: false }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id: String = self.access_key_id.chars().take(4).chain(['…']).collect();
        f.debug_struct("Credentials")
            .field("access_key_id", &id)
            .field("secret_access_key", &self.secret_access_key)
            .field("session_token", &self.session_token)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Replica {
        Replica::to(Destination::File { path: path.into() })
    }

    #[test]
    fn the_command_line_numbers_names_that_occur_again() {
        let config = Config::for_command_line(
            Path::new("/data/../data/x.db"),
            vec![file("/a"), file("/b"), file("/c")],
        );
        let db = config.database(Path::new("/data/./x.db")).unwrap();
        let names: Vec<_> = db.replicas.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["file", "file-2", "file-3"]);
        assert_eq!(config.origin, Origin::CommandLine);
        assert!(config.replicates());
    }

    #[test]
    fn the_command_line_takes_a_relative_path_from_the_working_directory() {
        let config = Config::for_command_line(Path::new("x.db"), vec![]);
        assert!(config.databases[0].path.is_absolute());
        assert!(!config.replicates());
    }

    #[test]
    fn only_a_configuration_of_the_environment_moves_to_the_apps_database() {
        let config = Config::for_command_line(Path::new("/x.db"), vec![file("/a")]);
        let made = Config { origin: Origin::Environment, ..config.clone() };
        assert_eq!(config.with_database(Path::new("/y.db")).databases[0].path.to_str(), Some("/x.db"));
        assert_eq!(made.with_database(Path::new("/y.db")).databases[0].path.to_str(), Some("/y.db"));
    }

    #[test]
    fn a_place_lies_below_another_by_whole_names() {
        let file = |path: &str| Destination::File { path: path.into() };
        let s3 = |bucket: &str, path: &str| {
            Destination::S3(S3 {
                bucket: bucket.into(),
                path: path.into(),
                region: "r".into(),
                endpoint: None,
                force_path_style: false,
                skip_verify: false,
                credentials: None,
                options: S3Options::default(),
            })
        };
        for (above, below, want) in [
            (file("/b"), file("/b/x.db"), Some("x.db")),
            (file("/b"), file("/b"), Some("")),
            (file("/b"), file("/bx"), None),
            (file("/b/x"), file("/b"), None),
            (file("/"), file("/b"), Some("b")),
            (s3("b", ""), s3("b", "t/x.db"), Some("t/x.db")),
            (s3("b", "t"), s3("b", "t/x.db"), Some("x.db")),
            (s3("b", "t"), s3("c", "t/x.db"), None),
            (s3("b", "t"), file("t/x.db"), None),
        ] {
            assert_eq!(above.leads_to(&below).as_deref(), want, "{above} {below}");
        }
        assert_eq!(s3("b", "").below("t/x.db").to_string(), "s3://b/t/x.db");
    }

    #[test]
    fn a_command_splits_as_a_shell_splits_it() {
        let exec = Some(r#"app -name 'two words' "a \"b\"" $HOME \x"#.to_string());
        let config = Config { exec, ..Config::empty(Origin::CommandLine) };
        assert_eq!(config.command(), ["app", "-name", "two words", "a \"b\"", "$HOME", "x"]);
        assert_eq!(Config::empty(Origin::CommandLine).command(), [""; 0]);
    }

    #[test]
    fn keys_do_not_print() {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: Secret::new("wJalrXUtnFEMI".into()),
            session_token: Some(Secret::new("FwoGZXIvYXdzE".into())),
        };
        let printed = format!("{credentials:?}");
        assert_eq!(
            printed,
            r#"Credentials { access_key_id: "AKIA…", secret_access_key: ***, session_token: Some(***) }"#
        );
        let secret = || Secret::new("hunter2".to_string());
        assert_eq!(format!("{:?}", GcsCredentials::Key(secret())), "Key(***)");
        assert_eq!(format!("{:?}", AbsCredentials::Key(secret())), "Key(***)");
        assert_eq!(format!("{:?}", AbsCredentials::Sas(secret())), "Sas(***)");
    }
}
