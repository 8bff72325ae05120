//! Giving up root for good. System calls; decides nothing.
//!
//! What `nix` does not reach: the bounding set, the ambient set and `capset`. Each thread has its own of all of them, so
//! this is for the time before the first thread.

use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, getgroups, setgroups, setresgid, setresuid, setuid};

/// Which step failed, and how.
pub(crate) type Refused = (&'static str, Errno);

/// Becomes `uid`, `gid` with exactly `groups` and no way back (SUP-402).
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Refused> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let groups: Vec<_> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(|e| ("set the groups", e))?;
    empty_bounding_set();
    setresgid(gid, gid, gid).map_err(|e| ("set the group", e))?;
    setresuid(uid, uid, uid).map_err(|e| ("set the user", e))?;
    clear_capabilities().map_err(|e| ("clear the capabilities", e))?;
    // The kernel has promised all of this; a supervisor that is still root by mistake would be worth the check.
    let mut have = getgroups().map_err(|e| ("read the groups", e))?;
    have.sort_unstable_by_key(|gid| gid.as_raw());
    if have != groups {
        return Err(("check the groups", Errno::EINVAL));
    }
    match setuid(Uid::from_raw(0)) {
        Ok(()) => Err(("check that there is no way back", Errno::EINVAL)),
        Err(_) => Ok(()),
    }
}

/// No program of ours or of the app's gets more privileges than we have, whatever its file says (SUP-403).
pub(crate) fn forbid_new_privileges() -> Result<(), Errno> {
    prctl::set_no_new_privs()
}

/// Needs SETPCAP; without it there is nothing in the set that we could use, and no_new_privs keeps it so.
fn empty_bounding_set() {
    for capability in 0..=MAX_CAPABILITY {
        // SAFETY: takes integers; the kernel answers EINVAL for a number it does not know.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
}

/// The sets that a change of user leaves: inheritable and ambient.
fn clear_capabilities() -> Result<(), Errno> {
    // SAFETY: takes integers. A kernel without the ambient set says EINVAL, and then there is nothing in it.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    let header: [u32; 2] = [VERSION_3, 0];
    let none: [u32; 6] = [0; 6];
    // SAFETY: version 3 reads a header of two words and two times three words (capget(2)); both live for the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(Errno::last()) }
}

/// `_LINUX_CAPABILITY_VERSION_3`, which a process may always use to have fewer.
const VERSION_3: u32 = 0x2008_0522;
/// Above every capability there is.
const MAX_CAPABILITY: libc::c_int = 63;
