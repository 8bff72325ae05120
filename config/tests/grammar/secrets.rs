//! A secret is handed over whole and printed nowhere.

use holdfast_config::{Destination, Env, from_env, replica_from_url};

use crate::{read, replica};

/// Everything that YAML, a shell or Go's expansion would eat.
const SECRET: &str = r##"hunter2$HOME${X:-y}$$ #comment: "quoted" 'too' \n{[&*!|>%@`"##;

#[test]
fn a_secret_survives_every_sign_in_it() {
    let yaml =
        "type: s3\nbucket: b\naccess-key-id: ${ID}\nsecret-access-key: ${SECRET} # from the environment";
    let (replica, _) = replica(yaml, &[("ID", "AKIA"), ("SECRET", SECRET), ("HOME", "/h")]).unwrap();
    let Destination::S3(s3) = replica.destination else { panic!("S3") };
    assert_eq!(s3.credentials.unwrap().secret_access_key.expose(), SECRET);
}

#[test]
fn no_printed_configuration_holds_a_secret() {
    let vars = [
        ("LITESTREAM_S3_BUCKET", "b"),
        ("LITESTREAM_S3_ACCESS_KEY_ID", "AKIA-hunter2"),
        ("LITESTREAM_S3_SECRET_ACCESS_KEY", SECRET),
        ("LITESTREAM_S3_SESSION_TOKEN", SECRET),
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ];
    let env = Env::from_pairs(vars);
    let from_variables = from_env(&env).unwrap().unwrap();
    let from_url = replica_from_url("s3://b/p", &env).unwrap();
    let file =
        "access-key-id: AKIA\nsecret-access-key: hunter2\ndbs: [{path: /d, replica: {type: s3, bucket: b}}]";
    let from_file = read(file, &[]).unwrap();
    for printed in [
        format!("{from_variables:?} {from_variables:#?}"),
        format!("{from_url:?} {}", from_url.destination),
        format!("{from_file:?}"),
        format!("{env:?}"),
    ] {
        assert!(!printed.contains("hunter2"), "{printed}");
    }
    assert!(format!("{from_file:?}").contains("secret_access_key: ***"));
}

#[test]
fn no_message_holds_a_secret() {
    let vars = [("SECRET", SECRET), ("TOKEN_VALUE", "hunter2"), ("ID", "hunter2")];
    for yaml in [
        "type: s3\nbucket: b\nsecret-access-key: hunter2",
        "type: s3\nbucket: b\nsecret-access-key: ${SECRET}",
        "type: s3\nbucket: b\naccess-key-id: ${ID}",
        "type: s3\nbucket: b\nsecret-access-key: [hunter2]\naccess-key-id: x",
        "type: s3\nbucket: b\nsecret-access-key: {hunter2: hunter2}\naccess-key-id: x",
        "type: s3\nbucket: b\nsecret-access-key: 'hunter2${NONE}'\naccess-key-id: x",
        "type: s3\nbucket: b\nsecret-access-key: hunter2\nsecret-access-key: hunter2",
        "type: s3\nbucket: b\nsecret-access-key: 'hunter2\naccess-key-id: x",
        "type: s3\nbucket: b\nsecret-access-key: *hunter2",
        "type: s3\nbucket: b\nretention: ${TOKEN_VALUE}",
        "type: s3\nbucket: b\nsession-token: hunter2",
        "type: sftp\nhost: h:port\nuser: u\npassword: hunter2",
        "url: sftp://:hunter2@h/p",
        "url: webdav://u:hunter2@h/p",
        "url: s3://u:hunter2@b/p",
        "url: s3://b/p?access-key=hunter2",
        "path: s3://u:hunter2@b/p",
        "type: s3\nbucket: b\nendpoint: https://u:hunter2@h/",
        "type: s3\nbucket: b\nendpoint: https://h/?hunter2",
    ] {
        let error = replica(yaml, &vars).unwrap_err();
        assert!(!error.contains("hunter2"), "{yaml}: {error}");
    }
}

/// The settings of a replica, with `@` for the directory of the secrets' files.
fn with_files(yaml: &str, vars: &[(&str, &str)]) -> Result<Destination, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("id"), "AKIA-file\n").unwrap();
    std::fs::write(dir.path().join("secret"), format!("{SECRET}\r\n")).unwrap();
    std::fs::write(dir.path().join("json"), "{\"private_key\": \"hunter2\"}").unwrap();
    std::fs::write(dir.path().join("empty"), "\n").unwrap();
    let at = dir.path().to_str().unwrap();
    let vars: Vec<_> = vars.iter().map(|(name, value)| (*name, value.replace('@', at))).collect();
    let vars: Vec<_> = vars.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (replica, warnings) = replica(&yaml.replace('@', at), &vars).map_err(|e| e.replace(at, "@"))?;
    assert!(warnings.is_empty(), "{warnings:?}");
    Ok(replica.destination)
}

