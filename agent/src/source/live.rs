//! One attached database: looks at the WAL, runs the rounds that move the pin, captures tails. Blocking.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::files::{Files, SourceError, io_error};
use super::pins::Pins;
use super::shm::{self, Unreadable};
use super::tail::{Tail, Tails, WalBytes};
use crate::format::wal::{Chain, FrameHeader, HEADER_LEN, Header, PageSize};
use crate::plan::database::{Pin, View, WalPos};
use crate::plan::handover::{HandOver, Marks, Mode, Outcome, Seen, Slot, Step};

/// A database whose WAL is pinned. Dropping it lets the WAL go; the app's files stay as they are.
///
/// Field order is drop order: the connections close before the descriptors may.
#[derive(Debug)]
pub struct Live {
    pins: Pins,
    pin: Slot,
    pinned: (Marks, Pin),
    /// As the database's header has it; it cannot change in WAL mode.
    page_size: PageSize,
    shm: Arc<File>,
    wal: Arc<File>,
    wal_path: PathBuf,
    files: Files,
}

/// What a round is about, beside its mode.
#[derive(Debug, Clone)]
pub struct Round {
    pub mode: Mode,
    pub salt: crate::format::wal::Salt,
    /// Capture from here; `None` when no replica needs anything.
    pub from: Option<WalPos>,
    /// The largest tail that may be held, in bytes.
    pub limit: u64,
}

/// How a round went.
#[derive(Debug)]
pub struct Rounded {
    pub outcome: Outcome,
    /// How long the write lock was held: zero but for a sealed round.
    pub locked: Duration,
}

impl Live {
    /// Pins the WAL of the database at `path`.
    ///
    /// `kept` are descriptors of an earlier attachment; they are used again if the file is still the same, because
    /// closing them would drop the locks of the connections made here.
    ///
    /// # Errors
    /// [`SourceError::is_waiting`] when the app has not created the database or not made it a WAL database yet.
    pub fn attach(path: &Path, kept: Option<Files>) -> Result<Self, SourceError> {
        let mut files = Files::open(path, kept)?;
        let page_size = files.wal_page_size()?;
        let mut pins = Pins::new(path);
        pins.begin(Slot::A)?;
        let shm = files.shm()?;
        let wal_path = files.beside("-wal");
        let wal = File::open(&wal_path).map(Arc::new).map_err(|e| io_error("open", &wal_path, e))?;
        let none = Marks { salt: crate::format::wal::Salt([0; 8]), frames: 0, backfilled: 0 };
        let mut live =
            Self { pins, pin: Slot::A, pinned: (none, Pin::Zero), page_size, shm, wal, wal_path, files };
        live.pinned = pinned(live.marks()?.1);
        // The path may have been renamed over between the two opens.
        live.files.check_same()?;
        live.pins.rest();
        Ok(live)
    }

    /// One look at the WAL: two small reads, no lock.
    ///
    /// # Errors
    /// [`SourceError::is_busy`] when a writer is just then writing the header and does not get on: look again later.
    pub fn look(&self) -> Result<View, SourceError> {
        let (page_size, marks) = self.marks_now()?;
        // A pin begun in an earlier incarnation was on READ_LOCK(0), or the WAL could not have restarted.
        let pin = if marks.salt == self.pinned.0.salt { self.pinned.1 } else { Pin::Zero };
        Ok(View { page_size, marks, pin })
    }

    /// Does the WAL hold a frame its index does not count yet: of a transaction that is being committed, or that has
    /// outgrown its cache and may end either way?
    pub fn in_the_making(&self, view: &View) -> bool {
        let Ok(header) = self.wal().header() else { return false };
        let end = if header.salt == view.marks.salt { view.marks.frames } else { 0 };
        let next = header.page_size.offset_of(u64::from(end) + 1);
        let frame = self.wal().frame_before(next, header.page_size.frame_len());
        frame.ok().flatten().is_some_and(|f| f.salt == header.salt)
    }

    /// Is the database still the file at its path?
    pub fn check_same(&self) -> Result<(), SourceError> {
        self.files.check_same()
    }

    /// The descriptors, to be kept as long as this process may attach to the same file again.
    pub fn files(&self) -> Files {
        self.files.clone()
    }

    /// Where the WAL lies.
    pub fn wal_path(&self) -> &Path {
        &self.wal_path
    }

    /// The live WAL's bytes.
    pub fn wal(&self) -> WalBytes {
        WalBytes::Live(self.wal.clone())
    }

    /// Takes the write lock and keeps it until this is dropped: from here on nobody, in any process, commits.
    /// `false` when somebody still holds it.
    pub fn quiesce(&mut self) -> Result<bool, SourceError> {
        self.pins.begin_write(self.pin.other())
    }

