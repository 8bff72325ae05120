//! The steps of restoring an LTX chain: runs of pages, decoded anywhere, accounted for in turn. Touches the result.
//!
//! The newest file comes first. Its header says how large the result is, and the first image of a page that is met is
//! the one that stays: a bit per page says which have been. So each page is written once, at its place, out of turn,
//! and nobody waits for a file to be written before the next one. The other way round, oldest first, pages would be
//! written as often as they changed and every file would have to wait for the one before it.
//!
//! Every page of every file is decoded all the same, also those that a newer file hides: a file's checksum runs over
//! its plain pages, and a chain is not trusted in parts. What is proven at the end of each file: its checksum, that its
//! pages are what its index says, that it holds the transactions its name says; at the end of all: that every page of
//! the result was in one of them, and, where they carry checksums of the database, those too.
//!
//! Memory: a bit per page (32 MiB for a terabyte of 4 KiB pages) and what the pipeline holds.

mod merge;

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::apply::{Applied, ApplyError, ObjectFault};
use super::line::Line;
use super::pipeline::{Apply, Cut};
use crate::durable;
use crate::format::ltx::{self, End, Header, Name, Pages, Run, Splitter, Sum};
use merge::Merge;
pub(super) use merge::MergeFault;

pub(super) enum Step {
    Header(Header, Sum),
    Run(Run),
    End(End),
}

pub(super) struct Cutter(Splitter);

impl Cutter {
    pub(super) fn new() -> Self {
        Self(Splitter::new(RUN))
    }
}

impl Cut for Cutter {
    type Step = Step;

    fn start(&mut self) -> Option<Step> {
        None
    }

    fn feed(&mut self, stored: Bytes) {
        self.0.feed(stored);
    }

    fn next(&mut self) -> Result<Option<(Step, usize)>, ObjectFault> {
        Ok(match self.0.cut()? {
            ltx::Cut::More => None,
            ltx::Cut::Header(header, sum) => Some((Step::Header(header, sum), 0)),
            ltx::Cut::End(end) => Some((Step::End(end), 0)),
            ltx::Cut::Run(run) => {
                let bytes = run.stored_len();
                Some((Step::Run(run), bytes))
            }
        })
    }

    fn finish(&mut self) -> Result<(), ObjectFault> {
        Ok(std::mem::replace(self, Self::new()).0.finish()?)
    }
}

pub(super) struct LtxWork {
    file: Arc<File>,
    merge: Mutex<Merge>,
}

impl LtxWork {
    /// `names` are a plan's, newest first; `file` is empty.
    pub(super) fn new(names: Vec<Name>, file: Arc<File>) -> Self {
        Self { file, merge: Mutex::new(Merge::new(names)) }
    }

    fn run(
        &self,
        line: &Line<Step>,
        seq: u64,
        run: &Run,
        pages: &mut Pages,
        places: &mut Vec<merge::Place>,
    ) -> Result<(), ApplyError> {
        let sum = run.decode(pages).map_err(ObjectFault::from)?;
        let Some(turn) = line.wait(seq) else { return Ok(()) };
        places.clear();
        self.merge().run(sum, pages, places);
        line.advance(turn);
        for place in places {
            let (images, at) = (&pages.images()[place.images.clone()], place.at);
            self.file.write_all_at(images, at).map_err(ApplyError::Io)?;
            if images.len() >= WORTH_STARTING {
                // The disk works while the rest is decoded; the fsync at the end then finds little to do.
                durable::start_writing(&self.file, at, images.len() as u64);
            }
        }
        Ok(())
    }

    fn merge(&self) -> MutexGuard<'_, Merge> {
        self.merge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Apply for LtxWork {
    type Step = Step;

    fn step(&self, line: &Line<Step>, seq: u64, item: usize, step: Step) -> Result<(), ApplyError> {
        match step {
            Step::Header(header, sum) => {
                let Some(turn) = line.wait(seq) else { return Ok(()) };
                self.merge().header(item, header, sum)?;
                line.advance(turn);
            }
            Step::Run(run) => {
                PAGES.with_borrow_mut(|(pages, places)| self.run(line, seq, &run, pages, places))?
            }
            Step::End(end) => {
                let Some(turn) = line.wait(seq) else { return Ok(()) };
                self.merge().end(&end)?;
                line.advance(turn);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Applied, (usize, ApplyError)> {
        let merge = self.merge.into_inner().unwrap_or_else(PoisonError::into_inner);
        // The newest file says what the result should be.
        merge.finish(&self.file).map_err(|e| (0, e))
    }
}

thread_local! {
    /// A worker's decoded run, and where its pages go.
    static PAGES: RefCell<(Pages, Vec<merge::Place>)> = RefCell::default();
}

/// Plain bytes of a run: enough that queueing it costs nothing beside decoding it, little enough for a core's cache.
const RUN: usize = 256 << 10;
/// Bytes written together that are worth a call to start writing them to the disk.
const WORTH_STARTING: usize = 64 << 10;
