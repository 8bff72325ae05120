//! What every key gives, and what stands where no key does.

use std::time::Duration;

use holdfast_config::{
    AbsCredentials, Config, Destination, Format, Layout, Level, Logging, Ltx, Origin, PageEncoding, S3,
    Secret,
};

use crate::{read, replica};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn s3(yaml: &str, vars: &[(&str, &str)]) -> S3 {
    match replica(yaml, vars).unwrap().0.destination {
        Destination::S3(s3) => s3,
        other => panic!("{yaml} is {other}"),
    }
}

#[test]
fn a_file_without_settings_gives_litestreams_defaults() {
    let config = read("dbs: [{path: /d.db, replicas: [{path: /r}]}]", &[]).unwrap();
    assert_eq!(config.origin, Origin::File("l.yml".into()));
    assert_eq!(
        (config.addr, config.max_lag, config.exec, config.shutdown_sync_timeout),
        (None, secs(0), None, secs(30))
    );
    assert_eq!(config.logging, Logging { level: Level::Info, format: Format::Text, stderr: false });
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let [db] = &config.databases[..] else { panic!("one database") };
    assert_eq!((db.path.to_str(), &db.meta_path), (Some("/d.db"), &None));
    assert_eq!((db.monitor_interval, db.checkpoint_interval), (secs(1), secs(60)));
    assert_eq!(
        (db.min_checkpoint_pages, db.max_checkpoint_pages, db.max_wal_bytes),
        (1_000, 10_000, 1 << 30)
    );
    let [replica] = &db.replicas[..] else { panic!("one replica") };
    assert_eq!(replica.name, "file");
    assert_eq!(replica.destination, Destination::File { path: "/r".into() });
    assert_eq!((replica.retention, replica.retention_check_interval), (secs(86_400), secs(3_600)));
    assert_eq!(replica.sync_interval, secs(1));
    assert_eq!((replica.snapshot_interval, replica.validation_interval), (secs(0), secs(0)));
    assert_eq!((replica.layout, &replica.ltx), (None, &Ltx::default()));
    assert_eq!(replica.ltx.levels, [secs(30), secs(300), secs(3_600)]);
    assert_eq!((replica.ltx.snapshot_interval, replica.ltx.snapshot_retention), (secs(86_400), secs(86_400)));
    assert_eq!((replica.ltx.l0_retention, replica.ltx.l0_retention_check_interval), (secs(300), secs(15)));
    assert!(replica.ltx.retention_enabled);
}

#[test]
fn every_key_of_the_top_and_the_database_has_its_effect() {
    let config = read(
        "
addr: ':9090'
max-lag: 90s
exec: my-app --flag
shutdown-sync-timeout: 5s
logging: {level: WARNING, type: json, stderr: yes}
dbs:
  - path: data/x.db
    meta-path: ~/meta
    monitor-interval: 250ms
    checkpoint-interval: 0s
    min-checkpoint-page-count: 10
    max-checkpoint-page-count: 0
    max-wal-size: 64MiB
    replica: {path: /r}
",
        &[("HOME", "/home/u")],
    )
    .unwrap();
    assert_eq!((config.addr.as_deref(), config.max_lag), (Some(":9090"), secs(90)));
    assert_eq!(config.exec.as_deref(), Some("my-app --flag"));
    assert_eq!(config.shutdown_sync_timeout, secs(5));
    assert_eq!(config.logging, Logging { level: Level::Warn, format: Format::Json, stderr: true });
    assert_eq!(config.warnings, []);
    assert_eq!(config.command(), ["my-app", "--flag"]);
    let db = &config.databases[0];
    assert_eq!(db.path.to_str(), Some("/work/data/x.db"));
    assert_eq!(db.meta_path.as_ref().and_then(|p| p.to_str()), Some("/home/u/meta"));
    assert_eq!((db.monitor_interval, db.checkpoint_interval), (Duration::from_millis(250), secs(0)));
    assert_eq!((db.min_checkpoint_pages, db.max_checkpoint_pages, db.max_wal_bytes), (10, 0, 64 << 20));
    assert_eq!(db.replicas.len(), 1);
}

