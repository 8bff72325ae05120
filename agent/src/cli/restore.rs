//! `restore`: brings a database back, or says exactly why not.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use holdfast_config::Env;
use holdfast_config::exit::Exit;
use jiff::Timestamp;
use nix::unistd::{Group, User};
use serde_json::{Value, json};

use super::listing::{Subject, is_url};
use super::ltx::file_json;
use super::{Common, block_on, print, print_json, usage};
use crate::error::{Error, Kind};
use crate::format::layout::{Generation, WalIndex};
use crate::format::ltx::{Level, Txid};
use crate::plan::restore::{Chain, Plan, Target, Until};
use crate::plan::start::{OnBehind, OnCorrupt, OnUnknown, Wishes, token_of};
use crate::run::restore::{Options, Outcome, Ownership, Restored, Show, restore};
use crate::run::start;
use crate::source::facts::Integrity;

/// Restore a database from its replica
///
/// `restore DB` takes the replicas of DB from the configuration; `restore -o OUT URL` and `restore URL DB` name one.
/// Nothing that exists is replaced, and nothing is left behind on failure.
///
/// Exit codes: 0 restored; 64 bad command line; 65 a stale -wal, -shm or -journal is in the way; 66 the replica is
/// proven empty; 69 it cannot be reached; 73 the database exists or cannot be written; 76 it holds data that does
/// not restore; 77 access denied; 78 configuration error or no such bucket; with -for-start also 79 the database is behind
/// the replica, or of unknown origin and older.
#[derive(Args)]
pub(super) struct Command {
    #[command(flatten)]
    pub(super) common: Common,
    /// Write the database here instead of to its own path
    #[arg(long, value_name = "PATH")]
    pub(super) o: Option<PathBuf>,
    /// Only this replica of the database
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,
    /// Only this generation [default: the one that reaches furthest]
    #[arg(long, value_name = "GENERATION")]
    generation: Option<String>,
    /// Stop at the end of this WAL index, in hex
    #[arg(long, value_name = "INDEX", conflicts_with = "timestamp")]
    index: Option<String>,
    /// Stop at this time, as 2000-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    timestamp: Option<String>,
    /// Stop at the end of this transaction of an LTX replica, in hex
    #[arg(long, value_name = "TXID", conflicts_with_all = ["timestamp", "index", "generation"])]
    txid: Option<String>,
    /// Only LTX files of this level and above: 1 leaves out what is not compacted yet, 9 all but full copies
    #[arg(long, value_name = "LEVEL", conflicts_with_all = ["index", "generation"])]
    level: Option<u8>,
    /// Requests at a time
    #[arg(long, value_name = "N", default_value_t = 8)]
    parallelism: usize,
    /// Succeed without doing anything if the database exists
    #[arg(long = "if-db-not-exists", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(super) if_db_not_exists: bool,
    /// Succeed without doing anything if the replica is proven empty
    #[arg(long = "if-replica-exists", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(super) if_replica_exists: bool,
    /// Move a database that exists, and its -wal, -shm and -journal, into a folder beside it
    #[arg(long)]
    force: bool,
    /// Decide what an app may start on, and restore if that is the answer: 0 is a start, also on nothing where the
    /// replica is proven empty and no database lived here. Always the latest state: an older one would be restored again
    /// wherever a disk does not last, start after start. Restore it by hand, and the start keeps what is here
    #[arg(long = "for-start", conflicts_with_all = ["force", "if_db_not_exists", "if_replica_exists", "o", "generation", "index", "timestamp", "txid", "level"])]
    for_start: bool,
    /// With -for-start: a database that is behind its replica
    #[arg(long = "on-behind", value_enum, default_value = "refuse", requires = "for_start")]
    on_behind: OnBehind,
    /// With -for-start: a database of unknown origin; `auto` refuses one that is older than the replica
    #[arg(long = "on-unknown", value_enum, default_value = "auto", requires = "for_start")]
    on_unknown: OnUnknown,
    /// With -for-start: a damaged database
    #[arg(long = "on-corrupt", value_enum, default_value = "refuse", requires = "for_start")]
    on_corrupt: OnCorrupt,
    /// With -for-start: how many pages of a database to check: none, as many as 30 ms allow, all
    #[arg(long, value_enum, default_value = "quick", requires = "for_start")]
    integrity: Integrity,
    /// With -for-start: put up with a network file system
    #[arg(long = "allow-network-fs", requires = "for_start")]
    allow_network_fs: bool,
    /// With -for-start: never start without a backup
    #[arg(long = "require-replica", requires = "for_start")]
    require_replica: bool,
    /// With -for-start: today's date (UTC) allows to start on nothing
    #[arg(long = "allow-empty-start", value_name = "DATE", requires = "for_start")]
    allow_empty_start: Option<String>,
    /// Only print what would be restored
    #[arg(long = "dry-run")]
    dry_run: bool,
    /// Owner of the restored file: USER, USER:GROUP or :GROUP, by name or number [default: as its directory]
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
    /// Permissions of the restored file, in octal [default: as its directory]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// The database's path in the configuration, a replica's URL, or a URL and a path
    #[arg(value_name = "DB|URL", num_args = 1..=2, required = true)]
    pub(super) paths: Vec<String>,
}

