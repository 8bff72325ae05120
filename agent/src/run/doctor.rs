//! `holdfast doctor`: does what replicating and restoring will have to do, once, and says what stands in the way.
//! Writes one small object to each destination and deletes it again; only reads the database.

mod database;
mod destination;
mod grants;

use std::time::Duration;

use futures_util::future::join_all;
use holdfast_config::exit::Exit;
use holdfast_config::{Config, Database, Destination, Directory};

use super::directories;
use crate::store::{OpenOptions, Store};

/// One database or one replica, and what was found.
#[derive(Debug)]
pub struct Examined {
    /// A path, or a place with its scheme and endpoint.
    pub subject: String,
    /// The replica's name in the configuration.
    pub replica: Option<String>,
    pub findings: Vec<Finding>,
}

/// How one check went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// One word for each check, the same on every destination.
    pub check: &'static str,
    pub verdict: Verdict,
    /// What was found, in words.
    pub detail: String,
    /// What to do about it.
    pub fix: Option<String>,
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// It works, and there is something to know.
    Warning,
    /// It does not; the code is that of the commands it would end.
    Failed(Exit),
    /// Nothing is known, because of a finding before it.
    Skipped,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, detail: detail.into(), fix: None }
    }

    fn skipped(check: &'static str, detail: &str) -> Self {
        Self { check, verdict: Verdict::Skipped, detail: detail.to_owned(), fix: None }
    }

    fn warning(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn failed(check: &'static str, exit: Exit, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Failed(exit), detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// Examines every database of `config`, every directory of databases, and all of their replicas.
pub async fn everything(config: &Config) -> Vec<Examined> {
    let mut all = databases(&config.databases).await;
    let found = match config.directories.is_empty() {
        true => Vec::new(),
        false => directories::databases(config),
    };
    for directory in &config.directories {
        let own: Vec<_> = found.iter().filter(|d| directory.covers(&d.path)).collect();
        let findings = vec![directory_holds(directory, own.len())];
        all.push(Examined { subject: directory.path.display().to_string(), replica: None, findings });
        // Of a thousand databases those are of interest with which something is wrong.
        let judged = own.iter().map(|d| (d, database::judge(&database::look(&d.path), d.max_wal_bytes)));
        all.extend(judged.filter_map(|(database, mut findings)| {
            findings.retain(|f| f.verdict != Verdict::Ok);
            let subject = database.path.display().to_string();
            (!findings.is_empty()).then_some(Examined { subject, replica: None, findings })
        }));
        // The place below which each has its own.
        all.extend(replicas(&directory.each).await);
    }
    all
}

fn directory_holds(directory: &Directory, databases: usize) -> Finding {
    let pattern = &directory.pattern;
    match (databases, directory.path.is_dir()) {
        (_, false) => Finding::failed(
            "directory",
            Exit::Config,
            "there is no such directory",
            "create it, mount it, or correct `dir`",
        ),
        (0, true) => Finding::warning(
            "directory",
            format!("no database in it matches {pattern}"),
            "correct `pattern` or `recursive`, unless they are yet to come",
        ),
        (found, true) => {
            let s = if found == 1 { "" } else { "s" };
            Finding::ok("directory", format!("{found} database{s}, as {pattern}"))
        }
    }
}

/// Examines each database and all of its replicas, the destinations at the same time.
pub async fn databases(databases: &[Database]) -> Vec<Examined> {
    let each = databases.iter().map(|database| async {
        let findings = database::judge(&database::look(&database.path), database.max_wal_bytes);
        let subject = database.path.display().to_string();
        let mut all = vec![Examined { subject, replica: None, findings }];
        all.extend(replicas(database).await);
        all
    });
    join_all(each).await.into_iter().flatten().collect()
}

async fn replicas(database: &Database) -> Vec<Examined> {
    let options = OpenOptions::for_database(&database.path);
    let each = database.replicas.iter();
    join_all(each.map(|r| replica(&r.destination, Some(r.name.clone()), options.clone()))).await
}

/// Examines one destination.
pub async fn replica(destination: &Destination, name: Option<String>, options: OpenOptions) -> Examined {
    // Nobody who asks wants to wait for as long as a replication can.
    let options = OpenOptions { read_timeout: READ, request_timeout: REQUEST, ..options };
    let findings = match Store::open(destination, &options) {
        Ok(store) => destination::examine(&store, destination, super::clock::Clock::wall).await,
        Err(e) => vec![destination::failed("open", &e, destination)],
    };
    Examined { subject: destination.to_string(), replica: name, findings }
}

/// The code of the worst finding: what no waiting repairs comes before what it may.
pub fn worst(all: &[Examined]) -> Exit {
    let codes = all.iter().flat_map(|one| &one.findings).filter_map(|finding| match finding.verdict {
        Verdict::Failed(exit) => Some(exit),
        Verdict::Ok | Verdict::Warning | Verdict::Skipped => None,
    });
    let rank = |exit: &Exit| WORST_FIRST.iter().position(|e| e == exit).unwrap_or(WORST_FIRST.len());
    codes.min_by_key(rank).unwrap_or(Exit::Ok)
}

const WORST_FIRST: [Exit; 7] = [
    Exit::LocalData,
    Exit::Unrestorable,
    Exit::Config,
    Exit::Denied,
    Exit::CannotCreate,
    Exit::Busy,
    Exit::Unavailable,
];
const READ: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_and_a_warning_is_none() {
        let examined = |findings: Vec<Finding>| Examined { subject: "x".into(), replica: None, findings };
        let fine =
            examined(vec![Finding::ok("a", ""), Finding::warning("b", "", ""), Finding::skipped("c", "")]);
        assert_eq!(worst(&[]), Exit::Ok);
        assert_eq!(worst(std::slice::from_ref(&fine)), Exit::Ok);
        let away = examined(vec![Finding::failed("a", Exit::Unavailable, "", "")]);
        let forbidden = examined(vec![Finding::failed("a", Exit::Denied, "", "")]);
        assert_eq!(worst(&[fine, away, forbidden]), Exit::Denied);
    }
}