#[test]
fn every_key_of_a_replica_has_its_effect() {
    let (replica, warnings) = replica(
        "type: file
name: nas
path: ~/backup
retention: 168h
retention-check-interval: 10m
sync-interval: 500ms
snapshot-interval: 24h
validation-interval: 6h
timeout: 1m
age: {}",
        &[("HOME", "/home/u")],
    )
    .unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(replica.name, "nas");
    assert_eq!(replica.destination, Destination::File { path: "/home/u/backup".into() });
    assert_eq!((replica.retention, replica.retention_check_interval), (secs(604_800), secs(600)));
    assert_eq!(replica.sync_interval, Duration::from_millis(500));
    assert_eq!((replica.snapshot_interval, replica.validation_interval), (secs(86_400), secs(21_600)));
    assert_eq!(replica.timeout, secs(60));
}

#[test]
fn every_key_of_an_s3_replica_has_its_effect() {
    let got = s3(
        "type: s3
bucket: b
path: /station-db/
region: eu-west-1
endpoint: http://minio:9000/
force-path-style: false
skip-verify: true
access-key-id: id
secret-access-key: 'a#b'
session-token: t",
        &[("AWS_ACCESS_KEY_ID", "not"), ("AWS_SECRET_ACCESS_KEY", "these")],
    );
    let keys = got.credentials.clone().unwrap();
    assert_eq!((keys.access_key_id.as_str(), keys.secret_access_key.expose().as_str()), ("id", "a#b"));
    assert_eq!(keys.session_token.map(|t| t.expose().clone()).as_deref(), Some("t"));
    assert_eq!(
        (got.bucket.as_str(), got.path.as_str(), got.region.as_str()),
        ("b", "station-db", "eu-west-1")
    );
    assert_eq!(got.endpoint.as_deref(), Some("http://minio:9000"));
    assert!(!got.force_path_style && got.skip_verify);
}

#[test]
fn a_url_gives_what_the_keys_do_not() {
    let got = s3("url: s3://b.nyc3.digitaloceanspaces.com/p\nregion: other", &[]);
    assert_eq!((got.bucket.as_str(), got.path.as_str(), got.region.as_str()), ("b", "p", "other"));
    assert_eq!(got.endpoint.as_deref(), Some("https://nyc3.digitaloceanspaces.com"));
    assert!(got.force_path_style);
    assert!(!s3("url: s3://b.nyc3.digitaloceanspaces.com/p\nforce-path-style: false", &[]).force_path_style);
    let got = s3("url: s3://b/p\nendpoint: minio:9000", &[]);
    assert_eq!((got.endpoint.as_deref(), got.force_path_style), (Some("https://minio:9000"), true));
    let (file, warnings) = replica("type: s3\nurl: file:///r/x", &[]).unwrap();
    assert_eq!(file.destination, Destination::File { path: "/r/x".into() });
    assert_eq!(warnings, ["l.yml:4: dbs[0].replicas[0].type: \"s3\" has no effect; the URL says file"]);
}

