//! The steps of restoring a v0.3 chain: blocks of LZ4 frames, decoded anywhere, applied in turn. Touches the result.
//!
//! The base's blocks have their place in the file: once accounted for they are written out of turn. WAL is applied
//! over the base, so the first segment waits until all of it is written.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::apply::{Applied, Applier, ApplyError, ObjectFault};
use super::line::Line;
use super::pipeline::{Apply, Cut};
use crate::durable;
use crate::format::layout::Name;
use crate::format::lz4::{self, Block, Splitter};
use crate::format::note::Note;
use crate::plan::restore::Item;

pub(super) enum Step {
    Start,
    Note(Note),
    Block(Block),
    End { checksum: Option<u32>, size: Option<u64> },
}

#[derive(Default)]
pub(super) struct Cutter(Splitter);

impl Cut for Cutter {
    type Step = Step;

    fn start(&mut self) -> Option<Step> {
        Some(Step::Start)
    }

    fn feed(&mut self, stored: Bytes) {
        self.0.feed(stored);
    }

    fn next(&mut self) -> Result<Option<(Step, usize)>, ObjectFault> {
        Ok(match self.0.cut()? {
            lz4::Cut::More => None,
            lz4::Cut::Note(note) => Some((Step::Note(note), 0)),
            lz4::Cut::End { checksum, size } => Some((Step::End { checksum, size }, 0)),
            lz4::Cut::Block(block) => {
                let bytes = block.stored_len();
                Some((Step::Block(block), bytes))
            }
        })
    }

    fn finish(&mut self) -> Result<(), ObjectFault> {
        Ok(std::mem::take(&mut self.0).finish()?)
    }
}

pub(super) struct WalWork {
    items: Arc<[Item]>,
    file: Arc<File>,
    applier: Mutex<Applier>,
    /// Blocks of the base that are accounted for but not yet written.
    writing: AtomicUsize,
    /// The end of the content so far, for frames with linked blocks.
    window: Mutex<Vec<u8>>,
}

impl WalWork {
    /// `items` are a plan's, `file` is empty, `dir` is where scratch files may be.
    pub(super) fn new(items: Arc<[Item]>, file: Arc<File>, dir: &Path) -> Self {
        let applier = Mutex::new(Applier::new(items.clone(), file.clone(), dir));
        Self { items, file, applier, writing: AtomicUsize::new(0), window: Mutex::default() }
    }

    fn applier(&self) -> MutexGuard<'_, Applier> {
        self.applier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_written(&self) -> bool {
        self.writing.load(Ordering::Acquire) == 0
    }

    fn linked(&self, line: &Line<Step>, seq: u64, base: bool, block: &Block) -> Result<(), ApplyError> {
        let Some(turn) = line.wait(seq) else { return Ok(()) };
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = window.len().min(64 << 10);
        let past = window.len() - keep;
        window.drain(..past);
        block.decode_linked(&mut window).map_err(broken)?;
        let plain = &window[keep..];
        match base {
            true => {
                let at = self.applier().base(plain);
                self.file.write_all_at(plain, at).map_err(ApplyError::Io)?;
            }
            false => self.applier().segment(plain)?,
        }
        line.advance(turn);
        Ok(())
    }

    fn plain(&self, line: &Line<Step>, seq: u64, base: bool, plain: &[u8]) -> Result<(), ApplyError> {
        let Some(turn) = line.wait(seq) else { return Ok(()) };
        if !base {
            self.applier().segment(plain)?;
            line.advance(turn);
            return Ok(());
        }
        let at = self.applier().base(plain);
        self.writing.fetch_add(1, Ordering::Release);
        line.advance(turn);
        let written = self.file.write_all_at(plain, at).map_err(ApplyError::Io);
        // The disk works while the rest is decoded; the fsync at the end then finds little to do.
        durable::start_writing(&self.file, at, plain.len() as u64);
        line.change(|| {
            self.writing.fetch_sub(1, Ordering::Release);
        });
        written
    }
}

impl Apply for WalWork {
    type Step = Step;

    fn step(&self, line: &Line<Step>, seq: u64, item: usize, step: Step) -> Result<(), ApplyError> {
        let base = matches!(self.items[item].name, Name::Snapshot { .. });
        match step {
            Step::Start => {
                // WAL is applied over the base: all of it has to be in the file.
                let Some(turn) = line.wait_until(seq, || self.all_written()) else { return Ok(()) };
                self.window.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.applier().start(item)?;
                line.advance(turn);
            }
            Step::Note(note) => {
                let Some(turn) = line.wait(seq) else { return Ok(()) };
                self.applier().note(note)?;
                line.advance(turn);
            }
            Step::End { checksum, size } => {
                let Some(turn) = line.wait_until(seq, || self.all_written()) else { return Ok(()) };
                self.applier().end(checksum, size)?;
                line.advance(turn);
            }
            Step::Block(block) if block.is_linked() => self.linked(line, seq, base, &block)?,
            Step::Block(block) => PLAIN.with_borrow_mut(|plain| {
                if plain.len() < block.max() {
                    plain.resize(block.max(), 0);
                }
                let len = block.decode_into(plain).map_err(broken)?;
                self.plain(line, seq, base, &plain[..len])
            })?,
        }
        Ok(())
    }

    fn finish(self) -> Result<Applied, (usize, ApplyError)> {
        self.applier.into_inner().unwrap_or_else(PoisonError::into_inner).finish()
    }
}

thread_local! {
    /// A worker's decoded block: as large as the largest block the frame may hold.
    static PLAIN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn broken(e: lz4::Error) -> ApplyError {
    ApplyError::Object(ObjectFault::Frame(e))
}
