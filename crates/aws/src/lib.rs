//! Secrets Manager for secretlink.
//!
//! Everything here runs on the I/O thread, inside its tokio runtime, and knows nothing of Postgres:
//! settings come in as a snapshot, errors go out as [`AwsError`], which says what a user must see.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod call;
mod check;
mod client;
mod config;
mod conversation;
mod credentials;
mod error;
mod failure;
mod http;
mod iam_token;
mod operation;
mod profile;
mod proxy;
mod rds_token;
mod recorder;
pub mod region;
mod region_name;
mod secret;
mod secret_field;
mod secrets_manager;
mod settings;
pub mod stage;
mod sts;
mod trust;

pub use check::Check;
pub use client::Client;
pub use error::AwsError;
pub use iam_token::IamToken;
pub use operation::Operation;
pub use rds_token::{
    TOKEN_LIFETIME, TokenAction, TokenError, TokenSubject, check_token_region, dsql_cluster_host,
    is_aws_database_host, is_dsql_cluster_id, region_of_host,
};
pub use recorder::{CallOutcome, Recorder};
pub use secret::database::DatabaseSecret;
pub use secret::document::{Document, NotADocument};
pub use secret::id::SecretId;
pub use secret::value::{
    ListedSecret, NewSecret, RotationRules, SecretBody, SecretDescription, SecretStages, SecretValue,
    SecretVersion,
};
pub use secret::version::VersionSelector;
pub use secret::writable::NotWritable;
pub use settings::{Form, Settings, SettingsOverrides};
