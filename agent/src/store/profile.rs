//! Keys from the profile files of AWS's tools: `~/.aws/credentials` and `~/.aws/config`, or those that
//! `AWS_SHARED_CREDENTIALS_FILE` and `AWS_CONFIG_FILE` name; the profile `AWS_PROFILE`, else `default`. Reads these files.
//!
//! They are looked at before each request and read again when they have changed, so that keys that are exchanged need
//! no restart. Of a profile the keys are used: `aws_access_key_id`, `aws_secret_access_key`, `aws_session_token`. One that
//! gets its keys in another way (a role, a process, single sign-on) is refused by the name of the setting.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ini::{Ini, ParseOption};
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Error};

/// The files, the profile, and what was found there last.
pub(super) struct Profile {
    name: String,
    credentials: PathBuf,
    config: PathBuf,
    found: Mutex<Option<Found>>,
}

struct Found {
    stamps: [Option<Stamp>; 2],
    keys: Arc<AwsCredential>,
}

/// What changes when a file does: device, inode, length, modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, u64, i64, i64);

/// Why a profile has no keys for us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoKeys {
    /// There are no files, or nothing in them about this profile, and nobody asked for it.
    #[error("there is no profile {0}")]
    NoProfile(String),
    #[error("profile {profile} has no {setting}: `aws configure --profile {profile}` writes both halves")]
    Half { profile: String, setting: &'static str },
    #[error(
        "profile {profile} gets its keys by {setting}, which is not available: write keys into the profile, or use \
         the platform's role (web identity, ECS, EC2)"
    )]
    Elsewhere { profile: String, setting: String },
    #[error("{0}")]
    Unreadable(String),
}

impl Profile {
    /// The profile this environment names; `None` if it names none and there is none by default.
    pub(super) fn of_environment(env: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, NoKeys> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let home = set("HOME").map(PathBuf::from);
        let file = |variable: &str, name: &str| {
            let default = || home.as_ref().map(|home| home.join(".aws").join(name));
            set(variable).map(PathBuf::from).or_else(default)
        };
        let asked = set("AWS_PROFILE");
        let (Some(credentials), Some(config)) =
            (file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config"))
        else {
            return asked.map_or(Ok(None), |name| Err(NoKeys::NoProfile(name)));
        };
        let name = asked.clone().unwrap_or_else(|| "default".into());
        let profile = Self { name, credentials, config, found: Mutex::default() };
        match profile.keys() {
            Ok(_) => Ok(Some(profile)),
            Err(NoKeys::NoProfile(_)) if asked.is_none() => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn keys(&self) -> Result<Arc<AwsCredential>, NoKeys> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = [stamp(&self.credentials), stamp(&self.config)];
        if let Some(found) = &*found
            && found.stamps == stamps
        {
            return Ok(found.keys.clone());
        }
        let keys = Arc::new(read(&self.name, &text(&self.credentials)?, &text(&self.config)?)?);
        *found = Some(Found { stamps, keys: keys.clone() });
        Ok(keys)
    }
}

#[async_trait::async_trait]
impl CredentialProvider for Profile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.keys().map_err(|e| Error::Unauthenticated {
            path: self.credentials.display().to_string(),
            source: Box::new(e),
        })
    }
}

/// Shows no keys.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Profile").field(&self.name).finish()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some(Stamp(meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

/// A file that is not there is empty.
fn text(path: &Path) -> Result<String, NoKeys> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(NoKeys::Unreadable(format!("{}: {e}", path.display()))),
    }
}

/// The keys of `profile`: the file of credentials goes before the other one, where its section is called
/// `profile NAME`.
fn read(profile: &str, credentials: &str, config: &str) -> Result<AwsCredential, NoKeys> {
    // A secret may hold any character, so nothing in a value is special.
    let options = || ParseOption { enabled_quote: false, enabled_escape: false, ..ParseOption::default() };
    let parse = |text: &str, file: &str| {
        Ini::load_from_str_opt(text, options())
            .map_err(|e| NoKeys::Unreadable(format!("AWS's {file} file, line {}: {}", e.line, e.msg)))
    };
    let (credentials, config) = (parse(credentials, "credentials")?, parse(config, "config")?);
    let long = format!("profile {profile}");
    let sections = [
        credentials.section(Some(profile)),
        config.section(Some(long.as_str())),
        config.section(Some(profile)).filter(|_| profile == "default"),
    ];
    let get = |setting: &str| {
        let found = sections.iter().flatten().find_map(|section| section.get(setting));
        found.map(str::trim).filter(|value| !value.is_empty())
    };
    let owned = || profile.to_owned();
    match (get(ID), get(SECRET)) {
        (Some(id), Some(secret)) => Ok(AwsCredential {
            key_id: id.into(),
            secret_key: secret.into(),
            token: get("aws_session_token").map(str::to_owned),
        }),
        (Some(_), None) => Err(NoKeys::Half { profile: owned(), setting: SECRET }),
        (None, Some(_)) => Err(NoKeys::Half { profile: owned(), setting: ID }),
        (None, None) => {
            let elsewhere = ELSEWHERE.iter().find(|setting| get(setting).is_some());
            Err(match elsewhere {
                Some(setting) => NoKeys::Elsewhere { profile: owned(), setting: (*setting).into() },
                None => NoKeys::NoProfile(owned()),
            })
        }
    }
}

