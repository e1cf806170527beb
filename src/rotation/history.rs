//! The table of runs: what is under way, and what has been.
//!
//! It is in the schema of the extension in the database `secretlink.database`. A run that has no
//! `finished_at` is under way. All functions here are for a worker that is connected to that database,
//! outside of any transaction; each is one.

use pgrx::datum::DatumWithOid;
use pgrx::{Spi, pg_sys};
use secretlink_aws::SecretId;
use secretlink_rotation::{Job, RunOutcome, Step, Strategy};
use std::cell::Cell;
use std::fmt::Display;
use std::time::Duration;

use crate::backend::process::transaction::{attempt, force_synchronous_commit};
use crate::backend::text::{ServerText, Text, to_server};

/// Why a run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// `rotate_secret`.
    Call,
    /// A schedule.
    Schedule,
    /// A schedule whose window was over when the server came to it.
    MissedSchedule,
}

impl Cause {
    /// The cause's name in `rotation_history`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Cause::Call => "call",
            Cause::Schedule => "schedule",
            Cause::MissedSchedule => "missed_schedule",
        }
    }
}

/// A run that is not over.
pub(crate) struct Unfinished {
    /// The number of the run's row.
    pub id: i64,
    /// The secret as it was named.
    pub name: String,
    /// What is rotated, and with which version.
    pub job: Job,
    /// How far it came.
    pub step: Step,
    /// How the run ended, if only `AWSPENDING` has to go.
    pub outcome: Option<RunOutcome>,
    /// How often it was tried.
    pub attempts: i32,
}

/// Where the tables are.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    /// `schema.rotation_run`
    pub runs: String,
    /// `schema.rotation_plan`
    pub plans: String,
    /// `schema.rotation_schedule`
    pub schedules: String,
}

thread_local! {
    /// Something could not be written down.
    static STUCK: Cell<bool> = const { Cell::new(false) };
}

/// Writes something down, in a transaction of its own. Returns whether that is done.
pub(crate) fn write(work: impl FnOnce()) -> bool {
    let done = attempt(work).is_some();
    STUCK.set(STUCK.get() || !done);
    done
}

/// Whether this process could not write something down, as on a disk that is full. What is due then stays due:
/// there is to be a pause before the next look.
pub(crate) fn is_stuck() -> bool {
    STUCK.get()
}

/// Finds the tables; `None` if the extension is not installed in this database.
pub(crate) fn tables() -> Option<Tables> {
    attempt(find_tables)?
}

/// Finds the tables as [`tables`] does, inside of a transaction that is open.
pub(crate) fn find_tables() -> Option<Tables> {
    // The extension's own tables, and no others that somebody has given these names.
    let sql = "SELECT pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace \
         JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid \
         JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
             AND d.objid OPERATOR(pg_catalog.=) c.oid AND d.refobjid OPERATOR(pg_catalog.=) e.oid \
         WHERE e.extname OPERATOR(pg_catalog.=) 'secretlink' AND c.relname OPERATOR(pg_catalog.=) 'rotation_run'";
    let schema = text(sql, &[])?;
    let named = |name| format!("{schema}.{name}");
    Some(Tables {
        runs: named("rotation_run"),
        plans: named("rotation_plan"),
        schedules: named("rotation_schedule"),
    })
}

/// The first value of the first row. What SPI itself finds wrong raises ERROR; there is nothing else.
pub(crate) fn text(sql: &str, arguments: &[DatumWithOid<'_>]) -> Option<String> {
    let value = Spi::connect(|client| {
        client.select(sql, Some(1), arguments).ok()?.first().get_one::<Text>().ok().flatten()
    });
    value.map(|Text(text)| text)
}

/// Runs a statement.
pub(crate) fn run(sql: &str, arguments: &[DatumWithOid<'_>]) {
    let _ = Spi::run_with_args(sql, arguments);
}

/// A text as an argument. What another server says may have characters that this database has not: that prevents
/// nothing from being written down.
pub(crate) fn given(text: &str) -> DatumWithOid<'_> {
    storable(text).into()
}

/// A text that may be missing as an argument, as [`given`] makes it.
pub(crate) fn optional<'a>(text: Option<&str>) -> DatumWithOid<'a> {
    text.map(storable).into()
}

fn storable(text: &str) -> ServerText {
    ServerText(to_server(text).into_bytes())
}

/// How many characters of an error are written down. In a notification each takes up to six bytes, of fewer than 8,000
/// in all.
const REASON: usize = 900;

/// An error as it is written down: its beginning, since it may hold as much as another server says.
pub(crate) fn reason(error: &impl Display) -> String {
    let text = error.to_string();
    match text.char_indices().nth(REASON) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "...",
        None => text,
    }
}

