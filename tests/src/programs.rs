//! Where the programs under test lie. Looks at the file system; starts nothing.

use std::path::{Path, PathBuf};

/// One of our binaries, built beside the running test, demo or bench: `target/PROFILE/NAME`.
pub fn ours(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a program knows its own path");
    let mut dir = here.parent().expect("a binary lies in a directory");
    if dir.ends_with("deps") {
        dir = dir.parent().expect("deps lies in the profile's directory");
    }
    let path = dir.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `cargo build --workspace --bins` with the same profile",
        path.display()
    );
    path
}

/// A real Litestream, unpacked by `tests/run`.
pub fn litestream(version: &str) -> PathBuf {
    let path = state().join(format!("litestream-{version}/litestream"));
    assert!(
        path.exists(),
        "Litestream {version} is not set up: `tests/run` once sets up what the tests need"
    );
    path
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_path_buf()
}

/// `.t/`: what `tests/run` sets up, ignored by git.
pub fn state() -> PathBuf {
    root().join(".t")
}
