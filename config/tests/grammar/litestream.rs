//! The files Litestream's documentation shows, of 0.3 and 0.5: each is read, or refused by name. Settings as there,
//! shortened where they repeat themselves.
//!
//! Sources: `content/reference/config.md` and `content/guides` of litestream.io, `docs/PROVIDER_COMPATIBILITY.md` and
//! `etc/litestream.yml` of Litestream.

use std::fmt::Write as _;

use crate::read;

const VARS: [(&str, &str); 4] = [
    ("KEY", "AKIAEXAMPLE"),
    ("SECRET", "hunter2$x"),
    ("ACCOUNT_KEY", "aHVudGVyMg=="),
    ("AWS_REGION", "eu-1"),
];

/// (what it shows, the file)
const FILES: &[(&str, &str)] = &[
    (
        "0.3: a file and a bucket, keys at the top",
        "access-key-id: AKIAxxxxxxxxxxxxxxxx\nsecret-access-key: xxxxxxxxx/xxxxxxxxx\ndbs:\n  - path: /path/to/primary/db\n    replicas:\n      - path: /path/to/replica\n      - url: s3://my.bucket.com/db\n",
    ),
    (
        "0.3: metrics and a command",
        "addr: \":9090\"\nexec: myapp -flag\ndbs:\n  - path: /var/lib/db\n    replicas: [{url: 's3://mybkt/db'}]\n",
    ),
    (
        "0.3: every setting of a replica",
        "dbs:\n  - path: /var/lib/db\n    meta-path: /meta\n    monitor-interval: 1s\n    checkpoint-interval: 1m\n    min-checkpoint-page-count: 1000\n    max-checkpoint-page-count: 10000\n    replicas:\n      - type: s3\n        name: x\n        bucket: mybkt\n        path: db\n        region: us-east-1\n        endpoint: https://s3.example.com\n        force-path-style: true\n        skip-verify: false\n        retention: 24h\n        retention-check-interval: 1h\n        snapshot-interval: 12h\n        validation-interval: 12h\n        sync-interval: 1s\n",
    ),
    (
        "0.3: age",
        "dbs:\n  - path: /d\n    replicas:\n      - url: s3://mybkt/db\n        age:\n          identities: [AGE-SECRET-KEY-1hunter2]\n          recipients: [age1x]\n",
    ),
    (
        "0.3: DigitalOcean by host",
        "dbs: [{path: /d, replicas: [{url: 's3://b.nyc3.digitaloceanspaces.com/db'}]}]\n",
    ),
    (
        "0.3: Backblaze by host",
        "dbs: [{path: /d, replicas: [{url: 's3://b.s3.us-west-000.backblazeb2.com/db'}]}]\n",
    ),
    (
        "0.3: Linode by host",
        "dbs: [{path: /d, replicas: [{url: 's3://b.us-east-1.linodeobjects.com/db'}]}]\n",
    ),
    ("0.3: Scaleway by host", "dbs: [{path: /d, replicas: [{url: 's3://b.s3.fr-par.scw.cloud/db'}]}]\n"),
    ("0.3: MinIO on this machine", "dbs: [{path: /d, replicas: [{url: 's3://mybkt.localhost:9000/db'}]}]\n"),
    ("0.3: Google", "dbs: [{path: /d, replicas: [{url: 'gcs://mybkt/db'}]}]\n"),
    (
        "0.3: Azure",
        "dbs:\n  - path: /d\n    replicas:\n      - url: abs://account@container/db\n        account-key: ${ACCOUNT_KEY}\n",
    ),
    (
        "0.5: defaults for all replicas",
        "region: us-west-2\nsync-interval: 30s\naccess-key-id: ${KEY}\nsecret-access-key: ${SECRET}\naccount-name: acct\naccount-key: ${ACCOUNT_KEY}\ndbs:\n  - path: /1\n    replica: {type: s3, bucket: bucket1}\n  - path: /2\n    replica: {type: s3, bucket: bucket2, region: us-east-1}\n  - path: /3\n    replica: {type: abs, bucket: container}\n",
    ),
    (
        "0.5: what concerns all of it",
        "mcp-addr: \":3001\"\nlogging: {level: info, type: pretty, stderr: false, source: true}\nlevels: [{interval: 30s}, {interval: 5m}]\nsnapshot: {interval: 24h, retention: 24h}\nvalidation: {interval: 5m}\nl0-retention: 5m\nl0-retention-check-interval: 15s\nretention: {enabled: false}\nverify-compaction: true\nheartbeat-url: https://hc.example/id\nheartbeat-interval: 1m\nshutdown-sync-timeout: 30s\nshutdown-sync-interval: 500ms\nsocket: {enabled: true, path: /var/run/litestream.sock, permissions: 0600}\ndbs: [{path: /d, replica: {path: /r}}]\n",
    ),
    (
        "0.5: every setting of a database",
        "dbs:\n  - path: sqlite3:///data/app.db\n    meta-path: /var/lib/m\n    monitor-interval: 500ms\n    checkpoint-interval: 30s\n    busy-timeout: 5s\n    min-checkpoint-page-count: 500\n    truncate-page-n: 50000\n    max-sync-wal-bytes: 67108864\n    restore-if-db-not-exists: true\n    snapshot: {interval: 1h, retention: 24h}\n    replica: {url: 's3://mybucket/myapp', sync-interval: 1s, max-sync-ltx-files: 256, auto-recover: true}\n",
    ),
    (
        "0.5: Hetzner",
        "dbs:\n  - path: /d\n    replica: {type: s3, bucket: b, path: db, endpoint: fsn1.your-objectstorage.com, sign-payload: true}\n",
    ),
    (
        "0.5: R2",
        "dbs:\n  - path: /d\n    replica:\n      url: s3://b/db?endpoint=https://0123.r2.cloudflarestorage.com\n      access-key-id: ${KEY}\n      secret-access-key: ${SECRET}\n",
    ),
    (
        "0.5: Backblaze",
        "dbs:\n  - path: /d\n    replica: {url: 's3://b/db?endpoint=https://s3.r.backblazeb2.com&sign-payload=true&force-path-style=true'}\n",
    ),
    (
        "0.5: Supabase",
        "dbs:\n  - path: /d\n    replica: {url: 's3://b/db?endpoint=https://ref.supabase.co/storage/v1/s3&forcePathStyle=true'}\n",
    ),
    (
        "0.5: Tigris",
        "dbs: [{path: /d, replica: {url: 's3://b/db?endpoint=fly.storage.tigris.dev&region=auto'}}]\n",
    ),
    (
        "0.5: MinIO by host and port",
        "dbs: [{path: /d, replica: {url: 's3://mybkt.minio.internal:9000/db'}}]\n",
    ),
    ("0.5: an access point", "dbs: [{path: /d, replica: {url: 's3://arn:aws:s3:r:1:accesspoint/n/db'}}]\n"),
    (
        "0.5: Google by its XML API",
        "dbs:\n  - path: /d\n    replica: {type: s3, bucket: b, path: db, endpoint: 'https://storage.googleapis.com', region: us-east-1, force-path-style: true}\n",
    ),
    ("0.5: Google", "dbs: [{path: /d, replica: {type: gs, bucket: b, path: db}}]\n"),
    (
        "0.5: Azure with a SAS token",
        "dbs:\n  - path: /d\n    replica:\n      url: abs://container/db\n      account-name: acct\n      sas-token: \"sv=2023-01-03&ss=b&sig=hunter2\"\n",
    ),
    (
        "0.5: a path named by the process",
        "dbs: [{path: /d, replica: {url: 'file:///tmp/replicas/$PID/myapp'}}]\n",
    ),
    (
        "0.5: NATS",
        "dbs:\n  - path: /d\n    replica: {url: 'nats://nats.example.com:4222/b', username: u, password: hunter2, tls: true}\n",
    ),
    ("0.5: WebDAV", "dbs: [{path: /d, replica: {url: 'webdavs://u:hunter2@h/p'}}]\n"),
    ("0.5: Alibaba", "dbs: [{path: /d, replica: {url: 'oss://b/db?endpoint=oss-r.aliyuncs.com'}}]\n"),
];

#[test]
fn every_file_of_litestreams_documentation_is_read_or_refused_by_name() {
    let mut out = String::new();
    for (what, file) in FILES {
        writeln!(out, "{what}").unwrap();
        match read(file, &VARS) {
            Ok(config) => {
                for database in &config.databases {
                    let places: Vec<_> =
                        database.replicas.iter().map(|r| r.destination.to_string()).collect();
                    writeln!(out, "  {} -> {}", database.path.display(), places.join(", ")).unwrap();
                }
                for warning in &config.warnings {
                    writeln!(out, "  warning: {warning}").unwrap();
                }
            }
            Err(e) => writeln!(out, "  error: {e}").unwrap(),
        }
    }
    assert!(!out.contains("hunter2"), "{out}");
    insta::assert_snapshot!(out);
}
