//! What goes wrong between us and a destination, on each of them: a restore says what is so and ends with the documented
//! code, replication goes on, says what is so, recovers by itself and loses nothing. One table for each of the two.

use std::time::Duration;

use holdfast_tests::faulty::{Destination, each};
use holdfast_tests::process;
use holdfast_tests::proxy::Service::{Abs, Gcs, S3};
use holdfast_tests::proxy::tls::Identity;
use holdfast_tests::proxy::{Answer, Fault, Service};
use holdfast_tests::tool::Tool;

/// Hangs are no shorter, and nothing waits for their end.
const HANG: Duration = Duration::from_secs(60);

/// A fault of the way there, what `restore` exits with, and what it says of each service.
type Refusal = (&'static str, fn(&Destination), i32, fn(Service) -> &'static str);

const REFUSALS: &[Refusal] = &[
    ("connections are refused", |d| d.proxy().refuse(), 69, |_| ": Connection refused"),
    (
        "every request is reset",
        |d| d.proxy().always(&Fault::ResetRequest { after: 0 }),
        69,
        |_| ": Connection reset by peer",
    ),
    (
        "every answer is reset in the middle",
        |d| d.proxy().always(&Fault::ResetAnswer { after: Some(20) }),
        69,
        |_| "unavailable: ",
    ),
    ("the server hangs", |d| d.proxy().always(&Fault::Hang(HANG)), 69, |_| ": timed out"),
    (
        "the server hangs in the middle of an answer",
        |d| d.proxy().always(&Fault::Stall { after: 20, pause: HANG }),
        69,
        |_| "unavailable: timed out",
    ),
    (
        "every request is throttled",
        |d| d.always(Answer::throttled),
        69,
        |service| match service {
            S3 => "unavailable: SlowDown (HTTP 503)",
            Gcs => "unavailable: HTTP 429",
            Abs => "unavailable: ServerBusy (HTTP 503)",
        },
    ),
    (
        "the credentials have expired",
        |d| d.always(Answer::expired),
        77,
        |service| match service {
            S3 => "access denied: ExpiredToken (HTTP 400)",
            Gcs => "access denied: AuthenticationRequired (HTTP 401)",
            Abs => "access denied: AuthenticationFailed (HTTP 403)",
        },
    ),
    ("the secret is wrong", Destination::wrong_secret, 77, |service| match service {
        S3 => "access denied: SignatureDoesNotMatch (HTTP 403)",
        Gcs => "access denied: ",
        Abs => "access denied: AuthorizationFailure (HTTP 403)",
    }),
    ("there is no such bucket", Destination::missing_bucket, 78, |service| match service {
        S3 | Gcs => "no such bucket: NoSuchBucket (HTTP 404)",
        Abs => "no such bucket: ContainerNotFound (HTTP 404)",
    }),
    ("nobody vouches for the certificate", |d| d.over_tls(Identity::self_signed()), 69, |_| "UnknownIssuer"),
    ("the certificate has expired", |d| d.over_tls(d.authority().expired()), 69, |_| "expired"),
    (
        "the certificate is somebody else's",
        |d| d.over_tls(d.authority().wrong_name()),
        69,
        |_| "not valid for name",
    ),
    ("the server does not speak TLS", Destination::https_without_tls, 69, |_| "TLS"),
    ("the server speaks TLS only", Destination::http_over_tls, 69, |_| "TLS"),
];

#[test]
fn a_restore_says_what_is_wrong_and_leaves_nothing_behind() {
    each(REFUSALS, |destination, &(name, fault, code, says)| {
        let service = destination.service;
        fault(destination);
        let asked = destination.proxy().requests().len();
        let (said, out) = destination.restore();
        let what = format!("{service:?}: {name}: exit {}\n{}", said.code, said.stderr);
        assert_eq!(said.code, code, "{what}");
        assert!(said.stderr.contains(says(service)), "{what}");
        let left = std::fs::read_dir(out.parent().expect("a directory")).expect("it can be read").count();
        assert_eq!(left, 0, "{what}");
        let changes = |line: &&String| !line.starts_with("GET ") && !line.starts_with("HEAD ");
        let requests = destination.proxy().requests();
        assert_eq!(requests[asked..].iter().find(changes), None, "{what}");
    });
}

#[test]
fn a_machine_that_knows_no_authority_is_told_what_it_lacks() {
    let nowhere = [("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")];
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    for url in ["s3://bucket/path", "gs://bucket/path", "abs://account@container/path"] {
        let mut list = Tool::Holdfast.command("generations");
        let done = process::run(list.arg(url).envs(nowhere).envs(keys), Duration::from_secs(30));
        assert_eq!(done.code, 78, "{url}: {}", done.stderr);
        assert!(done.stderr.contains("certificates of authorities"), "{url}: {}", done.stderr);
    }
}
