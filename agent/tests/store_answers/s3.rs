//! S3.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdfast::store::{Kind, OpenOptions, Put, Store};
use holdfast_config::{Credentials, Destination, Encryption, S3, S3Options};

use super::server::{Request, Server, every_verb, failure, http, streamed};

fn open(server: &Server, options: &OpenOptions) -> Store {
    open_with(server, options, S3Options::default())
}

fn open_with(server: &Server, options: &OpenOptions, how: S3Options) -> Store {
    let credentials = Credentials {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: "not-to-be-seen".to_owned().into(),
        session_token: None,
    };
    let s3 = S3 {
        bucket: "bkt".into(),
        path: "station/db".into(),
        region: "us-east-1".into(),
        endpoint: Some(server.endpoint.clone()),
        force_path_style: true,
        skip_verify: false,
        credentials: Some(credentials),
        options: how,
    };
    Store::open(&Destination::S3(s3), options).unwrap()
}

#[tokio::test]
async fn each_refusal_of_the_server_is_a_kind_and_keeps_its_words() {
    for (status, code, kind) in [
        ("403 Forbidden", "AccessDenied", Kind::Denied),
        ("403 Forbidden", "SignatureDoesNotMatch", Kind::Denied),
        ("403 Forbidden", "RequestTimeTooSkewed", Kind::Denied),
        ("404 Not Found", "NoSuchBucket", Kind::BucketMissing),
        ("503 Slow Down", "SlowDown", Kind::Unavailable),
        ("500 Internal Server Error", "InternalError", Kind::Unavailable),
        ("400 Bad Request", "AuthorizationHeaderMalformed", Kind::BucketMissing),
        ("301 Moved Permanently", "PermanentRedirect", Kind::BucketMissing),
    ] {
        let server = Server::start(move |_| failure(status, code));
        for (verb, e) in every_verb(&open(&server, &OpenOptions::default())).await {
            assert_eq!((e.kind, e.verb), (kind, verb), "{code}: {e}");
            let text = e.to_string();
            let object = if verb == "list" { "s3://bkt/station/db" } else { "s3://bkt/station/db/k" };
            assert!(text.starts_with(&format!("{verb} {object}: ")), "{text}");
            assert!(text.contains(code) && !text.contains("not-to-be-seen"), "{text}");
        }
        // One request for each call: nothing retries below whoever asked.
        assert_eq!(server.requests().len(), 4, "{code}: {:?}", server.requests());
    }
}

