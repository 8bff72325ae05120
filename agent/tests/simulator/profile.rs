//! How one seed's world is: the policies, the app's habits, how much goes wrong. Drawn once, then fixed.

use std::time::Duration;

use holdfast::format::wal::PageSize;
use holdfast::plan::database::{Policy, ReplicaPolicy};
use holdfast::plan::ltx;

use super::chance::Chance;

/// Times in microseconds.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) page_size: PageSize,
    pub(crate) policy: Policy,
    pub(crate) replicas: Vec<ReplicaPolicy>,
    /// Which replicas hold LTX files.
    pub(crate) ltx: Vec<bool>,
    pub(crate) latency: Vec<u64>,
    /// Writes go on until then.
    pub(crate) quiet_at: u64,
    pub(crate) writers: u64,
    /// Mean pause between two transactions of a writer.
    pub(crate) pause: u64,
    /// In a thousand: transactions of many pages.
    pub(crate) huge: u64,
    /// The app's `wal_autocheckpoint`; 0 is off.
    pub(crate) autocheckpoint: u32,
    /// Mean pause between checkpoints by somebody else; 0 for none.
    pub(crate) foreign: u64,
    /// Mean pause between read transactions of the app; 0 for none.
    pub(crate) reading: u64,
    /// In a thousand: readers that stay for seconds.
    pub(crate) long_readers: u64,
    /// Mean pause between crashes, restarts and replacements; 0 for none.
    pub(crate) chaos: u64,
    /// Mean pause between spells of bad weather at a store; 0 for none.
    pub(crate) storms: u64,
    /// The second replica is unreachable from the start until it is quiet.
    pub(crate) second_is_down: bool,
    /// How many in a thousand answers of a store are lost.
    pub(crate) losing: u64,
}

impl Profile {
    /// Everything at once, each seed in its own mixture.
    pub(crate) fn stormy(chance: &mut Chance) -> Self {
        let mut p = Self::calm(chance);
        p.writers = chance.range(1, 3);
        p.pause = chance.one_of(&[8, 30, 100, 400]) * MS;
        p.huge = chance.one_of(&[0, 5, 30]);
        p.autocheckpoint = chance.one_of(&[0, 5, 30, 100]);
        p.foreign = chance.one_of(&[0, 2_000, 15_000]) * MS;
        p.reading = chance.one_of(&[0, 200, 2_000]) * MS;
        p.long_readers = chance.one_of(&[0, 30, 200]);
        p.chaos = chance.one_of(&[0, 1_500, 6_000, 20_000]) * MS;
        p.storms = chance.one_of(&[0, 10_000, 40_000]) * MS;
        p.losing = chance.one_of(&[0, 10, 80]);
        p.latency[1] = chance.one_of(&[20, 200, 900]) * MS;
        p.second_is_down = chance.permille(80);
        // Enough commits for everything to happen, few enough for many seeds.
        p.quiet_at = (chance.range(200, 900) * p.pause / p.writers).clamp(6 * SECOND, 60 * SECOND);
        p.policy.index_bytes = frames(p.page_size, chance.one_of(&[30, 120, 100_000]));
        p.policy.max_wal_bytes = frames(p.page_size, chance.one_of(&[150, 400, 100_000]));
        p.policy.tail_bytes = frames(p.page_size, chance.one_of(&[60, 200]));
        p
    }

    /// A well-behaved app, a store that answers: nothing ever has to begin anew.
    pub(crate) fn calm(chance: &mut Chance) -> Self {
        // 64 of the largest frames make a segment: what a segment cuts is then small enough to happen.
        let page_size = PageSize::new(chance.one_of(&[512, 4096, 65536, 65536])).expect("a page size");
        let replica = |chance: &mut Chance| ReplicaPolicy {
            sync_interval: Duration::from_millis(chance.one_of(&[0, 100, 1000])),
            snapshot_interval: Duration::from_secs(chance.one_of(&[0, 0, 7, 20])),
            retention: Duration::from_secs(chance.one_of(&[0, 12, 30])),
            retention_check_interval: Duration::from_secs(chance.range(3, 8)),
            validation_interval: Duration::from_secs(chance.one_of(&[0, 9])),
            ltx: ltx::Policy {
                levels: {
                    let level = chance.range(1, 4);
                    let levels = [level, level * 3, level * 9].map(Duration::from_secs);
                    levels[..chance.range(0, 3) as usize].to_vec()
                },
                snapshot_interval: Duration::from_secs(chance.one_of(&[0, 7, 20])),
                snapshot_retention: Duration::from_secs(chance.one_of(&[0, 12, 30])),
                l0_retention: Duration::from_secs(chance.one_of(&[0, 2, 6])),
                check_interval: Duration::from_secs(chance.range(1, 4)),
                deletes: !chance.permille(100),
                foreign: false,
                hold: None,
            },
        };
        Self {
            page_size,
            policy: Policy {
                min_checkpoint_pages: chance.one_of(&[10, 40]),
                max_checkpoint_pages: chance.one_of(&[0, 120]),
                checkpoint_interval: Duration::from_secs(chance.one_of(&[0, 5, 60])),
                max_wal_bytes: frames(page_size, 100_000),
                tail_bytes: frames(page_size, 300),
                index_bytes: frames(page_size, 100_000),
            },
            replicas: vec![replica(chance), replica(chance)],
            ltx: vec![chance.permille(400), chance.permille(400)],
            latency: vec![chance.range(2, 30) * MS, chance.one_of(&[20, 200]) * MS],
            quiet_at: chance.range(20, 40) * SECOND,
            writers: 1,
            pause: chance.one_of(&[50, 150, 400]) * MS,
            huge: 0,
            autocheckpoint: chance.one_of(&[0, 30, 100]),
            foreign: 0,
            reading: 500 * MS,
            long_readers: 0,
            chaos: 0,
            storms: 0,
            second_is_down: false,
            losing: 0,
        }
    }
}

fn frames(page_size: PageSize, n: u64) -> u64 {
    page_size.offset_of(n)
}

pub(crate) const MS: u64 = 1_000;
pub(crate) const SECOND: u64 = 1_000_000;
