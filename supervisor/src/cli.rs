//! The command line and its environment variables. Values only; nothing is looked up here.
//!
//! Litestream's users write `-config`, GNU's write `--config`: both work, with `=` or a space, up to the `--` that
//! begins the app's command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::BoolishValueParser;

use crate::environment::Scrub;
use crate::health::check;
use crate::health::probe::Probe;
use crate::lifecycle::{Level, OnAgentFailure, SecondTerm};
use crate::signals::SignalMap;

/// Runs COMMAND as PID 1 should: brings its SQLite database back if it is missing, replicates it while the command
/// runs, forwards signals, reaps orphans, and proves that the last commit is on the replica before it exits.
///
/// `holdfast-supervisor check` with the same flags says what a start would do and exits as it would; it changes nothing.
/// `holdfast-supervisor healthcheck` asks a running one how it is.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast-supervisor",
    version,
    args_override_self = true,
    override_usage = "holdfast-supervisor [OPTIONS] [-- COMMAND [ARGS]...]"
)]
pub(crate) struct Cli {
    /// Configuration file; else LITESTREAM_CONFIG, /config/litestream.yml, /etc/litestream.yml, the environment
    #[arg(long, env = "SUPERVISOR_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The app's database, when the configuration does not say or lists several [env: SUPERVISOR_DB]
    // Not clap's `env`: the configuration reads that variable itself, also as a URL.
    #[arg(long, value_name = "PATH")]
    pub(crate) db: Option<PathBuf>,

    /// The replication agent; else `holdfast` beside this program, else on PATH
    #[arg(long, env = "SUPERVISOR_AGENT", hide_env_values = true, value_name = "PATH")]
    pub(crate) agent: Option<PathBuf>,

    /// From the first stop signal to the platform's SIGKILL (docker stop --time, terminationGracePeriodSeconds); guessed
    /// from the platform when not given
    #[arg(long, env = "SUPERVISOR_STOP_GRACE", hide_env_values = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) stop_grace: Option<Duration>,

    /// How long to keep trying an unreachable replica while the database is missing
    #[arg(long, env = "SUPERVISOR_RESTORE_WAIT", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) restore_wait: Duration,

    /// What to do with a database that is behind its replica: refuse (exit 79), restore (it is moved aside), keep
    #[arg(long, env = "SUPERVISOR_ON_BEHIND", hide_env_values = true, value_name = "WHAT", value_parser = ["refuse", "restore", "keep"], default_value = "refuse")]
    on_behind: String,

    /// What to do with a database of unknown origin: auto (refuse one that is older than the replica), refuse, restore,
    /// keep
    #[arg(long, env = "SUPERVISOR_ON_UNKNOWN", hide_env_values = true, value_name = "WHAT", value_parser = ["auto", "refuse", "restore", "keep"], default_value = "auto")]
    on_unknown: String,

    /// What to do with a damaged database: refuse (exit 65), restore (it is moved aside)
    #[arg(long, env = "SUPERVISOR_ON_CORRUPT", hide_env_values = true, value_name = "WHAT", value_parser = ["refuse", "restore"], default_value = "refuse")]
    on_corrupt: String,

    /// How much of a database to check before the app has it: none, quick (30 ms of a core), full
    #[arg(long, env = "SUPERVISOR_INTEGRITY", hide_env_values = true, value_name = "HOW", value_parser = ["none", "quick", "full"], default_value = "quick")]
    integrity: String,

    /// Never start without a backup: exit 66, 77 or 78 where the replica is empty, denied or missing
    #[arg(long, env = "SUPERVISOR_REQUIRE_REPLICA", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub(crate) require_replica: bool,

    /// Today's date (UTC, 2000-01-31): allows to start on nothing, today
    #[arg(long, env = "SUPERVISOR_ALLOW_EMPTY_START", hide_env_values = true, value_name = "DATE")]
    allow_empty_start: Option<String>,

    /// How long the agent may take to pin the WAL before the app is not started
    #[arg(long, env = "SUPERVISOR_READY_WAIT", hide_env_values = true, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) ready_wait: Duration,

    /// Silence after which the agent is killed and started again; 0s is never
    #[arg(long, env = "SUPERVISOR_AGENT_TIMEOUT", hide_env_values = true, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) agent_timeout: Duration,

