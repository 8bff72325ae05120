//! The restore drill: restores the replica to scratch and compares every page with the live database. Reads the
//! replica, the database file and its WAL; writes scratch files only.
//!
//! Litestream 0.3.13 compares a checksum after a RESTART checkpoint that stalls the app's writers (spec
//! litestream-v03 §4). Here the pin stands still instead: the live image at the restored position is the database
//! file under the frames up to there, and no writer notices.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::format::layout::Pos;
use crate::format::wal::{FRAME_HEADER_LEN, FrameHeader, PageSize};
use crate::plan::database::View;
use crate::plan::restore::{Target, Until};
use crate::source::files::Files;
use crate::source::tail::WalBytes;
use crate::store::Store;

use super::restore::{Applied, Options, Outcome, Ownership, Position, Restored, Show, Source, restore};

/// What a drill showed.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Every page is the live database's as of this position.
    Equal(Pos),
    /// The first page that is not, or a size in pages that is not.
    Differs { at: Pos, what: String },
    /// The replica restores to another WAL than the live one; nothing to compare with.
    NotComparable(Pos),
}

/// Restores the generation of `acknowledged` and compares with the incarnation `view` shows.
///
/// No round may run until this returns. One that ended before may have let the WAL restart: what it then holds says
/// nothing about the position, and the verdict is [`Verdict::NotComparable`].
pub(super) async fn drill(
    store: Store,
    acknowledged: Pos,
    files: Files,
    wal: WalBytes,
    view: View,
) -> Result<Verdict, crate::error::Error> {
    use crate::error::{Error, Kind};
    let scratch = std::env::temp_dir().join(format!("holdfast-validate-{:016x}", crate::durable::random()));
    let cleanup = Scratch(scratch.clone());
    std::fs::create_dir(&scratch)
        .map_err(|e| Error::new(Kind::CannotCreate, format!("create {}", scratch.display()), e))?;
    let copy = scratch.join("restored.db");
    let options = Options {
        db: copy.clone(),
        target: Target { generation: Some(acknowledged.generation), until: Until::Latest, level: None },
        parallelism: 2,
        if_db_not_exists: false,
        force: false,
        seen: None,
        dry_run: false,
        ownership: Ownership::default(),
        show: Show::Nothing,
    };
    let source = Source { name: "validation".into(), store };
    let at = match restore(&[source], &options).await? {
        Outcome::Restored(Restored { applied: Applied { position: Position::Wal(at), .. }, .. }) => at,
        Outcome::Restored(_) | Outcome::Exists | Outcome::Bare | Outcome::Planned { .. } | Outcome::Empty => {
            return Err(Error::new(Kind::Unrestorable, "validate", "the replica restores nothing"));
        }
    };
    if at.index != acknowledged.index || at.offset < acknowledged.offset {
        return Ok(Verdict::NotComparable(at));
    }
    let compared = tokio::task::spawn_blocking(move || {
        let verdict = compare(&copy, &files.db, &wal, view.page_size, at.offset);
        drop(cleanup);
        // Looked at last: a WAL that restarts changes its header before any frame.
        let same = wal.header().is_ok_and(|h| h.salt == view.marks.salt);
        verdict.map(|different| same.then_some(different))
    });
    let compared = compared.await.unwrap_or_else(|e| Err(io::Error::other(e)));
    let different =
        compared.map_err(|e| Error::new(Kind::LocalData, "validate: read the live database", e))?;
    Ok(match different {
        None => Verdict::NotComparable(at),
        Some(None) => Verdict::Equal(at),
        Some(Some(what)) => Verdict::Differs { at, what },
    })
}

/// The first difference between `copy` and the live image at WAL offset `end`.
fn compare(
    copy: &Path,
    db: &File,
    wal: &WalBytes,
    page_size: PageSize,
    end: u64,
) -> io::Result<Option<String>> {
    let frame = page_size.frame_len();
    let mut newest: HashMap<u32, u64> = HashMap::new();
    let mut pages = None;
    for n in 0..page_size.frames_at(end).unwrap_or(0) {
        let at = page_size.offset_of(n);
        let mut head = [0; FRAME_HEADER_LEN];
        wal.read(&mut head, at)?;
        let head = FrameHeader::parse(&head);
        newest.insert(head.page, at);
        if head.commit > 0 {
            pages = Some(head.commit);
        }
    }
    let copy = File::open(copy)?;
    let (size, len) = (u64::from(page_size.get()), copy.metadata()?.len());
    let expected = pages.map_or(db.metadata()?.len(), |p| u64::from(p) * size);
    if len != expected {
        return Ok(Some(format!("{} pages restored, {} live", len / size, expected / size)));
    }
    let (mut ours, mut theirs) = (vec![0; size as usize], vec![0; size as usize]);
    for page in 1..=len / size {
        copy.read_exact_at(&mut ours, (page - 1) * size)?;
        match u32::try_from(page).ok().and_then(|p| newest.get(&p)) {
            Some(at) => wal.read(&mut theirs, at + frame - size)?,
            None => db.read_exact_at(&mut theirs, (page - 1) * size)?,
        }
        if ours != theirs {
            return Ok(Some(format!("page {page} differs")));
        }
    }
    Ok(None)
}

/// Removes the scratch directory, whatever happens.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, path = %self.0.display(), "remove scratch");
        }
    }
}
