//! What a destination does when it is asked for what replication and restore ask ([`Store::probe`]), and what that means.

use std::time::Duration;

use holdfast_config::Destination;
use holdfast_config::exit::Exit;
use jiff::Timestamp;

use super::Finding;
use super::grants::{Need, grant};
use crate::error::Error;
use crate::store::{ConditionalCreate, Deleted, Kind, Listed, Probe, RangedReads, Store, StoreError};

/// Goes through every kind of request. `now` is the time of day.
pub(super) async fn examine(
    store: &Store,
    destination: &Destination,
    now: impl Fn() -> Timestamp,
) -> Vec<Finding> {
    let probe = store.probe().await;
    let skew = probe.server_time.map(|there| there.as_millisecond() - now().as_millisecond());
    judge(&probe, skew, destination)
}

/// What the outcomes mean. `skew`: by how many milliseconds the destination's clock is ahead of ours.
fn judge(probe: &Probe, skew: Option<i64>, destination: &Destination) -> Vec<Finding> {
    let put = probe.put.as_ref().err();
    let read = |check, result: Result<Finding, &StoreError>| match result {
        Ok(finding) => finding,
        // A credential that may only read was tried with what an agent had left there.
        Err(e) if e.kind == Kind::NotFound && put.is_some() => {
            Finding::skipped(check, "there is nothing to read")
        }
        Err(e) => unless_after(put, check, e, destination),
    };
    vec![
        put.map_or_else(|| Finding::ok(CREATE, "works"), |e| failed(CREATE, e, destination)),
        read(READ, probe.get.as_ref().map(|()| Finding::ok(READ, "works"))),
        read(RANGED, probe.ranged_reads.as_ref().map(|found| ranged(*found))),
        match &probe.list {
            Ok(Listed::Complete) => Finding::ok(LIST, "works"),
            Ok(Listed::Incomplete) => Finding::failed(
                LIST,
                Exit::Config,
                "an object that was just created is not listed",
                "use a service whose listings are up to date: a restore would miss what was written last",
            ),
            Err(e) => unless_after(put, LIST, e, destination),
        },
        match &probe.conditional_create {
            Ok(found) => once(*found),
            Err(e) => unless_after(put, ONCE, e, destination),
        },
        match &probe.delete {
            Ok(Deleted::Gone) => Finding::ok(DELETE, "works"),
            Ok(Deleted::Kept) => Finding::warning(
                DELETE,
                "answered with success, and the object is still there: retention frees no space",
                "let a lifecycle rule of the bucket delete what retention cannot, or use another service",
            ),
            // Replication goes on without it; only nothing is ever deleted.
            Err(e) if e.kind == Kind::Denied && put.is_none() => Finding::warning(
                DELETE,
                format!("{}; retention deletes nothing, and the object stays", Error::from(e.clone()).cause),
                format!("{}, or let a lifecycle rule of the bucket delete", grant(destination, Need::Delete)),
            ),
            Err(e) => unless_after(put, DELETE, e, destination),
        },
        clock(skew),
    ]
}

/// The finding of a request that failed, unless it was not made because creating had failed.
fn unless_after(
    put: Option<&StoreError>,
    check: &'static str,
    e: &StoreError,
    destination: &Destination,
) -> Finding {
    if put == Some(e) { Finding::skipped(check, "not tried") } else { failed(check, e, destination) }
}

/// The finding of a request that failed.
pub(super) fn failed(check: &'static str, e: &StoreError, destination: &Destination) -> Finding {
    let need = match check {
        READ | RANGED => Need::Read,
        LIST => Need::List,
        DELETE => Need::Delete,
        _ => Need::Create,
    };
    let error = Error::from(e.clone());
    let exit = error.kind.exit().unwrap_or(Exit::Bug);
    let fix = match e.kind {
        Kind::Denied if skewed(&e.cause) => "set this machine's clock, for example by NTP".to_owned(),
        Kind::Denied if unknown_key(&e.cause) => "use keys that the service knows".to_owned(),
        Kind::Denied if let Some(fix) = not_let_in(&e.cause) => fix.to_owned(),
        Kind::Denied => grant(destination, need),
        Kind::BucketMissing => "create it, or correct bucket, region and endpoint".to_owned(),
        Kind::Unavailable => {
            "check from this machine: the name, the port, a proxy or firewall between, the certificate"
                .to_owned()
        }
        Kind::Full => "make room, or raise the quota".to_owned(),
        Kind::NotFound | Kind::Invalid | Kind::Diverged => {
            "check that the endpoint is such a service, and none in between changes what it answers"
                .to_owned()
        }
    };
    Finding::failed(check, exit, error.cause, fix)
}

fn ranged(found: RangedReads) -> Finding {
    match found {
        RangedReads::Honoured => Finding::ok(RANGED, "works"),
        RangedReads::Ignored => Finding::warning(
            RANGED,
            "the whole object comes back: a restore reads more than it needs",
            "nothing, if restores are fast enough",
        ),
    }
}