    /// What a repeated SIGTERM does: pass it on to the app, or kill the app now and keep the time for the final sync
    #[arg(
        long,
        env = "SUPERVISOR_SECOND_TERM",
        hide_env_values = true,
        value_enum,
        default_value = "forward"
    )]
    pub(crate) second_term: SecondTerm,

    /// Who gets a signal instead of whom it is meant for: USR2=forward,TERM=QUIT,WINCH=ignore
    #[arg(long, env = "SUPERVISOR_SIGNAL_MAP", hide_env_values = true, value_name = "MAP")]
    pub(crate) signal_map: Option<SignalMap>,

    /// Whether signals go to the app's process or to all processes of its group, for a shell that passes none on
    #[arg(long, env = "SUPERVISOR_SIGNAL_TARGET", hide_env_values = true, value_enum, default_value = "app")]
    pub(crate) signal_target: SignalTarget,

    /// What an agent that stays away means, which is started again in any case
    #[arg(
        long,
        env = "SUPERVISOR_ON_AGENT_FAILURE",
        hide_env_values = true,
        value_enum,
        default_value = "continue"
    )]
    pub(crate) on_agent_failure: OnAgentFailure,

    /// How long the agent may be away
    #[arg(long, env = "SUPERVISOR_AGENT_MAX_DOWN", hide_env_values = true, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) agent_max_down: Duration,

    /// Exit 74 when the final sync is incomplete, even if the app failed with a code of its own
    #[arg(long, env = "SUPERVISOR_STRICT_SYNC", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub(crate) strict_sync: bool,

    /// Whom to become when started as root: NAME or UID, with :GROUP or :GID; `root` stays root. Else, as PID 1, `station`
    /// or 1000:1000
    #[arg(long, env = "SUPERVISOR_USER", hide_env_values = true, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,

    /// Whether no program below may gain privileges, say by sudo: `false` lets it
    #[arg(
        long,
        env = "SUPERVISOR_NO_NEW_PRIVS",
        hide_env_values = true,
        hide_possible_values = true,
        default_value = "true",
        action = clap::ArgAction::Set,
        value_parser = BoolishValueParser::new()
    )]
    pub(crate) no_new_privs: bool,

    /// How long to wait for another supervisor or agent that has the database
    #[arg(long, env = "SUPERVISOR_LOCK_WAIT", hide_env_values = true, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) lock_wait: Duration,

    /// Run on a network file system, too, where SQLite's WAL does not work and databases get damaged
    #[arg(long, env = "SUPERVISOR_ALLOW_NETWORK_FS", hide_env_values = true, value_parser = BoolishValueParser::new())]
    pub(crate) allow_network_fs: bool,

    /// Whether the app may run without a replica
    #[arg(long, env = "SUPERVISOR_EPHEMERAL", hide_env_values = true, value_enum, default_value = "allow")]
    pub(crate) ephemeral: Ephemeral,

    /// What the app's environment is rid of: the replica's secrets and our own variables, or nothing
    #[arg(long, env = "SUPERVISOR_ENV_SCRUB", hide_env_values = true, value_enum, default_value = "secrets")]
    pub(crate) env_scrub: Scrub,

    /// Where to write the summary too, if the file exists
    #[arg(
        long,
        env = "SUPERVISOR_TERMINATION_LOG",
        hide_env_values = true,
        value_name = "FILE",
        default_value = "/dev/termination-log"
    )]
    pub(crate) termination_log: PathBuf,

    /// Where to answer /livez, /readyz, /startupz, /status and /metrics; `off` is nowhere
    #[arg(long, env = "SUPERVISOR_LISTEN", hide_env_values = true, value_name = "HOST:PORT", default_value = LISTEN)]
    listen: String,

    /// How /readyz asks the app: http://HOST:PORT/PATH, tcp://HOST:PORT, or none; Station's own page for Station, else
    /// none, when not given
    #[arg(long, env = "SUPERVISOR_APP_PROBE", hide_env_values = true, value_name = "URL")]
    pub(crate) app_probe: Option<Probe>,

    /// How far behind a replica may be before /readyz says no; 0s is any
    #[arg(long, env = "SUPERVISOR_MAX_LAG", hide_env_values = true, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) max_lag: Duration,

    /// The least important lines to log
    #[arg(long, env = "SUPERVISOR_LOG_LEVEL", hide_env_values = true, value_enum, default_value = "info")]
    pub(crate) log_level: Level,

    /// Nothing is run: there need not be a command.
    #[arg(skip)]
    pub(crate) only_asks: bool,

    /// The app and its arguments; else the configuration's `exec`
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

impl Cli {
    /// Where to listen, if anywhere.
    pub(crate) fn listens(&self) -> Option<&str> {
        Some(self.listen.as_str()).filter(|listen| *listen != "off")
    }

    /// What the agent is told about starts, as its own flags; nothing of what it does anyway.
    pub(crate) fn start_flags(&self) -> Vec<OsString> {
        let choices = [
            ("-on-behind", &self.on_behind, "refuse"),
            ("-on-unknown", &self.on_unknown, "auto"),
            ("-on-corrupt", &self.on_corrupt, "refuse"),
            ("-integrity", &self.integrity, "quick"),
        ];
        let chosen = choices.into_iter().filter(|(_, value, default)| value != default);
        let mut flags: Vec<OsString> =
            chosen.flat_map(|(flag, value, _)| [flag.into(), value.into()]).collect();
        if let Some(date) = &self.allow_empty_start {
            flags.extend(["-allow-empty-start".into(), date.into()]);
        }
        let switches =
            [("-require-replica", self.require_replica), ("-allow-network-fs", self.allow_network_fs)];
        flags.extend(switches.into_iter().filter(|(_, on)| *on).map(|(flag, _)| flag.into()));
        flags
    }
}

