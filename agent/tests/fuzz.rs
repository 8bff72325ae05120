//! Every fuzz target's check over its seeds: what real Litestreams wrote, what our own writers make, and each of them
//! a little damaged. So the targets cannot go stale; `agent/fuzz` says how to run them.
//!
//! With `CORPUS=dir` the seeds are written to a folder for each target, as the fuzzer wants them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(unreachable_pub, reason = "the fuzz targets are crates of their own")]
#[path = "../fuzz/src/ltx.rs"]
mod ltx;
#[allow(unreachable_pub, reason = "the fuzz targets are crates of their own")]
#[path = "../fuzz/src/lz4.rs"]
mod lz4;
#[allow(unreachable_pub, reason = "the fuzz targets are crates of their own")]
#[path = "../fuzz/src/names.rs"]
mod names;
#[allow(unreachable_pub, reason = "the fuzz targets are crates of their own")]
#[path = "../fuzz/src/wal.rs"]
mod wal;

mod golden;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use holdfast::format;
use holdfast::format::layout::WalIndex;
use holdfast::format::ltx::{Encoder, Header, PageEncoding, Rolling, Txid, WalPos};
use holdfast::format::note::Note;
use holdfast::format::wal::{PageSize, Salt};
use holdfast::plan::chance::Dice;

/// What a target starts from, by name.
type Seeds = BTreeMap<String, Vec<u8>>;

/// Checks every seed, whole and damaged; says how many there were.
fn run(target: &str, seeds: &Seeds, check: fn(&[u8])) -> usize {
    if let Some(corpus) = std::env::var_os("CORPUS") {
        let folder = Path::new(&corpus).join(target);
        fs::create_dir_all(&folder).unwrap();
        seeds.iter().for_each(|(name, seed)| fs::write(folder.join(name), seed).unwrap());
    }
    check(&[]);
    for (n, seed) in seeds.values().enumerate() {
        check(seed);
        let mut dice = Dice::new(n as u64);
        for _ in 0..DAMAGED {
            check(&damaged(seed, &mut dice));
        }
    }
    seeds.len()
}

/// A bit flipped, a piece cut out, or a piece written twice.
fn damaged(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    let len = bytes.len().max(1) as u64;
    let (a, b) = ((dice.roll() % len) as usize, (dice.roll() % len) as usize);
    let (a, b) = (a.min(b), a.max(b).min(seed.len()));
    match dice.roll() % 4 {
        0 => drop(bytes.drain(a..b)),
        1 => drop(bytes.splice(b..b, seed[a..b].iter().copied())),
        _ => bytes.iter_mut().skip(b).take(1).for_each(|byte| *byte ^= 1 << (a % 8)),
    }
    bytes
}

/// Every file of every golden replica, by its key with the case before it.
fn golden_files(version: &str, mut each: impl FnMut(&str, Vec<u8>)) {
    for case in golden::cases(version) {
        let dir = tempfile::tempdir().unwrap();
        let mut folders: Vec<PathBuf> = vec![golden::unpack(version, &case, dir.path())];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
                match entry.is_dir() {
                    true => folders.push(entry),
                    false => each(
                        entry.strip_prefix(dir.path()).unwrap().to_str().unwrap(),
                        fs::read(&entry).unwrap(),
                    ),
                }
            }
        }
    }
}

fn flat(key: &str) -> String {
    key.replace('/', "_")
}

#[test]
fn ltx_files_are_refused_or_mean_the_same_when_they_are_written_anew() {
    let mut seeds = Seeds::new();
    golden_files("v05", |key, stored| {
        if key.ends_with(".ltx") && stored.len() <= LARGEST {
            seeds.insert(flat(key), stored);
        }
    });
    for (name, encoding) in [("block", PageEncoding::Block), ("frame", PageEncoding::Frame)] {
        for (min, pages) in [(1, 3), (1, 200), (7, 3), (7, 0)] {
            for rolling in [false, true] {
                seeds.insert(
                    format!("{name}-{min}-{pages}-{rolling}"),
                    ltx_file(encoding, min, pages, rolling),
                );
            }
        }
    }
    assert!(run("ltx", &seeds, ltx::check) > 90);
}

