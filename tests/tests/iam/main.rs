//! Logging in with IAM tokens, end to end.

mod check;
mod functions;
mod ground;
mod logins;
mod refusals;
mod servers;
mod sharing;
