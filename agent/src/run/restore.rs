//! Restoring a database: list, plan, fetch, decode, verify, publish. Touches the replica and the target's directory.
//!
//! ```text
//! look at the target ─▶ list every source ─▶ plan::restore ─▶ pipeline into a nameless file ─▶ fsync
//!   ─▶ look at the target again ─▶ link without replacing ─▶ fsync directory
//! ```
//! Nothing appears under the target's name before the last step, and nothing else is left behind however it ends.
//!
//! # Where a restore differs from Litestream 0.3.13
//!
//! | subject | 0.3.13 | here |
//! | --- | --- | --- |
//! | `-timestamp` after the last object | `no matching backups found` | restores the latest and says so |
//! | `-index` after the last | restores the latest silently | and says so |
//! | a generation without a snapshot | an error | passed over and said so, if another has one |
//! | a segment missing or overlapping inside an index | a corrupt file, exit 0 | refused by name |
//! | the end of an index missing | a corrupt file, exit 0 | refused by name if Holdfast wrote it ([`crate::format::note`]) |
//! | a frame whose salt or checksum does not continue | ends the WAL silently | refused by name |
//! | bytes or a second frame after an object's frame | ignored | refused by name |
//! | legacy LZ4 frames | read, without any checksum | refused |
//! | age encryption | read | refused by name |
//! | a stale `-wal`, `-shm`, `-journal` at the target | replayed into the restored database | refused, exit 65 |
//! | a database of zero bytes without a `-wal` | exists | counts as missing |
//! | nothing found | exit 1, also for what is not reachable through a typo | exit 66, only after two complete empty listings |
//! | several replicas, one cannot be listed | an error | an error that says which, and how to take another |
//! | after success | `.tmp-shm` and `.tmp-wal` stay | nothing stays |
//!
//! # Where a restore of LTX files differs from Litestream 0.5.17
//!
//! On purpose, and each row with the test that shows it.
//!
//! | subject | 0.5.17 | here | shown by |
//! | --- | --- | --- | --- |
//! | `-timestamp` after the last file | `timestamp does not exist` (URL), the latest silently (configuration) | restores the latest and says so | `every_golden_replica_restores_to_the_bytes_litestream_restored` |
//! | `-timestamp` inside what is compacted into a younger file | an older state silently | an older state, and says so | `a_time_inside_a_compacted_file_gives_the_state_before_it_and_says_so` |
//! | a gap before the `-timestamp` | an older state silently | refused by name | `a_gap_is_missed_by_name` |
//! | `-txid` inside a compacted file | `no matching backup files available` | refused with the nearest there are | `a_transaction_has_to_be_reached_exactly` |
//! | `-level` | | leaves out files of lower levels, say a damaged one | `levels_and_full_copies_lead_to_the_same_states` |
//! | a file's name and its header differ | the name is believed: a wrong database where it is the wider one | refused | `every_reader_case_restores_or_fails_as_it_should_and_names_the_file` |
//! | the page index | not read: an empty one restores | every entry is compared with the pages | `every_flipped_bit_of_a_file_with_a_long_index_is_refused_or_changes_nothing` |
//! | a page that expands to less than a page | the rest is stale bytes | refused | `what_is_wrong_with_a_page_is_said_with_its_place` |
//! | a page beyond the end of the database | dropped | refused | `what_is_wrong_with_a_page_is_said_with_its_place` |
//! | a file cut off at the end of its pages | panics | refused | `every_reader_case_restores_or_fails_as_it_should_and_names_the_file` |
//! | a chain that ends in a file with checksums of the database | refused | restored, those checksums too verified | `checksums_of_the_database_are_verified_from_file_to_file_and_at_the_end` |
//! | page 1 is no SQLite header, or says a larger size | restored | refused | `a_result_that_is_no_database_is_refused` |
//! | files of a plan | all open at once: 1,000 of them fail | at most `-parallelism` at a time | `two_thousand_files_restore_with_few_descriptors_and_little_memory` |
//! | v0.3 and LTX in one place | with `-timestamp`, the younger *snapshot* decides | the chain that reaches the younger state | `of_two_layouts_the_younger_state_wins_and_an_older_time_takes_the_older` |
//! | `-dry-run` | looks at LTX files alone | at both layouts | `a_path_with_both_layouts_restores_the_younger_state_or_the_one_asked_for` |
//! | a stale `-wal` beside a missing database | stays, and is replayed | refused, exit 65 | `what_another_database_left_is_not_opened_and_not_removed` |
//! | `-force` | removes what is there | moves it aside | `a_database_that_exists_is_kept_skipped_or_moved_aside` |
//! | `-f`, `-integrity-check` | follows; asks SQLite | not there | `the_command_takes_a_transaction_and_a_level_and_prints_its_plan` |

