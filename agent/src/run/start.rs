//! Before an app starts: what is here, what is over there, what to do (`plan::start`), and doing it. Touches both.
//!
//! ```text
//! facts ─▶ nothing here ──────▶ restore, or why not ──────────────────────────────────┐
//!     └──▶ a database ─▶ one listing, at most 1.5 s ─▶ in line, behind, unknown, … ───┴─▶ decide ─▶ do
//! ```
//! A database that is here waits for nothing but that listing, which runs while SQLite looks at its pages. Whether the
//! listing was in time decides only how much is known, never whether the app may start.

mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;

use super::lineage;
use super::restore::{self, Outcome, Restored, Seen, Source, listing};
use super::survey::folders;
use crate::error::{Error, Kind, local};
use crate::format::lineage::Lineage;
use crate::plan::restore as planning;
use crate::plan::restore::{Chain, Listing, Target};
use crate::plan::start::{
    Alarm, Aside, Decision, Facts, Found, Local, Record, Refusal, Remote, Standing, Wishes, again, decide,
    standing,
};
use crate::source::facts::{Integrity, beside_mark, gather, written};
use crate::store::{Store, StoreError};
use words::{behind, behind_in_words, lost, remote_word, say, unusable};

/// How to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// How to restore, if it comes to that.
    pub restore: restore::Options,
    pub wishes: Wishes,
    pub integrity: Integrity,
    /// A network file system is fine.
    pub network: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Started {
    pub local: Local,
    /// `None` where nobody had to ask.
    pub remote: Option<Remote>,
    pub decision: Decision,
    pub restored: Option<Restored>,
    /// Where what stood in the way of a fresh start has gone.
    pub moved: Option<PathBuf>,
    /// What to do instead, and why it was not done.
    pub refused: Option<Error>,
}

impl Started {
    /// The exit code.
    pub fn code(&self) -> u8 {
        self.refused.as_ref().map_or(0, Error::code)
    }
}

/// Decides, and does what was decided unless it is only to be said.
///
/// # Errors
/// What stands in no row of the table: the system's own refusals, a signal.
pub async fn start(sources: &[Source], options: &Options) -> Result<Started, Error> {
    let db = &options.restore.db;
    if !options.restore.dry_run {
        restore::sweep(db)?;
    }
    // Before anybody looks: whatever comes from here on is somebody's who is at work.
    let seen = Seen::of(db);
    let (facts, looked) = tokio::join!(facts(options), look(sources, db));
    let facts = facts?;
    let (lineage, lived) = lineage::load(db);
    match facts.found() {
        Found::Missing => {
            let seen = seen?.aside(Aside::OrphanWal.word(), "no database is here".to_owned());
            from_nothing(sources, options, Local::Missing, lived, seen).await
        }
        Found::OrphanWal => {
            let why = "the database is gone, and this would be replayed into another";
            let seen = seen?.aside(Aside::OrphanWal.word(), why.to_owned());
            from_nothing(sources, options, Local::OrphanWal, lived, seen).await
        }
        // Also where a record says that it is ours: what it was before somebody emptied it is over there.
        Found::Empty => {
            let why = "no application has put anything into it";
            let seen = seen?.aside(Aside::Empty.word(), why.to_owned()).bare();
            from_nothing(sources, options, Local::Empty, lived, seen).await
        }
        Found::Database => {
            let worst = compare(db, sources, &looked, &lineage, lived);
            let local = match worst {
                Standing::Good => Local::Good,
                Standing::Behind(_) => Local::Behind,
                Standing::Unknown { .. } => Local::Unknown { older: worst.is_older() },
            };
            let known = sources.iter().any(|s| lineage.0.contains_key(&s.store.to_string()));
            over_a_database(sources, options, local, &looked, known, worst, seen).await
        }
        Found::Corrupt(what) => corrupt(sources, options, &what, lived, seen).await,
        Found::Unusable(obstacle) => {
            let local = Local::Unusable(obstacle);
            let decision = decide(local, Remote::Unreachable, lived, options.wishes);
            let refused = Some(unusable(db, obstacle));
            Ok(Started { local, remote: None, decision, restored: None, moved: None, refused })
        }
    }
}

async fn facts(options: &Options) -> Result<Facts, Error> {
    let (db, integrity, network) = (options.restore.db.clone(), options.integrity, options.network);
    let at = db.clone();
    let gathered = tokio::task::spawn_blocking(move || gather(&db, integrity, network)).await;
    match gathered {
        Ok(facts) => facts.map_err(|e| local(format!("look at {}", at.display()), &e)),
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Error::new(Kind::System, format!("look at {}", at.display()), e)),
    }
}