#[test]
fn google_and_azure_read_the_same_from_keys_and_from_a_url() {
    let place = |yaml: &str| replica(yaml, &[]).unwrap().0;
    for (keys, url) in [
        ("type: gcs\nbucket: b\npath: /p/q/", "url: gs://b/p/q"),
        (
            "type: gs\nbucket: b\npath: p/q\nendpoint: localhost:4443",
            "url: gcs://b/p/q/?endpoint=localhost:4443",
        ),
        ("type: abs\nbucket: c\naccount-name: acct\npath: p", "url: abs://acct@c/p"),
        ("type: abs\nbucket: c\naccount-name: acct\npath: p", "url: abs://c/p\naccount-name: acct"),
        (
            "type: abs\nbucket: c\naccount-name: acct\npath: p\nendpoint: http://127.0.0.1:10000/acct/",
            "url: abs://acct@c/p?endpoint=http://127.0.0.1:10000/acct",
        ),
    ] {
        assert_eq!(place(keys), place(url), "{url}");
    }
    let token = "url: abs://acct@c/p\nsas-token: '?sv=1&sig=hunter2'\naccount-key: a2V5";
    let (abs, warnings) = replica(token, &[]).unwrap();
    let Destination::Abs(abs) = abs.destination else { panic!("{}", abs.destination) };
    assert_eq!(abs.credentials, AbsCredentials::Sas(Secret::new("?sv=1&sig=hunter2".into())));
    assert_eq!(
        warnings,
        [
            "l.yml:6: dbs[0].replicas[0].account-key: a SAS token is given too, and is used; the account key has no effect"
        ]
    );
    assert!(!format!("{abs:?}").contains("hunter2"));
}

#[test]
fn keys_come_from_the_replica_then_the_top_then_the_environment() {
    let keys = |top: &str, own: &str, vars: &[(&str, &str)]| {
        let text =
            format!("{{{top} dbs: [{{path: /d.db, replica: {{type: s3, bucket: b, region: r, {own}}}}}]}}");
        match &read(&text, vars).unwrap().databases[0].replicas[0].destination {
            Destination::S3(s3) => s3
                .credentials
                .as_ref()
                .map(|c| format!("{}/{}", c.access_key_id, c.secret_access_key.expose())),
            other => panic!("{other}"),
        }
    };
    let top = "access-key-id: ti, secret-access-key: ts,";
    let env = [("LITESTREAM_ACCESS_KEY_ID", "ei"), ("LITESTREAM_SECRET_ACCESS_KEY", "es")];
    assert_eq!(keys(top, "access-key-id: ri, secret-access-key: rs", &env).as_deref(), Some("ri/rs"));
    assert_eq!(keys(top, "access-key-id: ri", &env).as_deref(), Some("ri/ts"));
    assert_eq!(keys(top, "", &env).as_deref(), Some("ti/ts"));
    assert_eq!(keys("", "", &env).as_deref(), Some("ei/es"));
    assert_eq!(keys("", "access-key-id: '', secret-access-key: ''", &env).as_deref(), Some("ei/es"));
    assert_eq!(keys("", "", &[]), None);
}

#[test]
fn an_expanded_value_has_the_type_of_its_key() {
    let vars = [("D", "1h"), ("N", "42"), ("B", "false"), ("S", "2MiB"), ("P", "/x"), ("EMPTY", "")];
    let config = read(
        r#"
shutdown-sync-timeout: ${EMPTY:-7s}
logging: {stderr: "${NONE:-true}"}
dbs:
  - path: ${P}/d.db
    min-checkpoint-page-count: ${N}
    max-checkpoint-page-count: "${NONE:-5}"
    max-wal-size: $S
    checkpoint-interval: ${NONE:-0}
    replicas:
      - {type: "${T:-s3}", bucket: "${NONE:-b}", region: r, endpoint: h, force-path-style: "${B:-true}",
         retention: "${D}", snapshot-interval: "${NONE:-${D}}", sync-interval: "${N}ms", name: "n-$N"}
"#,
        &vars,
    )
    .unwrap();
    assert_eq!((config.shutdown_sync_timeout, config.logging.stderr), (secs(7), true));
    let db = &config.databases[0];
    assert_eq!(db.path.to_str(), Some("/x/d.db"));
    assert_eq!((db.min_checkpoint_pages, db.max_checkpoint_pages, db.max_wal_bytes), (42, 5, 2 << 20));
    assert_eq!(db.checkpoint_interval, secs(0));
    let replica = &db.replicas[0];
    assert_eq!((replica.retention, replica.snapshot_interval), (secs(3_600), secs(3_600)));
    assert_eq!((replica.sync_interval, replica.name.as_str()), (Duration::from_millis(42), "n-42"));
    assert!(matches!(&replica.destination, Destination::S3(s3) if !s3.force_path_style && s3.bucket == "b"));
}

