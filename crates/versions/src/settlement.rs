//! Afterwards: which version holds the password that was committed? Whoever asks verifies the
//! candidates against `pg_authid`; here is where they come from and what is done with the answer.

use secretlink_aws::{AwsError, Client, SecretId, stage};
use secretlink_core::Secret;

use crate::versions::{Username, Version, Versions, by_id, is_name_of, may_be_of, read};
use crate::{Origin, promote};

/// How many versions without a label are read in search of a password.
const MAX_UNLABELLED: usize = 10;

/// A version that may hold the role's password.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The version's id.
    pub version_id: String,
    /// The password in it.
    pub password: Secret,
    /// The user that it is for.
    pub username: Username,
}

impl Candidate {
    fn of(version: &Version) -> Option<Candidate> {
        let (password, username) = (version.password()?, version.username());
        Some(Candidate { version_id: version.version_id.clone(), password, username })
    }

    /// Whether it is a role's by name and password.
    pub fn is_of(&self, role: &str, is_right: impl Fn(&Secret) -> bool) -> bool {
        matches!(&self.username, Ok(Some(name)) if is_name_of(name, role)) && is_right(&self.password)
    }

    /// Whether it may be a role's: it names no other user.
    pub fn may_be_of(&self, role: &str) -> bool {
        may_be_of(&self.username, role)
    }
}

impl Versions {
    /// The version that holds the role's password, if it is at either label.
    pub fn of_role(&self, role: &str, is_right: impl Fn(&Secret) -> bool) -> Option<Candidate> {
        let version = if self.is_pending(role, &is_right) { &self.pending } else { &self.current };
        version.as_ref().and_then(Candidate::of).filter(|candidate| is_right(&candidate.password))
    }

    /// The versions at the two labels, the current one first, as far as they hold a password.
    pub fn labelled(&self) -> impl Iterator<Item = Candidate> {
        [&self.current, &self.pending].into_iter().flatten().filter_map(Candidate::of)
    }

    /// The user that the current version is for.
    pub fn username(&self) -> Username {
        self.current.as_ref().map_or(Ok(None), Version::username)
    }

    /// Why the current version is neither a JSON object nor a password, by the look of it.
    pub fn problem(&self, role: &str) -> Option<&'static str> {
        self.current.as_ref()?.secret().ok()?.problem(role)
    }

    /// Whether a version is the current one.
    pub fn is_current(&self, version_id: &str) -> bool {
        self.current.as_ref().is_some_and(|current| current.version_id == version_id)
    }
}

/// Versions of password sync without a label, newest first, that are not older than the current one.
///
/// A request to stage that arrives after its sender gave up takes `AWSPENDING` from a version staged
/// since. If that one was committed and its promotion did not get through, this is where it is found.
/// An older version is none of that: its password was replaced for good, and who has it as theirs is a
/// copy of this server from an earlier day.
///
/// # Errors
/// Those of the calls.
pub async fn unlabelled(
    aws: &Client,
    id: &SecretId,
    versions: &Versions,
) -> Result<Vec<Candidate>, AwsError> {
    let since = versions.current.as_ref().and_then(|current| current.created);
    let mut listed = aws.list_versions(id).await?;
    listed.retain(|v| v.stages.is_empty() && Origin::of(&v.version_id) == Origin::Sync && v.created >= since);
    listed.sort_by_key(|v| std::cmp::Reverse(v.created));
    let mut found = Vec::new();
    for version in listed.into_iter().take(MAX_UNLABELLED) {
        if let Some(version) = read(aws, id, by_id(&version.version_id)).await?
            && version.created >= since
        {
            found.extend(Candidate::of(&version));
        }
    }
    Ok(found)
}

/// Makes a version current that was found to hold the role's password.
///
/// # Errors
/// Those of the calls.
pub async fn promote_found(
    aws: &Client,
    id: &SecretId,
    versions: &Versions,
    version_id: &str,
) -> Result<(), AwsError> {
    let current = versions.current.as_ref().map(|current| current.version_id.as_str());
    promote(aws, id, version_id, current).await
}

/// Takes `AWSPENDING` from a version of password sync whose transaction did not commit, that is, not from
/// `version_id`, which did. It does no harm there, but a rotation would not begin.
///
/// # Errors
/// Those of the calls.
pub async fn clear_pending(
    aws: &Client,
    id: &SecretId,
    versions: &Versions,
    version_id: &str,
) -> Result<(), AwsError> {
    match &versions.pending {
        Some(pending) if pending.origin() == Origin::Sync && pending.version_id != version_id => {
            let cleared =
                aws.update_secret_version_stage(id, stage::PENDING, Some(&pending.version_id), None).await;
            match cleared {
                // It is not there any more, which is as well.
                Err(AwsError::InvalidParameter { .. } | AwsError::InvalidRequest { .. }) => Ok(()),
                cleared => cleared,
            }
        }
        _ => Ok(()),
    }
}