/// What one listing of each source shows; a source that does not answer hides only itself.
struct Looked {
    listings: Vec<Option<Listing>>,
    /// Why the first one is missing.
    failed: Option<Error>,
}

impl Looked {
    fn answers(&self) -> impl Iterator<Item = &Listing> {
        self.listings.iter().flatten()
    }

    /// The column, and the failure it is about. One replica that restores is enough; only all of them are empty.
    fn remote(&self) -> (Remote, Option<&Error>) {
        if self.answers().any(|l| l.is_replica() && planning::plan(l, Target::LATEST).is_ok()) {
            return (Remote::Restorable, None);
        }
        if self.answers().any(Listing::is_replica) {
            return (Remote::Broken, None);
        }
        match &self.failed {
            Some(e) => (remote_of(e.kind).unwrap_or(Remote::Unreachable), Some(e)),
            // Nobody asked: there was no file yet.
            None if self.listings.is_empty() => (Remote::Unreachable, None),
            None => (Remote::Empty, None),
        }
    }
}

/// One listing of each source, in little time, if there is a database that may be compared with it.
async fn look(sources: &[Source], db: &Path) -> Looked {
    let mut looked = Looked { listings: Vec::new(), failed: None };
    if std::fs::metadata(db).map_or(true, |m| !m.is_file()) {
        return looked;
    }
    let listed = join_all(sources.iter().map(|s| tokio::time::timeout(LOOK, list_once(&s.store)))).await;
    for listing in listed {
        let failure = match listing {
            Ok(Ok(listing)) => {
                looked.listings.push(Some(listing));
                continue;
            }
            Ok(Err(e)) => Error::from(e),
            Err(_) => {
                let cause = format!("no answer within {} s", LOOK.as_secs_f32());
                Error::new(Kind::Unavailable, "list the replica", cause)
            }
        };
        looked.listings.push(None);
        looked.failed.get_or_insert(failure);
    }
    looked
}

async fn list_once(store: &Store) -> Result<Listing, StoreError> {
    let folders = folders();
    let objects = try_join_all(folders.iter().map(|folder| store.list(folder))).await?.concat();
    Ok(listing(&objects))
}

/// The worst that any replica shows.
fn compare(db: &Path, sources: &[Source], looked: &Looked, lineage: &Lineage, lived: bool) -> Standing {
    let mut worst = Standing::Good;
    let shown = sources.iter().zip(&looked.listings).filter_map(|(source, l)| Some((source, l.as_ref()?)));
    for (source, listing) in shown.filter(|(_, listing)| listing.is_replica()) {
        let stands = standing(&record(db, &source.store.to_string(), lineage), listing);
        worst = match (worst, stands) {
            (Standing::Behind(_), _) | (_, Standing::Good) => worst,
            // A replica more: whatever it holds, the other one knows this database.
            (Standing::Unknown { .. }, Standing::Unknown { .. }) if worst.is_older() => worst,
            (_, stands) => stands,
        };
    }
    match worst {
        // What there is of a record may be unreadable, or about another place: it proves nothing, and the database has
        // been at home here.
        Standing::Unknown { .. } if lived => Standing::Good,
        worst => worst,
    }
}

fn record(db: &Path, url: &str, lineage: &Lineage) -> Record {
    let descent = lineage.0.get(url).cloned();
    let name = db.file_name().unwrap_or_default().to_string_lossy();
    // Where both Litestreams keep what they know (spec/litestream-v03.md §3, spec/litestream-v05.md §5).
    let theirs = crate::durable::parent(db).join(format!(".{name}-litestream"));
    let generation = std::fs::read_to_string(theirs.join("generation")).ok();
    Record {
        now: descent.as_ref().and_then(|d| d.mark).and_then(|mark| beside_mark(db, &mark)),
        descent,
        litestream: generation.and_then(|text| text.trim().parse().ok()),
        litestream_was_here: theirs.is_dir(),
        written: written(db),
    }
}