/// What a worker's session begins with: names mean what they say, and what it commits is kept.
pub(crate) fn prepare_session() -> bool {
    attempt(|| {
        run("SET search_path TO pg_catalog, pg_temp", &[]);
        // A new password that may be in force has to be brought to its end.
        run("SET default_transaction_read_only TO off", &[]);
        run(
            "SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') IN ('off', 'local')",
            &[],
        );
    })
    .is_some()
}

/// Writes down a run that is about to begin, unless one of the same secret is under way. To be called
/// under the secret's lock. `None` if the run could not be written down.
pub(crate) fn begin(tables: &Tables, name: &str, job: &Job, cause: Cause) -> Option<Begun> {
    attempt(|| {
        if let Some(row) = unfinished(tables, "arn = $1", &[given(job.secret.as_str())]).into_iter().next() {
            return Some(Begun::TakenUp(row));
        }
        force_synchronous_commit();
        let sql = format!(
            "INSERT INTO {} (secret_id, arn, cause, strategy, master_secret_id, step, version_id, from_version_id) \
             VALUES ($1, $2, $3, $4, $5, 'createSecret', $6, $7) RETURNING run::text",
            tables.runs
        );
        let arguments = [
            given(name),
            given(job.secret.as_str()),
            given(cause.as_str()),
            given(job.strategy.as_str()),
            optional(job.master.as_ref().map(SecretId::as_str)),
            given(&job.version_id),
            optional(job.from.as_deref()),
        ];
        inserted(&sql, &arguments).map(Begun::New)
    })?
}

/// What came of [`begin`].
pub(crate) enum Begun {
    /// The run has this number.
    New(i64),
    /// There is one already, which has to be brought to its end.
    TakenUp(Unfinished),
}

