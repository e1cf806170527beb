//! What the view `secret_cache` shows of each entry: all but the value.

use secretlink_aws::SecretId;
use secretlink_cache::{Listed, Moment, SharedError, Subject, Timing};
use std::time::Duration;

use super::memory::{self, now};
use crate::settings;

/// One row of the view.
pub(crate) struct EntryView {
    /// `secret` or `iam_token`.
    pub kind: &'static str,
    /// The secret as it was named, or the login.
    pub name: String,
    /// The staging label that was asked for.
    pub stage: Option<String>,
    /// The version that is kept, or that was asked for.
    pub version_id: Option<String>,
    /// What becomes of a request for it now.
    pub state: &'static str,
    /// For how long the value has been kept. `None` if there is no value.
    pub age: Option<Duration>,
    /// How old the value may become.
    pub lifetime: Duration,
    /// How often it was used.
    pub hits: u64,
    /// The region in which it is asked for.
    pub region: Option<String>,
    /// The role as which it is asked for.
    pub role_arn: Option<String>,
    /// The last error, if the last request failed.
    pub last_error: Option<String>,
}

/// All rows, those used last at the end.
pub(crate) fn view() -> Vec<EntryView> {
    let (now, timing) = (now(), settings::cache::timing());
    memory::with(|store| store.list())
        .unwrap_or_default()
        .into_iter()
        .map(|entry| EntryView::of(entry, now, &timing))
        .collect()
}

impl EntryView {
    fn of(entry: Listed, now: Moment, timing: &Timing) -> EntryView {
        let given = |text: String| (!text.is_empty()).then_some(text);
        let has_value = entry.version_id.is_some();
        let age = now - entry.asked;
        let (lifetime, usable) = match entry.ends {
            Some(ends) => (ends - entry.asked, ends - entry.asked),
            None => (timing.ttl, timing.ttl + timing.max_stale),
        };
        let state = match () {
            () if entry.is_asked => "asking",
            () if !has_value => "failed",
            () if age < lifetime => "fresh",
            () if age < usable => "stale",
            () => "expired",
        };
        let region = region(&entry);
        let (kind, name, stage, version_id) = match entry.key.subject {
            Subject::Secret { id, stage, version_id } => ("secret", id, stage, version_id),
            Subject::IamToken { login, .. } => ("iam_token", login, String::new(), String::new()),
        };
        EntryView {
            kind,
            name,
            stage: given(stage),
            version_id: entry.version_id.or(Some(version_id)).and_then(given),
            state,
            age: has_value.then_some(age),
            lifetime,
            hits: entry.hits,
            region,
            role_arn: given(entry.key.role_arn),
            last_error: entry.error.map(|report| SharedError::from_bytes(&report).to_string()),
        }
    }
}

/// The region in which an entry's secret is asked for: that of its ARN, else the one of its foreign server,
/// of the settings or of the environment. `None` if it takes a profile or the instance to tell.
fn region(entry: &Listed) -> Option<String> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let of_arn = |arn: &str| SecretId::parse(arn).ok()?.region().map(str::to_owned);
    of_arn(&entry.arn)
        .or_else(|| match &entry.key.subject {
            Subject::Secret { id, .. } => of_arn(id),
            Subject::IamToken { region, .. } => given(region),
        })
        .or_else(|| given(&entry.key.region))
        .or_else(|| settings::aws::current().ok()?.region)
        .or_else(secretlink_aws::region::of_environment)
}