#[test]
fn a_key_whose_whole_value_is_an_absent_variable_is_absent() {
    let vars = [("EMPTY", "")];
    let got = s3(
        "type: s3
bucket: b
path: ${NONE:-}
region: ${EMPTY}
endpoint: ${ENDPOINT:-}
force-path-style: ${NONE:-}
retention: ${NONE:-}
access-key-id: ${EMPTY}
secret-access-key: ${NONE:-}",
        &vars,
    );
    assert_eq!((got.endpoint.as_deref(), got.force_path_style, got.path.as_str()), (None, false, ""));
    assert_eq!((got.region.as_str(), got.credentials), ("eu-1", None));
}

#[test]
fn comments_and_keys_nobody_reads_are_not_expanded() {
    let text = "# ${NONE}\ndbs: [{path: /d.db, replica: {path: /r}}] # $ALSO_NONE\nmcp-addr: ${NONE}\n";
    assert_eq!(read(text, &[]).unwrap().databases.len(), 1);
}

#[test]
fn without_expansion_a_dollar_is_a_dollar() {
    let env = holdfast_config::Env::from_pairs([("P", "/x")]);
    let text = "dbs:\n- path: /$P/$$/${P:-y}\n  replica: {path: /r}\n";
    let config = holdfast_config::parse(text, std::path::Path::new("l.yml"), &env, false).unwrap();
    assert_eq!(config.databases[0].path.to_str(), Some("/$P/$$/${P:-y}"));
}

#[test]
fn text_that_looks_like_a_number_stays_as_it_is_written() {
    let got = s3(
        "type: s3\nbucket: 0123\npath: 1e5\nregion: 0x10\naccess-key-id: 12\nsecret-access-key: 1.50",
        &[],
    );
    assert_eq!((got.bucket.as_str(), got.path.as_str(), got.region.as_str()), ("0123", "1e5", "0x10"));
    let keys = got.credentials.unwrap();
    assert_eq!((keys.access_key_id.as_str(), keys.secret_access_key.expose().as_str()), ("12", "1.50"));
}

#[test]
fn anchors_carry_settings_from_replica_to_replica() {
    let config = read(
        "
dbs:
  - path: /a.db
    replicas: [&r {type: s3, bucket: 0123, path: a, region: x, retention: 1h}]
  - path: /b.db
    replicas: [{<<: *r, path: b}]
",
        &[],
    )
    .unwrap();
    let b = &config.databases[1].replicas[0];
    assert_eq!((b.retention, b.destination.to_string().as_str()), (secs(3_600), "s3://0123/b"));
}

#[test]
fn a_database_listed_twice_gets_the_replicas_of_both() {
    let config: Config = read(
        "dbs:\n  - path: /d.db\n    replicas: [{path: /r}]\n  - path: /x/../d.db\n    replicas: [{name: b, path: /s}]\n",
        &[],
    )
    .unwrap();
    assert_eq!(config.databases.len(), 1);
    let names: Vec<_> = config.databases[0].replicas.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["file", "b"]);
    assert_eq!(
        crate::said(&config.warnings[0]),
        "l.yml:4: dbs[1]: /d.db is listed already; these replicas are added to it, other settings here are ignored"
    );
}

