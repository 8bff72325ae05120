//! Random histories of a database as LTX files: merged, copied and deleted at random, in either encoding, with and
//! without checksums of the database. Every point that is listed restores to what applying the transactions in order
//! leaves; no other transaction restores.
//!
//! A failure names its seed; `SEED=17 cargo test -p holdfast --test restore_histories` replays it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use holdfast::error::Kind;
use holdfast::format::ltx::{Encoder, Header, Layout, Level, Name, PageEncoding, Rolling, Txid, WalPos};
use holdfast::format::wal::{PageSize, Salt};
use holdfast::plan::chance::Dice;
use holdfast::plan::restore::points::{At, restore_points};
use holdfast::plan::restore::{Target, Until};
use holdfast::run::restore::{Options, Outcome, Ownership, Show, Source, list, listing, restore};
use holdfast::store::{OpenOptions, Store};

#[tokio::test]
async fn what_is_merged_in_any_way_restores_to_what_applying_it_in_order_leaves() {
    let fresh = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seeds: Vec<u64> = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..60).chain(fresh..fresh + 20).collect(),
    };
    let (mut restored, mut refused) = (0, 0);
    for seed in &seeds {
        let _named = Named(*seed);
        let of_seed = History::new(*seed).check().await;
        (restored, refused) = (restored + of_seed.0, refused + of_seed.1);
    }
    assert!(seeds.len() == 1 || restored > 200 && refused > 50, "{restored} restored, {refused} refused");
}

/// Says which seed it was when the test panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={}", self.0);
        }
    }
}

/// Page images, the first of page 1.
type State = Vec<Vec<u8>>;

struct History {
    dice: Dice,
    page_size: PageSize,
    /// `states[n]` is the database after transaction `n`; before the first one it is empty.
    states: Vec<State>,
    /// What each transaction wrote; of the first one there is nothing before it.
    written: Vec<BTreeMap<u32, Vec<u8>>>,
}

