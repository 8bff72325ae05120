//! What a process cost so far, as the kernel counts it. Reads /proc only.

use std::fs;

/// Counters of one process, all of its threads.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// User and system time, in seconds (10 ms steps).
    pub cpu: f64,
    /// Time its living threads have run, in seconds (ns steps; a thread's share is gone when it ends).
    pub ran: f64,
    /// Largest resident size so far, in bytes.
    pub peak: u64,
    /// Resident size now, in bytes.
    pub resident: u64,
    /// Times any thread was put on a CPU after it had given it up or lost it.
    pub switches: u64,
    /// Bytes had from `read` and its kin, whatever the source.
    pub read: u64,
    /// Bytes handed to `write` and its kin, whatever the target.
    pub written: u64,
    /// Bytes the process caused to be written to storage.
    pub stored: u64,
}

impl Cost {
    /// What process `pid` has cost so far; `None` when it is gone.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        Some(Self {
            cpu: cpu_seconds(&stat)?,
            peak: field(&status, "VmHWM:")? * 1024,
            resident: field(&status, "VmRSS:")? * 1024,
            ran: of_threads(pid, "schedstat", |text| text.split(' ').next()?.parse().ok()) as f64 / 1e9,
            switches: of_threads(pid, "status", |text| {
                Some(field(text, "voluntary_ctxt_switches:")? + field(text, "nonvoluntary_ctxt_switches:")?)
            }),
            read: field(&io, "rchar:").unwrap_or(0),
            written: field(&io, "wchar:").unwrap_or(0),
            stored: field(&io, "write_bytes:").unwrap_or(0),
        })
    }
}

/// Fields 14 and 15 (`utime`, `stime`), counted after the parenthesised name, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut rest = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = rest.next()?.parse().ok()?;
    let system: u64 = rest.next()?.parse().ok()?;
    // USER_HZ is 100 on every Linux a user sees.
    Some((user + system) as f64 / 100.0)
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_ascii_whitespace().next()?.parse().ok()
}

/// The sum of `read` over `/proc/PID/task/*/FILE`.
fn of_threads(pid: u32, file: &str, read: fn(&str) -> Option<u64>) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| read(&fs::read_to_string(task.path().join(file)).ok()?)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_spaces_and_brackets() {
        let stat = "12 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 99";
        assert_eq!(cpu_seconds(stat), Some(3.0));
    }

    #[test]
    fn a_living_process_has_memory_and_a_dead_one_is_none() {
        let own = Cost::of(std::process::id()).unwrap();
        assert!(own.resident > 0 && own.peak >= own.resident && own.ran > 0.0 && own.switches > 0);
        assert_eq!(Cost::of(u32::MAX), None);
    }
}
