//! The parts of a replica on Google Cloud Storage, put together and checked. Values only; whether Station's key file
//! is there is looked up.

use std::path::Path;

use crate::destination::{Gcs, GcsCredentials};
use crate::endpoint;
use crate::env::Env;
use crate::path::clean_prefix;
use crate::s3::{self, Flaw};
use crate::secret::Secret;

/// What a file, a URL or the environment says of it.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) bucket: Option<String>,
    pub(crate) path: String,
    pub(crate) endpoint: Option<String>,
    /// A service account's key itself.
    pub(crate) key: Option<Secret<String>>,
    /// The file it is in.
    pub(crate) key_path: Option<String>,
}

/// Checks the parts and finds the credentials: those of the replica, else the file
/// `GOOGLE_APPLICATION_CREDENTIALS` names, else Station's `/secrets/gcs-service-account.json` if there is one, else
/// the platform's.
pub(crate) fn assemble(parts: Parts, env: &Env) -> Result<Gcs, Flaw> {
    with_default(parts, env, Path::new(STATIONS_KEY))
}

fn with_default(parts: Parts, env: &Env, default: &Path) -> Result<Gcs, Flaw> {
    let endpoint = parts.endpoint.filter(|e| !e.is_empty());
    Ok(Gcs {
        bucket: s3::bucket(parts.bucket, "name the bucket (gs://BUCKET/PATH, or the key `bucket`)")?,
        path: clean_prefix(&parts.path),
        endpoint: endpoint.map(|e| endpoint::clean(&e, &ENDPOINT)).transpose()?,
        credentials: credentials(parts.key, parts.key_path, env, default)?,
    })
}

fn credentials(
    key: Option<Secret<String>>,
    key_path: Option<String>,
    env: &Env,
    default: &Path,
) -> Result<GcsCredentials, Flaw> {
    let file = |field, path: &str, fix: &str| match env.absolute(path.as_ref()) {
        Ok(path) => Ok(GcsCredentials::File(path)),
        Err(e) => Err(Flaw::new(field, e.to_string(), fix)),
    };
    match (key, key_path, env.filled("GOOGLE_APPLICATION_CREDENTIALS")) {
        (Some(_), Some(_), _) => Err(Flaw::new(PATH, format!("`{KEY}` is given too"), "keep one of them")),
        (Some(key), None, _) => {
            // The text is a secret: no message says more of it.
            if !serde_json::from_str::<serde_json::Value>(key.expose()).is_ok_and(|v| v.is_object()) {
                let fix = "write the whole content of the key's file, or its path under `service-account-json-path`";
                return Err(Flaw::new(KEY, "it is not a JSON object", fix));
            }
            Ok(GcsCredentials::Key(key))
        }
        (None, Some(path), _) => file(PATH, &path, "write the path of the service account's key"),
        (None, None, Some(path)) => {
            file("credentials", path, "let GOOGLE_APPLICATION_CREDENTIALS name the key's file")
        }
        (None, None, None) if default.is_file() => Ok(GcsCredentials::File(default.into())),
        (None, None, None) => Ok(GcsCredentials::Platform),
    }
}

const KEY: &str = "service-account-json";
const PATH: &str = "service-account-json-path";

/// Where Station's documentation mounts the key.
const STATIONS_KEY: &str = "/secrets/gcs-service-account.json";

const ENDPOINT: endpoint::Advice = endpoint::Advice {
    form: "write something like https://storage.example.com",
    keys: "remove them; the key goes into service-account-json-path",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn found(parts: Parts, env: &[(&str, &str)], default: &Path) -> Result<GcsCredentials, String> {
        let parts = Parts { bucket: Some("b".into()), ..parts };
        with_default(parts, &Env::from_pairs(env.iter().copied()), default)
            .map(|gcs| gcs.credentials)
            .map_err(|flaw| format!("{}: {}", flaw.field, flaw.problem))
    }

    #[test]
    fn the_nearest_credentials_win() {
        let station = tempfile::NamedTempFile::new().unwrap();
        let (there, nowhere) = (station.path(), Path::new("/nowhere/key.json"));
        let adc = [("GOOGLE_APPLICATION_CREDENTIALS", "/adc.json")];
        let json = || Some(Secret::new(r#"{"type":"service_account"}"#.to_string()));
        let file = |path: &str| GcsCredentials::File(path.into());
        let key = Parts { key: json(), ..Parts::default() };
        assert_eq!(found(key, &adc, there), Ok(GcsCredentials::Key(json().unwrap())));
        let path = Parts { key_path: Some("/own.json".into()), ..Parts::default() };
        assert_eq!(found(path, &adc, there), Ok(file("/own.json")));
        assert_eq!(found(Parts::default(), &adc, there), Ok(file("/adc.json")));
        assert_eq!(found(Parts::default(), &[], there), Ok(file(there.to_str().unwrap())));
        assert_eq!(found(Parts::default(), &[], nowhere), Ok(GcsCredentials::Platform));
    }

    #[test]
    fn a_key_that_is_none_or_given_twice_is_refused_without_being_shown() {
        let nowhere = Path::new("/nowhere/key.json");
        let both =
            Parts { key: Some(Secret::new("{}".into())), key_path: Some("/x".into()), ..Parts::default() };
        assert_eq!(
            found(both, &[], nowhere),
            Err("service-account-json-path: `service-account-json` is given too".into())
        );
        for text in ["hunter2", "\"hunter2\"", "{\"private_key\": hunter2"] {
            let parts = Parts { key: Some(Secret::new(text.into())), ..Parts::default() };
            let error = found(parts, &[], nowhere).unwrap_err();
            assert_eq!(error, "service-account-json: it is not a JSON object");
        }
    }
}
