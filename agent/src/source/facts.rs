//! What lies at a database's path before the app has it open. Reads the files, asks SQLite; writes nothing.
//!
//! Not for a process that replicates: closing the database's descriptors drops SQLite's locks (`mod.rs`).
//!
//! SQLite reads without a trace in two ways. Where the WAL holds nothing, the file alone is the database and is opened
//! as *immutable*: no lock, no `-shm`. Where it holds something, in *exclusive mode*: the WAL's index is then kept in
//! memory, and a checkpoint at the end is switched off. If anybody else has the database open, that one is not
//! disturbed: the lock is refused at once and nothing is checked. A rollback journal is left to the app's own SQLite.

use std::fs::{self, File as Handle, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{AccessFlags, access};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::files::beside;
use super::tail::WalBytes;
use crate::durable;
use crate::format::dbfile::{DbHeader, HEADER_LEN};
use crate::format::lineage::Mark;
use crate::format::wal::{Chain, Header};
use crate::plan::start::{Check, Facts, File, Now, Obstacle};
use holdfast_config::volume::{Kind, Volume};

/// How much of the pages SQLite is to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Integrity {
    /// The file's header and size alone.
    None,
    /// As many as 30 ms of a core allow, about 10 MB.
    #[default]
    Quick,
    /// All of them.
    Full,
}

/// Gathers what [`Facts`] says. `network`: a network file system is fine.
///
/// # Errors
/// What the system refuses and no [`Obstacle`] stands for.
pub fn gather(db: &Path, integrity: Integrity, network: bool) -> io::Result<Facts> {
    let mut facts = Facts {
        obstacle: obstacle(db, network)?,
        file: File::Nothing,
        wal: None,
        committed: false,
        journal: None,
        tables: None,
        check: Check::Skipped,
    };
    if facts.obstacle.is_some() {
        return Ok(facts);
    }
    let real = db.canonicalize().unwrap_or_else(|_| db.to_owned());
    facts.wal = len(&beside(&real, "-wal"))?;
    facts.journal = len(&beside(&real, "-journal"))?;
    facts.committed = facts.wal.is_some_and(|len| len > 0) && has_commit(&beside(&real, "-wal"))?;
    if let Some(len) = len(&real)? {
        let mut bytes = [0; HEADER_LEN];
        let read = Handle::open(&real)?.read_at(&mut bytes, 0)?;
        let header = (read > 0).then(|| DbHeader::parse(&bytes[..read]));
        let sound = matches!(header, Some(Ok(_)));
        facts.file = File::Bytes { len, header };
        // A journal that SQLite would roll back: the pages are those of a transaction half written.
        if sound && facts.journal.unwrap_or(0) == 0 {
            (facts.tables, facts.check) = ask(&real, facts.committed, integrity);
        }
    }
    Ok(facts)
}

/// What the WAL holds beside `mark`; `None` where there is no WAL to speak of.
pub fn beside_mark(db: &Path, mark: &Mark) -> Option<Now> {
    let real = db.canonicalize().ok()?;
    let handle = Handle::open(beside(&real, "-wal")).ok()?;
    let len = handle.metadata().ok()?.len();
    let wal = WalBytes::Live(Arc::new(handle));
    let header = wal.header().ok()?;
    let frame = header.page_size.frame_len();
    let last = wal.frame_before(mark.end, frame).ok().flatten();
    let goes_on = || -> Option<bool> {
        let mut chain = wal.chain_at(&header, mark.end).ok()?;
        let mut next = vec![0; chain.frame_len()];
        wal.read(&mut next, mark.end).ok()?;
        Some(chain.verify(&next).is_ok())
    };
    Some(Now { salt: header.salt, len, last, goes_on: goes_on().unwrap_or(false) })
}

/// The last write to the database or its WAL.
pub fn written(db: &Path) -> Option<jiff::Timestamp> {
    let real = db.canonicalize().ok()?;
    let at = |path: PathBuf| path.metadata().and_then(|m| m.modified()).ok()?.try_into().ok();
    [at(real.clone()), at(beside(&real, "-wal"))].into_iter().flatten().max()
}

