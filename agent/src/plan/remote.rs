//! Decisions about an app's database on a server: where to ask whether it answers, and what its answer means.
//!
//! The question is one pipeline of Hrana over HTTP (`POST /v2/pipeline`), which libsql's server, Turso and their clients
//! speak. A URL of another scheme may lead to something else altogether: there every answer but a refusal will do.

use holdfast_config::Secret;
use serde_json::{Value, json};

/// Where to send the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `https://HOST:PORT/v2/pipeline`
    pub url: String,
    /// `https://HOST:PORT`: what may be said of it.
    pub server: String,
    pub token: Option<Secret<String>>,
    /// What answers has to be libsql.
    libsql: bool,
}

/// What an answer means for an app that is about to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    Ready,
    /// It may start; this is worth knowing.
    Doubtful(String),
    /// Worth asking again.
    Later(String),
    Denied(String),
    Wrong(String),
}

impl Question {
    /// Reads `libsql://HOST?authToken=T&tls=0` and the same with `http`, `https`, `ws`, `wss`. `token`: the one that an
    /// app without one in its URL has elsewhere.
    pub fn to(url: &str, token: Option<&str>) -> Result<Self, String> {
        let parsed = url::Url::parse(url).map_err(|e| match e {
            url::ParseError::IdnaError if !url.is_ascii() => {
                "its host is not plain ASCII; write it in Punycode, like xn--bcher-kva.example".to_owned()
            }
            e => e.to_string(),
        })?;
        let value = |name: &str| parsed.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value);
        let plain = match parsed.scheme() {
            "http" | "ws" => true,
            "libsql" => value("tls").is_some_and(|tls| tls == "0"),
            _ => false,
        };
        let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or("it names no host")?;
        let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
        let server = format!("{}://{host}{port}", if plain { "http" } else { "https" });
        let own = value("authToken").or_else(|| value("jwt")).map(std::borrow::Cow::into_owned);
        let token = own.or_else(|| token.map(str::to_owned)).filter(|token| !token.is_empty());
        Ok(Self {
            url: format!("{server}{}/v2/pipeline", parsed.path().trim_end_matches('/')),
            server,
            token: token.map(Secret::new),
            libsql: parsed.scheme() == "libsql",
        })
    }

    /// `SELECT 1`, and the end of the stream.
    pub fn body() -> String {
        json!({ "requests": [{ "type": "execute", "stmt": { "sql": "SELECT 1" } }, { "type": "close" }] })
            .to_string()
    }

    /// What it means that the server answers `status` and `body`.
    pub fn judge(&self, status: u16, body: &[u8]) -> Meaning {
        let server = &self.server;
        match status {
            200..=299 if !self.libsql => Meaning::Ready,
            200..=299 => match serde_json::from_slice::<Value>(body) {
                Ok(answer) if answer["results"][0]["type"] == "ok" => Meaning::Ready,
                Ok(answer) if answer["results"][0]["type"] == "error" => {
                    let why = answer["results"][0]["error"]["message"].as_str().unwrap_or("no reason given");
                    Meaning::Later(format!("{server} cannot read: {}", shortened(why)))
                }
                _ => Meaning::Wrong(format!("{server} answers, but not as libsql does")),
            },
            401 | 403 if self.token.is_some() => {
                Meaning::Denied(format!("{server} refuses the token ({status})"))
            }
            401 | 403 => Meaning::Doubtful(format!(
                "{server} answers and wants a token ({status}); there is none in the URL, so whether the app's own is good \
                 only the app can see"
            )),
            408 | 429 | 500..=599 => Meaning::Later(format!("{server} answers {status}")),
            _ if !self.libsql => Meaning::Ready,
            _ => Meaning::Wrong(format!("{server} answers {status}: no such database, or not libsql")),
        }
    }
}

/// A server's own words, as much as fits into a line.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(url: &str) -> Question {
        Question::to(url, None).unwrap()
    }

    #[test]
    fn every_scheme_leads_to_the_pipeline() {
        for (url, expected) in [
            ("libsql://db.turso.io?authToken=t", "https://db.turso.io/v2/pipeline"),
            ("libsql://localhost:8080?tls=0", "http://localhost:8080/v2/pipeline"),
            ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/v2/pipeline"),
            ("https://h/dev/ns", "https://h/dev/ns/v2/pipeline"),
            ("ws://h:1", "http://h:1/v2/pipeline"),
            ("wss://h", "https://h/v2/pipeline"),
        ] {
            assert_eq!(question(url).url, expected, "{url}");
        }
        assert!(Question::to("libsql:///x", None).is_err());
        assert!(Question::to("https://b\u{fc}cher.example", None).unwrap_err().contains("Punycode"));
        let secret = question("libsql://u:p4ss@h?authToken=s3cr3t");
        let shown = format!("{secret:?} {:?}", secret.judge(401, b""));
        assert!(!shown.contains("s3cr3t") && !shown.contains("p4ss"), "{shown}");
        assert_eq!(secret.token.unwrap().expose(), "s3cr3t");
        let elsewhere = Question::to("libsql://h", Some("t")).unwrap();
        assert_eq!(elsewhere.token.unwrap().expose(), "t");
    }

    #[test]
    fn an_answer_lets_the_app_start_or_says_what_is_wrong() {
        let with = question("libsql://h?authToken=t");
        let ok = br#"{"results":[{"type":"ok","response":{}}]}"#;
        assert_eq!(with.judge(200, ok), Meaning::Ready);
        let blocked = br#"{"results":[{"type":"error","error":{"message":"reads are blocked"}}]}"#;
        assert_eq!(
            with.judge(200, blocked),
            Meaning::Later("https://h cannot read: reads are blocked".into())
        );
        assert!(matches!(with.judge(200, b"<html>"), Meaning::Wrong(_)));
        assert!(matches!(with.judge(404, b""), Meaning::Wrong(_)));
        assert!(matches!(with.judge(401, b""), Meaning::Denied(_)));
        assert!(matches!(with.judge(503, b""), Meaning::Later(_)));
        assert!(matches!(question("libsql://h").judge(401, b""), Meaning::Doubtful(_)));
    }

    #[test]
    fn what_may_be_another_service_only_has_to_be_there() {
        let other = question("http://h:8123");
        for status in [200, 400, 404, 405] {
            assert_eq!(other.judge(status, b"Ok."), Meaning::Ready, "{status}");
        }
        assert!(matches!(other.judge(502, b""), Meaning::Later(_)));
    }
}
