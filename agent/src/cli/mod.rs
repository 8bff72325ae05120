//! One file per command. Arguments in, exit code out; the work is done in run.
//!
//! The command line is Litestream 0.3.13's: every flag works with one dash or two, with a blank or `=` before its
//! value (`-config F`, `--config=F`), and, unlike there, also after the database. The differences: commands that
//! only list exit non-zero on an error, every failure has a documented exit code ([`holdfast_config::exit::Exit`]), and
//! `-json` prints one JSON value on stdout. Log lines go to stderr.

mod ask_database;
mod config;
mod databases;
mod doctor;
mod generations;
mod init;
mod listing;
mod log;
mod ltx;
mod points;
mod preview;
mod replicate;
mod restore;
mod snapshots;
mod table;
mod version;
mod wal;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use holdfast_config::control::SUPERVISED_VAR;
use holdfast_config::exit::Exit;
use holdfast_config::{Config, Env};

use crate::error::{Error, Kind};

/// Runs the command `args` name and says with which code to exit. `args` start with the program's own name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = normalised(args);
    let name = args.first().and_then(|a| std::path::Path::new(a).file_name()).and_then(OsStr::to_str);
    let name = if name == Some("litestream") { "litestream" } else { "holdfast" };
    let parsed = Cli::command().name(name).bin_name(name).try_get_matches_from(args);
    let command = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli.command,
        Err(e) => {
            // Help and version are answers, on stdout; the rest is a mistake, on stderr.
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage.code() } else { Exit::Ok.code() };
        }
    };
    let json = command.json();
    let env = Env::from_process();
    keep_secrets(&env);
    match command.run(&env) {
        Ok(exit) => exit.code(),
        Err(e) => {
            eprintln!("{name}: {e}");
            if json {
                print_json(&serde_json::json!({
                    "outcome": "error",
                    "kind": e.kind.name(),
                    "exit": e.code(),
                    "message": e.to_string(),
                }));
            }
            e.code()
        }
    }
}

/// The supervisor gives the replica's secrets to us alone, so nobody of the same user, the app above all, may read them
/// out of `/proc` (spec/supervisor.md SUP-207). Without a supervisor whoever started us knows them, and may look at what we
/// cost.
fn keep_secrets(env: &Env) {
    if env.filled(SUPERVISED_VAR).is_some() {
        // Refused, it is as it was before.
        let _ = nix::sys::prctl::set_dumpable(false);
    }
}

/// Keeps a SQLite database alive in containers that do not last: replicates it, restores it.
#[derive(Parser)]
#[command(version = VERSION, disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(hide = true)]
    AskDatabase(ask_database::Command),
    /// Check the configuration
    Config(config::Command),
    /// List the databases of the configuration
    Databases(databases::Command),
    Doctor(doctor::Command),
    Generations(generations::Command),
    Init(init::Command),
    /// List the LTX files of a database or replica
    Ltx(ltx::Command),
    /// Replicate databases until told to stop
    Replicate(replicate::Command),
    // `doctor`, `generations`, `init` and these two say more of themselves than one line, which a line here would hide.
    Restore(restore::Command),
    RestorePoints(points::Command),
    /// List the snapshots of a database or replica
    Snapshots(snapshots::Command),
    /// Print the version
    Version(version::Command),
    /// List the WAL segments of a database or replica
    Wal(wal::Command),
}

impl Command {
    fn run(self, env: &Env) -> Result<Exit, Error> {
        match self {
            Self::AskDatabase(command) => command.run(env),
            Self::Config(command) => command.run(env),
            Self::Databases(command) => command.run(env),
            Self::Doctor(command) => command.run(env),
            Self::Generations(command) => command.run(env),
            Self::Init(command) => command.run(env),
            Self::Ltx(command) => command.run(env),
            Self::Replicate(command) => command.run(env),
            Self::Restore(command) => command.run(env),
            Self::RestorePoints(command) => command.run(env),
            Self::Snapshots(command) => command.run(env),
            Self::Version(command) => command.run(),
            Self::Wal(command) => command.run(env),
        }
    }

    fn json(&self) -> bool {
        match self {
            Self::AskDatabase(_) => false,
            Self::Config(command) => command.json(),
            Self::Databases(command) => command.common.json,
            Self::Doctor(command) => command.common.json,
            Self::Generations(command) => command.common.json,
            Self::Init(command) => command.json,
            Self::Ltx(command) => command.common.json,
            Self::Replicate(command) => command.common.json,
            Self::Restore(command) => command.common.json,
            Self::RestorePoints(command) => command.common.json,
            Self::Snapshots(command) => command.common.json,
            Self::Version(command) => command.json,
            Self::Wal(command) => command.common.json,
        }
    }
}

