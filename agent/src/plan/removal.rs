//! Whether a part of a replica may be deleted because somebody asks for it, and in which order. Values in, values out.
//!
//! What the latest state is restored from, and what an agent may be writing to, is refused. Of the rest, what a restore
//! begins with goes before what it goes on with, so that one that died half way restores nothing rather than less.

use jiff::Timestamp;

use super::holds::Past;
use super::restore::{Listing, Target, plan};
use super::retain::in_order;
use crate::format::layout::{Generation, Name};
use crate::format::ltx;

/// An object as the replica lists it: key, stored bytes, date.
pub type Entry = (String, u64, Timestamp);

/// What to delete: all of the first before any of the second.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removal {
    /// Snapshots; of LTX files the higher levels.
    pub bases: Vec<String>,
    /// WAL; of LTX files the uploads.
    pub rest: Vec<String>,
    /// Stored bytes of both.
    pub bytes: u64,
}

/// Why nothing is deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the replica holds no such thing")]
    Unknown,
    #[error("it is the one that is written to")]
    Current,
    #[error("the latest state is restored from it")]
    Latest,
    #[error("without it nothing restores: {0}")]
    Nothing(super::restore::Refusal),
}

/// Decides on `past` of a replica that holds `all`. `own`: the generation that the database here is replicated in.
pub fn decide(all: &[Entry], past: Past, own: Option<Generation>) -> Result<Removal, Refusal> {
    let (gone, left): (Vec<_>, Vec<_>) = all.iter().partition(|(key, ..)| belongs(key, past));
    if gone.is_empty() {
        return Err(Refusal::Unknown);
    }
    if matches!(past, Past::Generation(g) if own == Some(g) || written(all) == Some(g)) {
        return Err(Refusal::Current);
    }
    let listing = |objects: &[&Entry]| Listing::new(objects.iter().map(|(k, size, t)| (k, *size, *t)));
    let before = plan(&listing(&all.iter().collect::<Vec<_>>()), Target::LATEST);
    if before.is_ok_and(|plan| plan.objects().iter().any(|(key, _)| belongs(key, past))) {
        return Err(Refusal::Latest);
    }
    plan(&listing(&left), Target::LATEST).map_err(Refusal::Nothing)?;
    let bytes = gone.iter().map(|(_, size, _)| size).sum();
    let keys = gone.into_iter().map(|(key, ..)| key);
    Ok(match past {
        Past::Generation(_) => {
            let mut names: Vec<_> = keys.filter_map(|key| Name::parse(key)).collect();
            in_order(&mut names);
            let (bases, rest): (Vec<_>, Vec<_>) =
                names.iter().partition(|name| matches!(name, Name::Snapshot { .. }));
            let keys = |names: Vec<&Name>| names.into_iter().map(Name::key).collect();
            Removal { bases: keys(bases), rest: keys(rest), bytes }
        }
        Past::Ltx(_) => {
            let mut names: Vec<_> = keys.filter_map(|key| Some((ltx::Name::parse(key)?.0, key))).collect();
            names.sort_by_key(|(name, _)| (std::cmp::Reverse(name.level), name.max));
            let (rest, bases): (Vec<_>, Vec<_>) =
                names.into_iter().partition(|(name, _)| name.level == ltx::Level::ZERO);
            let keys = |names: Vec<(_, &String)>| names.into_iter().map(|(_, key)| key.clone()).collect();
            Removal { bases: keys(bases), rest: keys(rest), bytes }
        }
    })
}

fn belongs(key: &str, past: Past) -> bool {
    match past {
        Past::Generation(generation) => Name::parse(key).is_some_and(|name| name.generation() == generation),
        Past::Ltx(last) => ltx::Name::parse(key).is_some_and(|(name, _)| name.max <= last),
    }
}

