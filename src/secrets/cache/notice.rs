//! What the server's log is told of the cache.

use secretlink_cache::{Contents, Finish, Key, Moment, Timing};
use secretlink_core::{Report, SqlState};
use thiserror::Error;

use crate::error::Error as SqlError;

/// Something worth a line. Never a value.
#[derive(Debug, Error)]
pub enum Notice {
    /// AWS cannot be asked, and the old value is used.
    #[error("secret \"{secret}\" could not be read again, and the value read before is used")]
    Stale { secret: String, reason: String, seconds_left: u64 },
    /// It can again.
    #[error("secret \"{secret}\" can be read again")]
    Recovered { secret: String },
    /// A value that was there before is refused now.
    #[error("secret \"{secret}\" could not be read again")]
    Refused { secret: String, reason: String },
    /// There is another version.
    #[error("secret \"{secret}\" has a new version")]
    Changed { secret: String, stage: String, version_id: String },
}

impl Notice {
    /// What is new about the end of a request, if anything.
    pub fn of(
        key: &Key,
        came: &Result<Contents, SqlError>,
        finish: &Finish,
        timing: &Timing,
        now: Moment,
    ) -> Option<Notice> {
        let secret = key.secret_id.clone();
        match (finish, came) {
            (Finish::Stale { found, news: true }, Err(error)) => Some(Notice::Stale {
                secret,
                reason: reason(error),
                seconds_left: (found.asked + timing.ttl + timing.max_stale - now).as_secs(),
            }),
            (Finish::Kept { changed: true, .. }, Ok(contents)) => Some(Notice::Changed {
                secret,
                stage: key.stage.clone(),
                version_id: contents.version_id.clone(),
            }),
            (Finish::Kept { news: true, .. }, Ok(_)) => Some(Notice::Recovered { secret }),
            (Finish::Kept { changed: true, .. }, Err(error)) => {
                Some(Notice::Refused { secret, reason: reason(error) })
            }
            _ => None,
        }
    }
}

fn reason(error: &SqlError) -> String {
    match error.detail() {
        Some(detail) => format!("{error}: {detail}"),
        None => error.to_string(),
    }
}

impl Report for Notice {
    fn sqlstate(&self) -> SqlState {
        SqlState::new("00000")
    }

    fn detail(&self) -> Option<String> {
        match self {
            Notice::Stale { reason, .. } | Notice::Refused { reason, .. } => Some(reason.clone()),
            Notice::Changed { stage, version_id, .. } => Some(format!("{stage} is version {version_id}.")),
            Notice::Recovered { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Notice::Stale { seconds_left, .. } => {
                Some(format!("That goes on for {seconds_left} seconds at most (secretlink.cache_max_stale)."))
            }
            _ => None,
        }
    }
}
