//! How the grace period is shared out. Pure functions of the grace and the environment's names.
//!
//! The platform kills the container `G` after the first stop signal and tells nobody what `G` is. Spec §2.4:
//!
//! ```text
//! M  margin      5 % of G, within 0.3 s and 2 s        nothing of ours runs later than G - M
//! O  orphans     0.5 s (G <= 10 s), 1 s (<= 30 s), 2 s  TERM to KILL for what the app leaves behind
//! F  final sync  40 % of G, within 2 s and 20 s         kept free even if the app hangs
//! A  app         G - M - O - F, at least 40 % of G      then SIGKILL for its process group
//! ```
//!
//! Time the app does not use flows to the final sync: its deadline is the absolute `G - M`.

use std::time::Duration;

/// The shares of one grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// From the first stop signal to the platform's SIGKILL.
    pub(crate) grace: Duration,
    /// From the first stop signal to our SIGKILL of the app's group.
    pub(crate) app: Duration,
    /// From SIGTERM to SIGKILL for processes the app left behind.
    pub(crate) orphans: Duration,
    /// From the first stop signal to the moment we stop waiting for the final sync.
    pub(crate) sync_ends: Duration,
}

impl Budget {
    /// Shares for a supervisor with an agent to wait for.
    pub(crate) fn replicated(grace: Duration) -> Self {
        let margin = margin(grace);
        let orphans = orphans(grace);
        let sync = grace.mul_f64(0.4).clamp(Duration::from_secs(2), Duration::from_secs(20));
        let app = grace.saturating_sub(margin + orphans + sync).max(grace.mul_f64(0.4));
        Self { grace, app, orphans, sync_ends: grace.saturating_sub(margin) }
    }

    /// Shares when there is nothing to sync: all but the margin and the orphans is the app's.
    pub(crate) fn ephemeral(grace: Duration) -> Self {
        let (margin, orphans) = (margin(grace), orphans(grace));
        let app = grace.saturating_sub(margin + orphans).max(grace.mul_f64(0.4));
        Self { grace, app, orphans, sync_ends: grace.saturating_sub(margin) }
    }
}

fn margin(grace: Duration) -> Duration {
    grace.mul_f64(0.05).clamp(Duration::from_millis(300), Duration::from_secs(2))
}

fn orphans(grace: Duration) -> Duration {
    Duration::from_millis(match grace.as_secs_f64() {
        g if g <= 10.0 => 500,
        g if g <= 30.0 => 1000,
        _ => 2000,
    })
}

/// A grace period nobody told us, and what made us think so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guess {
    pub(crate) grace: Duration,
    pub(crate) because: &'static str,
}

/// The platform's default grace, from the variables platforms set. No platform publishes the real value.
pub(crate) fn guess(is_set: impl Fn(&str) -> bool) -> Guess {
    let (secs, because) = PLATFORMS
        .into_iter()
        .find(|(variable, ..)| is_set(variable))
        .map_or((10, "Docker's default"), |(_, secs, because)| (secs, because));
    Guess { grace: Duration::from_secs(secs), because }
}

const PLATFORMS: [(&str, u64, &str); 5] = [
    ("NOTIFY_SOCKET", 45, "NOTIFY_SOCKET is set: systemd"),
    ("K_SERVICE", 10, "K_SERVICE is set: Cloud Run"),
    ("ECS_CONTAINER_METADATA_URI_V4", 30, "ECS_CONTAINER_METADATA_URI_V4 is set: ECS"),
    ("CONTAINER_APP_NAME", 30, "CONTAINER_APP_NAME is set: Azure Container Apps"),
    ("KUBERNETES_SERVICE_HOST", 30, "KUBERNETES_SERVICE_HOST is set: Kubernetes"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(d: Duration) -> u128 {
        (d.as_secs_f64() * 1000.0).round() as u128
    }

    #[test]
    fn the_shares_are_those_of_the_specification() {
        // G, M, F, O, A in milliseconds; F is what is left when the app hangs until A.
        for (g, m, f, o, a) in [
            (5_000, 300, 2_000, 500, 2_200),
            (10_000, 500, 4_000, 500, 5_000),
            (30_000, 1_500, 12_000, 1_000, 15_500),
            (60_000, 2_000, 20_000, 2_000, 36_000),
            (120_000, 2_000, 20_000, 2_000, 96_000),
        ] {
            let b = Budget::replicated(Duration::from_millis(g));
            assert_eq!(millis(b.grace - b.sync_ends), m, "margin of {g}");
            assert_eq!(millis(b.orphans), o, "orphans of {g}");
            assert_eq!(millis(b.app), a, "app of {g}");
            assert_eq!(millis(b.sync_ends - b.app - b.orphans), f, "final sync of {g}");
        }
    }

    #[test]
    fn a_tiny_grace_still_gives_the_app_forty_percent() {
        for g in [500u64, 1000, 2000, 3000, 4000] {
            let b = Budget::replicated(Duration::from_millis(g));
            assert_eq!(millis(b.app), u128::from(g * 2 / 5));
            assert!(b.sync_ends <= b.grace);
        }
    }

    #[test]
    fn without_a_replica_the_app_has_nearly_everything() {
        assert_eq!(millis(Budget::ephemeral(Duration::from_secs(10)).app), 9_000);
    }

    #[test]
    fn the_grace_is_guessed_in_the_documented_order() {
        let with = |set: &'static [&str]| guess(move |v| set.contains(&v)).grace.as_secs();
        assert_eq!(with(&[]), 10);
        assert_eq!(with(&["KUBERNETES_SERVICE_HOST"]), 30);
        assert_eq!(with(&["KUBERNETES_SERVICE_HOST", "K_SERVICE"]), 10);
        assert_eq!(with(&["CONTAINER_APP_NAME"]), 30);
        assert_eq!(with(&["ECS_CONTAINER_METADATA_URI_V4"]), 30);
        assert_eq!(with(&["K_SERVICE", "NOTIFY_SOCKET"]), 45);
    }
}
