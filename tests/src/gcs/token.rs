//! A service account: its key as a client gets it, and its signatures as the server checks them. Values only.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const EMAIL: &str = "backup@holdfast-test.iam.gserviceaccount.com";

/// An account with a key of its own.
pub(super) struct ServiceAccount(KeyPair);

impl ServiceAccount {
    pub(super) fn new() -> Self {
        Self(KeyPair::generate(KeySize::Rsa2048).expect("a key pair"))
    }

    pub(super) fn public_key(&self) -> PublicKey {
        PublicKey(self.0.public_key().as_ref().to_vec())
    }

    /// What the metadata service of a machine that runs as this account gives out.
    pub(super) fn token(&self) -> String {
        let now = jiff::Timestamp::now().as_second();
        let claims = serde_json::json!({"iss": EMAIL, "scope": SCOPE, "iat": now, "exp": now + 3600});
        let part = |json: String| BASE64_URL_SAFE_NO_PAD.encode(json);
        let signed = format!("{}.{}", part(r#"{"alg":"RS256"}"#.into()), part(claims.to_string()));
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .expect("a signature");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// The key's file, with the fields of a real one that clients read.
    pub(super) fn json(&self) -> String {
        let der: Pkcs8V1Der<'_> = self.0.as_der().expect("a private key");
        let text = BASE64_STANDARD.encode(der.as_ref());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
        serde_json::json!({
            "type": "service_account",
            "project_id": "holdfast-test",
            "private_key_id": "1",
            "private_key": pem,
            "client_email": EMAIL,
        })
        .to_string()
    }
}

/// What the server knows of an account.
pub(super) struct PublicKey(Vec<u8>);

impl PublicKey {
    /// `Bearer HEADER.CLAIMS.SIGNATURE`, signed by this key for this account, for Google's services, and not expired.
    pub(super) fn accepts(&self, authorization: Option<&str>) -> bool {
        let valid = || {
            let token = authorization?.strip_prefix("Bearer ")?;
            let (signed, signature) = token.rsplit_once('.')?;
            let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
            let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.0);
            key.verify(signed.as_bytes(), &signature).ok()?;
            let (_, claims) = signed.split_once('.')?;
            let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
            let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
            let now = jiff::Timestamp::now().as_second();
            let ours = claims["iss"] == EMAIL
                && claims["scope"].as_str()?.starts_with("https://www.googleapis.com/auth/");
            Some(ours && claims["exp"].as_i64()? > now && claims["iat"].as_i64()? <= now + 60)
        };
        valid().unwrap_or(false)
    }
}
