//! What the server's log is told of the cache.

use secretlink_cache::{Contents, Finish, Key, Moment, Subject, Timing};
use secretlink_core::{Report, SqlState};
use thiserror::Error;

use crate::secrets::error::SecretsError;

/// Something worth a line. Never a value.
#[derive(Debug, Error)]
pub(crate) enum Notice {
    /// AWS cannot be asked, and the old value is used.
    #[error("secret \"{secret}\" could not be read again, and the value read before is used")]
    Stale { secret: String, reason: String, seconds_left: u64 },
    /// AWS can be asked for the secret again.
    #[error("secret \"{secret}\" can be read again")]
    Recovered { secret: String },
    /// A value that was there before is refused now.
    #[error("secret \"{secret}\" could not be read again")]
    Refused { secret: String, reason: String },
    /// The secret has another version.
    #[error("secret \"{secret}\" has a new version")]
    Changed { secret: String, stage: String, version_id: String },
    /// A token could not be signed in time, and the one before is used.
    #[error("no new token could be signed for \"{login}\", and the one before is used")]
    OldToken { login: String, reason: String, seconds_left: u64 },
    /// No token could be signed, and there is none before.
    #[error("no token could be signed for \"{login}\"")]
    NoToken { login: String, reason: String },
    /// Tokens can be signed again.
    #[error("tokens can be signed for \"{login}\" again")]
    TokensAgain { login: String },
}

impl Notice {
    /// What is new about the end of a request, if anything.
    pub(crate) fn of(
        key: &Key,
        came: &Result<Contents, SecretsError>,
        finish: &Finish,
        timing: &Timing,
        now: Moment,
    ) -> Option<Notice> {
        let (secret, stage) = match &key.subject {
            Subject::Secret { id, stage, .. } => (id.clone(), stage),
            Subject::IamToken { login, .. } => return Notice::of_token(login, came, finish, now),
        };
        match (finish, came) {
            (Finish::Stale { found, news: true }, Err(error)) => Some(Notice::Stale {
                secret,
                reason: reason(error),
                seconds_left: (found.asked + timing.ttl + timing.max_stale - now).as_secs(),
            }),
            (Finish::Kept { changed: true, .. }, Ok(contents)) => Some(Notice::Changed {
                secret,
                stage: stage.clone(),
                version_id: contents.version_id.clone(),
            }),
            (Finish::Kept { news: true, .. }, Ok(_)) => Some(Notice::Recovered { secret }),
            (Finish::Kept { changed: true, .. }, Err(error)) => {
                Some(Notice::Refused { secret, reason: reason(error) })
            }
            _ => None,
        }
    }

    fn of_token(
        login: &str,
        came: &Result<Contents, SecretsError>,
        finish: &Finish,
        now: Moment,
    ) -> Option<Notice> {
        let login = login.to_owned();
        match (finish, came) {
            (Finish::Stale { found, news: true }, Err(error)) => Some(Notice::OldToken {
                login,
                reason: reason(error),
                seconds_left: found.ends.map_or(0, |ends| (ends - now).as_secs()),
            }),
            (Finish::Kept { news: true, .. }, Ok(_)) => Some(Notice::TokensAgain { login }),
            (Finish::Kept { changed: true, .. }, Err(error)) => {
                Some(Notice::NoToken { login, reason: reason(error) })
            }
            _ => None,
        }
    }
}

fn reason(error: &SecretsError) -> String {
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
            Notice::Stale { reason, .. }
            | Notice::Refused { reason, .. }
            | Notice::OldToken { reason, .. }
            | Notice::NoToken { reason, .. } => Some(reason.clone()),
            Notice::Changed { stage, version_id, .. } => Some(format!("{stage} is version {version_id}.")),
            Notice::Recovered { .. } | Notice::TokensAgain { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Notice::Stale { seconds_left, .. } => {
                Some(format!("That goes on for {seconds_left} seconds at most (secretlink.cache_max_stale)."))
            }
            Notice::OldToken { seconds_left, .. } => {
                Some(format!("That goes on for {seconds_left} seconds at most."))
            }
            _ => None,
        }
    }
}
