//! What a replica holds of either layout, and how replicating to it would begin. Lists it; changes nothing.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use holdfast_config::Layout as Configured;
use jiff::Timestamp;

use super::tries::Tries;
use crate::format::layout;
use crate::format::ltx::{Layout, Level, Name};
use crate::plan::ltx::files::{File, Files};
use crate::plan::opening::{Format, Opening};
use crate::store::{Object, Store, StoreError};

/// What is there.
#[derive(Debug)]
pub struct Survey {
    /// Objects of the v0.3 layout.
    pub objects: Vec<Object>,
    /// LTX files, named as this destination names them. Another destination's names, say of files that were copied, are
    /// a chain of their own: it restores, and nobody continues it.
    pub files: Files,
}

impl Survey {
    /// Lists `store`. It may share its place with other objects, up to a whole bucket of them: those are not looked at.
    pub async fn of(store: &Store) -> Result<Self, StoreError> {
        let folders = folders();
        // One folder of many that fails would otherwise mean to list them all again.
        let tries = Tries::new(ATTEMPTS);
        let listing = folders.iter().map(|folder| tries.ask(|| store.list(folder)));
        let listing = try_join_all(listing).await?.concat();
        let native = store.ltx_layout();
        let file = |o: &Object| {
            let (name, found) = Name::parse(&o.key)?;
            (found == native).then_some(File { name, created: o.created, size: o.size })
        };
        let files = listing.iter().filter_map(file).collect();
        let objects = listing.into_iter().filter(|o| layout::Name::parse(&o.key).is_some()).collect();
        Ok(Self { objects, files })
    }

    /// How it begins with the layout `asked` for, if one is.
    pub fn opening(&self, asked: Option<Format>) -> Opening {
        Opening::decide(asked, self.newest_object(), self.newest_file())
    }

    /// How many generations the objects belong to.
    pub fn generations(&self) -> usize {
        let names = self.objects.iter().filter_map(|o| layout::Name::parse(&o.key));
        names.map(|name| name.generation()).collect::<BTreeSet<_>>().len()
    }

    fn newest_object(&self) -> Option<Timestamp> {
        self.objects.iter().map(|o| o.created).max()
    }

    fn newest_file(&self) -> Option<Timestamp> {
        self.files.iter().map(|f| f.created).max()
    }
}

/// What the keys of a replica start with, whatever its layout.
pub(super) fn folders() -> Vec<String> {
    let levels = Level::all().map(|level| level.prefix(Layout::Hex));
    [layout::ROOT.to_owned(), "ltx/".to_owned()].into_iter().chain(levels).collect()
}

/// Few: whoever looks comes back, and shows meanwhile what is wrong.
pub(super) const ATTEMPTS: u32 = 3;

/// The layout a configuration asks for.
pub fn asked(layout: Option<Configured>) -> Option<Format> {
    layout.map(|layout| match layout {
        Configured::V03 => Format::V03,
        Configured::Ltx => Format::Ltx,
    })
}
