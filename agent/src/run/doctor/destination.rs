//! What a destination does when it is asked for what replication and restore ask: through [`Store`], with one object.
//!
//! The object lies in a folder of its own, `holdfast-doctor/`, which neither we nor Litestream take for a part of a
//! replica. It is deleted again unless that is what does not work.

use std::time::{Duration, Instant};

use bytes::Bytes;
use holdfast_config::Destination;
use holdfast_config::exit::Exit;
use jiff::Timestamp;

use super::Finding;
use super::grants::{Need, grant};
use crate::error::Error;
use crate::run::survey::Survey;
use crate::store::{Kind, Object, Put, Store, StoreError};

/// Goes through every kind of request. `random` names the object, `now` is the time of day.
pub(super) async fn examine(
    store: &Store,
    destination: &Destination,
    random: u64,
    now: impl Fn() -> Timestamp,
) -> Vec<Finding> {
    let key = format!("{FOLDER}/{random:016x}");
    let (before, began) = (now(), Instant::now());
    let mut findings = Vec::new();
    match store.put(&key, body(0)).await {
        Ok(_) => findings.push(Finding::ok(CREATE, took(began))),
        Err(e) => {
            let denied = e.kind == Kind::Denied;
            findings.push(failed(CREATE, &e, destination));
            match denied {
                // A credential that may only read is what a restore needs.
                true => read_only(store, destination, &mut findings).await,
                false => findings.extend(ALL[1..].iter().map(|check| Finding::skipped(check, "not tried"))),
            }
            return findings;
        }
    }
    let after = now();
    findings.push(read(store, destination, &key).await);
    findings.push(
        range(store, destination, &key, RANGE.start, &body(0)[RANGE.start as usize..RANGE.end as usize])
            .await,
    );
    let (listed, found) = list(store, destination, &key).await;
    findings.push(listed);
    findings.push(create_once(store, destination, &key).await);
    findings.push(delete(store, destination, &key).await);
    findings.push(match found {
        Some(object) => clock(skew(object.created, before, after)),
        None => Finding::skipped(CLOCK, "the listing shows no date"),
    });
    findings
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

async fn read(store: &Store, destination: &Destination, key: &str) -> Finding {
    let began = Instant::now();
    match store.get(key, None).await {
        Ok(found) if found == body(0) => Finding::ok(READ, took(began)),
        Ok(found) => other_bytes(READ, found.len()),
        Err(e) => failed(READ, &e, destination),
    }
}

async fn range(store: &Store, destination: &Destination, key: &str, from: u64, expected: &[u8]) -> Finding {
    let began = Instant::now();
    match store.get(key, Some(from..from + expected.len() as u64)).await {
        Ok(found) if found == expected => Finding::ok(RANGED, took(began)),
        Ok(found) => other_bytes(RANGED, found.len()),
        Err(e) => failed(RANGED, &e, destination),
    }
}

async fn list(store: &Store, destination: &Destination, key: &str) -> (Finding, Option<Object>) {
    let began = Instant::now();
    match store.list(FOLDER).await {
        Ok(all) => match all.into_iter().find(|object| object.key == key) {
            Some(object) => (Finding::ok(LIST, took(began)), Some(object)),
            None => {
                let detail = "an object that was just created is not listed";
                let fix =
                    "use a service whose listings are up to date: a restore would miss what was written last";
                (Finding::failed(LIST, Exit::Config, detail, fix), None)
            }
        },
        Err(e) => (failed(LIST, &e, destination), None),
    }
}

/// The second creation of a key has to be refused: that is how a second writer is noticed.
async fn create_once(store: &Store, destination: &Destination, key: &str) -> Finding {
    match store.put(key, body(1)).await {
        Err(e) if e.kind == Kind::Diverged => Finding::ok(ONCE, "a second writer is noticed at once"),
        Ok(Put::Created | Put::AlreadyThere) => Finding::warning(
            ONCE,
            "ignored: the second of two creations replaced the first",
            "let no two writers have this path; one is only noticed by what it leaves in the listing",
        ),
        Err(e) => failed(ONCE, &e, destination),
    }
}

async fn delete(store: &Store, destination: &Destination, key: &str) -> Finding {
    let began = Instant::now();
    let done = store.delete(&[key.to_owned()]).await;
    let done = done.and_then(|all| all.into_iter().next().map_or(Ok(()), |(_, result)| result));
    match done {
        Ok(()) => match store.get(key, None).await {
            Err(e) if e.kind == Kind::NotFound => Finding::ok(DELETE, took(began)),
            // Without the right to list, S3 does not say whether what is asked for exists.
            Err(_) => Finding::ok(DELETE, took(began)),
            Ok(_) => Finding::warning(
                DELETE,
                format!("answered with success, and {key} is still there"),
                "let a lifecycle rule of the bucket delete what retention cannot, or use another service",
            ),
        },
        // Replication goes on without it; only nothing is ever deleted.
        Err(e) if e.kind == Kind::Denied => Finding::warning(
            DELETE,
            format!("{}; retention deletes nothing, and {key} stays", Error::from(e).cause),
            format!("{}, or let a lifecycle rule of the bucket delete", grant(destination, Need::Delete)),
        ),
        Err(e) => failed(DELETE, &e, destination),
    }
}

/// What a credential that may not write can do: as much as a restore needs.
async fn read_only(store: &Store, destination: &Destination, findings: &mut Vec<Finding>) {
    let began = Instant::now();
    let (listed, key) = match Survey::of(store).await {
        Ok(survey) => (Finding::ok(LIST, took(began)), anything(&survey, store)),
        Err(e) => (failed(LIST, &e, destination), None),
    };
    findings.push(match key {
        Some(key) => match store.get(&key, Some(0..1)).await {
            Ok(_) => Finding::ok(READ, "this credential can restore"),
            Err(e) => failed(READ, &e, destination),
        },
        None => Finding::skipped(READ, "there is nothing to read"),
    });
    findings.push(listed);
    findings.extend([ONCE, DELETE, CLOCK].map(|check| Finding::skipped(check, "not tried")));
}

/// An object of the replica. None of them is empty.
fn anything(survey: &Survey, store: &Store) -> Option<String> {
    let file = || survey.files.iter().next().map(|file| file.name.key(store.ltx_layout()));
    survey.objects.first().map(|object| object.key.clone()).or_else(file)
}

/// How far the destination's date of an object lies outside the time in which it was created; ahead of us is positive.
fn skew(created: Timestamp, before: Timestamp, after: Timestamp) -> i64 {
    let (created, before, after) =
        (created.as_millisecond(), before.as_millisecond(), after.as_millisecond());
    // Most services keep whole seconds, cut off.
    match created {
        created if created > after => created - after,
        created if created + 999 < before => created + 999 - before,
        _ => 0,
    }
}

fn clock(skew: i64) -> Finding {
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

fn other_bytes(check: &'static str, len: usize) -> Finding {
    let detail = format!("{len} bytes came back, and not those that were written");
    Finding::failed(
        check,
        Exit::Unrestorable,
        detail,
        "find out what lies between this machine and the service, and changes what it answers",
    )
}

fn skewed(cause: &str) -> bool {
    cause.contains("RequestTimeTooSkewed") || cause.contains("RequestExpired")
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

/// 4 KiB, the same every time.
fn body(which: u8) -> Bytes {
    (0..4096_u32).map(|i| (i % 251) as u8 ^ which).collect::<Vec<_>>().into()
}

fn took(began: Instant) -> String {
    format!("{} ms", began.elapsed().as_millis())
}

/// `1m 30s`: as a person would say it, without milliseconds.
fn spoken(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

const FOLDER: &str = "holdfast-doctor";
const CREATE: &str = "create";
const READ: &str = "read";
const RANGED: &str = "read a range";
const LIST: &str = "list";
const ONCE: &str = "create once";
const DELETE: &str = "delete";
const CLOCK: &str = "clock";
const ALL: [&str; 7] = [CREATE, READ, RANGED, LIST, ONCE, DELETE, CLOCK];
const RANGE: std::ops::Range<u64> = 1000..3000;
/// Above what network and whole seconds explain.
const TOLERATED: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_795_000_000_000 + ms).unwrap()
    }

    #[test]
    fn whole_seconds_and_the_time_a_request_takes_are_no_skew() {
        for (created, expected) in
            [(0, 0), (-500, 0), (300, 0), (700, 400), (-1_500, -501), (-90_000, -89_001), (60_300, 60_000)]
        {
            assert_eq!(skew(at(created), at(0), at(300)), expected, "{created}");
        }
        assert_eq!(clock(-4_999).verdict, Verdict::Ok);
        assert_eq!(clock(-90_000).detail, "the destination's clock is 1m 30s behind ours");
        assert_eq!(clock(3_600_000).verdict, Verdict::Warning);
    }

    #[tokio::test]
    async fn a_destination_that_does_everything_has_nothing_against_it() {
        let store = Store::in_memory();
        let nowhere = Destination::File { path: "/nowhere".into() };
        let findings = examine(&store, &nowhere, 7, Timestamp::now).await;
        let checks: Vec<_> = findings.iter().map(|f| f.check).collect();
        assert_eq!(checks, ALL);
        assert!(findings.iter().all(|f| f.verdict == Verdict::Ok), "{findings:#?}");
        assert_eq!(store.list("").await.unwrap(), [], "nothing stays");
    }
}
