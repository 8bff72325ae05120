//! What every mistake is told, to the letter: the messages are the product.

use crate::{read, replica, said};

/// (settings of a replica, the message after `read l.yml:`)
const REPLICA_ERRORS: &[(&str, &str)] = &[
    (
        "sync-interval: 10\npath: /r",
        "4: dbs[0].replicas[0].sync-interval: 10 is not a duration: it has no unit (Litestream would take it as nanoseconds); write 10s for seconds",
    ),
    (
        "path: /r\nretention: 7d",
        "5: dbs[0].replicas[0].retention: \"7d\" is not a duration: unknown unit \"d\"; write 168h",
    ),
    (
        "path: /r\nretention: ${R}",
        "5: dbs[0].replicas[0].retention: \"7 days\" (from ${R}) is not a duration: unknown unit \" days\"; write 168h",
    ),
    (
        "path: /r\nretention: -1h",
        "5: dbs[0].replicas[0].retention: \"-1h\" is not a duration: it is negative; write 0 to turn it off where that is possible",
    ),
    (
        "path: /r\nretention: [1h]",
        "5: dbs[0].replicas[0].retention: a duration is expected, and this is a list",
    ),
    (
        "path: /r\nretention: true",
        "5: dbs[0].replicas[0].retention: true is not a duration: a number is expected at \"true\"; write something like 10s or 24h",
    ),
    (
        "path: /r\nsync-interval: 0s",
        "5: dbs[0].replicas[0].sync-interval: it must be longer than 0: Litestream crashes on it; write something like 1s",
    ),
    (
        "path: /r\nretention-check-interval: 0",
        "5: dbs[0].replicas[0].retention-check-interval: it must be longer than 0: Litestream crashes on it; `retention: 0s` keeps everything; write something like 1s",
    ),
    ("name: x", "4: dbs[0].replicas[0].path: it is missing; name the directory to replicate to"),
    ("path: ''", "4: dbs[0].replicas[0].path: it is empty; name the directory to replicate to"),
    (
        "path: s3://user:hunter2@b/p",
        "4: dbs[0].replicas[0].path: \"s3://b/p\" is a URL; write it under `url`",
    ),
    ("path: ~/x", "4: dbs[0].replicas[0].path: `~` needs the variable HOME, which is not set"),
    ("path: {a: b}", "4: dbs[0].replicas[0].path: text is expected, and this is a map"),
    (
        "url: file:///r\npath: /r",
        "5: dbs[0].replicas[0].path: `url` and `path` are both given; keep one of them",
    ),
    (
        "url: s3://b/p\nbucket: b",
        "5: dbs[0].replicas[0].bucket: `url` and `bucket` are both given; keep one of them",
    ),
    (
        "url: /r",
        "4: dbs[0].replicas[0].url: it has no scheme; start it with file://, s3://, gs://, abs:// or sftp://",
    ),
    (
        "url: s3:///p",
        "4: dbs[0].replicas[0].url: bucket: it is missing; name the bucket (s3://BUCKET/PATH, or the key `bucket`)",
    ),
    (
        "url: webdav://h/p",
        "4: dbs[0].replicas[0].url: replicas of type webdav are not available yet; use type s3, gcs, abs, sftp or file",
    ),
    ("url: sftp://h/p", "4: dbs[0].replicas[0].user: it is missing; name whom to log in as"),
    (
        "url: sftp://u@h/p\nhost: h",
        "5: dbs[0].replicas[0].host: `url` and `host` are both given; keep one of them",
    ),
    (
        "url: sftp://u@h/p\nuser: v",
        "5: dbs[0].replicas[0].user: \"v\" is given, and the URL names another user; keep one of them",
    ),
    ("type: sftp\nuser: u", "4: dbs[0].replicas[0].host: it is missing; name the server"),
    ("type: sftp\nhost: h", "4: dbs[0].replicas[0].user: it is missing; name whom to log in as"),
    (
        "type: sftp\nhost: h:port\nuser: u",
        "5: dbs[0].replicas[0].host: \"h:port\" does not end in a port; write HOST, HOST:PORT or [ADDRESS]:PORT",
    ),
    (
        "type: sftp\nhost: h\nuser: u\nhost-key: SHA256:abc",
        "7: dbs[0].replicas[0].host-key: it is a fingerprint, and the key itself is needed; write it as `ssh-keyscan HOST` prints it, without the name: ssh-ed25519 AAAA…",
    ),
    (
        "type: sftp\nhost: h\nuser: u\nconcurrent-writes: perhaps",
        "7: dbs[0].replicas[0].concurrent-writes: \"perhaps\" is not true or false; write true or false",
    ),
    ("type: gcs\npath: p", "4: dbs[0].replicas[0].bucket: it is missing; name the bucket"),
    (
        "type: gs\nbucket: b\nservice-account-json-path: /x\nservice-account-json: '{}'",
        "6: dbs[0].replicas[0].service-account-json-path: `service-account-json` is given too; keep one of them",
    ),
    (
        "type: gcs\nbucket: b\nservice-account-json: hunter2",
        "6: dbs[0].replicas[0].service-account-json: it is not a JSON object; write the whole content of the key's file, or its path under `service-account-json-path`",
    ),
    (
        "url: gs://b:99/p",
        "4: dbs[0].replicas[0].url: it has a port, 99, where the bucket's name stands; write gs://BUCKET/PATH?endpoint=http://HOST:99",
    ),
    (
        "url: abs://acct:hunter2@c/p",
        "4: dbs[0].replicas[0].url: it holds a password; remove it; keys go into account-key or sas-token, or into LITESTREAM_AZURE_ACCOUNT_KEY",
    ),
    ("type: abs\nbucket: b", "4: dbs[0].replicas[0].account-name: it is missing; name the storage account"),
    (
        "url: abs://one@c/p\naccount-name: two",
        "5: dbs[0].replicas[0].account-name: \"two\" is given, and the URL names another account; keep one of them",
    ),
    (
        "url: abs://one@c/p?sas=hunter2",
        "4: dbs[0].replicas[0].url: the query parameter `sas` is not available; remove it; known are endpoint",
    ),
    (
        "type: S3\nbucket: b",
        "4: dbs[0].replicas[0].type: unknown replica type \"S3\"; did you mean s3? The types are s3, gcs, abs, sftp and file",
    ),
    (
        "type: tape",
        "4: dbs[0].replicas[0].type: unknown replica type \"tape\"; the types are s3, gcs, abs, sftp and file",
    ),
    ("type: s3", "4: dbs[0].replicas[0].bucket: it is missing; name the bucket"),
    (
        "type: s3\nbucket: ${LITESTREAM_S3_BUCKET}",
        "5: dbs[0].replicas[0].bucket: the variable LITESTREAM_S3_BUCKET is not set; set it, or write ${LITESTREAM_S3_BUCKET:-default} (a literal dollar sign is $$)",
    ),
    ("type: s3\nbucket: ${EMPTY}", "5: dbs[0].replicas[0].bucket: ${EMPTY} is empty; name the bucket"),
    (
        "type: s3\nbucket: ${B:?name the bucket for backups}",
        "5: dbs[0].replicas[0].bucket: the variable B is not set: name the bucket for backups; set it",
    ),
    (
        "type: s3\nbucket: ${B",
        "5: dbs[0].replicas[0].bucket: `${` has no closing `}`; close it, or write $$ for a literal dollar sign",
    ),
    (
        "type: s3\nbucket: b/p",
        "5: dbs[0].replicas[0].bucket: \"b/p\" is not a bucket's name; write the name alone; the folder in it is the key `path`",
    ),
    (
        "type: s3\nbucket: b\nregion: us east",
        "6: dbs[0].replicas[0].region: \"us east\" is not a region's name; write something like us-east-1",
    ),
    (
        "type: s3\nbucket: b\nendpoint: https://u:hunter2@h",
        "6: dbs[0].replicas[0].endpoint: it holds a user or password; remove them; keys go into access-key-id and secret-access-key",
    ),
    (
        "type: s3\nbucket: b\nforce-path-style: maybe",
        "6: dbs[0].replicas[0].force-path-style: \"maybe\" is not true or false; write true or false",
    ),
    (
        "type: s3\nbucket: b\nskip-verify: 1",
        "6: dbs[0].replicas[0].skip-verify: 1 is not true or false; write true or false",
    ),
    (
        "type: s3\nbucket: b\naccess-key-id: id",
        "4: dbs[0].replicas[0].secret-access-key: it is missing or empty, and `access-key-id` is given; give both, or neither to use the environment's keys or the platform's role",
    ),
    (
        "type: s3\nbucket: b\nsecret-access-key: hunter2\naccess-key-id: ${EMPTY}",
        "7: dbs[0].replicas[0].access-key-id: it is missing or empty, and `secret-access-key` is given; give both, or neither to use the environment's keys or the platform's role",
    ),
    (
        "type: s3\nbucket: b\naccess-key-id: id\nsecret-access-key: ${SECRET}",
        "7: dbs[0].replicas[0].secret-access-key: the variable SECRET is not set; set it, or write ${SECRET:-default} (a literal dollar sign is $$)",
    ),
    (
        "type: s3\nbucket: b\nsession-token: t",
        "4: dbs[0].replicas[0].access-key-id: it is missing or empty, and `session-token` is given; give both, or neither to use the environment's keys or the platform's role",
    ),
    (
        "type: s3\nbucket: b\nsse-customer-key: hunter2",
        "6: dbs[0].replicas[0].sse-customer-key: it is not 32 bytes in base64; make one with `openssl rand -base64 32`",
    ),
    (
        "path: /r\nage: {recipients: [age1x]}",
        "5: dbs[0].replicas[0].age.recipients: encryption is not available yet, and objects would be written in the clear; remove `age`, or keep this replica with Litestream 0.3.13",
    ),
    ("path: /r\nage: x", "5: dbs[0].replicas[0].age: a map is expected, and this is text"),
    ("path: /d.db", "4: dbs[0].replicas[0].path: it is the database itself; name another directory"),
];

