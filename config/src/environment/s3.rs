//! S3 by `LITESTREAM_S3_*`. Values in, values out.

use super::{fail, value_or_file};
use crate::destination::{Credentials, Destination};
use crate::env::Env;
use crate::error::ConfigError;
use crate::reader::parse_switch;
use crate::s3::{self, Flaw, Parts};

/// The variable that asks for it.
pub(super) const BUCKET: &str = "LITESTREAM_S3_BUCKET";

pub(super) fn destination(env: &Env) -> Result<Option<Destination>, ConfigError> {
    let Some(bucket) = env.filled(BUCKET) else { return Ok(None) };
    let switch = |name: &str| match env.filled(name) {
        None => Ok(None),
        Some(text) => match parse_switch(text) {
            Some(on) => Ok(Some(on)),
            None => Err(fail(name, format!("{text:?} is not true or false")).fix("set it to true or false")),
        },
    };
    let some = |name: &str| env.filled(name).map(String::from);
    let parts = Parts {
        bucket: Some(bucket.into()),
        path: some("LITESTREAM_S3_PATH").unwrap_or_else(|| "station-db".into()),
        region: some("LITESTREAM_S3_REGION")
            .or_else(|| some("AWS_REGION"))
            .or_else(|| Some(s3::DEFAULT_REGION.into())),
        endpoint: some("LITESTREAM_S3_ENDPOINT"),
        force_path_style: switch("LITESTREAM_S3_FORCE_PATH_STYLE")?,
        skip_verify: switch("LITESTREAM_S3_SKIP_VERIFY")?.unwrap_or(false),
        credentials: credentials(env)?,
        ..Parts::default()
    };
    let (s3, _) = s3::assemble(parts, env)
        .map_err(|flaw: Flaw| fail(variable(flaw.field), flaw.problem).fix(flaw.fix))?;
    Ok(Some(Destination::S3(s3)))
}

/// The variable a key of the file is set by.
fn variable(field: &str) -> &'static str {
    match field {
        "bucket" => BUCKET,
        "region" => "LITESTREAM_S3_REGION",
        "endpoint" => "LITESTREAM_S3_ENDPOINT",
        "access-key-id" => ID,
        "secret-access-key" => SECRET,
        _ => "LITESTREAM_S3_PATH",
    }
}

const ID: &str = "LITESTREAM_S3_ACCESS_KEY_ID";
const SECRET: &str = "LITESTREAM_S3_SECRET_ACCESS_KEY";
const TOKEN: &str = "LITESTREAM_S3_SESSION_TOKEN";

fn credentials(env: &Env) -> Result<Option<Credentials>, ConfigError> {
    let one = |missing: &str, given: &str| {
        Err(fail(missing, format!("it is not set, and {given} is"))
            .fix("set both, or neither to use AWS_*, LITESTREAM_* or the platform's role"))
    };
    let token = value_or_file(env, TOKEN)?;
    match (value_or_file(env, ID)?, value_or_file(env, SECRET)?) {
        (None, None) if token.is_some() => one(ID, TOKEN),
        (None, None) => Ok(None),
        (Some(id), Some(secret)) => Ok(Some(Credentials {
            access_key_id: id.expose().clone(),
            secret_access_key: secret,
            session_token: token,
        })),
        (Some(_), None) => one(SECRET, ID),
        (None, Some(_)) => one(ID, SECRET),
    }
}
