//! Who is left beside us and the agent. Reads `/proc/*/stat`; signals nobody.
//!
//! As PID 1 everyone in the namespace counts: an administrator's shell from `docker exec` may hold the database open
//! and commit as well as any child of the app. Elsewhere only our descendants do (spec §2.7).

use std::collections::HashMap;
use std::io;

/// One live process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// At most 15 bytes, as the kernel keeps it.
    pub(crate) name: String,
    parent: i32,
    session: i32,
}

/// Every process that could still write: neither us (`me`), nor in the agent's session, nor a zombie.
pub(crate) fn left(me: i32, agent: Option<i32>) -> io::Result<Vec<Process>> {
    Ok(others(table()?, me, agent, me == 1))
}

/// The app and whatever it has started: as [`left`], and whoever somebody brought in from outside is not among them.
pub(crate) fn descendants(me: i32, agent: Option<i32>) -> io::Result<Vec<Process>> {
    Ok(others(table()?, me, agent, false))
}

fn table() -> io::Result<Vec<Process>> {
    // Where somebody has mounted another namespace's /proc, its numbers are other processes here.
    let us = std::fs::read_link("/proc/self")?;
    if us.to_str().and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        return Err(io::Error::other("it shows the processes of another namespace"));
    }
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        let is_pid = entry.file_name().to_str().is_some_and(|name| name.bytes().all(|b| b.is_ascii_digit()));
        if is_pid {
            // It may end between the listing and the reading.
            all.extend(std::fs::read_to_string(entry.path().join("stat")).ok().as_deref().and_then(parse));
        }
    }
    Ok(all)
}

fn others(mut all: Vec<Process>, me: i32, agent: Option<i32>, everybody: bool) -> Vec<Process> {
    let parents: HashMap<i32, i32> = all.iter().map(|p| (p.pid, p.parent)).collect();
    // The table is not read in one moment: where a number was given out again meanwhile, it may hold a circle.
    let ours = |pid: i32| {
        let mut line = std::iter::successors(Some(pid), |p| parents.get(p).copied()).take(parents.len() + 1);
        everybody || line.any(|p| p == me)
    };
    all.retain(|p| p.pid != me && Some(p.session) != agent && Some(p.pid) != agent && ours(p.pid));
    all
}

/// `PID (NAME) STATE PPID PGRP SESSION TTY TPGID FLAGS …`, proc(5). None for the dead and for kernel threads.
///
/// A process whose first thread has ended is called a zombie, too, while the others go on.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    // The name may hold anything, parentheses too.
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let flags: u64 = fields.nth(2)?.parse().ok()?;
    let threads: u64 = fields.nth(10)?.parse().ok()?;
    let dead = matches!(state, "Z" | "X" | "x") && threads <= 1;
    if dead || flags & PF_KTHREAD != 0 {
        return None;
    }
    Some(Process { pid: pid.parse().ok()?, name: name.to_owned(), parent, session })
}

/// `include/linux/sched.h`: a kernel thread. It takes no signal and holds no database.
const PF_KTHREAD: u64 = 0x0020_0000;

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32) -> Process {
        Process { pid, name: String::new(), parent, session }
    }

    fn pids(left: &[Process]) -> Vec<i32> {
        left.iter().map(|p| p.pid).collect()
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read_whole() {
        let p = parse("42 (a) b (c) S 7 40 41 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0").unwrap();
        assert_eq!(p, Process { pid: 42, name: "a) b (c".into(), parent: 7, session: 41 });
    }

    #[test]
    fn zombies_and_kernel_threads_do_not_count() {
        let stat = |state, flags, threads| {
            parse(&format!("42 (x) {state} 7 40 41 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 {threads} 0 99"))
        };
        assert_eq!(stat('Z', 4_194_304, 1), None);
        assert!(stat('Z', 4_194_304, 2).is_some(), "only its first thread has ended");
        assert!(stat('S', 4_194_304, 1).is_some());
        assert_eq!(stat('S', 2_129_984, 1), None, "kthreadd");
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn pid_1_sees_everyone_but_itself_and_the_agents_session() {
        let all =
            vec![process(1, 0, 1), process(2, 1, 2), process(3, 2, 2), process(9, 0, 9), process(10, 9, 9)];
        assert_eq!(pids(&others(all.clone(), 1, Some(2), true)), [9, 10]);
        // 9 is `docker exec`, which nobody in here has started.
        assert!(others(all, 1, Some(2), false).is_empty());
    }

    #[test]
    fn a_subreaper_sees_its_descendants_only() {
        let all = vec![
            process(1, 0, 1),
            process(50, 1, 50),
            process(51, 50, 50),
            process(52, 51, 50),
            process(60, 1, 60),
            process(70, 50, 70),
        ];
        assert_eq!(pids(&others(all, 50, Some(70), false)), [51, 52]);
    }

    #[test]
    fn a_circle_of_parents_is_nobodys_family() {
        let all = vec![process(50, 1, 50), process(60, 61, 60), process(61, 60, 60), process(70, 50, 70)];
        assert_eq!(pids(&others(all, 50, None, false)), [70]);
    }

    #[test]
    fn our_own_child_is_found_in_the_real_table() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let found = left(std::process::id().cast_signed(), None).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.iter().any(|p| p.pid == pid), "{found:?}");
    }
}
