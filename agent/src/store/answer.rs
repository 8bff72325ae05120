//! What the answer of a service means for whoever asked. Values only.

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use super::http::{Answer, Clocks, Refusal, innermost};
use super::words::broken_off;
use super::{Kind, Throttled};

/// What failed, and its cause in words, by the error and by what the server answered.
pub(super) fn explain(e: &Error, refusal: Option<&Refusal>) -> (Kind, String) {
    let by_error = match e {
        Error::NotFound { .. } => Some(Kind::NotFound),
        Error::AlreadyExists { .. } | Error::Precondition { .. } => Some(Kind::Diverged),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Some(Kind::Denied),
        Error::InvalidPath { .. } | Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            Some(Kind::Invalid)
        }
        _ => None,
    };
    match refusal {
        Some(Refusal { answer: Answer::Status { status, code, message, clocks, .. }, credentials_from }) => {
            let mut cause = match (code.is_empty(), message.is_empty()) {
                (true, true) => format!("HTTP {status}"),
                (true, false) => format!("HTTP {status}: {message}"),
                (false, true) => format!("{code} (HTTP {status})"),
                (false, false) => format!("{code} (HTTP {status}): {message}"),
            };
            let mut kind = status_kind(*status, code);
            if code == "RequestTimeTooSkewed" {
                cause = format!("{code} (HTTP {status}): {}", skewed(*clocks));
            }
            if let Some(host) = credentials_from {
                cause = format!("no credentials from {host}: {cause}");
                kind = if kind == Kind::Unavailable { kind } else { Kind::Denied };
            }
            // A refused condition needs no more words than its kind has.
            (kind, if kind == Kind::Diverged { String::new() } else { cause })
        }
        Some(Refusal { answer: Answer::None { text }, credentials_from }) => {
            let mut cause = text.clone();
            if let Some(host) = credentials_from {
                cause = format!("no credentials from {host}: {cause}");
            }
            (Kind::Unavailable, cause)
        }
        None => match by_error {
            Some(kind @ (Kind::NotFound | Kind::Diverged)) => (kind, String::new()),
            Some(kind) => (kind, e.to_string()),
            // One key of a bulk delete.
            None if let Some(code) = bulk_code(e) => {
                let status = code.parse().unwrap_or(200);
                (status_kind(status, &code), code)
            }
            None if broke_off(e) => (Kind::Unavailable, broken_off(e)),
            // A success that says nothing we understand: not a bucket, or one that cannot do what is asked.
            None => (Kind::Invalid, innermost(e)),
        },
    }
}

/// The cause of a failure that may be over at the next attempt. The end of a session is none.
pub(super) fn passing_cause(refusal: &Refusal) -> Option<String> {
    if let Answer::Status { status: 410, .. } = refusal.answer {
        return None;
    }
    let unknown = Error::Generic { store: "", source: "".into() };
    let (kind, cause) = explain(&unknown, Some(refusal));
    (kind == Kind::Unavailable).then_some(cause)
}

/// Whether the service asked to slow down.
pub(super) fn throttled(refusal: Option<&Refusal>) -> Option<Throttled> {
    let Answer::Status { status, code, retry_after, .. } = &refusal?.answer else { return None };
    let asked =
        *status == 429 || THROTTLING.contains(&code.as_str()) || *status == 503 && retry_after.is_some();
    asked.then_some(Throttled { retry_after: *retry_after })
}

/// Of AWS and what speaks its language, Google, Azure.
const THROTTLING: &[&str] = &[
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "RateLimitExceeded",
    "UserRateLimitExceeded",
    "ServerBusy",
];

/// `this machine's clock says 2026-11-21T07:47:26Z, the service's 2026-11-21T09:00:00Z: set it right`
fn skewed(clocks: Clocks) -> String {
    match clocks {
        Clocks { ours: Some(ours), theirs: Some(theirs) } => {
            format!("this machine's clock says {ours}, the service's {theirs}: set this machine's right")
        }
        Clocks { .. } => "this machine's clock is wrong: set it right".into(),
    }
}

/// The error code of one key in the answer to a bulk delete, which `object_store` gives as text only.
fn bulk_code(e: &Error) -> Option<String> {
    let text = e.to_string();
    let (_, code) = text.rsplit_once("(code: ")?;
    Some(code.trim_end_matches(')').to_owned())
}

/// The connection failed while the answer was being read, as opposed to an answer that makes no sense.
fn broke_off(e: &Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(e);
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<HttpError>() {
            return e.kind() != HttpErrorKind::Decode;
        }
        cause = e.source();
    }
    false
}