#[test]
fn every_secret_may_lie_in_a_file() {
    let s3 = "type: s3\nbucket: b\naccess-key-id-file: @/id\nsecret-access-key-file: ${DIR}/secret\nsession-token-file: @/secret";
    let Ok(Destination::S3(s3)) = with_files(s3, &[("DIR", "@")]) else { panic!("S3") };
    let keys = s3.credentials.unwrap();
    assert_eq!(
        (keys.access_key_id.as_str(), keys.secret_access_key.expose().as_str()),
        ("AKIA-file", SECRET)
    );
    assert_eq!(keys.session_token.unwrap().expose(), SECRET, "and it is not expanded again");

    let abs = |key: &str| match with_files(&format!("type: abs\nbucket: c\naccount-name: a\n{key}"), &[]) {
        Ok(Destination::Abs(abs)) => abs.credentials,
        other => panic!("{other:?}"),
    };
    let secret = || holdfast_config::Secret::new(SECRET.to_string());
    assert_eq!(abs("account-key-file: @/secret"), holdfast_config::AbsCredentials::Key(secret()));
    assert_eq!(abs("sas-token-file: @/secret"), holdfast_config::AbsCredentials::Sas(secret()));

    let gcs = with_files("type: gcs\nbucket: b\nservice-account-json-file: @/json", &[]).unwrap();
    let Destination::Gcs(gcs) = gcs else { panic!("{gcs}") };
    assert!(
        matches!(gcs.credentials, holdfast_config::GcsCredentials::Key(key) if key.expose().contains("private_key"))
    );
}

#[test]
fn a_credential_of_systemd_is_named_alone() {
    let yaml = "type: s3\nbucket: b\naccess-key-id-file: id\nsecret-access-key-file: secret";
    let Ok(Destination::S3(s3)) = with_files(yaml, &[("CREDENTIALS_DIRECTORY", "@")]) else { panic!("S3") };
    assert_eq!(s3.credentials.unwrap().access_key_id, "AKIA-file");
    assert_eq!(
        with_files(yaml, &[]).unwrap_err(),
        "read l.yml:6: dbs[0].replicas[0].access-key-id-file: /work/id: there is no such file; mount the secret there, \
         or name its file"
    );
}

#[test]
fn a_secrets_file_that_is_no_use_is_named_with_its_key() {
    let s3 = |keys: &str| {
        with_files(&format!("type: s3\nbucket: b\n{keys}"), &[("SECRET", "hunter2")]).unwrap_err()
    };
    for (keys, want) in [
        (
            "access-key-id-file: @/empty",
            "6: dbs[0].replicas[0].access-key-id-file: @/empty: it is empty; write the secret into it",
        ),
        (
            "access-key-id: x\nsecret-access-key-file: @",
            "7: dbs[0].replicas[0].secret-access-key-file: @: it is a directory; name the file in it",
        ),
        (
            "access-key-id: x\nsecret-access-key: ${SECRET}\nsecret-access-key-file: @/secret",
            "8: dbs[0].replicas[0].secret-access-key-file: `secret-access-key` is given too; keep one of them",
        ),
        (
            "access-key-id: ${UNSET}\naccess-key-id-file: @/id",
            "7: dbs[0].replicas[0].access-key-id-file: `access-key-id` is given too; keep one of them",
        ),
        (
            "secret-access-key-file: @/secret",
            "4: dbs[0].replicas[0].access-key-id: it is missing or empty, and `secret-access-key` is given; give both, \
             or neither to use the environment's keys or the platform's role",
        ),
    ] {
        assert_eq!(s3(keys), format!("read l.yml:{want}"));
    }
    let gcs = with_files("type: gcs\nbucket: b\nservice-account-json-file: @/secret", &[]).unwrap_err();
    assert!(
        gcs.starts_with(
            "read l.yml:6: dbs[0].replicas[0].service-account-json-file: it is not a JSON object"
        )
    );
    assert!(!gcs.contains("hunter2"));
    let abs = "type: abs\nbucket: c\naccount-name: a";
    assert_eq!(
        with_files(abs, &[("LITESTREAM_AZURE_ACCOUNT_KEY_FILE", "@/none")]).unwrap_err(),
        "read l.yml:4: dbs[0].replicas[0].account-key: LITESTREAM_AZURE_ACCOUNT_KEY_FILE: @/none: there is no such file; \
         mount the secret there, or name its file"
    );
    assert_eq!(
        with_files("type: s3\nbucket: b", &[("LITESTREAM_SECRET_ACCESS_KEY_FILE", "@/empty")]).unwrap_err(),
        "read l.yml:4: dbs[0].replicas[0].secret-access-key: LITESTREAM_SECRET_ACCESS_KEY_FILE: @/empty: it is empty; \
         write the secret into it"
    );
}
