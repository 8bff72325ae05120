//! A follower of one WAL: keeps every committed page it saw, and refuses a restart it had not allowed.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use holdfast::format::wal::{Chain, FRAME_HEADER_LEN};
use holdfast::plan::database::WalPos;
use holdfast::plan::handover::{Marks, Mode, Outcome};
use holdfast::source::live::{Live, Round, Rounded};
use holdfast::source::tail::{Tails, WalBytes};

/// What would be on a replica if uploading took no time.
#[derive(Debug)]
pub(crate) struct Follower {
    tails: Tails,
    incarnation: u64,
    chain: Option<Chain>,
    /// The last hand-over: behind exactly this the WAL may restart.
    handed: Option<Marks>,
    base: Vec<u8>,
    pages: HashMap<u32, Vec<u8>>,
    /// Size of the database after the last commit, in pages.
    size: usize,
    page_size: usize,
    pub(crate) restarts: u32,
    pub(crate) frames: u64,
}

impl Follower {
    /// Starts with the database file as it is.
    pub(crate) fn new(live: &Live) -> Self {
        // Never a descriptor of our own: closing it would drop the pin.
        let db = live.files().db;
        let mut base = vec![0; db.metadata().unwrap().len() as usize];
        db.read_exact_at(&mut base, 0).unwrap();
        let page_size = live.look().unwrap().page_size.get() as usize;
        let mut this = Self {
            tails: Tails::default(),
            incarnation: 0,
            chain: None,
            handed: None,
            size: base.len() / page_size,
            base,
            pages: HashMap::new(),
            page_size,
            restarts: 0,
            frames: 0,
        };
        this.read(live);
        this
    }

    /// Takes in everything that is committed.
    pub(crate) fn read(&mut self, live: &Live) {
        let view = match live.look() {
            Err(e) if e.is_busy() => return,
            view => view.unwrap(),
        };
        if view.marks.frames == 0 {
            return;
        }
        let wal = live.wal();
        if self.chain.is_none_or(|c| c.salt != view.marks.salt) {
            if let Some(old) = &self.chain {
                let handed = self.handed.expect("the WAL restarts only after a hand-over");
                assert_eq!(handed.salt, old.salt, "a hand-over of this incarnation");
                let end = view.page_size.offset_of(handed.frames.into());
                assert_eq!(old.offset, end, "a frame was lost: not everything was read before the restart");
                self.restarts += 1;
                self.incarnation += 1;
            }
            let header = wal.header().unwrap();
            assert_eq!(header.salt, view.marks.salt, "the WAL begins with the salt of its index");
            self.chain = Some(Chain::start(&header));
            self.handed = None;
        }
        self.take(&wal, view.page_size.offset_of(view.marks.frames.into()));
    }

    /// Runs a round and takes in what it captured.
    pub(crate) fn round(&mut self, live: &mut Live, mode: Mode) -> Rounded {
        let chain = self.chain.unwrap();
        let from = WalPos { incarnation: self.incarnation, offset: chain.offset };
        let round = Round { mode, salt: chain.salt, from: Some(from), limit: 64 << 20 };
        let rounded = live.round(&round, &self.tails).unwrap();
        if let Outcome::HandedOver(marks) = rounded.outcome {
            let tail = self.tails.get(self.incarnation).expect("a hand-over captures first");
            self.take(&tail.bytes, tail.header.page_size.offset_of(marks.frames.into()));
            self.handed = Some(marks);
        }
        rounded
    }

    /// The database as the replica would give it back.
    pub(crate) fn image(&self) -> Vec<u8> {
        let mut image = self.base.clone();
        image.resize(self.size * self.page_size, 0);
        for (number, page) in &self.pages {
            if let Some(place) = image.get_mut((*number as usize - 1) * self.page_size..) {
                place.get_mut(..self.page_size).into_iter().for_each(|p| p.copy_from_slice(page));
            }
        }
        image
    }

    fn take(&mut self, wal: &WalBytes, end: u64) {
        let chain = self.chain.as_mut().unwrap();
        let mut frame = vec![0; chain.frame_len()];
        while chain.offset < end {
            wal.read(&mut frame, chain.offset).unwrap();
            let header = chain.verify(&frame).unwrap();
            self.pages.insert(header.page, frame[FRAME_HEADER_LEN..].to_vec());
            if header.commit > 0 {
                self.size = header.commit as usize;
            }
            self.frames += 1;
        }
    }
}
