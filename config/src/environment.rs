//! A configuration from variables alone, as Station's documentation promises it. Reads the `_FILE` variables' files.

mod abs;
mod gcs;

use std::time::Duration;

use crate::database;
use crate::env::Env;
use crate::error::{ConfigError, Place, Warning};
use crate::model::{Config, Credentials, Database, Destination, Ltx, Origin, Replica};
use crate::reader::parse_switch;
use crate::replica_url::looks_like_url;
use crate::s3::{self, Flaw, Parts};
use crate::secret::Secret;

/// Builds a configuration from the environment; `None` if no variable asks for one.
///
/// | variable | gives |
/// | --- | --- |
/// | `LITESTREAM_S3_BUCKET` | a replica of type s3 |
/// | `LITESTREAM_S3_PATH` | its prefix; default `station-db` |
/// | `LITESTREAM_S3_REGION`, else `AWS_REGION` | default us-east-1; no `GetBucketLocation` is needed |
/// | `LITESTREAM_S3_ENDPOINT`, `LITESTREAM_S3_FORCE_PATH_STYLE`, `LITESTREAM_S3_SKIP_VERIFY` | as the keys of a file |
/// | `LITESTREAM_S3_ACCESS_KEY_ID`, `LITESTREAM_S3_SECRET_ACCESS_KEY`, `LITESTREAM_S3_SESSION_TOKEN` | its keys; each also as `…_FILE`, a file that holds it |
/// | `LITESTREAM_GCS_BUCKET` | a replica of type gcs |
/// | `LITESTREAM_GCS_PATH`, `LITESTREAM_GCS_ENDPOINT` | as above |
/// | `LITESTREAM_GCS_SERVICE_ACCOUNT_JSON`, also `…_FILE` | its key; else `GOOGLE_APPLICATION_CREDENTIALS`, else `/secrets/gcs-service-account.json`, else the platform |
/// | `LITESTREAM_ABS_BUCKET`, also `LITESTREAM_AZURE_CONTAINER` | a replica of type abs in this container |
/// | `LITESTREAM_ABS_ACCOUNT_NAME`, also `LITESTREAM_AZURE_ACCOUNT_NAME` | its account, which must be named |
/// | `LITESTREAM_ABS_PATH`, `LITESTREAM_ABS_ENDPOINT` | as above |
/// | `LITESTREAM_ABS_ACCOUNT_KEY`, `LITESTREAM_ABS_SAS_TOKEN`, each also as `…_FILE` | its key; else `LITESTREAM_AZURE_…` of the same, else the platform |
/// | `LITESTREAM_FILE_PATH` | a replica of type file |
///
/// An empty variable counts as not set. Without keys of its own the S3 replica uses `AWS_*`, `LITESTREAM_*` or the
/// platform's role. All replicas sync every second, snapshot daily and keep a week. The database is the one
/// [`crate::database_path`] finds.
pub fn from_env(env: &Env) -> Result<Option<Config>, ConfigError> {
    let mut replicas = Vec::new();
    let mut by = Vec::new();
    if let Some(bucket) = env.filled("LITESTREAM_S3_BUCKET") {
        by.push("LITESTREAM_S3_BUCKET");
        replicas.push(built_in(s3_destination(bucket, env)?));
    }
    if let Some(destination) = gcs::destination(env)? {
        by.push(gcs::BUCKET);
        replicas.push(built_in(destination));
    }
    if let Some((destination, name)) = abs::destination(env)? {
        by.push(name);
        replicas.push(built_in(destination));
    }
    if let Some(path) = env.filled("LITESTREAM_FILE_PATH") {
        by.push("LITESTREAM_FILE_PATH");
        if looks_like_url(path) {
            return Err(fail("LITESTREAM_FILE_PATH", "it is a URL").fix("write the directory's path"));
        }
        let path = env.absolute(path.as_ref()).map_err(|e| fail("LITESTREAM_FILE_PATH", e.to_string()))?;
        replicas.push(built_in(Destination::File { path }));
    }
    if replicas.is_empty() {
        return Ok(None);
    }
    let mut config = Config::empty(Origin::Environment);
    for name in &by[1..] {
        let problem = format!("{} is set too; the database gets both replicas", by[0]);
        config.warnings.push(Warning::new(Place::Environment, *name, problem, None));
    }
    let path = database::from_env(env)?;
    config.databases.push(Database { replicas, ..Database::at(path) });
    Ok(Some(config))
}

