//! The files people have: what `stn init --replicate` writes, what Station's documentation and Litestream's package
//! show. Settings as there, comments in our words.

use std::time::Duration;

use holdfast_config::{AbsCredentials, Config, Destination, GcsCredentials, S3, Secret};

use crate::{read, said};

/// `stn init --replicate` (Station `cmd/main/commands.go`), with its references in comments and trailing blanks.
const STN_INIT: &str = "\
# Set these where the container runs:
#   LITESTREAM_S3_BUCKET=your-backup-bucket-name
#   LITESTREAM_S3_REGION=us-east-1 (optional)

dbs:
  - path: /data/station.db
    replicas:
      # S3
      - type: s3
        bucket: ${LITESTREAM_S3_BUCKET}
        path: station-db
        region: ${LITESTREAM_S3_REGION:-us-east-1}
        access-key-id: ${LITESTREAM_S3_ACCESS_KEY_ID}
        secret-access-key: ${LITESTREAM_S3_SECRET_ACCESS_KEY}
        sync-interval: 10s    # how often
        retention: 24h        # how long
        
      # GCS
      # - type: gcs
      #   bucket: ${LITESTREAM_GCS_BUCKET}
      #   path: station-db
      #   service-account-json-path: /secrets/gcs-service-account.json
        
      # Azure
      # - type: abs
      #   bucket: ${LITESTREAM_ABS_BUCKET}
      #   account-name: ${LITESTREAM_ABS_ACCOUNT_NAME}
      #   account-key: ${LITESTREAM_ABS_ACCOUNT_KEY}
        
      # A directory
      # - type: file
      #   path: /backup/station-db-backup
      #   sync-interval: 30s
      #   retention: 168h  # 7 days";

/// What an earlier commit of Station shipped as `config/litestream.yml`: the database stands twice.
const STATION_2025: &str = "\
dbs:
  - path: /data/station.db
    replicas:
      - type: s3
        bucket: ${LITESTREAM_S3_BUCKET}
        path: station-db
        region: ${LITESTREAM_S3_REGION:-us-east-1}
        access-key-id: ${LITESTREAM_S3_ACCESS_KEY_ID}
        secret-access-key: ${LITESTREAM_S3_SECRET_ACCESS_KEY}
        sync-interval: 10s
        retention: 24h
        
  - path: /data/station.db
    replicas:
      - type: file
        path: /backup/station-db-backup
        sync-interval: 30s
        retention: 168h  # 7 days";

const DOCKER_RUN: [(&str, &str); 3] = [
    ("LITESTREAM_S3_BUCKET", "my-station-backups"),
    ("LITESTREAM_S3_ACCESS_KEY_ID", "AKIAEXAMPLE"),
    ("LITESTREAM_S3_SECRET_ACCESS_KEY", "wJalr$XUtnFEMI/K7MDENG#bPxRfi"),
];

fn s3(config: &Config, i: usize) -> &S3 {
    match &config.databases[0].replicas[i].destination {
        Destination::S3(s3) => s3,
        other => panic!("replica {i} is {other}"),
    }
}

fn warnings(config: &Config) -> Vec<String> {
    config.warnings.iter().map(said).collect()
}

#[test]
fn the_file_stn_init_writes_loads_with_the_variables_its_readme_sets() {
    let config = read(STN_INIT, &DOCKER_RUN).unwrap();
    assert_eq!(warnings(&config), [""; 0]);
    assert_eq!(config.databases.len(), 1);
    let db = &config.databases[0];
    assert_eq!((db.path.to_str(), db.replicas.len()), (Some("/data/station.db"), 1));
    assert_eq!(db.replicas[0].sync_interval, Duration::from_secs(10));
    assert_eq!(db.replicas[0].retention, Duration::from_secs(86_400));
    let s3 = s3(&config, 0);
    assert_eq!(
        (s3.bucket.as_str(), s3.path.as_str(), s3.region.as_str()),
        ("my-station-backups", "station-db", "us-east-1")
    );
    assert_eq!(s3.credentials.as_ref().unwrap().secret_access_key.expose(), "wJalr$XUtnFEMI/K7MDENG#bPxRfi");
}

#[test]
fn the_region_of_stn_init_follows_its_variable() {
    let with =
        |region| read(STN_INIT, &[&DOCKER_RUN[..], &[("LITESTREAM_S3_REGION", region)]].concat()).unwrap();
    assert_eq!(s3(&with("eu-central-1"), 0).region, "eu-central-1");
    assert_eq!(s3(&with(""), 0).region, "us-east-1");
}

