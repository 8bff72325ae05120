//! Opens replicas so that those in one bucket share what connects to it, and those in one place its gate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_config::{Destination, Sftp};

use super::gate::Gate;
use crate::store::{Ledger, OpenOptions, Requests, Store, StoreError};

/// What is open, by bucket, credentials and patience. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Stores {
    open: Arc<Mutex<Vec<(Destination, Duration, Store)>>>,
    gates: Arc<Mutex<Vec<(Destination, Gate)>>>,
    /// What was sent to the destinations of each type.
    ledgers: Arc<Mutex<BTreeMap<&'static str, Ledger>>>,
}

impl Stores {
    /// Opens `destination`, as [`Store::open`] does.
    pub(super) fn open(&self, destination: &Destination, options: &OpenOptions) -> Result<Store, StoreError> {
        let ledger = lock(&self.ledgers).entry(destination.kind()).or_default().clone();
        let Some((root, folder)) = destination.in_bucket() else {
            let store = Store::open(destination, options)?;
            store.enter(&ledger);
            return Ok(store);
        };
        let mut open = lock(&self.open);
        let known =
            open.iter().find(|(known, patience, _)| *known == root && *patience == options.read_timeout);
        if let Some((.., store)) = known {
            return Ok(store.folder(&folder));
        }
        let store = Store::open(&root, options)?;
        store.enter(&ledger);
        let found = store.folder(&folder);
        open.push((root, options.read_timeout, store));
        Ok(found)
    }

    /// Lets go of what nobody uses any more.
    pub(super) fn keep(&self, used: impl Fn(&Destination) -> bool) {
        lock(&self.open).retain(|(root, ..)| used(root));
    }

    /// The requests sent to destinations of each type (`file`, `s3`, …) since the start, also by replicas that are gone.
    pub(super) fn requests(&self) -> Vec<(&'static str, Requests)> {
        lock(&self.ledgers).iter().map(|(kind, ledger)| (*kind, ledger.read())).collect()
    }

    /// The gate of `destination`: one for a bucket or an SFTP server, and one for the replicas that lie in one
    /// directory.
    pub(super) fn gate(&self, destination: &Destination) -> Gate {
        let place = match destination {
            Destination::File { path } => {
                Destination::File { path: path.parent().unwrap_or(path).to_owned() }
            }
            Destination::S3(_) | Destination::Gcs(_) | Destination::Abs(_) => {
                destination.in_bucket().map_or_else(|| destination.clone(), |(root, _)| root)
            }
            Destination::Sftp(sftp) => Destination::Sftp(Sftp { path: ".".into(), ..sftp.clone() }),
        };
        let mut gates = lock(&self.gates);
        if let Some((_, gate)) = gates.iter().find(|(known, _)| *known == place) {
            return gate.clone();
        }
        gates.retain(|(_, gate)| !gate.is_idle());
        let gate = Gate::default();
        gates.push((place, gate.clone()));
        gate
    }
}

/// Nothing panics while it holds one of these.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_config::{Env, replica_from_url};

    #[test]
    fn replicas_in_one_bucket_share_a_client_and_no_folder() {
        let env = Env::from_pairs([("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "hunter2")]);
        let open = |stores: &Stores, url: &str| {
            let destination = replica_from_url(url, &env).unwrap().destination;
            stores.open(&destination, &OpenOptions::default()).unwrap().to_string()
        };
        let stores = Stores::default();
        let count = |stores: &Stores| stores.open.lock().unwrap().len();
        assert_eq!(open(&stores, "s3://b/one/a.db?region=eu"), "s3://b/one/a.db");
        assert_eq!(open(&stores, "s3://b/two?region=eu"), "s3://b/two");
        assert_eq!(open(&stores, "s3://b?region=eu"), "s3://b");
        assert_eq!(count(&stores), 1);
        open(&stores, "s3://b/one?region=us");
        open(&stores, "s3://c/one?region=eu");
        assert_eq!(count(&stores), 3);
        open(&stores, "file:///r");
        assert_eq!(count(&stores), 3);
        stores.keep(|root| root.to_string().starts_with("s3://c"));
        assert_eq!(count(&stores), 1);
    }
}
