//! A real Azure Blob service on loopback: Microsoft's Azurite, which checks shared keys. Starts a process.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_STANDARD, Engine};
use object_store::ClientOptions;
use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential};
use object_store::client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector};
use tempfile::TempDir;

use crate::process::{self, Running};
use crate::programs;
use crate::proxy::tls::Identity;

/// A running Azurite with one empty container. What it holds outlives a stop.
#[derive(Debug)]
pub struct Azurite {
    pub account: String,
    pub key: String,
    pub container: String,
    port: u16,
    dir: TempDir,
    /// With TLS it takes tokens, too.
    tls: bool,
    running: Option<Running>,
}

impl Azurite {
    /// Starts one (about a second) and creates its container.
    pub fn start() -> Self {
        Self::start_as(None)
    }

    /// The same over TLS, where it takes tokens of identities, too. It checks all of a token but its signature.
    pub fn start_with_tokens(identity: &Identity) -> Self {
        Self::start_as(Some(identity))
    }

    fn start_as(identity: Option<&Identity>) -> Self {
        let dir = tempfile::Builder::new().prefix("azurite-").tempdir().expect("a temporary directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let mut azurite = Self {
            account: "devstoreaccount1".into(),
            // The key every Azurite has; it is public.
            key: "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
                .into(),
            container: "holdfast-test".into(),
            port,
            dir,
            tls: identity.is_some(),
            running: None,
        };
        if let Some(identity) = identity {
            identity.write(&azurite.certificate(), &azurite.certificate().with_extension("key"));
        }
        azurite.start_again();
        azurite.create_container();
        azurite
    }

    /// `http://127.0.0.1:PORT/ACCOUNT`, or with `https`.
    pub fn endpoint(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{}", self.port, self.account)
    }

    fn certificate(&self) -> PathBuf {
        self.dir.path().join("certificate.pem")
    }

    /// A shared access signature for the container that allows what `permissions` lists, in Azure's order: `rcwdl`.
    /// Source: learn.microsoft.com, "Create a service SAS", version 2018-11-09.
    pub fn signature(&self, permissions: &str) -> String {
        let (version, expires) = ("2018-11-09", "2099-01-01T00:00:00Z");
        let resource = format!("/blob/{}/{}", self.account, self.container);
        let fields = [permissions, "", expires, &resource, "", "", "", version, "c", "", "", "", "", "", ""];
        let key = BASE64_STANDARD.decode(&self.key).expect("the key is base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signature = BASE64_STANDARD.encode(hmac::sign(&key, fields.join("\n").as_bytes()));
        let escaped = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        format!("sv={version}&sr=c&sp={permissions}&se={}&sig={escaped}", expires.replace(':', "%3A"))
    }

    /// Ends it. It writes down what it holds first, as a kill would not let it.
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.stop(Duration::from_secs(20));
        }
    }

    /// Serves again what it had, at the same address.
    pub fn start_again(&mut self) {
        let program = programs::state().join("azurite/node_modules/azurite/dist/src/blob/main.js");
        assert!(program.exists(), "Azurite is not set up: `tests/run` once sets up what the tests need");
        let mut node = process::command("node");
        node.arg(program).args(["--blobHost", "127.0.0.1", "--blobPort", &self.port.to_string(), "-l"]);
        node.arg(self.dir.path()).args(["--disableTelemetry", "--silent", "--skipApiVersionCheck"]);
        if self.tls {
            node.args(["--oauth", "basic", "--cert"]).arg(self.certificate());
            node.arg("--key").arg(self.certificate().with_extension("key"));
        }
        let mut running = Running::start(&mut node, &self.dir.path().join("azurite.log"));
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(running.alive() && Instant::now() < until, "Azurite does not start:\n{}", running.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.running = Some(running);
    }

    fn create_container(&self) {
        let uri = format!("{}/{}?restype=container", self.endpoint(), self.container);
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = "PUT".parse().expect("a method");
        *request.uri_mut() = uri.parse().expect("a URI");
        let key = AzureAccessKey::try_new(&self.key).expect("base64");
        AzureAuthorizer::new(&AzureCredential::AccessKey(key), &self.account)
            .try_authorize(&mut request)
            .expect("a signature");
        let client = ReqwestConnector::default()
            .connect(&ClientOptions::new().with_allow_http(true).with_allow_invalid_certificates(true));
        let client = client.expect("a client");
        // A thread of its own: the caller may be inside a runtime.
        let asking = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(client.execute(request)).map(|answer| answer.status().as_u16())
        });
        let status = asking.join().expect("the request is made");
        assert_eq!(status.expect("an answer"), 201, "create the container");
    }
}
