//! `init`: the files a deployment begins with, for one destination. Writes into one directory, and over nothing.

mod files;
mod place;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use holdfast_config::exit::Exit;
use holdfast_config::{Destination, Encryption, Env, S3, S3Options};
use serde_json::json;

use self::files::{Choice, Files};
use self::place::Place;
use super::{config_error, print, print_json, usage};
use crate::durable::{self, Access, NewFile};
use crate::error::{Error, Kind};

/// Write litestream.yml and what to deploy it with, for one destination
///
/// Into the directory: litestream.yml; .env.example with the secrets to fill in; Dockerfile and docker-compose.yml;
/// kubernetes/ with a container of its own or a sidecar; systemd/ with the supervisor or the agent as the unit. They are
/// the project's own examples, which run as they stand, with your destination in them. The head of each says how to use it.
///
/// A file that is there already is not touched: then nothing is written at all.
///
/// Exit codes: 0 written; 64 the URL makes no sense; 73 a file is there already, or the directory cannot be written.
#[derive(Args)]
pub(super) struct Command {
    /// Where to write
    #[arg(short, long = "o", value_name = "DIR", default_value = ".")]
    o: PathBuf,
    /// The container image that the Dockerfile makes: the app with Holdfast under it
    #[arg(long, value_name = "IMAGE", default_value = "station:production")]
    image: String,
    /// The container image of Holdfast alone, which `docker/Dockerfile` of the project makes
    #[arg(long, value_name = "IMAGE", default_value = "holdfast")]
    holdfast_image: String,
    /// The app's own container image
    #[arg(long, value_name = "IMAGE", default_value = "ghcr.io/cloudshipai/station:latest")]
    app_image: String,
    /// Print one JSON value on stdout
    #[arg(long)]
    pub(super) json: bool,
    /// Where the replica is to be: s3://BUCKET/PATH, gs://…, abs://ACCOUNT@CONTAINER/PATH, sftp://USER@HOST/PATH, file:///PATH
    #[arg(value_name = "URL")]
    url: String,
    /// The app's command
    #[arg(last = true, value_name = "COMMAND", default_values = ["stn", "serve"])]
    command: Vec<String>,
}

impl Command {
    pub(super) fn run(self, env: &Env) -> Result<Exit, Error> {
        if has_password(&self.url) {
            return Err(usage("the URL holds a password, which would end in files that are kept in Git")
                .hint("leave it out; .env.example says where it belongs"));
        }
        let replica = holdfast_config::replica_from_url(&self.url, env).map_err(|e| config_error(&e))?;
        for warning in holdfast_config::url_warnings(&self.url, env) {
            eprintln!("warning: {warning}");
        }
        if let Destination::S3(S3 {
            options: S3Options { encryption: Some(Encryption::Customer(_)), .. },
            ..
        }) = &replica.destination
        {
            return Err(usage(
                "the URL holds a customer's key, which would end in files that are kept in Git",
            )
            .hint("leave it out, and add `sse-customer-key-path` to litestream.yml"));
        }
        let choice = Choice {
            image: &self.image,
            holdfast_image: &self.holdfast_image,
            app_image: &self.app_image,
            command: &self.command,
        };
        let Files(files) = Files::new(&Place::of(&replica.destination), &choice).map_err(|missing| {
            Error::new(
                Kind::Bug,
                format!("change {}", missing.file),
                format!("{:?} is not in it", missing.text),
            )
        })?;
        write(&self.o, &files)?;
        let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        match self.json {
            true => {
                print_json(&json!({ "outcome": "written", "exit": 0, "directory": self.o, "files": names }))
            }
            false => print(&format!("{}\n{NEXT}", names.join("\n"))),
        }
        Ok(Exit::Ok)
    }
}

/// Writes all of them or, where one is there already, none.
fn write(dir: &Path, files: &[(&str, String)]) -> Result<(), Error> {
    let there: Vec<_> =
        files.iter().map(|(name, _)| dir.join(name)).filter(|p| p.symlink_metadata().is_ok()).collect();
    if !there.is_empty() {
        let names: Vec<_> = there.iter().map(|p| p.display().to_string()).collect();
        return Err(Error::new(
            Kind::CannotCreate,
            format!("write into {}", dir.display()),
            format!("there already: {}", names.join(", ")),
        )
        .hint("name another directory with -o; nothing was written"));
    }
    let access = Access { file_mode: 0o644, dir_mode: 0o755, owner: None };
    for (name, text) in files {
        let path = dir.join(name);
        let failed =
            |e: std::io::Error| Error::new(Kind::CannotCreate, format!("write {}", path.display()), e);
        durable::create_dir_all(path.parent().unwrap_or(dir), &access).map_err(failed)?;
        let temp = OsString::from(format!(".{}.tmp", name.replace('/', "-")));
        let file = NewFile::create(&path, temp, &access).map_err(failed)?;
        file.file().write_all(text.as_bytes()).map_err(failed)?;
        file.publish().map_err(failed)?;
    }
    Ok(())
}

/// `SCHEME://USER:PASSWORD@…`
fn has_password(url: &str) -> bool {
    let authority =
        url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(rest));
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

const NEXT: &str = "
next: fill in the secrets (.env.example says which), then
  holdfast doctor -config litestream.yml    whether the destination can be used
  docker-compose up -d --build              or kubernetes/, or systemd/: the head of each file says how
";
