//! Finds the configuration. Reads files; the environment is an argument.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::database::database_path;
use crate::env::Env;
use crate::environment;
use crate::error::{ConfigError, Place, Warning};
use crate::file;
use crate::model::{Config, Origin};
use crate::reader::Document;
use crate::resolved::Resolved;
use crate::trace::{Notes, Trace};
use crate::yaml;

/// The configuration both programs run with: `explicit` (`-config`), else the file `LITESTREAM_CONFIG` names, else
/// `/config/litestream.yml`, else `/etc/litestream.yml`, else the environment ([`crate::from_env`]).
///
/// The first that exists decides. A file that exists and cannot be read or understood is an error, never skipped,
/// and so is a file that was named and does not exist. If nothing is found the result is a [`Config`] without
/// databases whose origin is [`Origin::Environment`]. `expand` is false for `-no-expand-env`.
pub fn load(explicit: Option<&Path>, env: &Env, expand: bool) -> Result<Config, ConfigError> {
    load_among(explicit, env, expand, &DEFAULT_FILES.map(Path::new))
}

/// Where a configuration lies when nobody says otherwise; Station's image mounts the first, Litestream reads the
/// second.
const DEFAULT_FILES: [&str; 2] = ["/config/litestream.yml", "/etc/litestream.yml"];

/// As [`load`], with the origin of every value: for `config check --resolved`. Where the environment makes the
/// configuration, its database is the one [`crate::database_path`] finds.
pub fn resolve(explicit: Option<&Path>, env: &Env, expand: bool) -> Result<Resolved, ConfigError> {
    match find(explicit, env, &DEFAULT_FILES.map(Path::new))? {
        Some((path, text)) => {
            let (config, notes) = walk(&text, &path, env, expand, Some(Trace::default()))?;
            Ok(Resolved::new(config, &text, &notes, env, expand))
        }
        None => {
            let mut config = without_file(env)?;
            if config.replicates() {
                let path = database_path(&config, env, None)?;
                config = config.with_database(&path);
            }
            Ok(Resolved::new(config, "", &Notes::default(), env, expand))
        }
    }
}

/// Reads one `litestream.yml`, and the files of its secrets. `path` is only for messages and for [`Origin::File`].
/// `expand` is false for `-no-expand-env`.
pub fn parse(text: &str, path: &Path, env: &Env, expand: bool) -> Result<Config, ConfigError> {
    walk(text, path, env, expand, None).map(|(config, _)| config)
}

fn walk(
    text: &str,
    path: &Path,
    env: &Env,
    expand: bool,
    trace: Option<Trace>,
) -> Result<(Config, Notes), ConfigError> {
    let place = || Place::File(path.into());
    let (root, more) = yaml::parse(text).map_err(|e| {
        let error = ConfigError::new(place(), "", format!("the file is not YAML: {}", e.cause)).at(e.at);
        let line = e.at.and_then(|at| text.lines().nth(at.line.saturating_sub(1)));
        // Litestream puts variables in first, so there this is YAML.
        match line.is_some_and(|line| expand && line.contains("${")) {
            true => error.fix("between { and } or [ and ], write a value with ${…} in quotes"),
            false => error,
        }
    })?;
    let document = Document { text, path, env, expand, warnings: RefCell::default(), trace };
    let top = document.root(&root)?;
    if more {
        top.warn_here("only the first YAML document is read; what follows `---` is ignored");
    }
    let mut config = file::read(&top, path.into())?;
    drop(top);
    config.warnings = document.warnings.into_inner();
    // In the order of the file, whatever the order of reading.
    config.warnings.sort_by_key(Warning::position);
    Ok((config, document.trace.map(Trace::into_notes).unwrap_or_default()))
}

fn load_among(
    explicit: Option<&Path>,
    env: &Env,
    expand: bool,
    defaults: &[&Path],
) -> Result<Config, ConfigError> {
    match find(explicit, env, defaults)? {
        Some((path, text)) => parse(&text, &path, env, expand),
        None => without_file(env),
    }
}

