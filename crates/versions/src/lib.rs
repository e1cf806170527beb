//! The half of password sync that knows no Postgres: which passwords of a transaction still count,
//! what a role's secret looks like, and the calls that stage, promote and settle a change.
//!
//! It is a two-phase commit whose log is Secrets Manager itself. Before the transaction commits, the
//! new password is staged: stored as a version with a label of its own. After it, `AWSCURRENT` is moved
//! to that version. Whatever happens in between, the right password is at one of the two labels, and
//! which one it is can be told by the role's hash in `pg_authid`.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod obstacle;
mod origin;
mod pending;
mod promotion;
mod random_password;
mod role_secret;
mod settlement;
mod staging;
mod template;
mod versions;

pub use obstacle::Obstacle;
pub use origin::{Author, Issuer, Origin, writer};
pub use pending::PendingStack;
pub use promotion::promote;
pub use random_password::{PASSWORD_CHARACTERS, random_password, random_password_of};
pub use role_secret::NewFields;
pub use settlement::{Candidate, clear, is_at_rest, is_left_over, promote_found, unlabelled};
pub use staging::{Change, First, Missing, Staged, StagingPlan, plan, write};
pub use template::{SecretTemplate, TemplateError};
pub use versions::{
    Username, Versions, check_versions, may_be_of, read_all_versions, read_each, read_versions,
};
