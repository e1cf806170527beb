//! Logging in with IAM tokens, end to end.

mod aliases;
mod check;
mod dsql;
mod functions;
mod ground;
mod logins;
mod refusals;
mod secrecy;
mod servers;
mod sharing;
