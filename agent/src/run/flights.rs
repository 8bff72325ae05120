//! The uploads and look-ups of one replica, each a task of its own: performs one action, reports how it went.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::UnboundedSender;

use super::clock::Clock;
use super::gate::Gate;
use super::ltx::Found;
use super::segment::Trail;
use super::survey::ATTEMPTS;
use super::tries::Tries;
use super::validate::Verdict;
use super::{segment, snapshot, validate};
use crate::format::layout::{Generation, Name, Pos, ROOT, WalIndex};
use crate::format::lineage::Descent;
use crate::format::lz4;
use crate::format::note::Note;
use crate::format::wal::{FRAME_HEADER_LEN, FrameHeader, HEADER_LEN, Header, PageSize, Salt};
use crate::plan::database::{Event, SegmentJob, View};
use crate::plan::holds::Seen;
use crate::plan::opening::Format;
use crate::plan::replica::{Fault, FaultKind, Head};
use crate::plan::retain::{Entry, retain};
use crate::plan::retry::Class;
use crate::source::files::Files;
use crate::source::tail::{Tail, WalBytes};
use crate::store::{Kind, Object, Store, StoreError};

/// What a task reports. At most three per flight, so the channel is bounded by the number of replicas. Boxed on its way,
/// because a channel sets room aside for 32 of them.
#[derive(Debug)]
pub(super) enum Landed {
    Event(Event),
    /// A segment is on the replica: its stored bytes, and where it leaves its index.
    Shipped {
        replica: usize,
        stored: u64,
        trail: Trail,
    },
    /// A base is on the replica: its stored bytes.
    Sent {
        stored: u64,
    },
    /// Objects that went, and 1 if not all did that should have.
    Pruned {
        replica: usize,
        deleted: u64,
        failed: u64,
    },
    /// A complete look at what the replica holds of the v0.3 layout.
    Listed {
        replica: usize,
        seen: Seen,
    },
    /// A drill was possible: the restored database was the live one, or it was not.
    Drilled {
        replica: usize,
        equal: bool,
    },
}

/// One replica as its flights see it.
#[derive(Debug, Clone)]
pub(super) struct Wing {
    pub(super) replica: usize,
    pub(super) store: Store,
    pub(super) gate: Gate,
    pub(super) db: String,
    pub(super) name: String,
    pub(super) report: UnboundedSender<Box<Landed>>,
    /// Set when the pin is gone: what is being read of the database file does not hold still any more.
    pub(super) unpinned: Arc<AtomicBool>,
}

/// Where a segment's bytes are.
#[derive(Debug, Clone)]
pub(super) enum Bytesource {
    Live { wal: WalBytes, salt: Salt },
    Held(Tail),
}

impl Wing {
    pub(super) fn event(&self, event: Event) {
        // Fails when the database's loop has ended and nobody wants to know any more.
        let _ = self.report.send(Box::new(Landed::Event(event)));
    }

    fn tell(&self, landed: Landed) {
        let _ = self.report.send(Box::new(landed));
    }

    /// Finds what the replica holds and reads what the live WAL has where that ends. Nothing is written before, so this
    /// is also the time to find out how the destination is to be written to.
    pub(super) async fn inspect(self, asked: Option<Format>, wal: WalBytes, view: View) {
        let replica = self.replica;
        let _passage = self.gate.pass(0).await;
        let (found, learnt) = tokio::join!(self.find(asked, &wal, view.page_size), self.store.learn());
        if let Err(error) = &learnt {
            // What follows from it is a remark of the store. Replication does not wait for it.
            tracing::debug!(db = self.db, replica = self.name, %error, "ask for create-only puts");
        }
        let found = match found {
            // It may create and not list: nothing can be continued, and a new generation takes nothing from another.
            Err(error) if error.kind == Kind::Denied && learnt.is_ok() && asked != Some(Format::Ltx) => {
                tracing::warn!(
                    db = self.db, replica = self.name, %error,
                    "the replica may not be listed: a new generation begins at each start, and nothing old is deleted"
                );
                Ok(None)
            }
            Ok(Found::Wal(listing)) => {
                let named = listing.iter().filter_map(|o| Some((Name::parse(&o.key)?, o.created)));
                self.tell(Landed::Listed { replica, seen: Seen::generations(named) });
                self.head(listing, &wal, view.page_size).await
            }
            Ok(Found::Ltx(head)) => return self.event(Event::LtxInspected { replica, result: Ok(head) }),
            Err(error) => Err(error),
        };
        self.event(Event::Inspected { replica, result: found.map_err(fault) });
    }

