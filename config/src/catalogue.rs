//! Every key and what becomes of it, for the README's table, which a test holds against this one. Tables only.

use crate::keys::{LEVELS, Level, OTHER_TYPES, TOP_OF_05, Table, Verdict, own_keys, tables};

/// A key of either Litestream or of our own, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The map it belongs to: `a database (an item of `dbs`)`.
    pub place: &'static str,
    pub name: &'static str,
    pub fate: Fate,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It does what Litestream's documentation says.
    Honoured,
    /// It is honoured, and not in every way as Litestream does it: how.
    Different(&'static str),
    /// A warning says that it has no effect, and why.
    Ignored(&'static str),
    /// An error says why.
    Refused(&'static str),
}

/// Every key the reader knows, each where it belongs. The README's table is checked against this.
pub fn all_keys() -> Vec<Key> {
    let mut all = Vec::new();
    for level in LEVELS {
        let place = level.place();
        all.extend(own_keys(level).into_iter().map(|name| {
            let different = DIFFERENT.iter().find(|(l, key, _)| (*l, *key) == (level, name));
            let fate = different.map_or(Fate::Honoured, |(_, _, fate)| *fate);
            Key { place, name, fate }
        }));
        let tables: &[Table] = match level {
            Level::Top => &[TOP_OF_05],
            // Those of each type are among these.
            Level::S3Replica | Level::GcsReplica | Level::AbsReplica | Level::SftpReplica => &[],
            other => tables(other),
        };
        all.extend(tables.iter().copied().flatten().flat_map(|(names, verdict)| {
            let fate = match verdict {
                Verdict::Ignored(why) => Fate::Ignored(why),
                Verdict::Refused(why, _) => Fate::Refused(why),
            };
            names.iter().map(move |name| Key { place, name, fate })
        }));
    }
    let fate = Fate::Refused("replicas of this type are not available");
    all.extend(OTHER_TYPES.iter().map(|name| Key { place: "a replica of another type", name, fate }));
    all
}

/// Keys we honour in a way of our own.
const DIFFERENT: &[(Level, &str, Fate)] = &[
    (
        Level::Top,
        "exec",
        Fate::Different(
            "the supervisor runs it where it has no command of its own; `replicate` alone refuses it",
        ),
    ),
    (Level::Top, "verify-compaction", Fate::Different("every compaction is verified, also with false")),
    (Level::Logging, "type", Fate::Different("`pretty` is `text`")),
    (
        Level::Database,
        "monitor-interval",
        Fate::Different("the WAL is looked at when it changes, too; 0 is refused"),
    ),
    (Level::Database, "max-checkpoint-page-count", Fate::Different("no checkpoint takes a lock for it")),
    (Level::Database, "snapshot", Fate::Different("is for this database alone, and wins over the top's")),
    (Level::Replica, "retention", Fate::Different("a base stays while any state of the window needs it")),
    (Level::Replica, "validation-interval", Fate::Different("has no effect with `format: ltx`")),
    (Level::Replica, "age", Fate::Refused("encryption is not available yet; an empty map is fine")),
    (Level::Age, "identities", Fate::Refused("encryption is not available yet")),
    (Level::Age, "recipients", Fate::Refused("encryption is not available yet")),
];
