//! Before the commit: a new password is stored as a version that is not current yet.

use secretlink_aws::{AwsError, Client, NewSecret, SecretId, stage};
use secretlink_core::Secret;

use crate::role_secret::{NewFields, RoleSecret};
use crate::versions::{Version, Versions, check, check_name, finished_rotation, is_name_of};
use crate::{Issuer, Obstacle, Origin, promote};

/// What a transaction is about to do to a role whose password is kept in a secret.
#[derive(Clone, Debug)]
pub struct Change {
    /// The role's name once the transaction has committed.
    pub role: String,
    /// The role's name before, if the role was renamed.
    pub renamed_from: Option<String>,
    /// The secret.
    pub secret: SecretId,
    /// The new password; `None` if it stays and only the name changes.
    pub password: Option<Secret>,
    /// What to do if there is no secret, or none with a value.
    pub missing: Missing,
}

impl Change {
    /// The role's name before the transaction.
    pub fn name_before(&self) -> &str {
        self.renamed_from.as_ref().unwrap_or(&self.role)
    }
}

/// What to do about a secret that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Refuse.
    Refuse,
    /// Make it.
    Create(NewFields),
    /// Make it, and refuse if it has a value already.
    MustCreate(NewFields),
}

/// How a change is brought into Secrets Manager.
#[derive(Clone, Debug)]
pub enum StagingPlan {
    /// The current version has the password already.
    Nothing {
        /// The version's id.
        version_id: String,
    },
    /// Somebody's rotation has staged this very password, and this is its next step.
    Adopt(Staged),
    /// A rotation of ours has staged this very password. Its version becomes current when the password has
    /// logged in, or the role gets the one before again: neither is for password sync to do.
    Leave {
        /// The version's id.
        version_id: String,
    },
    /// A new version, after making current what an earlier change has staged and could not promote.
    Put {
        /// What an earlier change makes necessary.
        first: Option<First>,
        /// The new value.
        value: Secret,
        /// The version that is current by then.
        current: Option<String>,
        /// The version at which a rotation that is over has left `AWSPENDING`, which is taken away.
        finished: Option<String>,
    },
    /// A new secret.
    Create {
        /// The secret's value.
        value: Secret,
    },
}

impl StagingPlan {
    /// The value that will be written, if any.
    pub fn value(&self) -> Option<&Secret> {
        match self {
            StagingPlan::Put { value, .. } | StagingPlan::Create { value } => Some(value),
            StagingPlan::Nothing { .. } | StagingPlan::Leave { .. } | StagingPlan::Adopt(_) => None,
        }
    }
}

/// What is done before a new version is written, on account of one that an earlier change has staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// The staged version is made current: the change that staged it was committed.
    Promote(Staged),
    /// A value is made current, as a new version of this server. The value is the one that was staged, or, if nobody
    /// can tell any more whether that change was committed, the current one again. The version that was
    /// staged is then older than the current one, and no server that comes back makes it current.
    Again {
        /// The value.
        value: Secret,
        /// The version that it replaces.
        current: Option<String>,
    },
}

/// A version that holds the password to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The version's id.
    pub version_id: String,
    /// The version that was current when it was staged, itself if the secret is new; `None` if there
    /// was none.
    pub current: Option<String>,
}