/// What to say when nothing asks for a replica and yet something was meant to.
pub(crate) fn unused(env: &Env) -> Vec<Warning> {
    // Not the region: compose files set it with a default.
    const KEYS: [(&str, &str); 6] = [
        ("LITESTREAM_S3_ACCESS_KEY_ID", "LITESTREAM_S3_BUCKET"),
        ("LITESTREAM_S3_SECRET_ACCESS_KEY", "LITESTREAM_S3_BUCKET"),
        ("LITESTREAM_S3_ENDPOINT", "LITESTREAM_S3_BUCKET"),
        ("LITESTREAM_GCS_SERVICE_ACCOUNT_JSON", gcs::BUCKET),
        ("LITESTREAM_ABS_ACCOUNT_NAME", "LITESTREAM_ABS_BUCKET"),
        ("LITESTREAM_ABS_ACCOUNT_KEY", "LITESTREAM_ABS_BUCKET"),
    ];
    KEYS.into_iter()
        .find(|(name, _)| env.filled(name).is_some())
        .map(|(name, bucket)| {
            let problem = format!("it has no effect, because {bucket} is not set or empty");
            Warning::new(Place::Environment, name, problem, None)
        })
        .into_iter()
        .collect()
}

fn built_in(destination: Destination) -> Replica {
    let week = Duration::from_secs(7 * 24 * 3600);
    Replica {
        retention: week,
        snapshot_interval: Duration::from_secs(24 * 3600),
        ltx: Ltx { snapshot_retention: week, ..Ltx::default() },
        ..Replica::to(destination)
    }
}

fn s3_destination(bucket: &str, env: &Env) -> Result<Destination, ConfigError> {
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
    };
    let (s3, _) = s3::assemble(parts, env)
        .map_err(|flaw: Flaw| fail(variable(flaw.field), flaw.problem).fix(flaw.fix))?;
    Ok(Destination::S3(s3))
}

/// The variable a key of the file is set by.
fn variable(field: &str) -> &'static str {
    match field {
        "bucket" => "LITESTREAM_S3_BUCKET",
        "region" => "LITESTREAM_S3_REGION",
        "endpoint" => "LITESTREAM_S3_ENDPOINT",
        "access-key-id" => ID,
        "secret-access-key" => SECRET,
        _ => "LITESTREAM_S3_PATH",
    }
}

const ID: &str = "LITESTREAM_S3_ACCESS_KEY_ID";
const SECRET: &str = "LITESTREAM_S3_SECRET_ACCESS_KEY";

fn credentials(env: &Env) -> Result<Option<Credentials>, ConfigError> {
    let one = |missing: &str, given: &str| {
        Err(fail(missing, format!("it is not set, and {given} is"))
            .fix("set both, or neither to use AWS_*, LITESTREAM_* or the platform's role"))
    };
    match (value_or_file(env, ID)?, value_or_file(env, SECRET)?) {
        (None, None) => Ok(None),
        (Some(id), Some(secret)) => Ok(Some(Credentials {
            access_key_id: id,
            secret_access_key: Secret::new(secret),
            session_token: value_or_file(env, "LITESTREAM_S3_SESSION_TOKEN")?.map(Secret::new),
        })),
        (Some(_), None) => one(SECRET, ID),
        (None, Some(_)) => one(ID, SECRET),
    }
}

