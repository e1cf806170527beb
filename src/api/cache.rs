//! The cache of secrets, as SQL sees it.

use pgrx::datum::Interval;
use pgrx::prelude::*;
use std::time::Duration;

use super::{bigint, required};
use crate::backend::process::report::OrRaise;
use crate::backend::process::server;
use crate::backend::text::Text;
use crate::error::Error;
use crate::secrets::cache::{self, SharedError, Subject};
use crate::settings;

/// Reads a secret again, whatever is cached of it. Returns the version id now cached.
#[pg_extern(volatile, parallel_restricted)]
fn refresh_secret(secret_id: Option<Text>) -> Text {
    let refresh = || -> Result<_, Error> { Ok(cache::refresh(&required(secret_id, "secret_id")?)?) };
    Text(refresh().or_raise())
}

/// Wipes what is cached of a secret, named as you like. Returns how many entries that were.
#[pg_extern(volatile, parallel_restricted)]
fn forget_secret(secret_id: Option<Text>) -> i32 {
    let secret_id = required(secret_id, "secret_id").or_raise();
    count(cache::forget(&secret_id))
}

/// Wipes the cache. Returns how many entries that were.
#[pg_extern(volatile, parallel_restricted)]
fn forget_all_secrets() -> i32 {
    count(cache::forget_all())
}

fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// What is cached, but for the values.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity, reason = "the columns")]
fn secret_cache_entries() -> TableIterator<
    'static,
    (
        name!(secret_id, Text),
        name!(stage, Option<Text>),
        name!(version_id, Option<Text>),
        name!(state, Text),
        name!(age, Option<Interval>),
        name!(expires, Option<TimestampWithTimeZone>),
        name!(hits, i64),
        name!(region, Option<Text>),
        name!(role_arn, Option<Text>),
        name!(last_error, Option<Text>),
        name!(kind, &'static str),
    ),
> {
    let (now, timing) = (cache::now(), settings::cache::timing());
    let given = |text: String| (!text.is_empty()).then_some(Text(text));
    TableIterator::new(cache::list().into_iter().map(move |entry| {
        let has_value = entry.version_id.is_some();
        let age = now - entry.asked;
        let (lasts, usable) = match entry.ends {
            Some(ends) => (ends - entry.asked, ends - entry.asked),
            None => (timing.ttl, timing.ttl + timing.max_stale),
        };
        let state = match () {
            () if entry.is_asked => "asking",
            () if !has_value => "failed",
            () if age < lasts => "fresh",
            () if age < usable => "stale",
            () => "expired",
        };
        let region = cache::region(&entry);
        let key = entry.key;
        let (kind, name, stage, version_id) = match key.subject {
            Subject::Secret { id, stage, version_id } => ("secret", id, stage, version_id),
            Subject::IamToken { login, .. } => ("iam_token", login, String::new(), String::new()),
        };
        (
            Text(name),
            given(stage),
            entry.version_id.or(Some(version_id)).and_then(given),
            Text(state.to_owned()),
            has_value.then(|| interval(age)).flatten(),
            has_value.then(|| timestamp_in(lasts, age)).flatten(),
            bigint(entry.hits),
            region.map(Text),
            given(key.role_arn),
            entry.error.map(|report| Text(SharedError::from_bytes(&report).to_string())),
            kind,
        )
    }))
}

fn interval(time: Duration) -> Option<Interval> {
    Interval::new(0, 0, i64::try_from(time.as_micros()).ok()?).ok()
}

/// When something of this age will be as old as `lifetime`.
fn timestamp_in(lifetime: Duration, age: Duration) -> Option<TimestampWithTimeZone> {
    let micros = |time: Duration| i64::try_from(time.as_micros()).ok();
    TimestampWithTimeZone::try_from(server::clock() + micros(lifetime)? - micros(age)?).ok()
}

// The function is one thing and what people see another, which can have columns added to it.
extension_sql!(
    "CREATE VIEW secret_cache AS
        SELECT secret_id, stage, version_id, state, age, expires, hits, region, role_arn, last_error, kind
        FROM secret_cache_entries();",
    name = "secret_cache",
    requires = [secret_cache_entries]
);