    /// The end of the newest generation.
    async fn head(
        &self,
        listing: Vec<Object>,
        wal: &WalBytes,
        page_size: PageSize,
    ) -> Result<Option<Head>, StoreError> {
        let named: Vec<_> = listing.iter().filter_map(|o| Name::parse(&o.key).map(|n| (n, o))).collect();
        // Two objects of one second are told apart by nothing; the higher name is as good a guess as any.
        let newest = named.iter().max_by_key(|(n, o)| (o.created, n.generation()));
        let Some(generation) = newest.map(|(n, _)| n.generation()) else { return Ok(None) };
        let ours = || named.iter().filter(move |(n, _)| n.generation() == generation);
        let age = |o: &Object| {
            let age = Clock::wall().duration_since(o.created);
            age.try_into().unwrap_or_default()
        };
        let snapshot = ours()
            .filter(|(n, _)| matches!(n, Name::Snapshot { .. }))
            .map(|(n, o)| (n.index(), age(o)))
            .max_by_key(|(index, _)| *index);
        let last = ours().filter_map(|(n, o)| match *n {
            Name::Segment { index, offset, .. } => Some((index, offset, o)),
            Name::Snapshot { .. } => None,
        });
        let Some((index, offset, object)) = last.max_by_key(|(index, offset, _)| (*index, *offset)) else {
            let index = snapshot.map_or(WalIndex::ZERO, |(i, _)| i);
            return Ok(Some(Head {
                generation,
                index,
                end: 0,
                salt: None,
                last: None,
                local: None,
                snapshot,
            }));
        };
        let stored = Tries::new(ATTEMPTS).ask(|| self.store.get(&object.key, None)).await?;
        let Ok(plain) = lz4::decode(&stored, LAST_SEGMENT) else {
            // A damaged or foreign end proves nothing; what it means for a restore, a restore will say.
            return Ok(Some(Head {
                generation,
                index,
                end: offset,
                salt: None,
                last: None,
                local: None,
                snapshot,
            }));
        };
        let end = offset + plain.len() as u64;
        let frame = page_size.frame_len() as usize;
        let last = plain
            .len()
            .checked_sub(frame)
            .filter(|at| offset > 0 || *at >= HEADER_LEN)
            .and_then(|at| plain[at..].first_chunk::<FRAME_HEADER_LEN>())
            .map(FrameHeader::parse);
        let salt =
            if offset == 0 { Header::parse(&plain).ok().map(|h| h.salt) } else { last.map(|f| f.salt) };
        let local = wal.frame_before(end, page_size.frame_len()).ok().flatten();
        Ok(Some(Head { generation, index, end, salt, last, local, snapshot }))
    }

    /// Encodes and puts one segment.
    pub(super) async fn segment(self, job: SegmentJob, source: Bytesource, trail: Option<Trail>) {
        let replica = self.replica;
        let _passage = self.gate.pass(job.to.saturating_sub(job.from)).await;
        let encoded = tokio::task::spawn_blocking(move || match source {
            Bytesource::Held(tail) => segment::encode(&job, &tail.bytes, &tail.header, trail),
            Bytesource::Live { wal, salt } => match wal.header()? {
                header if header.salt == salt => segment::encode(&job, &wal, &header, trail),
                header => Err(io::Error::other(format!("WAL salt {}, expected {salt}", header.salt))),
            },
        });
        let encoded = match encoded.await.unwrap_or_else(|e| Err(io::Error::other(e))) {
            Ok(encoded) => encoded,
            Err(e) => {
                let message = format!("read {}-wal from 0x{:x}: {e}", self.db, job.from);
                let result = Err(Fault { kind: FaultKind::Local, message });
                return self.event(Event::Segment { replica, result });
            }
        };
        self.event(Event::Read { replica, to: encoded.to });
        let offset = crate::plan::replica::named(job.base, job.from);
        let key = Name::Segment { generation: job.generation, index: job.index, offset }.key();
        let stored = encoded.object.len() as u64;
        let result = self.store.put(&key, encoded.object).await;
        if result.is_ok() {
            self.tell(Landed::Shipped { replica, stored, trail: encoded.trail });
        }
        self.event(Event::Segment { replica, result: result.map(|_| ()).map_err(fault) });
    }

    /// Copies the database file; the copy is whole with the WAL `index` up to byte `needs`.
    pub(super) async fn snapshot(self, files: Files, generation: Generation, index: WalIndex, needs: u64) {
        let replica = self.replica;
        let started = std::time::Instant::now();
        let key = Name::Snapshot { generation, index }.key();
        // A copy that needs no WAL is whole as it is, and has nothing to say.
        let note = (needs > 0).then_some(Note::Base { index, offset: needs });
        let result = self.copy(&files, &key, note).await;
        if let Ok(plain) = &result {
            tracing::info!(
                db = self.db, replica = self.name, %generation, %index, plain, elapsed = ?started.elapsed(),
                "snapshot written"
            );
        }
        self.event(Event::Snapshot { replica, result: result.map(|_| index) });
    }