#[test]
fn every_key_of_litestream_0_5s_layout_has_its_effect() {
    let config = read(
        "
levels: [{interval: 10s}, {interval: 2m}]
snapshot: {interval: 6h, retention: 48h}
l0-retention: 0s
l0-retention-check-interval: 1s
retention: {enabled: no}
verify-compaction: true
dbs:
  - path: /a.db
    replicas: [{format: ltx, ltx-page-encoding: frame, path: /r}]
  - path: /b.db
    snapshot: {retention: 72h}
    replicas: [{format: v0.3, path: /s}, {name: own, path: /t, snapshot-interval: 1h, retention: 0s}]
",
        &[],
    )
    .unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let a = &config.databases[0].replicas[0];
    let ltx = Ltx {
        page_encoding: PageEncoding::Frame,
        levels: vec![secs(10), secs(120)],
        snapshot_interval: secs(21_600),
        snapshot_retention: secs(172_800),
        l0_retention: secs(0),
        l0_retention_check_interval: secs(1),
        retention_enabled: false,
    };
    assert_eq!((a.layout, &a.ltx), (Some(Layout::Ltx), &ltx));
    let [b, own] = &config.databases[1].replicas[..] else { panic!("two replicas") };
    let ltx = Ltx { page_encoding: PageEncoding::Block, snapshot_retention: secs(259_200), ..ltx };
    assert_eq!((b.layout, &b.ltx), (Some(Layout::V03), &ltx));
    assert_eq!(
        (b.snapshot_interval, b.retention),
        (secs(21_600), secs(259_200)),
        "`snapshot` is for both layouts"
    );
    assert_eq!((own.ltx.snapshot_interval, own.ltx.snapshot_retention), (secs(3_600), secs(0)));
    assert_eq!((own.snapshot_interval, own.retention), (secs(3_600), secs(0)));
}

#[test]
fn no_levels_are_a_choice() {
    let config = read("levels: []\ndbs: [{path: /d.db, replica: {path: /r}}]", &[]).unwrap();
    assert!(config.databases[0].replicas[0].ltx.levels.is_empty());
}

#[test]
fn the_top_of_the_file_speaks_for_every_replica_that_does_not_itself() {
    let config = read(
        "
sync-interval: 7s
validation-interval: 1h
bucket: all
region: top-1
endpoint: https://top.example
force-path-style: false
skip-verify: true
access-key-id: top
secret-access-key: secret
session-token: token
account-name: acct
account-key: key
dbs:
  - path: /a.db
    replica: {type: s3, path: a}
  - path: /b.db
    replica: {type: s3, path: b, bucket: own, region: own-1, endpoint: 'https://own.example', force-path-style: true,
              skip-verify: false, sync-interval: 2s, access-key-id: i, secret-access-key: s}
  - path: /c.db
    replica: {url: 's3://url/c?region=url-1&endpoint=https://url.example&force-path-style=true'}
  - path: /d.db
    replica: {type: abs, path: d, endpoint: 'https://azure.example'}
  - path: /e.db
    replica: {path: /r, region: ''}
  - path: /f.db
    replica: {type: s3, path: f, region: '${NONE:-}'}
",
        &[],
    )
    .unwrap();
    assert_eq!(config.warnings.len(), 1, "`region` of a directory: {:?}", config.warnings);
    let s3 = |i: usize| match &config.databases[i].replicas[0].destination {
        Destination::S3(s3) => {
            let id = s3.credentials.as_ref().map_or("none", |c| &c.access_key_id);
            let endpoint = s3.endpoint.as_deref().unwrap_or_default();
            (s3.bucket.as_str(), s3.region.as_str(), endpoint, s3.force_path_style, s3.skip_verify, id)
        }
        other => panic!("{other}"),
    };
    assert_eq!(s3(0), ("all", "top-1", "https://top.example", false, true, "top"));
    assert_eq!(s3(1), ("own", "own-1", "https://own.example", true, false, "i"));
    assert_eq!(s3(2), ("url", "url-1", "https://url.example", true, true, "top"));
    assert_eq!(s3(5).1, "top-1", "a variable that gives nothing is no value");
    assert_eq!(
        config.databases[3].replicas[0].destination.to_string(),
        "abs://acct@all/d at https://azure.example"
    );
    let pace = |i: usize| config.databases[i].replicas[0].sync_interval;
    assert_eq!((pace(0), pace(1), pace(4)), (secs(7), secs(2), secs(7)));
    assert_eq!(config.databases[4].replicas[0].validation_interval, secs(3_600));
}
