//! Making and ending schedules, in a session.

use pgrx::datum::TimestampWithTimeZone;
use secretlink_aws::{RotationRules, SecretId};
use secretlink_rotation::{Schedule, Strategy, Trouble, managed_by};
use secretlink_versions::Origin;

use super::ask::check_server;
use super::error::RotationError;
use super::history::{self, Tables};
use super::plans::{self, Plan};
use super::registry;
use crate::backend::process::server;
use crate::secrets::client;
use crate::settings;
use crate::workers::doorbell;

/// What `schedule_rotation` is given.
pub(crate) struct Wish {
    /// The secret.
    pub secret: String,
    /// The schedule.
    pub schedule: String,
    /// How long its windows are.
    pub duration: Option<String>,
    /// How the secret is rotated.
    pub strategy: Option<Strategy>,
    /// The master's secret.
    pub master: Option<String>,
}

/// The tables, which are in one database only.
fn tables() -> Result<Tables, RotationError> {
    let database = settings::rotation::database().ok_or(RotationError::TurnedOff)?;
    if server::database_name().as_bytes() != database.to_bytes() {
        return Err(RotationError::OtherDatabase(database.to_string_lossy().into_owned()));
    }
    let name = || database.to_string_lossy().into_owned();
    history::find_tables().ok_or_else(|| RotationError::NotInstalled(name()))
}

/// Schedules rotations, and returns when the next window begins.
///
/// # Errors
/// If the schedule makes no sense, or the secret cannot be rotated.
pub(crate) fn schedule(wish: Wish) -> Result<Option<TimestampWithTimeZone>, RotationError> {
    let id = SecretId::parse(&wish.secret)?;
    id.check_form()?;
    let schedule =
        Schedule::parse(&wish.schedule, wish.duration.as_deref()).map_err(RotationError::Schedule)?;
    schedule.check_interval().map_err(RotationError::Schedule)?;
    check_server()?;
    let tables = tables()?;
    let (now, wanted) = (plans::now(), wish.strategy);
    let never = || RotationError::NoWindow(wish.schedule.clone());
    let window = schedule.next(now, now).ok_or_else(never)?;
    let next_from = plans::time(window.from).ok_or_else(never)?;
    let issuer = server::issuer().ok_or(RotationError::Standby)?;
    let looked = id.clone();
    let stages = client::call(|aws| async move { aws.stages(&looked).await })?;
    let owner = managed_by(&stages);
    let is_aws = match wanted {
        Some(Strategy::Managed) if owner.is_none() => {
            return Err(RotationError::from(Trouble::NotManaged { secret: wish.secret }));
        }
        Some(Strategy::SingleUser | Strategy::AlternatingUsers) if stages.owning_service.is_some() => {
            let by = stages.owning_service.unwrap_or_default();
            return Err(RotationError::from(Trouble::ManagedElsewhere { secret: wish.secret, by }));
        }
        Some(Strategy::SingleUser | Strategy::AlternatingUsers) => false,
        Some(Strategy::Managed) | None => owner.is_some(),
    };
    let plan = Plan {
        name: wish.secret,
        arn: stages.arn,
        schedule: wish.schedule,
        duration: wish.duration,
        strategy: if is_aws { Some(Strategy::Managed) } else { wanted },
        master: wish.master,
        since: now,
        next_from,
        window,
        attempts: 0,
    };
    let mut begins = Some(next_from);
    if is_aws {
        // It is AWS's from now on; the row is there to show it.
        let rules = RotationRules {
            schedule: Some(plan.schedule.clone()),
            duration: plan.duration.clone(),
            after_days: None,
        };
        let token = issuer
            .new_version_id(Origin::Rotation)
            .map_err(|error| RotationError::from(Trouble::from(error)))?;
        let stages = client::call(|aws| async move {
            aws.rotate_secret(&id, &token, Some(&rules)).await?;
            aws.stages(&id).await
        })?;
        let next = stages.next_rotation.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        if let Some(next) = next.and_then(|since| i64::try_from(since.as_secs()).ok()) {
            begins = plans::time(next);
        }
    }
    plans::put(&tables, &plan, issuer, is_aws);
    // A worker that looks before this transaction has committed looks again.
    registry::look_at_latest(server::clock());
    doorbell::ROTATION.ring();
    Ok(begins)
}

/// Ends a schedule.
///
/// # Errors
/// If this is not the database for it.
pub(crate) fn unschedule(secret: &str) -> Result<bool, RotationError> {
    Ok(plans::remove(&tables()?, secret))
}

/// The windows of a schedule that begin after a time.
///
/// # Errors
/// What is wrong with the schedule.
pub(crate) fn windows(
    schedule: &str,
    duration: Option<&str>,
    after: TimestampWithTimeZone,
    count: usize,
) -> Result<Vec<(TimestampWithTimeZone, TimestampWithTimeZone)>, RotationError> {
    let schedule = Schedule::parse(schedule, duration).map_err(RotationError::Schedule)?;
    let since = plans::seconds(after.into());
    let mut found = Vec::new();
    let mut last = since;
    while found.len() < count {
        let Some(window) = schedule.next(since, last) else { break };
        last = window.from;
        let Some(pair) = plans::time(window.from).zip(plans::time(window.to)) else { break };
        found.push(pair);
    }
    Ok(found)
}
