//! A model of SQLite in WAL mode: pages are version numbers, everything else follows wal.c step by step. No I/O.
//!
//! Modelled: the WAL file with stale frames behind the live ones, the WAL index (header, `nBackfill`, the five read
//! marks), the write, checkpoint and read locks, spills and rollbacks, checkpoints of every mode page by page, who may
//! restart the WAL and which salts it then gets, recovery by the first to open and deletion by the last to close.
//! One call is one atomic moment: where wal.c takes several, it retries when somebody else came between.

use holdfast::format::wal::{Checksum, Salt};

use super::chance::Chance;

/// Versions of the pages; page 1 first.
pub(crate) type Image = Vec<u32>;

/// One frame as it stands in the WAL file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) page: u32,
    /// The database's size after this commit; 0 inside a transaction.
    pub(crate) commit: u32,
    pub(crate) version: u32,
    pub(crate) salt: Salt,
    pub(crate) checksum: Checksum,
}

impl Frame {
    /// The frame again, continuing another chain.
    pub(crate) fn sealed(self, before: Checksum) -> Self {
        Self { checksum: chain(before, self.page, self.commit, self.version), ..self }
    }

    /// Does it continue `before` in the incarnation `salt`?
    pub(crate) fn follows(&self, before: Checksum, salt: Salt) -> bool {
        self.salt == salt && self.sealed(before).checksum == self.checksum
    }
}

/// The WAL file.
#[derive(Debug, Default)]
pub(crate) struct Wal {
    /// Salt, and the checkpoint counter in the header.
    pub(crate) header: Option<(Salt, u32)>,
    /// All there is, stale frames included.
    pub(crate) frames: Vec<Frame>,
}

/// The header of the WAL index. Connections compare their copy with the live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) salt: Salt,
    pub(crate) frames: u32,
    pages: u32,
    checksum: Checksum,
    change: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Passive,
    Full,
    Restart,
    Truncate,
}

/// Number of a connection.
pub(crate) type Conn = usize;

#[derive(Debug, Default)]
struct Connection {
    open: bool,
    /// `nCkpt`: 0 until this connection restarted or recovered a WAL.
    restarts: u32,
    index: Option<Index>,
    /// The read lock held, 0 to 4.
    read: Option<usize>,
    txn: Option<Txn>,
    checkpoint: Option<Checkpoint>,
}

#[derive(Debug)]
struct Txn {
    /// Frames before the transaction's first; `None` until it wrote one.
    first: Option<u32>,
    rewritten: bool,
}

#[derive(Debug)]
struct Checkpoint {
    mode: Mode,
    degraded: bool,
    index: Index,
    /// Backfilled at the end, if anything is.
    safe: Option<u32>,
    /// Pages to copy, in page order.
    copy: Vec<(u32, u32)>,
    next: usize,
}

/// One database: file, WAL, WAL index, connections.
#[derive(Debug)]
pub(crate) struct Sqlite {
    pub(crate) file: Image,
    pub(crate) wal: Wal,
    pub(crate) index: Index,
    pub(crate) backfilled: u32,
    marks: [u32; SLOTS],
    conns: Vec<Connection>,
    writer: Option<Conn>,
    checkpointer: Option<Conn>,
    /// Who copies pages, and so holds `READ_LOCK(0)` alone.
    copier: Option<Conn>,
    /// Frames that were flushed to disk by a checkpoint: they survive a loss of power.
    synced: u32,
}

impl Sqlite {
    /// A database with these pages and no WAL.
    pub(crate) fn new(file: Image) -> Self {
        let index = Index { salt: Salt([0; 8]), frames: 0, pages: 0, checksum: NONE, change: 0 };
        Self {
            file,
            wal: Wal::default(),
            index,
            backfilled: 0,
            marks: [0; SLOTS],
            conns: Vec::new(),
            writer: None,
            checkpointer: None,
            copier: None,
            synced: 0,
        }
    }

