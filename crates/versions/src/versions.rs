//! The versions of a role's secret that matter: current, staged and pending.

use secretlink_aws::{AwsError, Client, SecretId, SecretStages, SecretValue, VersionSelector, stage};
use secretlink_core::{Secret, in_turn, side_by_side};
use std::time::{Duration, SystemTime};

use crate::role_secret::RoleSecret;
use crate::{Author, Issuer, Obstacle, Origin};

/// A secret as it stands.
#[derive(Clone, Debug)]
pub struct Versions {
    /// The staging labels, and what else DescribeSecret tells of the secret.
    pub(crate) stages: SecretStages,
    /// The version labelled `AWSCURRENT`. A secret just made may have none.
    pub(crate) current: Option<Version>,
    /// The version that password sync has staged, if it never was the current one.
    pub(crate) staged: Option<Version>,
    /// The version of a rotation that is labelled `AWSPENDING`, unless it has been the current one.
    pub(crate) pending: Option<Version>,
    /// Who looks.
    pub(crate) server: Issuer,
}

/// A version of a secret, with its value.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// The version's id.
    pub(crate) version_id: String,
    /// When the version was made, by AWS's clock, if AWS says so.
    pub(crate) created: Option<SystemTime>,
    /// What is in the version.
    pub(crate) value: SecretValue,
}

/// The user that a version is for, if it says so, or what is wrong with what it says.
pub type Username = Result<Option<String>, &'static str>;

/// Whether a user name in a secret is that of a role. The name of a role in another encoding than this
/// process has is not known in full: it has replacement characters, and only ASCII names are told from it.
pub(crate) fn is_name_of(username: &str, role: &str) -> bool {
    username == role || (role.contains(char::REPLACEMENT_CHARACTER) && !username.is_ascii())
}

/// Whether what a secret says of its user leaves it to a role: it is that one, or nobody is named.
pub fn may_be_of(username: &Username, role: &str) -> bool {
    username.as_ref().is_ok_and(|name| name.as_ref().is_none_or(|name| is_name_of(name, role)))
}

impl Version {
    /// # Errors
    /// If the secret is binary.
    pub(crate) fn secret(&self) -> Result<RoleSecret, AwsError> {
        self.value.text().map(RoleSecret::parse)
    }

    /// The password in it, if there is one.
    pub(crate) fn password(&self) -> Option<Secret> {
        self.secret().ok().and_then(|secret| secret.password())
    }

    /// The user that it is for.
    pub(crate) fn username(&self) -> Username {
        self.secret().map_or(Ok(None), |secret| secret.username())
    }

    /// Who wrote it.
    pub(crate) fn origin(&self) -> Origin {
        Origin::of(&self.version_id)
    }
}

impl Versions {
    /// The user name of the current version, if it is another one than the role's and no other version with a
    /// label is the role's either: then a rename of it may be in a version that has lost its label.
    pub fn other_name(&self, role: &str, is_right: impl Fn(&Secret) -> bool) -> Option<String> {
        let username =
            self.current.as_ref()?.username().ok()?.filter(|username| !is_name_of(username, role))?;
        self.not_current(role, is_right).is_none().then_some(username)
    }

    /// The version that is the role's, if that is not the current one. Of two that hold its password one may
    /// be left by a rename, committed or not: then the name decides.
    pub(crate) fn not_current(&self, role: &str, is_right: impl Fn(&Secret) -> bool) -> Option<&Version> {
        let holds = |version: &&Version| version.password().is_some_and(|password| is_right(&password));
        let names = |version: &Version| {
            version.username().is_ok_and(|name| name.is_some_and(|name| is_name_of(&name, role)))
        };
        let current_names = self.current.as_ref().filter(holds).map(names);
        [&self.staged, &self.pending].into_iter().flatten().filter(holds).find(
            |version| match current_names {
                Some(current_names) => names(version) && !current_names,
                None => true,
            },
        )
    }

    /// The version that password sync has staged, if it is the role's and the current one is not.
    pub(crate) fn staged_of(&self, role: &str, is_right: impl Fn(&Secret) -> bool) -> Option<&Version> {
        let staged = self.staged.as_ref()?;
        self.not_current(role, is_right).filter(|version| version.version_id == staged.version_id)
    }

    /// Whether the current version was written by the server that was the primary before this one.
    pub fn is_lost(&self) -> bool {
        let by = self.current_id().and_then(|current| Author::of(current).issuer);
        by.is_some_and(|by| by.system == self.server.system && by.timeline < self.server.timeline)
    }

    /// The id of the current version.
    pub fn current_id(&self) -> Option<&str> {
        self.current.as_ref().map(|current| current.version_id.as_str())
    }

