//! Asks an app's database on a server whether it answers, again and again for a while. Touches the network and the clock.

use std::time::{Duration, Instant};

use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use object_store::{ClientOptions, HeaderValue};

use crate::error::{Error, Kind};
use crate::plan::remote::{Meaning, Question};

/// Asks until it answers; for `patience`, if it can be reached but not now. What there is to say about an answer that will
/// do.
pub async fn ask(question: &Question, patience: Duration) -> Result<Option<String>, Error> {
    let failed = |kind, cause: String| Error::new(kind, "ask the app's database", cause);
    let options = ClientOptions::new().with_allow_http(true).with_timeout(EACH).with_connect_timeout(EACH);
    let client =
        ReqwestConnector::default().connect(&options).map_err(|e| failed(Kind::System, e.to_string()))?;
    let until = Instant::now() + patience;
    let mut pause = Duration::from_millis(250);
    loop {
        let later = match once(&client, question).await? {
            Meaning::Ready => return Ok(None),
            Meaning::Doubtful(why) => return Ok(Some(why)),
            Meaning::Denied(why) => {
                return Err(failed(Kind::Denied, why).hint("set a token that is valid and may read"));
            }
            Meaning::Wrong(why) => return Err(failed(Kind::Config, why).hint("correct the URL")),
            Meaning::Later(why) => why,
        };
        if Instant::now() + pause >= until {
            return Err(failed(Kind::Unavailable, later));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(4));
    }
}

async fn once(client: &HttpClient, question: &Question) -> Result<Meaning, Error> {
    let bad = |cause: String| Error::new(Kind::Config, "ask the app's database", cause);
    let mut request = HttpRequest::new(HttpRequestBody::from(Question::body()));
    *request.method_mut() = "POST".parse().map_err(|_| bad("no such method".into()))?;
    *request.uri_mut() = question.url.parse().map_err(|_| bad("its URL is not one".into()))?;
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    if let Some(token) = &question.token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| bad("its token holds characters that no token has".into()))?;
        value.set_sensitive(true);
        headers.insert("authorization", value);
    }
    let server = &question.server;
    let answer = match client.execute(request).await {
        Ok(answer) => answer,
        Err(e) => return Ok(Meaning::Later(format!("{server} does not answer: {}", causes(&e)))),
    };
    let status = answer.status().as_u16();
    match answer.into_body().bytes().await {
        Ok(body) => Ok(question.judge(status, &body)),
        Err(e) => Ok(Meaning::Later(format!("{server} does not finish its answer: {}", causes(&e)))),
    }
}

/// The innermost cause: what is around it repeats the URL.
fn causes(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// For one request.
const EACH: Duration = Duration::from_secs(5);