fn without_file(env: &Env) -> Result<Config, ConfigError> {
    Ok(environment::from_env(env)?.unwrap_or_else(|| {
        let mut config = Config::empty(Origin::Environment);
        config.warnings = environment::unused(env);
        config
    }))
}

/// The first configuration file there is, and its text.
fn find(
    explicit: Option<&Path>,
    env: &Env,
    defaults: &[&Path],
) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let named = match (explicit, env.filled("LITESTREAM_CONFIG")) {
        (Some(path), _) => Some((PathBuf::from(path), "-config")),
        (None, Some(path)) => Some((PathBuf::from(path), "LITESTREAM_CONFIG")),
        (None, None) => None,
    };
    if let Some((path, by)) = named {
        let path = env
            .absolute(&path)
            .map_err(|e| ConfigError::new(Place::File(path), "", format!("{e} (named by {by})")))?;
        let text = read(&path)?.ok_or_else(|| {
            ConfigError::new(Place::File(path.clone()), "", format!("there is no such file (named by {by})"))
                .fix("create or mount it, or name another")
        })?;
        return Ok(Some((path, text)));
    }
    for path in defaults {
        if let Some(text) = read(path)? {
            return Ok(Some((path.to_path_buf(), text)));
        }
    }
    Ok(None)
}

/// The file's text; `None` if there is no such file.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let fail = |problem: String| ConfigError::new(Place::File(path.into()), "", problem);
    let mut bytes = Vec::new();
    match File::open(path).and_then(|f| f.take(LARGEST + 1).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            // A link to nothing is a mount gone wrong, not the absence of a configuration.
            return match path.symlink_metadata() {
                Ok(_) => {
                    Err(fail("it is a link to a file that does not exist".into()).fix("repair or remove it"))
                }
                Err(_) => Ok(None),
            };
        }
        Err(e) => return Err(unreadable(path, &e)),
    }
    if bytes.len() as u64 > LARGEST {
        return Err(fail("it is larger than 1 MiB".into()).fix("name the configuration file"));
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| fail("it is not UTF-8 text".into()).fix("save it as UTF-8"))
}

fn unreadable(path: &Path, e: &io::Error) -> ConfigError {
    let fail = |problem: &str| ConfigError::new(Place::File(path.into()), "", problem);
    match e.kind() {
        io::ErrorKind::PermissionDenied => fail("permission denied").fix("let the user this runs as read it"),
        io::ErrorKind::IsADirectory => fail("it is a directory, not a file")
            .fix("check the mount: Docker makes a directory where the mounted file does not exist"),
        _ => fail(&e.to_string()),
    }
}

