//! What to run and by which rules: the command line, the configuration and the environment put together. Reads the
//! configuration and looks for the agent; starts nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_config::exit::Exit;
use holdfast_config::volume::Volume;
use holdfast_config::{Config, Destination, Env, Format, Origin, Secret};

use crate::budget::{self, Budget};
use crate::cli::{Cli, Ephemeral, SignalTarget};
use crate::environment::ForApp;
use crate::health::probe::Probe;
use crate::lifecycle::{Level, Rules};
use crate::mode::{self, App, Mode};
use crate::volume::Places;

/// Everything one run needs to know.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) rules: Rules,
    pub(crate) command: Vec<OsString>,
    /// What the app's environment is made of.
    pub(crate) for_app: ForApp,
    /// None without a replica.
    pub(crate) agent: Option<AgentSetup>,
    /// What to ask before the app starts.
    pub(crate) ask: Option<Ask>,
    /// What has to be ours to write to.
    pub(crate) places: Places,
    /// Who gets the signals that are forwarded.
    pub(crate) signal_target: SignalTarget,
    /// How to ask the app whether it is ready.
    pub(crate) probe: Probe,
    /// What log lines look like: as the configuration says, to both of us.
    pub(crate) log_format: Format,
    /// What the person who configured this should know, in order.
    pub(crate) notes: Vec<(Level, String)>,
}

/// A database on a server, and who can ask it.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) program: PathBuf,
    pub(crate) url: Secret<String>,
    /// `libsql://`
    pub(crate) what: String,
}

/// How to run the agent.
#[derive(Debug)]
pub(crate) struct AgentSetup {
    pub(crate) program: PathBuf,
    /// The file both of us read; None when the configuration is the environment.
    pub(crate) config: Option<PathBuf>,
    /// What to restore, in the configuration's own spelling, the app's database first.
    pub(crate) databases: Vec<PathBuf>,
    /// The app's database, for an agent that builds its configuration from the environment.
    pub(crate) database: PathBuf,
    /// What the agent is told about starts, as its flags.
    pub(crate) start: Vec<OsString>,
}

/// Why there is nothing to run, and the exit code that says so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Refusal {
    pub(crate) exit: Exit,
    why: String,
}

impl From<(Exit, String)> for Refusal {
    fn from((exit, why): (Exit, String)) -> Self {
        Self { exit, why }
    }
}

impl Refusal {
    fn config(why: impl Into<String>) -> Self {
        Self { exit: Exit::Config, why: why.into() }
    }
}

