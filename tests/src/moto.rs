//! An emulation of S3 and IAM on loopback that checks signatures and policies: moto. Starts a process.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::process::{self, Running};
use crate::programs;
use crate::signed::Signer;
use crate::sts::Session;

/// A running moto with one empty bucket and a user who may do anything.
#[derive(Debug)]
pub struct Moto {
    pub endpoint: String,
    pub bucket: String,
    /// Of the user who may do anything.
    pub admin: User,
    running: Running,
    _dir: TempDir,
}

/// A pair of keys.
#[derive(Debug, Clone)]
pub struct User {
    pub access_key: String,
    pub secret_key: String,
}

impl Moto {
    /// Starts one (about a second).
    pub fn start() -> Self {
        let program = programs::state().join("venv/bin/moto_server");
        assert!(program.exists(), "moto is not set up: `tests/run` once sets up what the tests need");
        let dir = tempfile::Builder::new().prefix("moto-").tempdir().expect("a temporary directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let mut command = process::command(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        // The first user is made before anybody could sign a request.
        command.env("INITIAL_NO_AUTH_ACTION_COUNT", "3");
        let mut running = Running::start(&mut command, &dir.path().join("moto.log"));
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(running.alive() && Instant::now() < until, "moto does not start:\n{}", running.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let nobody = User { access_key: "nobody".into(), secret_key: "nothing".into() };
        let mut moto = Self {
            endpoint: format!("http://127.0.0.1:{port}"),
            bucket: "holdfast".into(),
            admin: nobody,
            running,
            _dir: dir,
        };
        moto.admin = moto.user("admin", &["*"], "*");
        moto.signer(&moto.admin, "s3").send("PUT", "/holdfast", &[], "").expect_success("create the bucket");
        moto
    }

    /// A user who may do `actions` (`s3:GetObject`) to `resource`, and nothing else. Exactly three requests.
    pub fn user(&self, name: &str, actions: &[&str], resource: &str) -> User {
        self.user_with(name, &json!([{ "Effect": "Allow", "Action": actions, "Resource": resource }]))
    }

    /// A user with these statements of a policy.
    pub fn user_with(&self, name: &str, statements: &serde_json::Value) -> User {
        self.iam("CreateUser", &[("UserName", name)]);
        let keys = self.iam("CreateAccessKey", &[("UserName", name)]);
        self.allow(name, statements);
        User { access_key: keys.element("AccessKeyId"), secret_key: keys.element("SecretAccessKey") }
    }

    /// Keys of a role with these statements, for a session.
    pub fn session(&self, role: &str, statements: &serde_json::Value) -> Session {
        let policy = |statements: &serde_json::Value| {
            json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
        };
        let trust = json!([{ "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": { "AWS": "*" } }]);
        self.iam("CreateRole", &[("RoleName", role), ("AssumeRolePolicyDocument", &policy(&trust))]);
        let form = [("RoleName", role), ("PolicyName", "only"), ("PolicyDocument", &policy(statements))];
        self.iam("PutRolePolicy", &form);
        let arn = format!("arn:aws:iam::123456789012:role/{role}");
        let form = [("RoleArn", arn.as_str()), ("RoleSessionName", "test")];
        let answer = self.ask("sts", "2011-06-15", "AssumeRole", &form);
        Session {
            access_key: answer.element("AccessKeyId"),
            secret_key: answer.element("SecretAccessKey"),
            token: answer.element("SessionToken"),
        }
    }

    /// Replaces a user's policy.
    pub fn allow(&self, name: &str, statements: &serde_json::Value) {
        let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        let form = [("UserName", name), ("PolicyName", "only"), ("PolicyDocument", policy.as_str())];
        self.iam("PutUserPolicy", &form);
    }

    /// Signs as `user`.
    pub fn signer(&self, user: &User, service: &'static str) -> Signer {
        Signer {
            endpoint: self.endpoint.clone(),
            access_key: user.access_key.clone(),
            secret_key: user.secret_key.clone(),
            service,
        }
    }

    /// Every request so far, method and path with query: `GET /holdfast?list-type=2&prefix=…`.
    pub fn requests(&self) -> Vec<String> {
        let log = self.running.log();
        let request = |line: &str| Some(line.split_once("] \"")?.1.split_once(" HTTP/")?.0.to_owned());
        log.lines().filter_map(request).collect()
    }

    fn iam(&self, action: &str, form: &[(&str, &str)]) -> crate::signed::Answer {
        self.ask("iam", "2010-05-08", action, form)
    }

    fn ask(
        &self,
        service: &'static str,
        version: &str,
        action: &str,
        form: &[(&str, &str)],
    ) -> crate::signed::Answer {
        let all = [("Action", action), ("Version", version)].into_iter().chain(form.iter().copied());
        let body: Vec<_> = all.map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.signer(&self.admin, service).send("POST", "/", &headers, &body.join("&")).expect_success(action)
    }
}

/// As it stands in a form.
fn escaped(value: &str) -> String {
    value
        .bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(b).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
