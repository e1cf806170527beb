//! The way from what was asked for to an open session.

pub(crate) mod conninfo;
pub(crate) mod credential;
pub(crate) mod destination;
pub(crate) mod error;
pub(crate) mod foreign_server;
pub(crate) mod iam;
pub(crate) mod login;
pub(crate) mod login_check;
pub(crate) mod recipe;
mod secret_candidates;
mod token_candidates;