/// Finds out what to run. `seed` is for the jitter of back-offs.
pub(crate) fn set_up(cli: &Cli, env: &Env, seed: u64) -> Result<Setup, Refusal> {
    let refused = |e: holdfast_config::ConfigError| Refusal { exit: e.exit(), why: e.to_string() };
    let config = holdfast_config::load(cli.config.as_deref(), env, true).map_err(refused)?;
    let mut notes: Vec<_> = config.warnings.iter().map(|w| (Level::Warn, w.to_string())).collect();
    let command = command(cli, &config, &mut notes)?;
    let app = App::new(&command, env);
    notes.extend(app.service_links(env).map(|link| (Level::Warn, link)));
    let grace = cli.stop_grace.map(bounded).unwrap_or_else(|| {
        let guess = budget::guess(|name| env.filled(name).is_some());
        notes.push((Level::Warn, guessed(guess)));
        guess.grace
    });
    let rules = |databases: &[PathBuf], reminder| Rules {
        databases: databases.iter().map(|p| p.display().to_string()).collect(),
        budget: if databases.is_empty() { Budget::ephemeral(grace) } else { Budget::replicated(grace) },
        restore_wait: bounded(cli.restore_wait),
        ready_wait: bounded(cli.ready_wait),
        heartbeat: bounded(cli.agent_timeout),
        second_term: cli.second_term,
        signals: cli.signal_map.clone().unwrap_or_default(),
        on_agent_failure: cli.on_agent_failure,
        agent_max_down: bounded(cli.agent_max_down),
        attach_wait: bounded(cli.attach_wait),
        strict_sync: cli.strict_sync,
        reminder,
        seed,
    };
    let for_app =
        |database: Option<PathBuf>| ForApp { database, is_station: app.is_station, scrub: cli.env_scrub };
    let unsupervised = |database: Option<PathBuf>, places, reminder, notes| Setup {
        rules: rules(&[], reminder),
        command: command.clone(),
        places,
        for_app: for_app(database),
        ask: None,
        agent: None,
        signal_target: cli.signal_target,
        probe: probe(cli, &command, app.is_station, env),
        log_format: config.logging.format,
        notes,
    };
    match app.mode(env) {
        Mode::File => {}
        Mode::Refused(why) => return Err(Refusal::config(why)),
        Mode::Elsewhere { what, by, ask } => {
            let (level, unused) = match config.replicates() {
                true => (Level::Warn, "; the configured replica is not used"),
                false => (Level::Info, ""),
            };
            notes.push((level, format!("{by} is {what}: there is no local database to keep{unused}")));
            let ask = ask.map(|url| (url, find_agent(cli.agent.as_deref(), env)));
            let ask = match ask {
                Some((url, Ok(program))) => Some(Ask { program, url, what }),
                Some((_, Err(refusal))) => {
                    notes.push((Level::Warn, format!("{refusal}; whether {what} answers is not asked")));
                    None
                }
                None => None,
            };
            return Ok(Setup { ask, ..unsupervised(None, Places::default(), None, notes) });
        }
    }
    let path = || holdfast_config::database_path_for(&config, env, cli.db.as_deref(), &app.said);
    let database = path().map_err(refused)?;
    if !config.replicates() {
        let asks = match cli.ephemeral {
            Ephemeral::Deny => Some("-ephemeral deny"),
            Ephemeral::Allow => cli.require_replica.then_some("-require-replica"),
        };
        if let Some(flag) = asks {
            return Err(Refusal::config(format!(
                "find a replica for {}: none is configured, and `{flag}` asks for one; set \
                 LITESTREAM_S3_BUCKET, or mount a configuration",
                database.display()
            )));
        }
        notes.push((Level::Warn, EPHEMERAL.into()));
        let (level, line) = mode::ephemeral(&database, Volume::of(&database).ok().as_ref());
        notes.push((level, line.clone()));
        let named =
            cli.db.is_some() || ["SUPERVISOR_DB", "DATABASE_PATH"].iter().any(|v| env.filled(v).is_some());
        let mut places = Places::default();
        if named || app.is_told() {
            places.databases.push(database.clone());
        }
        return Ok(unsupervised(named.then_some(database), places, Some((level, line)), notes));
    }
    let databases = to_restore(&config, &database);
    let program = find_agent(cli.agent.as_deref(), env)?;
    let file = match config.origin {
        Origin::File(ref path) => Some(path.clone()),
        Origin::Environment | Origin::CommandLine => None,
    };
    Ok(Setup {
        rules: rules(&databases, None),
        command: command.clone(),
        places: Places { databases: databases.clone(), replicas: directories(&config) },
        for_app: for_app(Some(database.clone())),
        ask: None,
        agent: Some(AgentSetup { program, config: file, databases, database, start: cli.start_flags() }),
        signal_target: cli.signal_target,
        probe: probe(cli, &command, app.is_station, env),
        log_format: config.logging.format,
        notes,
    })
}

/// The command line's command, else the configuration's `exec`.
fn command(cli: &Cli, config: &Config, notes: &mut Vec<(Level, String)>) -> Result<Vec<OsString>, Refusal> {
    match (cli.command.is_empty(), config.command()) {
        (false, own) => {
            if !own.is_empty() {
                notes.push((Level::Warn, "`exec` is not run: the command line has a command".into()));
            }
            Ok(cli.command.clone())
        }
        (true, own) if own.is_empty() && !cli.only_asks => Err(Refusal {
            exit: Exit::Usage,
            why: "there is no command: write it after `--`, or under `exec` in the configuration".into(),
        }),
        (true, own) => Ok(own.into_iter().map(OsString::from).collect()),
    }
}

