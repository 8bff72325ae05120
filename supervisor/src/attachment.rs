//! Looks which databases our descendants have open. Reads `/proc`, and the first bytes of files they have open.
//!
//! On a thread of its own for each look: a file on a server that does not answer holds whoever touches it, and that must not
//! be PID 1's loop. The files are matched by device and inode; ours are never opened (SUP-201).

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::libc;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::lifecycle::Seen;
use crate::orphans;

/// Where looks are asked for and answered.
#[derive(Debug)]
pub(crate) struct Lookout {
    shared: Arc<Shared>,
    /// The agent of a look that has begun and not been taken.
    without: Option<Option<i32>>,
}

#[derive(Debug)]
struct Shared {
    done: EventFd,
    seen: Mutex<Option<Seen>>,
}

impl Lookout {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let done = EventFd::from_value_and_flags(0, flags)?;
        Ok(Self { shared: Arc::new(Shared { done, seen: Mutex::default() }), without: None })
    }

    /// Begins a look for `databases` among the descendants of this process without the agent's; false while the last one
    /// is not over. Block signals first: the thread inherits the mask.
    pub(crate) fn begin(&mut self, agent: Option<i32>, databases: &[PathBuf]) -> io::Result<bool> {
        if self.without.is_some() {
            return Ok(false);
        }
        let (shared, databases) = (self.shared.clone(), databases.to_vec());
        let me = std::process::id().cast_signed();
        thread::Builder::new().name("look".into()).stack_size(STACK).spawn(move || {
            let seen = look(me, agent, &databases);
            *shared.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
            // A counter that is full wakes the loop as well.
            let _ = shared.done.write(1);
        })?;
        self.without = Some(agent);
        Ok(true)
    }

    /// What a look that is over has found: nothing to go by where there is another agent since, which has the databases
    /// open and may have been taken for the app.
    pub(crate) fn take(&mut self, agent: Option<i32>) -> Option<Seen> {
        self.shared.done.read().ok()?;
        let same = self.without.take() == Some(agent);
        let seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(if same { seen } else { Seen::default() })
    }
}

impl AsFd for Lookout {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.done.as_fd()
    }
}

fn look(me: i32, agent: Option<i32>, databases: &[PathBuf]) -> Seen {
    let ours: HashSet<_> =
        databases.iter().filter_map(|db| Some(identity(&fs::metadata(db).ok()?))).collect();
    let Ok(processes) = orphans::descendants(me, agent) else { return Seen::default() };
    let mut seen = Seen { everything: true, ..Seen::default() };
    let mut files = Files::default();
    for process in &processes {
        let dir = PathBuf::from(format!("/proc/{}/fd", process.pid));
        match open_files(&dir, &ours, &mut files) {
            Ok(Found::Ours) => return Seen { ours: true, ..Seen::default() },
            Ok(Found::Others) => {}
            Ok(Found::TooMany) => seen.everything = false,
            // It has ended since.
            Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => {}
            Err(_) => seen.everything = false,
        }
    }
    seen.others = files.databases();
    seen
}

/// What the descriptors of one process lead to.
enum Found {
    Ours,
    Others,
    /// More than anybody looks at; what was seen counts.
    TooMany,
}

fn open_files(dir: &Path, ours: &HashSet<Identity>, files: &mut Files) -> io::Result<Found> {
    for entry in fs::read_dir(dir)? {
        let Ok(entry) = entry else { continue };
        let link = entry.path();
        // Only what is a file: no pipe is opened, and no tape rewound.
        let Ok(stat) = fs::metadata(&link) else { continue };
        if !stat.is_file() || stat.nlink() == 0 {
            continue;
        }
        if ours.contains(&identity(&stat)) {
            return Ok(Found::Ours);
        }
        if files.known.len() >= MAX_FILES {
            return Ok(Found::TooMany);
        }
        if files.known.insert(identity(&stat))
            && let Ok(path) = fs::read_link(&link)
        {
            files.add(path, is_database(&link));
        }
    }
    Ok(Found::Others)
}

/// The different files seen so far, and which of them are databases.
#[derive(Default)]
struct Files {
    known: HashSet<Identity>,
    by_header: Vec<PathBuf>,
    paths: HashSet<PathBuf>,
}

impl Files {
    fn add(&mut self, path: PathBuf, has_header: bool) {
        if has_header {
            self.by_header.push(path.clone());
        }
        self.paths.insert(path);
    }

    /// By their header, or, where it says nothing because the file is encrypted, by the WAL that is open beside it.
    fn databases(self) -> Vec<String> {
        let mut found: HashSet<PathBuf> = self.by_header.into_iter().collect();
        for path in &self.paths {
            if let Some(base) = without(path, "-wal").or_else(|| without(path, "-shm"))
                && self.paths.contains(&base)
            {
                found.insert(base);
            }
        }
        found.iter().map(|path| path.display().to_string()).collect()
    }
}

fn without(path: &Path, suffix: &str) -> Option<PathBuf> {
    let base = path.as_os_str().as_bytes().strip_suffix(suffix.as_bytes())?;
    Some(PathBuf::from(OsString::from_vec(base.to_vec())))
}

/// Device and inode.
type Identity = (u64, u64);

fn identity(stat: &fs::Metadata) -> Identity {
    (stat.dev(), stat.ino())
}

/// Whether the file behind `link` begins as the databases of SQLite do. It is opened anew: nobody's offset moves.
fn is_database(link: &Path) -> bool {
    let open = || -> io::Result<[u8; 16]> {
        let mut file: File =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(link)?;
        let mut head = [0; 16];
        file.read_exact(&mut head)?;
        Ok(head)
    };
    open().is_ok_and(|head| &head == HEADER)
}

