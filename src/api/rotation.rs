//! Rotation, as SQL sees it.

use pgrx::datum::Range;
use pgrx::prelude::*;

use super::error::ArgumentError;
use super::{optional, required};
use crate::backend::process::report::OrRaise;
use crate::backend::text::Text;
use crate::error::Error;
use crate::rotation::ask;
use crate::rotation::error::RotationError;
use crate::rotation::scheduling::{self, Wish};

/// Gives a secret's role a new password, and returns the version of the secret that is then current.
#[pg_extern(volatile, parallel_unsafe)]
fn rotate_secret(
    secret_id: Option<Text>,
    strategy: default!(Option<Text>, "NULL"),
    master_secret_id: default!(Option<Text>, "NULL"),
) -> Text {
    let rotate = || -> Result<String, Error> {
        let secret_id = required(secret_id, "secret_id")?;
        let strategy = ask::strategy(optional(strategy, "strategy")?)?;
        Ok(ask::rotate(&secret_id, strategy, optional(master_secret_id, "master_secret_id")?)?)
    };
    Text(rotate().or_raise())
}

/// What a rotation would do, and what is missing for it. Changes nothing.
#[pg_extern(volatile, parallel_restricted)]
fn check_rotation(
    secret_id: Option<Text>,
    strategy: default!(Option<Text>, "NULL"),
    master_secret_id: default!(Option<Text>, "NULL"),
) -> TableIterator<
    'static,
    (name!(item, &'static str), name!(ok, Option<bool>), name!(detail, Text), name!(hint, Option<Text>)),
> {
    let check = || -> Result<_, Error> {
        let secret_id = required(secret_id, "secret_id")?;
        let strategy = ask::strategy(optional(strategy, "strategy")?)?;
        Ok(ask::check(&secret_id, strategy, optional(master_secret_id, "master_secret_id")?)?)
    };
    let checks = check().or_raise();
    TableIterator::new(
        checks.into_iter().map(|check| (check.item, check.ok, Text(check.detail), check.hint.map(Text))),
    )
}

/// Rotates a secret by a schedule from now on, and returns when its next window begins.
#[pg_extern(volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn schedule_rotation(
    secret_id: Option<Text>,
    schedule: Option<Text>,
    duration: default!(Option<Text>, "NULL"),
    strategy: default!(Option<Text>, "NULL"),
    master_secret_id: default!(Option<Text>, "NULL"),
) -> Option<TimestampWithTimeZone> {
    let schedule = || -> Result<_, Error> {
        Ok(scheduling::schedule(Wish {
            secret: required(secret_id, "secret_id")?,
            schedule: required(schedule, "schedule")?,
            duration: optional(duration, "duration")?,
            strategy: ask::strategy(optional(strategy, "strategy")?)?,
            master: optional(master_secret_id, "master_secret_id")?,
        })?)
    };
    schedule().or_raise()
}

/// Ends a schedule. Returns whether there was one.
#[pg_extern(volatile, parallel_unsafe, security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn unschedule_rotation(secret_id: Option<Text>) -> bool {
    let unschedule =
        || -> Result<_, Error> { Ok(scheduling::unschedule(&required(secret_id, "secret_id")?)?) };
    unschedule().or_raise()
}

/// The most windows that are listed.
const MOST_WINDOWS: i32 = 100_000;

/// The next windows of a schedule.
#[pg_extern(stable, parallel_safe)]
fn next_rotations(
    schedule: Option<Text>,
    duration: default!(Option<Text>, "NULL"),
    after: default!(Option<TimestampWithTimeZone>, "now()"),
    count: default!(Option<i32>, 5),
) -> SetOfIterator<'static, Range<TimestampWithTimeZone>> {
    let windows = || -> Result<_, Error> {
        let schedule = required(schedule, "schedule")?;
        let after = after.ok_or(ArgumentError::Null("after"))?;
        let count = count.ok_or(ArgumentError::Null("count"))?;
        if !(0..=MOST_WINDOWS).contains(&count) {
            return Err(RotationError::Count("count").into());
        }
        let duration = optional(duration, "duration")?;
        Ok(scheduling::windows(&schedule, duration.as_deref(), after, count.unsigned_abs() as usize)?)
    };
    let windows = windows().or_raise();
    SetOfIterator::new(windows.into_iter().map(|(from, to)| Range::from(from..to)))
}

extension_sql!(
    r#"
CREATE TABLE rotation_run (
    run bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    secret_id text NOT NULL,
    arn text,
    cause text NOT NULL,
    strategy text,
    master_secret_id text,
    step text NOT NULL,
    version_id text,
    from_version_id text,
    attempts int NOT NULL DEFAULT 1,
    outcome text,
    error text,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    retry_at timestamptz
);
CREATE INDEX ON rotation_run (arn) WHERE finished_at IS NULL;
CREATE INDEX ON rotation_run (finished_at);

CREATE TABLE rotation_plan (
    secret_id text NOT NULL,
    arn text PRIMARY KEY,
    schedule text NOT NULL,
    duration text,
    strategy text,
    master_secret_id text,
    is_aws boolean NOT NULL,
    system_identifier text NOT NULL,
    created_at timestamptz NOT NULL,
    next_from timestamptz NOT NULL,
    next_to timestamptz NOT NULL,
    retry_at timestamptz,
    attempts int NOT NULL DEFAULT 0,
    last_error text,
    last_rotation timestamptz,
    CHECK (next_from <= next_to)
);
SELECT pg_catalog.pg_extension_config_dump('rotation_plan', '');

CREATE VIEW rotation_schedule AS
    SELECT p.secret_id, p.strategy, p.schedule, p.duration, tstzrange(p.next_from, p.next_to) AS "window",
           CASE WHEN p.system_identifier <> (SELECT system_identifier::text FROM pg_control_system()) THEN 'inert'
                WHEN p.is_aws THEN 'aws'
                WHEN r.run IS NOT NULL THEN 'running'
                WHEN p.next_from <= clock_timestamp() THEN 'due'
                ELSE 'waiting' END AS state,
           r.step, coalesce(r.attempts, p.attempts) AS attempts, coalesce(r.error, p.last_error) AS last_error,
           p.last_rotation
    FROM rotation_plan p LEFT JOIN rotation_run r ON r.arn = p.arn AND r.finished_at IS NULL;

CREATE VIEW rotation_history AS
    SELECT run, secret_id, cause, strategy, step, from_version_id, version_id, attempts, outcome, error,
           started_at, finished_at
    FROM rotation_run;
"#,
    name = "rotation_tables",
);
