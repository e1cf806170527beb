//! Logging in with IAM tokens, end to end.

mod functions;
mod ground;