mod apply;
mod aside;
mod fetch;
mod frames;
mod line;
mod ltx;
mod pages;
mod pipeline;
mod progress;
mod target;
mod wal;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream;
use jiff::Timestamp;

pub use crate::plan::position::Position;
pub use apply::Applied;
pub use aside::Seen;
pub(in crate::run) use aside::clear;
pub use progress::Show;
pub use target::Ownership;
pub(in crate::run) use target::sweep;

use super::survey::folders;
use super::tries::Tries;
use crate::durable;
use crate::error::{Error, Kind, local};
use crate::format::ltx::Name;
use crate::format::schema;
use crate::plan::restore::{self as planning, Chain, Listing, Plan, Refusal, Target, Until};
use crate::store::{self, Object, Store, StoreError};
use pipeline::Stop;
use target::Present;

/// A replica to restore from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name in the configuration.
    pub name: String,
    pub store: Store,
}

/// How to restore.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the database is to be.
    pub db: PathBuf,
    pub target: Target,
    /// Requests at a time, at least 1.
    pub parallelism: usize,
    /// A database that exists is success.
    pub if_db_not_exists: bool,
    /// Move a database that exists aside.
    pub force: bool,
    /// Move what was seen aside, and nothing else.
    pub seen: Option<Seen>,
    /// Only say what would be restored.
    pub dry_run: bool,
    pub ownership: Ownership,
    pub show: Show,
}

/// How it ended, if it did not fail.
#[derive(Debug)]
pub enum Outcome {
    Restored(Restored),
    /// The database is there already.
    Exists,
    /// It would be one without tables, and so is what is there: nothing was changed.
    Bare,
    /// What would be restored, and from which source.
    Planned {
        source: String,
        plan: Plan,
    },
    /// Two complete listings of every source, some time apart, showed nothing.
    Empty,
}

#[derive(Debug)]
pub struct Restored {
    pub source: String,
    pub plan: Plan,
    pub applied: Applied,
    /// Where a database that was there has gone.
    pub moved: Option<PathBuf>,
    pub took: Duration,
}