impl History {
    /// Grows and shrinks by whole pages, and writes some of the others.
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let power = if dice.roll().is_multiple_of(10) { 16 } else { 9 + dice.roll() % 4 };
        let page_size = PageSize::new(1 << power).unwrap();
        let mut this = Self { dice, page_size, states: vec![State::new()], written: vec![BTreeMap::new()] };
        for _ in 0..this.below(14) + 1 {
            this.transaction();
        }
        this
    }

    fn below(&mut self, end: u64) -> u64 {
        self.dice.roll() % end
    }

    fn transaction(&mut self) {
        let before = self.states.last().unwrap().clone();
        let commit = 1 + self.below(24) as usize;
        let touched: BTreeSet<usize> =
            (0..self.below(5)).map(|_| self.below(commit as u64) as usize).collect();
        let numbers = (0..commit).filter(|n| *n >= before.len() || touched.contains(n));
        let written: BTreeMap<u32, Vec<u8>> =
            numbers.collect::<Vec<_>>().into_iter().map(|n| (n as u32 + 1, self.image(n))).collect();
        let mut state = before;
        state.resize(commit, Vec::new());
        for (number, image) in &written {
            state[*number as usize - 1] = image.clone();
        }
        self.states.push(state);
        self.written.push(written);
    }

    /// Of one byte, or noise. The first page begins as a database does, and leaves its size open.
    fn image(&mut self, n: usize) -> Vec<u8> {
        let size = self.page_size.get();
        let fill = self.dice.roll();
        let mut image: Vec<u8> = match fill % 3 {
            0 => (0..size / 8).flat_map(|_| self.dice.roll().to_le_bytes()).collect(),
            _ => vec![fill as u8; size as usize],
        };
        if n == 0 {
            image[..16].copy_from_slice(b"SQLite format 3\0");
            let field = if size == 65536 { 1 } else { size as u16 };
            image[16..18].copy_from_slice(&field.to_be_bytes());
            image[28..32].fill(0);
        }
        image
    }

    fn last(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    /// The checksum of the database after transaction `n`.
    fn rolling(&self, n: u64) -> Rolling {
        let pages = (1..).zip(&self.states[n as usize]);
        pages.fold(Rolling::EMPTY, |sum, (number, image)| sum.toggle(number, image))
    }

    /// Transactions `min` to `max` one after the other; `full` has every page besides.
    fn stored(&mut self, min: u64, max: u64, full: bool) -> Vec<u8> {
        let roll = self.dice.roll();
        let commit = self.states[max as usize].len() as u32;
        let mut pages: BTreeMap<u32, &Vec<u8>> = BTreeMap::new();
        for n in min..=max {
            pages.extend(self.written[n as usize].iter().map(|(number, image)| (*number, image)));
            pages.retain(|number, _| *number as usize <= self.states[n as usize].len());
        }
        if full {
            pages.extend((1..).zip(&self.states[max as usize]));
        }
        let encoding = if roll & 1 == 0 { PageEncoding::Block } else { PageEncoding::Frame };
        let header = Header {
            page_size: self.page_size,
            commit,
            min: Txid::new(min).unwrap(),
            max: Txid::new(max).unwrap(),
            timestamp: 1_700_000_000_000 + max as i64 * 1000,
            wal: WalPos { offset: 32, size: 0, salt: Salt([0; 8]) },
            node: 0,
            rolling: (roll & 6 == 0).then(|| self.rolling(min - 1)),
        };
        let mut out = Vec::new();
        let mut encoder = Encoder::new(header, encoding, &mut out).unwrap();
        for (number, image) in pages {
            encoder.push(number, image, &mut out).unwrap();
        }
        let after = header.rolling.map(|_| self.rolling(max));
        encoder.finish(after, &mut out).unwrap();
        out
    }

    /// A file for each transaction, some merged, some copies of everything; and some of the first kind gone.
    fn write(&mut self, replica: &Path) {
        let layout = if self.below(2) == 0 { Layout::Folders } else { Layout::Hex };
        let last = self.last();
        let mut files: Vec<(u8, u64, u64, bool)> = Vec::new();
        for n in 1..=last {
            if self.below(5) > 0 {
                let full = self.below(6) == 0;
                files.push((0, n, n, full));
            }
        }
        for _ in 0..self.below(7) {
            let (a, b, level) = (self.below(last) + 1, self.below(last) + 1, self.below(12) as u8);
            match level {
                0 => files.push((9, 1, a, false)),
                _ => files.push((level.min(8), a.min(b), a.max(b), false)),
            }
        }
        if files.is_empty() {
            files.push((0, 1, 1, false));
        }
        for (level, min, max, full) in files {
            let (min_txid, max_txid) = (Txid::new(min).unwrap(), Txid::new(max).unwrap());
            let name = Name { level: Level::new(level).unwrap(), min: min_txid, max: max_txid };
            let path = replica.join(name.key(layout));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let stored = self.stored(min, max, full);
            fs::write(path, stored).unwrap();
        }
    }

    /// How many transactions restore, and how many do not.
    async fn check(mut self) -> (usize, usize) {
        let dir = tempfile::tempdir().unwrap();
        let replica = dir.path().join("replica");
        fs::create_dir(&replica).unwrap();
        self.write(&replica);
        let store = Store::in_directory(&replica, &OpenOptions::default());
        let points = restore_points(&listing(&list(&store).await.unwrap()));
        let points: BTreeSet<u64> = points
            .iter()
            .map(|p| match p.at {
                At::Txid(txid) => txid.get(),
                At::Object(name) => panic!("{name}"),
            })
            .collect();
        for n in 1..=self.last() {
            let options = Options {
                db: dir.path().join("app.db"),
                target: Target { until: Until::Txid(Txid::new(n).unwrap()), ..Target::LATEST },
                parallelism: 3,
                if_db_not_exists: false,
                force: false,
                seen: None,
                dry_run: false,
                ownership: Ownership::default(),
                show: Show::Nothing,
            };
            let source = Source { name: "file".into(), store: store.clone() };
            match restore(&[source], &options).await {
                Ok(Outcome::Restored(_)) => {
                    assert!(points.contains(&n), "{n} restores and is not listed");
                    assert!(
                        fs::read(&options.db).unwrap() == self.states[n as usize].concat(),
                        "{n} differs"
                    );
                    fs::remove_file(&options.db).unwrap();
                }
                Ok(other) => panic!("{n}: {other:?}"),
                Err(e) => {
                    assert_eq!(e.kind, Kind::Unrestorable, "{e}");
                    assert!(!points.contains(&n), "{n} is listed, but: {e}");
                }
            }
        }
        (points.len(), self.last() as usize - points.len())
    }
}
