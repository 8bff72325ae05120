//! What attaching and letting go leave behind: nothing. And the locks that hold only as long as no descriptor is closed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use holdfast::plan::database::{Pin, WalPos};
use holdfast::plan::handover::{Mode, Outcome};
use holdfast::source::files::{SourceError, beside};
use holdfast::source::live::{Live, Round};
use holdfast::source::tail::{Tail, Tails, WalBytes};
use rusqlite::Connection;

use crate::common::app::App;
use crate::common::scene::{Scene, digest, settle};

/// An app with some frames in its WAL, none of them backfilled.
fn app_with_frames(scene: &Scene) -> App {
    let mut app = App::wal(&scene.db);
    app.run("PRAGMA wal_autocheckpoint=0; CREATE TABLE t(v); INSERT INTO t VALUES(zeroblob(30000))");
    app
}

fn bytes(db: &Path) -> (Vec<u8>, Vec<u8>) {
    (fs::read(db).unwrap(), fs::read(beside(db, "-wal")).unwrap())
}

fn round(live: &mut Live, mode: Mode) -> Outcome {
    let salt = live.look().unwrap().marks.salt;
    live.round(&Round { mode, salt, from: None, limit: 0 }, &Tails::default()).unwrap().outcome
}

#[test]
fn attaching_looking_and_moving_the_pin_change_no_byte_of_the_database_or_its_wal() {
    let scene = Scene::new();
    let app = app_with_frames(&scene);
    let before = bytes(&scene.db);
    let mut live = Live::attach(&scene.db, None).unwrap();
    for _ in 0..3 {
        round(&mut live, Mode::Repin);
        live.look().unwrap();
    }
    drop(live);
    assert!(bytes(&scene.db) == before);
    app.kill();
}

#[test]
fn a_checkpoint_brings_the_bytes_into_the_database_that_sqlites_own_would_and_nothing_else() {
    let scene = Scene::new();
    let app = app_with_frames(&scene);
    let before = bytes(&scene.db);
    let copy = scene.path("copy.db");
    fs::write(&copy, &before.0).unwrap();
    fs::write(beside(&copy, "-wal"), &before.1).unwrap();
    settle(&copy);
    for mode in [Mode::Gentle { tries: 2 }, Mode::Sealed] {
        let mut live = Live::attach(&scene.db, None).unwrap();
        let outcome = round(&mut live, mode);
        drop(live);
        assert!(matches!(outcome, Outcome::HandedOver(_)), "{outcome:?}");
        let (db, wal) = bytes(&scene.db);
        assert!(db == fs::read(&copy).unwrap(), "{mode:?}: the database file is what SQLite would have made");
        assert!(wal == before.1, "{mode:?}: the WAL stays as it was");
    }
    app.kill();
    assert_eq!(digest(&scene.db), digest(&copy), "no table, no row of ours");
}

#[test]
fn frames_that_an_earlier_round_captured_are_not_read_again_and_newer_ones_take_their_place() {
    let scene = Scene::new();
    let mut app = app_with_frames(&scene);
    let mut live = Live::attach(&scene.db, None).unwrap();
    let tails = Tails::default();
    let captured = |live: &mut Live| {
        let salt = live.look().unwrap().marks.salt;
        let from = Some(WalPos { incarnation: 0, offset: 0 });
        let round = Round { mode: Mode::Gentle { tries: 1 }, salt, from, limit: 1 << 20 };
        let outcome = live.round(&round, &tails).unwrap().outcome;
        assert!(matches!(outcome, Outcome::HandedOver(_)), "{outcome:?}");
        let Some(Tail { bytes: WalBytes::Held { bytes, .. }, .. }) = tails.get(0) else {
            panic!("a tail is held")
        };
        bytes
    };
    // Its mark keeps the WAL from restarting behind a hand-over.
    let reader = Connection::open(&scene.db).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    let first = captured(&mut live);
    assert_eq!(first.as_ptr(), captured(&mut live).as_ptr(), "the same memory");
    app.run("INSERT INTO t VALUES(1)");
    drop(reader);
    let salt = live.look().unwrap().marks.salt;
    assert_eq!(first[16..24], salt.0, "the WAL did not restart");
    let second = captured(&mut live);
    assert!(second.len() > first.len() && second.starts_with(&first));
    drop(live);
    app.kill();
}

#[test]
fn letting_go_as_the_last_one_neither_checkpoints_nor_deletes_the_wal() {
    let scene = Scene::new();
    app_with_frames(&scene).kill();
    let before = bytes(&scene.db);
    drop(Live::attach(&scene.db, None).unwrap());
    assert!(bytes(&scene.db) == before);
    assert!(beside(&scene.db, "-shm").exists());
    // Anybody else who closes as the last one does both.
    let other = Connection::open(&scene.db).unwrap();
    other.execute_batch("SELECT count(*) FROM t").unwrap();
    drop(other);
    assert!(!beside(&scene.db, "-wal").exists());
}