/// The generation an agent that looked now would go on with.
fn written(all: &[Entry]) -> Option<Generation> {
    let named = all.iter().filter_map(|(key, _, created)| Some((*created, Name::parse(key)?.generation())));
    named.max().map(|(_, generation)| generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::ltx::Txid;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn generation(id: u64, from: i64) -> Vec<Entry> {
        let key = |file: &str| format!("generations/{id:016x}/{file}");
        vec![
            (key("wal/00000001_00000000.wal.lz4"), 1, at(from + 3)),
            (key("snapshots/00000000.snapshot.lz4"), 10, at(from)),
            (key("wal/00000000_00000000.wal.lz4"), 1, at(from + 1)),
            (key("wal/00000000_00001038.wal.lz4"), 1, at(from + 2)),
            (key("snapshots/00000001.snapshot.lz4"), 10, at(from + 3)),
        ]
    }

    const fn past(id: u64) -> Past {
        Past::Generation(Generation::new(id))
    }

    #[test]
    fn an_old_generation_goes_snapshots_first_and_then_its_wal_from_the_end_of_each_index() {
        let all = [generation(1, 0), generation(2, 100)].concat();
        let removal = decide(&all, past(1), Some(Generation::new(2))).unwrap();
        let files = |keys: &[String]| -> Vec<String> {
            keys.iter().map(|key| key.rsplit('/').next().unwrap().to_owned()).collect()
        };
        assert_eq!(files(&removal.bases), ["00000000.snapshot.lz4", "00000001.snapshot.lz4"]);
        assert_eq!(
            files(&removal.rest),
            ["00000000_00001038.wal.lz4", "00000000_00000000.wal.lz4", "00000001_00000000.wal.lz4"]
        );
        assert_eq!(removal.bytes, 23);
    }

    /// However far it came, what is left restores the state that is the latest, to the object.
    #[test]
    fn a_removal_that_died_anywhere_leaves_the_latest_state_as_it_was() {
        let all = [generation(1, 0), generation(2, 100)].concat();
        let removal = decide(&all, past(1), None).unwrap();
        let listing = |left: &[Entry]| Listing::new(left.iter().map(|(k, s, t)| (k.clone(), *s, *t)));
        let latest = plan(&listing(&all), Target::LATEST).unwrap().objects();
        let order = [removal.bases, removal.rest].concat();
        for done in 0..=order.len() {
            let left: Vec<_> = all.iter().filter(|(k, ..)| !order[..done].contains(k)).cloned().collect();
            assert_eq!(plan(&listing(&left), Target::LATEST).unwrap().objects(), latest, "{done}");
            let of_it = Target { generation: Some(Generation::new(1)), ..Target::LATEST };
            let restores = plan(&listing(&left), of_it);
            assert_eq!(restores.is_ok(), done < 2, "{done}: {restores:?}");
        }
    }

    #[test]
    fn what_is_written_to_or_restored_from_stays() {
        let all = [generation(1, 0), generation(2, 100)].concat();
        assert_eq!(decide(&all, past(2), None), Err(Refusal::Current), "the newest");
        assert_eq!(decide(&all, past(1), Some(Generation::new(1))), Err(Refusal::Current), "this database's");
        assert_eq!(decide(&all, past(3), None), Err(Refusal::Unknown));
        // A generation that has begun, and has no snapshot yet: the one before is what there is.
        let begun = [generation(1, 0), generation(2, 100)[..1].to_vec()].concat();
        assert_eq!(decide(&begun, past(1), None), Err(Refusal::Latest));
        // The same, and the older one does not restore either.
        let headless: Vec<_> = begun.iter().filter(|(k, ..)| !k.contains("snapshot")).cloned().collect();
        assert!(matches!(decide(&headless, past(1), None), Err(Refusal::Nothing(_))));
    }

    #[test]
    fn of_ltx_files_what_is_held_goes_once_a_full_copy_stands_behind_it() {
        let file = |level: u8, min: u64, max: u64| {
            (format!("ltx/{level}/{min:016x}-{max:016x}.ltx"), 1, at(i64::try_from(max).unwrap()))
        };
        let held = Past::Ltx(Txid::new(3).unwrap());
        let mut all =
            vec![file(0, 1, 1), file(0, 2, 2), file(1, 1, 2), file(9, 1, 2), file(0, 3, 3), file(0, 4, 4)];
        assert_eq!(decide(&all, held, None), Err(Refusal::Latest), "4 may be anything");
        all.push(file(9, 1, 4));
        all.push(file(0, 5, 5));
        let removal = decide(&all, held, None).unwrap();
        assert_eq!(removal.bases, [file(9, 1, 2).0, file(1, 1, 2).0]);
        assert_eq!(removal.rest, [file(0, 1, 1).0, file(0, 2, 2).0, file(0, 3, 3).0]);
        let listing = |left: &[Entry]| Listing::new(left.iter().map(|(k, s, t)| (k.clone(), *s, *t)));
        let latest = plan(&listing(&all), Target::LATEST).unwrap().objects();
        let order = [removal.bases, removal.rest].concat();
        for done in 0..=order.len() {
            let left: Vec<_> = all.iter().filter(|(k, ..)| !order[..done].contains(k)).cloned().collect();
            assert_eq!(plan(&listing(&left), Target::LATEST).unwrap().objects(), latest, "{done}");
        }
        assert_eq!(decide(&all, Past::Ltx(Txid::MAX), None), Err(Refusal::Latest));
    }
}