#[test]
fn stn_init_under_a_role_takes_the_keys_of_the_platform_and_says_so() {
    let config = read(STN_INIT, &DOCKER_RUN[..1]).unwrap();
    assert_eq!(s3(&config, 0).credentials, None);
    assert_eq!(
        warnings(&config),
        [
            "l.yml:9: dbs[0].replicas[0]: the variables LITESTREAM_S3_ACCESS_KEY_ID and LITESTREAM_S3_SECRET_ACCESS_KEY \
          are not set; the environment's keys or the platform's role are used"
        ]
    );
    let aws = [DOCKER_RUN[0], ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s")];
    assert_eq!(s3(&read(STN_INIT, &aws).unwrap(), 0).credentials.as_ref().unwrap().access_key_id, "a");
}

#[test]
fn stn_init_without_its_bucket_or_with_half_its_keys_is_refused() {
    assert_eq!(
        said(&read(STN_INIT, &DOCKER_RUN[1..]).unwrap_err()),
        "read l.yml:10: dbs[0].replicas[0].bucket: the variable LITESTREAM_S3_BUCKET is not set; set it, or write \
         ${LITESTREAM_S3_BUCKET:-default} (a literal dollar sign is $$)"
    );
    assert_eq!(
        said(&read(STN_INIT, &DOCKER_RUN[..2]).unwrap_err()),
        "read l.yml:14: dbs[0].replicas[0].secret-access-key: the variable LITESTREAM_S3_SECRET_ACCESS_KEY is not set; \
         set it, or write ${LITESTREAM_S3_SECRET_ACCESS_KEY:-default} (a literal dollar sign is $$)"
    );
}

#[test]
fn the_file_station_shipped_in_2025_gives_one_database_with_two_replicas() {
    let config = read(STATION_2025, &DOCKER_RUN).unwrap();
    let names: Vec<_> = config.databases[0].replicas.iter().map(|r| r.name.as_str()).collect();
    assert_eq!((config.databases.len(), names), (1, vec!["s3", "file"]));
    assert_eq!(config.databases[0].replicas[1].sync_interval, Duration::from_secs(30));
    assert_eq!(config.databases[0].replicas[1].retention, Duration::from_secs(604_800));
    assert_eq!(config.warnings.len(), 1);
}

/// The replicas `docs/station/DATABASE_REPLICATION.md` shows, one by one.
#[test]
fn every_replica_of_stations_documentation_is_read() {
    let under = |replica: &str| format!("dbs:\n  - path: /data/station.db\n    replicas:\n{replica}");
    let aws = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let s3_file = under(
        "      - type: s3\n        bucket: my-station-backups\n        path: station-db\n        region: us-east-1\n        \
         access-key-id: ${AWS_ACCESS_KEY_ID}\n        secret-access-key: ${AWS_SECRET_ACCESS_KEY}\n",
    );
    assert_eq!(read(&s3_file, &aws).unwrap().databases[0].replicas[0].destination.kind(), "s3");
    let directory = under(
        "      - type: file\n        path: /backup/station-db\n        sync-interval: 30s\n        retention: 168h  # 7 days\n",
    );
    assert_eq!(
        read(&directory, &[]).unwrap().databases[0].replicas[0].destination.to_string(),
        "/backup/station-db"
    );
    let gcs = under(
        "      - type: gcs\n        bucket: my-station-backups\n        path: station-db\n        \
         service-account-json-path: /secrets/gcs-service-account.json\n",
    );
    let abs = under(
        "      - type: abs\n        bucket: my-station-backups\n        path: station-db\n        \
         account-name: ${AZURE_STORAGE_ACCOUNT}\n        account-key: ${AZURE_STORAGE_KEY}\n",
    );
    let read_as = |file: &str, vars: &[(&str, &str)]| {
        let config = read(file, vars).unwrap();
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        config.databases[0].replicas[0].destination.clone()
    };
    let Destination::Gcs(gcs) = read_as(&gcs, &[]) else { panic!("{gcs}") };
    assert_eq!((gcs.bucket.as_str(), gcs.path.as_str()), ("my-station-backups", "station-db"));
    assert_eq!(gcs.credentials, GcsCredentials::File("/secrets/gcs-service-account.json".into()));
    let vars = [("AZURE_STORAGE_ACCOUNT", "acct"), ("AZURE_STORAGE_KEY", "a2V5")];
    let Destination::Abs(abs) = read_as(&abs, &vars) else { panic!("{abs}") };
    assert_eq!(Destination::Abs(abs.clone()).to_string(), "abs://acct@my-station-backups/station-db");
    assert_eq!(abs.credentials, AbsCredentials::Key(Secret::new("a2V5".into())));
}

/// The alternatives that the 2025 file has in comments, opened.
#[test]
fn the_alternatives_of_the_file_of_2025_are_read() {
    let file = "dbs:\n  - path: /data/station.db\n    replicas:\n      - type: abs\n        bucket: ${LITESTREAM_ABS_BUCKET}\n        path: station-db\n        account-name: ${LITESTREAM_ABS_ACCOUNT_NAME}\n        account-key: ${LITESTREAM_ABS_ACCOUNT_KEY}\n      - type: gcs\n        bucket: ${LITESTREAM_GCS_BUCKET}\n        path: station-db\n        service-account-json-path: /secrets/gcs-service-account.json\n";
    let vars = [
        ("LITESTREAM_ABS_BUCKET", "c"),
        ("LITESTREAM_ABS_ACCOUNT_NAME", "acct"),
        ("LITESTREAM_ABS_ACCOUNT_KEY", "a2V5"),
        ("LITESTREAM_GCS_BUCKET", "g"),
    ];
    let config = read(file, &vars).unwrap();
    let places: Vec<_> = config.databases[0].replicas.iter().map(|r| r.destination.to_string()).collect();
    assert_eq!(
        (places, warnings(&config)),
        (vec!["abs://acct@c/station-db".into(), "gs://g/station-db".into()], vec![])
    );
}

/// What `docs/site/src/content/docs/en/database.mdx`, the README and the manifests set, and nothing else.
#[test]
fn every_environment_of_stations_documentation_is_enough() {
    for (vars, place) in [
        (
            &[
                ("LITESTREAM_S3_BUCKET", "my-station-backups"),
                ("LITESTREAM_S3_ACCESS_KEY_ID", "AKIAEXAMPLE"),
                ("LITESTREAM_S3_SECRET_ACCESS_KEY", "hunter2"),
                ("LITESTREAM_S3_REGION", "us-east-1"),
            ][..],
            "s3://my-station-backups/station-db",
        ),
        (
            &[
                ("LITESTREAM_GCS_BUCKET", "my-station-backups"),
                ("GOOGLE_APPLICATION_CREDENTIALS", "/path/to/service-account.json"),
            ],
            "gs://my-station-backups/station-db",
        ),
        (
            &[
                ("LITESTREAM_AZURE_ACCOUNT_NAME", "mystorageaccount"),
                ("LITESTREAM_AZURE_ACCOUNT_KEY", "aHVudGVyMg=="),
                ("LITESTREAM_AZURE_CONTAINER", "station-backups"),
            ],
            "abs://mystorageaccount@station-backups/station-db",
        ),
        (
            &[
                ("LITESTREAM_ABS_BUCKET", "station-backups"),
                ("LITESTREAM_ABS_ACCOUNT_NAME", "mystorageaccount"),
                ("LITESTREAM_ABS_ACCOUNT_KEY", "aHVudGVyMg=="),
            ],
            "abs://mystorageaccount@station-backups/station-db",
        ),
    ] {
        let env = holdfast_config::Env::from_pairs(vars.iter().copied());
        let config = holdfast_config::from_env(&env).unwrap().unwrap();
        assert_eq!(config.databases[0].replicas[0].destination.to_string(), place);
        assert_eq!(config.databases[0].path.to_str(), Some("/data/station.db"));
        assert_eq!(warnings(&config), [""; 0]);
    }
}

/// `etc/litestream.yml` of Litestream 0.3.13's packages: nothing but comments.
const LITESTREAM_PACKAGE: &str = "\
# access-key-id:     AKIAxxxxxxxxxxxxxxxx
# secret-access-key: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx/xxxxxxxxx

# dbs:
#  - path: /path/to/primary/db            # the database
#    replicas:
#      - path: /path/to/replica           # a directory
#      - url:  s3://my.bucket.com/db      # a bucket
";

#[test]
fn litestreams_packaged_file_loads_as_it_is_and_with_its_comments_opened() {
    let empty = read(LITESTREAM_PACKAGE, &[]).unwrap();
    assert_eq!(empty.databases.len(), 0);
    assert_eq!(warnings(&empty), ["l.yml: no databases: nothing will be replicated"]);
    assert!(!empty.replicates());

    let opened: String = LITESTREAM_PACKAGE
        .lines()
        .map(|l| l.strip_prefix("# ").or(l.strip_prefix('#')).unwrap_or(l).to_owned() + "\n")
        .collect();
    let config = read(&opened, &[]).unwrap();
    let places: Vec<_> = config.databases[0].replicas.iter().map(|r| r.destination.to_string()).collect();
    assert_eq!(places, ["/path/to/replica", "s3://my.bucket.com/db"]);
    assert_eq!(s3(&config, 1).credentials.as_ref().unwrap().access_key_id, "AKIAxxxxxxxxxxxxxxxx");
}
