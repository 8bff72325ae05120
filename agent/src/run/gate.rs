//! How much may be on its way to one destination at a time, so that a thousand databases that start, commit or stop
//! together neither hold all they have to send in memory nor open a thousand connections. Decides who goes; waits.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The gate of one destination. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Semaphore>);

/// Held while something is on its way; dropping it lets the next one go.
#[derive(Debug)]
pub(super) struct Passage(#[expect(dead_code, reason = "held, not read")] Option<OwnedSemaphorePermit>);

impl Gate {
    /// Waits for a turn for `bytes` of plain content, in the order of arrival.
    pub(super) async fn pass(&self, bytes: u64) -> Passage {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).clamp(1, MOST);
        // Nobody closes it.
        Passage(self.0.clone().acquire_many_owned(units).await.ok())
    }

    /// Nobody has it any more.
    pub(super) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(UNITS)))
    }
}

/// What counts as one: so many small uploads at a time, or an eighth as many large ones. Two hundred a second at 100 ms
/// each, and about 50 MB at most.
const UNITS: usize = 24;
const MOST: u32 = 3;
const UNIT: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_ones_go_together_and_large_ones_one_after_another() {
        let gate = Gate::default();
        assert!(gate.is_idle());
        let mut small = Vec::new();
        for _ in 0..UNITS {
            small.push(gate.pass(100).await);
        }
        let waits = gate.clone();
        assert!(!gate.is_idle());
        let late = tokio::spawn(async move { waits.pass(100).await });
        tokio::task::yield_now().await;
        assert!(!late.is_finished(), "all are taken");
        small.pop();
        late.await.unwrap();
        small.clear();
        let mut large = Vec::new();
        for _ in 0..UNITS / MOST as usize {
            large.push(gate.pass(u64::MAX).await);
        }
        assert_eq!(gate.0.available_permits(), 0);
    }
}
