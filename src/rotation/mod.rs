//! Rotation of secrets, by background workers of this server.
//!
//! A session asks for one by way of shared memory ([`registry`]) and waits. A worker carries it out
//! ([`drive`]); the steps themselves are in `crates/rotation`. Before each step that cannot be taken back it
//! is written down ([`history`]) how far the run has come, so that another worker can take it up, be it on
//! a standby that was promoted.

pub(crate) mod ask;
pub(crate) mod drive;
pub(crate) mod error;
pub(crate) mod history;
pub(crate) mod notice;
pub(crate) mod plans;
pub(crate) mod registry;
pub(crate) mod restored;
pub(crate) mod scheduling;
