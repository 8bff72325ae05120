//! Google Cloud Storage by `LITESTREAM_GCS_*`. Values in, values out.

use super::{fail, value_or_file};
use crate::destination::Destination;
use crate::env::Env;
use crate::error::ConfigError;
use crate::gcs::{self, Parts};
use crate::s3::Flaw;

/// The variable that asks for it.
pub(super) const BUCKET: &str = "LITESTREAM_GCS_BUCKET";

pub(super) fn destination(env: &Env) -> Result<Option<Destination>, ConfigError> {
    let Some(bucket) = env.filled(BUCKET) else { return Ok(None) };
    let parts = Parts {
        bucket: Some(bucket.into()),
        path: env.filled("LITESTREAM_GCS_PATH").unwrap_or("station-db").into(),
        endpoint: env.filled("LITESTREAM_GCS_ENDPOINT").map(Into::into),
        key: value_or_file(env, KEY)?,
        key_path: None,
    };
    let gcs = gcs::assemble(parts, env)
        .map_err(|flaw: Flaw| fail(variable(flaw.field), flaw.problem).fix(flaw.fix))?;
    Ok(Some(Destination::Gcs(gcs)))
}

fn variable(field: &str) -> &'static str {
    match field {
        "endpoint" => "LITESTREAM_GCS_ENDPOINT",
        "service-account-json" => KEY,
        "credentials" => "GOOGLE_APPLICATION_CREDENTIALS",
        _ => BUCKET,
    }
}

const KEY: &str = "LITESTREAM_GCS_SERVICE_ACCOUNT_JSON";