/// There is nothing here to lose: the restore itself shows what the replica is.
async fn from_nothing(
    sources: &[Source],
    options: &Options,
    here: Local,
    lived: bool,
    seen: Seen,
) -> Result<Started, Error> {
    let db = &options.restore.db;
    let (remote, restored, failed) = attempt(sources, options, seen.clone()).await?;
    let decision = decide(here, remote, lived, options.wishes);
    let mut started =
        Started { local: here, remote: Some(remote), decision, restored, moved: None, refused: None };
    match decision {
        Decision::Restore(_) | Decision::Start(_) => {}
        Decision::Fresh => {
            if !options.restore.dry_run {
                started.moved = restore::clear(db, &seen, Timestamp::now())?;
            }
        }
        Decision::Refuse(Refusal::Lost) => started.refused = Some(lost(db, here, lived)),
        Decision::Refuse(_) => started.refused = failed,
    }
    if matches!(decision, Decision::Fresh | Decision::Start(_))
        && !matches!(remote, Remote::Empty | Remote::Bare)
    {
        let replica = remote_word(remote);
        tracing::warn!(db = %db.display(), replica, "starting on nothing, as allowed for today");
    }
    Ok(started)
}

/// Restores, or finds out why that cannot be.
async fn attempt(
    sources: &[Source],
    options: &Options,
    seen: Seen,
) -> Result<(Remote, Option<Restored>, Option<Error>), Error> {
    let db = &options.restore.db;
    let with = restore::Options {
        seen: Some(seen),
        if_db_not_exists: false,
        force: false,
        ..options.restore.clone()
    };
    match patiently(sources, &with).await {
        Ok(Outcome::Restored(restored)) => {
            note(sources, db, &restored);
            Ok((Remote::Restorable, Some(restored), None))
        }
        Ok(Outcome::Planned { source, plan }) => {
            tracing::debug!(replica = source, "would restore {plan}");
            Ok((Remote::Restorable, None, None))
        }
        Ok(Outcome::Bare) => Ok((Remote::Bare, None, None)),
        Ok(Outcome::Empty) => Ok((Remote::Empty, None, None)),
        // Not with what was seen.
        Ok(Outcome::Exists) => Err(Error::new(Kind::Bug, format!("restore {}", db.display()), "it exists")),
        Err(e) => match remote_of(e.kind) {
            Some(remote) => Ok((remote, None, Some(e))),
            None => Err(e),
        },
    }
}

/// Restores, and asks a service that refuses again in case it has yet to hear of a role or a bucket.
async fn patiently(sources: &[Source], with: &restore::Options) -> Result<Outcome, Error> {
    let waits = !with.dry_run && sources.iter().any(|source| source.store.is_cloud());
    let mut tried = 1;
    loop {
        let outcome = restore::restore(sources, with).await;
        let remote = outcome.as_ref().err().and_then(|e| remote_of(e.kind));
        let (Err(error), Some(pause)) = (&outcome, remote.and_then(|r| again(r, tried)).filter(|_| waits))
        else {
            return outcome;
        };
        tracing::warn!(
            %error, tried, "a new role or bucket takes seconds to get around: asking again in {} s", pause.as_secs()
        );
        tokio::time::sleep(pause).await;
        tried += 1;
    }
}

/// What was restored descends from what the replica held by then.
pub fn note(sources: &[Source], db: &Path, restored: &Restored) {
    let Some(source) = sources.iter().find(|s| s.name == restored.source) else { return };
    let generation = match &restored.plan.chain {
        Chain::Wal(chain) => Some(chain.generation),
        Chain::Ltx(_) => None,
    };
    lineage::restored(db, &source.store.to_string(), generation, restored.plan.reaches());
}

/// The column a failure stands for; `None` if it is not the replica's.
fn remote_of(kind: Kind) -> Option<Remote> {
    match kind {
        Kind::Unavailable => Some(Remote::Unreachable),
        Kind::Denied => Some(Remote::Denied),
        Kind::Config => Some(Remote::NoBucket),
        Kind::Unrestorable => Some(Remote::Broken),
        Kind::Usage
        | Kind::LocalData
        | Kind::Forbidden
        | Kind::Empty
        | Kind::Bug
        | Kind::System
        | Kind::CannotCreate
        | Kind::Incomplete
        | Kind::Busy
        | Kind::Behind
        | Kind::Cancelled(_) => None,
    }
}