    /// Fails if a version says that this server was superseded.
    ///
    /// # Errors
    /// [`Obstacle::Superseded`]
    pub fn check_server(&self, id: &SecretId) -> Result<(), Obstacle> {
        check_server(&self.stages, self.server, id)
    }
}

/// Fails if a version says that `server` was superseded.
pub(crate) fn check_server(stages: &SecretStages, server: Issuer, id: &SecretId) -> Result<(), Obstacle> {
    match stages.versions.keys().find(|version_id| server.is_superseded_by(version_id)) {
        Some(version_id) => {
            let secret = id.as_str().to_owned();
            Err(Obstacle::Superseded { secret, version_id: version_id.clone() })
        }
        None => Ok(()),
    }
}

/// The version that password sync has staged and has not made current yet: the one with its label, or with
/// `AWSPENDING`, under which the release before staged. One that was current and is not any more was replaced
/// for good.
fn staged_holder(stages: &SecretStages, server: Issuer) -> Option<&str> {
    [stage::STAGED, stage::PENDING]
        .into_iter()
        .filter_map(|label| stages.holder(label))
        .find(|version_id| server.staged(version_id) && !stages.has_been_current(version_id))
}

/// The version at which a rotation that is over has left `AWSPENDING`. AWS leaves it at the version that has become
/// current. Once another one is, AWS takes it for a rotation in progress.
pub(crate) fn finished_rotation(stages: &SecretStages) -> Option<&str> {
    stages.holder(stage::PENDING).filter(|holder| stages.has_been_current(holder))
}

/// Reads who holds which label, and the values of the versions that matter to `server`. `None` if there is no
/// secret at all.
///
/// # Errors
/// Those of the calls.
pub async fn read_versions(
    aws: &Client,
    id: &SecretId,
    server: Issuer,
) -> Result<Option<Versions>, AwsError> {
    let (stages, current) = tokio::join!(aws.stages(id), read(aws, id, by_stage(stage::CURRENT)));
    let stages = match stages {
        Err(AwsError::SecretNotFound { .. }) => return Ok(None),
        stages => stages?,
    };
    // A secret marked for deletion can be described but not read: that is said by `check`.
    let current = if stages.deleted.is_some() { None } else { current? };
    let is_current = |id: &str| current.as_ref().is_some_and(|current: &Version| current.version_id == id);
    let staged = staged_holder(&stages, server).filter(|holder| !is_current(holder));
    let pending = stages
        .holder(stage::PENDING)
        .filter(|holder| !is_current(holder) && !stages.has_been_current(holder))
        .filter(|holder| !server.staged(holder) && stages.deleted.is_none());
    let value_of = async |holder: Option<&str>| match holder {
        Some(holder) => read(aws, id, by_id(holder)).await,
        None => Ok(None),
    };
    let (staged, pending) = tokio::join!(value_of(staged), value_of(pending));
    let (staged, pending) = (staged?, pending?);
    Ok(Some(Versions { stages, current, staged, pending, server }))
}

/// [`read_versions`] of several secrets at the same time, in their order.
pub async fn read_all_versions(
    aws: Client,
    ids: Vec<SecretId>,
    server: Issuer,
) -> Vec<Result<Option<Versions>, AwsError>> {
    side_by_side(ids, |id| {
        let aws = aws.clone();
        async move { read_versions(&aws, &id, server).await }
    })
    .await
}

/// [`read_versions`] of many secrets, `at_once` of them at the same time, and no two begun within `between`. Each is told
/// by its place as soon as it is known, so that one without an answer holds up no other. Ends early if `tell` says so.
pub async fn read_each<F>(
    aws: Client,
    ids: Vec<SecretId>,
    server: Issuer,
    at_once: usize,
    between: Duration,
    tell: impl Fn(usize, Result<Option<Versions>, AwsError>) -> F,
) where
    F: Future<Output = bool>,
{
    let read = |id| {
        let aws = aws.clone();
        async move { read_versions(&aws, &id, server).await }
    };
    in_turn(ids, at_once, between, read, tell).await;
}

/// Whether a new version of this secret may be written at all, without reading any value.
///
/// # Errors
/// [`Obstacle::Missing`] too.
pub async fn check_versions(aws: &Client, id: &SecretId, server: Issuer) -> Result<(), Obstacle> {
    check_name(id)?;
    match aws.stages(id).await {
        Ok(stages) => check(&stages, id, server),
        Err(AwsError::SecretNotFound { .. }) => Err(Obstacle::Missing { secret: id.as_str().to_owned() }),
        Err(error) => Err(error.into()),
    }
}

/// What the name alone tells.
pub(crate) fn check_name(id: &SecretId) -> Result<(), Obstacle> {
    id.writable().map_err(|why| Obstacle::not_writable(why, id))
}