    /// Opens a connection. The first one recovers the WAL index from the WAL.
    pub(crate) fn open(&mut self) -> Conn {
        let first = self.conns.iter().all(|c| !c.open);
        let conn = Connection { open: true, ..Connection::default() };
        let n = self.conns.iter().position(|c| !c.open).unwrap_or(self.conns.len());
        if n == self.conns.len() {
            self.conns.push(conn);
        } else {
            self.conns[n] = conn;
        }
        if first {
            self.recover(n);
        }
        n
    }

    /// `walIndexRecover`: everything up to the last commit that verifies, nothing backfilled.
    fn recover(&mut self, c: Conn) {
        let pages = self.file.len() as u32;
        let mut index = Index { salt: Salt([0; 8]), frames: 0, pages, checksum: NONE, change: 0 };
        if let Some((salt, restarts)) = self.wal.header {
            index = Index { salt, checksum: start(salt), ..index };
            self.conns[c].restarts = restarts;
            let mut before = index.checksum;
            for (n, f) in self.wal.frames.iter().enumerate() {
                if !f.follows(before, salt) {
                    break;
                }
                before = f.checksum;
                if f.commit > 0 {
                    index = Index { frames: n as u32 + 1, pages: f.commit, checksum: before, ..index };
                }
            }
        }
        self.index = index;
        self.backfilled = 0;
        self.marks = [0, index.frames, UNUSED, UNUSED, UNUSED];
    }

    /// Closes a connection; `keep` is `SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE`. Says whether the WAL was deleted.
    pub(crate) fn close(&mut self, c: Conn, keep: bool, chance: &mut Chance) -> bool {
        self.end(c);
        let last = (0..self.conns.len()).all(|o| o == c || !self.conns[o].open);
        let delete = last && !keep && self.begin_checkpoint(c, Mode::Passive);
        if delete {
            while self.step_checkpoint(c, chance).is_none() {}
            self.wal = Wal::default();
        }
        self.kill(c);
        delete
    }

    /// The process of this connection dies: its locks are gone, whatever it was doing stays half done.
    pub(crate) fn kill(&mut self, c: Conn) {
        for lock in [&mut self.writer, &mut self.checkpointer, &mut self.copier] {
            if *lock == Some(c) {
                *lock = None;
            }
        }
        self.conns[c] = Connection::default();
    }

    /// The machine loses power: no process survives, nor do the frames after number `keep`, if they were not flushed.
    pub(crate) fn lose_power(&mut self, keep: u32) -> u32 {
        (0..self.conns.len()).for_each(|c| self.kill(c));
        let keep = keep.clamp(self.synced.min(self.index.frames), self.index.frames);
        self.wal.frames.truncate(keep as usize);
        keep
    }

    /// The read lock this connection holds.
    pub(crate) fn reading(&self, c: Conn) -> Option<usize> {
        self.conns.get(c)?.read
    }

    fn held(&self, slot: usize) -> bool {
        self.conns.iter().any(|c| c.read == Some(slot))
    }

    /// `walTryBeginRead`. `false` when every mark is taken.
    pub(crate) fn begin(&mut self, c: Conn) -> bool {
        self.conns[c].index = Some(self.index);
        self.begin_at(c, false)
    }

    fn begin_at(&mut self, c: Conn, use_wal: bool) -> bool {
        let frames = self.conns[c].index.map_or(0, |i| i.frames);
        if !use_wal && self.backfilled == frames && self.copier.is_none() {
            self.conns[c].read = Some(0);
            return true;
        }
        let mut best = None;
        for slot in 1..SLOTS {
            let mark = self.marks[slot];
            if mark <= frames && best.is_none_or(|b: usize| self.marks[b] <= mark) {
                best = Some(slot);
            }
        }
        if best.is_none_or(|b| self.marks[b] < frames)
            && let Some(free) = (1..SLOTS).find(|s| !self.held(*s))
        {
            self.marks[free] = frames;
            best = Some(free);
        }
        self.conns[c].read = best;
        best.is_some()
    }

