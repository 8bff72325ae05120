//! What gives out Azure's tokens, emulated: a machine's identity service, and the sign-in service that takes a pod's
//! token for one (workload identity). One thread a connection. Its tokens are for storage, and unsigned: Azurite checks
//! everything but the signature.
//!
//! Written after learn.microsoft.com, "How to use managed identities to get an access token" and "Workload identity
//! federation".

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::json;

use crate::gcs::wire::{Answer, Connection, Request};

/// A running service.
pub struct Entra {
    at: SocketAddr,
    service: Arc<Service>,
}

struct Service {
    /// Seconds for which a token is good.
    lasts: AtomicI64,
    asked: Mutex<Vec<String>>,
}

impl Entra {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its address");
        let service = Arc::new(Service { lasts: 3600.into(), asked: Mutex::default() });
        let serving = service.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let service = serving.clone();
                std::thread::spawn(move || serve(stream, &service));
            }
        });
        Self { at, service }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.at)
    }

    /// From now on tokens are good for so long; below zero they have expired already.
    pub fn lasting(&self, seconds: i64) {
        self.service.lasts.store(seconds, Ordering::SeqCst);
    }

    /// How each token so far was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.service.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(stream: TcpStream, service: &Service) {
    let mut connection = Connection::new(stream);
    while let Some(request) = connection.next_request() {
        let answer = service.answer(&request);
        if !connection.send(&request, &answer) {
            return;
        }
    }
}

impl Service {
    fn answer(&self, request: &Request) -> Answer {
        let (how, for_storage) = match request.method.as_str() {
            // The header keeps a page somebody opens from getting a token.
            "GET" if request.header("metadata") == Some("true") => {
                let secret = request.header("x-identity-header").unwrap_or("no secret");
                let client = request.parameter("client_id").unwrap_or_else(|| "the machine".into());
                let resource = request.parameter("resource").unwrap_or_default();
                (format!("machine: {client}, {secret}"), resource == "https://storage.azure.com")
            }
            "POST" if request.path().ends_with("/oauth2/v2.0/token") => {
                let body = String::from_utf8_lossy(&request.body).into_owned();
                let field =
                    |name: &str| body.split('&').find_map(|f| f.strip_prefix(name)).unwrap_or("").to_owned();
                let how = match field("client_secret=").as_str() {
                    "" => format!("pod: {}, {}", field("client_id="), field("client_assertion=")),
                    secret => format!("principal: {}, {secret}", field("client_id=")),
                };
                (how, field("scope=").starts_with("https%3A%2F%2Fstorage.azure.com"))
            }
            _ => return Answer::new(404, "{}"),
        };
        if !for_storage {
            return Answer::new(400, json!({ "error": "invalid_resource" }).to_string());
        }
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(how);
        let lasts = self.lasts.load(Ordering::SeqCst);
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({
            "aud": "https://storage.azure.com", "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000000/",
            "iat": now - 7200, "nbf": now - 7200, "exp": now + lasts,
        });
        let part = |json: String| BASE64_URL_SAFE_NO_PAD.encode(json);
        let token = format!(
            "{}.{}.eA",
            part(json!({ "alg": "RS256", "typ": "JWT" }).to_string()),
            part(claims.to_string())
        );
        // Asked as a token that is still good: what has expired shows where it is used.
        let answer = json!({
            "access_token": token, "token_type": "Bearer", "resource": "https://storage.azure.com",
            "expires_in": lasts.max(3600), "expires_on": (now + lasts.max(3600)).to_string(),
        });
        Answer::new(200, answer.to_string()).header("content-type", "application/json")
    }
}