fn obstacle(db: &Path, network: bool) -> io::Result<Option<Obstacle>> {
    let parent = durable::parent(db);
    let there = match fs::metadata(db) {
        Ok(meta) if !meta.is_file() => return Ok(Some(Obstacle::NoFile)),
        Ok(_) => true,
        Err(e) if e.kind() == ErrorKind::NotFound => match fs::symlink_metadata(db) {
            // A link to nowhere: whatever is made of it lies somewhere else than anybody thinks.
            Ok(_) => return Ok(Some(Obstacle::NoFile)),
            Err(_) => false,
        },
        Err(e) => return refused(e),
    };
    // The nearest directory there is: those below it can be made.
    let mut dir = PathBuf::from(parent);
    while !dir.exists() && dir.pop() {}
    if dir.as_os_str().is_empty() {
        dir.push(".");
    }
    if !dir.is_dir() {
        return Ok(Some(Obstacle::NoDirectory));
    }
    if let Ok(volume) = Volume::of(&dir)
        && volume.kind == Kind::Network
        && !network
    {
        return Ok(Some(Obstacle::Network));
    }
    let rights = AccessFlags::R_OK | AccessFlags::W_OK;
    let asked = match there {
        // With its WAL there, nothing has to be made in the directory.
        true if beside(db, "-wal").exists() => access(db, rights),
        true => access(db, rights).and_then(|()| access(&dir, rights | AccessFlags::X_OK)),
        false => access(&dir, rights | AccessFlags::X_OK),
    };
    match asked {
        Ok(()) => Ok(None),
        Err(errno) => refused(errno.into()),
    }
}

fn refused(e: io::Error) -> io::Result<Option<Obstacle>> {
    match e.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => Ok(Some(Obstacle::Denied)),
        Some(Errno::EROFS) => Ok(Some(Obstacle::ReadOnly)),
        Some(Errno::ENOTDIR) => Ok(Some(Obstacle::NoDirectory)),
        Some(Errno::ELOOP) => Ok(Some(Obstacle::NoFile)),
        _ => Err(e),
    }
}