    /// `BEGIN IMMEDIATE`; `false` when somebody else writes.
    pub(crate) fn begin_write(&mut self, c: Conn) -> bool {
        if self.writer.is_some() || !self.begin(c) {
            return false;
        }
        self.writer = Some(c);
        self.conns[c].txn = Some(Txn { first: None, rewritten: false });
        true
    }

    /// Ends the transaction of this connection; a write that was not committed is rolled back.
    pub(crate) fn end(&mut self, c: Conn) {
        if self.writer == Some(c) {
            self.writer = None;
        }
        let conn = &mut self.conns[c];
        (conn.read, conn.txn, conn.index) = (None, None, None);
    }

    /// `walFrames`: appends `pages` of the transaction, as a commit if `size` is given.
    pub(crate) fn write(&mut self, c: Conn, pages: &[(u32, u32)], size: Option<u32>, chance: &mut Chance) {
        assert_eq!(self.writer, Some(c), "only the writer writes");
        self.restart_if_possible(c, chance);
        let conn = &mut self.conns[c];
        let (Some(index), Some(txn)) = (&mut conn.index, &mut conn.txn) else {
            panic!("a writer has a transaction")
        };
        if index.frames == 0 {
            if conn.restarts == 0 {
                index.salt = Salt(chance.roll().to_be_bytes());
            }
            index.checksum = start(index.salt);
            self.wal.header = Some((index.salt, conn.restarts));
        }
        let first = *txn.first.get_or_insert(index.frames);
        for (n, &(page, version)) in pages.iter().enumerate() {
            let last = n + 1 == pages.len() && size.is_some();
            let own = first as usize..index.frames as usize;
            if !last && let Some(old) = self.wal.frames[own].iter_mut().find(|f| f.page == page) {
                old.version = version;
                txn.rewritten = true;
                continue;
            }
            let commit = if last { size.unwrap_or(0) } else { 0 };
            let frame = Frame { page, commit, version, salt: index.salt, checksum: NONE };
            let frame = frame.sealed(index.checksum);
            let at = index.frames as usize;
            if at < self.wal.frames.len() {
                self.wal.frames[at] = frame;
            } else {
                self.wal.frames.push(frame);
            }
            index.checksum = frame.checksum;
            index.frames += 1;
        }
        let Some(size) = size else { return };
        if txn.rewritten {
            let mut before = match first {
                0 => start(index.salt),
                n => self.wal.frames[n as usize - 1].checksum,
            };
            for f in &mut self.wal.frames[first as usize..index.frames as usize] {
                *f = f.sealed(before);
                before = f.checksum;
            }
            index.checksum = before;
        }
        index.pages = size;
        index.change += 1;
        self.index = *index;
    }

    /// `walRestartLog`: a writer on `READ_LOCK(0)` starts the WAL over if nobody else needs it.
    fn restart_if_possible(&mut self, c: Conn, chance: &mut Chance) {
        if self.conns[c].read != Some(0) {
            return;
        }
        if self.backfilled > 0 && (1..SLOTS).all(|s| !self.held(s)) {
            self.restart(c, chance);
        }
        self.conns[c].read = None;
        assert!(self.begin_at(c, true), "a writer always finds a mark");
    }

    /// `walRestartHdr`: the first half of the salt counts, the second is drawn.
    fn restart(&mut self, c: Conn, chance: &mut Chance) {
        let count = u32::from_be_bytes([0, 1, 2, 3].map(|i| self.index.salt.0[i])).wrapping_add(1);
        let salt = (u64::from(count) << 32 | chance.roll() >> 32).to_be_bytes();
        self.index = Index { salt: Salt(salt), frames: 0, change: self.index.change + 1, ..self.index };
        self.conns[c].restarts += 1;
        self.conns[c].index = Some(self.index);
        (self.backfilled, self.synced) = (0, 0);
        self.marks = [0, 0, UNUSED, UNUSED, UNUSED];
    }

