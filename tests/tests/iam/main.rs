//! Logging in with IAM tokens, end to end.

mod functions;
mod ground;
mod logins;
mod refusals;
mod servers;
mod sharing;
