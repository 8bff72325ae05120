//! The invariants of a replica of LTX files: what is acknowledged restores, and what is promised goes on restoring.

use std::time::Duration;

use holdfast::format::ltx::Txid;
use holdfast::plan::ltx::compact::division_ends;
use jiff::{SignedDuration, Timestamp};

use super::ltx::upload;
use super::ltx_store::{Until, restore, restore_planned};
use super::restore::timestamp;
use super::world::World;

impl World {
    /// The machine says that this much is replicated.
    pub(crate) fn ltx_acknowledged(&mut self, replica: usize, txid: Txid) {
        let Some(stored) = self.stores[replica].files.get(&upload(txid)) else {
            return self.violated("P2", format!("replica {replica} acknowledges {txid}, never uploaded"));
        };
        let seq = stored.content.seq;
        self.note(format_args!("replica {replica} acknowledges {txid}, state {seq}"));
        self.acknowledged_state(replica, seq);
        // By its number, too, and to that very state.
        self.check_upload(replica, txid, seq);
    }

    fn check_upload(&mut self, replica: usize, txid: Txid, seq: u32) {
        let until = Until::Txid(txid);
        let found = restore(&self.stores[replica].files, until);
        if !matches!(&found, Ok(Some(image)) if image == self.history.state(seq)) {
            let found = self.state_of(found.unwrap_or_default());
            return self.violated("P5", format!("replica {replica} restores {found:?} as {txid}, not {seq}"));
        }
        self.check_ltx_planner(replica, until);
    }

    /// `plan::restore` finds the same.
    pub(crate) fn check_ltx_planner(&mut self, replica: usize, until: Until) {
        let files = &self.stores[replica].files;
        let (modelled, planned) = (restore(files, until), restore_planned(files, until));
        if modelled != planned {
            let text = format!("replica {replica}, {until:?}: {modelled:?}, planned {planned:?}");
            self.violated("P5", text);
        }
    }

    /// P5: each upload restores by itself for as long as it is young, and the end of every interval of level 1 within
    /// the retention restores what was acknowledged by then.
    pub(crate) fn check_ltx_points(&mut self, replica: usize) {
        let policy = self.profile.replicas[replica].ltx.clone();
        let now = timestamp(self.now);
        let since = |time: Duration| match time.is_zero() {
            true => Timestamp::MIN,
            false => now.checked_sub(time).expect("a time after 1970"),
        };
        let young = since(policy.l0_retention.max(Duration::from_millis(1)));
        let uploads = self.uploads[replica].iter().filter(|(_, stamp, _)| *stamp > young);
        let uploads: Vec<_> = uploads.map(|(txid, _, seq)| (*txid, *seq)).collect();
        // The oldest are what retention can spoil; of the others a sample.
        let step = (uploads.len() / 4).max(1);
        for (txid, seq) in uploads.iter().take(3).chain(uploads.iter().step_by(step)) {
            self.check_upload(replica, *txid, *seq);
        }
        let first = self.acks[replica].first().map(|(at, _)| timestamp(*at));
        let Some(first) = first.map(|first| first.max(since(policy.snapshot_retention))) else { return };
        let interval = policy.levels.first().copied().unwrap_or(Duration::from_secs(1));
        let mut ends = Vec::new();
        let mut end = division_ends(first, interval);
        while end <= now && ends.len() < 200 {
            ends.push(end);
            end = division_ends(end, interval);
        }
        let step = (ends.len() / 6).max(1);
        let few: Vec<_> = ends.iter().take(3).chain(ends.iter().step_by(step)).copied().collect();
        for end in few {
            // The dates are in milliseconds.
            let before = end.saturating_sub(SignedDuration::from_millis(1)).expect("a time");
            let acked = self.acks[replica].iter().rev().find(|(at, _)| timestamp(*at) <= before);
            let Some(acked) = acked.map(|(_, seq)| *seq) else { continue };
            let found = restore(&self.stores[replica].files, Until::Time(end));
            match found.and_then(|image| self.state_of(image)) {
                Ok(Some(seq)) if seq >= acked => {}
                other => {
                    let text = format!("replica {replica} as of {end}: {other:?}, {acked} was acknowledged");
                    return self.violated("P5", text);
                }
            }
            self.check_ltx_planner(replica, Until::Time(end));
        }
    }
}
