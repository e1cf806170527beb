//! The views `secretlink_stats` and `secretlink_aws_calls`, and their reset.

use pgrx::prelude::*;

use super::bigint;
use crate::secrets::cache;
use crate::stats::{self, AwsCalls, Counter};

/// The counters, in one row.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity, reason = "the columns")]
fn secretlink_stat_counters() -> TableIterator<
    'static,
    (
        name!(cache_hits, i64),
        name!(cache_misses, i64),
        name!(cache_waits, i64),
        name!(cache_stale_serves, i64),
        name!(cache_refreshes, i64),
        name!(aws_calls, i64),
        name!(aws_failures, i64),
        name!(connections_opened, i64),
        name!(connections_failed, i64),
        name!(connections_retried, i64),
        name!(rows_received, i64),
        name!(bytes_received, i64),
        name!(iam_tokens_signed, i64),
        name!(rotations_succeeded, i64),
        name!(rotations_failed, i64),
        name!(stats_reset, Option<TimestampWithTimeZone>),
    ),
> {
    let counter = |counter| bigint(stats::get(counter));
    let aws = stats::aws_calls();
    let calls = aws.iter().map(|calls| calls.calls).sum();
    let failures = aws.iter().filter(|calls| calls.outcome.is_failure()).map(|calls| calls.calls).sum();
    TableIterator::once((
        counter(Counter::CacheHits),
        counter(Counter::CacheMisses),
        counter(Counter::CacheWaits),
        counter(Counter::CacheStaleServes),
        counter(Counter::CacheRenewals),
        bigint(calls),
        bigint(failures),
        counter(Counter::ConnectionsOpened),
        counter(Counter::ConnectionsFailed),
        counter(Counter::ConnectionsRetried),
        counter(Counter::RowsReceived),
        counter(Counter::BytesReceived),
        counter(Counter::IamTokensSigned),
        counter(Counter::RotationsSucceeded),
        counter(Counter::RotationsFailed),
        TimestampWithTimeZone::try_from(stats::last_reset()).ok(),
    ))
}

/// The calls to AWS, one row for each operation and outcome that there were.
#[pg_extern(volatile, parallel_restricted)]
#[allow(clippy::type_complexity, reason = "the columns")]
fn secretlink_stat_aws_calls() -> TableIterator<
    'static,
    (
        name!(operation, &'static str),
        name!(outcome, &'static str),
        name!(calls, i64),
        name!(total_ms, f64),
        name!(max_ms, f64),
        name!(latency_ms_le, Vec<f64>),
        name!(latency_ms_bucket, Vec<i64>),
    ),
> {
    TableIterator::new(stats::aws_calls().into_iter().map(|calls| {
        (
            calls.operation.as_str(),
            calls.outcome.as_str(),
            bigint(calls.calls),
            calls.total_ms,
            calls.max_ms,
            AwsCalls::limits_ms(),
            calls.within.into_iter().map(bigint).collect(),
        )
    }))
}

/// Makes all of it zero.
#[pg_extern(volatile, parallel_restricted)]
fn secretlink_stats_reset() {
    stats::reset();
    cache::reset_hits();
}

extension_sql!(
    "CREATE VIEW secretlink_aws_calls AS
        SELECT operation, outcome, calls, total_ms, max_ms, latency_ms_le, latency_ms_bucket
        FROM secretlink_stat_aws_calls();
     CREATE VIEW secretlink_stats AS
        SELECT cache_hits, cache_misses, cache_waits, cache_stale_serves, cache_refreshes,
               aws_calls, aws_failures, connections_opened, connections_failed, connections_retried,
               rows_received, bytes_received, stats_reset, iam_tokens_signed, rotations_succeeded, rotations_failed
        FROM secretlink_stat_counters();",
    name = "secretlink_stats",
    requires = [secretlink_stat_counters, secretlink_stat_aws_calls]
);