fn ltx_file(encoding: PageEncoding, min: u64, pages: u32, rolling: bool) -> Vec<u8> {
    let (min, size) = (Txid::new(min).unwrap(), PageSize::new(512).unwrap());
    let header = Header {
        page_size: size,
        commit: pages.max(1) + u32::from(min != Txid::ONE),
        min,
        max: min,
        timestamp: 1_795_246_829_085,
        wal: WalPos { offset: 32, size: 0, salt: Salt([3; 8]) },
        node: 0,
        rolling: rolling.then_some(Rolling::EMPTY),
    };
    let mut out = Vec::new();
    let mut encoder = Encoder::new(header, encoding, &mut out).unwrap();
    (1..=pages).for_each(|n| encoder.push(n, &[n as u8; 512], &mut out).unwrap());
    encoder.finish(rolling.then_some(Rolling::EMPTY), &mut out).unwrap();
    out
}

#[test]
fn lz4_frames_are_refused_or_expand_to_what_the_c_library_makes_of_them() {
    let mut seeds = Seeds::new();
    golden_files("v03", |key, stored| {
        if key.ends_with(".lz4") && stored.len() <= LARGEST {
            seeds.insert(flat(key), stored);
        }
    });
    let mut noted = Vec::new();
    let mut encoder = format::lz4::Encoder::with_note(Note::Base { index: WalIndex::ZERO, offset: 4152 });
    encoder.write(b"a page, a page, a page, a page, a page", &mut noted);
    encoder.finish(&mut noted);
    seeds.insert("note".into(), noted);
    let text = "what another writer leaves ".repeat(6000);
    for (name, linked, sums) in [("linked", true, false), ("block-sums", false, true), ("both", true, true)] {
        let mut writer = ::lz4::EncoderBuilder::new();
        writer.block_size(::lz4::BlockSize::Max64KB).content_size(text.len() as u64);
        writer.block_mode(if linked { ::lz4::BlockMode::Linked } else { ::lz4::BlockMode::Independent });
        writer.block_checksum(match sums {
            true => ::lz4::liblz4::BlockChecksum::BlockChecksumEnabled,
            false => ::lz4::liblz4::BlockChecksum::NoBlockChecksum,
        });
        let mut writer = writer.build(Vec::new()).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        seeds.insert(name.into(), writer.finish().0);
    }
    assert!(run("lz4", &seeds, lz4::check) > 90);
}

#[test]
fn wals_verify_up_to_their_first_fault() {
    let mut seeds = Seeds::new();
    golden_files("v03", |key, stored| {
        let begins = key.ends_with("_00000000.wal.lz4") && stored.len() <= LARGEST;
        if let Some(content) = begins.then(|| format::lz4::decode(&stored, 16 * LARGEST).ok()).flatten() {
            seeds.insert(flat(key), content);
        }
    });
    golden_files("v05", |key, stored| {
        if key.ends_with(".db") {
            seeds.insert(flat(key), stored[..stored.len().min(512)].to_vec());
        }
    });
    assert!(run("wal", &seeds, wal::check) > 30);
}

#[test]
fn names_are_read_as_they_are_written_or_not_at_all() {
    let mut seeds = Seeds::new();
    for version in ["v03", "v05"] {
        golden_files(version, |key, _| {
            // As the replica's own root sees it.
            let below =
                ["generations/", "ltx/", "prefix/"].iter().find_map(|root| Some((root, key.find(root)?)));
            let key = match below {
                Some((&"prefix/", at)) => &key[at + 7..],
                Some((_, at)) => &key[at..],
                None => key,
            };
            seeds.insert(flat(key), key.as_bytes().to_vec());
        });
    }
    for (n, typed) in ["3A", "000000000000003a", "bb96e64e99250580", "7fffffff"].into_iter().enumerate() {
        seeds.insert(format!("typed-{n}"), typed.as_bytes().to_vec());
    }
    assert!(run("names", &seeds, names::check) > 150);
}

/// Bytes of a golden file that is a seed: small ones say as much, and a fuzzer goes through them faster.
const LARGEST: usize = 8 << 10;
/// Times each seed is damaged.
const DAMAGED: usize = 40;
