//! `generations`: the histories a replica holds, and how far behind the database each one ends. With `-rm` one less.

use std::path::Path;

use clap::Args;
use holdfast_config::Env;
use holdfast_config::exit::Exit;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::listing::{Subject, point_to_ltx, second};
use super::{Common, block_on, print, print_json, table, usage};
use crate::error::Error;
use crate::plan::holds::Past;
use crate::run::lineage::descent;
use crate::run::removal::{Removed, remove};

/// List the generations of a database or replica, or delete one
///
/// A generation that a database does not descend from is on hold: no retention deletes it, `/status` and the log of the
/// agent name it, and so does `-json` here. `-rm` deletes one, all of whose name has to be given, or, with `ltx:TXID`, all
/// LTX files up to that transaction. What is written to, and what the latest state is restored from, is refused.
///
/// Exit codes: 0 done; 64 bad command line; 66 there is no such generation; 69 the replica cannot be reached, which may
/// leave half of it: the same command goes on; 75 it is in use; 76 nothing restores without it; 77 access denied; 78
/// configuration error or no such bucket.
#[derive(Args)]
pub(super) struct Command {
    #[command(flatten)]
    pub(super) common: Common,
    /// Only this replica of the database
    #[arg(long, value_name = "NAME")]
    replica: Option<String>,
    /// Delete this one: GENERATION or ltx:TXID
    #[arg(long, value_name = "NAME")]
    rm: Option<String>,
    /// With -rm: only print what would be deleted
    #[arg(long = "dry-run", requires = "rm")]
    dry_run: bool,
    /// The database's path, or a replica's URL
    #[arg(value_name = "DB|URL")]
    what: String,
}

impl Command {
    pub(super) fn run(self, env: &Env) -> Result<Exit, Error> {
        let past = self.rm.as_deref().map(|name| name.parse::<Past>().map_err(usage)).transpose()?;
        let subject = Subject::find(&self.what, self.replica.as_deref(), &self.common, env)?;
        if let Some(past) = past {
            return self.remove(&subject, past);
        }
        let updated = subject.db.as_deref().and_then(updated).unwrap_or_else(Timestamp::now);
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        let exit = subject.list(|source, listing| {
            let replica = source.name.as_str();
            point_to_ltx(replica, listing);
            let descent = subject.db.as_deref().and_then(|db| descent(db, &source.store.to_string()));
            for (generation, objects) in listing.generations() {
                let Some((start, end)) = objects.dates() else { continue };
                let lag = updated.duration_since(end);
                values.push(json!({
                    "replica": replica, "generation": generation.to_string(), "lag_ms": lag.as_millis(),
                    "start": start.to_string(), "end": end.to_string(), "snapshots": objects.snapshots.len(),
                    "segments": objects.segments.len(),
                    "hold": descent.as_ref().map(|descent| !descent.holds(generation, end)),
                }));
                rows.push([
                    replica.into(),
                    generation.to_string(),
                    go_duration(shortened(lag)),
                    second(start),
                    second(end),
                ]);
            }
        })?;
        match self.common.json {
            true => print_json(&values.into()),
            false => print(&table::table(["name", "generation", "lag", "start", "end"], &rows)),
        }
        exit
    }
}

impl Command {
    fn remove(&self, subject: &Subject, past: Past) -> Result<Exit, Error> {
        let db = subject.db.as_deref();
        let removed = block_on(remove(&subject.sources, db, past, self.dry_run))?;
        if self.common.json {
            let values: Vec<_> = removed
                .iter()
                .map(|r| {
                    let (replica, objects) = (&r.replica, r.objects);
                    json!({
                        "replica": replica, "name": past.to_string(), "objects": objects, "bytes": r.bytes,
                        "outcome": if self.dry_run { "planned" } else { "deleted" },
                    })
                })
                .collect();
            print_json(&values.into());
            return Ok(Exit::Ok);
        }
        for Removed { replica, objects, bytes } in removed {
            let verb = if self.dry_run { "would delete" } else { "deleted" };
            print(&format!("{replica}: {verb} {past}: {objects} objects, {bytes} bytes\n"));
        }
        Ok(Exit::Ok)
    }
}

/// When the database or its WAL was last written.
fn updated(db: &Path) -> Option<Timestamp> {
    let mut wal = db.as_os_str().to_owned();
    wal.push("-wal");
    let modified =
        |path: &Path| path.metadata().ok()?.modified().ok().and_then(|t| Timestamp::try_from(t).ok());
    modified(db).into_iter().chain(modified(Path::new(&wal))).max()
}

/// Cut to what is worth reading: whole seconds above ten, tenths above one, and so on down.
pub(super) fn shortened(d: SignedDuration) -> SignedDuration {
    let nanos = d.as_nanos();
    let unit = match nanos.unsigned_abs() {
        n if n > 10_000_000_000 => 1_000_000_000,
        n if n > 1_000_000_000 => 100_000_000,
        n if n > 1_000_000 => 1_000_000,
        n if n > 1_000 => 1_000,
        _ => 1,
    };
    let cut = nanos - nanos % unit;
    i64::try_from(cut).map_or(d, SignedDuration::from_nanos)
}

/// `1.9s`, `2m22s`, `-300ms`, `1h0m5s`: as Go prints a duration.
pub(super) fn go_duration(d: SignedDuration) -> String {
    let sign = if d.is_negative() { "-" } else { "" };
    let nanos = d.as_nanos().unsigned_abs();
    let fraction = |value: u128, unit: u128, name: &str| {
        let mut text = format!("{}.{:0width$}", value / unit, value % unit, width = unit.ilog10() as usize);
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        format!("{text}{name}")
    };
    let text = match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(nanos, 1_000_000, "ms"),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = fraction(rest, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_reads_as_litestream_prints_it() {
        for (nanos, text) in [
            (0, "0s"),
            (1_930_000_000, "1.9s"),
            (142_700_000_000, "2m22s"),
            (3_605_000_000_000, "1h0m5s"),
            (-301_400_000, "-301ms"),
            (-12_900_000_000, "-12s"),
            (100_000_000_000, "1m40s"),
            (1_000_000_000, "1s"),
            (1_500, "1µs"),
        ] {
            let shown = go_duration(shortened(SignedDuration::from_nanos(nanos)));
            assert_eq!(shown, text, "{nanos} ns");
        }
        assert_eq!(go_duration(SignedDuration::from_nanos(1_500)), "1.5µs");
        assert_eq!(go_duration(SignedDuration::from_millis(10_020)), "10.02s");
    }
}
