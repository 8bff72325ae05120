//! A configuration from variables alone, as Station's documentation promises it. Reads the `_FILE` variables' files.

mod abs;
mod gcs;
mod s3;
mod variables;

use std::time::Duration;

use crate::addr;
use crate::database;
use crate::destination::Destination;
use crate::env::Env;
use crate::error::{ConfigError, Place, Warning};
use crate::model::{Config, Database, Ltx, Origin, Replica};
use crate::replica_url::looks_like_url;
use crate::secret::Secret;
use crate::secret_file;

pub(crate) use variables::unused;

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
/// | `LITESTREAM_ABS_ACCOUNT_KEY`, `LITESTREAM_ABS_SAS_TOKEN`, each also as `…_FILE` | its key; else `LITESTREAM_AZURE_…` of the same, also as `…_FILE`, else the platform |
/// | `LITESTREAM_FILE_PATH` | a replica of type file |
/// | `LITESTREAM_ADDR`, `LITESTREAM_MAX_LAG` | `addr` and `max-lag` |
///
/// An empty variable counts as not set; one that has no effect, or a name like these that means nothing, is warned
/// about. Which file `…_FILE` means says `secret_file`. Without keys of its own the S3 replica uses `AWS_*`, `LITESTREAM_*` or the
/// platform's role. All replicas sync every second, snapshot daily and keep a week. The database is the one
/// [`crate::database_path`] finds.
pub fn from_env(env: &Env) -> Result<Option<Config>, ConfigError> {
    let mut replicas = Vec::new();
    let mut by = Vec::new();
    variables::check_text(env)?;
    if let Some(destination) = s3::destination(env)? {
        by.push(s3::BUCKET);
        replicas.push(built_in(destination));
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
    config.warnings.extend(unused(env));
    config.warnings.extend(variables::unknown(env));
    addr::of_env(env, &mut config)?;
    let path = database::from_env(env)?;
    config.databases.push(Database { replicas, ..Database::at(path) });
    Ok(Some(config))
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

/// The variable's value, else what the file that `NAME_FILE` names holds ([`secret_file`]).
fn value_or_file(env: &Env, name: &str) -> Result<Option<Secret<String>>, ConfigError> {
    secret_file::variable(name, env).map_err(|bad| fail(&format!("{name}_FILE"), bad.problem).fix(bad.fix))
}

fn fail(name: &str, problem: impl Into<String>) -> ConfigError {
    ConfigError::new(Place::Environment, name, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::{AbsCredentials, GcsCredentials};

    fn config(pairs: &[(&str, &str)]) -> Result<Option<Config>, String> {
        from_env(&Env::from_pairs(pairs.iter().copied())).map_err(|e| e.to_string())
    }

    fn s3(pairs: &[(&str, &str)]) -> crate::destination::S3 {
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
    fn t78_a_bucket_alone_is_enough() {
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
        for (path, says) in [(empty.as_str(), "it is empty"), ("/nowhere/key", "there is no such file")] {
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
    fn the_agents_port_and_its_limit_are_variables_too() {
        let bucket = ("LITESTREAM_S3_BUCKET", "b");
        let plain = config(&[bucket]).unwrap().unwrap();
        assert_eq!((plain.addr, plain.max_lag), (None, Duration::ZERO));
        let set = config(&[bucket, ("LITESTREAM_ADDR", ":9090"), ("LITESTREAM_MAX_LAG", "5m")]);
        let set = set.unwrap().unwrap();
        assert_eq!((set.addr.as_deref(), set.max_lag), (Some(":9090"), Duration::from_secs(300)));
        assert!(set.warnings.is_empty());
        // A file has the last word on what it says.
        let env = Env::from_pairs([("LITESTREAM_ADDR", ":9090"), ("LITESTREAM_MAX_LAG", "5m")]);
        let file = |text: &str| crate::parse(text, "l.yml".as_ref(), &env, true).unwrap();
        let read = file("addr: ':1'\ndbs: [{path: /d, replica: {path: /r}}]");
        assert_eq!((read.addr.as_deref(), read.max_lag), (Some(":1"), Duration::from_secs(300)));
        for (name, value, says) in [
            ("LITESTREAM_ADDR", "localhost", "LITESTREAM_ADDR: \"localhost\" has no port; write :9090"),
            ("LITESTREAM_MAX_LAG", "soon", "LITESTREAM_MAX_LAG: \"soon\" is not a duration"),
        ] {
            let error = config(&[bucket, (name, value)]).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn e13_a_bucket_of_google_or_a_container_of_azure_is_enough_too() {
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