/// The second creation of a key has to be refused: that is how a second writer is noticed.
fn once(found: ConditionalCreate) -> Finding {
    let how = match found {
        ConditionalCreate::Honoured => return Finding::ok(ONCE, "a second writer is noticed at once"),
        ConditionalCreate::Ignored => "ignored: the second of two creations replaced the first",
        ConditionalCreate::Unsupported => "refused: the service knows no such condition",
    };
    Finding::warning(
        ONCE,
        format!("{how}; each upload is looked at before and after instead"),
        "let no two writers have this path: one of them is noticed late, and may have replaced objects by then",
    )
}

fn clock(skew: Option<i64>) -> Finding {
    let Some(skew) = skew else { return Finding::skipped(CLOCK, "the destination does not say its time") };
    let by = Duration::from_millis(skew.unsigned_abs());
    let side = if skew < 0 { "behind" } else { "ahead of" };
    match by {
        by if by < TOLERATED => Finding::ok(CLOCK, format!("within {} of ours", spoken(TOLERATED))),
        by => Finding::warning(
            CLOCK,
            format!("the destination's clock is {} {side} ours", spoken(by)),
            "set this machine's clock, for example by NTP: restores to a point in time go by these dates, and at \
             15 minutes requests are refused",
        ),
    }
}

fn skewed(cause: &str) -> bool {
    cause.contains("RequestTimeTooSkewed") || cause.contains("RequestExpired")
}

/// What to do where an SFTP server is not trusted, or does not trust us.
fn not_let_in(cause: &str) -> Option<&'static str> {
    if cause.contains(" shows the key ") {
        return Some("make sure of the server's key, and make it known");
    }
    cause
        .contains("does not let ")
        .then_some("correct user, key or password, or let the key in on the server")
}

/// It is the key that is wrong, not what it may do.
fn unknown_key(cause: &str) -> bool {
    [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "no credentials from",
        "AuthenticationFailed",
        "invalid_grant",
    ]
    .iter()
    .any(|code| cause.contains(code))
}

/// `1m 30s`: as a person would say it, without milliseconds.
fn spoken(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

const CREATE: &str = "create";
const READ: &str = "read";
const RANGED: &str = "read a range";
const LIST: &str = "list";
const ONCE: &str = "create once";
const DELETE: &str = "delete";
const CLOCK: &str = "clock";
/// Above what network and whole seconds explain.
const TOLERATED: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn nowhere() -> Destination {
        Destination::File { path: "/nowhere".into() }
    }

    fn verdicts(probe: &Probe) -> Vec<&'static str> {
        let word = |finding: Finding| match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warn",
            Verdict::Failed(_) => "fail",
            Verdict::Skipped => "-",
        };
        judge(probe, Some(0), &nowhere()).into_iter().map(word).collect()
    }

    fn error(kind: Kind) -> StoreError {
        StoreError { kind, verb: "put", object: "s3://b/k".into(), cause: "because".into(), throttled: None }
    }

    async fn works() -> Probe {
        Store::in_memory().probe().await
    }

    #[test]
    fn the_time_a_request_takes_is_no_skew() {
        assert_eq!(clock(Some(-4_999)).verdict, Verdict::Ok);
        assert_eq!(clock(Some(-90_000)).detail, "the destination's clock is 1m 30s behind ours");
        assert_eq!(clock(Some(3_600_000)).detail, "the destination's clock is 1h ahead of ours");
        assert_eq!(clock(None).verdict, Verdict::Skipped);
    }

    #[tokio::test]
    async fn a_destination_that_does_everything_has_nothing_against_it() {
        let store = Store::in_memory();
        let findings = examine(&store, &nowhere(), Timestamp::now).await;
        let bad: Vec<_> = findings.iter().filter(|f| f.verdict != Verdict::Ok && f.check != CLOCK).collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert_eq!(store.list("").await.unwrap(), [], "nothing stays");
    }

    #[tokio::test]
    async fn what_does_not_work_is_told_from_what_was_not_tried() {
        assert_eq!(verdicts(&works().await), ["ok"; 7]);

        let away = error(Kind::Unavailable);
        let probe = Probe {
            put: Err(away.clone()),
            get: Err(away.clone()),
            ranged_reads: Err(away.clone()),
            list: Err(error(Kind::BucketMissing)),
            conditional_create: Err(away.clone()),
            delete: Err(away),
            server_time: None,
        };
        assert_eq!(verdicts(&probe), ["fail", "-", "-", "fail", "-", "-", "ok"]);

        let denied = error(Kind::Denied);
        let reader = Probe {
            put: Err(denied.clone()),
            get: Err(error(Kind::NotFound)),
            ranged_reads: Err(error(Kind::NotFound)),
            conditional_create: Err(denied.clone()),
            delete: Err(denied.clone()),
            ..works().await
        };
        assert_eq!(verdicts(&reader), ["fail", "-", "-", "ok", "-", "-", "ok"]);

        let writer = Probe { delete: Err(denied), ..works().await };
        assert_eq!(verdicts(&writer), ["ok", "ok", "ok", "ok", "ok", "warn", "ok"]);
        let odd = Probe {
            conditional_create: Ok(ConditionalCreate::Ignored),
            ranged_reads: Ok(RangedReads::Ignored),
            delete: Ok(Deleted::Kept),
            list: Ok(Listed::Incomplete),
            ..works().await
        };
        assert_eq!(verdicts(&odd), ["ok", "ok", "warn", "fail", "warn", "warn", "ok"]);
    }
}
