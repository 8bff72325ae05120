//! `config check --resolved`: every value with its origin, no secret, and a file that means the same.

use holdfast_config::{Env, Fate, Resolved};

/// One that says something of every kind. `@` is the directory of the secrets' files.
const FILE: &str = r#"sync-interval: 3s
secret-access-key: "hunter2 # $$x"
snapshot: {retention: 48h}
logging: {level: "${LEVEL:-debug}"}
dbs:
  - path: ~/a.db
    meta-path: /meta
    max-wal-size: 2GiB
    replicas:
      - url: s3://b.nyc3.digitaloceanspaces.com/p$$x
        access-key-id: ${ID}
        retention: 72h
      - {type: gs, bucket: g, service-account-json-file: "@/json", format: ltx}
  - path: /b.db
    snapshot: {interval: 6h}
    replica: &r {type: abs, account-name: acct, bucket: c, path: "${P:-hunter2}", account-key-file: "@/key"}
  - path: /c.db
    replica: {<<: *r, path: 'c "d": é', name: other}
"#;

fn resolve(text: &str, vars: &[(&str, &str)]) -> (Resolved, String) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("json"), "{\"private_key\": \"hunter2\"}").unwrap();
    std::fs::write(dir.path().join("key"), "hunter2\n").unwrap();
    let at = dir.path().to_str().unwrap();
    let file = dir.path().join("l.yml");
    std::fs::write(&file, text.replace('@', at)).unwrap();
    let env = Env::from_pairs(vars.iter().copied()).with_cwd("/work");
    let resolved = holdfast_config::resolve(Some(&file), &env, true).unwrap();
    let yaml = resolved.to_yaml().replace(at, "@");
    (resolved, yaml)
}

const VARS: [(&str, &str); 3] = [("HOME", "/home/u"), ("ID", "AKIAhunter2"), ("P", "from $P")];

#[test]
fn every_value_has_its_origin_and_no_secret_is_shown() {
    let (resolved, yaml) = resolve(FILE, &VARS);
    assert!(!yaml.contains("hunter2") && !resolved.to_json().to_string().contains("hunter2"), "{yaml}");
    insta::assert_snapshot!(yaml);
}

#[test]
fn what_is_shown_loads_and_means_the_same() {
    let (_, first) = resolve(FILE, &VARS);
    let (again, second) = resolve(&first, &[("HOME", "/elsewhere")]);
    let values = |yaml: &str| -> Vec<String> {
        let value =
            |line: &str| line.split_once("  # ").map_or(line, |(value, _)| value).trim_end().to_string();
        yaml.lines().filter(|line| !line.trim_start().starts_with('#')).map(value).collect()
    };
    assert_eq!(values(&first), values(&second));
    assert!(again.config.warnings.is_empty(), "{:?}", again.config.warnings);
}

#[test]
fn a_server_by_sftp_is_shown_without_its_password() {
    let file = "dbs:\n  - path: /x.db\n    replica: {type: sftp, host: '[::1]:2222', user: u, path: p/,\n      password: hunter2, concurrent-writes: no}\n";
    let key = ("LITESTREAM_SFTP_HOST_KEY", "ssh-ed25519 AAAA me@there");
    let (resolved, yaml) = resolve(file, &[key]);
    assert!(!yaml.contains("hunter2") && !resolved.to_json().to_string().contains("hunter2"), "{yaml}");
    for (line, origin) in [
        ("host: \"[::1]:2222\"", "3:27"),
        ("path: p", "3:56"),
        ("# password: \"***\"", "4:7"),
        ("host-key: \"ssh-ed25519 AAAA\"", "LITESTREAM_SFTP_HOST_KEY"),
        ("concurrent-writes: false", "4:26"),
    ] {
        let told = yaml.lines().any(|l| l.trim_start().starts_with(line) && l.contains(origin));
        assert!(told, "{line} from {origin}:\n{yaml}");
    }
}