/// The probe that was asked for; Station's own page for Station.
fn probe(cli: &Cli, command: &[OsString], is_station: bool, env: &Env) -> Probe {
    if let Some(given) = &cli.app_probe {
        return given.clone();
    }
    if !is_station {
        return Probe::None;
    }
    // Station's order (spec §7): its flag beats the variables.
    let flag = mode::flag(command, "--mcp-port").and_then(|port| port.parse().ok());
    let variable = || {
        let named = ["STATION_MCP_PORT", "STN_MCP_PORT", "MCP_PORT"];
        named.iter().find_map(|name| env.filled(name)).and_then(|port| port.parse().ok())
    };
    Probe::station(flag.or_else(variable).unwrap_or(8586))
}

fn guessed(guess: budget::Guess) -> String {
    let secs = guess.grace.as_secs();
    format!("stop grace guessed as {secs} s ({}); say what it is with SUPERVISOR_STOP_GRACE", guess.because)
}

/// What Station's documentation promises to say, word for word.
const EPHEMERAL: &str = "No Litestream replica configured. Running in ephemeral mode.";

/// The databases that have a replica, the app's own first.
fn to_restore(config: &Config, own: &Path) -> Vec<PathBuf> {
    if config.origin == Origin::Environment {
        // The agent builds the same configuration, for the database we name to it.
        return vec![own.into()];
    }
    let mut paths: Vec<_> =
        config.databases.iter().filter(|d| !d.replicas.is_empty()).map(|d| d.path.clone()).collect();
    paths.sort_by_key(|path| path != own);
    paths
}

/// The replicas that are directories here.
fn directories(config: &Config) -> Vec<PathBuf> {
    let replicas = config.databases.iter().flat_map(|d| &d.replicas);
    let paths = replicas.filter_map(|replica| match &replica.destination {
        Destination::File { path } => Some(path.clone()),
        Destination::S3(_) | Destination::Gcs(_) | Destination::Abs(_) | Destination::Sftp(_) => None,
    });
    paths.collect()
}

fn find_agent(given: Option<&Path>, env: &Env) -> Result<PathBuf, Refusal> {
    if let Some(given) = given {
        return if given.is_file() {
            Ok(given.into())
        } else {
            Err(Refusal::config(format!(
                "find the agent {}: no such file (named by --agent)",
                given.display()
            )))
        };
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(AGENT)));
    let on_path = env.filled("PATH").into_iter().flat_map(std::env::split_paths).map(|dir| dir.join(AGENT));
    beside.into_iter().chain(on_path).find(|path| path.is_file()).ok_or_else(|| {
        Refusal::config(format!(
            "find the agent: no `{AGENT}` beside this program nor on PATH; install it or name it with --agent"
        ))
    })
}

/// No sum of this and a time is out of bounds, and nobody lives to see the difference.
pub(crate) fn bounded(wait: Duration) -> Duration {
    wait.min(Duration::from_secs(100 * 365 * 86_400))
}

const AGENT: &str = "holdfast";

