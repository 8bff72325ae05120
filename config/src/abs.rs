//! The parts of a replica on Azure Blob Storage, put together and checked. Values only.

use crate::destination::{Abs, AbsCredentials};
use crate::endpoint;
use crate::env::Env;
use crate::path::clean_prefix;
use crate::s3::{self, Flaw};
use crate::secret::Secret;
use crate::secret_file;

/// What a file, a URL or the environment says of it.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) account: Option<String>,
    /// The container.
    pub(crate) bucket: Option<String>,
    pub(crate) path: String,
    pub(crate) endpoint: Option<String>,
    pub(crate) key: Option<Secret<String>>,
    pub(crate) sas: Option<Secret<String>>,
}

/// Checks the parts and finds the credentials as Litestream 0.5 does: a SAS token, else an account key, each of the
/// replica or else of `LITESTREAM_AZURE_SAS_TOKEN` and `LITESTREAM_AZURE_ACCOUNT_KEY` (or `…_FILE`), else the platform's. The flag
/// says that there was both a token and a key, and the key has no effect.
pub(crate) fn assemble(parts: Parts, env: &Env) -> Result<(Abs, bool), Flaw> {
    let account = parts.account.filter(|a| !a.is_empty()).ok_or_else(|| {
        let fix = "name the storage account (abs://ACCOUNT@CONTAINER/PATH, or the key `account-name`)";
        Flaw::new("account-name", "it is missing", fix)
    })?;
    if account.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        return Err(Flaw::new(
            "account-name",
            format!("{account:?} is not a storage account's name"),
            "write the name alone; the address of the service is the key `endpoint`",
        ));
    }
    let endpoint = parts.endpoint.filter(|e| !e.is_empty());
    let given = parts.key.is_some() || parts.sas.is_some();
    let variable = |field, name| match given {
        true => Ok(None),
        false => secret_file::variable(name, env)
            .map_err(|bad| Flaw::new(field, format!("{name}_FILE: {}", bad.problem), bad.fix)),
    };
    let key = parts.key.or(variable("account-key", "LITESTREAM_AZURE_ACCOUNT_KEY")?);
    let sas = parts.sas.or(variable("sas-token", "LITESTREAM_AZURE_SAS_TOKEN")?);
    let both = key.is_some() && sas.is_some();
    let abs = Abs {
        account,
        container: s3::bucket(
            parts.bucket,
            "name the container (abs://ACCOUNT@CONTAINER/PATH, or the key `bucket`)",
        )?,
        path: clean_prefix(&parts.path),
        endpoint: endpoint.map(|e| endpoint::clean(&e, &ENDPOINT)).transpose()?,
        credentials: match (sas, key) {
            (Some(token), _) => AbsCredentials::Sas(token),
            (None, Some(key)) => AbsCredentials::Key(key),
            (None, None) => AbsCredentials::Platform,
        },
    };
    Ok((abs, both))
}

/// What [`assemble`]'s flag means, for a reader.
pub(crate) const BOTH: &str = "a SAS token is given too, and is used; the account key has no effect";

const ENDPOINT: endpoint::Advice = endpoint::Advice {
    form: "write something like https://ACCOUNT.blob.core.windows.net",
    keys: "remove them; keys go into account-key or sas-token",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        Parts { account: Some("acct".into()), bucket: Some("c".into()), ..Parts::default() }
    }

    fn secret(text: &str) -> Option<Secret<String>> {
        Some(Secret::new(text.into()))
    }

    #[test]
    fn a_token_wins_over_a_key_and_the_replicas_own_over_the_environments() {
        let env = [("LITESTREAM_AZURE_ACCOUNT_KEY", "env-key"), ("LITESTREAM_AZURE_SAS_TOKEN", "env-sas")];
        let found = |parts: Parts, env: &[(&str, &str)]| {
            let (abs, both) = assemble(parts, &Env::from_pairs(env.iter().copied())).unwrap();
            let shown = match abs.credentials {
                AbsCredentials::Key(key) => format!("key {}", key.expose()),
                AbsCredentials::Sas(sas) => format!("sas {}", sas.expose()),
                AbsCredentials::Platform => "platform".into(),
            };
            (shown, both)
        };
        let key = || Parts { key: secret("k"), ..parts() };
        assert_eq!(found(key(), &env), ("key k".into(), false));
        assert_eq!(found(Parts { sas: secret("s"), ..key() }, &env), ("sas s".into(), true));
        assert_eq!(found(parts(), &env), ("sas env-sas".into(), true));
        assert_eq!(found(parts(), &env[..1]), ("key env-key".into(), false));
        assert_eq!(found(parts(), &[("LITESTREAM_AZURE_ACCOUNT_KEY", "")]), ("platform".into(), false));
    }

    #[test]
    fn an_account_has_a_name() {
        for (account, problem) in [
            ("", "it is missing"),
            ("a.blob.core.windows.net", "\"a.blob.core.windows.net\" is not a storage account's name"),
        ] {
            let given = Parts { account: Some(account.into()), ..parts() };
            let flaw = assemble(given, &Env::default()).unwrap_err();
            assert_eq!((flaw.field, flaw.problem.as_str()), ("account-name", problem));
        }
    }
}
