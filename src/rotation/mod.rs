//! Rotation of secrets, by background workers of this server.
//!
//! A session asks for one by way of shared memory ([`registry`]) and waits. A worker carries it out
//! ([`drive`]); the steps themselves are in `crates/rotation`. Before each step that cannot be taken back it
//! is written down ([`history`]) how far the run has come, so that another worker can take it up, be it on
//! a standby that was promoted.

pub mod ask;
pub mod drive;
pub mod error;
pub mod history;
pub mod notice;
pub mod plans;
pub mod registry;
pub mod restored;
pub mod scheduling;