    async fn copy(&self, files: &Files, key: &str, note: Option<Note>) -> Result<u64, Fault> {
        let len = files.db.metadata().map_or(0, |m| m.len());
        let _passage = self.gate.pass(len).await;
        let mut upload = self.store.upload_at_most(key, len).await.map_err(fault)?;
        let (plain, stored) = match snapshot::stream(files.db.clone(), note, &mut upload).await {
            Ok(lengths) => lengths,
            Err(failure) => {
                upload.abort().await;
                return Err(match failure {
                    snapshot::Failure::Write(e) => fault(e),
                    snapshot::Failure::Read(e) => {
                        Fault { kind: FaultKind::Local, message: format!("read {}: {e}", self.db) }
                    }
                });
            }
        };
        if self.unpinned.load(Ordering::SeqCst) {
            upload.abort().await;
            let message = format!("copy {}: the database was let go meanwhile", self.db);
            return Err(Fault { kind: FaultKind::Local, message });
        }
        self.event(Event::SnapshotRead { replica: self.replica });
        match upload.publish().await {
            Ok(_) => {}
            // Ours: the generation is, and an answer can get lost. A snapshot of an index restores with the WAL of
            // the index whenever in it it was taken.
            Err(e) if e.kind == Kind::Diverged => {}
            Err(e) => return Err(fault(e)),
        }
        self.tell(Landed::Sent { stored });
        Ok(plain)
    }

    /// Deletes what no kept restore point needs.
    pub(super) async fn retain(
        self,
        generation: Generation,
        retention: std::time::Duration,
        descent: Descent,
    ) {
        let replica = self.replica;
        let stale = match self.prune(generation, retention, &descent).await {
            Ok(stale) => stale,
            Err(error) => {
                tracing::warn!(db = self.db, replica = self.name, %error, "enforce retention; next try in one interval");
                self.tell(Landed::Pruned { replica, deleted: 0, failed: 1 });
                false
            }
        };
        self.event(Event::Retained { replica, stale });
    }

    /// Runs the restore drill and says what it showed.
    pub(super) async fn validate(self, pos: Pos, files: Files, wal: WalBytes, view: View) {
        let (replica, db, name) = (self.replica, &self.db, &self.name);
        match validate::drill(self.store.clone(), pos, files, wal, view).await {
            Ok(Verdict::Equal(position)) => {
                tracing::info!(db, replica = name, status = "ok", %position, "validator");
                self.tell(Landed::Drilled { replica, equal: true });
            }
            Ok(Verdict::Differs { at, what }) => {
                tracing::error!(db, replica = name, status = "mismatch", position = %at, what, "validator");
                self.tell(Landed::Drilled { replica, equal: false });
            }
            Ok(Verdict::NotComparable(at)) => {
                tracing::info!(db, replica = name, status = "skipped", position = %at, "validator");
            }
            Err(error) => {
                tracing::error!(db, replica = name, status = "error", %error, "validator");
                self.tell(Landed::Drilled { replica, equal: false });
            }
        }
        self.event(Event::Validated { replica });
    }

    async fn prune(
        &self,
        generation: Generation,
        retention: std::time::Duration,
        descent: &Descent,
    ) -> Result<bool, StoreError> {
        let listing = self.store.list(ROOT).await?;
        let entry = |o: &Object| Some(Entry { name: Name::parse(&o.key)?, created: o.created });
        let entries: Vec<_> = listing.iter().filter_map(entry).collect();
        let decided = retain(&entries, Clock::wall(), retention, generation, descent);
        if !decided.held.is_empty() {
            let held: Vec<_> = decided.held.iter().map(Generation::to_string).collect();
            let (db, replica, held) = (&self.db, &self.name, held.join(" "));
            tracing::warn!(
                db,
                replica,
                held,
                "generations on hold: not this database's past; `holdfast generations -rm NAME` deletes one"
            );
        }
        // One after another in the decided order: a run that dies half way leaves only whole things behind.
        let keys: Vec<String> = decided.delete.iter().map(Name::key).collect();
        let (mut kept, mut gone) = (0, BTreeSet::new());
        for (key, result) in self.store.delete(&keys).await? {
            if let Err(error) = result {
                kept += 1;
                tracing::debug!(db = self.db, replica = self.name, key, %error, "delete");
            } else {
                gone.insert(key);
            }
        }
        let left = entries.iter().filter(|entry| gone.is_empty() || !gone.contains(&entry.name.key()));
        let seen = Seen::generations(left.map(|entry| (entry.name, entry.created)));
        self.tell(Landed::Listed { replica: self.replica, seen });
        if !keys.is_empty() {
            let deleted = keys.len() - kept;
            tracing::info!(db = self.db, replica = self.name, deleted, kept, "retention enforced");
            let failed = u64::from(kept > 0);
            self.tell(Landed::Pruned { replica: self.replica, deleted: deleted as u64, failed });
        }
        Ok(decided.stale)
    }
}

pub(super) fn fault(e: StoreError) -> Fault {
    let kind = match (e.kind, e.class()) {
        (Kind::Diverged, _) => FaultKind::Diverged,
        (_, Class::Throttled(asked)) => FaultKind::Throttled(asked),
        (_, Class::Refused) => FaultKind::Refused,
        (_, Class::Passing) => FaultKind::Retry,
    };
    Fault { kind, message: e.to_string() }
}

/// The largest last segment that is read back to prove continuity. Ours are 4 MiB; Litestream's have no limit, and
/// past this a new generation is cheaper than the memory.
const LAST_SEGMENT: usize = 64 << 20;
