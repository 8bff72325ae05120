//! The loop. Performs what plan decided, with the clock, the runtime and the signals. No byte layouts, no policy.

mod attach;
mod books;
mod clock;
mod control;
mod database;
pub mod directories;
pub mod doctor;
mod ending;
mod fleet;
mod flights;
mod gate;
mod health;
pub mod limits;
mod ltx;
pub mod reload;
pub mod remote;
pub mod replicate;
mod report;
pub mod restore;
mod segment;
mod silence;
mod snapshot;
mod stores;
pub mod survey;
mod tries;
mod unit;
mod validate;
