//! One replica of the configuration file. Values only.

use crate::error::ConfigError;
use crate::keys::Level;
use crate::ltx::{self, Inherited};
use crate::model::{Credentials, Destination, Replica};
use crate::reader::{Half, Section};
use crate::replica_url::{self, Target, looks_like_url, redacted, scheme};
use crate::s3::{self, Flaw, Parts};
use crate::secret::Secret;

/// Reads a replica. `top` is the root of the file: its key pair is for every replica that has none. `inherited` is what
/// the database says about all of its replicas.
pub(crate) fn read(
    at: &Section<'_>,
    top: &Section<'_>,
    inherited: &Inherited,
) -> Result<Replica, ConfigError> {
    let url = at.text("url")?;
    let kind = kind(at, url.as_deref())?;
    at.check_keys(kind.level())?;
    refuse_age(at)?;
    if let Some(path) = at.text("path")?.filter(|p| looks_like_url(p)) {
        return Err(at.fail("path", format!("{:?} is a URL", redacted(&path))).fix("write it under `url`"));
    }
    if url.is_some() {
        for key in ["path", "bucket"] {
            if at.text(key)?.is_some() {
                return Err(at
                    .fail(key, format!("`url` and `{key}` are both given"))
                    .fix("keep one of them"));
            }
        }
    }
    let target = match &url {
        Some(url) => replica_url::parse(url, at.env()).map_err(|flaw| in_url(at, &flaw))?,
        None => match kind {
            Kind::File => {
                let path = at.required("path", "name the directory to replicate to")?;
                let path = at.env().absolute(path.as_ref()).map_err(|e| at.fail("path", e.to_string()))?;
                Target::File(path)
            }
            Kind::S3 => Target::S3(Parts::default()),
        },
    };
    let mut replica = Replica::to(match target {
        Target::File(path) => Destination::File { path },
        Target::S3(parts) => s3_destination(at, top, parts, url.is_some())?,
    });
    if let Some(name) = at.text("name")? {
        replica.name = name;
    }
    intervals(at, inherited, &mut replica)?;
    (replica.layout, replica.ltx) = ltx::of_replica(at, inherited)?;
    Ok(replica)
}

/// The types that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    S3,
}

impl Kind {
    const fn level(self) -> Level {
        match self {
            Self::File => Level::Replica,
            Self::S3 => Level::S3Replica,
        }
    }
}

/// The type: the URL's scheme, else `type`, else file.
fn kind(at: &Section<'_>, url: Option<&str>) -> Result<Kind, ConfigError> {
    let given = at.text("type")?;
    let (name, key) = match (url.and_then(scheme), &given) {
        (Some((scheme, _)), _) => (scheme, "url"),
        (None, Some(given)) => (given.as_str(), "type"),
        (None, None) => ("file", "type"),
    };
    if let Some(given) = given.as_deref().filter(|g| *g != name) {
        at.warn("type", format!("{given:?} has no effect; the URL says {name}"));
    }
    match name {
        "file" => Ok(Kind::File),
        "s3" => Ok(Kind::S3),
        other => {
            let flaw = replica_url::refused(key, other);
            Err(at.fail(key, flaw.problem).fix(flaw.fix))
        }
    }
}

fn refuse_age(at: &Section<'_>) -> Result<(), ConfigError> {
    let Some(age) = at.section("age")? else { return Ok(()) };
    for key in ["recipients", "identities"] {
        if age.has(key) {
            return Err(age
                .fail(key, "encryption is not available yet, and objects would be written in the clear")
                .fix("remove `age`, or keep this replica with Litestream 0.3.13"));
        }
    }
    Ok(())
}

fn intervals(at: &Section<'_>, inherited: &Inherited, replica: &mut Replica) -> Result<(), ConfigError> {
    let default = replica.clone();
    replica.retention = at.duration("retention")?.or(inherited.retention).unwrap_or(default.retention);
    replica.retention_check_interval = at
        .positive("retention-check-interval", "Litestream crashes on it; `retention: 0s` keeps everything")?
        .unwrap_or(default.retention_check_interval);
    replica.sync_interval =
        at.positive("sync-interval", "Litestream crashes on it")?.unwrap_or(default.sync_interval);
    replica.snapshot_interval =
        at.duration("snapshot-interval")?.or(inherited.interval).unwrap_or(default.snapshot_interval);
    replica.validation_interval = at.duration("validation-interval")?.unwrap_or(default.validation_interval);
    Ok(())
}

fn s3_destination(
    at: &Section<'_>,
    top: &Section<'_>,
    mut parts: Parts,
    from_url: bool,
) -> Result<Destination, ConfigError> {
    if let Some(bucket) = at.text("bucket")? {
        parts.bucket = Some(bucket);
    } else if !from_url {
        return Err(at.missing("bucket", "name the bucket"));
    }
    if let Some(path) = at.text("path")? {
        parts.path = path;
    }
    parts.region = at.text("region")?.or(parts.region);
    if let Some(endpoint) = at.text("endpoint")? {
        parts.endpoint = Some(endpoint);
    }
    parts.force_path_style = at.switch("force-path-style")?.or(parts.force_path_style);
    parts.skip_verify = at.switch("skip-verify")?.unwrap_or(parts.skip_verify);
    parts.credentials = credentials(at, top)?;
    let (s3, guessed) = s3::assemble(parts, at.env()).map_err(|flaw| {
        if from_url && !at.has(flaw.field) {
            in_url(at, &flaw)
        } else {
            at.fail(flaw.field, flaw.problem).fix(flaw.fix)
        }
    })?;
    if guessed {
        at.warn_here(format!("no `region` is given; {} is assumed", s3.region));
    }
    Ok(Destination::S3(s3))
}

/// The key pair of the replica, each half else from the top of the file.
fn credentials(at: &Section<'_>, top: &Section<'_>) -> Result<Option<Credentials>, ConfigError> {
    let half = |key: &str| match at.half(key)? {
        Half::Absent => top.half(key),
        found => Ok(found),
    };
    let token = at.text("session-token")?;
    let one = |missing: &str, given: &str| {
        let error = at.fail(missing, format!("it is missing or empty, and `{given}` is given"));
        Err(error.fix("give both, or neither to use the environment's keys or the platform's role"))
    };
    match (half("access-key-id")?, half("secret-access-key")?) {
        (Half::Given(id), Half::Given(secret)) => Ok(Some(Credentials {
            access_key_id: id,
            secret_access_key: Secret::new(secret),
            session_token: token.map(Secret::new),
        })),
        (Half::Unset { name: id, .. }, Half::Unset { name: secret, .. }) => {
            at.warn_here(format!(
                "the variables {id} and {secret} are not set; the environment's keys or the platform's role are used"
            ));
            Ok(None)
        }
        (Half::Unset { error, .. }, _) | (_, Half::Unset { error, .. }) => Err(error),
        (Half::Absent, Half::Absent) if token.is_some() => one("access-key-id", "session-token"),
        (Half::Absent, Half::Absent) => Ok(None),
        (Half::Given(_), Half::Absent) => one("secret-access-key", "access-key-id"),
        (Half::Absent, Half::Given(_)) => one("access-key-id", "secret-access-key"),
    }
}

/// A flaw of the URL, said of the key `url`.
fn in_url(at: &Section<'_>, flaw: &Flaw) -> ConfigError {
    let problem = match flaw.field {
        "url" => flaw.problem.clone(),
        field => format!("{field}: {}", flaw.problem),
    };
    at.fail("url", problem).fix(flaw.fix.clone())
}