/// Longest wait for the log's writer at exit. Within the smallest margin of the grace period.
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn cli(args: &[&str]) -> Cli {
        let args =
            ["holdfast-supervisor", "--agent", "/proc/self/exe"].iter().chain(args).map(OsString::from);
        match crate::cli::parse(args, |_| None).unwrap() {
            crate::cli::Asked::Run(cli) => *cli,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn station_is_asked_at_its_own_page_and_other_apps_not_at_all() {
        let probe = |args: &[&str], vars: &[(&str, &str)]| set_up(args, vars).unwrap().probe;
        assert_eq!(probe(&["--", "app"], &[("MCP_PORT", "1")]), Probe::None);
        assert_eq!(probe(&["--", "/bin/stn", "serve"], &[]), Probe::station(8586));
        assert_eq!(probe(&["--", "stn", "serve"], &[("STN_MCP_PORT", "9000")]), Probe::station(9000));
        for flag in [&["--mcp-port", "8079"][..], &["--mcp-port=8079"]] {
            let args = [&["--", "stn", "serve"][..], flag].concat();
            assert_eq!(probe(&args, &[("STN_MCP_PORT", "9000")]), Probe::station(8079));
        }
        assert_eq!(probe(&["-app-probe", "none", "--", "stn"], &[]), Probe::None);
    }

    fn set_up(args: &[&str], pairs: &[(&str, &str)]) -> Result<Setup, String> {
        super::set_up(&cli(args), &Env::from_pairs(pairs.iter().copied()), 1).map_err(|e| {
            assert_eq!(e.exit, Exit::Config);
            e.to_string()
        })
    }

    fn said(setup: &Setup, what: &str) -> bool {
        setup.notes.iter().any(|(level, note)| *level == Level::Warn && note.contains(what))
    }

    #[test]
    fn without_any_configuration_it_is_ephemeral_and_says_so_word_for_word() {
        let setup = set_up(&["--", "app"], &[]).unwrap();
        assert!(
            setup.agent.is_none() && setup.rules.databases.is_empty() && setup.for_app.database.is_none()
        );
        assert!(setup.notes.contains(&(Level::Warn, EPHEMERAL.into())));
        let named = set_up(&["--", "app"], &[("DATABASE_PATH", "/data/x.db")]).unwrap();
        assert_eq!(
            named.for_app.database,
            Some("/data/x.db".into()),
            "where it will be once there is a replica"
        );
    }

    #[test]
    fn the_environment_alone_makes_a_replica() {
        let setup =
            set_up(&["--db", "/d/x.db", "--", "app"], &[("LITESTREAM_FILE_PATH", "/replica")]).unwrap();
        let agent = setup.agent.unwrap();
        assert_eq!((agent.config, agent.databases), (None, vec![PathBuf::from("/d/x.db")]));
        assert_eq!(setup.for_app.database, Some("/d/x.db".into()));
    }

    #[test]
    fn the_configuration_may_have_the_command_and_the_command_line_beats_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("l.yml");
        std::fs::write(&file, "exec: app 'two words'\ndbs: [{path: /a.db, replica: {path: /r}}]").unwrap();
        let config = ["-config", file.to_str().unwrap()];
        assert_eq!(set_up(&config, &[]).unwrap().command, ["app", "two words"]);
        let both = set_up(&[&config[..], &["--", "own"]].concat(), &[]).unwrap();
        assert_eq!(both.command, ["own"]);
        assert!(said(&both, "`exec` is not run"));
        let none = super::set_up(&cli(&[]), &Env::default(), 1).unwrap_err();
        assert_eq!(none.exit, Exit::Usage);
        assert!(none.to_string().contains("after `--`, or under `exec`"), "{none}");
        let mut asks = cli(&[]);
        asks.only_asks = true;
        assert!(super::set_up(&asks, &Env::default(), 1).is_ok(), "who only asks runs nothing");
    }

    #[test]
    fn every_database_of_a_file_is_restored_the_apps_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("l.yml");
        std::fs::write(
            &file,
            "dbs: [{path: /a.db, replicas: [{path: /r/a}]}, {path: /b.db, replicas: [{path: /r/b}]}]",
        )
        .unwrap();
        let config = file.to_str().unwrap();
        let agent = set_up(&["-config", config, "-db", "/b.db", "--", "app"], &[]).unwrap().agent.unwrap();
        assert_eq!(agent.databases, [PathBuf::from("/b.db"), "/a.db".into()]);
        assert_eq!(agent.config.as_deref(), Some(file.as_path()));
    }

    #[test]
    fn the_grace_is_guessed_aloud_or_taken_silently() {
        let guessed = set_up(&["--", "app"], &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]).unwrap();
        assert_eq!(guessed.rules.budget.grace, Duration::from_secs(30));
        assert!(said(&guessed, "guessed as 30 s"));
        let given = set_up(&["--stop-grace", "42s", "--", "app"], &[]).unwrap();
        assert_eq!(given.rules.budget.grace, Duration::from_secs(42));
        assert!(!said(&given, "guessed"));
    }

    #[test]
    fn a_wait_without_end_is_a_very_long_one() {
        let endless = format!("{}s", u64::MAX);
        let waits = [
            "-restore-wait",
            "-ready-wait",
            "-agent-timeout",
            "-agent-max-down",
            "-attach-wait",
            "-stop-grace",
        ];
        let args: Vec<&str> =
            waits.iter().flat_map(|flag| [*flag, endless.as_str()]).chain(["--", "app"]).collect();
        let rules = set_up(&args, &[("LITESTREAM_FILE_PATH", "/r")]).unwrap().rules;
        let start = Instant::now();
        for wait in [
            rules.restore_wait,
            rules.ready_wait,
            rules.heartbeat,
            rules.agent_max_down,
            rules.attach_wait,
            rules.budget.grace,
        ] {
            assert!(
                wait > Duration::from_secs(86_400 * 365) && start.checked_add(wait * 5).is_some(),
                "{wait:?}"
            );
        }
    }

    #[test]
    fn two_names_for_the_database_are_refused_with_both() {
        let error = set_up(
            &["--db", "/a.db", "--", "app"],
            &[("LITESTREAM_FILE_PATH", "/r"), ("DATABASE_URL", "/b.db")],
        );
        let error = error.unwrap_err();
        assert!(error.contains("/a.db") && error.contains("/b.db"), "{error}");
    }

    #[test]
    fn a_remote_database_is_passed_through_and_never_overwritten() {
        let vars = [("LITESTREAM_FILE_PATH", "/r"), ("DATABASE_URL", "libsql://h?authToken=s3cr3t")];
        let setup = set_up(&["--", "stn", "serve"], &vars).unwrap();
        assert!(setup.agent.is_none() && setup.for_app.database.is_none());
        assert!(said(&setup, "libsql://") && said(&setup, "not used"));
        assert!(!said(&setup, "s3cr3t"));
    }

    #[test]
    fn station_on_postgres_is_refused_and_any_other_app_is_not() {
        let vars = [("DATABASE_URL", "postgres://u:p4ss@h/db")];
        let error = set_up(&["--", "/usr/bin/stn", "serve"], &vars).unwrap_err();
        assert!(error.contains("postgres://") && !error.contains("p4ss"), "{error}");
        assert!(set_up(&["--", "myapp"], &vars).unwrap().for_app.database.is_none());
    }

    #[test]
    fn a_database_nobody_keeps_is_said_and_where_that_is_denied_refused() {
        let vars = [("DATABASE_PATH", "/dev/shm/x.db")];
        let setup = set_up(&["--", "app"], &vars).unwrap();
        let (level, line) = setup.rules.reminder.clone().unwrap();
        assert_eq!(level, Level::Error);
        assert!(line.starts_with("/dev/shm/x.db is on tmpfs"), "{line}");
        assert!(setup.notes.contains(&(level, line)));
        let error = set_up(&["-ephemeral", "deny", "--", "app"], &vars).unwrap_err();
        assert!(error.starts_with("find a replica for /dev/shm/x.db: none is configured"), "{error}");
        assert!(set_up(&["-require-replica", "--", "app"], &vars).unwrap_err().contains("-require-replica"));
        let remote = set_up(&["-ephemeral", "deny", "--", "app"], &[("DATABASE_URL", "libsql://h")]).unwrap();
        assert!(remote.rules.reminder.is_none(), "what is elsewhere is somebody else's to keep");
    }

    #[test]
    fn stations_own_names_for_its_database_count() {
        let vars = [("LITESTREAM_FILE_PATH", "/r"), ("DATABASE_PATH", "/data/x.db")];
        let with = |more| set_up(&["--", "stn", "serve"], &[&vars[..], more].concat());
        let error = with(&[("STN_DATABASE_URL", "/data/y.db")]).unwrap_err();
        assert!(
            error.contains("DATABASE_PATH says /data/x.db, and STN_DATABASE_URL says /data/y.db"),
            "{error}"
        );
        assert!(with(&[("STN_DATABASE_URL", "/data/x.db")]).is_ok());
        let error = set_up(&["--", "stn", "serve", "--database", "/data/y.db"], &vars).unwrap_err();
        assert!(error.contains("the app's --database says /data/y.db"), "{error}");
    }

    #[test]
    fn a_missing_agent_is_a_configuration_error_that_names_the_flag() {
        let vars = Env::from_pairs([("LITESTREAM_FILE_PATH", "/r")]);
        let given = find_agent(Some(Path::new("/nope")), &vars).unwrap_err();
        assert_eq!(given.to_string(), "find the agent /nope: no such file (named by --agent)");
    }
}
