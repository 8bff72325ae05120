//! What gives out keys on AWS, emulated: the security token service that takes a pod's token (IRSA), the agent of EKS's
//! Pod Identity, that of ECS's tasks, and a machine's metadata service (version 2). The keys themselves are of a session that
//! [`crate::moto`] knows, and checks.
//!
//! Written after docs.aws.amazon.com: "AssumeRoleWithWebIdentity", "Pod Identity", "Task IAM role", "Instance metadata".

use serde_json::json;

use crate::gcs::wire::{Answer, Request};
use crate::giver::{Book, Giver};

/// Keys that are good for a while.
#[derive(Debug, Clone)]
pub struct Session {
    pub access_key: String,
    pub secret_key: String,
    pub token: String,
}

/// Starts one that gives out `session` to whoever asks as it should. `address` may leave the port open: `127.0.0.1:0`.
pub fn start_at(address: &str, session: Session) -> Giver {
    Giver::start_at(address, move |request, book| Service { session: &session, book }.answer(request))
}

struct Service<'a> {
    session: &'a Session,
    book: &'a Book,
}

impl Service<'_> {
    fn answer(&self, request: &Request) -> Answer {
        let machine = request.header("x-aws-ec2-metadata-token") == Some(MACHINE);
        match (request.method.as_str(), request.path().as_str()) {
            ("PUT", "/latest/api/token") => Answer::new(200, MACHINE),
            ("GET", ROLES) if machine => Answer::new(200, "backup"),
            ("GET", path) if machine && path.strip_prefix(ROLES) == Some("backup") => {
                self.keys("machine".into())
            }
            // "Task IAM role": the way there is the secret.
            ("GET", "/v2/credentials/task") => self.keys("task".into()),
            ("GET", "/v1/credentials") => match request.header("authorization") {
                Some(token) => self.keys(format!("pod: {token}")),
                None => Answer::new(401, ""),
            },
            ("POST", "/") if request.parameter("Action").as_deref() == Some("AssumeRoleWithWebIdentity") => {
                let field = |name: &str| request.parameter(name).unwrap_or_default();
                self.book.enter(format!("web identity: {}, {}", field("RoleArn"), field("WebIdentityToken")));
                let Session { access_key, secret_key, token } = self.session;
                Answer::new(
                    200,
                    format!(
                        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
                         <SessionToken>{token}</SessionToken><SecretAccessKey>{secret_key}</SecretAccessKey>\
                         <AccessKeyId>{access_key}</AccessKeyId><Expiration>{}</Expiration></Credentials>\
                         </AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
                        self.expires()
                    ),
                )
            }
            _ => Answer::new(404, ""),
        }
    }

    fn keys(&self, how: String) -> Answer {
        self.book.enter(how);
        let Session { access_key, secret_key, token } = self.session;
        let keys = json!({
            "Code": "Success", "AccessKeyId": access_key, "SecretAccessKey": secret_key, "Token": token,
            "Expiration": self.expires(),
        });
        Answer::new(200, keys.to_string())
    }

    fn expires(&self) -> String {
        let at = jiff::Timestamp::now().as_second() + self.book.lasts();
        jiff::Timestamp::from_second(at).expect("a time").to_string()
    }
}

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// The token that shows that the metadata service was asked on purpose.
const MACHINE: &str = "asked-on-purpose";
