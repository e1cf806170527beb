//! The cache of secrets, as SQL sees it.

use pgrx::datum::Interval;
use pgrx::prelude::*;
use std::time::Duration;

use super::{bigint, required};
use crate::backend::process::report::OrRaise;
use crate::backend::process::server;
use crate::backend::text::Text;
use crate::error::Error;
use crate::secrets::cache;

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
    TableIterator::new(cache::view().into_iter().map(|entry| {
        (
            Text(entry.name),
            entry.stage.map(Text),
            entry.version_id.map(Text),
            Text(entry.state.to_owned()),
            entry.age.and_then(interval),
            entry.age.and_then(|age| timestamp_in(entry.lifetime, age)),
            bigint(entry.hits),
            entry.region.map(Text),
            entry.role_arn.map(Text),
            entry.last_error.map(Text),
            entry.kind,
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
