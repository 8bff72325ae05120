//! Every metric but the histogram: name, help, type, and where its samples come from. Values in, samples out.
//!
//! What Litestream counts has Litestream's name, type and labels where it means the same here, so that dashboards and
//! alerts go on; the table says which Litestream has it. What it has besides is left out, because there is no such thing
//! here: no shadow WAL (`litestream_shadow_wal_*`, `litestream_sync_*`), no lock of the app's that a checkpoint could wait
//! for (`mode` is always `PASSIVE`), no local files to fill a disk (`litestream_disk_full`,
//! `litestream_l0_retention_files_total`). Ours begin with `holdfast_`.

use std::time::Duration;

use prometheus::proto::MetricType;

use super::{Family, Page, Samples};
use crate::plan::position::Position;
use crate::run::health::Phase;
use crate::run::report::{FAULTS, Report, Standing, Upload};
use crate::store::Verb;

/// Every metric but the histogram, in the order of the page.
pub(super) const FAMILIES: &[Family] = &[
    // --- Litestream 0.3.13 and 0.5.17 have these
    gauge("litestream_db_size", "The current size of the real DB", |page, out| {
        each(page, out, |db| Some(db.db_file as f64));
    }),
    gauge("litestream_wal_size", "The current size of the real WAL", |page, out| {
        each(page, out, |db| Some(db.wal_file as f64));
    }),
    counter("litestream_total_wal_bytes", "Bytes committed to the WAL", |page, out| {
        each(page, out, |db| Some(db.work.committed as f64));
    }),
    counter("litestream_checkpoint_count", "Number of checkpoint operations performed", |page, out| {
        checkpoints(page, out, |db| db.work.checkpoints.done as f64);
    }),
    counter(
        "litestream_checkpoint_error_count",
        "Number of checkpoint errors that have occurred",
        |page, out| {
            checkpoints(page, out, |db| db.work.checkpoints.failed as f64);
        },
    ),
    counter("litestream_checkpoint_seconds", "Time spent checkpointing WAL, in seconds", |page, out| {
        checkpoints(page, out, |db| seconds(db.work.checkpoints.took));
    }),
    // --- Litestream 0.3.13 has these
    counter("litestream_replica_wal_bytes", "The number wal bytes written", |page, out| {
        every(page, out, |replica| Some(replica.work.wal_bytes as f64));
    }),
    gauge("litestream_replica_wal_index", "The current WAL index", |page, out| {
        every(page, out, |replica| match replica.position? {
            Position::Wal(pos) => Some(pos.index.get().into()),
            Position::Ltx(_) => None,
        });
    }),
    gauge("litestream_replica_wal_offset", "The current WAL offset", |page, out| {
        every(page, out, |replica| match replica.position? {
            Position::Wal(pos) => Some(pos.offset as f64),
            Position::Ltx(_) => None,
        });
    }),
    counter("litestream_replica_validation_total", "The number of validations performed", |page, out| {
        let kinds = ["ok", "error"].into_iter();
        by_kind(page, out, "status", kinds, |replica, n| replica.work.drills[n] as f64);
    }),
    // --- Litestream 0.5.17 has this
    gauge("litestream_txid", "The current transaction ID", |page, out| {
        each(page, out, |db| db.replicas.iter().filter_map(txid).reduce(f64::max));
    }),
    // --- Both have this, for buckets
    counter(
        "litestream_replica_operation_total",
        "The number of replica operations performed",
        |page, out| {
            for (kind, requests) in page.requests.iter().filter(|(kind, _)| *kind != "file") {
                for verb in [Verb::Get, Verb::List, Verb::Put, Verb::Delete] {
                    let labels = [("operation", verb.name()), ("replica_type", kind)];
                    out.add(&labels, requests.of(verb).ok as f64);
                }
            }
        },
    ),
    // --- Ours: the run
    gauge("holdfast_build_info", "The version that runs, as a label.", |_, out| {
        out.add(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    }),
    gauge("holdfast_phase", "Where the run stands: 1 for the state it is in.", |page, out| {
        states(out, &PHASES, page.view.phase.name());
    }),
    gauge("holdfast_databases", "Databases, by how far each is attached to.", |page, out| {
        for state in DATABASE_STATES {
            let many = page.view.reports.iter().filter(|db| db.state() == state).count();
            out.add(&[("state", state)], many as f64);
        }
    }),
    gauge(
        "holdfast_max_lag_seconds",
        "How far behind a replica may be before the agent is not ready; 0 is any.",
        |page, out| out.add(&[], seconds(page.view.max_lag)),
    ),
    gauge("holdfast_final_sync", "What the final sync came to: 1 for the state it is in.", |page, out| {
        let state = match page.view.phase {
            Phase::Starting | Phase::Running | Phase::Stopping => FINAL_SYNCS[0],
            Phase::Ended { complete: true } => FINAL_SYNCS[1],
            Phase::Ended { complete: false } => FINAL_SYNCS[2],
        };
        states(out, &FINAL_SYNCS, state);
    }),
    counter(
        "holdfast_reloads_total",
        "How often the configuration was read again, by result.",
        |page, out| {
            out.add(&[("result", "done")], page.view.reloads.done as f64);
            out.add(&[("result", "refused")], page.view.reloads.refused as f64);
        },
    ),
    gauge(
        "holdfast_reload_refused",
        "The last reload was refused, and an older configuration goes on.",
        |page, out| {
            out.add(&[], f64::from(u8::from(page.view.reloads.last_refused)));
        },
    ),
    counter(
        "holdfast_requests_total",
        "Requests to destinations, by type, verb and what became of them; in a directory, operations.",
        |page, out| {
            for (kind, requests) in &page.requests {
                for verb in Verb::ALL {
                    let tally = requests.of(verb);
                    for (outcome, many) in
                        [("ok", tally.ok), ("refused", tally.refused), ("failed", tally.failed)]
                    {
                        let labels = [("outcome", outcome), ("replica_type", kind), ("verb", verb.name())];
                        out.add(&labels, many as f64);
                    }
                }
            }
        },
    ),
    // --- Ours: databases
    gauge("holdfast_database_pinned", "A read transaction of ours holds the WAL.", |page, out| {
        each(page, out, |db| Some(f64::from(u8::from(db.pinned))));
    }),
    gauge(
        "holdfast_database_waiting",
        "The app has not created the database in WAL mode yet.",
        |page, out| {
            each(page, out, |db| Some(f64::from(u8::from(db.waiting))));
        },
    ),
    gauge("holdfast_wal_bytes", "Bytes in the WAL up to its last commit.", |page, out| {
        each(page, out, |db| Some(db.wal_end as f64));
    }),
    counter(
        "holdfast_pins_lost_total",
        "Times the pin was lost: the database was replaced, or could not be read.",
        |page, out| {
            each(page, out, |db| Some(db.work.pins_lost as f64));
        },
    ),
    counter(
        "holdfast_sent_bytes_total",
        "Stored bytes sent to replicas, merges not included.",
        |page, out| {
            each(page, out, |db| Some(db.sent_bytes as f64));
        },
    ),
    // --- Ours: replicas
    gauge("holdfast_replica_lag_bytes", "Bytes committed to the WAL and not acknowledged.", |page, out| {
        every(page, out, |replica| Some(replica.lag_bytes as f64));
    }),
    gauge(
        "holdfast_replica_lag_seconds",
        "Age of the oldest commit not acknowledged; without a base, how long there has been none.",
        |page, out| every(page, out, |replica| Some(seconds(replica.lag(page.view.now)))),
    ),
    gauge("holdfast_replica_has_base", "There is a state to restore.", |page, out| {
        every(page, out, |replica| Some(f64::from(u8::from(replica.position.is_some()))));
    }),
    gauge(
        "holdfast_generation_holds",
        "Generations, or a beginning of LTX files, that no retention deletes: not this database's past.",
        |page, out| every(page, out, |replica| Some(replica.holds.len() as f64)),
    ),
    gauge(
        "holdfast_replica_txid",
        "The last transaction acknowledged, of a replica in LTX layout.",
        |page, out| {
            every(page, out, txid);
        },
    ),
    gauge("holdfast_replica_error", "The last try failed; /status has the words.", |page, out| {
        every(page, out, |replica| Some(f64::from(u8::from(replica.error.is_some()))));
    }),
    gauge(
        "holdfast_replica_acknowledged_timestamp_seconds",
        "When an upload was last acknowledged.",
        |page, out| {
            every(page, out, |replica| Some(replica.work.acknowledged?.as_millisecond() as f64 / 1000.0))
        },
    ),
    counter("holdfast_replica_errors_total", "Failed tries, by kind.", |page, out| {
        by_kind(page, out, "kind", FAULTS.into_iter(), |replica, n| replica.work.faults[n] as f64);
    }),
    counter(
        "holdfast_replica_uploads_total",
        "Objects acknowledged: commits, copies of the database, merges.",
        |page, out| {
            uploads(page, out, |tally| tally.done as f64);
        },
    ),
    counter(
        "holdfast_replica_upload_failures_total",
        "Uploads that failed and were tried again.",
        |page, out| {
            uploads(page, out, |tally| tally.failed as f64);
        },
    ),
    counter(
        "holdfast_replica_upload_seconds_total",
        "Time from the decision to upload to the acknowledgement, of those that were acknowledged.",
        |page, out| uploads(page, out, |tally| seconds(tally.took)),
    ),
    counter(
        "holdfast_replica_generations_total",
        "Chains begun with a copy of everything, because there was none to continue or continuity broke.",
        |page, out| every(page, out, |replica| Some(replica.work.begun as f64)),
    ),
    counter(
        "holdfast_replica_let_go_total",
        "Times it was let go because it kept failing while the WAL reached max-wal-size.",
        |page, out| every(page, out, |replica| Some(replica.work.let_go as f64)),
    ),
    counter("holdfast_replica_deleted_total", "Objects that retention deleted.", |page, out| {
        every(page, out, |replica| Some(replica.work.deleted as f64));
    }),
    counter("holdfast_replica_retention_failures_total", "Times retention could not delete.", |page, out| {
        every(page, out, |replica| Some(replica.work.deletions_failed as f64));
    }),
    // --- What every client library has
    counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", |page, out| {
        out.add(&[], page.process.cpu_seconds);
    }),
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", |page, out| {
        out.add(&[], page.process.resident_bytes as f64);
    }),
    gauge("process_open_fds", "Number of open file descriptors.", |page, out| {
        out.add(&[], page.process.open_descriptors as f64);
    }),
    gauge("process_max_fds", "Maximum number of open file descriptors.", |page, out| {
        out.add(&[], page.process.most_descriptors as f64);
    }),
    gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        |page, out| {
            out.add(&[], page.started);
        },
    ),
];

