//! SIGHUP: reads the configuration again and changes what is running to what it says. Touches the configuration's files.
//!
//! A new configuration that cannot be used is refused as a whole, and the old one goes on.

use std::sync::Arc;

use holdfast_config::Config;

use super::directories::Directories;
use super::fleet::Fleet;
use crate::error::{Error, Kind};
use crate::plan::discovery::Order;
use crate::plan::reload::{Change, Reload, reload};

/// Reads the configuration again.
pub type Reread = Arc<dyn Fn() -> Result<Config, Error> + Send + Sync>;

/// Reads and applies; the configuration that holds from now on, and what the directories called for meanwhile. The
/// supervisor runs what `exec` says; without one nobody does.
pub(super) async fn apply(
    reread: &Reread,
    supervised: bool,
    old: &Config,
    fleet: &mut Fleet,
    directories: &mut Directories,
) -> Result<(Config, Vec<Order>), Error> {
    let reread = reread.clone();
    let new = tokio::task::spawn_blocking(move || reread()).await;
    let new = new.map_err(|e| Error::new(Kind::Bug, "read the configuration", e))??;
    for warning in &new.warnings {
        tracing::warn!("{warning}");
    }
    super::replicate::check(&new).map_err(|(_, cause)| Error::new(Kind::Config, "reload", cause))?;
    if new.exec.is_some() && !supervised {
        return Err(Error::new(Kind::Config, "reload", "`exec` is the supervisor's work: remove the key"));
    }
    fleet.try_stores(&new)?;
    let (orders, present) = directories.reload(&new).await?;
    let running = fleet.running();
    let Reload { changes, fixed } = reload(&running, old, &new, &present);
    for key in fixed {
        tracing::warn!("`{key}` changed in the configuration; it takes effect at the next start");
    }
    let (mut added, mut replaced, mut removed) = (0, 0, 0);
    // What ends comes first: what begins may have to wait for it.
    for change in &changes {
        match change {
            Change::Remove(path) => {
                removed += 1;
                directories.release(path);
                fleet.remove(path, new.shutdown_sync_timeout);
            }
            Change::Replace(one) => {
                replaced += 1;
                directories.adopt(&one.database.path, one.found);
                fleet.replace(one.clone());
            }
            Change::Add(_) => {}
        }
    }
    for change in changes {
        if let Change::Add(one) = change {
            added += 1;
            fleet.start(one)?;
        }
    }
    let kept = running.len() - replaced - removed;
    tracing::info!(added, replaced, removed, kept, "configuration reloaded");
    Ok((new, orders))
}
