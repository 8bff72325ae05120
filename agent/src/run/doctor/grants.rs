//! What a provider calls the permission a request needs, and where it is given. Values only.

use holdfast_config::{AbsCredentials, Destination};

/// What was tried, as far as permissions tell requests apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Create,
    Read,
    List,
    Delete,
}

/// `allow s3:PutObject on arn:aws:s3:::backups/station/*`
pub(super) fn grant(destination: &Destination, need: Need) -> String {
    match destination {
        Destination::File { path } => {
            let (bits, what) = match need {
                Need::Create | Need::Delete => ("rwx", "write to"),
                Need::Read | Need::List => ("rx", "read"),
            };
            format!("let the user this runs as {what} {} ({bits} on it and what is below)", path.display())
        }
        Destination::S3(s3) => {
            let prefix = if s3.path.is_empty() { String::new() } else { format!("/{}", s3.path) };
            let objects = format!("arn:aws:s3:::{}{prefix}/*", s3.bucket);
            match need {
                Need::Create => format!("allow s3:PutObject on {objects}"),
                Need::Read => format!("allow s3:GetObject on {objects}"),
                Need::List => format!("allow s3:ListBucket on arn:aws:s3:::{}", s3.bucket),
                Need::Delete => format!("allow s3:DeleteObject on {objects}"),
            }
        }
        Destination::Gcs(gcs) => {
            let permission = match need {
                Need::Create => "create",
                Need::Read => "get",
                Need::List => "list",
                Need::Delete => "delete",
            };
            format!(
                "grant storage.objects.{permission} on gs://{} (roles/storage.objectUser has all of them)",
                gcs.bucket
            )
        }
        Destination::Abs(abs) => match (&abs.credentials, need) {
            (AbsCredentials::Sas(_), need) => {
                let (letter, name) = match need {
                    Need::Create => ("cw", "create and write"),
                    Need::Read => ("r", "read"),
                    Need::List => ("l", "list"),
                    Need::Delete => ("d", "delete"),
                };
                format!("make a signature with sp={letter} ({name}) for container {}", abs.container)
            }
            (AbsCredentials::Key(_), _) => {
                format!(
                    "use a key that storage account {} has now, and let its network rules admit this machine",
                    abs.account
                )
            }
            (AbsCredentials::Platform, _) => {
                format!(
                    "assign the role Storage Blob Data Contributor on container {} to this identity",
                    abs.container
                )
            }
        },
        Destination::Sftp(sftp) => {
            let (bits, what) = match need {
                Need::Create | Need::Delete => ("rwx", "write to"),
                Need::Read | Need::List => ("rx", "read"),
            };
            format!(
                "let {} {what} {} on {} ({bits} on it and what is below)",
                sftp.user, sftp.path, sftp.host
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_config::Env;

    #[test]
    fn a_permission_has_the_name_its_provider_gives_it() {
        let env = Env::from_pairs([("LITESTREAM_AZURE_SAS_TOKEN", "sv=1&sig=x")]);
        let asked =
            |url: &str, need| grant(&holdfast_config::replica_from_url(url, &env).unwrap().destination, need);
        for (url, need, says) in [
            ("s3://b/p", Need::Create, "allow s3:PutObject on arn:aws:s3:::b/p/*"),
            ("s3://b", Need::Read, "allow s3:GetObject on arn:aws:s3:::b/*"),
            ("s3://b/p", Need::List, "allow s3:ListBucket on arn:aws:s3:::b"),
            ("s3://b/p", Need::Delete, "allow s3:DeleteObject on arn:aws:s3:::b/p/*"),
            (
                "gs://b/p",
                Need::List,
                "grant storage.objects.list on gs://b (roles/storage.objectUser has all of them)",
            ),
            ("abs://a@c/p", Need::Delete, "make a signature with sp=d (delete) for container c"),
            (
                "file:///b",
                Need::Create,
                "let the user this runs as write to /b (rwx on it and what is below)",
            ),
        ] {
            assert_eq!(asked(url, need), says);
        }
    }
}