/// What DescribeSecret tells: whether the secret may be written, and by this server.
pub(crate) fn check(stages: &SecretStages, id: &SecretId, server: Issuer) -> Result<(), Obstacle> {
    stages.writable().map_err(|why| Obstacle::not_writable(why, id))?;
    check_server(stages, server, id)
}

/// Selects a version by its id.
pub(crate) fn by_id(version_id: &str) -> VersionSelector {
    VersionSelector { stage: None, version_id: Some(version_id.to_owned()) }
}

fn by_stage(label: &str) -> VersionSelector {
    VersionSelector { stage: Some(label.to_owned()), version_id: None }
}

/// A version, or `None` if it is not there (any more).
pub(crate) async fn read(
    aws: &Client,
    id: &SecretId,
    version: VersionSelector,
) -> Result<Option<Version>, AwsError> {
    match aws.get_secret_value(id, &version).await {
        Ok(value) => {
            Ok(Some(Version { version_id: value.version_id.clone(), created: value.created, value }))
        }
        // Whether the secret itself exists is known by its description; the stand-in, moto, answers so
        // when it has no such version.
        Err(AwsError::VersionNotFound { .. } | AwsError::SecretNotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use secretlink_aws::SecretBody;
    use std::collections::HashMap;

    fn version(version_id: &str, text: &str) -> Version {
        Version {
            version_id: version_id.into(),
            created: None,
            value: SecretValue {
                arn: String::new(),
                name: "prod/app".into(),
                version_id: version_id.into(),
                stages: vec![],
                created: None,
                body: SecretBody::String(Secret::new(text)),
            },
        }
    }

    /// Who looks.
    pub(crate) const SERVER: Issuer = Issuer { system: 7, timeline: 2 };

    /// A secret with a current version called "current", and another one, staged or pending by its id.
    pub(crate) fn versions(current: Option<&str>, other: Option<(&str, &str)>) -> Versions {
        let (staged, pending) = match other {
            Some((version_id, text)) if SERVER.staged(version_id) => (Some(version(version_id, text)), None),
            other => (None, other.map(|(version_id, text)| version(version_id, text))),
        };
        Versions {
            stages: SecretStages {
                arn: "arn:aws:secretsmanager:us-east-1:1:secret:prod/app-abcdef".into(),
                owning_service: None,
                primary_region: None,
                deleted: None,
                rotation_enabled: false,
                rotation_lambda_arn: None,
                rotation_rules: None,
                next_rotation: None,
                versions: HashMap::new(),
            },
            current: current.map(|text| version("current", text)),
            staged,
            pending,
            server: SERVER,
        }
    }

    /// The version of the role "app", whose password is "p".
    fn of_app(current: &str, pending: &str) -> Option<String> {
        let versions = versions(Some(current), Some(("secretlink-1", pending)));
        let found = versions.of_role("app", |password| password.expose() == b"p");
        found.map(|candidate| candidate.version_id)
    }

    #[test]
    fn the_password_tells_which_version_is_the_roles() {
        assert_eq!(of_app("p", "q").as_deref(), Some("current"));
        assert_eq!(of_app("q", "p").as_deref(), Some("secretlink-1"));
        assert_eq!(of_app(r#"{"password":"p"}"#, "p").as_deref(), Some("current"));
        assert_eq!(of_app("{}", r#"{"password":null}"#), None);
    }

    #[test]
    fn the_current_version_may_have_another_name() {
        let other = |current, pending| {
            let versions = versions(Some(current), Some(("secretlink-1", pending)));
            versions.other_name("app", |password| password.expose() == b"p")
        };
        let before = r#"{"username":"app0","password":"p"}"#;
        assert_eq!(other(before, "q").as_deref(), Some("app0"));
        // Whatever its password, which may have been changed together with the name.
        assert_eq!(other(r#"{"username":"app0","password":"old"}"#, "q").as_deref(), Some("app0"));
        assert_eq!(other(before, r#"{"username":"app","password":"p"}"#), None, "it is pending");
        assert_eq!(other(r#"{"username":"app","password":"old"}"#, "q"), None);
        assert_eq!(other("p", "q"), None);
    }

    #[test]
    fn of_two_with_the_password_the_name_tells() {
        let (before, after) =
            (r#"{"username":"app0","password":"p"}"#, r#"{"username":"app","password":"p"}"#);
        // A committed rename, and one that was rolled back.
        assert_eq!(of_app(before, after).as_deref(), Some("secretlink-1"));
        assert_eq!(of_app(after, before).as_deref(), Some("current"));
        assert_eq!(of_app(before, before).as_deref(), Some("current"));
        // The password comes first.
        assert_eq!(of_app(before, r#"{"username":"app","password":"q"}"#).as_deref(), Some("current"));
        assert_eq!(of_app(r#"{"username":"app","password":"q"}"#, before).as_deref(), Some("secretlink-1"));
    }
}