/// Restores `options.db` from the source that reaches furthest.
///
/// Safe to drop: nothing is left behind.
pub async fn restore(sources: &[Source], options: &Options) -> Result<Outcome, Error> {
    let start = Instant::now();
    if !options.dry_run && options.seen.is_none() {
        match target::look(&options.db)? {
            Present::Database if options.if_db_not_exists => return Ok(Outcome::Exists),
            Present::Database if !options.force => return Err(target::exists(&options.db)),
            Present::Database | Present::Empty | Present::Nothing => {}
        }
        if !options.force {
            target::refuse_leftovers(&options.db)?;
        }
    }
    let mut round = 1;
    let mut skip = Vec::new();
    let mut failed = None;
    loop {
        let decided = match (decide(sources, options.target, &skip).await, failed.take()) {
            // No other base: what was wrong with this one is the answer.
            (Err(_), Some(e)) => return Err(e),
            (decided, _) => decided?,
        };
        let Some((source, plan)) = decided else { return Ok(Outcome::Empty) };
        for notice in &plan.notices {
            tracing::warn!(replica = source.name, "{notice}");
        }
        tracing::info!(replica = source.name, db = %options.db.display(), "restoring {plan}");
        if options.dry_run {
            return Ok(Outcome::Planned { source: source.name.clone(), plan });
        }
        match perform(source, &plan, options).await {
            Ok(None) => return Ok(Outcome::Bare),
            Ok(Some((applied, moved))) => {
                let (source, took) = (source.name.clone(), start.elapsed());
                return Ok(Outcome::Restored(Restored { source, plan, applied, moved, took }));
            }
            // Retention may have taken an object between the listing and the read (FT-11): look again.
            Err(Failure::Stop(Stop::Store { key, error }))
                if error.kind == store::Kind::NotFound && round < ROUNDS =>
            {
                tracing::warn!(object = key, "gone since it was listed: planning again");
                round += 1;
            }
            // S3 dates a multipart upload by its beginning: a base may look old enough although the WAL it needs is
            // younger than the time asked for. An older base and more WAL lead to the same state.
            Err(Failure::Stop(stop @ Stop::Object { fault: apply::ObjectFault::Base { .. }, .. }))
                if matches!(options.target.until, Until::Time(_)) =>
            {
                if let Stop::Object { key, .. } = &stop {
                    tracing::warn!(
                        object = key,
                        "needs WAL younger than the time asked for: taking an older base"
                    );
                    skip.push(key.clone());
                }
                failed = Some(explain(stop, source, options));
            }
            Err(Failure::Stop(stop)) => return Err(explain(stop, source, options)),
            Err(Failure::Error(e)) => return Err(e),
        }
    }
}

/// Lists one source completely, with retries: what belongs to a replica, and if there is nothing, all there is.
///
/// A replica may share its place with other objects, up to a whole bucket of them. They matter only for the proof
/// that there is nothing.
pub async fn list(store: &Store) -> Result<Vec<Object>, Error> {
    let mut listing = std::pin::pin!(list_all(store));
    tokio::select! {
        biased;
        listed = &mut listing => return listed,
        () = tokio::time::sleep(LISTING) => {
            tracing::warn!("list {store}: not done after {} s; waiting on", LISTING.as_secs());
        }
    }
    listing.await
}

async fn list_all(store: &Store) -> Result<Vec<Object>, Error> {
    let tries = Tries::new(fetch::ATTEMPTS);
    let listed = try_join_all(folders().iter().map(|folder| list_below(store, folder, &tries))).await?;
    let objects = listed.concat();
    if listing(&objects).is_replica() {
        return Ok(objects);
    }
    list_below(store, "", &tries).await
}

/// Sorts out what [`list`] found.
pub fn listing(objects: &[Object]) -> Listing {
    Listing::new(objects.iter().map(|o| (o.key.as_str(), o.size, o.created)))
}

/// [`list`], with the dates that a restore compares with a time.
pub async fn list_dated(store: &Store) -> Result<Vec<Object>, Error> {
    let objects = list(store).await?;
    if store.is_local() { Ok(objects) } else { date(store, objects).await }
}

/// Gives LTX files the date their writer gave them, where a listing shows another: a bucket's date is that of the
/// upload, and a compacted file is as old as what it was made from (spec/litestream-v05.md §2.1).
async fn date(store: &Store, objects: Vec<Object>) -> Result<Vec<Object>, Error> {
    let (files, mut dated): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|o| Name::parse(&o.key).is_some());
    let tries = Tries::new(fetch::ATTEMPTS);
    let asking = files.into_iter().map(|file| dated_by_writer(store, file, &tries));
    let mut asked = stream::iter(asking).buffer_unordered(DATES);
    while let Some(file) = asked.next().await {
        dated.push(file?);
    }
    Ok(dated)
}

async fn dated_by_writer(store: &Store, file: Object, tries: &Tries) -> Result<Object, Error> {
    let created = tries.ask(|| store.date(&file)).await?;
    Ok(Object { created, ..file })
}

