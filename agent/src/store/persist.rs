//! Requests of an upload in parts, repeated while the service is unavailable. Waits.
//!
//! An upload that begins anew at each fault never ends where faults come more often than it takes. Each of its requests
//! may be sent twice: a part replaces itself, Google ignores bytes it has (docs/performing-resumable-uploads), and whoever
//! completes an upload looks whether it was completed already. How long: as long as other parts get through, and
//! [`OpenOptions::patience`](super::OpenOptions::patience) more.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use object_store::client::HttpRequest;

use super::http::{Dialect, has_parameter};
use crate::durable;
use crate::plan::chance::Dice;
use crate::plan::retry::{self, Class};

/// The patience with one destination.
#[derive(Debug, Default)]
pub(super) struct Persistence(Mutex<Streak>);

/// Failures since the last part that got through.
#[derive(Debug, Default)]
struct Streak {
    since: Option<Instant>,
    failures: u32,
}

impl Persistence {
    pub(super) fn succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Streak::default();
    }

    /// It failed at `now`, as `class` says: how long to wait before the next attempt; `None` when there should be none, because none got
    /// through for as long as `patience`.
    pub(super) fn failed(&self, now: Instant, class: Class, patience: Duration) -> Option<Duration> {
        let mut streak = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *streak.since.get_or_insert(now);
        if now.duration_since(since) >= patience {
            // The upload ends here, and the next one begins with all its patience.
            *streak = Streak::default();
            return None;
        }
        streak.failures += 1;
        Some(retry::request(class, streak.failures, &mut Dice::new(durable::random())))
    }
}

/// A part of an upload, or its end.
pub(super) fn is_part(request: &HttpRequest, dialect: &Dialect) -> bool {
    let method = request.method().as_str();
    match dialect {
        Dialect::S3 => matches!(method, "PUT" | "POST") && has_parameter(request, "uploadId="),
        Dialect::Gcs => method == "PUT" && request.headers().contains_key("content-range"),
        Dialect::Abs(_) => {
            method == "PUT"
                && (has_parameter(request, "comp=block&")
                    || has_parameter(request, "comp=blocklist")
                    || request.uri().query().is_some_and(|q| q.split('&').any(|p| p == "comp=block")))
        }
    }
}

#[cfg(test)]
mod tests {
    use object_store::client::HttpRequestBody;

    use super::*;

    #[test]
    fn patience_ends_so_long_after_the_last_part_got_through() {
        const MINUTE: Duration = Duration::from_secs(60);
        const LONGEST: Duration = Duration::from_secs(5);
        let patience = Persistence::default();
        let mut now = Instant::now();
        for _ in 0..3 {
            let mut waited = Duration::ZERO;
            while waited < Duration::from_secs(45) {
                let pause = patience.failed(now, Class::Passing, MINUTE).expect("there is patience");
                assert!(pause <= LONGEST);
                (now, waited) = (now + pause, waited + pause);
            }
            patience.succeeded();
        }
        let start = now;
        while let Some(pause) = patience.failed(now, Class::Passing, MINUTE) {
            now += pause;
        }
        let took = now - start;
        assert!(took >= MINUTE && took < MINUTE + LONGEST, "{took:?}");
        assert!(
            patience.failed(now, Class::Passing, MINUTE).is_some(),
            "with the next upload it is there again"
        );
        let asked = Duration::from_secs(42);
        assert_eq!(patience.failed(now, Class::Throttled(Some(asked)), MINUTE), Some(asked));
    }

    #[test]
    fn only_what_may_be_sent_twice_is() {
        for (method, uri, dialect, expected) in [
            ("PUT", "http://h/b/k?partNumber=1&uploadId=abc", Dialect::S3, true),
            ("POST", "http://h/b/k?uploadId=abc", Dialect::S3, true),
            ("POST", "http://h/b/k?uploads=", Dialect::S3, false),
            ("PUT", "http://h/b/k", Dialect::S3, false),
            ("DELETE", "http://h/b/k?uploadId=abc", Dialect::S3, false),
            ("PUT", "http://h/c/k?comp=block&blockid=x", Dialect::Abs(None), true),
            ("PUT", "http://h/c/k?blockid=x&comp=block", Dialect::Abs(None), true),
            ("PUT", "http://h/c/k?comp=blocklist", Dialect::Abs(None), true),
            ("PUT", "http://h/c/k", Dialect::Abs(None), false),
            ("PUT", "http://h/b/k", Dialect::Gcs, false),
        ] {
            let mut request = HttpRequest::new(HttpRequestBody::empty());
            *request.method_mut() = method.parse().unwrap();
            *request.uri_mut() = uri.parse().unwrap();
            assert_eq!(is_part(&request, &dialect), expected, "{method} {uri}");
        }
    }
}
