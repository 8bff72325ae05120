//! One replica of the configuration file. Values only.

use crate::abs;
use crate::destination::{Credentials, Destination};
use crate::error::ConfigError;
use crate::gcs;
use crate::keys::Level;
use crate::ltx::{self, Inherited};
use crate::model::Replica;
use crate::reader::{Half, Section};
use crate::replica_url::{self, Target, looks_like_url, redacted, scheme};
use crate::s3::{self, Flaw, Parts};
use crate::s3_options;
use crate::sftp;
use crate::url_notice;

/// Reads a replica. `top` is the root of the file: its key pair is for every replica that has none. `inherited` is what
/// the database says about all of its replicas.
pub(crate) fn read(
    at: &Section<'_>,
    top: &Section<'_>,
    inherited: &Inherited,
) -> Result<Replica, ConfigError> {
    let at = &at.or(top);
    let url = at.text("url")?;
    let kind = kind(at, url.as_deref())?;
    at.check_keys(kind.level())?;
    refuse_age(at)?;
    if let Some(path) = at.text("path")?.filter(|p| looks_like_url(p)) {
        return Err(at.fail("path", format!("{:?} is a URL", redacted(&path))).fix("write it under `url`"));
    }
    if url.is_some() {
        for key in ["path", "bucket", "host"] {
            if at.own().text(key)?.is_some() {
                return Err(at
                    .fail(key, format!("`url` and `{key}` are both given"))
                    .fix("keep one of them"));
            }
        }
    }
    let target = match &url {
        Some(url) => {
            let target = replica_url::parse(url, at.env()).map_err(|flaw| in_url(at, &flaw))?;
            for notice in url_notice::of(url, &target) {
                at.warn("url", notice);
            }
            target
        }
        None => match kind {
            Kind::File => {
                let path = at.required("path", "name the directory to replicate to")?;
                let path = at.env().absolute(path.as_ref()).map_err(|e| at.fail("path", e.to_string()))?;
                Target::File(path)
            }
            Kind::S3 => Target::S3(Parts::default()),
            Kind::Gcs => Target::Gcs(gcs::Parts::default()),
            Kind::Abs => Target::Abs(abs::Parts::default()),
            Kind::Sftp => Target::Sftp(sftp::Parts::default()),
        },
    };
    for key in target.says() {
        at.trace(|trace, at| trace.in_url(at.name_of(key)));
    }
    let mut replica = Replica::to(match target {
        Target::File(path) => Destination::File { path },
        Target::S3(parts) => s3_destination(at, top, parts, url.is_some())?,
        Target::Gcs(parts) => gcs_destination(at, parts, url.is_some())?,
        Target::Abs(parts) => abs_destination(at, parts, url.is_some())?,
        Target::Sftp(parts) => sftp_destination(at, parts, url.is_some())?,
    });
    at.trace(|trace, at| trace.replica(&replica.destination, at.name()));
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
    Gcs,
    Abs,
    Sftp,
}

impl Kind {
    const fn level(self) -> Level {
        match self {
            Self::File => Level::Replica,
            Self::S3 => Level::S3Replica,
            Self::Gcs => Level::GcsReplica,
            Self::Abs => Level::AbsReplica,
            Self::Sftp => Level::SftpReplica,
        }
    }