/// One sample, or none, for each database.
fn each(page: &Page, samples: &mut Samples, value: impl Fn(&Report) -> Option<f64>) {
    for report in &page.view.reports {
        if let Some(value) = value(report) {
            samples.add(&[("db", &report.db)], value);
        }
    }
}

/// One sample, or none, for each replica of each database.
fn every(page: &Page, samples: &mut Samples, value: impl Fn(&Standing) -> Option<f64>) {
    for report in &page.view.reports {
        for replica in &report.replicas {
            if let Some(value) = value(replica) {
                samples.add(&[("db", &report.db), ("name", &replica.name)], value);
            }
        }
    }
}

/// One sample for each replica and each of `kinds`, whose name is a label.
fn by_kind<'a>(
    page: &Page,
    samples: &mut Samples,
    label: &str,
    kinds: impl Iterator<Item = &'a str> + Clone,
    value: impl Fn(&Standing, usize) -> f64,
) {
    for report in &page.view.reports {
        for replica in &report.replicas {
            for (n, kind) in kinds.clone().enumerate() {
                let labels = [("db", report.db.as_str()), ("name", &replica.name), (label, kind)];
                samples.add(&labels, value(replica, n));
            }
        }
    }
}

fn uploads(page: &Page, samples: &mut Samples, value: impl Fn(&crate::run::report::Tally) -> f64) {
    let kinds = Upload::ALL.iter().map(|upload| upload.name());
    by_kind(page, samples, "kind", kinds, |replica, n| value(&replica.work.uploads[n]));
}

