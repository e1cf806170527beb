//! Finds out which version of a secret holds a role's password.

use pgrx::pg_sys;
use secretlink_aws::{AwsError, SecretId};
use secretlink_versions::{
    Candidate, Obstacle, Origin, Username, Versions, read_all_versions, read_versions, unlabelled,
};

use super::error::sentence;
use super::states::{self, State};
use crate::backend::catalog::roles::{self, Role};
use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{io, server};
use crate::secrets::client;
use crate::sync::error::SyncError;

/// What a secret was found to hold.
pub(super) enum Finding {
    /// The password is in this version, which is `AWSCURRENT`.
    Current(String),
    /// The password is in this version, which is not `AWSCURRENT`.
    Elsewhere(Candidate),
    /// The password is in this version, which a rotation of ours makes current, or gives up.
    Rotating(String),
    /// The password is in no version.
    Nowhere,
    /// The password is there, but the secret is for another user.
    OtherUser(Username),
}

pub(super) const MISSING: &str = "The secret does not exist.";
pub(super) const NOWHERE: &str =
    "AWSCURRENT does not hold the role's password, and no version that waits to become current does.";

/// How a role and its secret stand to each other, and why not better.
#[derive(Default)]
pub(crate) struct Look {
    /// The state.
    pub state: State,
    /// The version that holds the role's password.
    pub version_id: Option<String>,
    /// Why the two are not in sync, as a sentence.
    pub reason: Option<String>,
    /// What keeps the secret from being the role's, if that is it.
    pub obstacle: Option<Obstacle>,
}

impl Look {
    /// A look that found no version with the role's password.
    pub(crate) fn drifted(reason: impl Into<String>) -> Look {
        Look { state: State::Drifted, reason: Some(reason.into()), ..Look::default() }
    }

    /// The look for a role that is just being tied to the secret: a secret that does not exist is then missing, and
    /// not one that is still to be made.
    pub(crate) fn of_tied(self) -> Look {
        match self.state {
            State::NeverSet => Look { state: State::NoSecret, ..Look::drifted(MISSING) },
            _ => self,
        }
    }
}

/// The obstacle that a secret is for another user than the role.
pub(super) fn other_user(secret: &SecretId, username: Username) -> Obstacle {
    let secret = secret.as_str().to_owned();
    match username {
        Ok(username) => {
            Obstacle::OtherUser { secret, username: username.unwrap_or_default(), takes_turns: false }
        }
        Err(problem) => Obstacle::NotUnderstood { secret, problem },
    }
}

/// Looks for the version that is a role's, at the labels first.
pub(super) fn find(role: &Role, secret: &SecretId, versions: &Versions) -> Result<Finding, SyncError> {
    let (id, then) = (secret.clone(), versions.clone());
    let more = || client::call(|aws| async move { unlabelled(&aws, &id, &then).await });
    let name = role.display();
    let found = versions.of_role(&name, |password| role.verify(password));
    match found {
        // A rename leaves the password as it is: if the name is another one, the version with the new
        // name may have lost its label. Else the secret is somebody else's, who has the same password.
        Some(found) if !found.may_be_of(&name) => {
            let renamed = |c: &Candidate| c.is_of(&name, |password| role.verify(password));
            let other = Finding::OtherUser(found.username);
            Ok(more()?.into_iter().find(renamed).map_or(other, Finding::Elsewhere))
        }
        Some(found) if versions.is_current(&found.version_id) => Ok(Finding::Current(found.version_id)),
        // At AWSPENDING. Who makes it current before it has logged in keeps the rotation from going back.
        Some(found) if Origin::of(&found.version_id) == Origin::Rotation => {
            Ok(Finding::Rotating(found.version_id))
        }
        Some(found) => Ok(Finding::Elsewhere(found)),
        None => {
            let is_roles = |c: &Candidate| c.may_be_of(&name) && role.verify(&c.password);
            if let Some(found) = more()?.into_iter().find(is_roles) {
                return Ok(Finding::Elsewhere(found));
            }
            // That it is for another user, or no secret of a user, says more than that its password is
            // another one.
            let username = versions.problem(&name).map_or_else(|| versions.username(), Err);
            Ok(if !secretlink_versions::may_be_of(&username, &name) {
                Finding::OtherUser(username)
            } else {
                Finding::Nowhere
            })
        }
    }
}

/// How a role and its secret stand to each other now. Changes nothing.
///
/// # Errors
/// If the secret cannot be read.
pub(crate) fn look(role: &Role, secret: &SecretId) -> Result<Look, SyncError> {
    if role.hash.is_none() {
        return Ok(Look { state: State::NoPassword, ..Look::default() });
    }
    let id = secret.clone();
    let server = server::observer();
    let versions = client::call(|aws| async move { read_versions(&aws, &id, server).await })?;
    judge(role, secret, versions.as_ref())
}

/// How a role and its secret stand to each other, by what was read of the secret.
///
/// # Errors
/// If a version without a label cannot be read.
pub(crate) fn judge(role: &Role, secret: &SecretId, versions: Option<&Versions>) -> Result<Look, SyncError> {
    let Some(versions) = versions else {
        let state = missing(role.oid);
        let reason = (state == State::NoSecret).then(|| MISSING.to_owned());
        return Ok(Look { state, reason, ..Look::default() });
    };
    let holds = |state, version_id| Look { state, version_id: Some(version_id), ..Look::default() };
    Ok(match find(role, secret, versions)? {
        Finding::Current(version_id) => holds(State::InSync, version_id),
        Finding::Elsewhere(Candidate { version_id, .. }) | Finding::Rotating(version_id) => {
            holds(State::Pending, version_id)
        }
        Finding::Nowhere => Look::drifted(NOWHERE),
        Finding::OtherUser(username) => {
            let obstacle = other_user(secret, username);
            Look { obstacle: Some(obstacle.clone()), ..Look::drifted(sentence(&obstacle.to_string())) }
        }
    })
}

/// The state of a role that has no secret. A secret that a template names is made when the role's password is set,
/// and that may be never: only if it was there before is it gone.
pub(super) fn missing(role: pg_sys::Oid) -> State {
    let was_there = || states::get(role).is_some_and(|known| known.version_id.is_some());
    if roles::label(role).is_some() || was_there() { State::NoSecret } else { State::NeverSet }
}

/// The secrets that are read at the same time, in their order.
///
/// # Errors
/// If no call could even be tried.
pub(crate) fn read_side_by_side(
    secrets: Vec<SecretId>,
) -> Result<Vec<Result<Option<Versions>, AwsError>>, SyncError> {
    let aws = client::current()?;
    Ok(io::run(WaitEvent::SecretsManager, read_all_versions(aws, secrets, server::observer()))?)
}
