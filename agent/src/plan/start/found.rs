//! What lies at a database's path. Facts that others have gathered in, one word out.

use crate::format::dbfile::{DbFault, DbHeader};

/// What was seen of a database, its companions and its volume, without writing anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub obstacle: Option<Obstacle>,
    pub file: File,
    /// Bytes of the `-wal`; `None` if there is none.
    pub wal: Option<u64>,
    /// The `-wal` holds at least one whole transaction.
    pub committed: bool,
    /// Bytes of the `-journal`; `None` if there is none.
    pub journal: Option<u64>,
    /// Tables an application has made; `None` where nobody could look.
    pub tables: Option<u64>,
    pub check: Check,
}

/// The file at the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    Nothing,
    Bytes {
        len: u64,
        /// `None` of a file without any.
        header: Option<Result<DbHeader, DbFault>>,
    },
}

/// Why no database can live there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// A directory, a device, a link to nowhere.
    NoFile,
    /// What should be its directory is a file.
    NoDirectory,
    /// This user may not read or write it, or make files beside it.
    Denied,
    /// Mounted read-only.
    ReadOnly,
    /// On a network, where SQLite's WAL does not work.
    Network,
}

/// What SQLite says of the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// All of them were looked at.
    Whole,
    /// As many as there was time for.
    Part,
    /// None: nobody asked, or it could not be asked without disturbing somebody.
    Skipped,
    /// What it found.
    Damaged(String),
}

/// What it comes to. What the replica makes of a database is [`super::Standing`]'s question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Missing,
    OrphanWal,
    Empty,
    Database,
    /// And what is wrong.
    Corrupt(String),
    Unusable(Obstacle),
}

impl Facts {
    /// Sorts out what was seen.
    ///
    /// A `-journal` beside a database is SQLite's to roll back, and says nothing against the database. A file without
    /// pages beside a WAL with transactions is one whose app was killed before the first checkpoint: data.
    pub fn found(&self) -> Found {
        if let Some(obstacle) = self.obstacle {
            return Found::Unusable(obstacle);
        }
        let hot = self.journal.is_some_and(|len| len > 0);
        match &self.file {
            File::Nothing if hot || self.wal.is_some_and(|len| len > WAL_HEADER) => Found::OrphanWal,
            File::Nothing => Found::Missing,
            File::Bytes { header: None, .. } if self.committed => Found::Database,
            File::Bytes { header: None, .. } => Found::Empty,
            File::Bytes { header: Some(Err(fault)), .. } => Found::Corrupt(fault.to_string()),
            File::Bytes { len, header: Some(Ok(header)) } => {
                if let Check::Damaged(what) = &self.check {
                    return Found::Corrupt(what.clone());
                }
                if !self.committed && !hot {
                    if let Some(short) = too_short(*len, header) {
                        return Found::Corrupt(short);
                    }
                    if self.tables == Some(0) {
                        return Found::Empty;
                    }
                }
                Found::Database
            }
        }
    }
}

/// A file that lacks pages its header counts. Only where no log could hold them.
fn too_short(len: u64, header: &DbHeader) -> Option<String> {
    let pages = u64::from(header.pages?);
    let wanted = pages * u64::from(header.page_size.get());
    (len < wanted).then(|| format!("{len} bytes long, and its header counts {pages} pages: {wanted} bytes"))
}

/// A WAL no longer than its header holds nothing.
const WAL_HEADER: u64 = crate::format::wal::HEADER_LEN as u64;
