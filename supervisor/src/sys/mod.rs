//! System calls that safe wrappers do not reach. The only folder of this crate with `unsafe`; decides nothing.
//!
//! Why each is here: `nix` knows no real-time signals, so its `kill` cannot send one and its `waitpid` loses the
//! process id of a child one of them killed. `std::process::Command` lets a child inherit the blocked mask and
//! ignored signals (verified, spec §9 X4); only a `pre_exec` hook can undo that between fork and exec.

pub(crate) mod privileges;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::lifecycle::Ended;
use crate::signals::Sig;

/// Sends `sig` to one process. A process that has gone is not an error.
pub(crate) fn kill(pid: i32, sig: Sig) -> io::Result<()> {
    // SAFETY: kill takes two integers and touches no memory of ours.
    let done = unsafe { libc::kill(pid, sig.number()) };
    match done {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            gone if gone.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}

/// Whether there is a process `pid`, dead or alive, that nobody has reaped.
pub(crate) fn exists(pid: i32) -> bool {
    // SAFETY: kill takes two integers and touches no memory of ours; signal 0 is none.
    let there = unsafe { libc::kill(pid, 0) } == 0;
    there || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Sends `sig` to every process of group `pgid`. A group that has gone is not an error.
pub(crate) fn kill_group(pgid: i32, sig: Sig) -> io::Result<()> {
    // 0 is our own group and -1 is everyone: neither is ever what the caller means.
    if pgid <= 1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    kill(-pgid, sig)
}

/// Takes one ended child off the table, if there is one.
pub(crate) fn reap() -> Option<(i32, Ended)> {
    loop {
        let mut status: libc::c_int = 0;
        // SAFETY: `status` lives for the call, and waitpid writes nothing else.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid > 0 {
            let ended = if libc::WIFSIGNALED(status) {
                Ended::Signal(Sig::new(libc::WTERMSIG(status)))
            } else {
                // WEXITSTATUS is the low byte the child passed to exit.
                Ended::Code((libc::WEXITSTATUS(status) & 0xff) as u8)
            };
            return Some((pid, ended));
        }
        if pid == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return None;
        }
    }
}

/// Gives every signal our parent made us ignore its default disposition back, except SIGPIPE.
///
/// An inherited `SIG_IGN` of SIGCHLD would make the kernel reap our children behind our back, and the others would
/// pass on to the app. Call it with all signals blocked, before the first child.
pub(crate) fn undo_inherited_ignores() {
    for number in 1..=libc::SIGRTMAX() {
        if number == libc::SIGPIPE {
            continue;
        }
        // SAFETY: both structs are plain data, zero is a valid value of each, and both live for the calls. SIG_DFL
        // installs no code of ours. The kernel refuses KILL, STOP and what libc reserves; then nothing changes.
        unsafe {
            let mut now: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(number, std::ptr::null(), &raw mut now) == 0
                && now.sa_sigaction == libc::SIG_IGN
            {
                let default: libc::sigaction = std::mem::zeroed();
                libc::sigaction(number, &raw const default, std::ptr::null_mut());
            }
        }
    }
}