/// What an HTTP status and a service's error code mean for the caller.
fn status_kind(status: u16, code: &str) -> Kind {
    match (status, code) {
        (_, "NoSuchBucket" | "PermanentRedirect" | "AuthorizationHeaderMalformed" | "InvalidBucketName") => {
            Kind::BucketMissing
        }
        (_, "ContainerNotFound" | "ContainerBeingDeleted" | "InvalidResourceName") => Kind::BucketMissing,
        (_, "QuotaExceeded" | "XMinioStorageFull" | "StorageFull") | (507, _) => Kind::Full,
        (_, "SlowDown" | "RequestTimeout" | "Throttling" | "RequestLimitExceeded") => Kind::Unavailable,
        (_, "RateLimitExceeded" | "UserRateLimitExceeded" | "ServerBusy" | "OperationTimedOut") => {
            Kind::Unavailable
        }
        (_, "ExpiredToken" | "InvalidToken" | "RequestTimeTooSkewed" | "InvalidAuthenticationInfo") => {
            Kind::Denied
        }
        // A token that may create and not overwrite met an object; blocks of an upload went with another's commit.
        (_, "UnauthorizedBlobOverwrite" | "InvalidBlockList") => Kind::Diverged,
        // What a rule of the container keeps from being deleted, or from being asked for by this account.
        (409, "BlobImmutableDueToPolicy" | "PublicAccessNotPermitted") => Kind::Denied,
        (301 | 307 | 308, _) => Kind::BucketMissing,
        (401 | 403, _) | (_, "AccessDenied") => Kind::Denied,
        (404, _) => Kind::NotFound,
        // Two creations at the same moment: the loser may find the key free again, or taken.
        (409, "ConditionalRequestConflict" | "OperationAborted") => Kind::Unavailable,
        (409 | 412, _) => Kind::Diverged,
        // 410: the session of a resumable upload is over.
        (408 | 410 | 425 | 429, _) | (500.., _) | (_, "InternalError") => Kind::Unavailable,
        _ => Kind::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn answers_that_call_for_different_actions_have_different_kinds() {
        for (status, code, kind) in [
            (404, "NoSuchKey", Kind::NotFound),
            (404, "", Kind::NotFound),
            (404, "NoSuchBucket", Kind::BucketMissing),
            (301, "PermanentRedirect", Kind::BucketMissing),
            (403, "AccessDenied", Kind::Denied),
            (403, "SignatureDoesNotMatch", Kind::Denied),
            (400, "ExpiredToken", Kind::Denied),
            (412, "PreconditionFailed", Kind::Diverged),
            (409, "ConditionalRequestConflict", Kind::Unavailable),
            (503, "SlowDown", Kind::Unavailable),
            (429, "", Kind::Unavailable),
            (507, "", Kind::Full),
            (400, "InvalidArgument", Kind::Invalid),
            // Google
            (403, "RateLimitExceeded", Kind::Unavailable),
            (401, "AuthenticationRequired", Kind::Denied),
            (400, "InvalidBucketName", Kind::BucketMissing),
            (412, "", Kind::Diverged),
            // Azure
            (404, "BlobNotFound", Kind::NotFound),
            (404, "ContainerNotFound", Kind::BucketMissing),
            (409, "ContainerBeingDeleted", Kind::BucketMissing),
            (409, "BlobAlreadyExists", Kind::Diverged),
            (412, "ConditionNotMet", Kind::Diverged),
            (403, "AuthenticationFailed", Kind::Denied),
            (403, "AuthorizationPermissionMismatch", Kind::Denied),
            (403, "UnauthorizedBlobOverwrite", Kind::Diverged),
            (409, "BlobImmutableDueToPolicy", Kind::Denied),
            (503, "ServerBusy", Kind::Unavailable),
        ] {
            assert_eq!(status_kind(status, code), kind, "{status} {code}");
        }
    }

    #[test]
    fn a_service_that_asks_for_patience_is_told_from_one_that_fails() {
        let refused = |status, code: &str, retry_after| {
            let code = code.to_owned();
            let answer = Answer::Status {
                status,
                code,
                message: String::new(),
                clocks: Clocks::default(),
                retry_after,
            };
            throttled(Some(&Refusal { answer, credentials_from: None }))
        };
        let after = Some(Duration::from_secs(3));
        for (status, code, retry_after, expected) in [
            (503, "SlowDown", None, true),
            (429, "", None, true),
            (403, "RateLimitExceeded", None, true),
            (503, "ServerBusy", after, true),
            (503, "", after, true),
            (503, "", None, false),
            (500, "InternalError", None, false),
        ] {
            let expected = expected.then_some(Throttled { retry_after });
            assert_eq!(refused(status, code, retry_after), expected, "{status} {code}");
        }
    }

    #[test]
    fn a_wrong_clock_is_told_with_both_times() {
        let e = Error::PermissionDenied { path: "k".into(), source: "forbidden".into() };
        let clocks =
            Clocks { ours: "2026-11-21T07:47:26Z".parse().ok(), theirs: "2026-11-21T09:00:00Z".parse().ok() };
        let (code, message) = ("RequestTimeTooSkewed".to_owned(), "too large".to_owned());
        let answer = Answer::Status { status: 403, code, message, clocks, retry_after: None };
        let (kind, cause) = explain(&e, Some(&Refusal { answer, credentials_from: None }));
        assert_eq!(kind, Kind::Denied);
        assert_eq!(
            cause,
            "RequestTimeTooSkewed (HTTP 403): this machine's clock says 2026-11-21T07:47:26Z, \
             the service's 2026-11-21T09:00:00Z: set this machine's right"
        );
    }
}
