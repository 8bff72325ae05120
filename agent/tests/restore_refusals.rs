//! A damaged replica never restores to a wrong file: the damaged object is named, the exit code says which kind of
//! trouble it is, and nothing is left behind. Touches a temporary directory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holdfast::error::{Error, Kind};
use holdfast::format::layout::{Name, WalIndex};
use holdfast::format::lz4;
use holdfast::format::note::Note;
use holdfast::format::wal::{Chain, HEADER_LEN, Header};
use holdfast::plan::restore::{Target, Until};
use holdfast::run::restore::{Options, Outcome, Ownership, Show, Source, restore};
use holdfast::store::{OpenOptions, Store};

/// A fresh copy of the golden replica `basic`: one snapshot, four indexes, several segments each.
struct Replica {
    dir: tempfile::TempDir,
    root: PathBuf,
    target: PathBuf,
}

impl Replica {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/v03/basic.tar.gz");
        let done = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(dir.path()).status().unwrap();
        assert!(done.success());
        let (root, target) = (dir.path().join("basic/replica"), dir.path().join("target"));
        fs::create_dir(&target).unwrap();
        Self { dir, root, target }
    }

    /// Keys in the order of the chain: the snapshot, then the segments.
    fn keys(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["snapshots", "wal"] {
            let generation =
                fs::read_dir(self.root.join("generations")).unwrap().next().unwrap().unwrap().path();
            for file in fs::read_dir(generation.join(folder)).unwrap() {
                let path = file.unwrap().path();
                let key = path.strip_prefix(&self.root).unwrap().to_str().unwrap().to_owned();
                names.push(Name::parse(&key).unwrap());
            }
        }
        names.sort();
        names.iter().map(Name::key).collect()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    fn damage(&self, key: &str, how: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(key)).unwrap();
        how(&mut bytes);
        fs::write(self.path(key), bytes).unwrap();
    }

    fn db(&self) -> PathBuf {
        self.target.join("app.db")
    }

    async fn restore(&self) -> Result<Outcome, Error> {
        self.restore_until(Until::Latest).await
    }

    async fn restore_until(&self, until: Until) -> Result<Outcome, Error> {
        let store = Store::in_directory(&self.root, &OpenOptions::default());
        let options = Options {
            db: self.db(),
            target: Target { until, ..Target::LATEST },
            parallelism: 3,
            if_db_not_exists: false,
            force: false,
            seen: None,
            dry_run: false,
            ownership: Ownership::default(),
            show: Show::Nothing,
        };
        restore(&[Source { name: "file".into(), store }], &options).await
    }

    /// The restore fails as unrestorable, names `key`, and leaves nothing behind.
    async fn refuses(&self, key: &str, what: &str) {
        let Err(e) = self.restore().await else { panic!("{what} of {key}: restored") };
        assert_eq!(e.kind, Kind::Unrestorable, "{what} of {key}: {e}");
        assert!(e.to_string().contains(key), "{what} of {key} is reported as: {e}");
        assert_eq!(
            fs::read_dir(&self.target).unwrap().count(),
            0,
            "{what} of {key}: something is left behind"
        );
    }
}

fn index_of(key: &str) -> u32 {
    Name::parse(key).unwrap().index().get()
}

