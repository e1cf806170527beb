//! From what was asked for to an open session.

pub mod conninfo;
pub mod credential;
pub mod destination;
pub mod error;
pub mod foreign_server;
pub mod iam;
pub mod login;
pub mod login_check;
pub mod recipe;
mod secret_candidates;
mod token_candidates;
