//! The replicas of `tests/golden` that real Litestreams wrote: unpacked into a directory of the test's own.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// `v03` or `v05`.
pub(crate) fn folder(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(version)
}

/// The cases of a version, by name.
pub(crate) fn cases(version: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder(version)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut cases: Vec<_> = names.filter_map(|n| n.strip_suffix(".tar.gz").map(str::to_owned)).collect();
    cases.sort();
    cases
}

/// A case's directory, with the dates its files had.
pub(crate) fn unpack(version: &str, case: &str, into: &Path) -> PathBuf {
    let archive = folder(version).join(format!("{case}.tar.gz"));
    let done = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(into).status().unwrap();
    assert!(done.success(), "tar -xzf {}", archive.display());
    into.join(case)
}

pub(crate) fn json(file: &Path) -> Value {
    let text = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

pub(crate) fn sha256(file: &Path) -> String {
    let out = Command::new("sha256sum").arg(file).output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap()[..64].to_owned()
}
