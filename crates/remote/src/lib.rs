//! The Postgres client of secretlink: conninfo, TLS, authentication and the wire protocol.
//!
//! Own code, on `postgres-protocol` and OpenSSL, because dblink's results and security rules need
//! what `tokio-postgres` hides: exact command tags, simple-query results as they stream in, whether
//! a password was really asked for, and the cancelling of a query without losing its connection.

#![warn(unreachable_pub)]

pub mod binary_type;
pub mod cancel;
pub mod column;
pub mod connection;
pub mod connection_handle;
pub mod conninfo;
pub mod error;
pub mod framed;
pub mod notification;
pub mod policy;
pub mod query_request;
pub mod row;
pub mod server_message;
pub mod status;
pub mod verifier;

pub mod aliases;
mod auth;
mod connect;
mod scram;
mod small_results;
mod socket;
mod tls;
mod tls_error;
