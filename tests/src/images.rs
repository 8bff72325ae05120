//! The images of the container tests, built once for all tests of one run. Builds, and writes below `.t`; every test's
//! engine reads them there.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::container::Engine;
use crate::process::{self, command};
use crate::programs;

/// The image of Holdfast alone.
pub const HOLDFAST: &str = "localhost/holdfast";
/// An app's own image: the `writer`, and nothing else.
pub const WRITER: &str = "localhost/writer";
/// That with Holdfast under it.
pub const APP: &str = "localhost/writer-holdfast";

/// A new engine that has the images: Holdfast alone, the writer alone, and Holdfast under the writer by way of
/// `docker/app.Dockerfile`. None, with the reason printed, where there is no engine.
pub fn images() -> Option<Engine> {
    let built = programs::state().join("images");
    let engine = match Engine::find(&built) {
        Ok(engine) => engine,
        Err(why) => {
            eprintln!("SKIPPED, nothing was tested: no container engine: {why}");
            return None;
        }
    };
    let (staged, writer) = stage();
    once("images", || build(&built, &staged, &writer));
    Some(engine)
}

fn build(images: &Path, staged: &Path, writer: &Path) {
    if images.exists() {
        fs::remove_dir_all(images).expect("the images of an earlier run can be removed");
    }
    let engine = Engine::builder(images).expect("there is an engine");
    let docker = programs::root().join("docker");
    engine.build(HOLDFAST, &docker.join("Dockerfile"), staged, &["--target=prebuilt"]);
    let app = engine.dir().join("app");
    fs::create_dir(&app).expect("a new directory");
    fs::copy(writer, app.join("writer")).expect("the writer is built");
    let file = app.join("Dockerfile");
    let text = "FROM scratch\nCOPY writer /usr/local/bin/\nENV PATH=/usr/local/bin\n";
    fs::write(&file, text).expect("a file in a new directory");
    engine.build(WRITER, &file, &app, &[]);
    let args = [format!("--build-arg=HOLDFAST_IMAGE={HOLDFAST}"), format!("--build-arg=APP_IMAGE={WRITER}")];
    engine.build(APP, &docker.join("app.Dockerfile"), &docker, &args.each_ref().map(String::as_str));
}

/// What goes into the image, freshly built: `docker/stage`'s directory, and the statically linked `writer`. Not of the
/// profile `dist`, whose build would take most of the tests' time.
pub fn stage() -> (PathBuf, PathBuf) {
    let out = programs::state().join("image");
    let target = programs::ours("writer").ancestors().nth(2).expect("target/PROFILE/writer").to_path_buf();
    once("image", || {
        let mut command = command(programs::root().join("docker/stage"));
        command.arg(&out).args(["--package", "holdfast-tests", "--bin", "writer"]);
        command.env("CARGO_TARGET_DIR", &target).env("CARGO_NET_OFFLINE", "true").env("PROFILE", "release");
        for name in ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        process::run(&mut command, BUILD).expect_success("docker/stage");
    });
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    (out, target.join(host).join("release/writer"))
}

/// Does `work` once in a run of tests, whose tests are processes of their own; where nobody says which run this is, each
/// time. Whoever comes meanwhile waits.
fn once(name: &str, work: impl FnOnce()) {
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_default();
    let path = programs::state().join(format!("{name}.of-run"));
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(path).expect("a file in .t");
    file.lock().expect("a lock on a file in .t");
    let mut done = String::new();
    file.read_to_string(&mut done).expect("a run's name");
    if !run.is_empty() && done == run {
        return;
    }
    // Not done, whatever stops it now.
    file.set_len(0).expect("a file in .t");
    work();
    file.rewind().expect("a file in .t");
    file.write_all(run.as_bytes()).expect("a file in .t");
}

/// `tests/run` has built it before; without that, all of it.
const BUILD: Duration = Duration::from_secs(400);
