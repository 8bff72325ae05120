//! What we write, the real Litestreams restore, from each place they can talk to. One table; of times, transactions and
//! changing hands the tests named `conformance` know more.

use std::sync::Arc;
use std::time::Duration;

use holdfast_tests::azurite::Azurite;
use holdfast_tests::ceph::Ceph;
use holdfast_tests::oracle;
use holdfast_tests::replica::Replica;
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool::{self, Holdfast, V03, V05};

const SOON: Duration = Duration::from_secs(40);

#[derive(Debug, Clone, Copy)]
enum Place {
    File,
    S3,
    Azure,
}
use Place::{Azure, File, S3};

/// Where, in which layout, and who restores it. Google's service is emulated here, and the real ones talk to no
/// emulation; 0.3.13 knows no LTX files, and 0.5.17 looks for generations in directories and on S3 only.
const RESTORES: &[(Place, &str, Tool)] = &[
    (File, "format: v0.3", V03),
    (File, "format: v0.3", V05),
    (File, "format: ltx", V05),
    (S3, "format: v0.3", V03),
    (S3, "format: v0.3", V05),
    (S3, "format: ltx", V05),
    (Azure, "format: v0.3", V03),
    (Azure, "format: ltx", V05),
];

#[test]
fn t94_every_litestream_restores_what_we_wrote_wherever_it_can_read() {
    let (azurite, ceph) = (Azurite::start(), Arc::new(Ceph::connect()));
    std::thread::scope(|scope| {
        for (n, row) in RESTORES.iter().enumerate() {
            let (azurite, ceph) = (&azurite, &ceph);
            scope.spawn(move || restores(n, row, azurite, ceph));
        }
    });
}

fn restores(n: usize, row: &(Place, &str, Tool), azurite: &Azurite, ceph: &Arc<Ceph>) {
    let &(place, format, reader) = row;
    let mut scene = Scene::on_file();
    let name = scene.dir().file_name().expect("it has a name").to_string_lossy().into_owned();
    let prefix = format!("restores/{name}/{n}");
    match place {
        File => {}
        S3 => scene.replica = Replica::S3 { server: ceph.clone(), prefix },
        Azure => scene.replica = Replica::on_abs(azurite, &prefix),
    }
    scene.configure(&["min-checkpoint-page-count: 50"], &["sync-interval: 50ms", format]);
    let mut agent = scene.agent();
    let mut writer = scene.writer().args(["--rate", "150", "--commits", "400", "--big-txn", "300"]).start();
    assert!(writer.wait(SOON).success(), "{}", writer.log());
    let live = oracle::expect_state(&scene.db(), "the live database");
    let drained = agent.drain(SOON);
    assert!(drained.ok, "{row:?}: {drained:?}\n{}", agent.log());
    assert!(agent.exit(SOON).success());
    for tool in [reader, Holdfast] {
        assert_eq!(scene.restored(tool, &[]), live, "{row:?}: {tool}");
    }
}