const ID: &str = "aws_access_key_id";
const SECRET: &str = "aws_secret_access_key";
/// Ways to keys that a profile can name, and we do not go.
const ELSEWHERE: &[&str] = &[
    "role_arn",
    "source_profile",
    "credential_source",
    "credential_process",
    "sso_session",
    "sso_start_url",
    "sso_account_id",
    "web_identity_token_file",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        profile: &str,
        credentials: &str,
        config: &str,
    ) -> Result<(String, String, Option<String>), String> {
        let keys = read(profile, credentials, config).map_err(|e| e.to_string())?;
        Ok((keys.key_id, keys.secret_key, keys.token))
    }

    fn keys(id: &str, secret: &str, token: Option<&str>) -> Result<(String, String, Option<String>), String> {
        Ok((id.into(), secret.into(), token.map(Into::into)))
    }

    #[test]
    fn keys_come_from_the_profiles_section_of_either_file() {
        let credentials = "# mine\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key = a/b+c=\\n\"d\n\n\
                           [work]\naws_access_key_id=AKIA2\naws_secret_access_key=s2\naws_session_token=t==\n";
        let config = "[default]\nregion = eu-west-1\ns3 =\n  max_concurrent_requests = 20\n\
                      [profile other]\naws_access_key_id = AKIA3\naws_secret_access_key = s3\n";
        assert_eq!(found("default", credentials, config), keys("AKIA1", "a/b+c=\\n\"d", None));
        assert_eq!(found("work", credentials, config), keys("AKIA2", "s2", Some("t==")));
        assert_eq!(found("other", credentials, config), keys("AKIA3", "s3", None));
    }

    #[test]
    fn what_gives_no_keys_is_said_by_name_and_without_a_secret() {
        for (credentials, config, expected) in [
            ("", "[default]\nregion = eu-west-1\n", "there is no profile p"),
            (
                "[p]\naws_access_key_id = AKIA\n",
                "",
                "profile p has no aws_secret_access_key: `aws configure --profile p` writes both halves",
            ),
            (
                "",
                "[profile p]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = default\n",
                "profile p gets its keys by role_arn, which is not available: write keys into the profile, or use the \
                 platform's role (web identity, ECS, EC2)",
            ),
            (
                "",
                "[profile p]\nsso_session = work\n",
                "profile p gets its keys by sso_session, which is not available: write keys into the profile, or use \
                 the platform's role (web identity, ECS, EC2)",
            ),
        ] {
            assert_eq!(found("p", credentials, config), Err(expected.into()));
        }
        let broken = found("p", "[p\naws_secret_access_key = hunter2\n", "").unwrap_err();
        assert!(
            broken.starts_with("AWS's credentials file, line ") && !broken.contains("hunter2"),
            "{broken}"
        );
    }

    #[tokio::test]
    async fn keys_that_are_exchanged_are_used_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        let write = |id: &str, secret: &str| {
            let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
            let new = dir.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(new, &file).unwrap();
        };
        let env = |profile: Option<&'static str>| {
            let (file, home) = (file.display().to_string(), dir.path().display().to_string());
            move |name: &str| match name {
                "AWS_SHARED_CREDENTIALS_FILE" => Some(file.clone()),
                "AWS_PROFILE" => profile.map(str::to_owned),
                "HOME" => Some(home.clone()),
                _ => None,
            }
        };
        assert!(Profile::of_environment(env(None)).unwrap().is_none(), "nothing there, nothing asked for");
        let missing = Profile::of_environment(env(Some("work"))).unwrap_err();
        assert_eq!(missing, NoKeys::NoProfile("work".into()));

        write("AKIA1", "one");
        let profile = Profile::of_environment(env(None)).unwrap().unwrap();
        assert_eq!(profile.get_credential().await.unwrap().secret_key, "one");
        write("AKIA2", "two");
        assert_eq!(profile.get_credential().await.unwrap().secret_key, "two");
        fs::remove_file(&file).unwrap();
        let e = profile.get_credential().await.unwrap_err();
        assert!(matches!(e, Error::Unauthenticated { .. }), "{e}");
        assert!(!format!("{profile:?}").contains("two"));
    }
}
