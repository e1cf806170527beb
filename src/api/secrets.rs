//! Functions that read and write secrets.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use secretlink_aws::{NewSecret, SecretBody, VersionSelector};
use secretlink_core::Secret;
use std::time::{Duration, SystemTime};

use super::error::ArgumentError;
use super::{optional, required};
use crate::backend::process::report::{HiddenStatement, OrRaise};
use crate::backend::text::{Bytes, JsonText, Text, TextArray};
use crate::error::Error;
use crate::secrets::error::SecretsError;
use crate::secrets::{client, read, write};

/// Postgres counts time from 2000-01-01 (timestamp.h).
const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

fn secret_value(
    secret_id: Option<Text>,
    version_stage: Option<Text>,
    version_id: Option<Text>,
) -> Result<secretlink_aws::SecretValue, Error> {
    let secret_id = required(secret_id, "secret_id")?;
    let selector = VersionSelector {
        stage: optional(version_stage, "version_stage")?,
        version_id: optional(version_id, "version_id")?,
    };
    Ok(read::value(&secret_id, selector)?)
}

/// The secret as JSON, as it is stored.
#[pg_extern(volatile, parallel_restricted)]
fn get_secret_value(
    secret_id: Option<Text>,
    version_stage: default!(Option<Text>, "NULL"),
    version_id: default!(Option<Text>, "NULL"),
) -> JsonText {
    secret_value(secret_id, version_stage, version_id)
        .and_then(|v| Ok(JsonText(v.json()?.to_owned())))
        .or_raise()
}

/// The secret as text, whatever it holds.
#[pg_extern(volatile, parallel_restricted)]
fn get_secret_string(
    secret_id: Option<Text>,
    version_stage: default!(Option<Text>, "NULL"),
    version_id: default!(Option<Text>, "NULL"),
) -> Text {
    secret_value(secret_id, version_stage, version_id).and_then(|v| Ok(Text(v.text()?.to_owned()))).or_raise()
}

/// The bytes of a binary secret.
#[pg_extern(volatile, parallel_restricted)]
fn get_secret_binary(
    secret_id: Option<Text>,
    version_stage: default!(Option<Text>, "NULL"),
    version_id: default!(Option<Text>, "NULL"),
) -> Vec<u8> {
    secret_value(secret_id, version_stage, version_id).and_then(|v| Ok(v.bytes()?.to_vec())).or_raise()
}

/// One field of a secret that is a JSON object, as text: of a string what it says, of anything else its JSON.
#[pg_extern(volatile, parallel_restricted)]
fn get_secret_field(
    secret_id: Option<Text>,
    field: Option<Text>,
    version_stage: default!(Option<Text>, "NULL"),
    version_id: default!(Option<Text>, "NULL"),
) -> Option<Text> {
    let get = || -> Result<Option<Text>, Error> {
        let field = required(field, "field")?;
        let value =
            secret_value(secret_id, version_stage, version_id)?.field(&field).map_err(SecretsError::from)?;
        Ok(value.and_then(|value| Some(Text(value.expose_str()?.to_owned()))))
    };
    get().or_raise()
}

/// What AWS knows of a secret besides its value: one row for each version that has a staging label.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn describe_secret(
    secret_id: Option<Text>,
) -> TableIterator<
    'static,
    (
        name!(arn, String),
        name!(name, String),
        name!(version_id, String),
        name!(stages, Vec<String>),
        name!(created, Option<TimestampWithTimeZone>),
        name!(owning_service, Option<String>),
        name!(rotation_enabled, bool),
        name!(next_rotation, Option<TimestampWithTimeZone>),
        name!(last_rotated, Option<TimestampWithTimeZone>),
        name!(last_changed, Option<TimestampWithTimeZone>),
        name!(last_accessed, Option<TimestampWithTimeZone>),
        name!(deleted, Option<TimestampWithTimeZone>),
        name!(primary_region, Option<String>),
        name!(kms_key_id, Option<String>),
        name!(description, Option<Text>),
    ),
> {
    let describe = || -> Result<_, Error> { Ok(read::description(&required(secret_id, "secret_id")?)?) };
    let secret = describe().or_raise();
    TableIterator::new(secret.versions.into_iter().map(move |version| {
        (
            secret.arn.clone(),
            secret.name.clone(),
            version.version_id,
            version.stages,
            timestamp(version.created),
            secret.owning_service.clone(),
            secret.rotation_enabled,
            timestamp(secret.next_rotation),
            timestamp(secret.last_rotated),
            timestamp(secret.last_changed),
            timestamp(version.last_accessed.or(secret.last_accessed)),
            timestamp(secret.deleted),
            secret.primary_region.clone(),
            secret.kms_key_id.clone(),
            secret.description.clone().map(Text),
        )
    }))
}