#[test]
fn every_mistake_in_a_replica_is_told_with_file_line_key_value_and_remedy() {
    let vars = [("R", "7 days"), ("EMPTY", "")];
    for (yaml, want) in REPLICA_ERRORS {
        assert_eq!(replica(yaml, &vars).unwrap_err(), format!("read l.yml:{want}"), "{yaml}");
    }
}

/// (a whole file, the message after `read l.yml`)
const FILE_ERRORS: &[(&str, &str)] = &[
    ("dbs: {path: /d.db}", ":1: dbs: a list is expected, and this is a map; start each item with `- `"),
    ("dbs:\n  - path: /d.db\n  -\n", ":3: dbs[1]: the list item is empty; fill it in, or remove its `-`"),
    ("dbs:\n  - /d.db\n", ":2: dbs[0]: a map is expected, and this is text"),
    (
        "dbs:\n  - replicas: []\n",
        ":2: dbs[0].path: it is missing; name the database file, or with `dir` a directory of them",
    ),
    (
        "dbs:\n  - path:\n",
        ":2: dbs[0].path: it is empty; name the database file, or with `dir` a directory of them",
    ),
    (
        "dbs:\n  - path: ${P:-}\n",
        ":2: dbs[0].path: ${P:-} is empty; name the database file, or with `dir` a directory of them",
    ),
    (
        "dbs:\n  - path: libsql://h\n",
        ":2: dbs[0].path: it is a URL, and a file's path is expected; write something like /data/station.db",
    ),
    (
        "dbs:\n  - path: /d\n    replicas:\n      -\n",
        ":4: dbs[0].replicas[0]: the list item is empty; fill it in, or remove its `-`",
    ),
    (
        "dbs:\n  - path: /d\n    replicas: {path: /r}\n",
        ":3: dbs[0].replicas: a list is expected, and this is a map; start each item with `- `",
    ),
    (
        "dbs:\n  - path: /d\n    replica: [{path: /r}]\n",
        ":3: dbs[0].replica: a map is expected, and this is a list",
    ),
    (
        "dbs:\n  - path: /d\n    replica: {path: /r}\n    replicas: []\n",
        ":3: dbs[0].replica: `replica` and `replicas` are both given; keep one of them",
    ),
    (
        "dbs:\n  - path: /d\n    replica:\n      path: /r\n      retention: x\n",
        ":5: dbs[0].replica.retention: \"x\" is not a duration: a number is expected at \"x\"; write something like 10s or 24h",
    ),
    (
        "dbs:\n  - path: /d\n    monitor-interval: 0s\n",
        ":3: dbs[0].monitor-interval: it must be longer than 0: nothing would be replicated; write something like 1s",
    ),
    (
        "dbs:\n  - path: /d\n    min-checkpoint-page-count: 0\n",
        ":3: dbs[0].min-checkpoint-page-count: it must be more than 0; the default is 1000",
    ),
    (
        "dbs:\n  - path: /d\n    min-checkpoint-page-count: '1000'\n",
        ":3: dbs[0].min-checkpoint-page-count: \"1000\" is text, and a whole number is expected; write it without quotes",
    ),
    (
        "dbs:\n  - path: /d\n    max-checkpoint-page-count: -1\n",
        ":3: dbs[0].max-checkpoint-page-count: -1 is not a whole number of pages; write a number from 0 to 4294967295",
    ),
    (
        "dbs:\n  - path: /d\n    max-checkpoint-page-count: 1.5\n",
        ":3: dbs[0].max-checkpoint-page-count: 1.5 is not a whole number of pages; write a number from 0 to 4294967295",
    ),
    (
        "dbs:\n  - path: /d\n    max-wal-size: 5M\n",
        ":3: dbs[0].max-wal-size: \"5M\" is not a size: unknown unit \"M\"; write something like 512MiB or 1GiB",
    ),
    (
        "dbs:\n  - path: /d\n    max-wal-size: 0\n",
        ":3: dbs[0].max-wal-size: it must be more than 0; the default is 1GiB",
    ),
    (
        "endpoint: https://u:hunter2@h\ndbs:\n  - path: /d\n    replica: {type: s3, bucket: b}\n",
        ":1: endpoint: it holds a user or password; remove them; keys go into access-key-id and secret-access-key",
    ),
    (
        "sync-interval: 0s\ndbs:\n  - path: /d\n    replica: {path: /r}\n",
        ":1: sync-interval: it must be longer than 0: Litestream crashes on it; write something like 1s",
    ),
    ("addr: localhost\n", ":1: addr: \"localhost\" has no port; write :9090 or 127.0.0.1:9090"),
    (
        "exec: \"app 'x\"\n",
        ":1: exec: it is no command: a quote is not closed, or it is blank; write it as in a shell",
    ),
    ("logging: {type: yaml}\n", ":1: logging.type: \"yaml\" is not a log format; write text or json"),
    ("logging: json\n", ":1: logging: a map is expected, and this is text"),
    (
        "shutdown-sync-timeout: soon\n",
        ":1: shutdown-sync-timeout: \"soon\" is not a duration: a number is expected at \"soon\"; write something like 10s or 24h",
    ),
    ("- dbs\n", ": the file must be a map of settings, and is a list; start it with `dbs:`"),
    (
        "dbs: [\n",
        ":2: the file is not YAML: did not find expected node content at line 2 column 1, while parsing a flow node",
    ),
    (
        "dbs: [{path: ${P}, replica: {path: /r}}]\n",
        ":1: the file is not YAML: did not find expected ',' or '}' at line 1 column 15, while parsing a flow mapping at line 1 column 7; between { and } or [ and ], write a value with ${…} in quotes",
    ),
    ("dbs: []\ndbs: []\n", ":2: the file is not YAML: the key `dbs` is given twice at line 2 column 1"),
    (
        "dbs:\n  - path: /d\n    replicas: [{path: /r}, {path: /s}]\n",
        ":3: dbs[0].replicas[1].name: the database has two replicas named \"file\"; give each a `name` of its own (the default is the type)",
    ),
    (
        "dbs:\n  - path: /a\n    replicas: [{path: /r}]\n  - path: /b\n    replicas:\n      - path: /x/../r/\n",
        ":6: dbs[1].replicas[0]: it writes to /r, as dbs[0].replicas[0] does; give each replica a `path` of its own: two writers at one place destroy each other's backups",
    ),
];

