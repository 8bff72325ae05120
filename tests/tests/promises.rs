//! `tests/supervisor.md` names the tests there are: every promise has its row, every row its test or its reason, and
//! every test that carries an id stands in that id's row. Reads the sources of the repository; runs nothing.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use holdfast_tests::programs::root;

/// Every `T` and `E` there is. The gaps are the specification's.
fn promised() -> BTreeSet<String> {
    let t = [1..=27, 30..=38, 40..=64, 70..=95].into_iter().flatten().map(|n| format!("T{n:02}"));
    t.chain((0..=22).map(|n| format!("E{n:02}"))).collect()
}

/// One line of a table: its id and its last cell.
struct Row {
    id: String,
    says: String,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("tests/supervisor.md")).unwrap();
    let lines = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id"));
    lines
        .filter(|line| !line.starts_with("| ---"))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 3, "three cells in {line}");
            Row { id: cells[0].to_owned(), says: cells[2].to_owned() }
        })
        .collect()
}

/// What a row says: the tests that show it, or why there is none.
fn tests_of(row: &Row) -> Option<BTreeSet<String>> {
    if row.says == "open" || row.says.starts_with("left out: ") {
        return None;
    }
    let name = |part: &str| {
        let name = part.strip_prefix('`').and_then(|part| part.strip_suffix('`'));
        name.unwrap_or_else(|| panic!("{}: a test's name, `left out: ` or `open`: {part}", row.id)).to_owned()
    };
    Some(row.says.split(", ").map(name).collect())
}

/// The names of all tests in all sources, also of those that a macro makes into two.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for part in ["agent", "config", "supervisor", "tests"] {
        collect(&root().join(part), &mut names);
    }
    names
}

fn collect(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, names);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let mut attributed = false;
            for line in fs::read_to_string(&path).unwrap().lines().map(str::trim) {
                let marks = ["#[test]", "#[tokio::test", "in_both_roles! {"];
                attributed |= marks.iter().any(|mark| line.starts_with(mark));
                let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
                if let Some((name, _)) = function.and_then(|f| f.split_once('('))
                    && std::mem::take(&mut attributed)
                {
                    names.insert(name.to_owned());
                }
            }
        }
    }
}

/// The ids a name begins with: `t30_e07_an_agent…` shows T30 and E07.
fn ids(name: &str) -> BTreeSet<String> {
    let is_id = |part: &&str| {
        part.len() == 3 && part.starts_with(['t', 'e']) && part[1..].bytes().all(|b| b.is_ascii_digit())
    };
    name.split('_').take_while(is_id).map(str::to_uppercase).collect()
}

#[test]
fn every_promise_has_one_row() {
    let mut seen = BTreeMap::<String, u32>::new();
    for row in rows() {
        *seen.entry(row.id).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "rows with the same id: {twice:?}");
    let listed: BTreeSet<_> = seen.into_keys().filter(|id| !id.starts_with("SUP-")).collect();
    assert_eq!(listed, promised());
}

#[test]
fn every_row_names_a_test_that_exists_and_every_test_with_an_id_has_its_row() {
    let there = tests();
    let mut listed = BTreeMap::new();
    for row in rows().into_iter().filter(|row| !row.id.starts_with("SUP-")) {
        let shown = tests_of(&row).unwrap_or_default();
        for test in &shown {
            assert!(there.contains(test), "{}: there is no test {test}", row.id);
        }
        listed.insert(row.id, shown);
    }
    for test in &there {
        for id in ids(test) {
            let row = listed.get(&id).unwrap_or_else(|| panic!("{test}: there is no row {id}"));
            assert!(row.contains(test), "tests/supervisor.md, {id}: add {test}");
        }
    }
}

#[test]
fn a_name_carries_its_ids_in_front() {
    let of = |name: &str| ids(name).into_iter().collect::<Vec<_>>();
    assert_eq!(of("t30_e07_an_agent_comes_back"), ["E07", "T30"]);
    assert_eq!(of("the_t30_is_not_in_front"), [""; 0]);
    assert_eq!(of("ten_times"), [""; 0]);
}