#[test]
fn an_app_that_closes_its_last_connection_leaves_the_wal_to_the_pin() {
    let scene = Scene::new();
    let app = app_with_frames(&scene);
    let live = Live::attach(&scene.db, None).unwrap();
    let before = live.look().unwrap();
    app.close();
    assert!(beside(&scene.db, "-wal").exists());
    let mut app = App::start(&scene.db);
    app.run("INSERT INTO t VALUES(1)");
    let after = live.look().unwrap();
    assert_eq!(after.marks.salt, before.marks.salt);
    assert!(after.marks.frames > before.marks.frames);
}

/// Locks this process holds on `file`.
fn locks(file: &Path) -> usize {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{} ", fs::metadata(file).unwrap().ino());
    let ours = format!(" {} ", std::process::id());
    fs::read_to_string("/proc/locks")
        .unwrap()
        .lines()
        .filter(|l| l.contains(&inode) && l.contains(&ours))
        .count()
}

#[test]
fn closing_any_descriptor_of_the_database_in_our_process_drops_sqlites_lock_on_it() {
    let scene = Scene::new();
    let app = app_with_frames(&scene);
    let live = Live::attach(&scene.db, None).unwrap();
    assert_eq!(locks(&scene.db), 1);
    drop(live.files());
    assert_eq!(locks(&scene.db), 1, "ours are shared, not opened again");
    drop(File::open(&scene.db).unwrap());
    assert_eq!(locks(&scene.db), 0, "the hazard this room's rule is about");
    app.kill();
}

#[test]
fn an_app_that_finds_no_lock_of_ours_takes_the_wal_along() {
    let scene = Scene::new();
    let app = app_with_frames(&scene);
    let _live = Live::attach(&scene.db, None).unwrap();
    drop(File::open(&scene.db).unwrap());
    // SQLite before 3.51 looks at the database alone; this one asks the -shm, too.
    drop(File::open(beside(&scene.db, "-shm")).unwrap());
    app.close();
    assert!(!beside(&scene.db, "-wal").exists(), "the hazard this room's rule is about");
}

#[test]
fn closing_any_descriptor_of_the_shm_in_our_process_lets_the_wal_restart() {
    let scene = Scene::new();
    let mut app = app_with_frames(&scene);
    let live = Live::attach(&scene.db, None).unwrap();
    let salt = live.look().unwrap().marks.salt;
    drop(File::open(beside(&scene.db, "-shm")).unwrap());
    app.run("PRAGMA wal_checkpoint(RESTART)");
    app.run("INSERT INTO t VALUES(1)");
    assert_ne!(live.look().unwrap().marks.salt, salt, "the hazard this room's rule is about");
}

#[test]
fn attaching_again_with_the_kept_descriptors_keeps_the_locks_when_the_old_ones_go() {
    let scene = Scene::new();
    let app = app_with_frames(&scene);
    let first = Live::attach(&scene.db, None).unwrap();
    let kept = first.files();
    drop(first);
    let live = Live::attach(&scene.db, Some(kept.clone())).unwrap();
    drop(kept);
    app.close();
    assert!(beside(&scene.db, "-wal").exists());
    let mut app = App::start(&scene.db);
    app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    let salt = live.look().unwrap().marks.salt;
    app.run("INSERT INTO t VALUES(1)");
    assert_eq!(live.look().unwrap().marks.salt, salt);
}

#[test]
fn kept_descriptors_of_a_wal_index_that_was_deleted_since_are_not_believed() {
    let scene = Scene::new();
    let app = app_with_frames(&scene);
    let first = Live::attach(&scene.db, None).unwrap();
    let kept = first.files();
    drop(first);
    // The last connection takes -wal and -shm along; the next makes new ones.
    app.close();
    assert!(!beside(&scene.db, "-shm").exists());
    let mut app = app_again(&scene);
    let live = Live::attach(&scene.db, Some(kept)).unwrap();
    let before = live.look().unwrap().marks.frames;
    let wal = fs::metadata(beside(&scene.db, "-wal")).unwrap().len();
    assert_eq!(wal, live.look().unwrap().page_size.offset_of(before.into()), "of the new WAL");
    app.run("INSERT INTO t VALUES(2)");
    assert_eq!(live.look().unwrap().marks.frames, before + 1);
}

fn app_again(scene: &Scene) -> App {
    let mut app = App::start(&scene.db);
    app.run("UPDATE t SET v = 1");
    app
}

