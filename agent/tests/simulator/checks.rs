//! The invariants that a reader can see: what is acknowledged restores, at any time that is promised, and rest is rest.

use super::agent::Agent;
use super::history::Seq;
use super::ltx_store;
use super::restore::{Until, restore, restore_planned};
use super::sqlite::Image;
use super::world::World;

impl World {
    /// P1 and P2: what a reader finds now.
    pub(crate) fn check_restore(&mut self, replica: usize) {
        let acked = self.acks[replica].last().map_or(0, |(_, seq)| *seq);
        match self.restores(replica, Until::Latest) {
            Ok(None) if acked == 0 => {}
            Ok(None) => {
                self.violated("P2", format!("replica {replica} has no base, {acked} was acknowledged"))
            }
            Ok(Some(seq)) if seq < acked => {
                self.violated(
                    "P2",
                    format!("replica {replica} restores state {seq}, {acked} was acknowledged"),
                );
            }
            Ok(Some(_)) => {}
            Err(e) => self.violated("P1", format!("replica {replica}: {e}")),
        }
    }

    /// Minutes into the quiet, when nothing changes but the time: one look in many is enough.
    pub(crate) fn is_stale(&mut self) -> bool {
        self.quiet && !self.ending && !self.chance.permille(60)
    }

    /// P5: every point in time within the retention restores what was acknowledged then.
    pub(crate) fn check_points(&mut self, replica: usize) {
        if self.is_stale() {
            return;
        }
        if self.profile.ltx[replica] {
            return self.check_ltx_points(replica);
        }
        let retention = self.profile.replicas[replica].retention.as_micros() as u64;
        let cutoff = if retention == 0 { 0 } else { self.now.saturating_sub(retention) };
        let mut times: Vec<u64> =
            self.stores[replica].objects.values().map(|o| o.created).filter(|t| *t >= cutoff).collect();
        times.sort_unstable();
        // The oldest are what retention can spoil; of the others a sample.
        if !times.is_empty() {
            let time = self.chance.one_of(&times);
            self.check_planner(replica, Some(time));
        }
        let step = (times.len() / 8).max(1);
        let few: Vec<u64> = times.iter().take(4).chain(times.iter().step_by(step)).copied().collect();
        for time in few.into_iter().chain([cutoff, self.now]) {
            let acked = self.acks[replica].iter().rev().find(|(at, _)| *at <= time).map(|(_, seq)| *seq);
            let Some(acked) = acked else { continue };
            match self.restores(replica, Until::Time(time)) {
                Ok(Some(seq)) if seq >= acked => {}
                other => {
                    let text = format!("replica {replica} as of {time}: {other:?}, {acked} was acknowledged");
                    return self.violated("P5", text);
                }
            }
        }
    }

    /// `plan::restore` finds the same.
    fn check_planner(&mut self, replica: usize, until: Option<u64>) {
        if self.profile.ltx[replica] {
            return self.check_ltx_planner(replica, ltx_store::Until::Latest);
        }
        let (objects, size) = (&self.stores[replica].objects, self.profile.page_size);
        let modelled = restore(objects, size, until.map_or(Until::Latest, Until::Time));
        let planned = restore_planned(objects, size, until);
        if modelled != planned {
            self.violated(
                "P5",
                format!("replica {replica} as of {until:?}: {modelled:?}, planned {planned:?}"),
            );
        }
    }

    fn restores(&self, replica: usize, until: Until) -> Result<Option<Seq>, String> {
        self.state_of(self.image(replica, until)?)
    }

    pub(crate) fn state_of(&self, image: Option<Image>) -> Result<Option<Seq>, String> {
        let Some(image) = image else { return Ok(None) };
        match self.history.find(&image) {
            Some(seq) => Ok(Some(seq)),
            None => Err("what restores is no committed state".into()),
        }
    }

    /// What a reader of the replica gets.
    fn image(&self, replica: usize, until: Until) -> Result<Option<Image>, String> {
        let store = &self.stores[replica];
        if self.profile.ltx[replica] {
            return ltx_store::restore(&store.files, ltx_store::Until::Latest);
        }
        restore(&store.objects, self.profile.page_size, until)
    }

    /// A stop came to rest: everything from before it is safe.
    pub(crate) fn check_rest(&mut self, a: &Agent) {
        let Some(asked) = a.stopping else { return };
        for replica in 0..self.stores.len() {
            match self.restores(replica, Until::Latest) {
                Ok(Some(seq)) if seq >= asked => {}
                other => {
                    self.violated("P3", format!("at rest, replica {replica} restores {other:?} of {asked}"))
                }
            }
        }
    }

    /// P3: long after the last write and the last fault.
    pub(crate) fn settled(&mut self) {
        let (puts, wakes) = self.idle.unwrap_or_default();
        // Half a minute, in which retention, snapshots and validation of both replicas look at the time.
        if self.puts > puts || self.wakes > wakes + 60 {
            let (puts, wakes) = (self.puts - puts, self.wakes - wakes);
            self.violated("P7", format!("{puts} puts and {wakes} wakes although nobody wrote for minutes"));
        }
        self.ending = true;
        self.check_newest();
        for replica in 0..self.stores.len() {
            self.check_points(replica);
        }
        self.agent_is_stopped();
    }

    fn check_newest(&mut self) {
        for replica in 0..self.stores.len() {
            self.check_planner(replica, None);
            let found = self.image(replica, Until::Latest);
            if found.as_ref().ok().and_then(Option::as_ref) != Some(self.history.now()) {
                let seq = self.restores(replica, Until::Latest);
                let text =
                    format!("replica {replica} restores {seq:?}, the newest is {}", self.history.seq());
                self.violated("P3", text);
            }
        }
    }

    pub(crate) fn check_end(&mut self) {
        if !self.agent.as_ref().is_some_and(|a| a.machine.at_rest()) {
            self.violated("P3", "the last stop never came to rest".into());
        }
        self.check_newest();
    }
}
