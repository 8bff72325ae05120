//! What people configure and what both programs agree on. A leaf: files and environment in, values out.
//!
//! [`load`] finds the configuration, [`parse`] reads one `litestream.yml`, [`from_env`] builds one from the
//! variables of Station's documentation, [`replica_from_url`] reads one URL of the command line. All four fail
//! closed: a file that exists but cannot be understood is an error, never "no configuration".
//!
//! # Where this reader differs from Litestream 0.3.13
//!
//! | subject | 0.3.13 | here |
//! | --- | --- | --- |
//! | `${V:-default}`, `${V:?text}`, `${V:+text}` | looks up a variable of that odd name: empty | as a shell does |
//! | an unset variable without default | empty | an error; see [below](#unset-variables) for the one exception |
//! | `$$` | disappears | a literal `$` |
//! | `$` before anything but a name or `{` | `$1`, `$*` disappear | stays |
//! | when variables are put in | before the YAML is parsed, comments too | after: values keep their `#`, quotes and `$` |
//! | a bare number as duration | nanoseconds | an error that shows the unit; `0` is allowed |
//! | a negative duration | "off" or a crash | an error; `0` is "off" where off exists |
//! | `monitor-interval: 0` | replicates nothing, silently | an error |
//! | `sync-interval: 0`, `retention-check-interval: 0`, unknown `logging.type`, an empty list item | crash | an error |
//! | an unknown key | ignored | a warning with the nearest known key, or an error where ignoring it moves or loses data |
//! | a key given twice | the last one wins | an error |
//! | one database listed twice | two replicators on one file | one database with both lists of replicas, and a warning |
//! | one database listed with `path` and covered by a `dir` | 0.5.17: two replicators on one file | an error |
//! | two replicas of one place | overwrite each other | an error |
//! | an empty `dbs[].path` | the working directory | an error |
//! | `path: /x` of an S3 replica | keys that start with `/`, never found again | the slashes at both ends are dropped |
//! | no region and no endpoint | asks `GetBucketLocation` | `AWS_REGION`, `AWS_DEFAULT_REGION`, else us-east-1 and a warning |
//! | an endpoint without scheme | https | https; http on the loopback |
//! | the query of an S3 URL | ignored | `endpoint`, `region`, `force-path-style`, `skip-verify`; others are errors |
//! | `force-path-style: false` with a URL of a known provider | the URL wins | the key wins |
//! | half a key pair | sent as it is | an error |
//! | `abs` without a key | fails | a SAS token, else the platform's identity, as 0.5 has it |
//!
//! Accepted beyond 0.3.13: 0.5's `replica:`, `dir` with `pattern`, `recursive`, `watch` and `meta-dir`,
//! `shutdown-sync-timeout`, `levels`, `snapshot`, `l0-retention`, `l0-retention-check-interval`, `retention.enabled` and `verify-compaction`, and our own `max-wal-size` (database),
//! `format` and `ltx-page-encoding` (replica), `session-token` (S3), `service-account-json-path`, `service-account-json`
//! and `endpoint` (gcs), for every secret a sibling `…-file` that names the file it is in. As in 0.5 the top of the file
//! may say any key of a type for all replicas, and `sync-interval` and `validation-interval`.
//!
//! # Unset variables
//!
//! `stn init --replicate` writes `access-key-id: ${LITESTREAM_S3_ACCESS_KEY_ID}` and the secret likewise. On a
//! platform that gives the container a role both are rightly unset. So when *both* keys of a pair consist of nothing
//! but an unset variable, the pair counts as absent, with a warning. Everywhere else an unset variable is an error;
//! `${V:-}` says "absent if unset" for any optional key.

mod abs;
mod addr;
mod advice;
mod catalogue;
mod database;
mod destination;
mod directory;
mod duration;
mod endpoint;
mod entry;
mod env;
mod environment;
mod error;
mod expand;
mod file;
mod file_url;
mod gcs;
mod glob;
mod host;
mod keys;
mod load;
mod ltx;
mod model;
mod path;
mod reader;
mod replica;
mod replica_url;
mod resolved;
mod s3;
mod s3_options;
mod secret;
mod secret_file;
#[cfg(test)]
mod seed;
mod seen;
mod sftp;
mod size;
mod trace;
mod url_notice;
mod yaml;

pub mod control;
pub mod exit;
pub mod lock;
pub mod systemd;
pub mod volume;

pub use catalogue::{Fate, Key, all_keys};
pub use database::{DatabaseUrl, database_path, database_path_for};
pub use destination::{
    Abs, AbsCredentials, Credentials, Destination, Encryption, Gcs, GcsCredentials, S3, S3Options, Sftp,
};
pub use directory::Directory;
pub use duration::{BadDuration, parse_duration};
pub use env::Env;
pub use environment::from_env;
pub use error::{ConfigError, Position, Warning};
pub use glob::{BadPattern, Pattern};
pub use load::{load, parse, resolve};
pub use model::{Config, Database, Format, Layout, Level, Logging, Ltx, Origin, PageEncoding, Replica};
pub use path::PathError;
pub use replica_url::{replica_from_url, url_warnings};
pub use resolved::{Resolved, Source};
pub use secret::Secret;
pub use size::{BadSize, parse_size};
