//! The table of schedules.
//!
//! Each has the window that is next, or that is open now. A worker whose turn it is rotates the secret and
//! then notes the next window: a server that dies in between finds it open still, and the run in the
//! table of runs.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::{Spi, pg_sys};
use secretlink_rotation::{Schedule, Strategy, Window};
use secretlink_versions::Issuer;

use super::history::{Tables, given, optional, run, text, write};
use crate::backend::process::server;
use crate::backend::process::transaction::attempt;
use crate::backend::text::Text;

/// The first pause after a rotation that failed within its window, in seconds. Each further one is twice as
/// long.
const FIRST_PAUSE: i64 = 60;
/// The longest one.
const LONGEST_PAUSE: i64 = 3_600;

/// A schedule.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The secret, as it was named.
    pub name: String,
    /// The secret's ARN.
    pub arn: String,
    /// The schedule.
    pub schedule: String,
    /// How long its windows are.
    pub duration: Option<String>,
    /// How the secret is rotated.
    pub strategy: Option<Strategy>,
    /// The master's secret.
    pub master: Option<String>,
    /// When the schedule was made, in seconds since 1970.
    pub since: i64,
    /// When the plan's window begins, exactly as the table has it: that says which window is meant.
    pub next_from: TimestampWithTimeZone,
    /// The window that is open, or next, in whole seconds.
    pub window: Window,
    /// How often it was tried in this window.
    pub attempts: i64,
}

/// What to do about a plan whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Rotate.
    InTime,
    /// Rotate, though the window is over.
    Late,
    /// Wait for the next window.
    Missed,
    /// Nothing: the rotation of this window has been done.
    Done,
}

impl Plan {
    /// The schedule, which was checked when it was made.
    pub(crate) fn parsed(&self) -> Option<Schedule> {
        Schedule::parse(&self.schedule, self.duration.as_deref()).ok()
    }
}

/// The time, in seconds since 1970.
pub(crate) fn now() -> i64 {
    seconds(server::clock())
}

/// Seconds since 1970 of a time of Postgres's, which counts microseconds since 2000. Of infinite times it is one
/// that never comes, or that was over before any other.
pub(crate) fn seconds(time: pg_sys::TimestampTz) -> i64 {
    time.div_euclid(1_000_000) + 946_684_800
}

/// The time of Postgres's of seconds since 1970; `None` if it has none so late.
pub(crate) fn time(seconds: i64) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from((seconds - 946_684_800).checked_mul(1_000_000)?).ok()
}

/// The time that never comes.
fn infinity() -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(pg_sys::TimestampTz::MAX).ok()
}

/// Makes a schedule, or takes one over. In a transaction.
pub(crate) fn put(tables: &Tables, plan: &Plan, issuer: Issuer, is_aws: bool) {
    let sql = format!(
        "INSERT INTO {} AS p (secret_id, arn, schedule, duration, strategy, master_secret_id, is_aws, system_identifier, \
             created_at, next_from, next_to) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, pg_catalog.to_timestamp($9), $10, pg_catalog.to_timestamp($11)) \
         ON CONFLICT (arn) DO UPDATE SET secret_id = excluded.secret_id, schedule = excluded.schedule, \
             duration = excluded.duration, strategy = excluded.strategy, master_secret_id = excluded.master_secret_id, \
             is_aws = excluded.is_aws, system_identifier = excluded.system_identifier, created_at = excluded.created_at, \
             next_from = excluded.next_from, next_to = excluded.next_to, retry_at = NULL, attempts = 0, last_error = NULL",
        tables.plans
    );
    run(
        &sql,
        &[
            given(&plan.name),
            given(&plan.arn),
            given(&plan.schedule),
            optional(plan.duration.as_deref()),
            optional(plan.strategy.map(Strategy::as_str)),
            optional(plan.master.as_deref()),
            is_aws.into(),
            given(&system(issuer)),
            (plan.since as f64).into(),
            plan.next_from.into(),
            (plan.window.to as f64).into(),
        ],
    );
}

/// Ends a schedule. Returns whether there was one. In a transaction.
pub(crate) fn remove(tables: &Tables, secret: &str) -> bool {
    let sql = format!(
        "WITH gone AS (DELETE FROM {} WHERE secret_id OPERATOR(pg_catalog.=) $1 OR arn OPERATOR(pg_catalog.=) $1 RETURNING 1) \
         SELECT pg_catalog.count(*)::pg_catalog.text FROM gone",
        tables.plans
    );
    let count = Spi::connect_mut(|client| {
        client.update(&sql, Some(1), &[given(secret)]).ok()?.first().get_one::<Text>().ok().flatten()
    });
    count.is_some_and(|Text(count)| count != "0")
}

/// The system identifier as the tables keep it: a row of another cluster's means nothing here.
fn system(issuer: Issuer) -> String {
    // As `pg_control_system` has it.
    issuer.system.cast_signed().to_string()
}

