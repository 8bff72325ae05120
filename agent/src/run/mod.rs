//! The loop. Performs what plan decided, with the clock, the runtime and the signals. No byte layouts, no policy.

pub mod restore;
