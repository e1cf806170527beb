//! Rotation: a new password for a database role, in AWS's four steps.
//!
//! Secrets Manager is the log. A new version of the secret holds the new password before the server knows
//! it, `AWSPENDING` says that a rotation is under way and whose, and `AWSCURRENT` moves when the new
//! password has logged in. Whatever happens in between, some version of the secret holds the password that
//! the server has.
//!
//! Nothing here knows Postgres's backend. Who runs a rotation carries out one [`Next`] after the other, and
//! writes down before each how far the run has come.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod account;
mod admin_session;
mod alternate;
mod calendar;
mod check;
mod login;
mod run;
mod schedule;
mod server_identity;
mod statement;
mod step;
mod strategy;
mod trouble;

pub use account::Account;
pub use check::check;
pub use login::Surroundings;
pub use run::{Job, Limits, Order, Prepared, Run, managed_by, prepare};
pub use schedule::{Schedule, ScheduleError, Window};
pub use step::{Next, RunOutcome, Step};
pub use strategy::Strategy;
pub use trouble::Trouble;