/// What to do where no replica is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ephemeral {
    /// Run the app, and say what that means for its database
    Allow,
    /// Exit 78
    Deny,
}

/// Who gets what is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SignalTarget {
    App,
    Group,
}

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    Run(Box<Cli>),
    Healthcheck(check::Cli),
    /// Say what a start would do, and do nothing.
    Check(Box<Cli>),
}

/// Reads `args`, program name first. The error is clap's own, help and version included.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, clap::Error> {
    let args: Vec<_> = two_dashes(args).collect();
    match args.get(1) {
        // The app's command comes after `--`: no flag of ours looks like this.
        Some(first) if first == "healthcheck" => {
            check::Cli::try_parse_from(&args[1..]).map(Asked::Healthcheck)
        }
        Some(first) if first == "check" => {
            let args = args.iter().enumerate().filter(|(n, _)| *n != 1).map(|(_, arg)| arg);
            let asked = Cli::try_parse_from(args);
            asked.map(|cli| Asked::Check(Box::new(Cli { only_asks: true, ..cli })))
        }
        _ => Cli::try_parse_from(args).map(Box::new).map(Asked::Run),
    }
}

/// Where probes are answered unless told otherwise: the same container or machine, and nobody else.
pub(crate) const LISTEN: &str = "127.0.0.1:9811";

/// `-name` and `-name=value` as `--name` and `--name=value`; single letters and everything from `--` on stay.
fn two_dashes(args: impl IntoIterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    let mut ours = true;
    args.into_iter().map(move |arg| {
        ours = ours && arg != "--";
        let bytes = arg.as_encoded_bytes();
        let long = bytes.len() > 2 && bytes[0] == b'-' && bytes[1].is_ascii_alphabetic();
        if !(ours && long) {
            return arg;
        }
        let mut two = OsString::from("-");
        two.push(arg);
        two
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write it like 30s or 5m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Cli, clap::Error> {
        let args = std::iter::once("holdfast-supervisor").chain(args.iter().copied()).map(OsString::from);
        match parse(args)? {
            Asked::Run(cli) => Ok(*cli),
            other @ (Asked::Healthcheck(_) | Asked::Check(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_check_takes_the_flags_of_a_run_and_what_is_said_of_starts_reaches_the_agent() {
        let args = ["s", "check", "-on-behind", "keep", "-require-replica", "-db", "/x.db"];
        let Ok(Asked::Check(cli)) = parse(args.iter().map(OsString::from)) else { panic!() };
        assert_eq!(cli.start_flags(), ["-on-behind", "keep", "-require-replica"]);
        assert_eq!(cli.db, Some("/x.db".into()));
        assert!(read(&["--", "check"]).unwrap().start_flags().is_empty());
        assert!(read(&["-on-corrupt", "keep", "--", "app"]).is_err(), "nobody starts on a damaged database");
    }

    #[test]
    fn a_health_check_is_a_command_of_its_own_and_still_a_name_for_an_app() {
        let asked = |args: &[&str]| parse(args.iter().map(OsString::from));
        assert!(matches!(asked(&["s", "healthcheck", "-live"]), Ok(Asked::Healthcheck(_))));
        assert!(asked(&["s", "healthcheck", "--live", "--ready"]).is_err());
        assert_eq!(read(&["--", "healthcheck"]).unwrap().command, ["healthcheck"]);
    }

    #[test]
    fn nobody_listens_where_it_is_off() {
        assert_eq!(read(&["--", "app"]).unwrap().listens(), Some(LISTEN));
        assert_eq!(read(&["-listen", "off", "--", "app"]).unwrap().listens(), None);
        assert!(read(&["-app-probe", "8080", "--", "app"]).is_err());
    }

    #[test]
    fn one_dash_and_two_are_the_same_up_to_the_command() {
        for args in [
            ["-config", "/c.yml", "-stop-grace", "60s", "--", "app", "-config", "x"],
            ["--config", "/c.yml", "--stop-grace", "60s", "--", "app", "-config", "x"],
        ] {
            let cli = read(&args).unwrap();
            assert_eq!(cli.config, Some("/c.yml".into()));
            assert_eq!(cli.stop_grace, Some(Duration::from_secs(60)));
            assert_eq!(cli.command, ["app", "-config", "x"]);
        }
        assert_eq!(read(&["-config=/c.yml", "--", "app"]).unwrap().config, Some("/c.yml".into()));
        assert!(read(&["-strict-sync", "--", "app"]).unwrap().strict_sync);
    }

    #[test]
    fn the_command_begins_after_two_dashes_and_only_there() {
        assert!(read(&[]).unwrap().command.is_empty(), "the configuration may have one");
        assert!(read(&["app"]).is_err());
        assert_eq!(read(&["--", "--", "-x"]).unwrap().command, ["--", "-x"]);
    }

    #[test]
    fn a_duration_without_a_unit_is_refused_with_an_example() {
        let message = read(&["-stop-grace", "60", "--", "app"]).unwrap_err().to_string();
        assert!(message.contains("write it like 30s or 5m"), "{message}");
    }
}