/// <https://www.sqlite.org/fileformat.html#magic_header_string>
const HEADER: &[u8; 16] = b"SQLite format 3\0";
/// What is remembered of one look stays below a megabyte.
const MAX_FILES: usize = 4096;
/// Reads of one header, and of names.
const STACK: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    /// A shell with nothing, whose child has files open, and whose grandchild has more.
    struct Family(Child);

    impl Family {
        fn with(dir: &Path, childs: &str, grandchilds: &str) -> Self {
            let script = format!("(exec {childs}; (exec {grandchilds}; echo up; exec sleep 60); true); true");
            let mut command = Command::new("sh");
            let child = command.args(["-c", &script]).current_dir(dir).stdout(Stdio::piped()).spawn();
            let mut family = Self(child.unwrap());
            let mut line = String::new();
            BufReader::new(family.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "up\n");
            family
        }

        fn pid(&self) -> i32 {
            self.0.id().cast_signed()
        }

        fn look(&self, databases: &[PathBuf]) -> Seen {
            look(self.pid(), None, databases)
        }
    }

    impl Drop for Family {
        fn drop(&mut self) {
            for process in orphans::descendants(self.pid(), None).unwrap() {
                let _ = crate::sys::kill(process.pid, crate::signals::Sig::KILL);
            }
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn scene() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, head: &[u8]| fs::write(dir.path().join(name), head).unwrap();
        for name in ["ours.db", "other.db"] {
            file(name, &[&HEADER[..], &[0; 84]].concat());
        }
        for name in ["text", "secret", "secret-wal", "lonely-wal"] {
            file(name, b"a text of some length");
        }
        file("empty", b"");
        let path = fs::canonicalize(dir.path()).unwrap();
        (dir, path)
    }

    fn paths(dir: &Path, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| dir.join(name).display().to_string()).collect()
    }

    #[test]
    fn t84_a_database_is_found_by_its_header_or_its_wal_and_a_text_is_none() {
        let (_keep, dir) = scene();
        let family =
            Family::with(&dir, "3<text 4<empty 5<lonely-wal", "6<other.db 7<secret 8<secret-wal 9<other.db");
        let mut seen = family.look(&[dir.join("ours.db"), dir.join("not there.db")]);
        seen.others.sort();
        assert_eq!(
            seen,
            Seen { ours: false, others: paths(&dir, &["other.db", "secret"]), everything: true }
        );
    }

    #[test]
    fn t84_ours_is_ours_by_whatever_name_it_is_open() {
        let (_keep, dir) = scene();
        fs::hard_link(dir.join("ours.db"), dir.join("second")).unwrap();
        std::os::unix::fs::symlink(dir.join("ours.db"), dir.join("third")).unwrap();
        for name in ["ours.db", "second", "third"] {
            let family = Family::with(&dir, "3<other.db", &format!("4<{name}"));
            assert!(family.look(&[dir.join("third")]).ours, "{name}");
        }
    }

    #[test]
    fn nothing_is_opened_that_waits_or_does_things_and_no_offset_moves() {
        let (_keep, dir) = scene();
        nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let family = Family::with(&dir, "3<other.db", "4<>fifo 5</dev/zero");
        let seen = family.look(&[]);
        assert_eq!(seen.others, paths(&dir, &["other.db"]));
        let child = orphans::descendants(family.pid(), None).unwrap()[0].pid;
        let info = fs::read_to_string(format!("/proc/{child}/fdinfo/3")).unwrap();
        assert!(info.starts_with("pos:\t0\n"), "{info}");
    }

    #[test]
    fn a_file_that_was_deleted_is_nobodys_wrong_database() {
        let (_keep, dir) = scene();
        let family = Family::with(&dir, "3<text", "4<other.db");
        fs::remove_file(dir.join("other.db")).unwrap();
        assert_eq!(family.look(&[]), Seen { everything: true, ..Seen::default() });
    }

    #[test]
    fn a_process_that_cannot_be_looked_into_leaves_a_doubt() {
        let dir = tempfile::tempdir().unwrap();
        let missing = open_files(&dir.path().join("gone"), &HashSet::new(), &mut Files::default());
        assert!(missing.is_err_and(|e| e.kind() == ErrorKind::NotFound));
        if nix::unistd::geteuid().is_root() {
            return;
        }
        assert!(open_files(Path::new("/proc/1/fd"), &HashSet::new(), &mut Files::default()).is_err());
    }

    #[test]
    fn a_look_is_taken_once_and_only_one_is_under_way() {
        let mut lookout = Lookout::new().unwrap();
        assert_eq!(lookout.take(None), None, "nobody has looked");
        for _ in 0..2 {
            assert!(lookout.begin(None, &[]).unwrap());
            assert!(!lookout.begin(None, &[]).unwrap(), "one is under way");
            let mut ready = [PollFd::new(lookout.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut ready, PollTimeout::from(20_000_u16)).unwrap(), 1);
            assert!(lookout.take(None).is_some());
            assert_eq!(lookout.take(None), None);
        }
    }

    #[test]
    fn what_was_seen_while_the_agent_was_replaced_says_nothing() {
        let (_keep, dir) = scene();
        let ours = [dir.join("ours.db")];
        let _family = Family::with(&dir, "3<ours.db", "4<text");
        let mut lookout = Lookout::new().unwrap();
        for (agent, expected) in [(Some(7), true), (Some(8), false), (None, false)] {
            assert!(lookout.begin(Some(7), &ours).unwrap());
            let mut ready = [PollFd::new(lookout.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut ready, PollTimeout::from(20_000_u16)).unwrap(), 1);
            assert_eq!(lookout.take(agent).map(|seen| seen.ours), Some(expected), "{agent:?}");
        }
    }
}