/// Plans whose time has come, the oldest first, and how many there are in all.
pub(crate) fn due(tables: &Tables, issuer: Issuer) -> (Vec<Plan>, usize) {
    let condition = "system_identifier = $1 AND NOT is_aws \
         AND greatest(next_from, coalesce(retry_at, '-infinity')) <= clock_timestamp()";
    let found = attempt(|| {
        let sql = format!("SELECT count(*)::text FROM {} WHERE {condition}", tables.plans);
        let all = text(&sql, &[given(&system(issuer))]).and_then(|count| count.parse().ok()).unwrap_or(0);
        if all == 0 {
            return (Vec::new(), 0);
        }
        // Some more than there can be workers: each takes one that no other is at.
        let sql = format!(
            "SELECT secret_id, arn, schedule, duration, strategy, master_secret_id, attempts::text, created_at, next_from, next_to \
             FROM {} WHERE {condition} ORDER BY next_from, arn LIMIT 100",
            tables.plans
        );
        let plans = Spi::connect(|client| {
            let Ok(rows) = client.select(&sql, None, &[given(&system(issuer))]) else { return Vec::new() };
            rows.filter_map(|row| {
                let field = |place| row.get::<Text>(place).ok().flatten().map(|Text(text)| text);
                let time = |place| row.get::<TimestampWithTimeZone>(place).ok().flatten();
                let next_from = time(9)?;
                Some(Plan {
                    name: field(1)?,
                    arn: field(2)?,
                    schedule: field(3)?,
                    duration: field(4),
                    strategy: field(5).and_then(|name| Strategy::parse(&name)),
                    master: field(6),
                    since: seconds(time(8)?.into()),
                    next_from,
                    window: Window { from: seconds(next_from.into()), to: seconds(time(10)?.into()) },
                    attempts: field(7)?.parse().ok()?,
                })
            })
            .collect()
        });
        (plans, all)
    });
    found.unwrap_or_default()
}

/// Looks at a plan once more, by one who has the secret's lock.
pub(crate) fn look_again(tables: &Tables, plan: &Plan) -> Due {
    let same = attempt(|| {
        let sql = format!(
            "SELECT (next_from = $2 AND coalesce(retry_at <= clock_timestamp(), true))::text FROM {} WHERE arn = $1",
            tables.plans
        );
        if text(&sql, &[given(&plan.arn), plan.next_from.into()]).as_deref() != Some("true") {
            return Due::Done;
        }
        let sql = format!(
            "SELECT count(*)::text FROM {} WHERE arn = $1 AND cause <> 'call' AND started_at >= $2 \
                 AND outcome IN ('succeeded', 'managed')",
            tables.runs
        );
        match text(&sql, &[given(&plan.arn), plan.next_from.into()]).as_deref() {
            // It was rotated, and the server died before that was noted here.
            Some("0") | None if now() < plan.window.to => Due::InTime,
            Some("0") | None if plan.parsed().is_some_and(|schedule| schedule.catches_up()) => Due::Late,
            Some("0") | None => Due::Missed,
            Some(_) => Due::Done,
        }
    });
    same.unwrap_or(Due::Done)
}

/// Notes the next window.
pub(crate) fn advance(tables: &Tables, plan: &Plan, error: Option<&str>) {
    let window = plan.parsed().and_then(|schedule| schedule.next(plan.since, now()));
    let times = window.and_then(|window| time(window.from).zip(time(window.to)));
    // Without a next window there is none at all.
    let Some((from, to)) = times.or_else(|| infinity().zip(infinity())) else { return };
    write(|| {
        // A schedule that has been changed meanwhile has its window already.
        let sql = format!(
            "UPDATE {} SET next_from = $3, next_to = $4, attempts = 0, retry_at = NULL, \
                 last_error = $5, last_rotation = CASE WHEN $5 IS NULL THEN clock_timestamp() ELSE last_rotation END \
             WHERE arn = $1 AND next_from = $2",
            tables.plans
        );
        run(&sql, &[given(&plan.arn), plan.next_from.into(), from.into(), to.into(), optional(error)]);
    });
}

/// The secret was not rotated: once more while the window is open, else in the next one.
pub(crate) fn failed(tables: &Tables, plan: &Plan, error: &str) {
    let doublings = u32::try_from(plan.attempts).unwrap_or_default().min(16);
    let pause = (FIRST_PAUSE * 2_i64.pow(doublings)).min(LONGEST_PAUSE);
    if now().saturating_add(pause) >= plan.window.to {
        return advance(tables, plan, Some(error));
    }
    write(|| {
        let sql = format!(
            "UPDATE {} SET attempts = attempts + 1, last_error = $3, \
                 retry_at = clock_timestamp() + make_interval(secs => $4) \
             WHERE arn = $1 AND next_from = $2",
            tables.plans
        );
        run(&sql, &[given(&plan.arn), plan.next_from.into(), given(error), (pause as f64).into()]);
    });
}

/// When a plan is next to be looked at.
pub(crate) fn next(tables: &Tables, issuer: Issuer) -> Option<pg_sys::TimestampTz> {
    attempt(|| {
        let sql = format!(
            "SELECT min(greatest(next_from, coalesce(retry_at, '-infinity'))) FROM {} \
             WHERE system_identifier = $1 AND NOT is_aws AND isfinite(next_from)",
            tables.plans
        );
        let found = Spi::get_one_with_args::<TimestampWithTimeZone>(&sql, &[given(&system(issuer))]);
        found.ok().flatten().map(Into::into)
    })?
}
