//! What to say about a key that has no effect where it stands. Values only.

use crate::keys::{self, LEVELS, Level, Verdict};

/// The answer to a key that is not honoured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    Warn(String),
    Refuse { problem: String, fix: String },
}

/// What to say about `key` at `level`; `None` if it is one of the level's own.
pub(crate) fn on(level: Level, key: &str) -> Option<Advice> {
    if level.keys().contains(&key) {
        return None;
    }
    Some(match keys::verdict(level, key) {
        Some(Verdict::Ignored(sentence)) => Advice::Warn(sentence.into()),
        Some(Verdict::Refused(problem, fix)) => Advice::Refuse { problem: problem.into(), fix: fix.into() },
        None => Advice::Warn(stray(level, key)),
    })
}

/// The name of `known` that `given` most likely means: at most a third of its letters differ.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_ascii_lowercase().replace('_', "-");
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&given, name), name))
        .filter(|(distance, name)| distance * 3 <= name.len().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn stray(level: Level, key: &str) -> String {
    if keys::OTHER_TYPES.contains(&key) && (is_replica(level) || level == Level::Top) {
        return "has no effect on a replica of this type; ignored".into();
    }
    // The nearest key of this very map comes first: `retension` is a slip, not a visitor.
    if let Some(name) = nearest(key, level.keys()) {
        return format!("unknown key, ignored; did you mean `{name}`?");
    }
    let home = LEVELS.into_iter().filter(|l| *l != level).find(|l| l.keys().contains(&key));
    match home {
        Some(home) => format!("has no effect here, ignored; it belongs to {}", home.place()),
        None => "unknown key, ignored".into(),
    }
}

const fn is_replica(level: Level) -> bool {
    matches!(level, Level::Replica | Level::S3Replica | Level::GcsReplica | Level::AbsReplica)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(level: Level, key: &str) -> String {
        match on(level, key) {
            Some(Advice::Warn(sentence)) => sentence,
            other => panic!("{key}: {other:?}"),
        }
    }

    #[test]
    fn a_slip_gets_the_nearest_key() {
        for (level, slip, meant) in [
            (Level::Top, "db", "dbs"),
            (Level::Top, "shutdown_sync_timeout", "shutdown-sync-timeout"),
            (Level::Database, "replcias", "replicas"),
            (Level::Database, "checkpoint-intervall", "checkpoint-interval"),
            (Level::Replica, "retension", "retention"),
            (Level::Replica, "sync_interval", "sync-interval"),
            (Level::S3Replica, "secret-acess-key", "secret-access-key"),
            (Level::S3Replica, "Bucket", "bucket"),
            (Level::S3Replica, "force-path-stlye", "force-path-style"),
        ] {
            assert_eq!(warning(level, slip), format!("unknown key, ignored; did you mean `{meant}`?"));
        }
    }

    #[test]
    fn a_key_in_the_wrong_place_is_sent_home() {
        // The documentation of Station puts it under the replica.
        assert_eq!(
            warning(Level::S3Replica, "monitor-interval"),
            "has no effect here, ignored; it belongs to a database (an item of `dbs`)"
        );
        assert_eq!(
            warning(Level::Database, "sync-interval"),
            "has no effect here, ignored; it belongs to a replica"
        );
        assert_eq!(
            warning(Level::Replica, "bucket"),
            "has no effect here, ignored; it belongs to a replica of type s3"
        );
        assert_eq!(
            warning(Level::S3Replica, "account-key"),
            "has no effect here, ignored; it belongs to a replica of type abs"
        );
        assert_eq!(
            warning(Level::GcsReplica, "webdav-url"),
            "has no effect on a replica of this type; ignored"
        );
        assert_eq!(warning(Level::Top, "colour"), "unknown key, ignored");
    }

    #[test]
    fn a_key_whose_loss_would_move_data_is_refused() {
        assert!(matches!(on(Level::Top, "age"), Some(Advice::Refuse { .. })));
        assert_eq!(on(Level::Top, "dbs"), None);
    }
}