/// What fails is the listing of the replica, whichever of its folders shows it first.
async fn list_below(store: &Store, prefix: &str, tries: &Tries) -> Result<Vec<Object>, Error> {
    let whole = |e| StoreError { object: store.to_string(), ..e };
    Ok(tries.ask(|| async { store.list(prefix).await.map_err(whole) }).await?)
}

/// The source and plan that reach furthest; `None` if every source is proven empty.
async fn decide<'a>(
    sources: &'a [Source],
    target: Target,
    skip: &[String],
) -> Result<Option<(&'a Source, Plan)>, Error> {
    for proof in 0..EMPTY_PROOFS {
        if proof > 0 {
            tokio::time::sleep(BETWEEN_PROOFS).await;
        }
        if let Some(choice) = choose(sources, &listings(sources, target, skip).await?, target)? {
            return Ok(Some(choice));
        }
    }
    Ok(None)
}

/// A source that cannot be listed fails the restore even if another can: it may be the newer one.
async fn listings(sources: &[Source], target: Target, skip: &[String]) -> Result<Vec<Listing>, Error> {
    let listed = join_all(sources.iter().map(|source| list_for(&source.store, target))).await;
    let mut listings = Vec::with_capacity(sources.len());
    for (source, listed) in sources.iter().zip(listed) {
        let objects = listed.map_err(|mut e: Error| {
            if sources.len() > 1 {
                let hint = format!(
                    "replica {:?} may be the newest; -replica NAME restores from another one",
                    source.name
                );
                e.hint = Some(hint);
            }
            e
        })?;
        let wanted = objects.iter().filter(|o| !skip.contains(&o.key));
        listings.push(Listing::new(wanted.map(|o| (o.key.as_str(), o.size, o.created))));
    }
    Ok(listings)
}

/// Lists a source with the dates that `target` is about.
async fn list_for(store: &Store, target: Target) -> Result<Vec<Object>, Error> {
    match target.until {
        Until::Time(_) => list_dated(store).await,
        Until::Latest | Until::Index(_) | Until::Txid(_) => list(store).await,
    }
}

fn choose<'a>(
    sources: &'a [Source],
    listings: &[Listing],
    target: Target,
) -> Result<Option<(&'a Source, Plan)>, Error> {
    let mut best: Option<(&Source, Plan)> = None;
    let mut refused: Option<(&Source, Refusal, Option<Timestamp>)> = None;
    for (source, listing) in sources.iter().zip(listings) {
        match planning::plan(listing, target) {
            Ok(plan) if best.as_ref().is_some_and(|(_, b)| b.reaches() >= plan.reaches()) => {}
            Ok(plan) => best = Some((source, plan)),
            Err(Refusal::Empty) => {}
            Err(refusal) => {
                let last = listing.last();
                if refused.as_ref().is_none_or(|(_, _, l)| *l < last) {
                    refused = Some((source, refusal, last));
                }
            }
        }
    }
    match (best, refused) {
        (Some((source, plan)), Some((other, refusal, last)))
            if refusal.is_broken() && last > Some(plan.reaches()) =>
        {
            let hint = format!("-replica {} restores an older state, of {:.0}", source.name, plan.reaches());
            Err(refuse(other, &refusal).hint(hint))
        }
        (Some(choice), _) => Ok(Some(choice)),
        (None, Some((source, refusal, _))) => Err(refuse(source, &refusal)),
        (None, None) => Ok(None),
    }
}

fn refuse(source: &Source, refusal: &Refusal) -> Error {
    Error::new(Kind::Unrestorable, format!("restore from {}", source.store), refusal)
}

enum Failure {
    Stop(Stop),
    Error(Error),
}

