//! A replica on a real server behind a proxy of its own, and the ways to break either. Starts programs and servers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::azurite::Azurite;
use crate::ceph::Ceph;
use crate::gcs;
use crate::process::{self, Finished};
use crate::proxy::tls::{Authority, Identity};
use crate::proxy::{Answer, Fault, Proxy, Service};
use crate::replica::{self, Replica};
use crate::scene::Scene;
use crate::tool::Tool;

/// One database whose replica lies behind a proxy.
pub struct Destination {
    pub service: Service,
    servers: Arc<Servers>,
    pub scene: Scene,
    upstream: String,
    proxy: Mutex<Proxy>,
    authority: Authority,
    /// What stands in the configuration instead of what.
    changes: Mutex<Vec<(String, String)>>,
}

impl Destination {
    /// An empty prefix of the service's server.
    pub fn of(service: Service, servers: &Arc<Servers>) -> Self {
        let mut scene = Scene::on_file();
        let name = scene.dir().file_name().expect("it has a name").to_string_lossy().into_owned();
        let prefix = format!("faults/{name}");
        let upstream = match service {
            Service::S3 => {
                let server = servers.s3.clone();
                let upstream = server.endpoint.clone();
                scene.replica = Replica::S3 { server, prefix };
                upstream
            }
            Service::Gcs => {
                scene.replica = Replica::on_gcs(&servers.gcs, &scene.dir().join("key.json"), &prefix);
                servers.gcs.endpoint()
            }
            Service::Abs => {
                scene.replica = Replica::on_abs(&servers.abs, &prefix);
                servers.abs.endpoint()
            }
        };
        let proxy = Proxy::to(&upstream);
        let endpoint = proxy.endpoint(&upstream);
        let authority = Authority::new();
        authority.write(&scene.dir().join("authority.pem"));
        let changes = vec![(upstream.clone(), endpoint)];
        let proxy = Mutex::new(proxy);
        let destination = Self {
            service,
            servers: servers.clone(),
            scene,
            upstream,
            proxy,
            authority,
            changes: Mutex::new(changes),
        };
        destination.configure("1s", "format: v0.3");
        destination
    }

    pub fn proxy(&self) -> MutexGuard<'_, Proxy> {
        self.proxy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Writes the configuration: with which patience, in which layout, and with 3 s for the final sync of an agent without supervisor.
    pub fn configure(&self, timeout: &str, format: &str) {
        let on_replica = ["sync-interval: 50ms", &format!("timeout: {timeout}"), format];
        let mut text = replica::config(&self.scene.db(), &[], &self.scene.replica, &on_replica);
        text.insert_str(0, "shutdown-sync-timeout: 3s\n");
        for (from, to) in self.changes.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            assert!(text.contains(from), "{from} in {text}");
            text = text.replace(from, to);
        }
        std::fs::write(self.scene.config(), text).expect("write the configuration");
    }

    /// `holdfast restore`, with the test's authority trusted, and where the database should be then.
    pub fn restore(&self) -> (Finished, PathBuf) {
        let dir = tempfile::Builder::new().prefix("restored-").tempdir_in(self.scene.dir());
        let out = dir.expect("a directory").keep().join("app.db");
        let mut command = Tool::Holdfast.command("restore");
        command.env("SSL_CERT_FILE", self.scene.dir().join("authority.pem"));
        command.arg("-config").arg(self.scene.config()).arg("-o").arg(&out).arg(self.scene.db());
        (process::run(&mut command, SOON), out)
    }

    /// Every request is answered so.
    pub fn always(&self, answer: fn(Service) -> Answer) {
        self.proxy().always(&Fault::Answer(answer(self.service)));
    }

    /// Whatever was wrong is not any more.
    pub fn mend(&self) {
        let mut proxy = self.proxy();
        proxy.pass();
        if !proxy.accepts() {
            proxy.accept();
        }
    }

    /// Requests that are not `GET` or `HEAD`.
    pub fn writes(&self, answer: fn(Service) -> Answer) {
        let answer = answer(self.service);
        self.proxy().script(move |request| match request.method.as_str() {
            "GET" | "HEAD" => Fault::Pass,
            _ => Fault::Answer(answer.clone()),
        });
    }

    /// The configuration has another secret than the server.
    pub fn wrong_secret(&self) {
        match self.service {
            Service::S3 => self.change(&self.servers.s3.secret_key, "wrong"),
            Service::Abs => self.change(&self.servers.abs.key, "d3JvbmcgYnV0IGJhc2U2NA=="),
            Service::Gcs => {
                std::fs::write(self.scene.dir().join("key.json"), gcs::Gcs::wrong_key())
                    .expect("write the key");
            }
        }
    }

    /// The configuration names a bucket the server does not have.
    pub fn missing_bucket(&self) {
        let bucket = match self.service {
            Service::S3 => &self.servers.s3.bucket,
            Service::Gcs => &self.servers.gcs.bucket,
            Service::Abs => &self.servers.abs.container,
        };
        self.change(&format!("bucket: {bucket}"), "bucket: nowhere");
    }

    /// The endpoint serves TLS with this certificate.
    pub fn over_tls(&self, identity: Identity) {
        let proxy = Proxy::with_tls(&self.upstream, &identity);
        let (from, to) = (self.proxy().endpoint(&self.upstream), proxy.endpoint(&self.upstream));
        *self.proxy() = proxy;
        self.change(&from, &to);
    }

    /// The endpoint is an `https` URL of a server that serves plain HTTP.
    pub fn https_without_tls(&self) {
        let endpoint = self.proxy().endpoint(&self.upstream);
        self.change(&endpoint, &self.upstream.replace("http://", "https://"));
    }

    /// The endpoint is an `http` URL of a server that serves TLS.
    pub fn http_over_tls(&self) {
        self.over_tls(self.authority.good());
        let endpoint = self.proxy().endpoint(&self.upstream);
        self.change(&endpoint, &endpoint.replace("https://", "http://"));
    }

    fn change(&self, from: &str, to: &str) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push((from.to_owned(), to.to_owned()));
        self.configure("1s", "format: v0.3");
    }
}

/// The real servers, and the emulated one.
pub struct Servers {
    pub s3: Arc<Ceph>,
    pub gcs: gcs::Gcs,
    pub abs: Azurite,
}

impl Servers {
    pub fn start() -> Arc<Self> {
        Arc::new(Self { s3: Arc::new(Ceph::connect()), gcs: gcs::Gcs::start(), abs: Azurite::start() })
    }
}

/// Runs `test` on each row of a table for each service, all at once, and says of every one that failed.
pub fn each<R: Sync>(rows: &[R], test: impl Fn(&Destination, &R) + Sync) {
    let servers = Servers::start();
    let failed: Vec<String> = std::thread::scope(|scope| {
        let (test, servers) = (&test, &servers);
        let running: Vec<_> = rows
            .iter()
            .flat_map(|row| [Service::S3, Service::Gcs, Service::Abs].map(|service| (service, row)))
            .map(|(service, row)| scope.spawn(move || test(&Destination::of(service, servers), row)))
            .collect();
        running
            .into_iter()
            .filter_map(|thread| thread.join().err())
            .map(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".into()))
            .collect()
    });
    assert!(failed.is_empty(), "{} failed:\n\n{}", failed.len(), failed.join("\n\n"));
}

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);
