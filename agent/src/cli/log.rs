//! Where log lines go and how they look.

use std::io::IsTerminal;

use holdfast_config::{Format, Level, Logging};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// Starts the log of a command that prints its result on stdout: lines go to stderr, with the level and format of
/// the configuration. `HOLDFAST_LOG` overrides the level, by module if need be (`debug`, `holdfast::store=trace`).
///
/// The first call decides.
pub(super) fn start(logging: Option<&Logging>) {
    let logging = logging.copied().unwrap_or_default();
    let level = match logging.level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    // The libraries below us speak up only when asked by name: they log what we report better ourselves.
    let filter = std::env::var("HOLDFAST_LOG").unwrap_or_else(|_| format!("warn,holdfast={level}"));
    let filter = EnvFilter::builder().parse_lossy(filter);
    let base = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match logging.format {
        Format::Text => base.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => base.json().flatten_event(true).try_init(),
    };
    // A second start, as in tests, changes nothing.
    drop(started);
}