/// One sample of the checkpoints of each database.
fn checkpoints(page: &Page, samples: &mut Samples, value: impl Fn(&Report) -> f64) {
    for report in &page.view.reports {
        samples.add(&[("db", &report.db), ("mode", "PASSIVE")], value(report));
    }
}

/// 1 for the state that is, 0 for each other.
fn states(samples: &mut Samples, states: &[&str], here: &str) {
    for state in states {
        samples.add(&[("state", state)], f64::from(u8::from(*state == here)));
    }
}

const fn gauge(name: &'static str, help: &'static str, samples: fn(&Page, &mut Samples)) -> Family {
    Family { name, help, kind: MetricType::GAUGE, samples }
}

const fn counter(name: &'static str, help: &'static str, samples: fn(&Page, &mut Samples)) -> Family {
    Family { name, help, kind: MetricType::COUNTER, samples }
}

fn txid(replica: &Standing) -> Option<f64> {
    match replica.position? {
        Position::Ltx(txid) => Some(txid.get() as f64),
        Position::Wal(_) => None,
    }
}

const fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

const DATABASE_STATES: [&str; 4] = ["pinned", "waiting", "damaged", "detached"];
const PHASES: [&str; 4] = ["starting", "running", "stopping", "ended"];
const FINAL_SYNCS: [&str; 3] = ["none", "complete", "incomplete"];
