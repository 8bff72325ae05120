//! What may stand on the command line, and what `--help` says of it. Constants.

use super::words::{Command, Flag};
use super::{LISTEN, TERMINATION_LOG};

/// A run.
pub(crate) const RUN: Command = Command {
    name: "holdfast-supervisor",
    usage: "holdfast-supervisor [OPTIONS] [-- COMMAND [ARGS]...]",
    about: &[
        "Runs COMMAND as PID 1 should: brings its SQLite database back if it is missing, replicates it while the command \
         runs, forwards signals, reaps orphans, and proves that the last commit is on the replica before it exits.",
        "`holdfast-supervisor check` with the same flags says what a start would do and exits as it would; it changes \
         nothing. `holdfast-supervisor healthcheck` asks a running one how it is.",
    ],
    flags: FLAGS,
    command: Some("The app and its arguments; else the configuration's `exec`"),
};

/// `healthcheck`.
pub(crate) const HEALTHCHECK: Command = Command {
    name: "holdfast-supervisor healthcheck",
    usage: "holdfast-supervisor healthcheck [OPTIONS]",
    about: &[
        "Asks the supervisor that runs here whether all is well. Prints one line.",
        "Without a flag: whether the app is ready, and until it has been once, whether the supervisor lives. Exit codes: \
         0 yes, 1 no, 64 bad command line.",
    ],
    flags: &[
        Flag { name: "ready", value: "", env: None, default: None, about: "Whether the app is ready" },
        Flag {
            name: "live",
            value: "",
            env: None,
            default: None,
            about: "Whether the supervisor's loop turns",
        },
        Flag {
            name: "startup",
            value: "",
            env: None,
            default: None,
            about: "Whether the app was ready once",
        },
        Flag {
            name: "listen",
            value: "HOST:PORT",
            env: Some("SUPERVISOR_LISTEN"),
            default: Some(LISTEN),
            about: "Where the supervisor listens",
        },
    ],
    command: None,
};

