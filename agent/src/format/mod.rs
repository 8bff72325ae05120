//! What the bytes mean. Bytes and integers in, values out. No I/O, no clock, no async, no logging.

pub mod dbfile;
pub mod layout;
pub mod lineage;
pub mod ltx;
pub mod lz4;
pub mod note;
pub mod schema;
pub mod sftp;
pub mod wal;
