//! How replicating to a replica begins, given what it holds. Values in, values out.

use std::fmt;

use jiff::Timestamp;

/// A layout a replica can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Litestream 0.3's generations.
    V03,
    /// Litestream 0.5's files.
    Ltx,
}

/// `v0.3` or `ltx`, as the configuration has them.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V03 => "v0.3",
            Self::Ltx => "ltx",
        })
    }
}

/// What becomes of what a replica holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It holds nothing.
    New(Format),
    /// It goes on as what it is, where the live WAL proves that it can.
    Same(Format),
    /// It holds the other layout only. That stays, and stays restorable.
    Change { to: Format },
}

impl Opening {
    /// The layout asked for, else that of what is there, the newer one of both, else v0.3's.
    ///
    /// `wal` and `ltx` are the dates of the newest object of either.
    pub fn decide(asked: Option<Format>, wal: Option<Timestamp>, ltx: Option<Timestamp>) -> Self {
        let newer = match (wal, ltx) {
            (None, None) => return Self::New(asked.unwrap_or(Format::V03)),
            (None, Some(_)) => Format::Ltx,
            (Some(wal), Some(ltx)) if ltx > wal => Format::Ltx,
            (Some(_), Some(_) | None) => Format::V03,
        };
        let to = asked.unwrap_or(newer);
        let held = match to {
            Format::V03 => wal,
            Format::Ltx => ltx,
        };
        if held.is_some() { Self::Same(to) } else { Self::Change { to } }
    }

    /// The layout from now on.
    pub fn format(self) -> Format {
        match self {
            Self::New(format) | Self::Same(format) | Self::Change { to: format } => format,
        }
    }
}

/// `begin with a full copy as transaction 1`, … : what a person wants to know before it happens.
impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New(Format::V03) => "begin with a snapshot in a new generation",
            Self::New(Format::Ltx) => "begin with a full copy as transaction 1",
            Self::Same(Format::V03) => {
                "go on with the newest generation if the live WAL proves it, else begin another with a snapshot"
            }
            Self::Same(Format::Ltx) => {
                "go on after the highest transaction, with a full copy first unless the live WAL proves it"
            }
            Self::Change { to: Format::V03 } => {
                "change the layout: begin with a snapshot in a new generation; the LTX files stay restorable"
            }
            Self::Change { to: Format::Ltx } => {
                "change the layout: begin with a full copy as transaction 1; the generations stay restorable"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_goes_on_as_what_it_is_unless_another_layout_is_asked_for() {
        use Format::{Ltx, V03};
        let at = |s| Some(Timestamp::from_second(s).unwrap());
        for (asked, wal, ltx, expected) in [
            (None, None, None, Opening::New(V03)),
            (Some(Ltx), None, None, Opening::New(Ltx)),
            (None, at(1), None, Opening::Same(V03)),
            (None, None, at(1), Opening::Same(Ltx)),
            (None, at(1), at(2), Opening::Same(Ltx)),
            (None, at(2), at(1), Opening::Same(V03)),
            (Some(Ltx), at(2), at(1), Opening::Same(Ltx)),
            (Some(Ltx), at(2), None, Opening::Change { to: Ltx }),
            (Some(V03), None, at(2), Opening::Change { to: V03 }),
        ] {
            assert_eq!(Opening::decide(asked, wal, ltx), expected, "{asked:?}, {wal:?}, {ltx:?}");
        }
    }
}
