//! How long a destination has been silent, and whether that is longer than it should take. Values only.

use std::time::Duration;

use crate::store::Unanswered;

/// Of one destination. A hung server shows long before the request is given up.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// The request that is waited for, and since when.
    waiting: Option<(Unanswered, Duration)>,
    told: bool,
}

impl Silence {
    /// This request has been out for longest at `now`.
    pub(super) fn hear(&mut self, now: Duration, out: Option<Unanswered>) {
        let same = self.waiting.as_ref().map(|(asked, _)| asked.number) == out.as_ref().map(|o| o.number);
        if !same {
            (self.waiting, self.told) = (out.map(|out| (out, now)), false);
        }
    }

    /// `put s3://bucket/k: no answer for 7 s`, if it should have come.
    pub(super) fn error(&self, now: Duration) -> Option<String> {
        let (asked, since) = self.waiting.as_ref()?;
        let allowed = PATIENCE + Duration::from_secs(asked.bytes / SLOWEST);
        (now.saturating_sub(*since) >= allowed).then(|| self.words(now)).flatten()
    }

    /// The same, however short it is.
    pub(super) fn words(&self, now: Duration) -> Option<String> {
        let (asked, since) = self.waiting.as_ref()?;
        Some(format!("{}: no answer for {} s", asked.what, now.saturating_sub(*since).as_secs()))
    }

    /// [`Silence::error`], once for each request.
    pub(super) fn news(&mut self, now: Duration) -> Option<String> {
        let error = self.error(now).filter(|_| !self.told)?;
        self.told = true;
        Some(error)
    }
}

/// Longer than an answer takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes a second that are sent at least.
const SLOWEST: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_is_told_once_it_is_longer_than_the_request_should_take() {
        let secs = Duration::from_secs;
        let asked = |number, bytes| Some(Unanswered { number, what: "put s3://b/k".into(), bytes });
        let mut silence = Silence::default();
        silence.hear(secs(1), asked(1, 0));
        silence.hear(secs(5), asked(1, 0));
        assert_eq!((silence.error(secs(5)), silence.news(secs(5))), (None, None));
        let text = Some("put s3://b/k: no answer for 6 s".to_owned());
        assert_eq!((silence.news(secs(7)), silence.news(secs(7))), (text.clone(), None));
        assert_eq!(silence.error(secs(7)), text);
        // Another request, with a megabyte to send.
        silence.hear(secs(8), asked(2, 1 << 20));
        assert_eq!(silence.error(secs(8 + 20)), None);
        assert_eq!(silence.words(secs(9)).unwrap(), "put s3://b/k: no answer for 1 s");
        assert!(silence.error(secs(8 + 21)).is_some());
        silence.hear(secs(30), None);
        assert_eq!((silence.error(secs(90)), silence.words(secs(90))), (None, None));
    }
}