/// Decides what is done about a change. `versions` is `None` if there is no secret. `was_right` tells whether a password is the
/// role's own as it was before the transaction.
///
/// # Errors
/// Whatever stands in the way, before anything is changed.
pub fn plan(
    change: &Change,
    versions: Option<&Versions>,
    was_right: impl Fn(&Secret) -> bool,
) -> Result<StagingPlan, Obstacle> {
    check_name(&change.secret)?;
    let Some(versions) = versions else {
        // Only a name can be given to a new secret.
        if change.password.is_some() && change.secret.region().is_some() {
            return Err(Obstacle::Missing { secret: name(change) });
        }
        return Ok(StagingPlan::Create { value: first_value(change)? });
    };
    check(&versions.stages, &change.secret, versions.server)?;
    if let Missing::MustCreate(fields) = &change.missing
        && let Some(current) = &versions.current
        && !is_of_aborted_create(current, versions, fields, change)
    {
        return Err(Obstacle::NotNew { secret: name(change) });
    }

    let current = versions.current.as_ref();
    let mut base = current;
    let mut first = None;
    if let Some(pending) = versions.pending.as_ref().filter(|pending| pending.origin() != Origin::Sync) {
        return beside_rotation(change, pending, current);
    }
    // Left by a change that was not promoted in time, or by one that never committed. The role's hash and name
    // tell which; the former is the version to go on from.
    if let Some(left) = &versions.staged {
        let is_roles = versions.staged_of(change.name_before(), &was_right).is_some();
        first = after(left, is_roles, current, versions.server)?;
        if is_roles {
            base = Some(left);
        }
    }

    let finished = finished_rotation(&versions.stages).map(str::to_owned);
    let Some(base) = base else {
        return Ok(StagingPlan::Put { first, value: first_value(change)?, current: None, finished });
    };
    // Somebody has edited the secret since: whatever else it says by now is kept, or refused.
    let edited = current.filter(|current| change.password.is_some() && is_later(current, base));
    let mut secret = edited.unwrap_or(base).secret()?;
    // The edit has the former user name where it was made between the commit of a rename and its promotion.
    if edited.is_some()
        && let Err(Obstacle::OtherUser { .. }) = check_user(&secret, change)
        && let Ok(Some(username)) = base.username()
    {
        secret.rename(&username);
    }
    check_user(&secret, change)?;
    let before = secret.to_secret();
    match &change.password {
        Some(password) => secret
            .set_password(&change.role, password, |known| known == password || was_right(known))
            .map_err(|problem| Obstacle::NotUnderstood { secret: name(change), problem })?,
        None if secret.password().is_some_and(|password| was_right(&password)) => {}
        None => return Err(Obstacle::Drifted { secret: name(change) }),
    }
    if change.renamed_from.is_some() {
        secret.rename(&change.role);
    }
    let value = secret.to_secret();
    // With a staged version about, a promotion of it may still be under way. It must find AWSCURRENT moved,
    // so a new version is written even if the value is the current one.
    if value == before && versions.staged.is_none() {
        return Ok(StagingPlan::Nothing { version_id: base.version_id.clone() });
    }
    Ok(StagingPlan::Put { first, value, current: Some(base.version_id.clone()), finished })
}

/// The value for a secret without one, if it may be given one.
fn first_value(change: &Change) -> Result<Secret, Obstacle> {
    match (&change.missing, &change.password) {
        (Missing::Create(fields) | Missing::MustCreate(fields), Some(password)) => {
            Ok(new_value(fields, change, password)?)
        }
        (_, None) => Err(Obstacle::NothingToRename { secret: name(change) }),
        _ => Err(Obstacle::Missing { secret: name(change) }),
    }
}

/// The plan while a rotation is in progress, ours or another, whose version `pending` has `AWSPENDING`: only what
/// that rotation does itself can be done.
fn beside_rotation(
    change: &Change,
    pending: &Version,
    current: Option<&Version>,
) -> Result<StagingPlan, Obstacle> {
    let is_ours = pending.origin() == Origin::Rotation;
    let held = |version: &Version| change.password.is_some() && change.password == version.password();
    let version_id = pending.version_id.clone();
    if held(pending) {
        check_user(&pending.secret()?, change)?;
        return Ok(match is_ours {
            true => StagingPlan::Leave { version_id },
            false => StagingPlan::Adopt(staged(pending, current)),
        });
    }
    // Our rotation puts back the password that the role had before.
    if let Some(current) = current.filter(|current| is_ours && held(current)) {
        check_user(&current.secret()?, change)?;
        return Ok(StagingPlan::Nothing { version_id: current.version_id.clone() });
    }
    Err(Obstacle::Rotating { secret: name(change), version_id })
}

