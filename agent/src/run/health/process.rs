//! What this process costs, by the names every Prometheus client library uses. Reads `/proc/self`.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;

/// What a scrape shows of the process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) open_descriptors: u64,
    pub(super) most_descriptors: u64,
}

impl Process {
    /// As it is now; what cannot be read is zero.
    pub(super) fn read() -> Self {
        let cpu = getrusage(UsageWho::RUSAGE_SELF);
        let cpu = cpu.map_or(0.0, |usage| seconds(usage.user_time()) + seconds(usage.system_time()));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            cpu_seconds: cpu,
            resident_bytes: resident.unwrap_or(0) * 1024,
            open_descriptors: fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64),
            most_descriptors: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
        }
    }
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_reads_this_has_cost_something() {
        let now = Process::read();
        assert!(now.cpu_seconds > 0.0 && now.cpu_seconds < 3600.0, "{now:?}");
        assert!((1 << 20..1 << 34).contains(&now.resident_bytes), "{now:?}");
        assert!(now.open_descriptors >= 3 && now.most_descriptors >= now.open_descriptors, "{now:?}");
    }
}
