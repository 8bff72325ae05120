//! Commits as events: inotify on each `-wal`, armed only while somebody would act on one.
//!
//! A busy writer touches its WAL thousands of times a second. A watch is therefore one-shot: it is armed when a
//! replica is ready to send and disarmed by the first event, so that a burst costs one wake-up a sync interval.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::EventKind;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// The process's one inotify instance. Cheap to clone.
#[derive(Clone)]
pub struct Watch {
    targets: Targets,
    watcher: Option<Arc<Mutex<RecommendedWatcher>>>,
}

/// Several may await databases in one directory.
type Targets = Arc<Mutex<HashMap<PathBuf, Vec<Arc<Notify>>>>>;

impl Watch {
    /// Without inotify (no descriptors left, a kernel without it) every `arm` answers `false`.
    pub fn new() -> Self {
        let targets = Targets::default();
        let seen = targets.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if matches!(event.kind, EventKind::Access(_)) {
                return;
            }
            let targets = seen.lock().unwrap_or_else(PoisonError::into_inner);
            for path in &event.paths {
                // A watched directory reports the entry; its watcher asked for the directory.
                let parent = path.parent().and_then(|p| targets.get(p));
                for notify in targets.get(path).into_iter().chain(parent).flatten() {
                    notify.notify_one();
                }
            }
        });
        let watcher = match watcher {
            Ok(w) => Some(Arc::new(Mutex::new(w))),
            Err(error) => {
                tracing::warn!(%error, "watch for commits: falling back to polling at monitor-interval");
                None
            }
        };
        Self { targets, watcher }
    }

    /// Reports the next change of `path`, a file or a directory, to `notify`. `false` when it cannot be watched: poll.
    pub fn arm(&self, path: &Path, notify: &Arc<Notify>) -> bool {
        let Some(watcher) = &self.watcher else { return false };
        let mut watcher = watcher.lock().unwrap_or_else(PoisonError::into_inner);
        self.targets().entry(path.into()).or_default().push(notify.clone());
        // Watching what is watched already renews the watch, on the file that is there now.
        match watcher.watch(path, RecursiveMode::NonRecursive) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "watch for commits");
                self.forget(path, notify);
                false
            }
        }
    }

    /// Ends what `arm` began.
    pub fn disarm(&self, path: &Path, notify: &Arc<Notify>) {
        let Some(watcher) = &self.watcher else { return };
        let mut watcher = watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if self.forget(path, notify) {
            // Fails when the file is gone, and its watch with it.
            let _ = watcher.unwatch(path);
        }
    }

    /// `true` when nobody waits for `path` any more.
    fn forget(&self, path: &Path, notify: &Arc<Notify>) -> bool {
        let mut targets = self.targets();
        let Some(waiting) = targets.get_mut(path) else { return false };
        waiting.retain(|n| !Arc::ptr_eq(n, notify));
        let nobody = waiting.is_empty();
        if nobody {
            targets.remove(path);
        }
        nobody
    }

    fn targets(&self) -> MutexGuard<'_, HashMap<PathBuf, Vec<Arc<Notify>>>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}
