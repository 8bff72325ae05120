//! How far a state reaches, in either layout. Values only.

use std::fmt;

use crate::format::layout::Pos;
use crate::format::ltx::Txid;

/// What a replica has acknowledged, or a restore has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The end of a transaction in the WAL, or the beginning of a base's.
    Wal(Pos),
    Ltx(Txid),
}

/// `fb6eef3866c03d87/0000001f:16512`, or `000000000000002a`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal(pos) => pos.fmt(f),
            Self::Ltx(txid) => txid.fmt(f),
        }
    }
}
