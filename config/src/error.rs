//! What is wrong with a configuration, where, and what to do. Values only; never holds a secret.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::exit::Exit;

/// A configuration that cannot be used. Prints as one line:
///
/// ```text
/// read /etc/litestream.yml:9:9: dbs[0].replicas[0].retention: "7d" is not a duration: unknown unit "d"; write 168h
/// read environment: LITESTREAM_S3_BUCKET: it is empty; set it to the bucket's name
/// read replica URL s3:///db: bucket: it is missing; write s3://BUCKET/PATH
/// find the database: DATABASE_URL says /data/b.db, dbs[0].path in /etc/litestream.yml says /data/a.db; ...
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(Box<Report>);

impl ConfigError {
    pub(crate) fn new(place: Place, key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self(Box::new(Report {
            place,
            at: None,
            key: Some(key.into()).filter(|k| !k.is_empty()),
            problem: problem.into(),
            fix: None,
        }))
    }

    #[must_use]
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.0.fix = Some(fix.into());
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, at: Option<Position>) -> Self {
        self.0.at = at;
        self
    }

    /// The row of the exit code table: always [`Exit::Config`], also for a file that may not be read. A container
    /// that starts without its configuration must not look like one that may be retried.
    pub const fn exit(&self) -> Exit {
        Exit::Config
    }

    /// The key or variable at fault, as the message names it: `dbs[0].replicas[1].sync-interval`.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Where in the file, if it is known.
    pub fn position(&self) -> Option<Position> {
        self.0.at
    }

    /// The configuration file it is about.
    pub fn file(&self) -> Option<&Path> {
        self.0.file()
    }

    /// What is wrong, without the place and the key.
    pub fn problem(&self) -> &str {
        &self.0.problem
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<&str> {
        self.0.fix.as_deref()
    }
}

/// Something in a configuration that has no effect or looks like a mistake. Prints like [`ConfigError`] without the
/// verb: `/etc/litestream.yml:4:5: dbs[0].sync-interval: belongs to a replica; ignored here`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(Box<Report>);

impl Warning {
    pub(crate) fn new(
        place: Place,
        key: impl Into<String>,
        problem: impl Into<String>,
        at: Option<Position>,
    ) -> Self {
        Self(ConfigError::new(place, key, problem).at(at).0)
    }

    /// The key or variable it is about.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref()
    }

    /// Where in the file, if it is known.
    pub fn position(&self) -> Option<Position> {
        self.0.at
    }

    /// The configuration file it is about.
    pub fn file(&self) -> Option<&Path> {
        self.0.file()
    }

    /// What is wrong, without the place and the key.
    pub fn problem(&self) -> &str {
        &self.0.problem
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, false)
    }
}

/// A place in the file. Prints as `LINE:COLUMN`, as editors and compilers have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    File(PathBuf),
    Environment,
    /// Without user, password and query.
    Url(String),
    /// The sources that name the database, taken together.
    DatabasePath,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    place: Place,
    at: Option<Position>,
    key: Option<String>,
    problem: String,
    fix: Option<String>,
}

impl Report {
    fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File(path) => Some(path),
            Place::Environment | Place::Url(_) | Place::DatabasePath => None,
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, verb: bool) -> fmt::Result {
        if verb {
            f.write_str(if self.place == Place::DatabasePath { "find " } else { "read " })?;
        }
        match &self.place {
            Place::File(path) => write!(f, "{}", path.display())?,
            Place::Environment => f.write_str("environment")?,
            Place::Url(url) => write!(f, "replica URL {url}")?,
            Place::DatabasePath => f.write_str("the database")?,
        }
        if let Some(at) = self.at {
            write!(f, ":{at}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.problem)?;
        match &self.fix {
            Some(fix) => write!(f, "; {fix}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, true)
    }
}
