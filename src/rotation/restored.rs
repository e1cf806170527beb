//! A server that was restored from a backup leaves the schedules in it to the one that it is a copy of.
//!
//! A copy has the system identifier of its original, and one that was restored to some point in time has a
//! timeline of its own, as a standby that was promoted has. What tells them apart is how the server starts:
//! with `backup_label` or `recovery.signal` in its data directory, and without `standby.signal`. That is seen
//! before recovery begins, which takes these files away, and kept in a file until the schedules are marked.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use super::history::{Tables, given, run};
use crate::backend::process::transaction::attempt;

/// The name of the mark, a file in the data directory, which is the working directory of every process of the server.
const MARK: &str = "secretlink_restored";

/// What schedules that are left to the original have in place of a system identifier.
const NO_SYSTEM: &str = "restored";

/// Notes how this server starts. For the postmaster, while it loads libraries.
pub(crate) fn note() {
    let has = |name: &str| Path::new(name).exists();
    if (has("backup_label") || has("recovery.signal")) && !has("standby.signal") {
        // A postmaster that cannot write here has not come so far.
        let _ = File::create(MARK).and_then(|file| file.sync_all());
    }
}

/// When this server was restored, in seconds since 1970, if its schedules may not be marked yet. With the part of a
/// second: a schedule may have been made just before the backup.
fn noted() -> Option<f64> {
    let modified = fs::metadata(MARK).ok()?.modified().ok()?;
    Some(modified.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64())
}

/// Makes the schedules inert that this server was restored with. For a worker, before it looks at them.
/// Returns whether they can be looked at.
pub(crate) fn leave_schedules_to_the_original(tables: &Tables) -> bool {
    let Some(since) = noted() else { return true };
    let marked = attempt(|| {
        // Those that were made, or taken over, since then are this server's own.
        let sql = format!(
            "UPDATE {} SET system_identifier = $1 WHERE NOT is_aws AND created_at < to_timestamp($2)",
            tables.plans
        );
        run(&sql, &[given(NO_SYSTEM), since.into()]);
    });
    // A worker that does it once more finds nothing to mark.
    marked.is_some() && (fs::remove_file(MARK).is_ok() || noted().is_none())
}
