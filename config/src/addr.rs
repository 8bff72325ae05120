//! Where the agent listens for probes and scrapers. Values only.

use crate::env::Env;
use crate::error::{ConfigError, Place};
use crate::model::Config;
use crate::{duration, reader::Section};

/// `addr` and `max-lag` of a file; of the environment what the file does not say.
pub(crate) fn of_top(top: &Section<'_>, config: &mut Config) -> Result<(), ConfigError> {
    of_env(top.env(), config)?;
    if let Some(addr) = top.text("addr")? {
        if !has_port(&addr) {
            return Err(top.fail("addr", format!("{addr:?} has no port")).fix(FIX));
        }
        config.addr = Some(addr);
    }
    config.max_lag = top.duration("max-lag")?.unwrap_or(config.max_lag);
    Ok(())
}

/// The same of the environment.
pub(crate) fn of_env(env: &Env, config: &mut Config) -> Result<(), ConfigError> {
    let fail = |name: &str, problem: String| ConfigError::new(Place::Environment, name, problem);
    if let Some(addr) = env.filled(ADDR) {
        if !has_port(addr) {
            return Err(fail(ADDR, format!("{addr:?} has no port")).fix(FIX));
        }
        config.addr = Some(addr.to_owned());
    }
    if let Some(lag) = env.filled(MAX_LAG) {
        let lag = duration::parse_duration(lag)
            .map_err(|e| fail(MAX_LAG, format!("{lag:?} is not a duration: {e}")).fix("write 60s or 5m"))?;
        config.max_lag = lag;
    }
    Ok(())
}

/// `HOST:PORT` or `:PORT`
fn has_port(addr: &str) -> bool {
    addr.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

const FIX: &str = "write :9090 or 127.0.0.1:9090";
pub(crate) const ADDR: &str = "LITESTREAM_ADDR";
pub(crate) const MAX_LAG: &str = "LITESTREAM_MAX_LAG";