fn len(path: &Path) -> io::Result<Option<u64>> {
    match fs::metadata(path).map(|m: Metadata| m.len()) {
        Ok(len) => Ok(Some(len)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Does the WAL begin with a whole transaction? Reads as far as the first one goes.
fn has_commit(path: &Path) -> io::Result<bool> {
    let wal = WalBytes::Live(Arc::new(Handle::open(path)?));
    let Ok(header) = wal.header() else { return Ok(false) };
    let mut chain = Chain::start(&Header { ..header });
    let mut frame = vec![0; chain.frame_len()];
    loop {
        match wal.read(&mut frame, chain.offset) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
        match chain.verify(&frame) {
            Ok(head) if head.commit > 0 => return Ok(true),
            Ok(_) => {}
            Err(_) => return Ok(false),
        }
    }
}

fn ask(db: &Path, in_wal: bool, integrity: Integrity) -> (Option<u64>, Check) {
    let mut tables = None;
    let check = asked(db, in_wal, integrity, &mut tables).unwrap_or_else(|e| match e.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Check::Damaged(e.to_string()),
        Some(ErrorCode::SystemIoFailure) => Check::Damaged(format!("read it: {e}")),
        Some(ErrorCode::OperationInterrupted) => Check::Part,
        _ => {
            tracing::debug!(error = %e, "look into the database");
            Check::Skipped
        }
    });
    (tables, check)
}

fn asked(db: &Path, in_wal: bool, integrity: Integrity, tables: &mut Option<u64>) -> rusqlite::Result<Check> {
    let mut conn = open(db, in_wal)?;
    if !in_wal {
        *tables = Some(conn.query_row(TABLES, [], |row| row.get::<_, i64>(0))?.cast_unsigned());
    }
    let allowed = match integrity {
        Integrity::None => return Ok(Check::Skipped),
        Integrity::Quick => Some(ALLOWED),
        Integrity::Full => None,
    };
    if let Some((core, wall)) = allowed {
        let (started, spent) = (Instant::now(), core_time());
        let over = move || core_time().saturating_sub(spent) > core || started.elapsed() > wall;
        conn.progress_handler(STEPS, Some(over))?;
    }
    let mut statement = conn.prepare("PRAGMA quick_check(20)")?;
    let lines =
        statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(match lines.iter().flat_map(|text| text.lines()).find(|line| is_structural(line)) {
        Some(line) => Check::Damaged(line.to_owned()),
        None => Check::Whole,
    })
}

/// A page that is not what it has to be. What an application may do to itself (a row that breaks a constraint added
/// later) and what only wastes space (a page nobody uses) is no reason to keep it from its database.
fn is_structural(line: &str) -> bool {
    ["Tree ", "Freelist: "].iter().any(|start| line.starts_with(start))
}

fn open(db: &Path, in_wal: bool) -> rusqlite::Result<Connection> {
    if in_wal {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(db, flags)?;
        conn.busy_timeout(Duration::ZERO)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        conn.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA query_only = 1;")?;
        return Ok(conn);
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let path: String = db.as_os_str().as_encoded_bytes().iter().map(|byte| escaped(*byte)).collect();
    Connection::open_with_flags(format!("file:{path}?immutable=1"), flags)
}

/// A byte of a path as a URI has it.
fn escaped(byte: u8) -> String {
    match byte {
        b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

/// What this thread has had of a core: a busy machine does not make the check shorter.
fn core_time() -> Duration {
    let of = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or(0))
    };
    getrusage(UsageWho::RUSAGE_THREAD)
        .map_or(Duration::ZERO, |usage| of(usage.user_time()) + of(usage.system_time()))
}

/// Tables and views that are neither SQLite's nor Litestream's.
const TABLES: &str = "SELECT count(*) FROM sqlite_schema WHERE type IN ('table', 'view') \
                      AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_litestream\\_%' ESCAPE '\\'";
/// Of a core, and of patience with a slow disk.
const ALLOWED: (Duration, Duration) = (Duration::from_millis(30), Duration::from_secs(2));
/// Steps of SQLite between two looks at the clock.
const STEPS: i32 = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::start::Found;
    use std::os::unix::fs::MetadataExt;

    fn database(dir: &Path, sql: &str) -> PathBuf {
        let db = dir.join("a b%.db");
        let conn = Connection::open(&db).unwrap();
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
        conn.execute_batch(&format!("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; {sql}")).unwrap();
        db
    }

    const ROWS: &str =
        "CREATE TABLE t(a); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200)
                        INSERT INTO t SELECT randomblob(500) FROM n;";

    fn checkpointed(dir: &Path) -> PathBuf {
        let db = database(dir, ROWS);
        Connection::open(&db).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        db
    }

    /// Names, sizes, dates and inodes of everything in a directory.
    fn traces(dir: &Path) -> Vec<(String, u64, i64, i64, u64, Vec<u8>)> {
        let mut all: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| {
                let e = e.unwrap();
                let m = e.metadata().unwrap();
                let bytes = fs::read(e.path()).unwrap();
                (e.file_name().into_string().unwrap(), m.ino(), m.mtime(), m.mtime_nsec(), m.len(), bytes)
            })
            .collect();
        all.sort();
        all
    }

    fn found(db: &Path) -> Found {
        gather(db, Integrity::Quick, false).unwrap().found()
    }

    #[test]
    fn a_look_leaves_no_trace_whatever_the_wal_holds() {
        for make in [checkpointed, |dir: &Path| database(dir, ROWS)] {
            let dir = tempfile::tempdir().unwrap();
            let db = make(dir.path());
            for shm in [true, false] {
                if !shm {
                    let _ = fs::remove_file(beside(&db, "-shm"));
                }
                let before = traces(dir.path());
                for integrity in [Integrity::None, Integrity::Quick, Integrity::Full] {
                    let facts = gather(&db, integrity, false).unwrap();
                    assert_eq!(facts.found(), Found::Database);
                    assert_eq!(facts.check == Check::Whole, integrity != Integrity::None, "{facts:?}");
                }
                assert_eq!(traces(dir.path()), before);
            }
        }
    }

    #[test]
    fn a_database_that_somebody_has_open_is_not_disturbed() {
        let dir = tempfile::tempdir().unwrap();
        let db = database(dir.path(), ROWS);
        let app = Connection::open(&db).unwrap();
        app.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(1)").unwrap();
        // Locks of one process do not conflict with each other: ask from another one.
        let asked = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "source::facts::tests::looks_from_another_process", "--nocapture"])
            .env("HOLDFAST_TEST_DB", &db)
            .output()
            .unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stdout));
        app.execute_batch("COMMIT").unwrap();
    }

    /// The other process of the test above.
    #[test]
    fn looks_from_another_process() {
        let Some(db) = std::env::var_os("HOLDFAST_TEST_DB") else { return };
        let facts = gather(Path::new(&db), Integrity::Full, false).unwrap();
        assert_eq!((facts.check.clone(), facts.found()), (Check::Skipped, Found::Database));
    }

    #[test]
    fn t59_damage_is_found_in_the_header_in_a_page_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let db = checkpointed(dir.path());
        let good = fs::read(&db).unwrap();
        let broken = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            fs::write(&db, bytes).unwrap();
            found(&db)
        };
        assert_eq!(broken(&|_| ()), Found::Database);
        assert!(matches!(broken(&|b| b[3] ^= 0xff), Found::Corrupt(_)), "the magic");
        assert!(matches!(broken(&|b| b[16] = 3), Found::Corrupt(_)), "the page size");
        assert!(matches!(broken(&|b| b[6 * 4096..6 * 4096 + 64].fill(0xff)), Found::Corrupt(_)), "page 7");
        assert!(matches!(broken(&|b| b.truncate(5 * 4096)), Found::Corrupt(_)), "its end");
        assert!(matches!(broken(&|b| b.truncate(40)), Found::Corrupt(_)));
    }

    #[test]
    fn a_broken_constraint_is_the_applications_own_affair() {
        let dir = tempfile::tempdir().unwrap();
        let sql = "CREATE TABLE t(a); INSERT INTO t VALUES(NULL); PRAGMA writable_schema=1;
                   UPDATE sqlite_schema SET sql='CREATE TABLE t(a NOT NULL CHECK(a>0))';";
        assert_eq!(found(&database(dir.path(), sql)), Found::Database);
    }

    #[test]
    fn a_file_without_tables_is_empty_unless_its_wal_has_some() {
        let dir = tempfile::tempdir().unwrap();
        let db = dir.path().join("a.db");
        assert_eq!(found(&db), Found::Missing);
        fs::write(&db, b"").unwrap();
        assert_eq!(found(&db), Found::Empty);
        fs::remove_file(&db).unwrap();
        let conn = Connection::open(&db).unwrap();
        conn.execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE _litestream_seq(a); PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .unwrap();
        assert_eq!(found(&db), Found::Empty);
        conn.execute_batch("CREATE TABLE sqliteish(a)").unwrap();
        assert_eq!(found(&db), Found::Database);
        conn.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        assert_eq!(found(&db), Found::Database);
    }

    #[test]
    fn t60_what_cannot_hold_a_database_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("directory")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        fs::write(at("file"), b"x").unwrap();
        for (path, obstacle) in [
            (at("directory"), Obstacle::NoFile),
            (at("dangling"), Obstacle::NoFile),
            ("/dev/null".into(), Obstacle::NoFile),
            (at("file/app.db"), Obstacle::NoDirectory),
            ("/proc/app.db".into(), Obstacle::Denied),
        ] {
            let found = found(&path);
            // Root may write everywhere but where there is nothing to write to.
            let root = obstacle == Obstacle::Denied && nix::unistd::geteuid().is_root();
            assert!(root || found == Found::Unusable(obstacle), "{}: {found:?}", path.display());
        }
        assert_eq!(found(&at("new/below/app.db")), Found::Missing);
    }
}
