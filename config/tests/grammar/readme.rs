//! The README's table of keys is the reader's.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_config::{Fate, all_keys};

/// The README's columns, in order.
const FATES: [&str; 4] = ["honoured", "with a difference", "ignored, with a warning", "refused"];

type Table = BTreeMap<(String, &'static str), BTreeSet<String>>;

#[test]
fn the_readme_says_of_every_key_what_becomes_of_it() {
    let mut known = Table::new();
    for key in all_keys() {
        // The README says once that every secret has such a sibling.
        if key.name.strip_suffix("-file").is_some_and(|base| all_keys().iter().any(|k| k.name == base)) {
            continue;
        }
        let fate = match key.fate {
            Fate::Honoured => FATES[0],
            Fate::Different(_) => FATES[1],
            Fate::Ignored(_) => FATES[2],
            Fate::Refused(_) => FATES[3],
        };
        known.entry((key.place.replace('`', ""), fate)).or_default().insert(key.name.into());
    }
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let written = written(&readme);
    for (cell, keys) in &known {
        assert_eq!(
            written.get(cell),
            Some(keys),
            "{cell:?}: the README's cell, and the keys the reader knows"
        );
    }
    for (cell, keys) in written {
        assert!(
            keys.is_empty() || known.contains_key(&cell),
            "the reader knows nothing of {cell:?}: {keys:?}"
        );
    }
}

/// The cells of the table whose head is `| where | honoured | …`.
fn written(readme: &str) -> Table {
    let head = format!("| where | {} |", FATES.join(" | "));
    let rows =
        readme.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|'));
    let mut table = Table::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{row}");
        for (fate, cell) in FATES.into_iter().zip(&cells[1..]) {
            let keys = cell.split('`').skip(1).step_by(2).map(String::from).collect();
            table.insert((cells[0].replace('`', ""), fate), keys);
        }
    }
    assert!(!table.is_empty(), "no table headed {head}");
    table
}
