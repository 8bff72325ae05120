//! Opening a bucket of Google Cloud Storage: from configuration to a client. Reads the key's file; no request is made
//! here, and none later that was not asked for.

use std::path::Path;
use std::sync::Arc;

use holdfast_config::{Gcs, GcsCredentials};
use object_store::RetryConfig;
use object_store::client::HttpConnector;
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use serde_json::Value;

use super::http::{Connector, Dialect, client_options, unusable};
use super::remote::{Remote, Service};
use super::resumable::Sessions;
use super::{Kind, OpenOptions, StoreError};

pub(super) fn open(gcs: &Gcs, options: &OpenOptions) -> Result<Remote, StoreError> {
    let known = Arc::default();
    let place = format!("gs://{}", gcs.bucket);
    let invalid = |cause: String| StoreError::new(Kind::Invalid, "open", place.clone(), cause);
    let builder = GoogleCloudStorageBuilder::new().with_bucket_name(&gcs.bucket);
    let (builder, base) = match &gcs.credentials {
        GcsCredentials::Key(key) => with_key(builder, key.expose(), None).map_err(invalid)?,
        GcsCredentials::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| {
                let e = StoreError::io("open", path, &e);
                // A file that is not there is a mistake in the configuration, not an empty replica.
                let kind = if e.kind == Kind::Denied { Kind::Denied } else { Kind::Invalid };
                StoreError::new(kind, "open", place.clone(), format!("{}: {}", path.display(), e.cause))
            })?;
            with_key(builder, &text, Some(path))
                .map_err(|cause| invalid(format!("{}: {cause}", path.display())))?
        }
        GcsCredentials::Platform => (builder, None),
    };
    let base = gcs.endpoint.clone().or(base).unwrap_or_else(|| GOOGLE.into());
    let client = client_options(options, Some(&base));
    let connector = || Connector::new(&gcs.bucket, Dialect::Gcs, &known, options);
    let http = connector().connect(&client).map_err(|e| invalid(unusable(&e)))?;
    let bucket: Arc<GoogleCloudStorage> = builder
        .with_http_connector(connector())
        .with_client_options(client)
        // Whoever asked decides when to try again.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_base_url(&base)
        .build()
        .map(Arc::new)
        .map_err(|e| invalid(unusable(&e)))?;
    let sessions = Sessions::new(http, bucket.credentials().clone(), format!("{base}/{}", gcs.bucket));
    Ok(Remote::new(bucket, &gcs.path, place, Service::Gcs(sessions), known))
}

/// Hands the key over, and gives the address it names, if it names one as the keys of emulators do. An error says
/// nothing of what the key holds.
fn with_key(
    builder: GoogleCloudStorageBuilder,
    text: &str,
    path: Option<&Path>,
) -> Result<(GoogleCloudStorageBuilder, Option<String>), String> {
    let key: Value = serde_json::from_str(text).map_err(|_| "it is not JSON")?;
    let base = key["gcs_base_url"].as_str().map(|base| base.trim_end_matches('/').to_owned());
    let builder = match (key["type"].as_str().unwrap_or("service_account"), path) {
        ("service_account", _) => {
            if let Some(missing) = PARTS.into_iter().find(|part| !key[part].is_string()) {
                return Err(format!("it is no service account's key: `{missing}` is missing"));
            }
            builder.with_service_account_key(text)
        }
        ("authorized_user", Some(path)) => builder.with_application_credentials(path.display().to_string()),
        (other, _) => {
            return Err(format!(
                "credentials of type {other:?} are not available; use a service account's key, or none for the \
                 machine's own account"
            ));
        }
    };
    Ok((builder, base))
}

const PARTS: [&str; 3] = ["client_email", "private_key_id", "private_key"];

const GOOGLE: &str = "https://storage.googleapis.com";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_are_no_use_are_named_and_not_shown() {
        let refused = |text: &str| with_key(GoogleCloudStorageBuilder::new(), text, None).unwrap_err();
        assert_eq!(refused("hunter2"), "it is not JSON");
        assert_eq!(
            refused(r#"{"client_email": "a", "private_key_id": "b"}"#),
            "it is no service account's key: `private_key` is missing"
        );
        let external = refused(r#"{"type": "external_account", "private_key": "hunter2"}"#);
        assert!(
            external.starts_with("credentials of type \"external_account\" are not available"),
            "{external}"
        );
        assert!(!external.contains("hunter2"));
    }
}
