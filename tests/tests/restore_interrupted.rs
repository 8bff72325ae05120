//! A restore that is killed after each tenth of its download, and begun again: T49. Real processes and a real S3 server,
//! behind a proxy that lets so many bytes through and no more.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_tests::process::{self, Running};
use holdfast_tests::proxy::{Dam, Fault, Proxy};
use holdfast_tests::replica::{self, Replica};
use holdfast_tests::scene::Scene;
use holdfast_tests::tool::Tool::Holdfast;
use holdfast_tests::wal::beside;
use nix::sys::signal::Signal::{self, SIGKILL, SIGTERM};
use rusqlite::Connection;

const SOON: Duration = Duration::from_secs(60);
/// Random bytes in the base, and in each of the uploads after it: none is smaller in the replica.
const BASE: u32 = 12_000_000;
const UPLOADS: u32 = 12;
const UPLOAD: u32 = 100_000;
/// A file in many pieces has some blocks more than one of the same length in a few, for the list of them: 512 KiB in
/// blocks of 512 bytes is more than any list here, and less than any step.
const SCATTERED: u64 = 1024;

#[test]
fn t49_a_restore_killed_at_any_tenth_of_its_download_is_done_again_from_wal_segments() {
    killed_at_every_tenth("v0.3");
}

#[test]
fn t49_a_restore_killed_at_any_tenth_of_its_download_is_done_again_from_ltx_files() {
    killed_at_every_tenth("ltx");
}

/// The signal after a tenth, and whether files have names from the start.
type How = fn(u64) -> (Signal, bool);

fn killed_at_every_tenth(format: &str) {
    let place = Place::replicated(format);
    let download = place.measured();
    assert!(download > u64::from(BASE + UPLOADS * UPLOAD), "{download} bytes");
    let ways: [(&str, How); 3] = [
        ("asked to end", |_| (SIGTERM, false)),
        ("killed", |_| (SIGKILL, false)),
        ("either, with names", |tenth| (if tenth % 2 == 0 { SIGTERM } else { SIGKILL }, true)),
    ];
    for (way, how) in ways {
        let at = |tenth| {
            let (signal, named) = how(tenth);
            place.interrupted(download * tenth / 10, signal, named)
        };
        let written: Vec<_> = (1..10).map(at).collect();
        // It was in the middle, each time further on: so many blocks were written.
        let what = format!("{format}, {way}: {written:?}");
        assert!(written.windows(2).all(|two| two[0] <= two[1] + SCATTERED), "{what}");
        assert!(written[8] > written[4] + SCATTERED && written[4] > written[1] + SCATTERED, "{what}");
    }
}

/// A replica behind a proxy, and a volume without its database.
struct Place {
    scene: Scene,
    proxy: Proxy,
    /// What a restore that nobody disturbed has brought.
    expected: PathBuf,
}

impl Place {
    /// A base and what came after it.
    fn replicated(format: &str) -> Self {
        let scene = Scene::on_s3();
        let format = format!("format: {format}");
        scene.configure(&[], &["sync-interval: 10ms", &format]);
        let app = Connection::open(scene.db()).unwrap();
        app.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE blobs (body BLOB);").unwrap();
        let insert = |bytes| app.execute("INSERT INTO blobs VALUES (randomblob(?1))", [bytes]).unwrap();
        insert(BASE);
        app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);").unwrap();
        let mut agent = scene.agent();
        agent.ready(SOON);
        for _ in 0..UPLOADS {
            insert(UPLOAD);
            // It never begins anew here: it ends where its file does.
            let end = fs::metadata(beside(&scene.db(), "-wal")).unwrap().len();
            agent.acknowledged(end, Instant::now(), SOON);
        }
        let drained = agent.drain(SOON);
        assert!(drained.ok && agent.exit(SOON).success(), "{drained:?}");

