//! Opens replicas so that those in one bucket share what connects to it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_config::Destination;

use crate::store::{OpenOptions, Store, StoreError};

/// What is open, by bucket, credentials and patience. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Stores(Arc<Mutex<Vec<(Destination, Duration, Store)>>>);

impl Stores {
    /// Opens `destination`, as [`Store::open`] does.
    pub(super) fn open(&self, destination: &Destination, options: &OpenOptions) -> Result<Store, StoreError> {
        let Some((root, folder)) = destination.in_bucket() else {
            return Store::open(destination, options);
        };
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            open.iter().find(|(known, patience, _)| *known == root && *patience == options.read_timeout);
        if let Some((.., store)) = known {
            return Ok(store.folder(&folder));
        }
        let store = Store::open(&root, options)?;
        let found = store.folder(&folder);
        open.push((root, options.read_timeout, store));
        Ok(found)
    }
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
        let count = |stores: &Stores| stores.0.lock().unwrap().len();
        assert_eq!(open(&stores, "s3://b/one/a.db?region=eu"), "s3://b/one/a.db");
        assert_eq!(open(&stores, "s3://b/two?region=eu"), "s3://b/two");
        assert_eq!(open(&stores, "s3://b?region=eu"), "s3://b/");
        assert_eq!(count(&stores), 1);
        open(&stores, "s3://b/one?region=us");
        open(&stores, "s3://c/one?region=eu");
        assert_eq!(count(&stores), 3);
        open(&stores, "file:///r");
        assert_eq!(count(&stores), 3);
    }
}
