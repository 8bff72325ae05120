//! `replicate`: the long-running command.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use holdfast_config::control::FD_VAR;
use holdfast_config::exit::Exit;
use holdfast_config::lock::Lock;
use holdfast_config::volume::{self, Volume};
use holdfast_config::{Config, Env, Origin};

use super::preview::preview;
use super::{Common, config_error, log, usage};
use crate::error::{Error, Kind};
use crate::plan::linger::OnTerm;
use crate::run::reload::Reread;

/// Replicates the configured databases, or DB to each URL, until SIGTERM or SIGINT.
///
/// A replica goes on in the layout it holds, or changes to the one its `format` asks for (`v0.3`, `ltx`): that begins
/// with a copy of everything and leaves the old chain restorable. -dry-run says what would happen.
///
/// Pins the WAL with a read transaction, writes nothing to the database, and uploads every commit. On a signal it
/// sends what is left and exits 0 only when every replica has acknowledged the end of the WAL.
///
/// Exit codes: 0 everything is replicated; 64 bad command line; 65 not a SQLite database (under the supervisor or systemd); 71 no
/// resources; 74 the final sync is incomplete; 75 another agent or supervisor has the database; 78 configuration error.
#[derive(Args)]
pub(super) struct Command {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only print what each replica holds and how replicating to it would begin
    #[arg(long = "dry-run")]
    dry_run: bool,
    /// What SIGTERM does: `drain` sends what there is and ends; `drain-when-app-gone` goes on until no other process has the
    /// database open, for a platform that tells both to end at once. All of it within `shutdown-sync-timeout`
    #[arg(long = "on-term", value_enum, default_value = "drain")]
    on_term: OnTerm,
    /// A database and the URLs to replicate it to, instead of a configuration
    #[arg(value_name = "DB URL")]
    paths: Vec<String>,
}

impl Command {
    pub(super) fn run(self, env: &Env) -> Result<Exit, Error> {
        let config = match self.paths.as_slice() {
            [] => self.common.configured(env)?,
            [_] => return Err(usage("a database needs at least one replica URL: holdfast replicate DB URL")),
            [db, urls @ ..] if self.common.config.is_none() => from_urls(db, urls, env)?,
            _ => return Err(usage("give either -config or a database and URLs")),
        };
        let supervised = env.get(FD_VAR).is_some();
        let logging = config.logging;
        log::start_on(
            Some(&logging),
            supervised || logging.stderr || self.dry_run || config.origin == Origin::CommandLine,
        );
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        if self.dry_run {
            return preview(&config, self.common.json);
        }
        if config.exec.is_some() && !supervised {
            let cause = "`exec` is the supervisor's work: run `holdfast-supervisor` with this configuration, or remove \
                         the key";
            return Err(Error::new(Kind::Config, "replicate", cause));
        }
        tracing::info!(version = super::VERSION, "holdfast");
        let directories = config.directories.iter().map(|d| &d.path);
        for path in config.databases.iter().map(|d| &d.path).chain(directories) {
            warn_of_network(path);
        }
        // The supervisor has the lock already, and lets us inherit it.
        let _locks = if supervised { Vec::new() } else { lock(&config)? };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_keep_alive(Duration::from_secs(2))
            .build()
            .map_err(|e| Error::new(Kind::System, "start", e))?;
        let common = self.common;
        let reread: Reread = Arc::new(move || common.configured(&Env::from_process()));
        let reread = (config.origin != Origin::CommandLine).then_some(reread);
        let exit = runtime.block_on(crate::run::replicate::run(config, reread, self.on_term));
        // An upload that hangs past the deadline must not keep the program from ending.
        runtime.shutdown_background();
        tracing::info!(exit = exit.code(), "holdfast shut down");
        Ok(exit)
    }
}

impl Common {
    /// The configuration, with the database's path from wherever the environment names it.
    fn configured(&self, env: &Env) -> Result<Config, Error> {
        let config = holdfast_config::load(self.config.as_deref(), env, !self.no_expand_env);
        let config = config.map_err(|e| config_error(&e))?;
        if config.origin != Origin::Environment || !config.replicates() {
            return Ok(config);
        }
        let path = holdfast_config::database_path(&config, env, None).map_err(|e| config_error(&e))?;
        Ok(config.with_database(&path))
    }
}

/// A database that is already in use is replicated wherever it lies; whoever put it there should know.
fn warn_of_network(path: &Path) {
    if let Ok(Volume { name, kind: volume::Kind::Network, .. }) = Volume::of(path) {
        tracing::warn!(
            db = %path.display(),
            "{name} is a network file system, where SQLite's WAL does not work and databases get damaged; keep the \
             database on a disk of this machine"
        );
    }
}

/// Takes the lock of every database that is listed, waiting for whoever is about to end. Two agents on one database would
/// undo each other's pins and take each other for the app.
fn lock(config: &Config) -> Result<Vec<Lock>, Error> {
    let until = Instant::now() + LOCK_PATIENCE;
    let mut locks = Vec::new();
    for path in config.databases.iter().map(|d| &d.path) {
        let mut told = false;
        loop {
            match Lock::try_take(path) {
                Ok(Some(lock)) => {
                    locks.push(lock);
                    break;
                }
                Ok(None) if Instant::now() < until => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::info!(db = %path.display(), "waiting for another agent or supervisor to end");
                    }
                    std::thread::sleep(LOCK_PAUSE);
                }
                Ok(None) => {
                    let cause = "another agent or supervisor replicates it";
                    let hint = "stop that one, or give all replicas to one configuration";
                    return Err(Error::new(Kind::Busy, format!("lock {}", path.display()), cause).hint(hint));
                }
                // Its directory is not there yet, or is not ours to write to: then there is no lock, and nobody has it.
                Err(error) => {
                    tracing::debug!(db = %path.display(), %error, "no lock against a second agent");
                    break;
                }
            }
        }
    }
    Ok(locks)
}

/// As the supervisor's `-lock-wait`.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

fn from_urls(db: &str, urls: &[String], env: &Env) -> Result<Config, Error> {
    let path = env.absolute(Path::new(db)).map_err(|e| usage(format!("{db}: {e}")))?;
    let replicas = urls.iter().map(|url| holdfast_config::replica_from_url(url, env));
    let replicas = replicas.collect::<Result<_, _>>().map_err(|e| config_error(&e))?;
    let mut config = Config::for_command_line(&path, replicas);
    config.warnings = urls.iter().flat_map(|url| holdfast_config::url_warnings(url, env)).collect();
    Ok(config)
}

/// Threads for what blocks: reading, compressing, fsync, SQLite. More databases than this take turns.
const BLOCKING_THREADS: usize = 64;