/// Whether a version was made after another, by AWS's clock.
fn is_later(version: &Version, than: &Version) -> bool {
    version.created.zip(than.created).is_some_and(|(version, than)| version > than)
}

/// What comes first, given that an earlier change has left a version that is the role's, or is not.
fn after(
    left: &Version,
    is_roles: bool,
    current: Option<&Version>,
    server: Issuer,
) -> Result<Option<First>, AwsError> {
    let is_sure = server.knows_the_end_of(&left.version_id);
    let value = match (is_roles, current) {
        (true, _) if is_sure => return Ok(Some(First::Promote(staged(left, current)))),
        (true, _) => left.value.text()?,
        (false, Some(current)) if !is_sure => current.value.text()?,
        (false, _) => return Ok(None),
    };
    let current = current.map(|current| current.version_id.clone());
    Ok(Some(First::Again { value: Secret::new(value), current }))
}

/// Makes a value current, as a new version of this server, and returns that version.
///
/// # Errors
/// Those of the calls, and that this server was superseded.
pub(crate) async fn put_current(
    aws: &Client,
    id: &SecretId,
    server: Issuer,
    value: Secret,
    current: Option<&str>,
) -> Result<String, Obstacle> {
    let version_id = put_staged(aws, id, server, value).await?;
    promote(aws, id, server, &version_id, current).await?;
    Ok(version_id)
}

/// Stores a value as a version that is not current yet, and returns that version.
async fn put_staged(aws: &Client, id: &SecretId, server: Issuer, value: Secret) -> Result<String, Obstacle> {
    let version_id = server.new_version_id(Origin::Sync)?;
    Ok(aws.put_secret_value(id, value, vec![stage::STAGED.to_owned()], Some(version_id)).await?)
}

