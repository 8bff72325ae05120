//! One signed request to a server of AWS's kind, for what a test sets up and reads back that no client of ours asks
//! for: buckets, users, policies, headers. Makes requests.

use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};

/// A pair of keys and the service they are for: `s3`, `iam`.
#[derive(Debug, Clone)]
pub struct Signer {
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    pub service: &'static str,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Signer {
    /// Sends `body` to `path_and_query` and waits for the answer.
    pub fn send(
        &self,
        method: &str,
        path_and_query: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = HttpRequest::new(HttpRequestBody::from(body.to_owned()));
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = format!("{}{path_and_query}", self.endpoint).parse().expect("a URI");
        let host = self.endpoint.split_once("://").expect("a scheme").1;
        for (name, value) in [("host", host)].iter().chain(headers) {
            request.headers_mut().insert(*name, value.parse().expect("a header"));
        }
        let credential = AwsCredential {
            key_id: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            token: None,
        };
        AwsAuthorizer::new(&credential, self.service, "us-east-1")
            .try_authorize(&mut request, None)
            .expect("a signature");
        let client = ReqwestConnector::default().connect(&ClientOptions::new().with_allow_http(true));
        let client = client.expect("a client");
        // A thread of its own: the caller may be inside a runtime.
        let asking = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let answer = client.execute(request).await.expect("an answer");
                let status = answer.status().as_u16();
                let text = |v: &object_store::HeaderValue| v.to_str().unwrap_or_default().to_owned();
                let headers = answer.headers().iter().map(|(n, v)| (n.to_string(), text(v))).collect();
                let body = answer.into_body().bytes().await.expect("its body");
                Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
            })
        });
        asking.join().expect("the request is made")
    }
}

impl Answer {
    /// Panics with the answer unless it is a success.
    #[track_caller]
    pub fn expect_success(self, what: &str) -> Self {
        assert!((200..300).contains(&self.status), "{what}: {self:?}");
        self
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The text of the first `<name>…</name>`.
    #[track_caller]
    pub fn element(&self, name: &str) -> String {
        let (_, rest) =
            self.body.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{name}: {self:?}"));
        rest.split_once('<').expect("it ends").0.to_owned()
    }
}
