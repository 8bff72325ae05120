//! Azure Blob Storage by `LITESTREAM_ABS_*`, which one page of Station's documentation spells `LITESTREAM_AZURE_*`.
//! Values in, values out.

use super::{fail, value_or_file};
use crate::abs::{self, Parts};
use crate::destination::Destination;
use crate::env::Env;
use crate::error::ConfigError;
use crate::s3::Flaw;

/// The destination, and the variable that asked for it.
pub(super) fn destination(env: &Env) -> Result<Option<(Destination, &'static str)>, ConfigError> {
    let Some((container, by)) = either(env, CONTAINER, "LITESTREAM_AZURE_CONTAINER")? else {
        return Ok(None);
    };
    let account = either(env, ACCOUNT, "LITESTREAM_AZURE_ACCOUNT_NAME")?;
    let parts = Parts {
        account: account.map(|(name, _)| name),
        bucket: Some(container),
        path: env.filled("LITESTREAM_ABS_PATH").unwrap_or("station-db").into(),
        endpoint: env.filled(ENDPOINT).map(Into::into),
        key: value_or_file(env, "LITESTREAM_ABS_ACCOUNT_KEY")?,
        sas: value_or_file(env, "LITESTREAM_ABS_SAS_TOKEN")?,
    };
    let (abs, _) = abs::assemble(parts, env)
        .map_err(|flaw: Flaw| fail(variable(flaw.field, by), flaw.problem).fix(flaw.fix))?;
    Ok(Some((Destination::Abs(abs), by)))
}

/// The value of one of two variables that mean the same, and which of them had it.
fn either(
    env: &Env,
    name: &'static str,
    alias: &'static str,
) -> Result<Option<(String, &'static str)>, ConfigError> {
    match (env.filled(name), env.filled(alias)) {
        (Some(a), Some(b)) if a != b => {
            Err(fail(alias, format!("{name} is set too, to something else")).fix("keep one of them"))
        }
        (Some(value), _) => Ok(Some((value.into(), name))),
        (None, Some(value)) => Ok(Some((value.into(), alias))),
        (None, None) => Ok(None),
    }
}

fn variable(field: &str, container: &'static str) -> &'static str {
    match field {
        "account-name" => ACCOUNT,
        "endpoint" => ENDPOINT,
        _ => container,
    }
}

const CONTAINER: &str = "LITESTREAM_ABS_BUCKET";
const ACCOUNT: &str = "LITESTREAM_ABS_ACCOUNT_NAME";
const ENDPOINT: &str = "LITESTREAM_ABS_ENDPOINT";