impl Command {
    pub(super) fn run(self, env: &Env) -> Result<Exit, Error> {
        let (what, second) = match self.paths.as_slice() {
            [url, db] if is_url(url) => (url, Some(db)),
            [one] => (one, None),
            _ => return Err(usage("two arguments are a replica's URL and the path to restore to")),
        };
        let target = self.target()?;
        let ownership = self.ownership()?;
        let subject = Subject::find(what, self.replica.as_deref(), &self.common, env)?;
        let out = match (&self.o, second, &subject.db) {
            (Some(_), Some(_), _) => return Err(usage("the path to restore to is given twice")),
            (Some(path), None, _) => path.clone(),
            (None, Some(path), _) => PathBuf::from(path),
            (None, None, Some(db)) => db.clone(),
            (None, None, None) => return Err(usage("output path required: -o PATH")),
        };
        let db = env.absolute(&out).map_err(|e| usage(format!("{}: {e}", out.display())))?;
        let bar = std::io::stderr().is_terminal() && !self.common.json;
        let options = Options {
            db,
            target,
            parallelism: self.parallelism.max(1),
            if_db_not_exists: self.if_db_not_exists,
            force: self.force,
            seen: None,
            dry_run: self.dry_run,
            ownership,
            show: if bar { Show::Bar } else { Show::Lines },
        };
        if self.for_start {
            return self.start(&subject, options);
        }
        let outcome = block_on(restore(&subject.sources, &options))?;
        if let (Outcome::Restored(restored), Some(db)) =
            (&outcome, subject.db.as_ref().filter(|db| **db == options.db))
        {
            start::note(&subject.sources, db, restored);
        }
        self.report(&options, outcome)
    }

    fn start(&self, subject: &Subject, options: Options) -> Result<Exit, Error> {
        let today = token_of(Timestamp::now());
        let token = self.allow_empty_start.as_deref().filter(|token| !token.is_empty());
        if let Some(token) = token.filter(|token| *token != today) {
            tracing::warn!("-allow-empty-start {token} is not today's date, {today}: it allows nothing");
        }
        let options = start::Options {
            wishes: Wishes {
                on_behind: self.on_behind,
                on_unknown: self.on_unknown,
                on_corrupt: self.on_corrupt,
                require_replica: self.require_replica,
                empty_start: token == Some(today.as_str()),
            },
            integrity: self.integrity,
            network: self.allow_network_fs,
            restore: options,
        };
        let started = block_on(start::start(&subject.sources, &options))?;
        let db = &options.restore.db;
        match self.common.json {
            true => print_json(&started.json(db)),
            false if self.dry_run => print(&format!("{}\n", started.line(db))),
            false => tracing::info!("{}", started.line(db)),
        }
        match started.refused {
            // The JSON has said it.
            Some(e) if self.common.json => {
                eprintln!("holdfast: {e}");
                e.kind.exit().ok_or(e)
            }
            Some(e) => Err(e),
            None => Ok(Exit::Ok),
        }
    }

    fn target(&self) -> Result<Target, Error> {
        let generation: Option<Generation> = match &self.generation {
            Some(text) => Some(text.parse().map_err(usage)?),
            None => None,
        };
        let until = match (&self.timestamp, &self.index, &self.txid) {
            (Some(text), _, _) => Until::Time(timestamp(text)?),
            (None, Some(text), _) => Until::Index(text.parse::<WalIndex>().map_err(usage)?),
            (None, None, Some(text)) => Until::Txid(text.parse::<Txid>().map_err(usage)?),
            (None, None, None) => Until::Latest,
        };
        let level = match self.level {
            Some(level) => {
                Some(Level::new(level).ok_or_else(|| usage(format!("-level {level}: want 0 to 9")))?)
            }
            None => None,
        };
        Ok(Target { generation, until, level })
    }

