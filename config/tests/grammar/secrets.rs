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
        "type: sftp\nhost: h\nuser: u\npassword: hunter2",
        "url: sftp://u:hunter2@h/p",
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
