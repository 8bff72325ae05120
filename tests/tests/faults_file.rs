//! What goes wrong with a volume a replica is on: replication goes on, says what is so, recovers by itself and loses
//! nothing.

use std::time::{Duration, Instant};

use holdfast_tests::agent::Agent;
use holdfast_tests::oracle;
use holdfast_tests::process;
use holdfast_tests::replica::Replica;
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool::Holdfast;
use holdfast_tests::volume::Volume;

const SOON: Duration = Duration::from_secs(40);

type Trouble = (&'static str, fn(&Volume), fn(&Volume), &'static str);

const TROUBLES: &[Trouble] = &[
    ("full", Volume::fill, Volume::make_room, "no space left: No space left on device"),
    ("read-only", Volume::turn_read_only, Volume::turn_writable, "access denied: Read-only file system"),
    ("not mounted", Volume::vanish, Volume::come_back, "the directory has gone; is its volume mounted?"),
];

#[test]
fn a_volume_that_fails_and_comes_back_has_everything() {
    std::thread::scope(|scope| {
        for trouble in TROUBLES {
            for format in ["format: v0.3", "format: ltx"] {
                scope.spawn(move || survives(trouble, format));
            }
        }
    });
}

fn survives(&(name, fault, mend, says): &Trouble, format: &str) {
    let volume = Volume::mount();
    let mut scene = Scene::on_file();
    scene.replica = Replica::File(volume.path().join("replica"));
    scene.configure(&[], &["sync-interval: 50ms", format]);
    let mut writer = scene.writer().args(["--rate", "50"]).start();
    let begun = Instant::now();
    let mut agent = Agent::start_under(&volume.enter(), &scene.config(), &scene.dir().join("agent.log"));
    agent.ready(SOON);
    agent.untroubled(begun, SOON);
    let since = Instant::now();
    fault(&volume);
    agent.troubled(says, since, SOON);
    std::thread::sleep(Duration::from_secs(1));
    assert!(volume.is_bare_behind(), "{name}: nothing was written where the volume should be");
    mend(&volume);
    agent.untroubled(Instant::now(), SOON);
    writer.stop(SOON);
    let live = oracle::expect_state(&scene.db(), "the live database");
    let drained = agent.drain(SOON);
    assert!(drained.ok, "{name}, {format}: {drained:?}\n{}", agent.log());
    assert!(agent.exit(SOON).success());
    let out = scene.dir().join("restored.db");
    let words = volume.enter();
    let mut restore = process::command(&words[0]);
    restore.args(&words[1..]).arg(Holdfast.program()).arg("restore").arg("-config").arg(scene.config());
    process::run(restore.arg("-o").arg(&out).arg(scene.db()), SOON).expect_success(name);
    assert_eq!(oracle::expect_state(&out, name), live, "{name}, {format}");
}