/// A database is here, and in order as far as its pages go. `known`: it has been replicated to one of the sources.
async fn over_a_database(
    sources: &[Source],
    options: &Options,
    here: Local,
    looked: &Looked,
    known: bool,
    found: Standing,
    seen: Result<Seen, Error>,
) -> Result<Started, Error> {
    let db = &options.restore.db;
    let (remote, failed) = looked.remote();
    let decision = decide(here, remote, true, options.wishes);
    let mut started =
        Started { local: here, remote: Some(remote), decision, restored: None, moved: None, refused: None };
    match decision {
        Decision::Start(alarm) => {
            // An empty replica of a database that was never replicated to it is how it begins.
            let alarm = alarm.filter(|alarm| *alarm != Alarm::Wiped || known);
            if let Some(alarm) = alarm {
                say(db, alarm, failed, found);
            }
            if alarm == Some(Alarm::Behind) && !options.restore.dry_run {
                parted(sources, db, looked);
            }
        }
        Decision::Restore(aside) => {
            let seen = seen?.aside(aside.word(), behind_in_words(found));
            let (_, restored, failed) = attempt(sources, options, seen).await?;
            // Not restored, and not because it was only asked: then the reason to restore still stands.
            let undone = restored.is_none() && !options.restore.dry_run;
            started.refused = failed.or_else(|| undone.then(|| behind(db, found)));
            started.restored = restored;
        }
        Decision::Refuse(Refusal::Behind | Refusal::Unknown) => started.refused = Some(behind(db, found)),
        Decision::Refuse(_) | Decision::Fresh => started.refused = failed.cloned(),
    }
    Ok(started)
}

/// The two go different ways from here: what the replicas hold is nobody's past any more, and is on hold.
fn parted(sources: &[Source], db: &Path, looked: &Looked) {
    for (source, listing) in sources.iter().zip(&looked.listings) {
        let Some(listing) = listing else { continue };
        lineage::parted(db, &source.store.to_string(), listing.ltx().map(|f| f.name.max).max());
    }
}

async fn corrupt(
    sources: &[Source],
    options: &Options,
    what: &str,
    lived: bool,
    seen: Result<Seen, Error>,
) -> Result<Started, Error> {
    let db = &options.restore.db;
    let here = Local::Corrupt;
    let refusal = |more: &str| {
        Error::new(
            Kind::LocalData,
            format!("start on {}", db.display()),
            format!("the database is damaged: {what}{more}"),
        )
        .hint(
            "-on-corrupt restore (SUPERVISOR_ON_CORRUPT=restore) moves it aside and restores; or repair it: \
                   sqlite3 DB .recover",
        )
    };
    let wanted = matches!(decide(here, Remote::Restorable, lived, options.wishes), Decision::Restore(_));
    if !wanted {
        let decision = Decision::Refuse(Refusal::Corrupt);
        let refused = Some(refusal(""));
        return Ok(Started { local: here, remote: None, decision, restored: None, moved: None, refused });
    }
    let (remote, restored, failed) =
        attempt(sources, options, seen?.aside(Aside::Corrupt.word(), what.to_owned())).await?;
    let decision = decide(here, remote, lived, options.wishes);
    let refused = matches!(decision, Decision::Refuse(_)).then(|| {
        let more = failed.map_or_else(|| "; the replica is empty".to_owned(), |e| format!("; {e}"));
        refusal(&more)
    });
    Ok(Started { local: here, remote: Some(remote), decision, restored, moved: None, refused })
}

/// How long the look at the replica may keep a database that is here from its app.
const LOOK: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_refuses_says_nothing_of_the_replica() {
        let io = std::io::Error::from_raw_os_error;
        for errno in [nix::errno::Errno::EACCES, nix::errno::Errno::ENOSPC, nix::errno::Errno::EROFS] {
            assert_eq!(remote_of(local("create app.db", &io(errno as i32)).kind), None, "{errno}");
        }
        assert_eq!(remote_of(Kind::Denied), Some(Remote::Denied));
    }

    #[test]
    fn only_replicas_that_all_answered_are_proven_empty() {
        let empty = || Some(Listing::default());
        let down = || Some(Error::new(Kind::Unavailable, "list", "down"));
        for (listings, failed, expected) in [
            (vec![empty(), empty()], None, Remote::Empty),
            (vec![empty(), None], down(), Remote::Unreachable),
            (vec![None], Some(Error::new(Kind::Denied, "list", "no")), Remote::Denied),
            (vec![], None, Remote::Unreachable),
        ] {
            let looked = Looked { listings, failed };
            assert_eq!(looked.remote().0, expected);
            assert_eq!(looked.remote().1.is_some(), looked.failed.is_some());
        }
    }
}
