//! Which version holds the password that was committed, asked afterwards. The caller verifies the candidates
//! against `pg_authid`; here is where they come from and what is done with the answer.

use secretlink_aws::{AwsError, Client, SecretId, SecretStages, SecretVersion, stage};
use secretlink_core::Secret;
use std::time::SystemTime;

use crate::staging::put_current;
use crate::versions::{Username, Version, Versions, by_id, is_name_of, may_be_of, read};
use crate::{Issuer, Obstacle, Origin, promote};

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
    /// The whole text of the version.
    text: Secret,
}

impl Candidate {
    fn of(version: &Version) -> Option<Candidate> {
        let (password, username) = (version.password()?, version.username());
        let text = Secret::new(version.value.text().ok()?);
        Some(Candidate { version_id: version.version_id.clone(), password, username, text })
    }

    /// The whole text of the version.
    pub fn text(&self) -> &Secret {
        &self.text
    }

    /// Whether the version is a role's by name and password.
    pub fn is_of(&self, role: &str, is_right: impl Fn(&Secret) -> bool) -> bool {
        matches!(&self.username, Ok(Some(name)) if is_name_of(name, role)) && is_right(&self.password)
    }

    /// Whether the version may be a role's: it names no other user.
    pub fn may_be_of(&self, role: &str) -> bool {
        may_be_of(&self.username, role)
    }
}

impl Versions {
    /// The version that holds the role's password, if it is at one of the labels.
    pub fn of_role(&self, role: &str, is_right: impl Fn(&Secret) -> bool) -> Option<Candidate> {
        let version = self.not_current(role, &is_right).or(self.current.as_ref());
        version.and_then(Candidate::of).filter(|candidate| is_right(&candidate.password))
    }

    /// The versions at the labels, the current one first, as far as they hold a password.
    pub fn labelled(&self) -> impl Iterator<Item = Candidate> {
        [&self.current, &self.staged, &self.pending].into_iter().flatten().filter_map(Candidate::of)
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

/// Versions of password sync without a label, newest first, that are not older than what the current one replaced.
///
/// A request to stage that arrives after its sender gave up takes the label from a version staged since. If
/// that one was committed and its promotion did not get through, this is where it is found. An older version
/// is none of that: its password was replaced for good, and who has it as theirs is a copy of this server
/// from an earlier day.
///
/// # Errors
/// Those of the calls.
pub async fn unlabelled(
    aws: &Client,
    id: &SecretId,
    versions: &Versions,
) -> Result<Vec<Candidate>, AwsError> {
    let mut listed = aws.list_versions(id).await?;
    let since = replaced_since(versions, &listed);
    if listed.iter().any(|version| versions.server.is_superseded_by(&version.version_id)) {
        return Ok(Vec::new());
    }
    listed.retain(|v| v.stages.is_empty() && versions.server.staged(&v.version_id) && v.created >= since);
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

/// When the oldest version was made that can be waiting to become current.
///
/// A version of ours is current since everything before it was settled. An edit of somebody else is made
/// from the version that it replaces, and settles nothing: what was staged after that one may still be waiting.
fn replaced_since(versions: &Versions, listed: &[SecretVersion]) -> Option<SystemTime> {
    let current = versions.current.as_ref()?;
    let replaced = versions.stages.holder(stage::PREVIOUS).filter(|_| current.origin() == Origin::Other);
    let replaced = listed.iter().find(|version| Some(version.version_id.as_str()) == replaced);
    let replaced = replaced.and_then(|version| version.created);
    replaced.into_iter().chain(current.created).min()
}

/// Makes a version current that was found to hold the role's password, and returns it. One that was staged
/// before a promotion is written again, as a version of this server.
///
/// # Errors
/// Those of the calls, and that this server was superseded.
pub async fn promote_found(
    aws: &Client,
    id: &SecretId,
    versions: &Versions,
    found: Candidate,
) -> Result<String, Obstacle> {
    versions.check_server(id)?;
    let (current, server) = (versions.current_id(), versions.server);
    let is_ours = Origin::of(&found.version_id) == Origin::Sync;
    if is_ours && !server.knows_the_end_of(&found.version_id) {
        return put_current(aws, id, server, found.text, current).await;
    }
    promote(aws, id, server, &found.version_id, current).await?;
    Ok(found.version_id)
}

/// Whether a settled secret has labels of password sync to be taken away.
pub fn is_left_over(versions: &Versions, version_id: &str) -> bool {
    !left_over(versions, version_id).is_empty()
}

/// The labels of password sync where they do not belong, each with its version: its own label at another
/// version than `version_id`, which holds the role's password, and `AWSPENDING`, under which the release before
/// staged.
fn left_over<'a>(versions: &'a Versions, version_id: &str) -> Vec<(&'static str, &'a str)> {
    left_over_in(&versions.stages, versions.server, version_id)
}

fn left_over_in<'a>(
    stages: &'a SecretStages,
    server: Issuer,
    version_id: &str,
) -> Vec<(&'static str, &'a str)> {
    let holder = |label| stages.holder(label).map(|holder| (label, holder));
    let own = holder(stage::STAGED).filter(|(_, holder)| *holder != version_id);
    let before = holder(stage::PENDING);
    own.into_iter().chain(before).filter(|(_, holder)| server.staged(holder)).collect()
}

/// Whether a secret is at rest, with this version as the current one, as far as its labels tell.
pub fn is_at_rest(stages: &SecretStages, server: Issuer, version_id: &str) -> bool {
    stages.deleted.is_none()
        && stages.holder(stage::CURRENT) == Some(version_id)
        && left_over_in(stages, server, version_id).is_empty()
}

/// Takes the labels of password sync away where they do not belong, given that `version_id` holds the role's
/// password and is current. Returns the version that is current afterwards.
///
/// `AWSPENDING` keeps a rotation from beginning. A version that was staged and whose transaction did not commit
/// does no harm. But if it was staged before a promotion, the server before may have committed it, and may come
/// back. So the value is made current again first: then the version that was staged is older than the current
/// one, and that server finds a version of a later timeline.
///
/// # Errors
/// Those of the calls, and that this server was superseded.
pub async fn clear(
    aws: &Client,
    id: &SecretId,
    versions: &Versions,
    version_id: String,
) -> Result<String, Obstacle> {
    let left = left_over(versions, &version_id);
    if left.is_empty() {
        return Ok(version_id);
    }
    versions.check_server(id)?;
    let mut now_current = version_id;
    if let Some(staged) = &versions.staged
        && staged.version_id != now_current
        && !versions.server.knows_the_end_of(&staged.version_id)
        && versions.is_current(&now_current)
        && let Some(current) = &versions.current
    {
        let value = Secret::new(current.value.text()?);
        now_current = put_current(aws, id, versions.server, value, Some(&now_current)).await?;
    }
    for (label, holder) in left {
        match aws.update_secret_version_stage(id, label, Some(holder), None).await {
            // It is not there any more, which is as well.
            Ok(()) | Err(AwsError::InvalidParameter { .. } | AwsError::InvalidRequest { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(now_current)
}