/// Restores and publishes; `None` where that would change nothing, see [`Outcome::Bare`].
async fn perform(
    source: &Source,
    plan: &Plan,
    options: &Options,
) -> Result<Option<(Applied, Option<PathBuf>)>, Failure> {
    let db = &options.db;
    let new = target::create(db, &options.ownership).map_err(Failure::Error)?;
    let file =
        new.file().try_clone().map_err(|e| Failure::Error(local(format!("write {}", db.display()), &e)))?;
    let file = Arc::new(file);
    let done = AtomicU64::new(0);
    let work = run(&source.store, plan, &file, durable::parent(db), options.parallelism.max(1), &done);
    let applied = progress::shown(options.show, plan.size(), &done, work).await.map_err(Failure::Stop)?;
    if options.seen.as_ref().is_some_and(Seen::is_bare) && is_bare(&file, &applied) {
        return Ok(None);
    }
    let publish = {
        let (db, force, seen) = (db.clone(), options.force, options.seen.clone());
        tokio::task::spawn_blocking(move || target::publish(new, &db, force, seen.as_ref(), Timestamp::now()))
    };
    match publish.await {
        Ok(published) => published.map(|moved| Some((applied, moved))).map_err(Failure::Error),
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Failure::Error(Error::new(Kind::System, doing(db), e))),
    }
}

/// Whether no application has put anything into what was restored.
fn is_bare(file: &File, applied: &Applied) -> bool {
    let mut page = vec![0; usize::try_from(applied.size).unwrap_or(usize::MAX).min(FIRST_PAGE)];
    file.read_exact_at(&mut page, 0).is_ok() && schema::is_bare(&page)
}

/// Restores `plan` into the empty `file`; `dir` is where scratch files may be. `done` counts stored bytes.
///
/// Safe to drop: nothing but `file` has been touched.
async fn run(
    store: &Store,
    plan: &Plan,
    file: &Arc<File>,
    dir: &Path,
    parallelism: usize,
    done: &AtomicU64,
) -> Result<Applied, Stop> {
    let mut objects = plan.objects();
    match &plan.chain {
        Chain::Wal(chain) => {
            let work = wal::WalWork::new(chain.items().copied().collect(), file.clone(), dir);
            pipeline::run(store, objects.into(), wal::Cutter::default(), work, parallelism, done).await
        }
        Chain::Ltx(chain) => {
            objects.reverse();
            let names = chain.files().iter().rev().map(|f| f.name).collect();
            let work = ltx::LtxWork::new(names, file.clone());
            pipeline::run(store, objects.into(), ltx::Cutter::new(), work, parallelism, done).await
        }
    }
}

fn explain(stop: Stop, source: &Source, options: &Options) -> Error {
    let db = &options.db;
    match stop {
        Stop::Object { key, fault } => {
            let e = Error::new(Kind::Unrestorable, format!("restore {}/{key}", source.store), &fault);
            match fault {
                apply::ObjectFault::Frame(crate::format::lz4::Error::Encrypted) => {
                    e.hint("Litestream 0.3.13 restores it with the age identities in its configuration")
                }
                apply::ObjectFault::Ltx(_) | apply::ObjectFault::Merge(_) => {
                    e.hint("-timestamp, -txid or -level restore a state that does not need this file")
                }
                _ => {
                    e.hint("-timestamp, -index or -generation restore a state that does not need this object")
                }
            }
        }
        Stop::Store { error, .. } => error.into(),
        Stop::Io(e) => local(format!("write {}", db.display()), &e),
        Stop::Threads(e) => Error::new(Kind::System, doing(db), e),
    }
}

fn doing(db: &Path) -> String {
    format!("restore {}", db.display())
}

/// Complete listings without any data that prove a replica empty, and the time between them: one may have met a
/// bucket that is just being filled, or a server that is just coming up (spec/supervisor.md SUP-301).
const EMPTY_PROOFS: u32 = 2;
const BETWEEN_PROOFS: Duration = Duration::from_secs(1);
/// A listing that takes longer is spoken of.
const LISTING: Duration = Duration::from_secs(5);
/// Questions for dates at a time.
const DATES: usize = 50;
/// The first page of a database is not longer.
const FIRST_PAGE: usize = 64 << 10;
/// Plans tried when objects vanish under the restore.
const ROUNDS: u32 = 3;