/// The variable's value, else what the file that `NAME_FILE` names holds, without the line end.
fn value_or_file(env: &Env, name: &str) -> Result<Option<String>, ConfigError> {
    let file_name = format!("{name}_FILE");
    match (env.filled(name), env.filled(&file_name)) {
        (None, None) => Ok(None),
        (Some(value), None) => Ok(Some(value.into())),
        (Some(_), Some(_)) => Err(fail(&file_name, format!("{name} is set too")).fix("keep one of them")),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|e| {
                fail(&file_name, format!("{path}: {e}")).fix("mount the secret, or let this user read it")
            })?;
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                return Err(
                    fail(&file_name, format!("{path}: the file is empty")).fix("write the secret into it")
                );
            }
            Ok(Some(text.into()))
        }
    }
}

fn fail(name: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::new(Place::Environment, name, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AbsCredentials, GcsCredentials};

    fn config(pairs: &[(&str, &str)]) -> Result<Option<Config>, String> {
        from_env(&Env::from_pairs(pairs.iter().copied())).map_err(|e| e.to_string())
    }

    fn s3(pairs: &[(&str, &str)]) -> crate::model::S3 {
        let config = config(pairs).unwrap().unwrap();
        match config.databases[0].replicas[0].destination.clone() {
            Destination::S3(s3) => s3,
            other => panic!("the first replica is {other}"),
        }
    }

    #[test]
    fn no_variable_no_configuration() {
        assert_eq!(config(&[]), Ok(None));
        assert_eq!(config(&[("LITESTREAM_S3_BUCKET", ""), ("LITESTREAM_S3_REGION", "eu-1")]), Ok(None));
        let keys_only = Env::from_pairs([("LITESTREAM_S3_ACCESS_KEY_ID", "AKIA")]);
        let said: Vec<_> = unused(&keys_only).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "environment: LITESTREAM_S3_ACCESS_KEY_ID: it has no effect, because LITESTREAM_S3_BUCKET is not set or empty"
            ]
        );
    }

    #[test]
    fn a_bucket_alone_is_enough() {
        let config = config(&[("LITESTREAM_S3_BUCKET", "my-backups")]).unwrap().unwrap();
        assert_eq!(config.origin, Origin::Environment);
        let [database] = &config.databases[..] else { panic!("one database") };
        assert_eq!(database.path.to_str(), Some("/data/station.db"));
        let [replica] = &database.replicas[..] else { panic!("one replica") };
        assert_eq!(replica.name, "s3");
        assert_eq!(replica.destination.to_string(), "s3://my-backups/station-db");
        assert_eq!(replica.sync_interval, Duration::from_secs(1));
        assert_eq!(replica.snapshot_interval, Duration::from_secs(86_400));
        assert_eq!(replica.retention, Duration::from_secs(604_800));
        assert!(config.warnings.is_empty());
    }

    #[test]
    fn every_variable_has_its_effect() {
        let s3 = s3(&[
            ("LITESTREAM_S3_BUCKET", "b"),
            ("LITESTREAM_S3_PATH", "/a/b/"),
            ("LITESTREAM_S3_REGION", "eu-west-1"),
            ("LITESTREAM_S3_ENDPOINT", "http://minio:9000"),
            ("LITESTREAM_S3_FORCE_PATH_STYLE", "false"),
            ("LITESTREAM_S3_SKIP_VERIFY", "true"),
            ("LITESTREAM_S3_ACCESS_KEY_ID", "id"),
            ("LITESTREAM_S3_SECRET_ACCESS_KEY", "secret"),
            ("LITESTREAM_S3_SESSION_TOKEN", "token"),
            ("AWS_REGION", "ignored-1"),
            ("AWS_ACCESS_KEY_ID", "ignored"),
            ("AWS_SECRET_ACCESS_KEY", "ignored"),
        ]);
        let credentials = s3.credentials.clone().unwrap();
        assert_eq!(credentials.access_key_id, "id");
        assert_eq!(credentials.secret_access_key.expose(), "secret");
        assert_eq!(credentials.session_token.map(|t| t.expose().clone()).as_deref(), Some("token"));
        assert_eq!((s3.path.as_str(), s3.region.as_str()), ("a/b", "eu-west-1"));
        assert_eq!(s3.endpoint.as_deref(), Some("http://minio:9000"));
        assert!(!s3.force_path_style && s3.skip_verify);
    }

    #[test]
    fn regions_and_keys_fall_back_to_awss() {
        let s3_with = |more: &[(&str, &str)]| s3(&[&[("LITESTREAM_S3_BUCKET", "b")], more].concat());
        assert_eq!(s3_with(&[("AWS_REGION", "eu-1"), ("LITESTREAM_S3_REGION", "")]).region, "eu-1");
        assert_eq!(s3_with(&[]).region, "us-east-1");
        let keys = [("LITESTREAM_ACCESS_KEY_ID", "id"), ("LITESTREAM_SECRET_ACCESS_KEY", "s")];
        assert_eq!(s3_with(&keys).credentials.unwrap().access_key_id, "id");
        assert_eq!(s3_with(&[]).credentials, None);
        assert!(s3_with(&[("LITESTREAM_S3_ENDPOINT", "http://minio:9000")]).force_path_style);
    }

    #[test]
    fn a_secret_may_lie_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_string()
        };
        let (id, secret, empty) = (file("id", "AKIA\n"), file("secret", "a$b #c\r\n"), file("empty", "\n"));
        let bucket = ("LITESTREAM_S3_BUCKET", "b");
        let s3 = s3(&[
            bucket,
            ("LITESTREAM_S3_ACCESS_KEY_ID_FILE", &id),
            ("LITESTREAM_S3_SECRET_ACCESS_KEY_FILE", &secret),
        ]);
        let credentials = s3.credentials.unwrap();
        assert_eq!(
            (credentials.access_key_id.as_str(), credentials.secret_access_key.expose().as_str()),
            ("AKIA", "a$b #c")
        );
        let both = config(&[
            bucket,
            ("LITESTREAM_S3_ACCESS_KEY_ID", "x"),
            ("LITESTREAM_S3_ACCESS_KEY_ID_FILE", &id),
        ]);
        assert_eq!(
            both.unwrap_err(),
            "read environment: LITESTREAM_S3_ACCESS_KEY_ID_FILE: LITESTREAM_S3_ACCESS_KEY_ID is set too; keep one of them"
        );
        for (path, says) in [(empty.as_str(), "the file is empty"), ("/nowhere/key", "No such file")] {
            let error = config(&[bucket, ("LITESTREAM_S3_ACCESS_KEY_ID_FILE", path)]).unwrap_err();
            assert!(error.contains(path) && error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_directory_and_a_bucket_make_two_replicas_and_a_warning() {
        let config =
            config(&[("LITESTREAM_S3_BUCKET", "b"), ("LITESTREAM_FILE_PATH", "backup")]).unwrap().unwrap();
        let places: Vec<_> = config.databases[0].replicas.iter().map(|r| r.destination.to_string()).collect();
        assert_eq!(places, ["s3://b/station-db", "/backup"]);
        assert_eq!(config.warnings.len(), 1);
    }

    #[test]
    fn a_bucket_of_google_or_a_container_of_azure_is_enough_too() {
        let only = |pairs: &[(&str, &str)]| {
            let mut config = config(pairs).unwrap().unwrap();
            assert!(config.warnings.is_empty(), "{:?}", config.warnings);
            config.databases.remove(0).replicas.remove(0).destination
        };
        let gcs = only(&[("LITESTREAM_GCS_BUCKET", "g")]);
        assert_eq!((gcs.to_string().as_str(), gcs.kind()), ("gs://g/station-db", "gcs"));
        let gcs = only(&[
            ("LITESTREAM_GCS_BUCKET", "g"),
            ("LITESTREAM_GCS_PATH", "/p/"),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/key.json"),
        ]);
        let Destination::Gcs(gcs) = gcs else { panic!("{gcs}") };
        assert_eq!((gcs.path.as_str(), gcs.credentials), ("p", GcsCredentials::File("/key.json".into())));

        let abs = |name: &str, account: &str| {
            let Destination::Abs(abs) = only(&[
                (name, "c"),
                (account, "acct"),
                ("LITESTREAM_ABS_PATH", "p"),
                ("LITESTREAM_ABS_ENDPOINT", "http://localhost:10000/acct"),
                ("LITESTREAM_ABS_ACCOUNT_KEY", "hunter2"),
            ]) else {
                panic!("abs")
            };
            abs
        };
        let one = abs("LITESTREAM_ABS_BUCKET", "LITESTREAM_ABS_ACCOUNT_NAME");
        assert_eq!(one.credentials, AbsCredentials::Key(Secret::new("hunter2".into())));
        assert_eq!(
            Destination::Abs(one.clone()).to_string(),
            "abs://acct@c/p at http://localhost:10000/acct"
        );
        assert_eq!(one, abs("LITESTREAM_AZURE_CONTAINER", "LITESTREAM_AZURE_ACCOUNT_NAME"));
        assert!(!format!("{one:?}").contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_its_variable() {
        for (pairs, want) in [
            (
                vec![("LITESTREAM_GCS_BUCKET", "g"), ("LITESTREAM_GCS_SERVICE_ACCOUNT_JSON", "hunter2")],
                "LITESTREAM_GCS_SERVICE_ACCOUNT_JSON: it is not a JSON object; write the whole content of the key's \
                 file, or its path under `service-account-json-path`",
            ),
            (
                vec![("LITESTREAM_GCS_BUCKET", "g/h")],
                "LITESTREAM_GCS_BUCKET: \"g/h\" is not a bucket's name; write the name alone; the folder in it is the \
                 key `path`",
            ),
            (
                vec![("LITESTREAM_ABS_BUCKET", "a")],
                "LITESTREAM_ABS_ACCOUNT_NAME: it is missing; name the storage account \
                 (abs://ACCOUNT@CONTAINER/PATH, or the key `account-name`)",
            ),
            (
                vec![("LITESTREAM_ABS_BUCKET", "a"), ("LITESTREAM_AZURE_CONTAINER", "b")],
                "LITESTREAM_AZURE_CONTAINER: LITESTREAM_ABS_BUCKET is set too, to something else; keep one of them",
            ),
            (
                vec![("LITESTREAM_S3_BUCKET", "b"), ("LITESTREAM_S3_ACCESS_KEY_ID", "id")],
                "LITESTREAM_S3_SECRET_ACCESS_KEY: it is not set, and LITESTREAM_S3_ACCESS_KEY_ID is; set both, or \
                 neither to use AWS_*, LITESTREAM_* or the platform's role",
            ),
            (
                vec![("LITESTREAM_S3_BUCKET", "b/c")],
                "LITESTREAM_S3_BUCKET: \"b/c\" is not a bucket's name; write the name alone; the folder in it is the \
                 key `path`",
            ),
            (
                vec![("LITESTREAM_S3_BUCKET", "b"), ("LITESTREAM_S3_FORCE_PATH_STYLE", "maybe")],
                "LITESTREAM_S3_FORCE_PATH_STYLE: \"maybe\" is not true or false; set it to true or false",
            ),
            (
                vec![("LITESTREAM_FILE_PATH", "file:///x")],
                "LITESTREAM_FILE_PATH: it is a URL; write the directory's path",
            ),
            (
                vec![("LITESTREAM_S3_BUCKET", "b"), ("AWS_SECRET_ACCESS_KEY", "hunter2")],
                "LITESTREAM_S3_ACCESS_KEY_ID: the variable AWS_SECRET_ACCESS_KEY is set, and AWS_ACCESS_KEY_ID is not; \
                 set AWS_ACCESS_KEY_ID too, or remove AWS_SECRET_ACCESS_KEY to use the platform's role",
            ),
        ] {
            assert_eq!(config(&pairs).unwrap_err(), format!("read environment: {want}"));
        }
    }
}
