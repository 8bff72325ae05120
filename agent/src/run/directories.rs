//! Follows what directories hold: listens, scans on a thread of its own, asks `plan::discovery` what it means.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_config::{Config, Database, Destination, Directory};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::clock::Clock;
use crate::error::{Error, Kind};
use crate::plan::discovery::{Discovery, FileId, Listing, Order, What};
use crate::source::directory::{Scanner, file_id};
use crate::source::entries::{Change, Entries};

/// The directories of one configuration.
pub(super) struct Directories {
    clock: Clock,
    watched: Vec<Directory>,
    /// Databases somebody replicates for another reason: listed ones, and those of directories that are not watched.
    others: Vec<PathBuf>,
    apart: HashSet<PathBuf>,
    discovery: Discovery,
    entries: Option<Arc<AsyncFd<Listening>>>,
    scanner: Option<Scanner>,
    scan: Option<JoinHandle<(Scanner, Listing, Duration)>>,
}

/// [`Entries`] as the runtime waits for them.
#[derive(Debug)]
struct Listening(Arc<Entries>);

impl std::os::fd::AsRawFd for Listening {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl Directories {
    /// Of `config`. `discovery` knows of the databases that are replicated already.
    pub(super) fn new(config: &Config, clock: Clock, discovery: Discovery) -> Self {
        let watched: Vec<_> = config.directories.iter().filter(|d| d.watch).cloned().collect();
        let entries = if watched.is_empty() { None } else { listening() };
        let names = entries.as_ref().map(|e| e.get_ref().0.clone());
        let apart = replicas(config);
        let scanner = Scanner::new(watched.clone(), apart.clone(), names);
        let others = config.databases.iter().map(|d| d.path.clone()).collect();
        let scanner = Some(scanner);
        Self { clock, watched, others, apart, discovery, entries, scanner, scan: None }
    }

    /// The databases of directories that are not watched: those there are now, for good.
    ///
    /// # Errors
    /// [`Kind::Config`] for a directory that does not exist, and for one without a database that is not watched.
    pub(super) async fn fixed(&mut self, config: &Config) -> Result<Vec<PathBuf>, Error> {
        let mut paths = Vec::new();
        for directory in &config.directories {
            let wrong =
                |cause: String, hint: &str| Err(Error::new(Kind::Config, "replicate", cause).hint(hint));
            let shown = directory.path.display();
            let looked = directory.path.clone();
            let is_dir = tokio::task::spawn_blocking(move || std::fs::metadata(looked).map(|m| m.is_dir()));
            match is_dir.await.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
                Ok(true) => {}
                Ok(false) => {
                    return wrong(
                        format!("`dir: {shown}` is not a directory"),
                        "name one database with `path`",
                    );
                }
                Err(e) => {
                    return wrong(
                        format!("`dir: {shown}` cannot be read: {e}"),
                        "create it, or mount it first",
                    );
                }
            }
            if directory.watch {
                continue;
            }
            let (one, apart, held) = (vec![directory.clone()], self.apart.clone(), self.held());
            let scan = tokio::task::spawn_blocking(move || Scanner::new(one, apart, None).scan(&held()));
            let listing = scan.await.map_err(|e| Error::new(Kind::Bug, "read a directory", e))?;
            // Somebody follows what is held already, or it has a second name.
            let mut machine = Discovery::new();
            machine.begin();
            let orders = machine.scanned(Duration::ZERO, Duration::ZERO, &listing);
            let before = paths.len();
            for order in orders {
                match order {
                    Order::Follow(path) => paths.push(path),
                    Order::Tell(path, notice) => tracing::warn!("{} {notice}", path.display()),
                    Order::Leave(_) | Order::Hurry(_) => {}
                }
            }
            // A file without content may become a database; nobody would see it.
            let empty = listing.found.iter().filter(|(_, (_, what))| *what == What::Empty);
            let waiting: Vec<_> = empty.map(|(path, _)| path.clone()).collect();
            paths.extend(waiting);
            if paths.len() == before {
                let cause = format!("no SQLite database in `dir: {shown}` matches {}", directory.pattern);
                return wrong(cause, "`watch: true` waits for the first one");
            }
            tracing::info!(dir = %shown, count = paths.len() - before, watch = false, "found databases in directory");
        }
        self.others.extend(paths.iter().cloned());
        Ok(paths)
    }

    /// The first scan of the watched directories, at once.
    pub(super) async fn first(&mut self) -> Vec<Order> {
        if self.watched.is_empty() {
            return Vec::new();
        }
        self.start();
        let orders = self.scanned().await;
        let count = orders.iter().filter(|o| matches!(o, Order::Follow(_))).count();
        for directory in &self.watched {
            tracing::info!(dir = %directory.path.display(), watch = true, "watching directory");
        }
        tracing::info!(count, "found databases in watched directories");
        orders
    }

    /// What is to be done next, as the directories change; for ever pending where none is watched. Safe to drop in a
    /// `select!`: what was heard is kept, and a scan goes on.
    pub(super) async fn next(&mut self) -> Vec<Order> {
        if self.watched.is_empty() {
            return std::future::pending().await;
        }
        loop {
            let heard = heard(self.entries.clone());
            if self.scan.is_some() {
                tokio::select! {
                    biased;
                    orders = self.scanned() => {
                        if !orders.is_empty() {
                            return orders;
                        }
                    }
                    changes = heard => self.hear(&changes),
                }
            } else {
                let due = self.discovery.due().unwrap_or(Duration::MAX);
                tokio::select! {
                    biased;
                    changes = heard => self.hear(&changes),
                    () = self.clock.reach(due) => self.start(),
                }
            }
        }
    }

