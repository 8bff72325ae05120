//! What the listing commands share: which replicas are meant, and their complete listings.

use std::path::{Path, PathBuf};

use holdfast_config::exit::Exit;
use holdfast_config::{Config, Database, Directory, Env, Replica};
use jiff::Timestamp;

use super::{Common, config_error, log, usage};
use crate::error::{Error, Kind};
use crate::plan::restore::Listing;
use crate::run::restore::{Source, list, list_dated, listing};
use crate::store::{Object, OpenOptions, Store};

/// The replicas a command is about, and the database they are of, where there is a configuration.
pub(super) struct Subject {
    pub(super) db: Option<PathBuf>,
    pub(super) sources: Vec<Source>,
}

impl Subject {
    /// `what` is a replica's URL, or a database of the configuration of which `replica` picks one replica.
    pub(super) fn find(what: &str, replica: Option<&str>, common: &Common, env: &Env) -> Result<Self, Error> {
        if is_url(what) {
            if common.config.is_some() {
                return Err(usage("cannot specify a replica URL and the -config flag"));
            }
            log::start(None);
            let found = holdfast_config::replica_from_url(what, env).map_err(|e| config_error(&e))?;
            for warning in holdfast_config::url_warnings(what, env) {
                tracing::warn!("{warning}");
            }
            return Ok(Self { db: None, sources: vec![open(&found, &OpenOptions::default())?] });
        }
        let config = common.load(env)?;
        let db = env.absolute(Path::new(what)).map_err(|e| usage(format!("{what:?}: {e}")))?;
        // The environment names replicas; which database they are of, the command line says.
        let config = config.with_database(&db);
        let database = database(&config, &db)?;
        let replicas: Vec<_> =
            database.replicas.iter().filter(|r| replica.is_none_or(|name| r.name == name)).collect();
        if replicas.is_empty() {
            let cause = match replica {
                Some(name) => format!("{} has no replica {name:?} in the configuration", db.display()),
                None => format!("{} has no replica in the configuration", db.display()),
            };
            return Err(Error::new(Kind::Config, "find the replica", cause));
        }
        let options = OpenOptions::for_database(&db);
        let sources = replicas.into_iter().map(|r| open(r, &options)).collect::<Result<_, _>>()?;
        Ok(Self { db: Some(db), sources })
    }

    /// Lists every replica and hands what it holds to `each`. A replica that cannot be listed does not keep the
    /// others from being shown; its error comes back with the result.
    pub(super) fn list(&self, each: impl FnMut(&Source, &Listing)) -> Result<Result<Exit, Error>, Error> {
        self.list_by(list, each)
    }

    /// The same with the dates a restore goes by: on S3 that is a request for each LTX file.
    pub(super) fn list_dated(
        &self,
        each: impl FnMut(&Source, &Listing),
    ) -> Result<Result<Exit, Error>, Error> {
        self.list_by(list_dated, each)
    }

    fn list_by(
        &self,
        list: impl AsyncFn(&Store) -> Result<Vec<Object>, Error>,
        mut each: impl FnMut(&Source, &Listing),
    ) -> Result<Result<Exit, Error>, Error> {
        super::block_on(async {
            let mut failed = None;
            for source in &self.sources {
                match list(&source.store).await {
                    Ok(objects) => each(source, &listing(&objects)),
                    Err(e) if failed.is_none() => failed = Some(e),
                    Err(e) => tracing::error!("{e}"),
                }
            }
            Ok(failed.map_or(Ok(Exit::Ok), Err))
        })
    }
}

/// A command that lists objects of one layout, on a replica that only holds the other.
pub(super) fn point_to_ltx(replica: &str, listing: &Listing) {
    if listing.generations().next().is_none() && listing.ltx().next().is_some() {
        tracing::warn!(replica, "the replica holds LTX files, which have no generations: `ltx` lists them");
    }
}

/// The other way round.
pub(super) fn point_to_generations(replica: &str, listing: &Listing) {
    if listing.ltx().next().is_none() && listing.generations().next().is_some() {
        tracing::warn!(
            replica,
            "the replica holds no LTX files: `generations`, `snapshots` and `wal` list what it has"
        );
    }
}

/// Litestream takes whatever has a scheme for a replica.
pub(super) fn is_url(what: &str) -> bool {
    what.contains("://")
}

/// The database at `db` of the configuration.
pub(super) fn database(config: &Config, db: &Path) -> Result<Database, Error> {
    config.database(db).ok_or_else(|| {
        let directory = |d: &Directory| format!("{}/{}", d.path.display(), d.pattern);
        let known = config.databases.iter().map(|d| d.path.display().to_string());
        let known: Vec<_> = known.chain(config.directories.iter().map(directory)).collect();
        let hint = match known.is_empty() {
            true => "there is no configuration: name one with -config, or a replica by its URL".into(),
            false => format!("it has {}", known.join(", ")),
        };
        Error::new(
            Kind::Config,
            "find the database",
            format!("database not found in config: {}", db.display()),
        )
        .hint(hint)
    })
}

fn open(replica: &Replica, options: &OpenOptions) -> Result<Source, Error> {
    Ok(Source { name: replica.name.clone(), store: Store::open(&replica.destination, &options.of(replica))? })
}

/// `2026-11-21T07:47:26Z`: RFC 3339 in UTC, whole seconds.
pub(super) fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