/// What every command that reads the configuration takes.
#[derive(Args)]
struct Common {
    /// Configuration file [default: LITESTREAM_CONFIG, /config/litestream.yml, /etc/litestream.yml, environment]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Leave ${VARIABLES} in the configuration as they are
    #[arg(long = "no-expand-env", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    no_expand_env: bool,
    /// Print one JSON value on stdout
    #[arg(long, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    json: bool,
}

impl Common {
    /// Loads the configuration and starts the log as it says.
    fn load(&self, env: &Env) -> Result<Config, Error> {
        let config = holdfast_config::load(self.config.as_deref(), env, !self.no_expand_env);
        let config = config.map_err(|e| config_error(&e))?;
        log::start(Some(&config.logging));
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }
}

fn config_error(e: &holdfast_config::ConfigError) -> Error {
    let text = e.to_string();
    match text.split_once(": ") {
        Some((doing, cause)) => Error::new(Kind::Config, doing, cause),
        None => Error::new(Kind::Config, "configuration", text),
    }
}

fn usage(cause: impl ToString) -> Error {
    Error::new(Kind::Usage, "command line", cause)
}

/// A runtime for one command: requests on this thread, files on threads of their own.
fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::new(Kind::System, "start", e))?;
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            signal = stopped() => Err(signal),
            result = work => result,
        }
    });
    // A read that hangs in a dead file system must not keep the program from ending.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    result
}

/// Waits for SIGINT or SIGTERM, which end a command without leaving anything behind.
async fn stopped() -> Error {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    let number = tokio::select! {
        biased;
        _ = int.recv() => SignalKind::interrupt(),
        _ = term.recv() => SignalKind::terminate(),
    };
    Error::new(Kind::Cancelled(number.as_raw_value()), "stopped", "by a signal; nothing is left behind")
}

/// A reader that has gone away is no failure of ours.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn print_json(value: &serde_json::Value) {
    print(&format!("{value}\n"));
}

/// Flags with one dash become flags with two, up to `--`. `-h` and `-V` stay, and so does `-` alone.
fn normalised(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut literal = false;
    let mut normal = |arg: OsString| {
        literal |= arg == "--";
        match arg.to_str() {
            Some("-h" | "-V" | "-") => arg,
            Some(text) if !literal && text.starts_with('-') && !text.starts_with("--") => {
                format!("-{text}").into()
            }
            _ => arg,
        }
    };
    let mut args = args.into_iter();
    args.next().into_iter().chain(args.map(&mut normal)).collect()
}

/// As `version` prints it.
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        let args = std::iter::once("holdfast").chain(line.split_whitespace()).map(OsString::from);
        Cli::try_parse_from(normalised(args)).map(|cli| cli.command)
    }

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_flag_works_with_one_dash_or_two_and_before_or_after_the_database() {
        for line in [
            "restore -config F -o OUT -if-db-not-exists DB",
            "restore --config=F --o OUT --if-db-not-exists DB",
            "restore -config=F DB -o=OUT -if-db-not-exists=true",
            "restore DB -if-db-not-exists -o OUT --config F",
        ] {
            let Ok(Command::Restore(restore)) = parse(line) else { panic!("{line}") };
            assert_eq!(restore.common.config.as_deref(), Some("F".as_ref()), "{line}");
            assert_eq!(restore.o.as_deref(), Some("OUT".as_ref()), "{line}");
            assert!(restore.if_db_not_exists && !restore.if_replica_exists, "{line}");
            assert_eq!(restore.paths, ["DB"], "{line}");
        }
        let Ok(Command::Restore(restore)) = parse("restore -- -DB") else { panic!() };
        assert_eq!(restore.paths, ["-DB"]);
    }

    #[test]
    fn a_mistake_in_the_command_line_is_64_and_help_is_0() {
        let code = |line: &str| main(line.split_whitespace().map(OsString::from));
        for wrong in ["holdfast nonsense", "holdfast restore -nonsense x", "holdfast", "litestream restore"] {
            assert_eq!(code(wrong), 64, "{wrong}");
        }
        for right in
            ["holdfast -h", "holdfast restore -h", "holdfast --help", "litestream version", "holdfast -V"]
        {
            assert_eq!(code(right), 0, "{right}");
        }
    }
}
