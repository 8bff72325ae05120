//! Opening a container of Azure Blob Storage: from configuration to a client. No request is made here, and none later
//! that was not asked for.

use std::sync::Arc;

use holdfast_config::{Abs, AbsCredentials, Secret};
use object_store::RetryConfig;
use object_store::azure::{AzureAccessKey, AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};

use super::http::{Connector, Dialect, SharedKey, client_options, unusable};
use super::remote::{Remote, Service};
use super::{Kind, OpenOptions, StoreError};

pub(super) fn open(abs: &Abs, options: &OpenOptions) -> Result<Remote, StoreError> {
    let known = Arc::default();
    let place = format!("abs://{}@{}", abs.account, abs.container);
    let invalid = |cause: String| StoreError::new(Kind::Invalid, "open", place.clone(), cause);
    let mut builder = MicrosoftAzureBuilder::new()
        .with_client_options(client_options(options, abs.endpoint.as_deref()))
        // Whoever asked decides when to try again.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .with_account(&abs.account)
        .with_container_name(&abs.container);
    if let Some(endpoint) = &abs.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let mut shared = None;
    builder = match &abs.credentials {
        AbsCredentials::Key(key) => {
            // The decoder's own words would quote the key.
            let decoded = AzureAccessKey::try_new(key.expose()).map_err(|_| {
                invalid("the account key is not base64; copy it from the portal as it is".into())
            })?;
            let signing = Secret::new(AzureCredential::AccessKey(decoded));
            shared = Some(Arc::new(SharedKey { account: abs.account.clone(), key: signing }));
            builder.with_access_key(key.expose())
        }
        AbsCredentials::Sas(token) => builder.with_config(AzureConfigKey::SasKey, token.expose().trim()),
        AbsCredentials::Platform => platform_credentials(builder, |name| std::env::var(name).ok()),
    };
    let container = builder
        .with_http_connector(Connector::new(&abs.container, Dialect::Abs(shared), &known, options))
        .build()
        .map_err(|e| invalid(unusable(&e)))?;
    Ok(Remote::new(Arc::new(container), &abs.path, place, Service::Abs, known))
}

/// What AKS (workload identity), App Service and Container Apps (managed identity) and people (a service principal)
/// set in a container's environment. With none of it, the client asks the machine's metadata service.
fn platform_credentials(
    mut builder: MicrosoftAzureBuilder,
    env: impl Fn(&str) -> Option<String>,
) -> MicrosoftAzureBuilder {
    for (name, key) in PLATFORM {
        if let Some(value) = env(name).filter(|v| !v.is_empty()) {
            builder = builder.with_config(key, value);
        }
    }
    builder
}

const PLATFORM: [(&str, AzureConfigKey); 6] = [
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_platform_sets_is_handed_over() {
        let builder = platform_credentials(MicrosoftAzureBuilder::new(), |name| Some(format!("<{name}>")));
        for (name, key) in PLATFORM {
            assert_eq!(builder.get_config_value(&key), Some(format!("<{name}>")), "{name}");
        }
        let builder = platform_credentials(MicrosoftAzureBuilder::new(), |_| Some(String::new()));
        assert!(PLATFORM.iter().all(|(_, key)| builder.get_config_value(key).is_none()), "empty is not set");
    }

    #[test]
    fn a_key_that_is_none_is_not_shown() {
        let abs = Abs {
            account: "acct".into(),
            container: "box".into(),
            path: String::new(),
            endpoint: None,
            credentials: AbsCredentials::Key("hunter2!".to_owned().into()),
        };
        let e = open(&abs, &OpenOptions::default()).unwrap_err();
        assert_eq!(
            e.to_string(),
            "open abs://acct@box: invalid: the account key is not base64; copy it from the portal as it is"
        );
    }
}
