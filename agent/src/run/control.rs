//! The agent's end of the control socket: one JSON object a line. See `holdfast_config::control` for the messages.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use holdfast_config::control::{FD_VAR, FromAgent, ToAgent};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// Where messages to the supervisor go.
#[derive(Debug)]
pub(super) struct Control(OwnedWriteHalf);

/// Where the supervisor's messages come from; without a supervisor none ever does.
#[derive(Debug)]
pub(super) struct Orders(Option<Lines<BufReader<OwnedReadHalf>>>);

impl Control {
    /// The socket the supervisor left on the descriptor named in the environment, if there is one.
    pub(super) fn from_env() -> io::Result<(Option<Self>, Orders)> {
        let Some(value) = std::env::var_os(FD_VAR) else { return Ok((None, Orders(None))) };
        let fd = value.to_str().and_then(|v| v.parse::<i32>().ok()).filter(|fd| *fd > 2);
        let fd =
            fd.ok_or_else(|| io::Error::other(format!("{FD_VAR}={value:?}: not a descriptor number")))?;
        // SAFETY: the variable is the supervisor's word that this descriptor is ours alone; nothing in this process
        // has opened or closed one above 2 before this line reads it, once, at start. A wrong word fails below.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let socket = std::os::unix::net::UnixStream::from(fd);
        socket.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(socket)?.into_split();
        Ok((Some(Self(write)), Orders(Some(BufReader::new(read).lines()))))
    }

    /// Sends one message. A supervisor that is gone shows as the end of [`Orders`].
    pub(super) async fn send(&mut self, message: &FromAgent) {
        if let Ok(mut line) = serde_json::to_vec(message) {
            line.push(b'\n');
            if let Err(error) = self.0.write_all(&line).await {
                tracing::debug!(%error, "write to the supervisor");
            }
        }
    }
}

impl Orders {
    /// The next message; `None` when the supervisor is gone, and for ever pending without one. Unknown messages are
    /// skipped: a newer supervisor may say more. Safe to drop in a `select!`.
    pub(super) async fn next(&mut self) -> Option<ToAgent> {
        let Some(lines) = &mut self.0 else { return std::future::pending().await };
        loop {
            let line = lines.next_line().await.ok().flatten()?;
            match serde_json::from_str(&line) {
                Ok(order) => return Some(order),
                Err(error) => tracing::warn!(%error, line, "read from the supervisor"),
            }
        }
    }
}
