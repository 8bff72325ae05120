//! A held read transaction against everybody else's checkpoints.

use holdfast::plan::database::Pin;
use holdfast::source::live::Live;

use crate::common::app::App;
use crate::common::scene::Scene;

const MODES: [&str; 4] = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];

/// A database whose app never checkpoints by itself, with some frames in its WAL.
fn with_frames(scene: &Scene) -> App {
    let mut app = App::wal(&scene.db);
    app.run("PRAGMA wal_autocheckpoint=0; CREATE TABLE t(v)");
    fill(&mut app);
    app
}

fn fill(app: &mut App) {
    app.run("WITH n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<50) INSERT INTO t SELECT randomblob(3000) FROM n");
}

/// `busy|frames|backfilled`, or the error.
fn checkpoint(app: &mut App, mode: &str) -> Result<String, String> {
    app.try_run(&format!("PRAGMA wal_checkpoint({mode})"))
}

#[test]
fn without_a_pin_a_foreign_restart_checkpoint_lets_the_next_writer_restart_the_wal() {
    let scene = Scene::new();
    let mut app = with_frames(&scene);
    let salt = Live::attach(&scene.db, None).unwrap().look().unwrap().marks.salt;
    assert!(checkpoint(&mut app, "RESTART").unwrap().starts_with("0|"));
    fill(&mut app);
    assert_ne!(Live::attach(&scene.db, None).unwrap().look().unwrap().marks.salt, salt);
}

#[test]
fn a_held_read_transaction_stops_every_foreign_checkpoint_from_restarting_the_wal() {
    for mode in MODES {
        let scene = Scene::new();
        let mut app = with_frames(&scene);
        let live = Live::attach(&scene.db, None).unwrap();
        let before = live.look().unwrap();
        assert_eq!(before.pin, Pin::Mark(before.marks.frames));
        fill(&mut app);
        let outcome = checkpoint(&mut app, mode);
        let after = live.look().unwrap();
        assert!(
            after.marks.backfilled <= before.marks.frames,
            "{mode}: nothing newer than the pin reaches the database file: {outcome:?} {after:?}"
        );
        let mut other = App::start(&scene.db);
        let _ = checkpoint(&mut other, mode);
        fill(&mut app);
        let last = live.look().unwrap();
        assert_eq!(last.marks.salt, before.marks.salt, "{mode}: {outcome:?}");
        assert!(last.marks.frames > after.marks.frames, "{mode}: the WAL goes on behind what it held");
    }
}

#[test]
fn a_pin_begun_on_a_wholly_backfilled_wal_stops_every_backfill_and_every_restart() {
    for mode in MODES {
        let scene = Scene::new();
        let mut app = with_frames(&scene);
        assert!(checkpoint(&mut app, "PASSIVE").unwrap().starts_with("0|"));
        let live = Live::attach(&scene.db, None).unwrap();
        let before = live.look().unwrap();
        assert!(before.marks.full() && before.marks.frames > 0, "{mode}: {before:?}");
        assert_eq!(before.pin, Pin::Zero);
        // The first commit restarts the WAL: whoever attached knows the frames in it are in the file already.
        fill(&mut app);
        let begun = live.look().unwrap();
        assert_ne!(begun.marks.salt, before.marks.salt, "{mode}");
        let outcome = checkpoint(&mut app, mode);
        fill(&mut app);
        let after = live.look().unwrap();
        assert_eq!(after.marks.salt, begun.marks.salt, "{mode}: {outcome:?}");
        assert_eq!(after.marks.backfilled, 0, "{mode}: {outcome:?}");
        assert_eq!(after.pin, Pin::Zero, "{mode}");
        assert!(after.marks.frames > begun.marks.frames, "{mode}");
    }
}
