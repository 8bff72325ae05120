//! What gives out Azure's tokens, emulated: a machine's identity service, and the sign-in service that takes a pod's
//! token for one (workload identity). Its tokens are for storage, and unsigned: Azurite checks everything but the
//! signature.
//!
//! Written after learn.microsoft.com, "How to use managed identities to get an access token" and "Workload identity
//! federation".

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::json;

use crate::gcs::wire::{Answer, Request};
use crate::giver::{Book, Giver};

/// Starts one.
pub fn start() -> Giver {
    Giver::start(answer)
}

fn answer(request: &Request, book: &Book) -> Answer {
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
    book.enter(how);
    let lasts = book.lasts();
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
