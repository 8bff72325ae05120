//! The command line and its environment variables. Values only; nothing is looked up here.
//!
//! Litestream's users write `-config`, GNU's write `--config`: both work, with `=` or a blank, up to the `--` that
//! begins the app's command.

mod help;
mod table;
pub(crate) mod words;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::environment::Scrub;
use crate::health::check;
use crate::health::probe::Probe;
use crate::lifecycle::{Level, OnAgentFailure, SecondTerm};
use crate::signals::SignalMap;
use words::{Given, Stop, duration, parsed, yes_or_no};

/// What is run, and by which rules; [`table`] has the words for people.
#[derive(Debug)]
pub(crate) struct Cli {
    pub(crate) config: Option<PathBuf>,
    /// Without its variable: the configuration reads that itself, also as a URL.
    pub(crate) db: Option<PathBuf>,
    pub(crate) agent: Option<PathBuf>,
    pub(crate) stop_grace: Option<Duration>,
    pub(crate) restore_wait: Duration,
    on_behind: String,
    on_unknown: String,
    on_corrupt: String,
    integrity: String,
    pub(crate) require_replica: bool,
    allow_empty_start: Option<String>,
    pub(crate) ready_wait: Duration,
    pub(crate) agent_timeout: Duration,
    pub(crate) second_term: SecondTerm,
    pub(crate) signal_map: Option<SignalMap>,
    pub(crate) signal_target: SignalTarget,
    pub(crate) on_agent_failure: OnAgentFailure,
    pub(crate) agent_max_down: Duration,
    pub(crate) attach_wait: Duration,
    pub(crate) strict_sync: bool,
    pub(crate) user: Option<String>,
    pub(crate) no_new_privs: bool,
    pub(crate) lock_wait: Duration,
    pub(crate) allow_network_fs: bool,
    pub(crate) ephemeral: Ephemeral,
    pub(crate) env_scrub: Scrub,
    pub(crate) termination_log: PathBuf,
    listen: String,
    pub(crate) app_probe: Option<Probe>,
    /// 0 is any.
    pub(crate) max_lag: Duration,
    pub(crate) log_level: Level,
    /// Nothing is run: there need not be a command.
    pub(crate) only_asks: bool,
    /// The app and its arguments; empty: the configuration's `exec`.
    pub(crate) command: Vec<OsString>,
}

impl Cli {
    fn understand(given: &Given, command: Vec<OsString>, only_asks: bool) -> Result<Self, Stop> {
        let path = |name| given.raw(name).map(PathBuf::from);
        let text = |name| given.maybe(name, parsed::<String>);
        Ok(Self {
            config: path("config"),
            db: path("db"),
            agent: path("agent"),
            stop_grace: given.maybe("stop-grace", duration)?,
            restore_wait: given.value("restore-wait", duration)?,
            on_behind: given.word("on-behind")?,
            on_unknown: given.word("on-unknown")?,
            on_corrupt: given.word("on-corrupt")?,
            integrity: given.word("integrity")?,
            require_replica: given.switch("require-replica")?,
            allow_empty_start: text("allow-empty-start")?,
            ready_wait: given.value("ready-wait", duration)?,
            agent_timeout: given.value("agent-timeout", duration)?,
            second_term: given
                .choice("second-term", &[("forward", SecondTerm::Forward), ("hurry", SecondTerm::Hurry)])?,
            signal_map: given.maybe("signal-map", parsed)?,
            signal_target: given
                .choice("signal-target", &[("app", SignalTarget::App), ("group", SignalTarget::Group)])?,
            on_agent_failure: given.choice(
                "on-agent-failure",
                &[
                    ("continue", OnAgentFailure::Continue),
                    ("unready", OnAgentFailure::Unready),
                    ("stop", OnAgentFailure::Stop),
                ],
            )?,
            agent_max_down: given.value("agent-max-down", duration)?,
            attach_wait: given.value("attach-wait", duration)?,
            strict_sync: given.switch("strict-sync")?,
            user: text("user")?,
            no_new_privs: given.value("no-new-privs", yes_or_no)?,
            lock_wait: given.value("lock-wait", duration)?,
            allow_network_fs: given.switch("allow-network-fs")?,
            ephemeral: given
                .choice("ephemeral", &[("allow", Ephemeral::Allow), ("deny", Ephemeral::Deny)])?,
            env_scrub: given.choice("env-scrub", &[("secrets", Scrub::Secrets), ("none", Scrub::None)])?,
            termination_log: path("termination-log").unwrap_or_else(|| TERMINATION_LOG.into()),
            listen: given.value("listen", parsed::<String>)?,
            app_probe: given.maybe("app-probe", parsed)?,
            max_lag: given.value("max-lag", duration)?,
            log_level: given.choice(
                "log-level",
                &[
                    ("error", Level::Error),
                    ("warn", Level::Warn),
                    ("info", Level::Info),
                    ("debug", Level::Debug),
                ],
            )?,
            only_asks,
            command,
        })
    }

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ephemeral {
    /// Run the app, and say what that means for its database
    Allow,
    /// Exit 78
    Deny,
}

/// Who gets what is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// Reads `args`, program name first, and the variables beside them.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Asked, Stop> {
    let mut ours: Vec<OsString> = args.into_iter().skip(1).collect();
    // The app's command comes after `--`: nothing of it is ours, and no flag of ours looks like a command.
    let dashes = ours.iter().position(|arg| arg == "--");
    let command = dashes.map(|at| ours.split_off(at).split_off(1)).unwrap_or_default();
    let mut words = ours.into_iter().peekable();
    let only_asks = match words.peek().and_then(|first| first.to_str()) {
        Some("healthcheck") if dashes.is_some() => {
            return Err(words::mistake(&table::HEALTHCHECK, &"healthcheck runs no command"));
        }
        Some("healthcheck") => {
            let given = Given::read(&table::HEALTHCHECK, words.skip(1), variable)?;
            return check::Cli::understand(&given).map(Asked::Healthcheck);
        }
        first => first == Some("check"),
    };
    let given = Given::read(&table::RUN, words.skip(usize::from(only_asks)), variable)?;
    let cli = Box::new(Cli::understand(&given, command, only_asks)?);
    Ok(if only_asks { Asked::Check(cli) } else { Asked::Run(cli) })
}

