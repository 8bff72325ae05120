//! Certificates that clients must refuse, and one they must not. Values only.

use std::path::Path;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// An authority of the test's own, which a program trusts that is started with `SSL_CERT_FILE`.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "Holdfast's tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"),
        )
    }

    /// Its certificate, for `SSL_CERT_FILE`.
    pub fn write(&self, to: &Path) {
        std::fs::write(to, self.0.pem()).expect("the certificate can be written");
    }

    /// A certificate for 127.0.0.1.
    pub fn good(&self) -> Identity {
        self.sign(params("127.0.0.1"))
    }

    /// One that was good once.
    pub fn expired(&self) -> Identity {
        let mut params = params("127.0.0.1");
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
        self.sign(params)
    }

    /// One for somebody else.
    pub fn wrong_name(&self) -> Identity {
        self.sign(params("elsewhere.example"))
    }

    fn sign(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Identity { certificate: certificate.der().clone(), key: key.into() }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// A certificate for 127.0.0.1 that nobody vouches for.
    pub fn self_signed() -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = params("127.0.0.1").self_signed(&key).expect("a certificate");
        Self { certificate: certificate.der().clone(), key: key.into() }
    }

    /// Certificate and key as files, for a server of its own.
    pub fn write(&self, certificate: &Path, key: &Path) {
        let write = |to: &Path, label: &str, der: &[u8]| {
            let text = BASE64_STANDARD.encode(der);
            let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
            let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"));
            std::fs::write(to, pem).expect("a file can be written");
        };
        write(certificate, "CERTIFICATE", &self.certificate);
        write(key, "PRIVATE KEY", self.key.secret_der());
    }

    pub(super) fn server(&self) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .expect("a certificate and its key");
        Arc::new(config)
    }
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).expect("a name")
}
