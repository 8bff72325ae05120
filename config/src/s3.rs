//! The parts of an S3 replica, from wherever they came, put together and checked. Values only.

use crate::destination::{Credentials, S3};
use crate::endpoint;
use crate::env::Env;
use crate::path::clean_prefix;
use crate::s3_options::{self, Written};
use crate::secret::Secret;
use crate::secret_file;

/// What a file, a URL or the environment says of an S3 replica.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) bucket: Option<String>,
    pub(crate) path: String,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) force_path_style: Option<bool>,
    pub(crate) skip_verify: bool,
    /// Parameters of the URL that mean nothing here.
    pub(crate) without_effect: Vec<String>,
    /// Keys given for this replica; the environment's are used if there are none.
    pub(crate) credentials: Option<Credentials>,
    pub(crate) options: Written,
}

/// What is wrong with a part, named as the configuration file names it. Each reader adds its own place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) field: &'static str,
    pub(crate) problem: String,
    pub(crate) fix: String,
}

impl Flaw {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { field, problem: problem.into(), fix: fix.into() }
    }
}

/// Checks the parts and fills in what Litestream 0.3.13 fills in. The flag says that nothing named a region, and
/// us-east-1 is a guess.
pub(crate) fn assemble(parts: Parts, env: &Env) -> Result<(S3, bool), Flaw> {
    let bucket = bucket(parts.bucket, "name the bucket (s3://BUCKET/PATH, or the key `bucket`)")?;
    let endpoint = parts.endpoint.filter(|e| !e.is_empty());
    let endpoint = endpoint.map(|e| endpoint::clean(&e, &ENDPOINT)).transpose()?;
    let (region, guessed) = match (parts.region.filter(|r| !r.is_empty()), &endpoint) {
        (Some(region), _) => (region, false),
        // Services that are not AWS take any region; Litestream signs with this one.
        (None, Some(_)) => (DEFAULT_REGION.into(), false),
        (None, None) => match env.filled("AWS_REGION").or_else(|| env.filled("AWS_DEFAULT_REGION")) {
            Some(region) => (region.into(), false),
            None => (DEFAULT_REGION.into(), true),
        },
    };
    if region.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_') {
        return Err(Flaw::new(
            "region",
            format!("{region:?} is not a region's name"),
            "write something like us-east-1",
        ));
    }
    let credentials = match parts.credentials {
        Some(given) => Some(given),
        None => from_env(env)?,
    };
    let s3 = S3 {
        bucket,
        path: clean_prefix(&parts.path),
        region,
        force_path_style: parts.force_path_style.unwrap_or(endpoint.is_some()),
        endpoint,
        skip_verify: parts.skip_verify,
        credentials,
        options: s3_options::read(&parts.options, env)?,
    };
    Ok((s3, guessed))
}

/// The name of a bucket or container. `remedy` says what to write where there is none.
pub(crate) fn bucket(given: Option<String>, remedy: &str) -> Result<String, Flaw> {
    let name = given.filter(|b| !b.is_empty()).ok_or_else(|| Flaw::new("bucket", "it is missing", remedy))?;
    if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        return Err(Flaw::new(
            "bucket",
            format!("{name:?} is not a bucket's name"),
            "write the name alone; the folder in it is the key `path`",
        ));
    }
    Ok(name)
}

const ENDPOINT: endpoint::Advice = endpoint::Advice {
    form: "write something like https://s3.example.com or http://localhost:9000",
    keys: "remove them; keys go into access-key-id and secret-access-key",
};

/// The region of a service that has none.
pub(crate) const DEFAULT_REGION: &str = "us-east-1";