#[tokio::test]
async fn a_server_that_hangs_hangs_up_or_is_not_there_is_unavailable() {
    let options = OpenOptions { read_timeout: Duration::from_millis(300), ..OpenOptions::default() };
    let hangs = Server::start(|_| {
        std::thread::sleep(Duration::from_secs(20));
        None
    });
    let hangs_up = Server::start(|_| None);
    let breaks_off = Server::start(|_| Some("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n<List".into()));
    let gone = Server { endpoint: "http://127.0.0.1:1".into(), seen: Arc::default() };
    for (server, what) in
        [(hangs, "hangs"), (hangs_up, "hangs up"), (breaks_off, "breaks off"), (gone, "is gone")]
    {
        let start = Instant::now();
        let store = open(&server, &options);
        let e = store.list("").await.unwrap_err();
        assert_eq!(e.kind, Kind::Unavailable, "{what}: {e}");
        let e = store.get("k", None).await.unwrap_err();
        assert_eq!(e.kind, Kind::Unavailable, "{what}: {e}");
        assert!(start.elapsed() < Duration::from_secs(10), "{what} took {:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_bucket_listed_page_by_page_is_listed_completely() {
    let page = |keys: &[&str], next: &str| {
        let contents: String = keys
            .iter()
            .map(|k| format!("<Contents><Key>station/db/{k}</Key><Size>7</Size><LastModified>2026-11-21T07:47:26.000Z</LastModified></Contents>"))
            .collect();
        let more = if next.is_empty() {
            String::new()
        } else {
            format!("<NextContinuationToken>{next}</NextContinuationToken>")
        };
        http(
            "200 OK",
            "",
            &format!(
                "<ListBucketResult>{contents}<IsTruncated>{}</IsTruncated>{more}</ListBucketResult>",
                !next.is_empty()
            ),
        )
    };
    let server = Server::start(move |r| {
        if !r.line.contains("continuation-token") {
            page(&["b", "a/c"], "t1")
        } else if r.line.contains("t1") {
            page(&["a/b"], "t2")
        } else {
            failure("503 Slow Down", "SlowDown")
        }
    });
    // A listing that breaks off on its third page is no listing.
    assert_eq!(open(&server, &OpenOptions::default()).list("").await.unwrap_err().kind, Kind::Unavailable);

    let server =
        Server::start(
            move |r| if r.line.contains("t1") { page(&["a/b"], "") } else { page(&["b", "a/c"], "t1") },
        );
    let objects = open(&server, &OpenOptions::default()).list("").await.unwrap();
    assert_eq!(objects.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["a/b", "a/c", "b"]);
    assert_eq!((objects[0].size, objects[0].created.to_string()), (7, "2026-11-21T07:47:26Z".to_owned()));
    assert!(server.requests()[0].contains("prefix=station%2Fdb%2F"), "{:?}", server.requests());
}

#[tokio::test]
async fn a_server_that_is_no_s3_has_no_such_bucket() {
    for (status, body) in [("404 Not Found", "<html>nothing here</html>"), ("200 OK", "<html>welcome</html>")]
    {
        let server = Server::start(move |_| http(status, "", body));
        let e = open(&server, &OpenOptions::default()).list("").await.unwrap_err();
        assert!(matches!(e.kind, Kind::BucketMissing | Kind::Invalid), "{e}");
    }
}

#[tokio::test]
async fn a_put_asks_the_server_not_to_replace() {
    let server = Server::start(|r| match r.line.starts_with("PUT") {
        true => http("200 OK", "etag: \"e\"\r\n", ""),
        false => None,
    });
    let store = open(&server, &OpenOptions::default());
    assert_eq!(store.put("k", Bytes::from_static(b"x")).await.unwrap(), Put::Created);
    assert_eq!(server.requests(), ["PUT /bkt/station/db/k if-none-match"]);
}

#[tokio::test]
async fn an_object_that_exists_is_ours_if_its_content_is() {
    let server = Server::start(|r| match r.line.starts_with("PUT") {
        true => failure("412 Precondition Failed", "PreconditionFailed"),
        false => http("200 OK", "etag: \"e\"\r\nlast-modified: Sat, 21 Nov 2026 07:47:26 GMT\r\n", "ours"),
    });
    let store = open(&server, &OpenOptions::default());
    assert_eq!(store.put("k", Bytes::from_static(b"ours")).await.unwrap(), Put::AlreadyThere);
    let e = store.put("k", Bytes::from_static(b"else")).await.unwrap_err();
    assert_eq!(e.to_string(), "put s3://bkt/station/db/k: exists with other content");
}

/// Answers a multipart upload; `complete` is the answer to its end.
fn multipart(r: &Request, complete: Option<String>) -> Option<String> {
    if r.line.contains("?uploads") {
        return http(
            "200 OK",
            "",
            "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>",
        );
    }
    match r.line.split(' ').next().unwrap() {
        "PUT" => {
            assert!(r.line.contains("uploadId=u1"), "{}", r.line);
            http("200 OK", &format!("etag: \"{}\"\r\n", r.body.len()), "")
        }
        "POST" => complete,
        "DELETE" => http("204 No Content", "", ""),
        _ => None,
    }
}

#[tokio::test]
async fn a_stream_is_one_put_below_a_part_and_a_create_only_multipart_upload_above() {
    let done = "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>";
    let server = Server::start(move |r| match r.line.contains('?') {
        true => multipart(r, http("200 OK", "", done)),
        false if r.line.starts_with("HEAD") => {
            Some("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into())
        }
        false => http("200 OK", "etag: \"e\"\r\n", ""),
    });
    let store = open(&server, &OpenOptions::default());
    assert_eq!(streamed(&store, 8 << 20).await.unwrap(), Put::Created);
    assert_eq!(server.requests(), ["PUT /bkt/station/db/snap if-none-match"]);
    assert_eq!(streamed(&store, 20 << 20).await.unwrap(), Put::Created);
    let requests = server.requests().split_off(1);
    assert!(requests[0].starts_with("POST /bkt/station/db/snap?uploads"), "{requests:?}");
    assert_eq!(requests.iter().filter(|r| r.starts_with("PUT")).count(), 3, "{requests:?}");
    assert_eq!(requests.last().unwrap(), "POST /bkt/station/db/snap?uploadId=u1 if-none-match");
}

#[tokio::test]
async fn a_multipart_upload_that_meets_another_object_is_taken_back() {
    let server = Server::start(|r| {
        match r.line.split(' ').next().unwrap() {
        "HEAD" => Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\netag: \"x\"\r\nlast-modified: Sat, 21 Nov 2026 07:47:26 GMT\r\n\r\n".into()),
        _ => multipart(r, failure("412 Precondition Failed", "PreconditionFailed")),
    }
    });
    let e = streamed(&open(&server, &OpenOptions::default()), 9 << 20).await.unwrap_err();
    assert_eq!(e.kind, Kind::Diverged, "{e}");
    assert_eq!(server.requests().last().unwrap(), "DELETE /bkt/station/db/snap?uploadId=u1");
}

#[tokio::test]
async fn a_service_that_ignores_the_condition_at_the_end_of_an_upload_is_not_asked_where_there_is_an_object()
{
    let server = Server::start(|r| {
        match r.line.split(' ').next().unwrap() {
        "HEAD" => Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\netag: \"x\"\r\nlast-modified: Sat, 21 Nov 2026 07:47:26 GMT\r\n\r\n".into()),
        _ => multipart(r, http("200 OK", "", "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>")),
    }
    });
    let e = streamed(&open(&server, &OpenOptions::default()), 9 << 20).await.unwrap_err();
    assert_eq!(e.kind, Kind::Diverged, "{e}");
    let requests = server.requests();
    assert!(!requests.iter().any(|r| r.starts_with("POST") && r.contains("uploadId")), "{requests:?}");
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_recognised_by_its_end() {
    let size = 9 << 20;
    let server = Server::start(move |r| match r.line.split(' ').next().unwrap() {
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
            "\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07",
        ),
        _ => multipart(r, failure("404 Not Found", "NoSuchUpload")),
    });
    assert_eq!(streamed(&open(&server, &OpenOptions::default()), size).await.unwrap(), Put::AlreadyThere);
}

#[tokio::test]
async fn a_dropped_multipart_upload_is_aborted() {
    let server = Server::start(|r| multipart(r, None));
    let store = open(&server, &OpenOptions::default());
    let mut upload = store.upload("snap").await.unwrap();
    upload.write(Bytes::from(vec![1; 9 << 20])).await.unwrap();
    drop(upload);
    let start = Instant::now();
    while !server.requests().iter().any(|r| r.starts_with("DELETE")) {
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", server.requests());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_server_without_ranges_sends_an_object_once_for_all_its_ranges() {
    let server = Server::start(|_| {
        http("200 OK", "etag: \"e\"\r\nlast-modified: Sat, 21 Nov 2026 07:47:26 GMT\r\n", "0123456789")
    });
    let store = open(&server, &OpenOptions::default());
    assert_eq!(store.get("k", None).await.unwrap(), &b"0123456789"[..]);
    for (range, expected) in [(2..4, "23"), (4..5, "4"), (6..10, "6789")] {
        assert_eq!(store.get("k", Some(range)).await.unwrap(), expected.as_bytes());
    }
    // One whole, one to find out, one to read.
    assert_eq!(server.requests().len(), 3);
    let e = store.get("k", Some(8..12)).await.unwrap_err();
    assert_eq!(e.to_string(), "get s3://bkt/station/db/k: invalid: 2 bytes instead of 4");
}

#[tokio::test]
async fn every_request_that_needs_a_customers_key_has_it_and_no_other() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let server = Server::start(move |r| {
        seen.lock().unwrap().push(format!("{}\n{}", r.line, r.head));
        let done = "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>";
        let gone = Some("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into());
        match r.line.split(' ').next().unwrap() {
            "HEAD" => gone,
            "GET" => http("200 OK", "etag: \"e\"\r\nlast-modified: Sat, 21 Nov 2026 07:47:26 GMT\r\n", "x"),
            "PUT" if !r.line.contains('?') => http("200 OK", "etag: \"e\"\r\n", ""),
            _ => multipart(r, http("200 OK", "", done)),
        }
    });
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned();
    let how = S3Options {
        part_size: Some(5 << 20),
        concurrency: Some(3),
        storage_class: Some("ONEZONE_IA".into()),
        sign_payload: false,
        encryption: Some(Encryption::Customer(key.into())),
    };
    let store = open_with(&server, &OpenOptions::default(), how);
    store.put("k", Bytes::from_static(b"x")).await.unwrap();
    store.get("k", None).await.unwrap();
    streamed(&store, 12 << 20).await.unwrap();
    let heads = heads.lock().unwrap();
    let of = |start: &str| heads.iter().filter(|h| h.starts_with(start)).cloned().collect::<Vec<_>>();
    let algorithm = "x-amz-server-side-encryption-customer-algorithm: aes256";
    let [parts, put, get, head] =
        ["PUT /bkt/station/db/snap?", "PUT /bkt/station/db/k ", "GET ", "HEAD "].map(of);
    // Three parts of five, five and two.
    assert_eq!((parts.len(), put.len(), get.len(), head.len()), (3, 1, 1, 1));
    for request in
        parts.iter().chain(&put).chain(&get).chain(&head).chain(&of("POST /bkt/station/db/snap?uploads"))
    {
        assert!(request.contains(algorithm), "{request}");
    }
    for request in parts.iter().chain(&put) {
        assert!(request.contains("x-amz-content-sha256: unsigned-payload"), "{request}");
    }
    for request in put.iter().chain(&of("POST /bkt/station/db/snap?uploads")) {
        assert!(request.contains("x-amz-storage-class: onezone_ia"), "{request}");
    }
    assert!(!format!("{store:?}").contains("MDEy"));
}

#[tokio::test]
async fn a_bulk_delete_reports_each_key() {
    let server = Server::start(|r| match String::from_utf8_lossy(&r.body).contains("locked") {
        true => http(
            "200 OK",
            "",
            "<DeleteResult><Deleted><Key>station/db/a</Key></Deleted><Error><Key>station/db/locked</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>",
        ),
        false => failure("503 Slow Down", "SlowDown"),
    });
    let store = open(&server, &OpenOptions::default());
    let done = store.delete(&["a".into(), "locked".into()]).await.unwrap();
    assert!(done[0].1.is_ok(), "{done:?}");
    let e = done[1].1.as_ref().unwrap_err();
    assert!(e.kind == Kind::Denied && e.to_string().contains("AccessDenied"), "{e}");
    let done = store.delete(&["a".into(), "b".into()]).await.unwrap();
    assert!(done.iter().all(|(_, d)| d.as_ref().is_err_and(|e| e.kind == Kind::Unavailable)), "{done:?}");
}
