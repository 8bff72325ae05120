//! Asks an app's database on a server whether it answers, again and again for a while. Touches the network and the clock.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, LengthLimitError, Limited};
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
    match Limited::new(answer.into_body(), LONGEST).collect().await {
        Ok(body) => Ok(question.judge(status, &body.to_bytes())),
        // No answer to this question is that long; what it is nobody has to know.
        Err(e) if e.is::<LengthLimitError>() => Ok(question.judge(status, b"")),
        Err(e) => Ok(Meaning::Later(format!("{server} does not finish its answer: {}", causes(&*e)))),
    }
}

/// The innermost cause: what is around it repeats the URL.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// Bytes of an answer that are looked at.
const LONGEST: usize = 64 << 10;
/// For one request.
const EACH: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_without_an_end_is_not_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
            (0..).take_while(|_| stream.write_all(&[b' '; 65536]).is_ok()).count()
        });
        let question = Question::to(&format!("libsql://{at}?tls=0"), None).unwrap();
        let error = ask(&question, Duration::from_secs(1)).await.unwrap_err();
        assert!(error.kind == Kind::Config && error.to_string().contains("not as libsql does"), "{error}");
        let sent = tokio::task::spawn_blocking(move || server.join().unwrap()).await.unwrap();
        assert!(sent < 1000, "{sent} times 64 KiB were taken");
    }
}
