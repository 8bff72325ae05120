//! Google Cloud Storage. Its keys are of emulators: without a signature.

use std::time::Duration;

use bytes::Bytes;
use holdfast::store::{Kind, OpenOptions, Put, Store};
use holdfast_config::{Destination, Gcs, GcsCredentials};

use super::server::{Request, Server, every_verb, failure, http, streamed};

fn open(server: &Server) -> Store {
    let key = format!(
        r#"{{"type": "service_account", "client_email": "a@b", "private_key_id": "1", "private_key": "not-to-be-seen",
            "disable_oauth": true, "gcs_base_url": "{}"}}"#,
        server.endpoint
    );
    let gcs = Gcs {
        bucket: "my-bkt".into(),
        path: "station/db".into(),
        endpoint: None,
        credentials: GcsCredentials::Key(key.into()),
    };
    let options = OpenOptions { patience: Duration::from_secs(1), ..OpenOptions::default() };
    Store::open(&Destination::Gcs(gcs), &options).unwrap()
}

#[tokio::test]
async fn each_refusal_is_a_kind_and_keeps_its_words() {
    for (status, code, kind) in [
        ("403 Forbidden", "AccessDenied", Kind::Denied),
        ("401 Unauthorized", "AuthenticationRequired", Kind::Denied),
        ("404 Not Found", "NoSuchBucket", Kind::BucketMissing),
        ("429 Too Many Requests", "SlowDown", Kind::Unavailable),
        ("503 Service Unavailable", "ServiceUnavailable", Kind::Unavailable),
    ] {
        let server = Server::start(move |_| failure(status, code));
        let store = open(&server);
        for (verb, e) in every_verb(&store).await {
            assert_eq!((e.kind, e.verb), (kind, verb), "{code}: {e}");
            let text = e.to_string();
            assert!(text.starts_with(&format!("{verb} gs://my-bkt/station/db")), "{text}");
            assert!(text.contains(code) && !text.contains("not-to-be-seen"), "{text}");
        }
        assert_eq!(server.requests().len(), 4, "{code}: {:?}", server.requests());
        // What is not there counts as deleted; a bucket that is not there does not.
        let (_, deleted) = store.delete(&["k".into()]).await.unwrap().remove(0);
        assert_eq!(deleted.unwrap_err().kind, kind, "{code}");
    }
}

/// Answers a resumable upload: `part` to each of its parts but the last, `end` to that.
fn resumable(r: &Request, part: impl Fn(&str) -> Option<String>, end: Option<String>) -> Option<String> {
    let host = r.head.lines().find_map(|l| l.strip_prefix("host: ")).unwrap();
    match r.line.split(' ').next().unwrap() {
        "POST" => {
            assert!(r.head.contains("x-goog-resumable: start"), "{}", r.head);
            http("201 Created", &format!("location: http://{host}/my-bkt/session?upload_id=u1\r\n"), "")
        }
        "PUT" if r.line.contains("upload_id=u1") => {
            let range = r.head.lines().find_map(|l| l.strip_prefix("content-range: bytes ")).unwrap();
            match range.strip_suffix("/*") {
                Some(range) => part(range),
                None => end,
            }
        }
        "DELETE" => http("499 Client Closed Request", "", ""),
        _ => None,
    }
}

fn taken(range: &str) -> Option<String> {
    let last = range.split('-').nth(1).unwrap();
    http("308 Resume Incomplete", &format!("range: bytes=0-{last}\r\n"), "")
}

#[tokio::test]
async fn a_stream_is_one_put_below_a_part_and_a_create_only_resumable_upload_above() {
    let server = Server::start(|r| match r.line.contains("snap") && r.line.starts_with("PUT") {
        true => http("200 OK", "etag: \"e\"\r\nx-goog-generation: 1\r\n", ""),
        false => resumable(r, taken, http("200 OK", "", "")),
    });
    let store = open(&server);
    assert_eq!(streamed(&store, 8 << 20).await.unwrap(), Put::Created);
    assert_eq!(server.requests(), ["PUT /my%2Dbkt/station%2Fdb%2Fsnap if-generation-match"]);
    assert_eq!(streamed(&store, 20 << 20).await.unwrap(), Put::Created);
    let requests = server.requests().split_off(1);
    assert_eq!(requests[0], "POST /my-bkt/station/db/snap if-generation-match");
    assert_eq!(requests[1..], ["PUT /my-bkt/session?upload_id=u1"; 3]);
}

#[tokio::test]
async fn a_part_that_was_not_taken_whole_ends_the_upload() {
    for (answer, kind) in [
        (http("308 Resume Incomplete", "range: bytes=0-262143\r\n", ""), Kind::Unavailable),
        (http("308 Resume Incomplete", "", ""), Kind::Unavailable),
        (failure("503 Service Unavailable", "ServiceUnavailable"), Kind::Unavailable),
        (failure("410 Gone", "Gone"), Kind::Unavailable),
        (failure("403 Forbidden", "AccessDenied"), Kind::Denied),
        (None, Kind::Unavailable),
    ] {
        let said = answer.clone();
        let server = Server::start(move |r| resumable(r, |_| answer.clone(), http("200 OK", "", "")));
        let e = streamed(&open(&server), 20 << 20).await.unwrap_err();
        assert_eq!(e.kind, kind, "{said:?}: {e}");
        assert!(!e.to_string().contains("upload_id"), "whoever knows it may write there: {e}");
    }
}

#[tokio::test]
async fn an_upload_that_meets_another_object_replaces_nothing() {
    let size = 9 << 20;
    let held = move |tail: u8| {
        move |r: &Request| match r.line.split(' ').next().unwrap() {
            "HEAD" => Some(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\netag: \"x\"\r\nlast-modified: Sat, 21 Nov 2026 07:47:26 GMT\r\n\r\n"
            )),
            "GET" => http(
                "206 Partial Content",
                &format!(
                    "content-range: bytes {}-{}/{size}\r\netag: \"x\"\r\nlast-modified: Sat, 21 Nov 2026 07:47:26 GMT\r\n",
                    size - 16,
                    size - 1
                ),
                std::str::from_utf8(&[tail; 16]).unwrap(),
            ),
            _ => None,
        }
    };
    let refused = || failure("412 Precondition Failed", "PreconditionFailed");
    for (tail, expected) in [(7, Ok(Put::AlreadyThere)), (8, Err(Kind::Diverged))] {
        // It was there when the upload began, as after an answer that was lost; or it came while the upload ran.
        let found = held(tail);
        let before = Server::start(move |r| if r.line.starts_with("POST") { refused() } else { found(r) });
        let found = held(tail);
        let meanwhile = Server::start(move |r| found(r).or_else(|| resumable(r, taken, refused())));
        for server in [before, meanwhile] {
            let done = streamed(&open(&server), size).await.map_err(|e| e.kind);
            assert_eq!(done, expected, "{:?}", server.requests());
        }
    }
}

#[tokio::test]
async fn an_upload_that_is_given_up_is_cancelled() {
    let server = Server::start(|r| resumable(r, taken, None));
    let mut upload = open(&server).upload("snap").await.unwrap();
    upload.write(Bytes::from(vec![1; 20 << 20])).await.unwrap();
    upload.abort().await;
    assert_eq!(server.requests().last().unwrap(), "DELETE /my-bkt/session?upload_id=u1");
}
