//! A replica of LTX files in the simulator, and a model of restoring from it. No I/O.
//!
//! The rules are those of spec/litestream-v05.md §1 and §4.1, written down once more beside `plan::restore`, and
//! compared with it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use holdfast::format::ltx::{Layout, Level, Name, Txid, WalPos};
use holdfast::plan::restore::{self as planner, Chain, Listing, Refusal, Target};
use jiff::Timestamp;

use super::history::Seq;
use super::sqlite::Image;
use super::store::{Put, Store};

/// What a file decodes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// Pages of the database after it.
    pub(crate) commit: u32,
    pub(crate) pages: BTreeMap<u32, u32>,
    pub(crate) stamp: Timestamp,
    pub(crate) wal: WalPos,
    pub(crate) node: u64,
    /// The state it leads to, for the checks alone.
    pub(crate) seq: Seq,
}

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) content: Rc<Content>,
    /// Microseconds.
    pub(crate) landed: u64,
}

/// What to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    Latest,
    /// Everything dated before.
    Time(Timestamp),
    Txid(Txid),
}

impl Until {
    fn takes(self, name: &Name, file: &Stored) -> bool {
        match self {
            Self::Latest => true,
            Self::Time(t) => file.content.stamp < t,
            Self::Txid(txid) => name.max <= txid,
        }
    }
}

type Files = BTreeMap<Name, Stored>;

impl Store {
    pub(crate) fn put_file(&mut self, now: u64, name: Name, content: Rc<Content>) -> Put {
        match self.files.get(&name) {
            Some(old) if old.content == content => Put::AlreadyThere,
            Some(_) => Put::Diverged,
            None => {
                self.files.insert(name, Stored { content, landed: now });
                Put::Created
            }
        }
    }
}

/// The restored pages; `None` when there is nothing to begin with.
pub(crate) fn restore(files: &Files, until: Until) -> Result<Option<Image>, String> {
    let counts: Vec<&Name> = files.iter().filter(|(n, f)| until.takes(n, f)).map(|(n, _)| n).collect();
    let base = counts.iter().rfind(|n| n.level == Level::SNAPSHOT);
    let mut chain: Vec<Name> = base.into_iter().map(|n| **n).collect();
    let reached = |chain: &[Name]| chain.last().map_or(0, |n| n.max.get());
    loop {
        let at = reached(&chain);
        let follows = |n: &&&Name| n.level != Level::SNAPSHOT && n.min.get() <= at + 1 && n.max.get() > at;
        match counts.iter().filter(follows).max_by_key(|n| (n.max, Reverse(n.min), n.level)) {
            Some(next) => chain.push(**next),
            None => break,
        }
    }
    let at = reached(&chain);
    if let Until::Txid(asked) = until {
        return if at == asked.get() {
            apply(files, &chain)
        } else {
            Err(format!("{asked} is not to be had"))
        };
    }
    match counts.iter().find(|n| n.min.get() > at + 1) {
        Some(behind) => Err(format!("a gap between {at} and {behind}")),
        None => apply(files, &chain),
    }
}

/// The same with the files that `plan::restore` chooses; `None` where there is no base.
pub(crate) fn restore_planned(files: &Files, until: Until) -> Result<Option<Image>, String> {
    let listing = Listing::new(files.iter().map(|(n, f)| (n.key(Layout::Folders), 200, f.content.stamp)));
    let until = match until {
        Until::Latest => planner::Until::Latest,
        Until::Time(t) => planner::Until::Time(t),
        Until::Txid(txid) => planner::Until::Txid(txid),
    };
    let chosen = match planner::plan(&listing, Target { until, ..Target::LATEST }) {
        Ok(chosen) => chosen,
        Err(Refusal::Empty | Refusal::NoBase { .. } | Refusal::BeforeFirst { .. }) => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let Chain::Ltx(chosen) = chosen.chain else { return Err("a WAL chain".into()) };
    let names: Vec<Name> = chosen.files().iter().map(|f| f.name).collect();
    apply(files, &names)
}

fn apply(files: &Files, chain: &[Name]) -> Result<Option<Image>, String> {
    let Some(first) = chain.first() else { return Ok(None) };
    if first.min != Txid::ONE {
        return Err(format!("{first} continues nothing"));
    }
    let mut image = Image::new();
    for name in chain {
        let Content { commit, pages, .. } = &*files[name].content;
        // What a database grows by has to be in the file, or a reader has nothing to put there (§0 fact 9).
        if let Some(page) = (image.len() as u32 + 1..=*commit).find(|page| !pages.contains_key(page)) {
            return Err(format!("{name} grows by page {page} and does not hold it"));
        }
        image.resize(*commit as usize, 0);
        for (page, version) in pages {
            let Some(place) = image.get_mut(*page as usize - 1) else {
                return Err(format!("{name} holds page {page} of {commit}"));
            };
            *place = *version;
        }
    }
    Ok(Some(image))
}
