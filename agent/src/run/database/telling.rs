//! What a database's loop tells of itself: its report, and once each what somebody should know of a store. Touches the
//! loop, and asks for the sizes of its files.

use std::time::Duration;

use super::Loop;
use crate::run::report::{Report, Standing};
use crate::source::tail::WalBytes;
use crate::store::Remark;

impl Loop {
    pub(super) fn publish(&mut self, now: Duration) {
        self.remark();
        self.measure(now);
        let mut heard = self.listen(now);
        let attached = self.view.is_some();
        let replicas: Vec<_> = (0..self.stores.len())
            .map(|n| {
                let configured = &self.config.replicas[n];
                let (position, lag_bytes) = (self.machine.position(n), self.machine.lag_bytes(n));
                let bare = attached && position.is_none();
                Standing {
                    name: configured.name.clone(),
                    kind: configured.destination.kind(),
                    position,
                    lag_bytes,
                    behind_since: self.books.behind_since(now, n, lag_bytes, bare),
                    error: self.machine.error(n).map(|f| f.message.clone()).or_else(|| heard[n].take()),
                    holds: self.holds[n].clone(),
                    remarks: self.remarks[n].iter().map(Remark::to_string).collect(),
                    work: self.books.replica(n).clone(),
                }
            })
            .collect();
        self.books.forget(replicas.iter().map(|r| r.lag_bytes).max().unwrap_or_default());
        let report = Report {
            db: self.config.path.display().to_string(),
            pinned: self.live.is_some() || (self.away && self.view.is_some()),
            waiting: self.waiting,
            damaged: self.damaged,
            wal_end: self.machine.wal_end().offset,
            db_file: self.sizes.0,
            wal_file: self.sizes.1,
            sent_bytes: self.sent,
            source_error: self.error.clone(),
            replicas,
            work: self.books.source().clone(),
        };
        let changed = self.report.send_if_modified(|old| {
            let changed = *old != report;
            *old = report;
            changed
        });
        if changed {
            self.news.notify_one();
        }
    }

    /// Says once what should be known of each store.
    fn remark(&mut self) {
        for (n, store) in self.stores.iter().enumerate() {
            let remarks = store.remarks();
            for remark in remarks.iter().filter(|remark| !self.remarks[n].contains(remark)) {
                let (db, replica) = (self.config.path.display(), &self.config.replicas[n].name);
                tracing::warn!(%db, replica, "{remark}");
            }
            self.remarks[n] = remarks;
        }
    }

    /// Listens to each store: the failure that is no replica's yet, or a silence.
    fn listen(&mut self, now: Duration) -> Vec<Option<String>> {
        let mut heard = Vec::with_capacity(self.stores.len());
        for (n, store) in self.stores.iter().enumerate() {
            let silence = &mut self.silences[n];
            silence.hear(now, store.unanswered());
            if let Some(error) = silence.news(now) {
                let (db, replica) = (self.config.path.display(), &self.config.replicas[n].name);
                tracing::warn!(%db, replica, "{error}");
            }
            heard.push(store.trouble().map(|e| e.to_string()).or_else(|| silence.error(now)));
        }
        heard
    }

    /// Asks how large the files are, now and then.
    fn measure(&mut self, now: Duration) {
        if self.sized.is_some_and(|at| now < at + SIZING) {
            return;
        }
        self.sized = Some(now);
        let length = |file: &std::fs::File| file.metadata().map_or(0, |m| m.len());
        let wal = match &self.wal {
            Some(WalBytes::Live(file)) => length(file),
            Some(WalBytes::Held { .. }) | None => 0,
        };
        self.sizes = (self.kept.as_ref().map_or(0, |files| length(&files.db)), wal);
    }
}

/// The least time between two questions for the sizes of files, which are for people.
const SIZING: Duration = Duration::from_secs(1);
