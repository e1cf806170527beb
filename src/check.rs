//! What works on this server, and what does not.

use pgrx::prelude::*;
use secretlink_aws::Check;
use secretlink_remote::conninfo::Options;

use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{io, server};
use crate::connect::login_check;
use crate::error::Error;
use crate::rotation::history;
use crate::secrets::client;
use crate::settings::{self, sync::PasswordSync};
use crate::sync::{roles, states};
use crate::workers::doorbell::{self, Doorbell};

/// The version of this library.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Looks at everything, each thing on its own: what fails is a row, not an ERROR.
///
/// # Errors
/// Only if the I/O thread cannot be had.
pub(crate) fn check(secret_id: Option<String>) -> Result<Vec<Check>, Error> {
    let mut checks = of_server();
    match settings::aws::current() {
        Ok(settings) => {
            let client = client::with(settings);
            let is_written = secret_id.as_deref().is_some_and(roles::is_in_use);
            let work = async move { client.check(secret_id.as_deref(), is_written).await };
            checks.extend(io::run(WaitEvent::SecretsManager, work)?);
        }
        Err(error) => checks.push(Check::failed("settings", &error)),
    }
    Ok(checks)
}

/// Looks at what a login with an IAM token needs, without logging in.
///
/// # Errors
/// If the options make no sense, or the I/O thread cannot be had.
pub(crate) fn check_iam_login(options: Options, region: Option<String>) -> Result<Vec<Check>, Error> {
    let mut checks = of_server();
    match settings::aws::current() {
        Ok(_) => checks.extend(login_check::check_iam_login(options, region)?),
        Err(error) => checks.push(Check::failed("settings", &error)),
    }
    Ok(checks)
}

/// What there is to see without AWS.
fn of_server() -> Vec<Check> {
    let mut checks = vec![versions(), preloaded(), sync_worker(), cache_worker(), rotation_worker()];
    checks.extend(citus());
    checks.extend(schedules());
    checks
}

fn versions() -> Check {
    const ITEM: &str = "version";
    // The caller's search_path may have operators of somebody else's before those meant here.
    let sql =
        "SELECT extversion FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'secretlink'";
    // Only to read: a function that may write would use up a transaction id, which a standby has not.
    let version = Spi::connect(|client| client.select(sql, None, &[])?.first().get_one::<String>());
    match version {
        Ok(Some(version)) if version == VERSION => Check::good(ITEM, version),
        Ok(Some(version)) => Check::bad(
            ITEM,
            format!("The extension is of version {version} here, the library that is loaded of {VERSION}."),
            "Use ALTER EXTENSION secretlink UPDATE; if the library is preloaded, restart the server after an installation.",
        ),
        _ => Check::unknown(ITEM, format!("The library is of version {VERSION}.")),
    }
}

fn preloaded() -> Check {
    match states::are_shared() {
        true => Check::good("preload", "The library is in shared_preload_libraries."),
        false => Check::bad(
            "preload",
            "The library is not preloaded: passwords are not synced, and nothing is shared between sessions.",
            "Add secretlink to shared_preload_libraries and restart the server.",
        ),
    }
}

/// Whether this is a node of a Citus cluster, where only the coordinator is to sync passwords.
fn citus() -> Option<Check> {
    const ITEM: &str = "citus";
    // The catalog is there in a database that has Citus; the coordinator is group 0.
    const READABLE: &str = "SELECT pg_catalog.has_table_privilege(pg_catalog.to_regclass('pg_catalog.pg_dist_local_group'), 'SELECT')";
    // Selected, which takes no transaction id.
    let group = Spi::connect(|client| -> spi::Result<Option<i32>> {
        if client.select(READABLE, Some(1), &[])?.first().get_one::<bool>()? != Some(true) {
            return Ok(None);
        }
        client.select("SELECT groupid FROM pg_catalog.pg_dist_local_group", Some(1), &[])?.first().get_one()
    });
    let group = group.ok()??;
    let is_off = settings::sync::current().mode == PasswordSync::Off;
    Some(match (group, is_off) {
        (0, _) => Check::good(ITEM, "This is the coordinator of a Citus cluster, which syncs passwords."),
        (_, true) => Check::good(ITEM, "This is a worker of a Citus cluster, and syncs no passwords."),
        (_, false) => Check::bad(
            ITEM,
            "This is a worker of a Citus cluster: the coordinator sends it hashes, and labels in prepared transactions.",
            "Set secretlink.password_sync to off on every worker. The coordinator syncs passwords.",
        ),
    })
}

fn sync_worker() -> Check {
    worker("worker", &doorbell::SYNC, server::is_standby().then_some("There is none on a standby."))
}

fn cache_worker() -> Check {
    let none = (settings::cache::size() == 0).then_some("There is none without a cache.");
    worker("cache worker", &doorbell::CACHE, none)
}

fn rotation_worker() -> Check {
    let none = server::is_standby().then_some("There is none on a standby.");
    worker("rotation worker", &doorbell::ROTATION, none)
}

/// Whether all secrets were rotated in their windows, where schedules are kept and may be seen.
fn schedules() -> Option<Check> {
    const ITEM: &str = "rotation schedules";
    let tables = history::find_tables()?;
    let sql = format!(
        "SELECT pg_catalog.has_table_privilege({}, 'SELECT')::pg_catalog.text",
        pgrx::spi::quote_literal(&tables.schedules)
    );
    if history::text(&sql, &[]).as_deref() != Some("true") {
        return None;
    }
    let count = |condition: &str| -> i64 {
        let sql = format!(
            "SELECT pg_catalog.count(*)::pg_catalog.text FROM {} WHERE state OPERATOR(pg_catalog.<>) 'aws' AND {condition}",
            tables.schedules
        );
        history::text(&sql, &[]).and_then(|count| count.parse().ok()).unwrap_or_default()
    };
    let all = count("true");
    if all == 0 {
        return None;
    }
    let inert = count("state OPERATOR(pg_catalog.=) 'inert'");
    let overdue = count(
        "state OPERATOR(pg_catalog.<>) 'inert' AND (last_error IS NOT NULL \
             OR pg_catalog.upper(\"window\") OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())",
    );
    Some(match (overdue, inert) {
        (0, 0) => Check::good(ITEM, format!("No secret is overdue, of {all}.")),
        (0, _) => Check::bad(
            ITEM,
            format!(
                "Of {all} schedules {inert} are inert: they came with a backup, or from another cluster."
            ),
            "Use schedule_rotation to take them over, or unschedule_rotation.",
        ),
        _ => Check::bad(
            ITEM,
            format!("Of {all} secrets {overdue} were not rotated in their last window, or are overdue."),
            "See last_error in rotation_schedule, and rotation_history.",
        ),
    })
}

/// Whether a worker runs. `none` says why there is to be none, if so.
fn worker(item: &'static str, doorbell: &Doorbell, none: Option<&str>) -> Check {
    if doorbell.is_answered() {
        Check::good(item, "It runs.")
    } else if !states::are_shared() {
        Check::unknown(item, "There is none without preloading.")
    } else if !server::has_postmaster() {
        Check::unknown(item, "There is none without a postmaster.")
    } else if let Some(why) = none {
        Check::unknown(item, why)
    } else {
        Check::bad(item, "It does not run.", "See the server's log, and max_worker_processes.")
    }
}