/// Carries out a plan. Returns the version that holds the password.
///
/// # Errors
/// Those of the calls. A version may have been written even so, if only the answer was lost; it has the label
/// of password sync, and nobody takes it for the password.
pub async fn write(
    aws: &Client,
    server: Issuer,
    change: &Change,
    plan: StagingPlan,
) -> Result<Staged, Obstacle> {
    match plan {
        StagingPlan::Nothing { version_id } | StagingPlan::Leave { version_id } => {
            Ok(Staged { current: Some(version_id.clone()), version_id })
        }
        StagingPlan::Adopt(staged) => Ok(staged),
        StagingPlan::Put { first, value, mut current, finished } => {
            match first {
                Some(First::Promote(first)) => {
                    let expected = first.current.as_deref();
                    promote(aws, &change.secret, server, &first.version_id, expected).await?;
                }
                Some(First::Again { value, current: replaced }) => {
                    let replaced = replaced.as_deref();
                    current = Some(put_current(aws, &change.secret, server, value, replaced).await?);
                }
                None => {}
            }
            let (staged, _cleared) = tokio::join!(
                put_staged(aws, &change.secret, server, value),
                aws.clear_finished_rotation(&change.secret, finished.as_deref())
            );
            // That a label stays which others have left is no failure of this change. The next one finds it again.
            Ok(Staged { version_id: staged?, current })
        }
        StagingPlan::Create { value } => {
            let version_id = server.new_version_id(Origin::Sync)?;
            let created = aws
                .create_secret(NewSecret {
                    name: name(change),
                    value,
                    description: Some(format!("Password of PostgreSQL role {}", change.role)),
                    kms_key_id: None,
                    version_id: Some(version_id.clone()),
                })
                .await;
            match created {
                // The first version is current at once: there was no password for it to replace.
                Ok(_) => Ok(Staged { current: Some(version_id.clone()), version_id }),
                // The secret may have been made all the same: that its only version is the one that was to be
                // written tells.
                Err(error) if error.is_unreachable() || matches!(error, AwsError::AlreadyExists { .. }) => {
                    let stages = aws.stages(&change.secret).await;
                    if stages.is_ok_and(|stages| stages.holder(stage::CURRENT) == Some(&version_id)) {
                        return Ok(Staged { current: Some(version_id.clone()), version_id });
                    }
                    Err(match error {
                        AwsError::AlreadyExists { name } => Obstacle::NotNew { secret: name },
                        error => error.into(),
                    })
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// Whether a secret was made for this very role by a transaction that did not commit, since it never heard
/// of it: it has one version, which is of this extension, and says what a new one would say, but for the
/// password.
fn is_of_aborted_create(current: &Version, versions: &Versions, fields: &NewFields, change: &Change) -> bool {
    let Some(password) = &change.password else { return false };
    let same_but_for_the_password = || {
        let mut secret = current.secret().ok()?;
        secret.set_password(&change.role, password, |_| false).ok()?;
        Some(secret.to_secret() == new_value(fields, change, password).ok()?)
    };
    versions.server.staged(&current.version_id)
        && versions.stages.versions.len() == 1
        && versions.staged.is_none()
        && versions.pending.is_none()
        && same_but_for_the_password().unwrap_or(false)
}

/// A secret belongs to the role it names.
fn check_user(secret: &RoleSecret, change: &Change) -> Result<(), Obstacle> {
    let own_names = || [Some(&change.role), change.renamed_from.as_ref()].into_iter().flatten();
    match secret.username() {
        Ok(Some(username)) if !own_names().any(|name| is_name_of(&username, name)) => {
            Err(Obstacle::OtherUser { secret: name(change), username, takes_turns: false })
        }
        Ok(_) => Ok(()),
        Err(problem) => Err(Obstacle::NotUnderstood { secret: name(change), problem }),
    }
}

fn name(change: &Change) -> String {
    change.secret.as_str().to_owned()
}

fn new_value(fields: &NewFields, change: &Change, password: &Secret) -> Result<Secret, Obstacle> {
    let mut secret = RoleSecret::new(fields, &change.role);
    match secret.set_password(&change.role, password, |_| false) {
        Ok(()) => Ok(secret.to_secret()),
        Err(problem) => Err(Obstacle::NotUnderstood { secret: name(change), problem }),
    }
}

fn staged(version: &Version, current: Option<&Version>) -> Staged {
    Staged {
        version_id: version.version_id.clone(),
        current: current.map(|current| current.version_id.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::versions::tests::versions;
    use std::time::{Duration, SystemTime};

    /// A version that this server has staged.
    const OURS: &str = "secretlink-0000000000000007-00000002-0000000000000001";
    const CURRENT: &str = r#"{"username":"app","password":"old","host":"h"}"#;

    fn change(password: Option<&str>) -> Change {
        Change {
            role: "app".into(),
            renamed_from: None,
            secret: SecretId::parse("prod/app").unwrap(),
            password: password.map(Secret::new),
            missing: Missing::Create(NewFields { host: "h".into(), port: 5432, dbname: "d".into() }),
        }
    }

    /// The plan for a role whose password was "old".
    fn planned(
        change: &Change,
        current: Option<&str>,
        pending: Option<(&str, &str)>,
    ) -> Result<StagingPlan, Obstacle> {
        plan(change, Some(&versions(current, pending)), |password| password.expose() == b"old")
    }

    #[track_caller]
    fn put(plan: Result<StagingPlan, Obstacle>) -> (Option<First>, String, Option<String>) {
        match plan {
            Ok(StagingPlan::Put { first, value, current, .. }) => {
                (first, value.expose_str().unwrap_or_default().to_owned(), current)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_password_is_put_beside_the_current_one() {
        let plan = put(planned(&change(Some("new")), Some(CURRENT), None));
        let value = r#"{"username":"app","password":"new","host":"h"}"#;
        assert_eq!(plan, (None, value.into(), Some("current".into())));
        assert!(matches!(
            planned(&change(Some("old")), Some(CURRENT), None),
            Ok(StagingPlan::Nothing { .. })
        ));
    }

    #[test]
    fn what_a_rolled_back_change_left_is_passed_over() {
        let left = Some((OURS, r#"{"password":"never committed"}"#));
        let (first, value, current) = put(planned(&change(Some("new")), Some(CURRENT), left));
        assert_eq!((first, current.as_deref()), (None, Some("current")));
        assert!(value.contains(r#""host":"h""#));
        // Even for the same password: a promotion of what was left may be on its way.
        put(planned(&change(Some("old")), Some(CURRENT), left));
    }

    #[test]
    fn a_rename_that_a_rolled_back_change_left_is_passed_over() {
        let left = Some((OURS, r#"{"username":"app2","password":"old"}"#));
        let (first, value, _) = put(planned(&change(Some("new")), Some(CURRENT), left));
        assert_eq!((first, value.as_str()), (None, r#"{"username":"app","password":"new","host":"h"}"#));
    }

    #[test]
    fn what_was_committed_and_not_promoted_comes_first() {
        let committed = Some((OURS, r#"{"username":"app","password":"old"}"#));
        let current = r#"{"username":"app0","password":"older"}"#;
        let (first, value, current) = put(planned(&change(Some("new")), Some(current), committed));
        let staged = Staged { version_id: OURS.into(), current: Some("current".into()) };
        assert_eq!(first, Some(First::Promote(staged)));
        assert_eq!(value, r#"{"username":"app","password":"new"}"#);
        assert_eq!(current.as_deref(), Some(OURS));
    }

    /// Two edits take the label of what was current before from a version that was promoted, which then looks as if it
    /// had not been.
    #[test]
    fn what_was_edited_since_is_kept_or_refused() {
        let committed = (OURS, r#"{"username":"app","password":"old"}"#);
        let planned = |current: &str, seconds| {
            let mut versions = versions(Some(current), Some(committed));
            let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            versions.staged.as_mut().unwrap().created = at(2);
            versions.current.as_mut().unwrap().created = at(seconds);
            plan(&change(Some("new")), Some(&versions), |password| password.expose() == b"old")
        };
        let edited = r#"{"username":"app","password":"older","x":"y"}"#;
        let (first, value, _) = put(planned(edited, 3));
        assert!(matches!(first, Some(First::Promote(_))), "{first:?}");
        assert_eq!(value, r#"{"username":"app","password":"new","x":"y"}"#);
        let (_, value, _) = put(planned(edited, 1));
        assert_eq!(value, r#"{"username":"app","password":"new"}"#);
        let notes = planned("host=h user=app password=p", 3);
        assert!(matches!(notes, Err(Obstacle::NotUnderstood { .. })), "{notes:?}");
    }

    #[test]
    fn what_was_edited_after_a_rename_that_is_not_promoted_gets_the_new_name() {
        let planned = |renamed: &str, edited: &str, change: &Change| {
            let mut versions = versions(Some(edited), Some((OURS, renamed)));
            let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            versions.staged.as_mut().unwrap().created = at(2);
            versions.current.as_mut().unwrap().created = at(3);
            plan(change, Some(&versions), |password| password.expose() == b"old")
        };
        let renamed = r#"{"username":"app2","password":"old"}"#;
        let edited = r#"{"username":"app","password":"old","x":"y"}"#;
        let to = |role: &str, renamed_from: Option<&str>| Change {
            role: role.into(),
            renamed_from: renamed_from.map(str::to_owned),
            ..change(Some("new"))
        };
        let (first, value, current) = put(planned(renamed, edited, &to("app2", None)));
        assert!(matches!(first, Some(First::Promote(_))), "{first:?}");
        assert_eq!(value, r#"{"username":"app2","password":"new","x":"y"}"#);
        assert_eq!(current.as_deref(), Some(OURS));
        let (_, value, _) = put(planned(renamed, edited, &to("app3", Some("app2"))));
        assert_eq!(value, r#"{"username":"app3","password":"new","x":"y"}"#);
        // Where no rename is known of, it is somebody else's by now.
        let refused = planned(r#"{"password":"old"}"#, edited, &to("app2", None));
        assert!(matches!(refused, Err(Obstacle::OtherUser { .. })), "{refused:?}");
    }

    #[test]
    fn what_was_staged_before_a_promotion_is_made_older_than_the_current_version() {
        let again = |text: &str| First::Again { value: Secret::new(text), current: Some("current".into()) };
        for before in ["secretlink-0000000000000007-00000001-0000000000000001", "secretlink-5f0c"] {
            // The server before may have committed it, and lost.
            let never = Some((before, r#"{"password":"lost"}"#));
            let (first, value, _) = put(planned(&change(Some("new")), Some(CURRENT), never));
            assert_eq!(first, Some(again(CURRENT)));
            assert_eq!(value, r#"{"username":"app","password":"new","host":"h"}"#);
            // This one has it, too.
            let committed = r#"{"username":"app","password":"old"}"#;
            let older = Some(r#"{"password":"older"}"#);
            let (first, ..) = put(planned(&change(Some("new")), older, Some((before, committed))));
            assert_eq!(first, Some(again(committed)));
        }
    }

    #[test]
    fn a_server_that_was_superseded_writes_nothing() {
        for later in [
            "secretlink-0000000000000007-00000003-0000000000000001",
            "slrotate-0000000000000007-00000003-0000000000000001",
        ] {
            let mut versions = versions(Some(CURRENT), None);
            versions.stages.versions.insert(later.into(), vec!["AWSPREVIOUS".into()]);
            let refused = plan(&change(Some("new")), Some(&versions), |_| true);
            assert!(matches!(refused, Err(Obstacle::Superseded { .. })), "{refused:?}");
        }
        // Another server's, or one from before.
        for other in [
            "secretlink-0000000000000008-00000003-0000000000000001",
            "secretlink-0000000000000007-00000001-0000000000000001",
        ] {
            let mut versions = versions(Some(CURRENT), None);
            versions.stages.versions.insert(other.into(), vec!["AWSPREVIOUS".into()]);
            put(plan(&change(Some("new")), Some(&versions), |_| true));
        }
    }

    #[test]
    fn a_secret_belongs_to_the_role_it_names() {
        let clone = r#"{"username":"app_clone","password":"old"}"#;
        for current in [clone, r#"{"username":"app_clone"}"#, r#"{"username":"App","password":"old"}"#] {
            let refused = planned(&change(Some("new")), Some(current), None);
            assert!(matches!(refused, Err(Obstacle::OtherUser { .. })), "{refused:?}");
        }
        let refused = planned(&change(Some("new")), Some(r#"{"username":["app"],"password":"old"}"#), None);
        assert!(matches!(refused, Err(Obstacle::NotUnderstood { .. })));
        // Nor is somebody's rotation adopted that is for another user.
        let rotation = Some(("5f0c", r#"{"username":"app_clone","password":"new"}"#));
        let refused = planned(&change(Some("new")), Some(CURRENT), rotation);
        assert!(matches!(refused, Err(Obstacle::OtherUser { username, .. }) if username == "app_clone"));
        // The name that a role is being given, or had.
        let renamed =
            |to: &str| Change { role: to.into(), renamed_from: Some("app".into()), ..change(Some("new")) };
        for (to, is_right) in [("app_clone", true), ("app2", false)] {
            let plan = planned(&renamed(to), Some(clone), None);
            assert_eq!(matches!(plan, Ok(StagingPlan::Put { .. })), is_right, "{to} {plan:?}");
            put(planned(&renamed(to), Some(CURRENT), None));
        }
    }

    #[test]
    fn what_is_not_understood_is_not_replaced() {
        let change = change(Some("new"));
        let refused = planned(&change, Some("{\"password\":\"old\",}"), None);
        assert!(matches!(refused, Err(Obstacle::NotUnderstood { .. })), "{refused:?}");
        assert!(matches!(put(planned(&change, Some("old"), None)), (None, value, _) if value == "new"));
        // The role's own password is no notes, however it looks, nor is the one it is being given.
        let right = |password: &Secret| password.expose() == b"{old";
        let planned = plan(&change, Some(&versions(Some("{old"), None)), right);
        assert!(matches!(planned, Ok(StagingPlan::Put { .. })), "{planned:?}");
        let odd = Change { password: Some(Secret::new("{odd")), ..change };
        let planned = plan(&odd, Some(&versions(Some("{odd"), None)), |_| false);
        assert!(matches!(planned, Ok(StagingPlan::Nothing { .. })), "{planned:?}");
    }

    #[test]
    fn somebody_elses_rotation_is_not_overwritten() {
        let rotation = Some(("5f0c", r#"{"password":"theirs"}"#));
        let refused = planned(&change(Some("new")), Some(CURRENT), rotation);
        assert!(matches!(refused, Err(Obstacle::Rotating { version_id, .. }) if version_id == "5f0c"));
        // But its own step, setting the password it has staged, goes through.
        match planned(&change(Some("theirs")), Some(CURRENT), rotation) {
            Ok(StagingPlan::Adopt(staged)) => assert_eq!(staged.version_id, "5f0c"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn our_own_rotations_version_is_left_to_it() {
        let rotation = Some(("slrotate-1", r#"{"username":"app","password":"theirs"}"#));
        match planned(&change(Some("theirs")), Some(CURRENT), rotation) {
            Ok(StagingPlan::Leave { version_id }) => assert_eq!(version_id, "slrotate-1"),
            other => panic!("{other:?}"),
        }
        // It takes its password back.
        match planned(&change(Some("old")), Some(CURRENT), rotation) {
            Ok(StagingPlan::Nothing { version_id }) => assert_eq!(version_id, "current"),
            other => panic!("{other:?}"),
        }
        let refused = planned(&change(Some("new")), Some(CURRENT), rotation);
        assert!(matches!(refused, Err(Obstacle::Rotating { .. })), "{refused:?}");
        let clone = Some(("slrotate-1", r#"{"username":"app_clone","password":"theirs"}"#));
        let refused = planned(&change(Some("theirs")), Some(CURRENT), clone);
        assert!(matches!(refused, Err(Obstacle::OtherUser { .. })), "{refused:?}");
    }

    #[test]
    fn a_renamed_role_keeps_its_password() {
        let renamed = Change { role: "app2".into(), renamed_from: Some("app".into()), ..change(None) };
        let (_, value, _) = put(planned(&renamed, Some(CURRENT), None));
        assert_eq!(value, r#"{"username":"app2","password":"old","host":"h"}"#);
        // Its password must be there to be kept.
        let drifted = planned(&renamed, Some(r#"{"username":"app","password":"x"}"#), None);
        assert!(matches!(drifted, Err(Obstacle::Drifted { .. })));
        assert!(
            matches!(planned(&renamed, Some("old"), None), Ok(StagingPlan::Nothing { .. })),
            "nothing to rename"
        );
        // Without a secret there is nothing to keep, and a rename is no reason to make one.
        assert!(matches!(plan(&renamed, None, |_| true), Err(Obstacle::NothingToRename { .. })));
        assert!(matches!(planned(&renamed, None, None), Err(Obstacle::NothingToRename { .. })));
    }

    #[test]
    fn a_missing_secret_is_made_or_refused() {
        let right = |_: &Secret| false;
        match plan(&change(Some("new")), None, right) {
            Ok(StagingPlan::Create { value }) => {
                assert!(value.expose_str().unwrap().contains(r#""host":"h""#))
            }
            other => panic!("{other:?}"),
        }
        let refuse = Change { missing: Missing::Refuse, ..change(Some("new")) };
        assert!(matches!(plan(&refuse, None, right), Err(Obstacle::Missing { .. })));
        let by_arn = Change {
            secret: SecretId::parse("arn:aws:secretsmanager:eu-west-1:1:secret:x").unwrap(),
            ..change(Some("new"))
        };
        assert!(matches!(plan(&by_arn, None, right), Err(Obstacle::Missing { .. })));
        // Made by somebody without a value: there is nothing to overwrite.
        let fields = NewFields { host: "h".into(), port: 1, dbname: "d".into() };
        let must_create = Change { missing: Missing::MustCreate(fields), ..change(Some("new")) };
        put(planned(&must_create, None, None));
        assert!(matches!(planned(&must_create, Some(CURRENT), None), Err(Obstacle::NotNew { .. })));
    }

    #[test]
    fn what_a_creation_that_never_heard_of_it_left_is_no_other_secret() {
        let fields = NewFields { host: "h".into(), port: 1, dbname: "d".into() };
        let change = Change { missing: Missing::MustCreate(fields), ..change(Some("new")) };
        let left = |text: &str, version_id: &str, versions_in_all: usize| {
            let mut versions = versions(Some(text), None);
            versions.current.as_mut().unwrap().version_id = version_id.to_owned();
            versions.stages.versions =
                (0..versions_in_all).map(|n| (n.to_string(), vec![stage::CURRENT.to_owned()])).collect();
            plan(&change, Some(&versions), |_| false)
        };
        let value = |password: &str| {
            format!(
                r#"{{"engine":"postgres","host":"h","port":1,"dbname":"d","username":"app","password":"{password}"}}"#
            )
        };
        let (_, written, current) = put(left(&value("left"), "secretlink-1", 1));
        assert_eq!((written, current.as_deref()), (value("new"), Some("secretlink-1")));
        for (text, version_id, versions_in_all) in [
            (value("left"), "5f0c", 1),
            (value("left"), "secretlink-1", 2),
            (value("left").replace(r#""h""#, r#""other""#), "secretlink-1", 1),
            (value("left").replace("app", "app2"), "secretlink-1", 1),
            (value("left").replace('}', r#","more":1}"#), "secretlink-1", 1),
            ("left".to_owned(), "secretlink-1", 1),
        ] {
            let refused = left(&text, version_id, versions_in_all);
            assert!(matches!(refused, Err(Obstacle::NotNew { .. })), "{text}: {refused:?}");
        }
    }

    #[test]
    fn a_secret_of_somebody_else_is_left_alone() {
        let refused = |change_stages: &dyn Fn(&mut secretlink_aws::SecretStages)| {
            let mut versions = versions(Some(CURRENT), None);
            change_stages(&mut versions.stages);
            plan(&change(Some("new")), Some(&versions), |_| true).unwrap_err()
        };
        let owned = refused(&|stages| stages.owning_service = Some("rds".into()));
        assert_eq!(owned.to_string(), "secret \"prod/app\" is managed by rds");
        let by_name = Change { secret: SecretId::parse("rds!db-1").unwrap(), ..change(Some("new")) };
        assert!(
            matches!(plan(&by_name, None, |_| true), Err(Obstacle::Owned { service, .. }) if service == "rds")
        );
        let replica = refused(&|stages| stages.primary_region = Some("eu-west-1".into()));
        assert!(matches!(replica, Obstacle::Replica { .. }));
        let deleted = refused(&|stages| stages.deleted = Some(std::time::SystemTime::UNIX_EPOCH));
        assert!(matches!(deleted, Obstacle::Aws(AwsError::MarkedForDeletion { .. })));
        let mut original = versions(Some(CURRENT), None);
        original.stages.primary_region = Some("us-east-1".into());
        assert!(plan(&change(Some("new")), Some(&original), |_| true).is_ok());
    }
}
