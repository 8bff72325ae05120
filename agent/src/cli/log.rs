//! Where log lines go and how they look.

use std::io::IsTerminal;

use holdfast_config::{Format, Level, Logging};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Starts the log of a command that prints its result on stdout: lines go to stderr, with the level and format of
/// the configuration. `HOLDFAST_LOG` overrides the level, by module if need be (`debug`, `holdfast::store=trace`).
///
/// The first call decides.
pub(super) fn start(logging: Option<&Logging>) {
    start_on(logging, true);
}

/// As [`start`], on stderr or, like Litestream's `replicate`, on stdout.
pub(super) fn start_on(logging: Option<&Logging>, stderr: bool) {
    let logging = logging.copied().unwrap_or_default();
    let level = match logging.level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    // The libraries below us speak up only when asked by name: they log what we report better ourselves.
    let filter = std::env::var("HOLDFAST_LOG")
        .unwrap_or_else(|_| format!("warn,rustls_platform_verifier=off,holdfast={level}"));
    let filter = EnvFilter::builder().parse_lossy(filter);
    let (writer, terminal) = if stderr {
        (BoxMakeWriter::new(std::io::stderr), std::io::stderr().is_terminal())
    } else {
        (BoxMakeWriter::new(std::io::stdout), std::io::stdout().is_terminal())
    };
    let base = fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    let started = match logging.format {
        Format::Text => base.with_ansi(terminal).try_init(),
        Format::Json => base.json().flatten_event(true).try_init(),
    };
    // A second start, as in tests, changes nothing.
    drop(started);
}