#[test]
fn every_mistake_in_a_file_is_told_with_file_line_key_value_and_remedy() {
    for (yaml, want) in FILE_ERRORS {
        assert_eq!(said(&read(yaml, &[]).unwrap_err()), format!("read l.yml{want}"), "{yaml}");
    }
}

#[test]
fn two_databases_may_share_a_bucket_but_not_a_prefix() {
    let file = |second: &str| {
        format!(
            "dbs:\n- {{path: /a, replica: {{type: s3, bucket: b, path: p, region: r}}}}\n- {{path: /b, replica: {second}}}\n"
        )
    };
    let error = read(&file("{url: 's3://b//p/', region: other}"), &[]).unwrap_err();
    assert_eq!(error.key(), Some("dbs[1].replica"));
    assert_eq!(error.position().map(|p| p.line), Some(3));
    for other in
        ["{type: s3, bucket: b, path: q, region: r}", "{type: s3, bucket: b, path: p, endpoint: 'https://h'}"]
    {
        assert!(read(&file(other), &[]).is_ok(), "{other}");
    }
}

#[test]
fn what_has_no_effect_is_warned_about_with_the_nearest_key() {
    let config = read(
        "
dbss: []
level: []
mcp-addr: :1
logging: {level: verbos, type: pretty, source: true}
dbs:
  - path: /d.db
    sync-interval: 1s
    busy-timeout: 1s
    replicas:
      - type: s3
        bucket: b
        retension: 1h
        monitor-interval: 1s
        sign-accept-encoding: false
        account-key: x
  - path: /e.db
---
dbs: []
",
        &[],
    )
    .unwrap();
    let warnings: Vec<_> = config.warnings.iter().map(said).collect();
    assert_eq!(
        warnings,
        [
            "l.yml: only the first YAML document is read; what follows `---` is ignored",
            "l.yml:2: dbss: unknown key, ignored; did you mean `dbs`?",
            "l.yml:3: level: unknown key, ignored; did you mean `levels`?",
            "l.yml:4: mcp-addr: is not available; ignored",
            "l.yml:5: logging.level: \"verbos\" is not a level; info is used",
            "l.yml:5: logging.type: pretty is not available; text is used",
            "l.yml:5: logging.source: is not available; ignored",
            "l.yml:8: dbs[0].sync-interval: has no effect here, ignored; it belongs to a replica",
            "l.yml:9: dbs[0].busy-timeout: has no effect; ignored, no lock is held and no WAL is truncated in normal work",
            "l.yml:11: dbs[0].replicas[0]: no `region` is given; us-east-1 is assumed",
            "l.yml:13: dbs[0].replicas[0].retension: unknown key, ignored; did you mean `retention`?",
            "l.yml:14: dbs[0].replicas[0].monitor-interval: has no effect here, ignored; it belongs to a database (an item of `dbs`)",
            "l.yml:15: dbs[0].replicas[0].sign-accept-encoding: has no effect; ignored, deletions always carry a Content-MD5, and no Accept-Encoding is sent",
            "l.yml:16: dbs[0].replicas[0].account-key: has no effect here, ignored; it belongs to a replica of type abs",
            "l.yml:17: dbs[1].path: /e.db has no replica: it will not be replicated",
        ]
    );
}