#[tokio::test]
async fn a_truncated_object_is_named() {
    let whole = Replica::new();
    for key in whole.keys() {
        let len = fs::metadata(whole.path(&key)).unwrap().len() as usize;
        for end in [0, 1, 7, len / 2, len - 5, len - 1] {
            let replica = Replica::new();
            replica.damage(&key, |bytes| bytes.truncate(end));
            replica.refuses(&key, &format!("truncation to {end} bytes")).await;
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_is_found_wherever_it_is() {
    let whole = Replica::new();
    for key in whole.keys() {
        let len = fs::metadata(whole.path(&key)).unwrap().len() as usize;
        for at in [0, 4, 6, 8, 12, len / 3, len / 2, len - 9, len - 3] {
            let replica = Replica::new();
            replica.damage(&key, |bytes| bytes[at] ^= 0x10);
            replica.refuses(&key, &format!("a flipped bit in byte {at}")).await;
        }
    }
}

#[tokio::test]
async fn bytes_after_the_end_of_an_object_are_noticed() {
    let whole = Replica::new();
    for key in whole.keys() {
        let replica = Replica::new();
        replica.damage(&key, |bytes| {
            let second = bytes.clone();
            bytes.extend(second);
        });
        replica.refuses(&key, "a second frame").await;
    }
}

/// Writes the replica's notes, as Holdfast does when it replicates: where each index ended, and what the base needs.
fn annotate(replica: &Replica) {
    let keys = replica.keys();
    let mut before: Option<Chain> = None;
    for index in 0..=index_of(keys.last().unwrap()) {
        let segments: Vec<_> = keys[1..].iter().filter(|k| index_of(k) == index).collect();
        let content = |key: &str| lz4::decode(&fs::read(replica.path(key)).unwrap(), 1 << 24).unwrap();
        let wal: Vec<u8> = segments.iter().flat_map(|k| content(k)).collect();
        let mut chain = Chain::start(&Header::parse(&wal).unwrap());
        for frame in wal[HEADER_LEN..].chunks(chain.frame_len()) {
            chain.verify(frame).unwrap();
        }
        if let Some(before) = before.replace(chain) {
            let note = Note::Follows { end: before.offset, checksum: before.checksum };
            rewrite(replica, segments[0], note);
        }
    }
    let (last, end) = (index_of(keys.last().unwrap()), before.unwrap().offset);
    rewrite(replica, &keys[0], Note::Base { index: WalIndex::new(last).unwrap(), offset: end });
}

fn rewrite(replica: &Replica, key: &str, note: Note) {
    replica.damage(key, |stored| {
        let plain = lz4::decode(stored, 1 << 24).unwrap();
        let mut encoder = lz4::Encoder::with_note(note);
        stored.clear();
        encoder.write(&plain, stored);
        encoder.finish(stored);
    });
}

#[tokio::test]
async fn with_notes_even_the_last_segment_of_an_index_is_missed() {
    let keys = Replica::new().keys();
    for (i, key) in keys.iter().enumerate().skip(1) {
        let replica = Replica::new();
        annotate(&replica);
        fs::remove_file(replica.path(key)).unwrap();
        // The first of an index by its own name, the others by what comes next, the last of all by the base.
        let named = match keys.get(i + 1) {
            _ if key.contains("_00000000.") => key,
            Some(next) => next,
            None => &keys[0],
        };
        replica.refuses(named, &format!("the loss of {key}")).await;
    }
    let whole = Replica::new();
    annotate(&whole);
    assert!(matches!(whole.restore().await, Ok(Outcome::Restored(_))));
}

/// S3 dates a multipart upload by its beginning, so a base can be listed as older than WAL it needs.
#[tokio::test]
async fn a_base_dated_before_the_wal_it_needs_gives_way_to_an_older_one() {
    let replica = Replica::new();
    let keys = replica.keys();
    // A base of the last index, made of what the replica restores to, that needs all of its WAL.
    assert!(matches!(replica.restore().await, Ok(Outcome::Restored(_))));
    let content = fs::read(replica.db()).unwrap();
    fs::remove_file(replica.db()).unwrap();
    let last = Name::parse(keys.last().unwrap()).unwrap();
    let base = Name::Snapshot { generation: last.generation(), index: last.index() }.key();
    fs::write(replica.path(&base), lz4::encode(&content)).unwrap();
    rewrite(&replica, &base, Note::Base { index: last.index(), offset: 1 << 20 });
    let dated = |key: &str, seconds: u64| {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::open(replica.path(key)).unwrap().set_modified(time).unwrap();
    };
    for (n, key) in keys.iter().enumerate() {
        dated(key, 1000 + n as u64);
    }
    dated(&base, 1001);
    replica.refuses(&base, "a base that needs more than there is").await;

    let time = jiff::Timestamp::from_second(1000 + keys.len() as i64 - 2).unwrap();
    let Ok(Outcome::Restored(restored)) = replica.restore_until(Until::Time(time)).await else { panic!() };
    assert_eq!(restored.plan.objects()[0].0, keys[0]);
    assert_eq!(restored.plan.objects().len(), keys.len() - 1);
}

/// What Litestream's objects cannot show: that the last segment of an index is missing. Of the last index the result is an
/// earlier state; of an earlier one nothing in the objects left says that it was there (spec §1.6).
#[tokio::test]
async fn a_missing_object_is_named_or_its_successor_is() {
    let keys = Replica::new().keys();
    for (i, key) in keys.iter().enumerate() {
        let next = keys.get(i + 1);
        let ends_index = next.is_none_or(|next| index_of(next) != index_of(key));
        let replica = Replica::new();
        fs::remove_file(replica.path(key)).unwrap();
        match next {
            _ if i == 0 => {
                let e = replica.restore().await.unwrap_err();
                assert!(e.code() == 76 && e.to_string().contains("no generation has a snapshot"), "{e}");
            }
            // The first of an index is missed by its own name, another by where the next one starts.
            Some(_) if key.contains("_00000000.") => replica.refuses(key, "the loss").await,
            Some(next) if !ends_index => replica.refuses(next, "the loss before it").await,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_segment_that_overlaps_or_is_in_the_wrong_place_is_named() {
    let keys = Replica::new().keys();
    let pairs = keys[1..].windows(2).filter(|p| index_of(&p[0]) == index_of(&p[1]));
    for pair in pairs {
        let [key, next] = pair else { panic!() };
        // A copy of it one byte later, as if two writers had cut the WAL differently.
        let Some(Name::Segment { generation, index, offset }) = Name::parse(key) else { panic!() };
        let extra = Name::Segment { generation, index, offset: offset + 1 }.key();
        let replica = Replica::new();
        fs::copy(replica.path(key), replica.path(&extra)).unwrap();
        replica.refuses(&extra, "an overlapping copy").await;

        let replica = Replica::new();
        let (a, b) = (fs::read(replica.path(key)).unwrap(), fs::read(replica.path(next)).unwrap());
        fs::write(replica.path(key), b).unwrap();
        fs::write(replica.path(next), a).unwrap();
        replica.refuses(key, "an exchange").await;
    }
}

#[tokio::test]
async fn a_segment_of_another_history_is_noticed() {
    let keys = Replica::new().keys();
    let first_of = |index| keys.iter().find(|k| index_of(k) == index && k.contains("_00000000.")).unwrap();
    let second_of = |index| {
        keys.iter()
            .find(|k| index_of(k) == index && k.contains("/wal/") && !k.contains("_00000000."))
            .unwrap()
    };
    let replica = Replica::new();
    // The second segment of one index under the first of another: right length perhaps, wrong salt for sure.
    fs::copy(replica.path(first_of(1)), replica.path(first_of(0))).unwrap();
    replica.refuses(second_of(0), "a WAL of another index").await;
}

#[tokio::test]
async fn a_snapshot_that_is_no_database_is_named() {
    let replica = Replica::new();
    let snapshot = replica.keys().remove(0);
    fs::write(replica.path(&snapshot), lz4::encode(&[7; 8192])).unwrap();
    replica.refuses(&snapshot, "foreign content").await;
    fs::write(replica.path(&snapshot), lz4::encode(b"SQLite format 3\0")).unwrap();
    replica.refuses(&snapshot, "a short database").await;
}

#[tokio::test]
async fn an_empty_replica_is_empty_only_after_two_listings() {
    let replica = Replica::new();
    fs::remove_dir_all(&replica.root).unwrap();
    let start = std::time::Instant::now();
    assert!(matches!(replica.restore().await.unwrap(), Outcome::Empty));
    assert!(start.elapsed().as_secs_f64() >= 1.0, "the second listing comes later");
    fs::create_dir(&replica.root).unwrap();
    fs::write(replica.root.join("something.else"), b"x").unwrap();
    let e = replica.restore().await.unwrap_err();
    assert!(e.code() == 76 && e.to_string().contains("something.else"), "{e}");
}

#[tokio::test]
async fn a_replica_that_may_not_be_read_is_not_empty() {
    if nix::unistd::geteuid().is_root() {
        // Root reads everything: a file in place of the directory is the nearest unreadable thing.
        let replica = Replica::new();
        fs::remove_dir_all(&replica.root).unwrap();
        fs::write(&replica.root, b"not a directory").unwrap();
        assert_eq!(replica.restore().await.unwrap_err().code(), 78);
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let replica = Replica::new();
    fs::set_permissions(replica.root.join("generations"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(replica.restore().await.unwrap_err().code(), 77);
    fs::set_permissions(replica.root.join("generations"), fs::Permissions::from_mode(0o700)).unwrap();
    drop(replica.dir);
}
