//! Password sync, as SQL sees it.

use pgrx::prelude::*;

use crate::backend::process::report::OrRaise;
use crate::backend::text::{RoleName, Text};
use crate::error::Error;
use crate::sync::roles;

use super::error::ArgumentError;
use super::required;

/// Keeps a role's password in a secret from now on.
#[pg_extern(volatile, parallel_unsafe)]
fn sync_role(role: Option<RoleName>, secret_id: Option<Text>) {
    let sync =
        || -> Result<(), Error> { Ok(roles::sync(&named(role)?, &required(secret_id, "secret_id")?)?) };
    sync().or_raise();
}

/// Ends that. The secret is left alone.
#[pg_extern(volatile, parallel_unsafe)]
fn unsync_role(role: Option<RoleName>) {
    let unsync = || -> Result<(), Error> { Ok(roles::unsync(&named(role)?)?) };
    unsync().or_raise();
}

/// Whether a role's secret holds its password, by asking Secrets Manager.
#[pg_extern(volatile, parallel_unsafe)]
fn check_role_sync(role: Option<RoleName>) -> Text {
    let check = || -> Result<_, Error> { Ok(roles::check(&named(role)?)?) };
    Text(check().or_raise().as_str().to_owned())
}

/// What `check_role_sync` says, for every synced role, as rows.
#[allow(clippy::type_complexity, reason = "the columns")]
#[pg_extern(volatile, parallel_unsafe)]
fn check_all_role_sync() -> TableIterator<
    'static,
    (
        name!(role, RoleName),
        name!(secret_id, Option<Text>),
        name!(state, Text),
        name!(version_id, Option<Text>),
        name!(last_error, Option<Text>),
    ),
> {
    let check = || -> Result<_, Error> { Ok(roles::check_all()?) };
    TableIterator::new(check().or_raise().into_iter().map(|row| {
        (
            row.role,
            row.secret.map(Text),
            Text(row.known.state.as_str().to_owned()),
            row.known.version_id.map(Text),
            row.known.last_error.map(Text),
        )
    }))
}

/// Creates a role with a random password and, when the transaction commits, its secret. Returns the
/// secret's id.
#[pg_extern(volatile, parallel_unsafe)]
fn create_role_with_secret(
    role: Option<RoleName>,
    secret_id: Option<Text>,
    password_length: default!(Option<i32>, 32),
) -> Text {
    let create = || -> Result<String, Error> {
        let secret_id = required(secret_id, "secret_id")?;
        let length = password_length.ok_or(ArgumentError::Null("password_length"))?;
        roles::create_with_secret(&named(role)?, &secret_id, length)?;
        Ok(secret_id)
    };
    Text(create().or_raise())
}

fn named(role: Option<RoleName>) -> Result<RoleName, ArgumentError> {
    match role {
        None => Err(ArgumentError::Null("role")),
        Some(role) if role.0.is_empty() => Err(ArgumentError::Empty("role")),
        Some(role) => Ok(role),
    }
}

/// Every synced role, as the server last knew it.
#[allow(clippy::type_complexity, reason = "the columns")]
#[pg_extern(volatile, parallel_restricted)]
fn role_sync_states() -> TableIterator<
    'static,
    (
        name!(role, RoleName),
        name!(secret_id, Option<Text>),
        name!(state, Text),
        name!(version_id, Option<Text>),
        name!(synced_at, Option<TimestampWithTimeZone>),
        name!(last_error, Option<Text>),
    ),
> {
    TableIterator::new(roles::all().into_iter().map(|row| {
        (
            row.role,
            row.secret.map(Text),
            Text(row.known.state.as_str().to_owned()),
            row.known.version_id.map(Text),
            row.known.synced_at.and_then(|time| TimestampWithTimeZone::try_from(time).ok()),
            row.known.last_error.map(Text),
        )
    }))
}

extension_sql!(
    r#"
CREATE VIEW role_sync AS
    SELECT role, secret_id, state, version_id, synced_at, last_error FROM role_sync_states();
"#,
    name = "role_sync",
    requires = [role_sync_states],
);