    /// Runs one round of the checkpoint protocol to its end. The WAL is pinned throughout.
    pub fn round(&mut self, round: &Round, tails: &Tails) -> Result<Rounded, SourceError> {
        let mut machine = HandOver::new(self.pin, round.salt, round.mode);
        let mut seen = Seen::Done;
        let (mut locked, mut since) = (Duration::ZERO, None);
        let mut begun = [self.pinned; 2];
        loop {
            seen = match machine.next(seen) {
                // A reader that meets the index header half written takes the write lock for an instant
                // (`walIndexReadHdr` in wal.c), and a writer without busy timeout fails on it: begin on a settled one.
                Step::Begin(slot) => match self.marks().and_then(|_| self.pins.begin(slot)) {
                    Ok(()) => {
                        let (_, marks) = self.marks()?;
                        begun[slot as usize] = pinned(marks);
                        Seen::Marks(marks)
                    }
                    Err(e) if e.is_busy() => Seen::Busy,
                    Err(e) => return Err(e),
                },
                Step::BeginWrite(slot) => {
                    if self.pins.begin_write(slot)? {
                        since = Some((slot, Instant::now()));
                        Seen::Marks(self.marks()?.1)
                    } else {
                        Seen::Busy
                    }
                }
                Step::End(slot) => {
                    self.pins.end(slot);
                    if let Some((_, at)) = since.take_if(|(s, _)| *s == slot) {
                        locked = at.elapsed();
                    }
                    Seen::Done
                }
                Step::Checkpoint(slot) => {
                    if self.pins.checkpoint(slot)? {
                        Seen::Done
                    } else {
                        Seen::Busy
                    }
                }
                Step::Capture { frames } => self.capture(round, frames, tails)?,
                Step::Pause(time) => {
                    std::thread::sleep(time);
                    Seen::Done
                }
                Step::Look => Seen::Marks(self.marks()?.1),
                Step::Finish { pin, outcome } => {
                    self.pin = pin;
                    self.pinned = begun[pin as usize];
                    self.pins.rest();
                    return Ok(Rounded { outcome, locked });
                }
            }
        }
    }

    /// Copies everything from `round.from` to the end of frame `frames` into memory.
    fn capture(&self, round: &Round, frames: u32, tails: &Tails) -> Result<Seen, SourceError> {
        let Some(from) = round.from else { return Ok(Seen::Done) };
        if frames == 0 {
            return Ok(Seen::Done);
        }
        let live = self.wal();
        // On READ_LOCK(0) a foreign TRUNCATE may take the file away while it is being read.
        let Ok(header) = live.header() else { return Ok(Seen::Gone) };
        let end = header.page_size.offset_of(frames.into());
        // One frame more at the front: its checksum is where verification goes on.
        let start = match from.offset.checked_sub(header.page_size.frame_len()) {
            Some(at) if at >= HEADER_LEN as u64 => at,
            Some(_) | None => 0,
        };
        if end.saturating_sub(from.offset) > round.limit {
            return Ok(Seen::TooLarge);
        }
        // Captured by an earlier round, nothing committed since. Reading it again would be a chance to lose it.
        if tails.get(from.incarnation).is_some_and(|held| held.covers(from.offset, end)) {
            return Ok(Seen::Done);
        }
        // Frames were appended to what is held: the WAL did not restart behind it, and it is of no use any more.
        drop(tails.take(from.incarnation));
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
        let read = live.read(&mut bytes, start);
        if read.is_err() || header.salt != round.salt || !continues(&header, &bytes, start) {
            return Ok(Seen::Gone);
        }
        let bytes = WalBytes::Held { from: start, bytes: Bytes::from(bytes) };
        tails.hold(Tail { incarnation: from.incarnation, header, bytes });
        Ok(Seen::Done)
    }

    /// As [`Self::marks_now`], but waits for a writer that the scheduler stopped in the middle of the header.
    fn marks(&self) -> Result<(PageSize, Marks), SourceError> {
        let start = Instant::now();
        loop {
            match self.marks_now() {
                Err(SourceError::Unsettled(_)) if start.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
                marks => return marks,
            }
        }
    }

    fn marks_now(&self) -> Result<(PageSize, Marks), SourceError> {
        let path = || self.files.beside("-shm");
        let read = shm::read(&self.shm).map(|(size, marks)| (size.unwrap_or(self.page_size), marks));
        read.map_err(|e| match e {
            Unreadable::Io(source) => io_error("read", &path(), source),
            Unreadable::Uninitialised => {
                SourceError::Index { path: path(), what: "the WAL index is not initialised" }
            }
            Unreadable::Unsettled => SourceError::Unsettled(path()),
        })
    }
}

/// Is `bytes`, which begin at `start`, one verified run of the WAL `header` belongs to? On `READ_LOCK(0)` the WAL may
/// restart while it is being read.
fn continues(header: &Header, bytes: &[u8], start: u64) -> bool {
    let mut chain = Chain::start(header);
    // The first frame only carries the checksum the rest goes on from.
    let skipped = if start == 0 { HEADER_LEN } else { chain.frame_len() };
    if start > 0 {
        let Some(head) = bytes.first_chunk().map(FrameHeader::parse) else { return false };
        chain = Chain { checksum: head.checksum, offset: start + skipped as u64, ..chain };
    }
    let Some(rest) = bytes.get(skipped..) else { return false };
    rest.chunks(chain.frame_len()).all(|frame| chain.verify(frame).is_ok())
}

/// What a pin begun just before `marks` were seen holds. See [`crate::plan::handover`] on `full`.
fn pinned(marks: Marks) -> (Marks, Pin) {
    (marks, if marks.full() { Pin::Zero } else { Pin::Mark(marks.frames) })
}

/// How long a round waits for the header of the WAL index: a process without a share of the CPU left, as containers
/// with a limit are, rests for a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);