    /// Takes on another configuration: what a scan that was still running called for under the old one, and the databases
    /// of directories that are not watched. On an error everything stays as it is.
    pub(super) async fn reload(&mut self, config: &Config) -> Result<(Vec<Order>, Vec<PathBuf>), Error> {
        let orders = if self.scan.is_some() { self.scanned().await } else { Vec::new() };
        let discovery = std::mem::take(&mut self.discovery);
        let mut new = Self::new(config, self.clock, discovery);
        match new.fixed(config).await {
            Ok(present) => {
                new.discovery.hear(self.clock.now());
                *self = new;
                Ok((orders, present))
            }
            Err(error) => {
                self.discovery = new.discovery;
                Err(error)
            }
        }
    }

    /// The database at `path` is let go although its file is still there.
    pub(super) fn release(&mut self, path: &Path) {
        self.discovery.release(path);
    }

    /// The database at `path`, which is replicated already, is followed from now on, or is not any more.
    pub(super) fn adopt(&mut self, path: &Path, followed: bool) {
        match file_id(path).filter(|_| followed) {
            Some(file) => self.discovery.adopt(path, file),
            None if followed => {}
            None => {
                self.discovery.disown(path);
                self.others.push(path.into());
            }
        }
    }

    /// The loop of a database of ours has ended.
    pub(super) fn ended(&mut self, path: &Path) {
        self.discovery.ended(self.clock.now(), path);
    }

    fn start(&mut self) {
        let Some(mut scanner) = self.scanner.take() else { return };
        self.discovery.begin();
        let held = self.held();
        self.scan = Some(tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let listing = scanner.scan(&held());
            (scanner, listing, began.elapsed())
        }));
    }

    /// The end of the scan that runs.
    async fn scanned(&mut self) -> Vec<Order> {
        let Some(scan) = &mut self.scan else { return std::future::pending().await };
        let done = scan.await;
        self.scan = None;
        match done {
            Ok((scanner, listing, took)) => {
                self.scanner = Some(scanner);
                self.discovery.scanned(self.clock.now(), took, &listing)
            }
            // Only a panic, which is a bug of ours, or the end of the runtime.
            Err(error) => {
                tracing::error!(%error, "read the directories; this is a bug, please report it");
                std::future::pending().await
            }
        }
    }

    /// The files nobody but their loops may open. Asks the disk for those of the listed databases when it is called.
    fn held(&self) -> impl FnOnce() -> HashSet<FileId> + Send + 'static {
        let (mut held, others) = (self.discovery.files(), self.others.clone());
        move || {
            held.extend(others.iter().filter_map(|path| file_id(path)));
            held
        }
    }

    fn hear(&mut self, changes: &[Change]) {
        if changes.iter().any(|change| self.matters(change)) {
            self.discovery.hear(self.clock.now());
        }
    }

    /// May a scan show anything new after this change? The journals and WALs of databases come and go all the time.
    fn matters(&self, change: &Change) -> bool {
        match change {
            Change::Much => true,
            Change::Folder(path) => !self.apart.contains(path) && self.watched.iter().any(|d| d.enters(path)),
            Change::File(path) => {
                self.watched.iter().any(|d| d.covers(path))
                    || database_of(path).is_some_and(|db| self.discovery.awaits(&db))
            }
        }
    }
}

/// The database whose WAL, index or journal this would be: SQLite writes a new one's journal before its header.
fn database_of(path: &Path) -> Option<PathBuf> {
    let name = path.as_os_str().to_str()?;
    let suffixes = ["-wal", "-shm", "-journal"];
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).map(PathBuf::from)
}

/// Waits for changes; for ever where nothing is listened to. Safe to drop: what was not read stays with the kernel.
async fn heard(entries: Option<Arc<AsyncFd<Listening>>>) -> Vec<Change> {
    let Some(entries) = entries else { return std::future::pending().await };
    loop {
        let Ok(mut ready) = entries.readable().await else { return std::future::pending().await };
        let changes = entries.get_ref().0.changes();
        ready.clear_ready();
        if !changes.is_empty() {
            return changes;
        }
    }
}

fn listening() -> Option<Arc<AsyncFd<Listening>>> {
    let entries = Entries::new().map_err(std::io::Error::from).and_then(|entries| {
        let listening = Listening(Arc::new(entries));
        // SAFETY: the descriptor is that of an inotify instance which `Entries` owns from its creation to its drop and
        // never exchanges, and `Listening` keeps it.
        Ok(unsafe { AsyncFd::register_with_interest(listening, Interest::READABLE) }?)
    });
    match entries {
        Ok(entries) => Some(Arc::new(entries)),
        Err(error) => {
            tracing::warn!(%error, "listen to directories: looking at them every second instead");
            None
        }
    }
}

/// Every database of `config`: those listed, whether they exist or not, and those its directories hold now.
pub fn databases(config: &Config) -> Vec<Database> {
    let listing = Scanner::new(config.directories.clone(), replicas(config), None).scan(&HashSet::new());
    let found = listing.found.iter().filter(|(_, (_, what))| *what == What::Database);
    let found = found.filter_map(|(path, _)| config.database(path));
    config.databases.iter().cloned().chain(found).collect()
}

/// The directories replicas are written to.
fn replicas(config: &Config) -> HashSet<PathBuf> {
    let databases = config.databases.iter().chain(config.directories.iter().map(|d| &d.each));
    let places = databases.flat_map(|d| &d.replicas).filter_map(|r| match &r.destination {
        Destination::File { path } => Some(path.clone()),
        Destination::S3(_) | Destination::Gcs(_) | Destination::Abs(_) | Destination::Sftp(_) => None,
    });
    places.collect()
}