    /// Litestream 0.3 says `gcs`, 0.5 `gs`.
    fn named(name: &str) -> Option<Self> {
        match name {
            "file" => Some(Self::File),
            "s3" => Some(Self::S3),
            "gcs" | "gs" => Some(Self::Gcs),
            "abs" => Some(Self::Abs),
            "sftp" => Some(Self::Sftp),
            _ => None,
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
    let kind = Kind::named(name).ok_or_else(|| {
        let flaw = replica_url::refused(key, name);
        at.fail(key, flaw.problem).fix(flaw.fix)
    })?;
    if let Some(given) = given.as_deref().filter(|g| Kind::named(g) != Some(kind)) {
        at.warn("type", format!("{given:?} has no effect; the URL says {name}"));
    }
    Ok(kind)
}

fn refuse_age(at: &Section<'_>) -> Result<(), ConfigError> {
    let Some(age) = at.section("age")? else { return Ok(()) };
    age.check_keys(Level::Age)?;
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
    replica.timeout = at.positive("timeout", "no request could succeed")?.unwrap_or(default.timeout);
    Ok(())
}

fn s3_destination(
    at: &Section<'_>,
    top: &Section<'_>,
    mut parts: Parts,
    from_url: bool,
) -> Result<Destination, ConfigError> {
    parts.bucket = bucket(at, parts.bucket, from_url, "name the bucket")?;
    if let Some(path) = at.text("path")? {
        parts.path = path;
    }
    parts.region = part(at, "region", parts.region)?;
    parts.endpoint = part(at, "endpoint", parts.endpoint)?;
    parts.force_path_style = match (at.own().switch("force-path-style")?, parts.force_path_style) {
        (None, None) => at.switch("force-path-style")?,
        (own, in_url) => own.or(in_url),
    };
    parts.skip_verify = match (at.own().switch("skip-verify")?, parts.skip_verify) {
        (None, false) => at.switch("skip-verify")?.unwrap_or(false),
        (own, in_url) => own.unwrap_or(in_url),
    };
    parts.credentials = credentials(at, top)?;
    for key in s3_options::KEYS.iter().copied() {
        if let Some(value) = part(at, key, parts.options.take(key))? {
            parts.options.set(key, value);
        }
    }
    let (s3, guessed) = s3::assemble(parts, at.env()).map_err(|flaw| flawed(at, flaw, from_url))?;
    if guessed {
        at.warn_here(format!("no `region` is given; {} is assumed", s3.region));
    }
    Ok(Destination::S3(s3))
}

fn gcs_destination(
    at: &Section<'_>,
    mut parts: gcs::Parts,
    from_url: bool,
) -> Result<Destination, ConfigError> {
    parts.bucket = bucket(at, parts.bucket, from_url, "name the bucket")?;
    parts.path = at.text("path")?.unwrap_or(parts.path);
    parts.endpoint = part(at, "endpoint", parts.endpoint)?;
    parts.key = at.secret("service-account-json")?;
    parts.key_path = at.text("service-account-json-path")?;
    let gcs = gcs::assemble(parts, at.env()).map_err(|flaw| flawed(at, flaw, from_url))?;
    Ok(Destination::Gcs(gcs))
}

fn abs_destination(
    at: &Section<'_>,
    mut parts: abs::Parts,
    from_url: bool,
) -> Result<Destination, ConfigError> {
    parts.bucket = bucket(at, parts.bucket, from_url, "name the container")?;
    parts.path = at.text("path")?.unwrap_or(parts.path);
    parts.endpoint = part(at, "endpoint", parts.endpoint)?;
    if let Some(account) = at.own().text("account-name")? {
        if parts.account.as_ref().is_some_and(|a| *a != account) {
            return Err(at
                .fail("account-name", format!("{account:?} is given, and the URL names another account"))
                .fix("keep one of them"));
        }
        parts.account = Some(account);
    } else if parts.account.is_none() {
        parts.account = Some(at.required("account-name", "name the storage account")?);
    }
    parts.key = at.secret("account-key")?;
    parts.sas = at.secret("sas-token")?;
    let (abs, both) = abs::assemble(parts, at.env()).map_err(|flaw| flawed(at, flaw, from_url))?;
    if both {
        at.warn("account-key", abs::BOTH);
    }
    Ok(Destination::Abs(abs))
}

fn sftp_destination(
    at: &Section<'_>,
    mut parts: sftp::Parts,
    from_url: bool,
) -> Result<Destination, ConfigError> {
    if !from_url {
        parts.host = Some(at.required("host", "name the server")?);
    }
    parts.user = Some(match (at.own().text("user")?, parts.user) {
        (Some(own), Some(other)) if own != other => {
            return Err(at
                .fail("user", format!("{own:?} is given, and the URL names another user"))
                .fix("keep one of them"));
        }
        (Some(user), _) | (None, Some(user)) => user,
        (None, None) => at.required("user", "name whom to log in as")?,
    });
    parts.path = at.text("path")?.unwrap_or(parts.path);
    parts.password = match at.own().secret("password")?.or(parts.password) {
        None => at.secret("password")?,
        given => given,
    };
    parts.key_path = at.text("key-path")?;
    parts.host_key = at.text("host-key")?;
    parts.concurrent_writes = at.switch("concurrent-writes")?;
    let sftp = sftp::assemble(parts, at.env()).map_err(|flaw| flawed(at, flaw, from_url))?;
    Ok(Destination::Sftp(sftp))
}

/// The bucket the URL or the key names.
fn bucket(
    at: &Section<'_>,
    in_url: Option<String>,
    from_url: bool,
    remedy: &str,
) -> Result<Option<String>, ConfigError> {
    match part(at, "bucket", in_url)? {
        None if !from_url => Err(at.missing("bucket", remedy)),
        given => Ok(given),
    }
}

/// What the replica says, else its URL, else the top of the file.
fn part(at: &Section<'_>, key: &str, in_url: Option<String>) -> Result<Option<String>, ConfigError> {
    match at.own().text(key)?.or(in_url) {
        None => at.text(key),
        found => Ok(found),
    }
}

/// A flaw of a part, said of its key, or of the URL if that is where it came from.
fn flawed(at: &Section<'_>, flaw: Flaw, from_url: bool) -> ConfigError {
    let in_file = format!("{}-file", flaw.field);
    if at.has(&in_file) {
        at.fail(&in_file, flaw.problem).fix(flaw.fix)
    } else if from_url && !at.has(flaw.field) {
        in_url(at, &flaw)
    } else {
        at.fail(flaw.field, flaw.problem).fix(flaw.fix)
    }
}

/// The key pair of the replica, each half else from the top of the file.
fn credentials(at: &Section<'_>, top: &Section<'_>) -> Result<Option<Credentials>, ConfigError> {
    let own = at.own();
    let half = |key: &str| match own.half(key)? {
        Half::Absent => top.half(key),
        found => Ok(found),
    };
    let token = at.secret("session-token")?;
    let one = |missing: &str, given: &str| {
        let error = at.fail(missing, format!("it is missing or empty, and `{given}` is given"));
        Err(error.fix("give both, or neither to use the environment's keys or the platform's role"))
    };
    match (half("access-key-id")?, half("secret-access-key")?) {
        (Half::Given(id), Half::Given(secret)) => Ok(Some(Credentials {
            access_key_id: id.expose().clone(),
            secret_access_key: secret,
            session_token: token,
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