        let Replica::S3 { server, .. } = &scene.replica else { panic!("on S3") };
        let proxy = Proxy::to(&server.endpoint);
        let text = replica::config(&scene.dir().join("volume/app.db"), &[], &scene.replica, &[&format]);
        let text = text.replace(&server.endpoint, &proxy.endpoint(&server.endpoint));
        fs::write(scene.config(), text).unwrap();
        fs::create_dir(scene.dir().join("volume")).unwrap();
        let expected = scene.dir().join("expected.db");
        Self { scene, proxy, expected }
    }

    fn volume(&self) -> PathBuf {
        self.scene.dir().join("volume")
    }

    /// Restores without a disturbance, and says how many bytes of objects that took.
    fn measured(&self) -> u64 {
        let dam = self.dammed(u64::MAX);
        self.restored();
        fs::rename(self.volume().join("app.db"), &self.expected).unwrap();
        fs::remove_file(self.volume().join(".app.db.holdfast")).unwrap();
        dam.passed()
    }

    /// Sends `signal` to a restore that has so many bytes, and begins it again. How many blocks it had written.
    ///
    /// `named`: as on a file system that has no files without a name.
    fn interrupted(&self, bytes: u64, signal: Signal, named: bool) -> u64 {
        let what = format!("{signal} after {bytes} bytes, named: {named}");
        let dam = self.dammed(bytes);
        let mut first = Running::start(&mut self.restore("1", named), &self.scene.dir().join("first.log"));
        dam.holds(SOON);
        let written = blocks_when_settled(&first, &self.volume());
        assert_eq!(dam.passed(), bytes, "{what}");
        assert_eq!(names(&self.volume()).len(), usize::from(named), "{what}");
        assert!(first.alive(), "{what}: {}", first.log());
        first.signal(signal);
        assert_eq!(process::code(first.wait(SOON)), 128 + signal as i32, "{what}: {}", first.log());
        let left = names(&self.volume());
        match (named, signal) {
            (true, SIGKILL) => assert!(left[0].starts_with(".app.db.holdfast-restore-"), "{what}: {left:?}"),
            _ => assert!(left.is_empty(), "{what}: {left:?}"),
        }
        dam.open();

        let all = self.dammed(u64::MAX);
        self.restored();
        assert!(all.passed() > 0, "{what}: all of it again");
        assert_eq!(names(&self.volume()), [".app.db.holdfast", "app.db"], "{what}");
        let (found, expected) = (fs::read(self.volume().join("app.db")), fs::read(&self.expected));
        assert!(found.unwrap() == expected.unwrap(), "{what}: other bytes");
        for name in names(&self.volume()) {
            fs::remove_file(self.volume().join(name)).unwrap();
        }
        written
    }

    fn restored(&self) {
        process::run(&mut self.restore("8", false), SOON).expect_success("restore");
    }

    /// From now on so many bytes of objects come through.
    fn dammed(&self, bytes: u64) -> Arc<Dam> {
        let dam = Arc::new(Dam::behind(bytes));
        let fault = Fault::Dammed(dam.clone());
        self.proxy.script(move |request| match request.target.contains("list-type") {
            true => Fault::Pass,
            false => fault.clone(),
        });
        dam
    }

    /// With `requests` at a time: of one, so many bytes are always the same ones.
    fn restore(&self, requests: &str, named: bool) -> Command {
        let mut command = match named {
            false => Holdfast.command("restore"),
            true => {
                // A file gets its first name through /proc: without it, it has one from the start.
                let hidden = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
                let mut command = process::command("unshare");
                command.args(["--user", "--map-root-user", "--mount", "sh", "-c", hidden]);
                command.arg(Holdfast.program()).arg("restore");
                command
            }
        };
        command.args(["-for-start", "-parallelism", requests, "-config"]).arg(self.scene.config());
        command.arg(self.volume().join("app.db"));
        command
    }
}

/// Blocks of the files below `dir` a program has open, once it does nothing any more but wait.
fn blocks_when_settled(program: &Running, dir: &Path) -> u64 {
    let (until, mut before) = (Instant::now() + SOON, u64::MAX);
    while Instant::now() < until {
        let now = blocks(program.pid(), dir);
        if now == before {
            return now;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it goes on writing: {}", program.log());
}

fn blocks(pid: u32, dir: &Path) -> u64 {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|fd| {
        let fd = fd.ok()?.path();
        fs::read_link(&fd).ok()?.starts_with(dir).then(|| fs::metadata(&fd).map(|m| m.blocks()).ok())?
    });
    open.sum()
}

fn names(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}
