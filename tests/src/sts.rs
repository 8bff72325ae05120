//! What gives out keys on AWS, emulated: the security token service that takes a pod's token (IRSA), the agent of EKS's
//! Pod Identity, and a machine's metadata service (version 2). One thread a connection. The keys themselves are of a
//! session that [`crate::moto`] knows, and checks.
//!
//! Written after docs.aws.amazon.com: "AssumeRoleWithWebIdentity", "Pod Identity", "Instance metadata".

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use crate::gcs::wire::{Answer, Connection, Request};

/// Keys that are good for a while.
#[derive(Debug, Clone)]
pub struct Session {
    pub access_key: String,
    pub secret_key: String,
    pub token: String,
}

/// A running service.
pub struct Sts {
    at: SocketAddr,
    service: Arc<Service>,
}

struct Service {
    session: Session,
    /// Seconds after which it says that keys expire.
    lasts: AtomicI64,
    asked: Mutex<Vec<String>>,
}

impl Sts {
    /// Gives out `session` to whoever asks as it should.
    pub fn start(session: Session) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its address");
        let service = Arc::new(Service { session, lasts: 3600.into(), asked: Mutex::default() });
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

    /// From now on it says that keys expire after so long.
    pub fn lasting(&self, seconds: i64) {
        self.service.lasts.store(seconds, Ordering::SeqCst);
    }

    /// How keys were asked for, each time.
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
        let machine = request.header("x-aws-ec2-metadata-token") == Some(MACHINE);
        match (request.method.as_str(), request.path().as_str()) {
            ("PUT", "/latest/api/token") => Answer::new(200, MACHINE),
            ("GET", ROLES) if machine => Answer::new(200, "backup"),
            ("GET", path) if machine && path.strip_prefix(ROLES) == Some("backup") => {
                self.keys("machine".into())
            }
            ("GET", "/v1/credentials") => match request.header("authorization") {
                Some(token) => self.keys(format!("pod: {token}")),
                None => Answer::new(401, ""),
            },
            ("POST", "/") if request.parameter("Action").as_deref() == Some("AssumeRoleWithWebIdentity") => {
                let field = |name: &str| request.parameter(name).unwrap_or_default();
                self.ask(format!("web identity: {}, {}", field("RoleArn"), field("WebIdentityToken")));
                let Session { access_key, secret_key, token } = &self.session;
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
        self.ask(how);
        let Session { access_key, secret_key, token } = &self.session;
        let keys = json!({
            "Code": "Success", "AccessKeyId": access_key, "SecretAccessKey": secret_key, "Token": token,
            "Expiration": self.expires(),
        });
        Answer::new(200, keys.to_string())
    }

    fn ask(&self, how: String) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(how);
    }

    fn expires(&self) -> String {
        let at = jiff::Timestamp::now().as_second() + self.lasts.load(Ordering::SeqCst);
        jiff::Timestamp::from_second(at).expect("a time").to_string()
    }
}

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// The token that shows that the metadata service was asked on purpose.
const MACHINE: &str = "asked-on-purpose";
