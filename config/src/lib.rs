//! What people configure and what both programs agree on. A leaf: files and environment in, values out.

pub mod control;
pub mod exit;