    /// Begins a checkpoint; `false` when somebody else is at it.
    pub(crate) fn begin_checkpoint(&mut self, c: Conn, mode: Mode) -> bool {
        if self.checkpointer.is_some() {
            return false;
        }
        self.checkpointer = Some(c);
        let mut degraded = false;
        if mode != Mode::Passive {
            degraded = self.writer.is_some();
            if !degraded {
                self.writer = Some(c);
            }
        }
        let index = self.index;
        let mut safe = index.frames;
        for slot in 1..SLOTS {
            let mark = self.marks[slot];
            if safe > mark {
                if self.held(slot) {
                    safe = mark;
                } else {
                    self.marks[slot] = if slot == 1 { safe } else { UNUSED };
                }
            }
        }
        let free = self.copier.is_none() && !self.held(0);
        let mut job = Checkpoint { mode, degraded, index, safe: None, copy: Vec::new(), next: 0 };
        if self.backfilled < safe && free {
            self.copier = Some(c);
            self.synced = index.frames;
            job.safe = Some(safe);
            // The iterator yields the newest frame of each page; if that is not safe, the page stays as it is.
            let mut newest = std::collections::BTreeMap::new();
            for n in self.backfilled..index.frames {
                newest.insert(self.wal.frames[n as usize].page, n);
            }
            let copied = newest.iter().filter(|(page, n)| **n < safe && **page <= index.pages);
            job.copy = copied.map(|(page, n)| (*page, self.wal.frames[*n as usize].version)).collect();
        }
        self.conns[c].checkpoint = Some(job);
        true
    }

    /// Copies one page, or ends the checkpoint and says whether it did all its mode promises.
    pub(crate) fn step_checkpoint(&mut self, c: Conn, chance: &mut Chance) -> Option<bool> {
        let job = self.conns[c].checkpoint.as_mut().expect("a checkpoint was begun");
        if let Some(&(page, version)) = job.copy.get(job.next) {
            job.next += 1;
            let at = page as usize - 1;
            if self.file.len() <= at {
                self.file.resize(at + 1, 0);
            }
            self.file[at] = version;
            return None;
        }
        let job = self.conns[c].checkpoint.take().expect("a checkpoint was begun");
        if let Some(safe) = job.safe {
            if safe == self.index.frames {
                self.file.resize(job.index.pages as usize, 0);
            }
            self.backfilled = safe;
            self.copier = None;
        }
        let mut done = true;
        if job.mode != Mode::Passive {
            done = !job.degraded && self.backfilled >= job.index.frames;
            if done && matches!(job.mode, Mode::Restart | Mode::Truncate) {
                done = (1..SLOTS).all(|s| !self.held(s));
                if done && job.mode == Mode::Truncate {
                    self.restart(c, chance);
                    self.wal = Wal::default();
                }
            }
            if !job.degraded {
                self.writer = None;
            }
        }
        self.conns[c].index = None;
        self.checkpointer = None;
        Some(done)
    }
}

/// The chain's value behind a header with this salt.
pub(crate) fn start(salt: Salt) -> Checksum {
    checksum(mix(u64::from_be_bytes(salt.0) ^ 0x5a17))
}

fn chain(before: Checksum, page: u32, commit: u32, version: u32) -> Checksum {
    let before = u64::from(before.s0) << 32 | u64::from(before.s1);
    let words = [u64::from(page) << 32 | u64::from(commit), u64::from(version)];
    checksum(words.into_iter().fold(before, |sum, word| mix(sum ^ word)))
}

fn mix(mut z: u64) -> u64 {
    z = (z.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 32)
}

fn checksum(sum: u64) -> Checksum {
    Checksum { s0: (sum >> 32) as u32, s1: sum as u32 }
}

const NONE: Checksum = Checksum { s0: 0, s1: 0 };
/// `WAL_NREADER`.
const SLOTS: usize = 5;
/// `READMARK_NOT_USED`.
const UNUSED: u32 = u32::MAX;