/// Far beyond any configuration; a device or a database named by mistake must not fill the memory.
const LARGEST: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    const ONE: &str = "dbs: [{path: /one.db, replicas: [{path: /r}]}]";
    const TWO: &str = "dbs: [{path: /two.db, replicas: [{path: /r}]}]";

    fn found(result: Result<Config, ConfigError>) -> String {
        match result {
            Ok(config) => config.databases.first().map_or("nothing".into(), |d| d.path.display().to_string()),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn the_first_source_that_exists_decides() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, none) =
            (dir.path().join("one.yml"), dir.path().join("two.yml"), dir.path().join("none.yml"));
        std::fs::write(&one, ONE).unwrap();
        std::fs::write(&two, TWO).unwrap();
        let named = |p: &Path| Env::from_pairs([("LITESTREAM_CONFIG", p.to_str().unwrap())]);
        let bucket = Env::from_pairs([("LITESTREAM_S3_BUCKET", "b"), ("DATABASE_PATH", "/env.db")]);
        let nothing = Env::default();
        assert_eq!(found(load_among(Some(&one), &named(&two), true, &[])), "/one.db");
        assert_eq!(found(load_among(None, &named(&two), true, &[&one])), "/two.db");
        assert_eq!(found(load_among(None, &bucket, true, &[&none, &two])), "/two.db");
        assert_eq!(found(load_among(None, &bucket, true, &[&two, &one])), "/two.db");
        assert_eq!(found(load_among(None, &bucket, true, &[&none])), "/env.db");
        assert_eq!(found(load_among(None, &nothing, true, &[&none, &one.join("below-a-file")])), "nothing");
        let loaded = load_among(None, &nothing, true, &[&one]).unwrap();
        assert_eq!(loaded.origin, Origin::File(one));
        assert_eq!(load_among(None, &nothing, true, &[]).unwrap().origin, Origin::Environment);
    }

    #[test]
    fn a_file_that_was_named_and_is_not_there_is_an_error() {
        let env = Env::from_pairs([("LITESTREAM_CONFIG", "/nowhere/l.yml")]);
        assert_eq!(
            found(load_among(None, &env, true, &[])),
            "read /nowhere/l.yml: there is no such file (named by LITESTREAM_CONFIG); create or mount it, or name another"
        );
        assert_eq!(
            found(load_among(Some(Path::new("x.yml")), &env, true, &[])),
            "read /x.yml: there is no such file (named by -config); create or mount it, or name another"
        );
    }

    #[test]
    fn a_file_that_exists_and_cannot_be_understood_is_never_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let good = dir.path().join("good.yml");
        std::fs::write(&good, ONE).unwrap();
        let says = |name: &str, content: Option<&[u8]>, want: &str| {
            let bad = dir.path().join(name);
            match content {
                Some(content) => std::fs::write(&bad, content).unwrap(),
                None => std::fs::create_dir(&bad).unwrap(),
            }
            let error = load_among(None, &Env::default(), true, &[&bad, &good]).unwrap_err();
            assert_eq!(error.to_string(), want.replace('@', bad.to_str().unwrap()));
            assert_eq!(error.exit(), crate::exit::Exit::Config);
        };
        says(
            "dir.yml",
            None,
            "read @: it is a directory, not a file; check the mount: Docker makes a directory where the mounted file \
             does not exist",
        );
        says("latin1.yml", Some(b"dbs: \xe9"), "read @: it is not UTF-8 text; save it as UTF-8");
        says(
            "big.yml",
            Some(&[b' '; (1 << 20) + 1]),
            "read @: it is larger than 1 MiB; name the configuration file",
        );
        says(
            "text.yml",
            Some(b"just text"),
            "read @: the file must be a map of settings, and is text; start it with `dbs:`",
        );
        let dangling = dir.path().join("dangling.yml");
        symlink(dir.path().join("gone.yml"), &dangling).unwrap();
        let error = load_among(None, &Env::default(), true, &[&dangling, &good]).unwrap_err();
        assert!(
            error.to_string().ends_with("it is a link to a file that does not exist; repair or remove it")
        );
        let looping = dir.path().join("loop.yml");
        symlink(&looping, &looping).unwrap();
        assert!(load_among(None, &Env::default(), true, &[&looping, &good]).is_err());
    }

    #[test]
    fn a_file_this_user_may_not_read_says_so() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(
            unreadable(Path::new("/etc/litestream.yml"), &denied).to_string(),
            "read /etc/litestream.yml: permission denied; let the user this runs as read it"
        );
    }

    #[test]
    fn a_file_made_to_exhaust_the_reader_is_refused() {
        let deep = "[".repeat(200_000);
        let laughs: String = (1..30).map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1)).collect();
        for text in [deep, format!("a0: &a0 [x]\n{laughs}dbs: *a29\n")] {
            assert!(parse(&text, Path::new("l.yml"), &Env::default(), true).is_err());
        }
    }

    proptest! {
        #![proptest_config(crate::seed::seeded())]

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(
            text in "(dbs:\n|  - path: [a$/{}:-]{0,8}\n|    replicas:\n|      - type: s3\n|        [a-z-]{1,20}: [^\n]{0,12}\n|.{0,20}\n){0,12}",
        ) {
            let _ = parse(&text, Path::new("l.yml"), &Env::from_pairs([("A", "a")]), true);
        }
    }
}
