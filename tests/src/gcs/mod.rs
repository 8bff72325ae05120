//! An emulation of Google Cloud Storage on loopback, for want of a real server that installs. One thread a connection.
//!
//! It speaks the XML API as its documentation has it (cloud.google.com/storage/docs/xml-api) over `object_store`'s
//! in-memory store, and checks the RS256 signature of every request's token. Where the documentation says that
//! preconditions are not supported, in multipart uploads, it refuses them. It is its machines' metadata service, too.

mod objects;
mod token;
pub(crate) mod wire;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use objects::Objects;
use token::ServiceAccount;

/// A running server. Its objects live as long as the value does, also while it is stopped.
pub struct Gcs {
    pub bucket: String,
    at: SocketAddr,
    account: ServiceAccount,
    service: Arc<Service>,
    listening: Option<JoinHandle<()>>,
}

struct Service {
    objects: Objects,
    /// For whoever asks as a machine that runs as the account does.
    token: String,
    up: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
    requests: Mutex<Vec<String>>,
}

impl Gcs {
    /// Starts one with an empty bucket.
    pub fn start() -> Self {
        let account = ServiceAccount::new();
        let bucket = "holdfast-test".to_owned();
        let service = Arc::new(Service {
            objects: Objects::new(&bucket, account.public_key()),
            token: account.token(),
            up: false.into(),
            streams: Mutex::default(),
            requests: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its address");
        let mut gcs = Self { bucket, at, account, service, listening: None };
        gcs.listen(listener);
        gcs
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.at)
    }

    /// `127.0.0.1:PORT`, for `GCE_METADATA_HOST`.
    pub fn host(&self) -> String {
        self.at.to_string()
    }

    /// The key's file as Google's console gives it out, at `path`.
    pub fn write_key(&self, path: &Path) {
        std::fs::write(path, self.key()).expect("the key can be written");
    }

    /// The content of the key's file.
    pub fn key(&self) -> String {
        self.account.json()
    }

    /// Another key for the same account, which this server does not know.
    pub fn wrong_key() -> String {
        ServiceAccount::new().json()
    }

    /// Method, path and query of every request so far, and its condition.
    pub fn requests(&self) -> Vec<String> {
        self.service.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hangs up on everybody and refuses connections.
    pub fn stop(&mut self) {
        self.service.up.store(false, Ordering::SeqCst);
        // Wakes the thread that waits for the next connection.
        let _ = TcpStream::connect(self.at);
        if let Some(listening) = self.listening.take() {
            listening.join().expect("the listening thread ends well");
        }
        for stream in self.service.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Serves again what it had, at the same address.
    pub fn start_again(&mut self) {
        let listener = TcpListener::bind(self.at).expect("the same port");
        self.listen(listener);
    }

    fn listen(&mut self, listener: TcpListener) {
        let service = self.service.clone();
        service.up.store(true, Ordering::SeqCst);
        self.listening = Some(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if !service.up.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(again) = stream.try_clone() {
                    service.streams.lock().unwrap_or_else(PoisonError::into_inner).push(again);
                }
                let service = service.clone();
                std::thread::spawn(move || serve(stream, &service));
            }
        }));
    }
}

/// Where a machine's metadata service gives out tokens.
const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

fn serve(stream: TcpStream, service: &Service) {
    let mut connection = wire::Connection::new(stream);
    while let Some(request) = connection.next_request() {
        let condition = match request.header("x-goog-if-generation-match") {
            Some(generation) => format!(" if-generation-match {generation}"),
            None => String::new(),
        };
        let line = format!("{} {}{condition}", request.method, request.target);
        service.requests.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        let answer = match request.path().as_str() {
            TOKEN if request.header("metadata-flavor") == Some("Google") => {
                let token = serde_json::json!({"access_token": service.token, "expires_in": 3599, "token_type": "Bearer"});
                wire::Answer::new(200, token.to_string()).header("content-type", "application/json")
            }
            _ => service.objects.answer(&request),
        };
        if !service.up.load(Ordering::SeqCst) || !connection.send(&request, &answer) {
            return;
        }
    }
}

impl std::fmt::Debug for Gcs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gcs").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Drop for Gcs {
    fn drop(&mut self) {
        self.stop();
    }
}