#[test]
fn an_environment_names_its_variables() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "hunter2").unwrap();
    let env = Env::from_pairs([
        ("LITESTREAM_S3_BUCKET", "b"),
        ("AWS_REGION", "eu-1"),
        ("LITESTREAM_S3_ACCESS_KEY_ID", "AKIAhunter2"),
        ("LITESTREAM_S3_SECRET_ACCESS_KEY_FILE", secret.to_str().unwrap()),
        ("LITESTREAM_ABS_BUCKET", "c"),
        ("LITESTREAM_AZURE_ACCOUNT_NAME", "acct"),
        ("LITESTREAM_AZURE_SAS_TOKEN", "hunter2"),
        ("LITESTREAM_GCS_BUCKET", "g"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/key.json"),
        ("DATABASE_URL", "file:/data/x.db?mode=rwc"),
    ]);
    let yaml = holdfast_config::resolve(None, &env, true).unwrap().to_yaml();
    assert!(!yaml.contains("hunter2"));
    for (line, origin) in [
        ("- path: /data/x.db", "DATABASE_URL"),
        ("bucket: b", "LITESTREAM_S3_BUCKET"),
        ("region: eu-1", "AWS_REGION"),
        ("# access-key-id: AKIA…", "LITESTREAM_S3_ACCESS_KEY_ID"),
        ("# secret-access-key: \"***\"", "LITESTREAM_S3_SECRET_ACCESS_KEY_FILE"),
        ("account-name: acct", "LITESTREAM_AZURE_ACCOUNT_NAME"),
        ("# sas-token: \"***\"", "LITESTREAM_AZURE_SAS_TOKEN"),
        ("service-account-json-path: /key.json", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("path: station-db", "default"),
        ("retention: 168h", "default"),
    ] {
        let told =
            yaml.lines().any(|l| l.trim_start().starts_with(line) && l.ends_with(&format!("  # {origin}")));
        assert!(told, "{line} from {origin}:\n{yaml}");
    }
}

/// Keys that stand for others: what they come to is shown under those.
const SHORT: [&str; 7] = [
    "url",
    "replica",
    "snapshot",
    "verify-compaction",
    "sse-customer-algorithm",
    "sse-customer-key-path",
    "sse-customer-key-md5",
];

#[test]
fn every_key_that_has_an_effect_is_shown() {
    let file = r#"
addr: ":1"
exec: app
dbs:
  - path: /a
    meta-path: /m
    replicas:
      - {name: a, type: s3, bucket: b, endpoint: h, access-key-id: i, secret-access-key: s, session-token: t, format: ltx,
         part-size: 5MB, concurrency: 3, storage-class: STANDARD_IA, sign-payload: false,
         sse-customer-key: "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
      - {name: f, type: s3, bucket: f, sse-kms-key-id: k}
      - {name: b, type: gcs, bucket: b, endpoint: h, service-account-json: "{}"}
      - {name: c, type: gcs, bucket: c, service-account-json-path: /k}
      - {name: d, type: abs, bucket: b, account-name: a, account-key: k, endpoint: h}
      - {name: e, type: abs, bucket: c, account-name: a, sas-token: t}
      - {name: g, type: sftp, host: h, user: u, password: p, key-path: /k, host-key: ssh-ed25519 AAAA}
  - dir: /d
    pattern: '*.db'
    recursive: true
    meta-dir: /n
    replica: {path: /r}
"#;
    let (_, yaml) = resolve(file, &[]);
    assert!(!yaml.contains("MDEyMzQ1"), "{yaml}");
    let shown: Vec<&str> = yaml
        .lines()
        .filter_map(|line| line.split_once(':').map(|(key, _)| key.trim_matches([' ', '-', '#'])))
        .collect();
    for key in holdfast_config::all_keys() {
        let effective = matches!(key.fate, Fate::Honoured | Fate::Different(_));
        if effective && !key.name.ends_with("-file") && !SHORT.contains(&key.name) {
            assert!(shown.contains(&key.name), "{} of {} is not shown:\n{yaml}", key.name, key.place);
        }
    }
}
