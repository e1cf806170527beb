//! Connections that are lost or lead elsewhere now: which are made again by themselves, which are not, and
//! what is said.

mod by_server;
mod session;
mod with_secret;
