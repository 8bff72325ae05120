//! A model of one replica's store: create-only, dated by its own clock, with weather. No I/O.

use std::collections::BTreeMap;
use std::rc::Rc;

use holdfast::format::layout::Name;
use holdfast::format::ltx;
use holdfast::format::wal::Salt;

use super::chance::Chance;
use super::ltx_store::Stored;
use super::sqlite::{Frame, Image};

/// What an object decodes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Whole with this many bytes of its index's WAL.
    Snapshot {
        pages: Image,
        needs: u64,
    },
    Segment {
        header: Option<Salt>,
        frames: Vec<Frame>,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) content: Rc<Content>,
    /// Microseconds.
    pub(crate) created: u64,
}

/// What a create-only put found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    Created,
    AlreadyThere,
    Diverged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fine,
    /// Every request is refused at once.
    Failing,
    /// Nothing is answered before the time limit, whatever became of the request.
    Hanging,
}

/// How one request goes: when it takes effect, if it does, and what is answered when. Delays in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery {
    pub(crate) lands: Option<u64>,
    /// From the landing, or from the start for what does not land.
    pub(crate) answer: u64,
    /// The answer arrives.
    pub(crate) heard: bool,
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) objects: BTreeMap<Name, Object>,
    pub(crate) files: BTreeMap<ltx::Name, Stored>,
    pub(crate) weather: Weather,
    /// Mean time of a request.
    pub(crate) latency: u64,
    /// How many in a thousand answers are lost, in fine weather.
    pub(crate) losing: u64,
}

impl Store {
    pub(crate) fn put(&mut self, now: u64, name: Name, content: Rc<Content>) -> Put {
        match self.objects.get(&name) {
            Some(old) if old.content == content => Put::AlreadyThere,
            Some(_) => Put::Diverged,
            None => {
                self.objects.insert(name, Object { content, created: now });
                Put::Created
            }
        }
    }

    pub(crate) fn delivery(&self, chance: &mut Chance) -> Delivery {
        let time = self.latency / 2 + chance.around(self.latency / 2);
        match self.weather {
            Weather::Fine if chance.permille(self.losing) => {
                let lands = chance.permille(700).then_some(time);
                Delivery { lands, answer: TIME_LIMIT, heard: false }
            }
            Weather::Fine => Delivery { lands: Some(time), answer: time / 4 + 1, heard: true },
            Weather::Failing => Delivery { lands: None, answer: time, heard: false },
            Weather::Hanging => {
                let lands = chance.permille(400).then(|| chance.range(time, TIME_LIMIT));
                Delivery { lands, answer: TIME_LIMIT, heard: false }
            }
        }
    }
}

/// Every request ends by then.
const TIME_LIMIT: u64 = 5_000_000;