const FLAGS: &[Flag] = &[
    Flag {
        name: "config",
        value: "FILE",
        env: Some("SUPERVISOR_CONFIG"),
        default: None,
        about: "Configuration file; else LITESTREAM_CONFIG, /config/litestream.yml, /etc/litestream.yml, the environment",
    },
    Flag {
        name: "db",
        value: "PATH",
        env: None,
        default: None,
        about: "The app's database, when the configuration does not say or lists several [env: SUPERVISOR_DB]",
    },
    Flag {
        name: "agent",
        value: "PATH",
        env: Some("SUPERVISOR_AGENT"),
        default: None,
        about: "The replication agent; else `holdfast` beside this program, else on PATH",
    },
    Flag {
        name: "stop-grace",
        value: "DURATION",
        env: Some("SUPERVISOR_STOP_GRACE"),
        default: None,
        about: "From the first stop signal to the platform's SIGKILL (docker stop --time, terminationGracePeriodSeconds); guessed from the platform when not given",
    },
    Flag {
        name: "restore-wait",
        value: "DURATION",
        env: Some("SUPERVISOR_RESTORE_WAIT"),
        default: Some("5m"),
        about: "How long to keep trying an unreachable replica while the database is missing",
    },
    Flag {
        name: "on-behind",
        value: "refuse|restore|keep",
        env: Some("SUPERVISOR_ON_BEHIND"),
        default: Some("refuse"),
        about: "What to do with a database that is behind its replica: refuse (exit 79), restore (it is moved aside), keep",
    },
    Flag {
        name: "on-unknown",
        value: "auto|refuse|restore|keep",
        env: Some("SUPERVISOR_ON_UNKNOWN"),
        default: Some("auto"),
        about: "What to do with a database of unknown origin: auto (refuse one that is older than the replica), refuse, restore, keep",
    },
    Flag {
        name: "on-corrupt",
        value: "refuse|restore",
        env: Some("SUPERVISOR_ON_CORRUPT"),
        default: Some("refuse"),
        about: "What to do with a damaged database: refuse (exit 65), restore (it is moved aside)",
    },
    Flag {
        name: "integrity",
        value: "none|quick|full",
        env: Some("SUPERVISOR_INTEGRITY"),
        default: Some("quick"),
        about: "How much of a database to check before the app has it: none, quick (30 ms of a core), full",
    },
    Flag {
        name: "require-replica",
        value: "",
        env: Some("SUPERVISOR_REQUIRE_REPLICA"),
        default: None,
        about: "Never start without a backup: exit 66, 77 or 78 where the replica is empty, denied or missing",
    },
    Flag {
        name: "allow-empty-start",
        value: "DATE",
        env: Some("SUPERVISOR_ALLOW_EMPTY_START"),
        default: None,
        about: "Today's date (UTC, 2000-01-31): allows to start on nothing, today",
    },
    Flag {
        name: "ready-wait",
        value: "DURATION",
        env: Some("SUPERVISOR_READY_WAIT"),
        default: Some("10s"),
        about: "How long the agent may take to pin the WAL before the app is not started",
    },
    Flag {
        name: "agent-timeout",
        value: "DURATION",
        env: Some("SUPERVISOR_AGENT_TIMEOUT"),
        default: Some("10s"),
        about: "Silence after which the agent is killed and started again; 0s is never",
    },
    Flag {
        name: "second-term",
        value: "forward|hurry",
        env: Some("SUPERVISOR_SECOND_TERM"),
        default: Some("forward"),
        about: "What a repeated SIGTERM does: pass it on to the app, or kill the app now and keep the time for the final sync",
    },
    Flag {
        name: "signal-map",
        value: "MAP",
        env: Some("SUPERVISOR_SIGNAL_MAP"),
        default: None,
        about: "Who gets a signal instead of whom it is meant for: USR2=forward,TERM=QUIT,WINCH=ignore",
    },
    Flag {
        name: "signal-target",
        value: "app|group",
        env: Some("SUPERVISOR_SIGNAL_TARGET"),
        default: Some("app"),
        about: "Whether signals go to the app's process or to all processes of its group, for a shell that passes none on",
    },
    Flag {
        name: "on-agent-failure",
        value: "continue|unready|stop",
        env: Some("SUPERVISOR_ON_AGENT_FAILURE"),
        default: Some("continue"),
        about: "What an agent that stays away means, which is started again in any case",
    },
    Flag {
        name: "agent-max-down",
        value: "DURATION",
        env: Some("SUPERVISOR_AGENT_MAX_DOWN"),
        default: Some("5m"),
        about: "How long the agent may be away",
    },
    Flag {
        name: "attach-wait",
        value: "DURATION",
        env: Some("SUPERVISOR_ATTACH_WAIT"),
        default: Some("60s"),
        about: "How long the app may take to open its database before somebody looks which one it has open, then and every \
                five times as long until it has had its own; 0s is never",
    },
    Flag {
        name: "strict-sync",
        value: "",
        env: Some("SUPERVISOR_STRICT_SYNC"),
        default: None,
        about: "Exit 74 when the final sync is incomplete, even if the app failed with a code of its own",
    },
    Flag {
        name: "user",
        value: "USER[:GROUP]",
        env: Some("SUPERVISOR_USER"),
        default: None,
        about: "Whom to become when started as root: NAME or UID, with :GROUP or :GID; `root` stays root. Else, as PID 1, `station` or 1000:1000",
    },
    Flag {
        name: "no-new-privs",
        value: "true|false",
        env: Some("SUPERVISOR_NO_NEW_PRIVS"),
        default: Some("true"),
        about: "Whether no program below may gain privileges, say by sudo: `false` lets it",
    },
    Flag {
        name: "lock-wait",
        value: "DURATION",
        env: Some("SUPERVISOR_LOCK_WAIT"),
        default: Some("10s"),
        about: "How long to wait for another supervisor or agent that has the database",
    },
    Flag {
        name: "allow-network-fs",
        value: "",
        env: Some("SUPERVISOR_ALLOW_NETWORK_FS"),
        default: None,
        about: "Run on a network file system, too, where SQLite's WAL does not work and databases get damaged",
    },
    Flag {
        name: "ephemeral",
        value: "allow|deny",
        env: Some("SUPERVISOR_EPHEMERAL"),
        default: Some("allow"),
        about: "Whether the app may run without a replica",
    },
    Flag {
        name: "env-scrub",
        value: "secrets|none",
        env: Some("SUPERVISOR_ENV_SCRUB"),
        default: Some("secrets"),
        about: "What the app's environment is rid of: the replica's secrets and our own variables, or nothing",
    },
    Flag {
        name: "termination-log",
        value: "FILE",
        env: Some("SUPERVISOR_TERMINATION_LOG"),
        default: Some(TERMINATION_LOG),
        about: "Where to write the summary too, if the file exists",
    },
    Flag {
        name: "listen",
        value: "HOST:PORT",
        env: Some("SUPERVISOR_LISTEN"),
        default: Some(LISTEN),
        about: "Where to answer /livez, /readyz, /startupz, /status and /metrics; `off` is nowhere",
    },
    Flag {
        name: "app-probe",
        value: "URL",
        env: Some("SUPERVISOR_APP_PROBE"),
        default: None,
        about: "How /readyz asks the app: http://HOST:PORT/PATH, tcp://HOST:PORT, or none; Station's own page for Station, else none, when not given",
    },
    Flag {
        name: "max-lag",
        value: "DURATION",
        env: Some("SUPERVISOR_MAX_LAG"),
        default: Some("0s"),
        about: "How far behind a replica may be before /readyz says no; 0s is any",
    },
    Flag {
        name: "log-level",
        value: "error|warn|info|debug",
        env: Some("SUPERVISOR_LOG_LEVEL"),
        default: Some("info"),
        about: "The least important lines to log",
    },
];