fn inserted(sql: &str, arguments: &[DatumWithOid<'_>]) -> Option<i64> {
    let value = Spi::connect_mut(|client| {
        client.update(sql, Some(1), arguments).ok()?.first().get_one::<Text>().ok().flatten()
    });
    value.and_then(|Text(text)| text.parse().ok())
}

/// Writes down a run that ended before it began.
pub(crate) fn failed_at_once(
    tables: &Tables,
    name: &str,
    cause: Cause,
    strategy: Option<Strategy>,
    error: &str,
) {
    write(|| {
        let sql = format!(
            "INSERT INTO {} (secret_id, cause, strategy, step, outcome, error, finished_at) \
             VALUES ($1, $2, $3, 'createSecret', 'failed', $4, clock_timestamp())",
            tables.runs
        );
        run(
            &sql,
            &[given(name), given(cause.as_str()), optional(strategy.map(Strategy::as_str)), given(error)],
        );
    });
}

/// Runs of this server that are not over and whose turn it is.
pub(crate) fn due(tables: &Tables) -> Vec<Unfinished> {
    attempt(|| unfinished(tables, "coalesce(retry_at <= clock_timestamp(), true)", &[])).unwrap_or_default()
}

fn unfinished(tables: &Tables, condition: &str, arguments: &[DatumWithOid<'_>]) -> Vec<Unfinished> {
    let sql = format!(
        "SELECT run::text, secret_id, arn, strategy, master_secret_id, step, version_id, from_version_id, outcome, \
             attempts::text \
         FROM {} WHERE finished_at IS NULL AND {condition} ORDER BY retry_at NULLS FIRST, run LIMIT 100",
        tables.runs
    );
    Spi::connect(|client| {
        let Ok(rows) = client.select(&sql, None, arguments) else { return Vec::new() };
        rows.filter_map(|row| {
            let field = |place| row.get::<Text>(place).ok().flatten().map(|Text(text)| text);
            let secret = |text: String| SecretId::parse(&text).ok();
            Some(Unfinished {
                id: field(1)?.parse().ok()?,
                name: field(2)?,
                job: Job {
                    secret: secret(field(3)?)?,
                    strategy: Strategy::parse(&field(4)?)?,
                    master: field(5).and_then(secret),
                    version_id: field(7)?,
                    from: field(8),
                },
                step: Step::parse(&field(6)?)?,
                outcome: field(9).and_then(|name| RunOutcome::parse(&name)),
                attempts: field(10)?.parse().ok()?,
            })
        })
        .collect()
    })
}

/// A run has come as far as this step, which is about to begin. It is on disk when this returns `true`.
pub(crate) fn note_step(tables: &Tables, id: i64, step: Step) -> bool {
    attempt(|| {
        force_synchronous_commit();
        let sql = format!("UPDATE {} SET step = $2 WHERE run = $1 RETURNING run::text", tables.runs);
        inserted(&sql, &[id.into(), given(step.as_str())]).is_some()
    })
    .unwrap_or_default()
}

/// A run ended like this; whether `AWSPENDING` is gone, too, is written down by [`note_over`].
pub(crate) fn note_outcome(
    tables: &Tables,
    id: i64,
    outcome: RunOutcome,
    error: Option<&str>,
    payload: &str,
) {
    write(|| {
        force_synchronous_commit();
        let sql =
            format!("UPDATE {} SET outcome = $2, error = $3, retry_at = NULL WHERE run = $1", tables.runs);
        run(&sql, &[id.into(), given(outcome.as_str()), optional(error)]);
        notify(payload);
    });
}

/// A run has to wait. The reason of an outcome that was told stays.
pub(crate) fn note_later(tables: &Tables, id: i64, error: Option<&str>, pause: Duration) {
    write(|| {
        let sql = format!(
            "UPDATE {} SET attempts = attempts + 1, \
                 error = CASE WHEN outcome IS NULL THEN coalesce($2, error) ELSE error END, \
                 retry_at = clock_timestamp() + make_interval(secs => $3) WHERE run = $1",
            tables.runs
        );
        run(&sql, &[id.into(), optional(error), pause.as_secs_f64().into()]);
    });
}

/// How a run ended, with its version and its error; `None` if that is not clear yet.
pub(crate) fn outcome_of(tables: &Tables, id: i64) -> Option<(RunOutcome, String, String)> {
    attempt(|| {
        let field = |column: &str| {
            text(&format!("SELECT {column} FROM {} WHERE run = $1", tables.runs), &[id.into()])
        };
        let outcome = RunOutcome::parse(&field("outcome")?)?;
        Some((outcome, field("version_id").unwrap_or_default(), field("error").unwrap_or_default()))
    })?
}

/// Whether a run's row is not there any more.
pub(crate) fn is_gone(tables: &Tables, id: i64) -> bool {
    let count =
        attempt(|| text(&format!("SELECT count(*)::text FROM {} WHERE run = $1", tables.runs), &[id.into()]));
    count.flatten().as_deref() == Some("0")
}

/// Notes that a run is over: nothing is left to be done.
pub(crate) fn note_over(tables: &Tables, id: i64) {
    write(|| {
        force_synchronous_commit();
        let sql = format!(
            "UPDATE {} SET finished_at = clock_timestamp(), retry_at = NULL WHERE run = $1",
            tables.runs
        );
        run(&sql, &[id.into()]);
    });
}

/// `NOTIFY secretlink`. In a transaction.
pub(crate) fn notify(payload: &str) {
    run("SELECT pg_catalog.pg_notify('secretlink', $1)", &[given(payload)]);
}

/// When there is something to do next, as far as the runs go; and forgets what is old.
pub(crate) fn next(tables: &Tables, keep: Duration) -> Option<pg_sys::TimestampTz> {
    attempt(|| {
        let sql = format!(
            "DELETE FROM {} WHERE finished_at < clock_timestamp() - make_interval(secs => $1)",
            tables.runs
        );
        run(&sql, &[keep.as_secs_f64().into()]);
        let sql = format!(
            "SELECT min(coalesce(retry_at, started_at)) FROM {} WHERE finished_at IS NULL",
            tables.runs
        );
        Spi::get_one::<pgrx::datum::TimestampWithTimeZone>(&sql).ok().flatten().map(Into::into)
    })?
}
