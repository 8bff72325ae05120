//! Whether the items of a file get in each other's way: one database twice, two replicas at one place. Values only.

use crate::destination::Destination;
use crate::directory::Directory;
use crate::error::ConfigError;
use crate::model::{Config, Database, Replica};
use crate::reader::Section;

/// Every place a replica of this file writes to, and the replica's name in the file.
#[derive(Default)]
pub(crate) struct Seen {
    places: Vec<(Destination, String)>,
    /// Below each of these, every database of the directory has a place of its own.
    roots: Vec<(Destination, Directory, String)>,
}

impl Seen {
    /// Adds a listed database to `config`, or finds it there.
    pub(crate) fn database<'a>(
        &self,
        at: &Section<'_>,
        config: &'a mut Config,
        found: Database,
    ) -> Result<&'a mut Database, ConfigError> {
        if let Some(directory) = config.directories.iter().find(|d| d.covers(&found.path)) {
            return Err(at.fail("path", covered(&found, directory)).fix(NARROW));
        }
        let index = match config.databases.iter().position(|d| d.path == found.path) {
            Some(index) => {
                at.warn_here(format!(
                    "{} is listed already; these replicas are added to it, other settings here are ignored",
                    found.path.display()
                ));
                index
            }
            None => {
                config.databases.push(found);
                config.databases.len() - 1
            }
        };
        Ok(&mut config.databases[index])
    }

    /// Adds a directory to `config`.
    pub(crate) fn directory(
        &self,
        at: &Section<'_>,
        config: &mut Config,
        found: Directory,
    ) -> Result<(), ConfigError> {
        if let Some(listed) = config.databases.iter().find(|d| found.covers(&d.path)) {
            return Err(at.fail("dir", covered(listed, &found)).fix(NARROW));
        }
        let same = |d: &&Directory| (&d.path, &d.pattern) == (&found.path, &found.pattern);
        if config.directories.iter().any(|d| same(&d)) {
            let problem = format!("{} is listed already with the same pattern", found.path.display());
            return Err(at.fail("dir", problem).fix("keep one of them; it can have several `replicas`"));
        }
        config.directories.push(found);
        Ok(())
    }

    /// Fails on a name the database has already, and on a place any replica writes to already. `directory` is the one
    /// whose databases the replica is of, if it is not one database's.
    pub(crate) fn check(
        &mut self,
        at: &Section<'_>,
        database: &Database,
        directory: Option<&Directory>,
        replica: &Replica,
    ) -> Result<(), ConfigError> {
        if database.replicas.iter().any(|r| r.name == replica.name) {
            return Err(at
                .fail("name", format!("the database has two replicas named {:?}", replica.name))
                .fix("give each a `name` of its own (the default is the type)"));
        }
        let place = &replica.destination;
        if matches!(place, Destination::File { path } if *path == database.path) {
            let it = if directory.is_some() { "directory" } else { "database" };
            return Err(at.fail("path", format!("it is the {it} itself")).fix("name another directory"));
        }
        let other = self.places.iter().find(|(other, _)| match directory {
            None => other.is_at(place),
            Some(directory) => is_used_by(other, directory, place),
        });
        let other = other.map(|(_, name)| name).or_else(|| {
            let root = self.roots.iter().find(|(root, theirs, _)| match directory {
                None => is_used_by(place, theirs, root),
                Some(own) => meet((place, own), (root, theirs)),
            });
            root.map(|(.., name)| name)
        });
        if let Some(first) = other {
            return Err(at
                .fail_here(format!("it writes to {place}, as {first} does"))
                .fix("give each replica a `path` of its own: two writers at one place destroy each other's backups"));
        }
        match directory {
            None => self.places.push((place.clone(), at.name())),
            Some(directory) => self.roots.push((place.clone(), directory.clone(), at.name())),
        }
        Ok(())
    }
}

/// Is `place` where some database of `directory`, whose replicas lie below `root`, may write?
fn is_used_by(place: &Destination, directory: &Directory, root: &Destination) -> bool {
    root.leads_to(place).is_some_and(|rest| directory.covers(&directory.path.join(rest)))
}

/// May a database of the one directory and one of the other write to the same place? Two items of one directory have
/// different databases, or the first that covers one has it.
fn meet(one: (&Destination, &Directory), other: (&Destination, &Directory)) -> bool {
    let reaches = |(root, directory): (&Destination, &Directory), place: &Destination| {
        root.leads_to(place).is_some_and(|rest| rest.is_empty() || directory.recursive)
    };
    one.0.is_at(other.0) && one.1.path == other.1.path && one.1.pattern == other.1.pattern
        || one.1.path != other.1.path && (reaches(one, other.0) || reaches(other, one.0))
}

fn covered(database: &Database, directory: &Directory) -> String {
    format!(
        "{} is listed with `path`, and {} with the pattern {} covers it, too",
        database.path.display(),
        directory.path.display(),
        directory.pattern
    )
}

const NARROW: &str = "remove the one with `path`, or narrow the pattern";