#[test]
fn a_database_whose_wal_was_deleted_by_its_last_user_can_be_pinned_before_it_is_written() {
    let scene = Scene::new();
    app_with_frames(&scene).close();
    assert!(!beside(&scene.db, "-wal").exists());
    let live = Live::attach(&scene.db, None).unwrap();
    let view = live.look().unwrap();
    assert_eq!((view.marks.frames, view.pin, view.page_size.get()), (0, Pin::Zero, 4096));
    let mut app = App::start(&scene.db);
    app.run("UPDATE t SET v = 1");
    assert!(live.look().unwrap().marks.frames > 0);
    app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    assert!(live.look().unwrap().marks.frames > 0, "the pin holds");
}

#[test]
fn a_wal_truncated_by_its_user_can_be_pinned() {
    let scene = Scene::new();
    let mut app = app_with_frames(&scene);
    app.run("PRAGMA wal_checkpoint(TRUNCATE)");
    let live = Live::attach(&scene.db, None).unwrap();
    assert_eq!(live.look().unwrap().marks.frames, 0);
    app.run("UPDATE t SET v = 1");
    assert!(live.look().unwrap().marks.frames > 0);
}

#[test]
fn what_is_not_there_yet_is_waited_for_and_what_is_no_database_is_refused() {
    let scene = Scene::new();
    let attach = || Live::attach(&scene.db, None).map(drop).unwrap_err();
    assert!(matches!(attach(), SourceError::Missing(_)));
    fs::write(&scene.db, "").unwrap();
    assert!(matches!(attach(), SourceError::NotWal(_)), "zero bytes");
    let mut app = App::start(&scene.db);
    app.run("CREATE TABLE t(v)");
    assert!(matches!(attach(), SourceError::NotWal(_)), "rollback mode");
    assert!(!beside(&scene.db, "-wal").exists(), "attaching does not change the mode");
    app.run("PRAGMA journal_mode=WAL");
    Live::attach(&scene.db, None).unwrap();
    app.close();
    fs::write(&scene.db, "no database, but a text that is longer than any header of one would be").unwrap();
    assert!(matches!(attach(), SourceError::NotADatabase { .. }));
    fs::remove_file(&scene.db).unwrap();
    fs::create_dir(&scene.db).unwrap();
    assert!(matches!(attach(), SourceError::NotADatabase { .. }));
}

#[test]
fn a_database_behind_a_link_is_pinned_where_sqlite_keeps_its_wal() {
    let scene = Scene::new();
    let mut app = app_with_frames(&scene);
    let link = scene.path("link.db");
    std::os::unix::fs::symlink(&scene.db, &link).unwrap();
    let live = Live::attach(&link, None).unwrap();
    let before = live.look().unwrap().marks;
    app.run("PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES(1)");
    let after = live.look().unwrap().marks;
    assert_eq!(after.salt, before.salt);
    assert!(after.frames > before.frames);
}

#[test]
fn a_transaction_that_outgrew_its_cache_is_in_the_making_until_it_is_committed() {
    let scene = Scene::new();
    let mut app = app_with_frames(&scene);
    let live = Live::attach(&scene.db, None).unwrap();
    let in_the_making = || live.in_the_making(&live.look().unwrap());
    assert!(!in_the_making());
    app.run("PRAGMA cache_size=5; BEGIN");
    for _ in 0..20 {
        app.run("INSERT INTO t VALUES(randomblob(20000))");
    }
    assert!(in_the_making());
    app.run("COMMIT");
    assert!(!in_the_making());
}

/// A writer that was stopped or killed between the two copies of the index's header leaves it like this.
#[test]
fn an_index_that_is_half_written_is_busy_and_is_waited_for_in_a_round() {
    let scene = Scene::new();
    let app = app_with_frames(&scene);
    let mut live = Live::attach(&scene.db, None).unwrap();
    let before = live.look().unwrap();
    // Not dropped before `live`: closing it would take the pin's locks away.
    let shm = File::options().read(true).write(true).open(beside(&scene.db, "-shm")).unwrap();
    let mut change = [0; 4];
    shm.read_exact_at(&mut change, 8).unwrap();
    shm.write_all_at(&change.map(|b| !b), 8).unwrap();
    let e = live.look().unwrap_err();
    assert!(e.is_busy() && matches!(e, SourceError::Unsettled(_)), "{e}");
    let repin = Round { mode: Mode::Repin, salt: before.marks.salt, from: None, limit: 0 };
    let seen = std::thread::scope(|scope| {
        let moved = scope.spawn(|| live.round(&repin, &Tails::default()).unwrap().outcome);
        std::thread::sleep(Duration::from_millis(20));
        shm.write_all_at(&change, 8).unwrap();
        moved.join().unwrap()
    });
    assert!(matches!(seen, Outcome::HandedOver(_) | Outcome::NotYet(_)), "{seen:?}");
    assert_eq!(live.look().unwrap(), before);
    drop(live);
    app.kill();
}
