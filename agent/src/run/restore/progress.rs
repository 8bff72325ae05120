//! Showing how far a restore is: a bar on a terminal, lines in a log. Touches stderr and the clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// A bar with rate and estimated end, for a terminal on stderr.
    Bar,
    /// A line in the log now and then.
    Lines,
    Nothing,
}

/// Runs `work` and shows `done` of `total` stored bytes until it ends.
pub(super) async fn shown<T>(show: Show, total: u64, done: &AtomicU64, work: impl Future<Output = T>) -> T {
    let every = match show {
        Show::Bar => Duration::from_millis(100),
        Show::Lines => Duration::from_secs(5),
        Show::Nothing => return work.await,
    };
    let bar = match show {
        Show::Bar => {
            let style =
                ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style)
        }
        Show::Lines | Show::Nothing => ProgressBar::hidden(),
    };
    let start = Instant::now();
    let mut ticks = interval_at(start + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            result = &mut work => {
                bar.finish_and_clear();
                return result;
            }
            _ = ticks.tick() => {
                let done = done.load(Ordering::Relaxed);
                bar.set_position(done);
                if show == Show::Lines {
                    tracing::info!("restoring: {}", line(done, total, start.elapsed()));
                }
            }
        }
    }
}

/// `1.2 GiB of 4.0 GiB, 28 s left`
fn line(done: u64, total: u64, elapsed: Duration) -> String {
    let mut line = format!("{} of {}", HumanBytes(done), HumanBytes(total));
    if done > 0 && done <= total {
        let left = elapsed.mul_f64((total - done) as f64 / done as f64);
        line.push_str(&format!(", {} s left", left.as_secs()));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_estimates_the_end_from_the_rate_so_far() {
        let gib = 1u64 << 30;
        assert_eq!(line(gib, 4 * gib, Duration::from_secs(10)), "1.00 GiB of 4.00 GiB, 30 s left");
        assert_eq!(line(0, gib, Duration::from_secs(1)), "0 B of 1.00 GiB");
    }
}
