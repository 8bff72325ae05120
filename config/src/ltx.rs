//! The keys of Litestream 0.5's layout, from the top of the file, a database and a replica. Values only.
//!
//! What stands closer to the replica wins: its own `snapshot-interval` and `retention` (0.3's words for the same),
//! then the database's `snapshot`, then the top's. Source of keys and defaults: the configuration of Litestream 0.5.17
//! (spec/litestream-v05.md §5).

use std::time::Duration;

use crate::error::ConfigError;
use crate::keys::Level;
use crate::model::{Layout, Ltx, PageEncoding};
use crate::reader::Section;

/// What a replica inherits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inherited {
    ltx: Ltx,
    /// `snapshot.interval` and `snapshot.retention`, where they are given: they are for replicas of both layouts.
    pub(crate) interval: Option<Duration>,
    pub(crate) retention: Option<Duration>,
}

/// What the top of the file says about every replica.
pub(crate) fn of_top(top: &Section<'_>) -> Result<Inherited, ConfigError> {
    let mut inherited = snapshot(top, Inherited::default())?;
    let ltx = &mut inherited.ltx;
    if top.has("levels") {
        let sections = top.sections("levels")?;
        if sections.len() > MOST_LEVELS {
            return Err(top
                .fail("levels", format!("{} levels are more than {MOST_LEVELS}", sections.len()))
                .fix("remove some: each one rewrites what the one below it wrote"));
        }
        ltx.levels.clear();
        for at in sections {
            at.check_keys(Level::Levels)?;
            let interval = at.positive("interval", "a level without one is never written")?;
            ltx.levels.push(interval.ok_or_else(|| at.missing("interval", "write something like 30s"))?);
        }
    }
    ltx.l0_retention = top.duration("l0-retention")?.unwrap_or(ltx.l0_retention);
    ltx.l0_retention_check_interval = top
        .positive("l0-retention-check-interval", "`l0-retention: 0s` keeps every file")?
        .unwrap_or(ltx.l0_retention_check_interval);
    if top.is_scalar("retention") {
        top.warn(
            "retention",
            "is a map with `enabled` at the top level; ignored, set a duration on the replica",
        );
    } else if let Some(at) = top.section("retention")? {
        at.check_keys(Level::Retention)?;
        ltx.retention_enabled = at.switch("enabled")?.unwrap_or(ltx.retention_enabled);
    }
    if top.switch("verify-compaction")? == Some(false) {
        top.warn("verify-compaction", "false has no effect; every compaction is verified");
    }
    Ok(inherited)
}

/// What a database says about its replicas, else the top does.
pub(crate) fn of_database(at: &Section<'_>, top: &Inherited) -> Result<Inherited, ConfigError> {
    snapshot(at, top.clone())
}

/// What a replica says, else its database does; and the layout it asks for.
pub(crate) fn of_replica(
    at: &Section<'_>,
    database: &Inherited,
) -> Result<(Option<Layout>, Ltx), ConfigError> {
    let mut ltx = database.ltx.clone();
    let given = (at.duration("snapshot-interval")?, at.duration("retention")?);
    ltx.snapshot_interval = given.0.or(database.interval).unwrap_or(ltx.snapshot_interval);
    ltx.snapshot_retention = given.1.or(database.retention).unwrap_or(ltx.snapshot_retention);
    if let Some(encoding) = at.text("ltx-page-encoding")? {
        ltx.page_encoding = match encoding.as_str() {
            "block" => PageEncoding::Block,
            "frame" => PageEncoding::Frame,
            other => {
                return Err(unknown(
                    at,
                    "ltx-page-encoding",
                    other,
                    "write block, or frame for readers older than Litestream 0.5.16",
                ));
            }
        };
    }
    let layout = match at.text("format")?.as_deref() {
        None => None,
        Some("ltx") => Some(Layout::Ltx),
        Some("v0.3") => Some(Layout::V03),
        Some(other) => {
            return Err(unknown(at, "format", other, "write ltx for Litestream 0.5's layout, or v0.3"));
        }
    };
    let drill = at.duration("validation-interval")?.is_some_and(|interval| !interval.is_zero());
    if drill && layout == Some(Layout::Ltx) {
        at.warn("validation-interval", "has no effect with `format: ltx`; the drill is for generations");
    }
    Ok((layout, ltx))
}

fn snapshot(at: &Section<'_>, from: Inherited) -> Result<Inherited, ConfigError> {
    let Some(at) = at.section("snapshot")? else { return Ok(from) };
    at.check_keys(Level::Snapshot)?;
    let because = "Litestream refuses it";
    Ok(Inherited {
        interval: at.positive("interval", because)?.or(from.interval),
        retention: at.positive("retention", because)?.or(from.retention),
        ..from
    })
}

fn unknown(at: &Section<'_>, key: &str, given: &str, fix: &str) -> ConfigError {
    at.fail(key, format!("{given:?} is not one")).fix(fix)
}

/// Levels 1 to 8 are compactions; 9 is for snapshots (spec/litestream-v05.md §2.2).
const MOST_LEVELS: usize = 8;