/// Marks every descriptor above stderr close-on-exec: whatever our parent leaked to us stays here.
pub(crate) fn keep_descriptors_to_ourselves() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        if fd > 2 {
            // SAFETY: F_SETFD changes one flag of a descriptor number; a closed one gives EBADF and changes nothing.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Removes every variable of ours that is set and empty: how compose files and manifests say "not set".
///
/// Call it before the first thread.
pub(crate) fn forget_empty_variables(prefix: &str) {
    let empty = |(name, value): &(OsString, OsString)| {
        value.is_empty() && name.as_encoded_bytes().starts_with(prefix.as_bytes())
    };
    for (name, _) in std::env::vars_os().filter(empty).collect::<Vec<_>>() {
        // SAFETY: no other thread exists yet, so nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}

/// Sets `name`, or removes it. Call it before the first thread.
pub(crate) fn set_variable(name: &str, value: Option<&OsStr>) {
    // SAFETY: no other thread exists yet, so nobody reads the environment meanwhile.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
}

/// No core dump of ours or the agent's lands anywhere: it would hold the replica's secrets (SUP-207). The app gets back
/// what it had.
pub(crate) fn dump_no_core() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, 0, hard)?;
    CORE.get_or_init(|| libc::rlimit { rlim_cur: soft, rlim_max: hard });
    Ok(())
}

/// The limit we were started with, once it is no longer ours.
static CORE: OnceLock<libc::rlimit> = OnceLock::new();

/// Whether standard input is a terminal and our process group is the one in its foreground.
pub(crate) fn holds_terminal() -> bool {
    // SAFETY: both calls take integers; without a terminal tcgetpgrp answers -1.
    unsafe { libc::tcgetpgrp(0) == libc::getpgrp() }
}

/// Puts our process group back into the foreground. SIGTTOU must be blocked.
pub(crate) fn take_terminal_back() {
    // SAFETY: both calls take integers. A terminal that has gone answers -1, and nothing is left to do.
    unsafe { libc::tcsetpgrp(0, libc::getpgrp()) };
}

/// What a child does between fork and exec.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Birth {
    /// Its own process group; the terminal's foreground group if there is a terminal to hand over.
    App { foreground: bool },
    /// Its own session, so that no terminal signal reaches it; ended if this process dies.
    Restore,
    /// As [`Birth::Restore`], deaf to the signals a platform may broadcast, and with `control` left open. It ends by
    /// itself when `control` reaches end of file.
    Agent { control: RawFd },
}

/// Makes the child of `command` start with default dispositions, an empty signal mask, and the rest of `birth`.
///
/// `locks` are descriptors that it keeps open, so that what they lock stays locked as long as it lives.
pub(crate) fn prepare(command: &mut Command, birth: Birth, locks: &[RawFd]) {
    let mut core = None;
    if let Birth::App { .. } = birth {
        command.process_group(0);
        core = CORE.get().copied();
    }
    let locks = locks.to_vec();
    // SAFETY: the hook runs in the forked child. It makes system calls only (all of them async-signal-safe), takes no
    // lock, allocates nothing, and only reads what it captures.
    unsafe {
        command.pre_exec(move || {
            for lock in &locks {
                check(libc::fcntl(*lock, libc::F_SETFD, 0))?;
            }
            if let Some(core) = &core {
                libc::setrlimit(libc::RLIMIT_CORE, core);
            }
            be_born(birth)
        })
    };
}

/// The signals a platform broadcasts to a whole container (SUP-240).
const BROADCAST: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

fn be_born(birth: Birth) -> io::Result<()> {
    // SAFETY: every call takes integers, or a pointer to a local that outlives it. All signals are still blocked as
    // in our parent, so SIGTTOU cannot stop tcsetpgrp and no signal arrives before its disposition stands.
    unsafe {
        match birth {
            // A terminal that refuses is not a reason not to start the app.
            Birth::App { foreground } => {
                if foreground {
                    libc::tcsetpgrp(0, libc::getpid());
                }
            }
            Birth::Restore => {
                check(libc::setsid())?;
                check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))?;
            }
            Birth::Agent { control } => {
                check(libc::setsid())?;
                check(libc::fcntl(control, libc::F_SETFD, 0))?;
                for number in BROADCAST {
                    libc::signal(number, libc::SIG_IGN);
                }
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()))
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_number_that_means_everyone_is_refused() {
        for pgid in [-5, -1, 0, 1] {
            assert_eq!(kill_group(pgid, Sig::CONT).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn signalling_a_process_that_has_gone_is_no_error() {
        // Above the kernel's highest pid_max.
        assert!(kill(1 << 23, Sig::CONT).is_ok());
    }
}
