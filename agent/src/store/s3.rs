//! Opening a bucket of S3: from configuration to a client. No request is made here, and none later that was not asked for
//! (no bucket location, no existence check).

use std::sync::Arc;

use holdfast_config::{Encryption, S3};
use object_store::RetryConfig;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

use super::http::{Connector, Dialect, client_options, unusable};
use super::profile::Profile;
use super::remote::{Remote, Service};
use super::upload::Sending;
use super::{Kind, OpenOptions, StoreError};

pub(super) fn open(s3: &S3, options: &OpenOptions) -> Result<Remote, StoreError> {
    let known = Arc::default();
    let place = format!("s3://{}", s3.bucket);
    let invalid = |cause: String| StoreError::new(Kind::Invalid, "open", place.clone(), cause);
    let endpoint = s3.endpoint.as_deref();
    let client = client_options(options, endpoint).with_allow_invalid_certificates(s3.skip_verify);
    let mut builder = AmazonS3Builder::new()
        .with_http_connector(Connector::new(&s3.bucket, Dialect::S3, &known, options))
        .with_client_options(client)
        // Whoever asked decides when to try again.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        .with_unsigned_payload(!s3.options.sign_payload)
        .with_virtual_hosted_style_request(!s3.force_path_style);
    if let Some(endpoint) = endpoint {
        let url = match s3.force_path_style {
            true => endpoint.trim_end_matches('/').to_owned(),
            false => bucket_host(endpoint, &s3.bucket)
                .ok_or_else(|| invalid(format!("endpoint {endpoint} is not a URL")))?,
        };
        builder = builder.with_endpoint(url);
    }
    builder = match &s3.credentials {
        Some(keys) => {
            let builder = builder
                .with_access_key_id(&keys.access_key_id)
                .with_secret_access_key(keys.secret_access_key.expose());
            match &keys.session_token {
                Some(token) => builder.with_token(token.expose()),
                None => builder,
            }
        }
        None => {
            let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            // What a platform gives a container is meant for it; files may lie there for a person.
            let given = env("AWS_PROFILE").is_none() && PLATFORM.iter().any(|(name, _)| env(name).is_some());
            let found = match given {
                true => None,
                false => Profile::of_environment(env).map_err(|e| invalid(e.to_string()))?,
            };
            match found {
                Some(profile) => builder.with_credentials(Arc::new(profile)),
                None => platform_credentials(builder, env),
            }
        }
    };
    builder = match &s3.options.encryption {
        None => builder,
        Some(Encryption::Kms { key_id }) => builder.with_sse_kms_encryption(key_id),
        Some(Encryption::Customer(key)) => builder.with_ssec_encryption(key.expose()),
    };
    let bucket = builder.build().map_err(|e| invalid(unusable(&e)))?;
    let sending = Sending {
        part: s3.options.part_size.unwrap_or(Sending::default().part),
        flying: s3.options.concurrency.map_or(Sending::default().flying, |n| n as usize),
        storage_class: s3.options.storage_class.clone(),
    };
    Ok(Remote::new(Arc::new(bucket), &s3.path, place, Service::S3, known).sending(sending))
}

/// What Kubernetes (IRSA, Pod Identity) and ECS set in a container's environment. With none of it, the client asks
/// the machine's metadata service.
fn platform_credentials(
    mut builder: AmazonS3Builder,
    env: impl Fn(&str) -> Option<String>,
) -> AmazonS3Builder {
    for (name, key) in PLATFORM.into_iter().chain([MACHINE]) {
        if let Some(value) = env(name).filter(|v| !v.is_empty()) {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

/// `https://s3.example.com` and `b` make `https://b.s3.example.com`.
fn bucket_host(endpoint: &str, bucket: &str) -> Option<String> {
    let (scheme, host) = endpoint.trim_end_matches('/').split_once("://")?;
    Some(format!("{scheme}://{bucket}.{host}"))
}

/// Where a machine's metadata service is, if not where it always is. Says nothing of who gives out the keys.
const MACHINE: (&str, AmazonS3ConfigKey) =
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint);

const PLATFORM: [(&str, AmazonS3ConfigKey); 7] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];
