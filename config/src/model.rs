//! The configuration as both programs use it: every default filled in, every path absolute. Values only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::destination::Destination;
use crate::directory::Directory;
use crate::error::Warning;
use crate::path;

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

impl Default for Logging {
    fn default() -> Self {
        Self { level: Level::Info, format: Format::Text, stderr: false }
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
    fn a_command_splits_as_a_shell_splits_it() {
        let exec = Some(r#"app -name 'two words' "a \"b\"" $HOME \x"#.to_string());
        let config = Config { exec, ..Config::empty(Origin::CommandLine) };
        assert_eq!(config.command(), ["app", "-name", "two words", "a \"b\"", "$HOME", "x"]);
        assert_eq!(Config::empty(Origin::CommandLine).command(), [""; 0]);
    }
}