#[test]
fn a_mistake_in_the_keys_of_levels_and_layouts_names_file_key_and_value() {
    let top = |text: &str| {
        let text = format!("{text}\ndbs: [{{path: /d.db, replica: {{path: /r}}}}]");
        match read(&text, &[]) {
            Ok(config) => config.warnings.first().map(said).unwrap_or_default(),
            Err(e) => said(&e),
        }
    };
    let own = |text: &str| {
        let text = format!("dbs: [{{path: /d.db, replica: {{path: /r, {text}}}}}]");
        read(&text, &[]).map(|_| String::new()).unwrap_or_else(|e| said(&e))
    };
    for (message, expected) in [
        (
            top("levels: 3"),
            "read l.yml:1: levels: a list is expected, and this is the number 3; start each item with `- `",
        ),
        (
            top("levels: [{interval: 1d}]"),
            "read l.yml:1: levels[0].interval: \"1d\" is not a duration: unknown unit \"d\"; write 24h",
        ),
        (
            top("levels: [{interval: 0s}]"),
            "read l.yml:1: levels[0].interval: it must be longer than 0: a level without one is never written; write something like 1s",
        ),
        (top("levels: [{}]"), "read l.yml:1: levels[0].interval: it is missing; write something like 30s"),
        (
            top("levels: [{interval: 1s, intervall: 1s}]"),
            "l.yml:1: levels[0].intervall: unknown key, ignored; did you mean `interval`?",
        ),
        (
            top(&format!("levels: [{}]", ["{interval: 1s}"; 9].join(", "))),
            "read l.yml:1: levels: 9 levels are more than 8; remove some: each one rewrites what the one below it wrote",
        ),
        (
            top("snapshot: {retention: 0s}"),
            "read l.yml:1: snapshot.retention: it must be longer than 0: Litestream refuses it; write something like 1s",
        ),
        (
            top("retention: 24h"),
            "l.yml:1: retention: is a map with `enabled` at the top level; ignored, set a duration on the replica",
        ),
        (
            top("retention: {enabled: maybe}"),
            "read l.yml:1: retention.enabled: \"maybe\" is not true or false; write true or false",
        ),
        (
            top("verify-compaction: false"),
            "l.yml:1: verify-compaction: false has no effect; every compaction is verified",
        ),
        (
            top("l0-retention-check-interval: 0s"),
            "read l.yml:1: l0-retention-check-interval: it must be longer than 0: `l0-retention: 0s` keeps every file; write something like 1s",
        ),
        (
            own("format: v0.5"),
            "read l.yml:1: dbs[0].replica.format: \"v0.5\" is not one; write ltx for Litestream 0.5's layout, or v0.3",
        ),
        (
            own("format: ltx, ltx-page-encoding: zip"),
            "read l.yml:1: dbs[0].replica.ltx-page-encoding: \"zip\" is not one; write block, or frame for readers older than Litestream 0.5.16",
        ),
    ] {
        assert_eq!(message, expected);
    }
}

#[test]
fn errors_and_warnings_name_the_column_too() {
    let error = read("dbs:\n  - path: /d\n    replicas: [{path: /r, retention: 7d}]\n", &[]).unwrap_err();
    assert_eq!(error.position().map(|p| (p.line, p.column)), Some((3, 27)));
    assert!(error.to_string().starts_with("read l.yml:3:27: dbs[0].replicas[0].retention: "), "{error}");
    let config = read("{dbss: [], dbs: []}", &[]).unwrap();
    assert_eq!(config.warnings[1].to_string(), "l.yml:1:2: dbss: unknown key, ignored; did you mean `dbs`?");
    let broken = read("dbs: [\n", &[]).unwrap_err().to_string();
    assert!(broken.starts_with("read l.yml:2:1: the file is not YAML: "), "{broken}");
}