/// Where probes are answered unless told otherwise: the same container or machine, and nobody else.
pub(crate) const LISTEN: &str = "127.0.0.1:9811";

/// Where the summary goes, too, on Kubernetes.
const TERMINATION_LOG: &str = "/dev/termination-log";

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(args: &[&str], variables: &[(&str, &str)]) -> Result<Asked, Stop> {
        let args = std::iter::once("holdfast-supervisor").chain(args.iter().copied()).map(OsString::from);
        parse(args, |name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into()))
    }

    fn read_with(args: &[&str], variables: &[(&str, &str)]) -> Result<Cli, Stop> {
        match ask(args, variables)? {
            Asked::Run(cli) => Ok(*cli),
            other @ (Asked::Healthcheck(_) | Asked::Check(_)) => panic!("{other:?}"),
        }
    }

    fn read(args: &[&str]) -> Result<Cli, Stop> {
        read_with(args, &[])
    }

    fn mistake(args: &[&str], variables: &[(&str, &str)]) -> String {
        match ask(args, variables) {
            Err(Stop::Mistake(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_the_table_lists_is_understood_and_nothing_else() {
        for flag in table::RUN.flags.iter().filter(|flag| flag.value.contains('|')) {
            let dashed = format!("-{}", flag.name);
            for choice in flag.value.split('|') {
                read(&[&dashed, choice]).unwrap_or_else(|e| panic!("{dashed} {choice}: {e}"));
            }
            let why = mistake(&[&dashed, "nonsense"], &[]);
            assert!(why.starts_with(&format!("holdfast-supervisor: {dashed} nonsense: write ")), "{why}");
        }
    }

    #[test]
    fn every_flag_of_the_table_arrives() {
        for flag in table::RUN.flags {
            let (value, arrives) = match flag.value {
                "" => ("true", format!("{}: true", flag.name.replace('-', "_"))),
                "DURATION" => ("97s", "97s".to_owned()),
                "MAP" => ("USR2=TERM", "Sig(12)".to_owned()),
                "URL" => ("tcp://127.0.0.1:97", "127.0.0.1:97".to_owned()),
                listed if listed.contains('|') => continue,
                _ => ("xyzzy", "xyzzy".to_owned()),
            };
            let cli = read(&[&format!("-{}={value}", flag.name)]).unwrap();
            assert!(format!("{cli:?}").contains(&arrives), "-{}: {cli:?}", flag.name);
        }
    }

    #[test]
    fn a_variable_says_what_its_flag_says_and_is_named_where_it_is_wrong() {
        for flag in table::RUN.flags.iter().chain(table::HEALTHCHECK.flags) {
            let name = format!("SUPERVISOR_{}", flag.name.replace('-', "_").to_uppercase());
            let own = ["db", "ready", "live", "startup"].contains(&flag.name);
            assert_eq!(flag.env, (!own).then_some(name.as_str()), "-{}", flag.name);
        }
        let grace = [("SUPERVISOR_STOP_GRACE", "60s"), ("SUPERVISOR_STRICT_SYNC", "yes")];
        let cli = read_with(&[], &grace).unwrap();
        assert_eq!((cli.stop_grace, cli.strict_sync), (Some(Duration::from_secs(60)), true));
        let cli = read_with(&["-stop-grace", "5s", "-strict-sync=false"], &grace).unwrap();
        assert_eq!((cli.stop_grace, cli.strict_sync), (Some(Duration::from_secs(5)), false));
        let empty =
            [("SUPERVISOR_STOP_GRACE", ""), ("SUPERVISOR_STRICT_SYNC", ""), ("SUPERVISOR_ON_BEHIND", "")];
        let cli = read_with(&[], &empty).unwrap();
        assert_eq!((cli.stop_grace, cli.strict_sync, cli.on_behind.as_str()), (None, false, "refuse"));

        let why = mistake(&[], &[("SUPERVISOR_STOP_GRACE", "60")]);
        assert!(why.starts_with("holdfast-supervisor: SUPERVISOR_STOP_GRACE=60: time unit needed"), "{why}");
        let why = mistake(&[], &[("SUPERVISOR_STRICT_SYNC", "perhaps")]);
        assert!(why.contains("SUPERVISOR_STRICT_SYNC=perhaps: write true or false"), "{why}");
    }

    #[test]
    fn a_mistake_says_what_would_be_right() {
        for (args, says) in [
            (&["-stric-sync", "--", "app"][..], "there is no flag -stric-sync; there is -strict-sync"),
            (&["-zzz"], "there is no flag -zzz\n"),
            (&["-x"], "there is no flag -x\n"),
            (&["app", "--", "x"], "\"app\" is no flag: the app's command begins after `--`"),
            (&["-config", "--", "app"], "-config needs a value: FILE"),
            (&["-config", "-strict-sync", "--", "app"], "-config needs a value: FILE"),
            (&["-config=", "--", "app"], "-config needs a value: FILE"),
            (&["-no-new-privs", "--", "app"], "-no-new-privs needs a value: true|false"),
            (&["healthcheck", "here"], "\"here\" is no flag\n"),
            (&["healthcheck", "--", "app"], "healthcheck runs no command"),
        ] {
            let why = mistake(args, &[]);
            assert!(why.starts_with(&format!("holdfast-supervisor: {says}")), "{args:?}: {why}");
            let command = if args[0] == "healthcheck" { " healthcheck" } else { "" };
            assert!(
                why.ends_with(&format!("\n`holdfast-supervisor{command} --help` lists all flags\n")),
                "{why}"
            );
        }
    }

    #[test]
    fn help_and_version_are_answers_wherever_they_stand() {
        for (args, begins) in [
            (&["-strict-sync", "--help"][..], "Runs COMMAND as PID 1 should"),
            (&["check", "-h"], "Runs COMMAND as PID 1 should"),
            (&["healthcheck", "-help"], "Asks the supervisor that runs here"),
            (&["-V", "--", "app"], "holdfast-supervisor "),
        ] {
            let Err(Stop::Answer(text)) = ask(args, &[]) else { panic!("{args:?}") };
            assert!(text.starts_with(begins), "{args:?}: {text}");
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        }
        assert_eq!(read(&["--", "app", "--help"]).unwrap().command, ["app", "--help"]);
    }

    #[test]
    fn a_check_takes_the_flags_of_a_run_and_what_is_said_of_starts_reaches_the_agent() {
        let args = ["check", "-on-behind", "keep", "-require-replica", "-db", "/x.db"];
        let Ok(Asked::Check(cli)) = ask(&args, &[]) else { panic!() };
        assert_eq!(cli.start_flags(), ["-on-behind", "keep", "-require-replica"]);
        assert_eq!(cli.db, Some("/x.db".into()));
        assert!(read(&["--", "check"]).unwrap().start_flags().is_empty());
        assert!(read(&["-on-corrupt", "keep", "--", "app"]).is_err(), "nobody starts on a damaged database");
    }

    #[test]
    fn a_health_check_is_a_command_of_its_own_and_still_a_name_for_an_app() {
        assert!(matches!(ask(&["healthcheck", "-live"], &[]), Ok(Asked::Healthcheck(_))));
        assert!(mistake(&["healthcheck", "--live", "--ready"], &[]).contains("ask one thing"));
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