/// Creates a secret and returns its ARN.
#[pg_extern(volatile, parallel_unsafe)]
fn create_secret(
    name: Option<Text>,
    secret: Option<JsonText>,
    description: default!(Option<Text>, "NULL"),
    kms_key_id: default!(Option<Text>, "NULL"),
) -> Text {
    let create = || -> Result<String, Error> {
        let new = NewSecret {
            name: required(name, "name")?,
            value: Secret::new(secret.ok_or(ArgumentError::Null("secret"))?.0),
            description: description.map(|t| t.0),
            kms_key_id: optional(kms_key_id, "kms_key_id")?,
            version_id: None,
        };
        Ok(write::create(new)?)
    };
    let _hidden = HiddenStatement::begin();
    Text(create().or_raise())
}

/// Stores a new version of a secret, which is JSON, and returns its version id.
#[pg_extern(volatile, parallel_unsafe)]
fn put_secret_value(
    secret_id: Option<Text>,
    secret: Option<JsonText>,
    version_stages: default!(Option<TextArray>, "'{AWSCURRENT}'"),
) -> Text {
    put(secret_id, secret.map(|json| SecretBody::String(Secret::new(json.0))), version_stages)
}

/// Stores a new version of a secret, which is any text, and returns its version id.
#[pg_extern(volatile, parallel_unsafe)]
fn put_secret_string(
    secret_id: Option<Text>,
    secret: Option<Text>,
    version_stages: default!(Option<TextArray>, "'{AWSCURRENT}'"),
) -> Text {
    put(secret_id, secret.map(|text| SecretBody::String(Secret::new(text.0))), version_stages)
}

/// Stores a new version of a secret, which is bytes, and returns its version id.
#[pg_extern(volatile, parallel_unsafe)]
fn put_secret_binary(
    secret_id: Option<Text>,
    secret: Option<Bytes>,
    version_stages: default!(Option<TextArray>, "'{AWSCURRENT}'"),
) -> Text {
    put(secret_id, secret.map(|bytes| SecretBody::Binary(Secret::new(bytes.0))), version_stages)
}

/// Changes one field of a secret that is a JSON object, keeps all others, and returns the version id.
#[pg_extern(volatile, parallel_unsafe)]
fn put_secret_field(secret_id: Option<Text>, field: Option<Text>, value: Option<Text>) -> Text {
    let put = || -> Result<String, Error> {
        let secret_id = required(secret_id, "secret_id")?;
        let field = required(field, "field")?;
        let value = Secret::new(value.ok_or(ArgumentError::Null("value"))?.0);
        Ok(write::put_field(&secret_id, field, value)?)
    };
    let _hidden = HiddenStatement::begin();
    Text(put().or_raise())
}

fn put(secret_id: Option<Text>, secret: Option<SecretBody>, version_stages: Option<TextArray>) -> Text {
    let put = || -> Result<String, Error> {
        let secret_id = required(secret_id, "secret_id")?;
        let body = secret.ok_or(ArgumentError::Null("secret"))?;
        let stages = version_stages.ok_or(ArgumentError::Null("version_stages"))?;
        let stages =
            stages.0.into_iter().collect::<Option<Vec<_>>>().ok_or(ArgumentError::Null("version_stages"))?;
        Ok(write::put(&secret_id, body, stages)?)
    };
    let _hidden = HiddenStatement::begin();
    Text(put().or_raise())
}

/// The secrets of the region whose name begins with `name_prefix`, without their values.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity)]
fn list_secrets(
    name_prefix: default!(Option<Text>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(name, String),
        name!(arn, String),
        name!(description, Option<Text>),
        name!(owning_service, Option<String>),
        name!(rotation_enabled, bool),
        name!(next_rotation, Option<TimestampWithTimeZone>),
        name!(last_rotated, Option<TimestampWithTimeZone>),
        name!(last_changed, Option<TimestampWithTimeZone>),
        name!(last_accessed, Option<TimestampWithTimeZone>),
        name!(created, Option<TimestampWithTimeZone>),
        name!(deleted, Option<TimestampWithTimeZone>),
        name!(primary_region, Option<String>),
        name!(kms_key_id, Option<String>),
    ),
> {
    let list = || -> Result<_, Error> {
        let prefix = optional(name_prefix, "name_prefix")?;
        Ok(client::call(|client| async move { client.list_secrets(prefix.as_deref()).await })?)
    };
    let secrets = list().or_raise();
    TableIterator::new(secrets.into_iter().map(|secret| {
        (
            secret.name,
            secret.arn,
            secret.description.map(Text),
            secret.owning_service,
            secret.rotation_enabled,
            timestamp(secret.next_rotation),
            timestamp(secret.last_rotated),
            timestamp(secret.last_changed),
            timestamp(secret.last_accessed),
            timestamp(secret.created),
            timestamp(secret.deleted),
            secret.primary_region,
            secret.kms_key_id,
        )
    }))
}

fn timestamp(time: Option<SystemTime>) -> Option<TimestampWithTimeZone> {
    let since_1970 = time?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let micros =
        i64::try_from(since_1970.as_micros()).ok()? - i64::try_from(POSTGRES_EPOCH.as_micros()).ok()?;
    TimestampWithTimeZone::try_from(micros).ok()
}
