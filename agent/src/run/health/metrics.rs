//! A view as Prometheus text, version 0.0.4. Values in, text out.
//!
//! Values stand in the loops' reports already, so there is no registry, which would be a second copy of them; the one
//! distribution is the library's. A page is made family by family, and between two of them the loops have their turn: with
//! a thousand databases it is megabytes.
//!
//! A counter begins at 0 with the loop it belongs to: again when a reload changes its database.

mod families;

use prometheus::core::Collector;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Histogram, HistogramOpts, TEXT_FORMAT, TextEncoder};

use super::answer::Answer;
use super::process::Process;
use super::{Board, View};
use crate::store::Requests;
use families::FAMILIES;

/// `/metrics`
pub(super) async fn answer(board: &Board) -> Answer {
    let page = Page {
        view: board.view(),
        requests: board.requests(),
        process: Process::read(),
        started: board.began.as_millisecond() as f64 / 1000.0,
    };
    let mut body = String::new();
    for family in FAMILIES {
        family.write(&page, &mut body);
        tokio::task::yield_now().await;
    }
    encode(board.locks.collect(), &mut body);
    Answer { status: 200, kind: TEXT_FORMAT, body }
}

/// How long sealed checkpoints hold the app's writers.
pub(in crate::run) fn lock_histogram() -> Histogram {
    let help = "How long each sealed checkpoint held the app's writers; there is none before max-wal-size.";
    let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
    let options = HistogramOpts::new("holdfast_checkpoint_lock_seconds", help).buckets(buckets);
    Histogram::with_opts(options).expect("a name, a help and buckets in order")
}

/// Everything a page is made of.
struct Page {
    view: View,
    requests: Vec<(&'static str, Requests)>,
    process: Process,
    /// When the process started, in seconds since 1970.
    started: f64,
}

/// One metric and where its samples come from.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: fn(&Page, &mut Samples),
}

impl Family {
    fn write(&self, page: &Page, out: &mut String) {
        let mut samples = Samples { kind: self.kind, all: Vec::new() };
        (self.samples)(page, &mut samples);
        // A head without a sample says nothing.
        if samples.all.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric(samples.all);
        encode(vec![family], out);
    }
}

fn encode(families: Vec<MetricFamily>, out: &mut String) {
    // Fails for a family without a name or a sample, which is not made.
    let _ = TextEncoder::new().encode_utf8(&families, out);
}

/// The samples of one family.
struct Samples {
    kind: MetricType,
    all: Vec<Metric>,
}

impl Samples {
    fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut metric = Metric::default();
        metric.set_label(labels.iter().map(|(name, value)| label(name, value)).collect());
        if self.kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.all.push(metric);
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::answer::tests::{report, view};
    use super::*;
    use crate::format::ltx::Txid;
    use crate::plan::position::Position;
    use crate::run::health::Phase;
    use crate::run::report::Report;

    fn text(reports: Vec<Report>) -> String {
        let requests = vec![("file", Requests::default()), ("s3", Requests::default())];
        let view = view(Phase::Running, reports);
        let page = Page { view, requests, process: Process::default(), started: 1.5 };
        let mut out = String::new();
        FAMILIES.iter().for_each(|family| family.write(&page, &mut out));
        out
    }

    #[test]
    fn every_sample_stands_once_under_one_head() {
        let mut ltx = report("/d/\"x\\.db", Some(98));
        ltx.replicas[0].position = Some(Position::Ltx(Txid::ONE));
        let text = text(vec![report("/d/a.db", None), ltx]);
        for line in [
            "holdfast_replica_lag_seconds{db=\"/d/a.db\",name=\"s3\"} 0",
            "holdfast_replica_lag_seconds{db=\"/d/\\\"x\\\\.db\",name=\"s3\"} 2",
            "holdfast_replica_lag_bytes{db=\"/d/a.db\",name=\"s3\"} 4120",
            "holdfast_replica_has_base{db=\"/d/a.db\",name=\"s3\"} 0",
            "litestream_txid{db=\"/d/\\\"x\\\\.db\"} 1",
            "holdfast_databases{state=\"pinned\"} 2",
            "holdfast_phase{state=\"running\"} 1",
            "holdfast_phase{state=\"ended\"} 0",
            "holdfast_final_sync{state=\"none\"} 1",
            "holdfast_requests_total{outcome=\"failed\",replica_type=\"file\",verb=\"LIST\"} 0",
            "process_start_time_seconds 1.5",
        ] {
            assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line}\n{text}");
        }
        let samples: Vec<_> = text.lines().filter(|l| !l.starts_with('#')).collect();
        let series: BTreeSet<_> = samples.iter().map(|l| l.rsplit_once(' ').unwrap().0).collect();
        assert_eq!(series.len(), samples.len(), "no series twice");
        let heads: Vec<_> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
        assert_eq!(heads.iter().collect::<BTreeSet<_>>().len(), heads.len(), "no head twice");
    }

    #[test]
    fn what_is_not_known_has_no_sample() {
        let text = text(vec![report("/d/a.db", None)]);
        for name in ["litestream_txid", "litestream_replica_wal_index", "_acknowledged_timestamp"] {
            assert!(!text.contains(name), "{name}");
        }
        assert!(!text.contains("operation_total{operation=\"GET\",replica_type=\"file\""), "{text}");
    }

    #[test]
    fn a_lock_is_found_in_its_bucket() {
        let locks = lock_histogram();
        locks.observe(0.004);
        let mut out = String::new();
        encode(locks.collect(), &mut out);
        for line in ["_bucket{le=\"0.0025\"} 0", "_bucket{le=\"0.005\"} 1", "_count 1"] {
            assert!(out.contains(&format!("holdfast_checkpoint_lock_seconds{line}\n")), "{line}\n{out}");
        }
    }
}