    fn ownership(&self) -> Result<Ownership, Error> {
        let mut ownership = Ownership::default();
        if let Some(mode) = &self.mode {
            let bits = u32::from_str_radix(mode, 8).ok().filter(|bits| *bits <= 0o777);
            ownership.mode = Some(bits.ok_or_else(|| usage(format!("-mode {mode}: want octal up to 777")))?);
        }
        if let Some(owner) = &self.owner {
            let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
            if !user.is_empty() {
                let by_name = || User::from_name(user).ok().flatten().map(|u| u.uid.as_raw());
                let uid = user.parse().ok().or_else(by_name);
                ownership.uid =
                    Some(uid.ok_or_else(|| usage(format!("-owner {owner}: there is no user {user}")))?);
            }
            if !group.is_empty() {
                let by_name = || Group::from_name(group).ok().flatten().map(|g| g.gid.as_raw());
                let gid = group.parse().ok().or_else(by_name);
                ownership.gid =
                    Some(gid.ok_or_else(|| usage(format!("-owner {owner}: there is no group {group}")))?);
            }
        }
        Ok(ownership)
    }

    fn report(&self, options: &Options, outcome: Outcome) -> Result<Exit, Error> {
        let db = options.db.display();
        let json = self.common.json;
        match outcome {
            Outcome::Restored(restored) => {
                tracing::info!(db = %db, position = %restored.applied.position, "restored in {:.3} s", restored.took.as_secs_f64());
                if json {
                    print_json(&restored_json(options, &restored));
                }
                Ok(Exit::Ok)
            }
            Outcome::Planned { source, plan } => {
                match json {
                    true => print_json(&plan_json(&source, &plan)),
                    false => print(&plan_text(&source, &plan)),
                }
                Ok(Exit::Ok)
            }
            // Of a start alone, which has words of its own.
            Outcome::Exists | Outcome::Bare => {
                tracing::info!(db = %db, "database already exists, skipping");
                if json {
                    print_json(&json!({ "outcome": "exists", "exit": 0, "db": options.db }));
                }
                Ok(Exit::Ok)
            }
            Outcome::Empty if self.if_replica_exists => {
                tracing::info!(db = %db, "no matching backups found: the replica is empty");
                if json {
                    print_json(&json!({ "outcome": "empty", "exit": 0, "db": options.db }));
                }
                Ok(Exit::Ok)
            }
            Outcome::Empty => Err(Error::new(
                Kind::Empty,
                format!("restore {db}"),
                "no matching backups found: the replica was listed completely, twice, and is empty",
            )
            .hint("-if-replica-exists makes this a success")),
        }
    }
}

/// One line; for an LTX chain another for each file, oldest first.
fn plan_text(source: &str, plan: &Plan) -> String {
    let mut text = format!("{source}: {plan}\n");
    if let Chain::Ltx(chain) = &plan.chain {
        text.push_str(&super::ltx::files_table(chain.files()));
    }
    text
}

fn restored_json(options: &Options, restored: &Restored) -> Value {
    let Restored { source, plan, applied, moved, took } = restored;
    let mut value = plan_json(source, plan);
    let more = json!({
        "outcome": "restored",
        "exit": 0,
        "db": options.db,
        "position": applied.position.to_string(),
        "transactions": applied.transactions,
        "bytes_written": applied.size,
        "moved": moved,
        "ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn plan_json(source: &str, plan: &Plan) -> Value {
    let mut value = json!({
        "outcome": "planned",
        "replica": source,
        "bytes_read": plan.size(),
        "as_of": plan.reaches().to_string(),
        "notices": plan.notices.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    let more = match &plan.chain {
        Chain::Wal(chain) => json!({
            "generation": chain.generation.to_string(),
            "snapshot": chain.snapshot.name.index().get(),
            "segments": chain.segments.len(),
        }),
        // As Litestream 0.5 prints it.
        Chain::Ltx(chain) => json!({
            "min_txid": Txid::ONE.to_string(),
            "max_txid": chain.last().to_string(),
            "files": chain.files().iter().map(file_json).collect::<Vec<_>>(),
        }),
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

/// RFC 3339, with any offset and fraction; a blank instead of the `T` is taken too.
fn timestamp(text: &str) -> Result<Timestamp, Error> {
    text.parse()
        .map_err(|_| usage("invalid -timestamp, must specify in ISO 8601 format (e.g. 2000-01-01T00:00:00Z)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_needs_its_offset() {
        assert_eq!(timestamp("2026-11-21T08:47:26.5+01:00").unwrap().to_string(), "2026-11-21T07:47:26.5Z");
        for wrong in ["2026-11-21", "2026-11-21T07:47:26", "yesterday", ""] {
            assert_eq!(timestamp(wrong).unwrap_err().code(), 64, "{wrong}");
        }
    }
}
