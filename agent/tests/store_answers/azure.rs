//! Azure Blob Storage.

use bytes::Bytes;
use holdfast::store::{Kind, OpenOptions, Put, Store};
use holdfast_config::{Abs, AbsCredentials, Destination};

use super::server::{Server, every_verb, failure, http, streamed};

fn open(server: &Server, credentials: AbsCredentials) -> Store {
    let abs = Abs {
        account: "acct".into(),
        container: "box".into(),
        path: "station/db".into(),
        endpoint: Some(format!("{}/acct", server.endpoint)),
        credentials,
    };
    Store::open(&Destination::Abs(abs), &OpenOptions::default()).unwrap()
}

fn by_key(server: &Server) -> Store {
    open(server, AbsCredentials::Key("bm90LXRvLWJlLXNlZW4=".to_owned().into()))
}

fn by_token(server: &Server) -> Store {
    open(server, AbsCredentials::Sas("?sv=2023-11-03&sp=rcwdl&sig=not-to-be-seen".to_owned().into()))
}

#[tokio::test]
async fn each_refusal_is_a_kind_and_keeps_its_words_and_no_secret() {
    for (status, code, kind) in [
        ("403 Forbidden", "AuthenticationFailed", Kind::Denied),
        ("403 Forbidden", "AuthorizationPermissionMismatch", Kind::Denied),
        ("404 Not Found", "ContainerNotFound", Kind::BucketMissing),
        ("400 Bad Request", "InvalidResourceName", Kind::BucketMissing),
        ("503 Service Unavailable", "ServerBusy", Kind::Unavailable),
        ("500 Internal Server Error", "OperationTimedOut", Kind::Unavailable),
    ] {
        let server = Server::start(move |_| failure(status, code));
        for store in [by_key(&server), by_token(&server)] {
            for (verb, e) in every_verb(&store).await {
                assert_eq!((e.kind, e.verb), (kind, verb), "{code}: {e}");
                let text = e.to_string();
                assert!(text.starts_with(&format!("{verb} abs://acct@box/station/db")), "{text}");
                assert!(text.contains(code) && !text.contains("not-to-be-seen"), "{text}");
            }
        }
        assert_eq!(server.requests().len(), 8, "nothing retries below whoever asked");
    }
    // An answer to HEAD has no body; the code is in a header.
    let server = Server::start(|_| http("404 Not Found", "x-ms-error-code: ContainerNotFound\r\n", ""));
    let objects = Server::start(|_| page(&["a"], ""));
    let object = by_key(&objects).list("").await.unwrap().remove(0);
    assert_eq!(by_key(&server).date(&object).await.unwrap_err().kind, Kind::BucketMissing);
}

fn page(keys: &[&str], next: &str) -> Option<String> {
    let blobs: String = keys
        .iter()
        .map(|k| format!("<Blob><Name>station/db/{k}</Name><Properties><Last-Modified>Sat, 21 Nov 2026 07:47:26 GMT</Last-Modified><Etag>0x1</Etag><Content-Length>7</Content-Length><Content-Type>x</Content-Type></Properties></Blob>"))
        .collect();
    let next = match next {
        "" => "<NextMarker />".to_owned(),
        next => format!("<NextMarker>{next}</NextMarker>"),
    };
    // With its byte order mark, as Azure sends it.
    let body = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"box\"><Blobs>{blobs}</Blobs>{next}</EnumerationResults>"
    );
    http("200 OK", "content-type: application/xml\r\n", &body)
}

#[tokio::test]
async fn a_container_listed_page_by_page_is_listed_completely_or_not_at_all() {
    let server = Server::start(|r| match r.line.contains("marker=t1") {
        true => page(&["a/b"], ""),
        false => page(&["b", "a/c"], "t1"),
    });
    let objects = by_key(&server).list("").await.unwrap();
    assert_eq!(objects.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["a/b", "a/c", "b"]);
    assert_eq!((objects[0].size, objects[0].created.to_string()), (7, "2026-11-21T07:47:26Z".to_owned()));
    assert!(server.requests()[0].contains("prefix=station%2Fdb%2F"), "{:?}", server.requests());

    let server = Server::start(|r| match r.line.contains("marker=t1") {
        true => failure("503 Service Unavailable", "ServerBusy"),
        false => page(&["b"], "t1"),
    });
    assert_eq!(by_key(&server).list("").await.unwrap_err().kind, Kind::Unavailable);
    for body in ["<html>welcome</html>", "<EnumerationResults><Blobs /></EnumerationResults>"] {
        let server = Server::start(move |_| http("200 OK", "", body));
        assert_eq!(by_key(&server).list("").await.unwrap_err().kind, Kind::Invalid, "{body}");
    }
}

#[tokio::test]
async fn the_end_of_an_upload_in_blocks_asks_not_to_replace_and_is_signed_so() {
    let server = Server::start(|r| {
        let signed = r.head.matches("authorization: sharedkey acct:").count();
        assert_eq!(signed, usize::from(!r.line.contains("sig=")), "{}", r.head);
        http("201 Created", "etag: \"e\"\r\nlast-modified: Sat, 21 Nov 2026 07:47:26 GMT\r\n", "")
    });
    for store in [by_key(&server), by_token(&server)] {
        assert_eq!(streamed(&store, 20 << 20).await.unwrap(), Put::Created);
        assert_eq!(store.put("k", Bytes::from_static(b"x")).await.unwrap(), Put::Created);
    }
    for requests in server.requests().chunks(5) {
        let blocks = requests.iter().filter(|r| r.contains("comp=block&") && !r.ends_with("if-none-match"));
        assert_eq!(blocks.count(), 3, "{requests:?}");
        assert!(
            requests[3].contains("comp=blocklist") && requests[3].ends_with("if-none-match"),
            "{requests:?}"
        );
        assert!(requests[4].ends_with("if-none-match"), "{requests:?}");
    }
}

#[tokio::test]
async fn an_upload_whose_blocks_went_with_anothers_commit_has_met_another() {
    let server = Server::start(|r| {
        match r.line.split(' ').next().unwrap() {
        "HEAD" => Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\netag: \"x\"\r\nlast-modified: Sat, 21 Nov 2026 07:47:26 GMT\r\n\r\n".into()),
        _ if r.line.contains("comp=blocklist") => failure("400 Bad Request", "InvalidBlockList"),
        _ => http("201 Created", "", ""),
    }
    });
    let e = streamed(&by_key(&server), 9 << 20).await.unwrap_err();
    assert_eq!(e.kind, Kind::Diverged, "{e}");
}
