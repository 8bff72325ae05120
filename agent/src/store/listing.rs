//! Is an answer the listing that was asked for, and whole? Bytes only.

use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpResponse};

use super::http::{Dialect, element, has_parameter};

/// The XML element a listing of this request must be.
pub(super) fn listing(request: &HttpRequest, dialect: &Dialect) -> Option<Root> {
    let (asked, root) = match dialect {
        Dialect::S3 => (
            "list-type=",
            Root { name: "ListBucketResult", next: "NextContinuationToken", of: "an S3 server" },
        ),
        Dialect::Gcs => (
            "list-type=",
            Root { name: "ListBucketResult", next: "NextContinuationToken", of: "Google Cloud Storage" },
        ),
        Dialect::Abs(_) => (
            "comp=list",
            Root { name: "EnumerationResults", next: "NextMarker", of: "an Azure Blob service" },
        ),
    };
    has_parameter(request, asked).then_some(root)
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    name: &'static str,
    /// Where the next page begins.
    next: &'static str,
    of: &'static str,
}

/// Passes a listing on only if it is one, and whole.
///
/// `object_store` reads any XML, an HTML page too, as a listing of nothing. A proxy's or a captive portal's page would
/// then be the proof that there never was a backup.
pub(super) async fn whole_listing(response: HttpResponse, root: Root) -> Result<HttpResponse, HttpError> {
    let (parts, body) = response.into_parts();
    let body = body.bytes().await?;
    match fault(&String::from_utf8_lossy(&body), root) {
        None => Ok(HttpResponse::from_parts(parts, body.into())),
        Some(what) => Err(HttpError::new(HttpErrorKind::Decode, NoListing(what))),
    }
}

/// What keeps `body` from being a page of a listing.
fn fault(body: &str, root: Root) -> Option<String> {
    if !body.contains(&format!("<{}", root.name)) || !body.trim_end().ends_with(&format!("</{}>", root.name))
    {
        return Some(format!("it is not a listing; is there {} at this endpoint?", root.of));
    }
    // Only the page's own elements: those of an object lie deeper, and hold no such names. Azure always says where
    // the next page begins, if only with an empty element.
    let lacks_next = match root.name {
        "EnumerationResults" => !body.contains(&format!("<{}", root.next)),
        _ => element(body, "IsTruncated") == "true" && element(body, root.next).is_empty(),
    };
    lacks_next.then(|| "there is more, but not how to ask for it".into())
}

#[derive(Debug, thiserror::Error)]
#[error("the answer is no use: {0}")]
struct NoListing(String);

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str) -> HttpRequest {
        let mut request = HttpRequest::new(object_store::client::HttpRequestBody::empty());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = uri.parse().unwrap();
        request
    }

    #[test]
    fn only_a_whole_listing_is_a_listing() {
        let s3 = listing(&request("GET", "http://h/b?list-type=2&prefix=p"), &Dialect::S3).unwrap();
        let page =
            |inside: &str| format!("<?xml version=\"1.0\"?><ListBucketResult>{inside}</ListBucketResult>\n");
        assert_eq!(fault(&page("<IsTruncated>false</IsTruncated>"), s3), None);
        let next = "<NextContinuationToken>t</NextContinuationToken>";
        assert_eq!(fault(&page(&format!("<IsTruncated>true</IsTruncated>{next}")), s3), None);
        assert!(fault(&page("<IsTruncated>true</IsTruncated>"), s3).is_some());
        for body in ["<html>welcome</html>", "", "<ListBucketResult><Contents>"] {
            assert!(fault(body, s3).is_some(), "{body}");
        }

        let abs = Dialect::Abs(None);
        assert!(listing(&request("PUT", "http://h/c/k?comp=blocklist"), &abs).is_none());
        let abs = listing(&request("GET", "http://h/c?restype=container&comp=list"), &abs).unwrap();
        let page = |inside: &str| format!("<EnumerationResults>{inside}</EnumerationResults>");
        for next in ["<NextMarker />", "<NextMarker/>", "<NextMarker>m</NextMarker>"] {
            assert_eq!(fault(&page(&format!("<Blobs />{next}")), abs), None, "{next}");
        }
        for body in [page("<Blobs />"), page("<NextMarker />").replace("</Enum", ""), "<html/>".into()] {
            assert!(fault(&body, abs).is_some(), "{body}");
        }
    }
}