/// The keys of the environment: `AWS_ACCESS_KEY_ID`, else `LITESTREAM_ACCESS_KEY_ID` (or `…_FILE`), and the secret
/// likewise, each by itself as Litestream copies them; `AWS_SESSION_TOKEN` only with the AWS pair, which it belongs to.
pub(crate) fn from_env(env: &Env) -> Result<Option<Credentials>, Flaw> {
    let either = |field, [aws, litestream]: [&'static str; 2]| match env.filled(aws) {
        Some(value) => Ok(Some((aws, Secret::new(value.to_string())))),
        None => secret_file::variable(litestream, env)
            .map(|found| found.map(|value| (litestream, value)))
            .map_err(|bad| Flaw::new(field, format!("{litestream}_FILE: {}", bad.problem), bad.fix)),
    };
    let id = either("access-key-id", ["AWS_ACCESS_KEY_ID", "LITESTREAM_ACCESS_KEY_ID"])?;
    let secret = either("secret-access-key", ["AWS_SECRET_ACCESS_KEY", "LITESTREAM_SECRET_ACCESS_KEY"])?;
    match (id, secret) {
        (None, None) => Ok(None),
        (Some((id_name, id)), Some((secret_name, secret))) => {
            let both_aws = id_name.starts_with("AWS") && secret_name.starts_with("AWS");
            let token = env.filled("AWS_SESSION_TOKEN").filter(|_| both_aws);
            Ok(Some(Credentials {
                access_key_id: id.expose().clone(),
                secret_access_key: secret,
                session_token: token.map(|t| Secret::new(t.into())),
            }))
        }
        (Some((name, _)), None) => {
            Err(half("secret-access-key", name, &name.replace("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")))
        }
        (None, Some((name, _))) => {
            Err(half("access-key-id", name, &name.replace("SECRET_ACCESS_KEY", "ACCESS_KEY_ID")))
        }
    }
}

fn half(field: &'static str, set: &str, missing: &str) -> Flaw {
    Flaw::new(
        field,
        format!("the variable {set} is set, and {missing} is not"),
        format!("set {missing} too, or remove {set} to use the platform's role"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(pairs: &[(&str, &str)]) -> Result<Option<(String, String, Option<String>)>, String> {
        from_env(&Env::from_pairs(pairs.iter().copied()))
            .map(|found| {
                found.map(|c| {
                    let token = c.session_token.map(|t| t.expose().clone());
                    (c.access_key_id, c.secret_access_key.expose().clone(), token)
                })
            })
            .map_err(|flaw| format!("{}: {}", flaw.field, flaw.problem))
    }

    fn pair(
        id: &str,
        secret: &str,
        token: Option<&str>,
    ) -> Result<Option<(String, String, Option<String>)>, String> {
        Ok(Some((id.into(), secret.into(), token.map(Into::into))))
    }

    #[test]
    fn the_aws_variables_win_over_litestreams_each_by_itself() {
        let aws = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "as"), ("AWS_SESSION_TOKEN", "t")];
        let ls = [("LITESTREAM_ACCESS_KEY_ID", "l"), ("LITESTREAM_SECRET_ACCESS_KEY", "ls")];
        assert_eq!(keys(&[]), Ok(None));
        assert_eq!(keys(&aws), pair("a", "as", Some("t")));
        assert_eq!(keys(&ls), pair("l", "ls", None));
        assert_eq!(keys(&[&aws[..], &ls].concat()), pair("a", "as", Some("t")));
        assert_eq!(keys(&[aws[0], aws[2], ls[0], ls[1]]), pair("a", "ls", None));
        assert_eq!(keys(&[("AWS_ACCESS_KEY_ID", ""), ls[0], ls[1]]), pair("l", "ls", None));
    }

    #[test]
    fn half_a_pair_in_the_environment_is_an_error_that_names_the_other_half() {
        assert_eq!(
            keys(&[("AWS_ACCESS_KEY_ID", "a")]),
            Err("secret-access-key: the variable AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not"
                .into())
        );
        assert_eq!(
            keys(&[("LITESTREAM_SECRET_ACCESS_KEY", "s")]),
            Err("access-key-id: the variable LITESTREAM_SECRET_ACCESS_KEY is set, and LITESTREAM_ACCESS_KEY_ID is not"
                .into())
        );
    }

    #[test]
    fn the_region_comes_from_the_key_the_endpoint_the_environment_or_a_guess() {
        let region = |region: &str, endpoint: &str, env: &[(&str, &str)]| {
            let parts = Parts {
                bucket: Some("b".into()),
                region: Some(region.into()),
                endpoint: Some(endpoint.into()),
                ..Parts::default()
            };
            let (s3, guessed) = assemble(parts, &Env::from_pairs(env.iter().copied())).unwrap();
            (s3.region, guessed)
        };
        let aws = [("AWS_REGION", "eu-west-1"), ("AWS_DEFAULT_REGION", "eu-west-2")];
        assert_eq!(region("ap-1", "", &aws), ("ap-1".into(), false));
        assert_eq!(region("", "https://x", &aws), ("us-east-1".into(), false));
        assert_eq!(region("", "", &aws), ("eu-west-1".into(), false));
        assert_eq!(region("", "", &aws[1..]), ("eu-west-2".into(), false));
        assert_eq!(region("", "", &[]), ("us-east-1".into(), true));
    }
}
