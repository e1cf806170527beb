//! The end of a transaction that has changed roles: staging before the commit. Promotion after it is in
//! `promote.rs`.
//!
//! | what ends early | what then holds |
//! |---|---|
//! | error, cancel or timeout while staging | the transaction is rolled back; `AWSCURRENT` was not touched |
//! | the backend or the server dies before the commit is on disk | the same; the version that was staged does not verify, and the worker takes its label away |
//! | it dies after the commit, before or during promotion | the version that was staged holds the committed password; the worker, which looks at every synced role when it starts, promotes it |
//! | promotion fails or takes too long | the same, with a WARNING; the role stays in doubt in shared memory |
//! | a request arrives after its sender gave up | staging: a version that nobody takes for the password; promotion: see [`secretlink_versions::promote`] |

use pgrx::{PgLogLevel, pg_sys};
use secretlink_aws::{AwsError, Client, SecretId};
use secretlink_core::{Report, Secret, side_by_side};
use secretlink_versions::{
    Change, Missing, NewFields, Obstacle, StagingPlan, Versions, plan, read_all_versions, unlabelled, write,
};
use std::time::Instant;

use super::changes::{self, RoleChange};
use super::error::SyncError;
use super::notice::Notice;
use super::promote::{self, AfterCommit, Promotion, Standing};
use super::states::State;
use super::target;
use super::turn;
use crate::backend::catalog::roles::{self, Role};
use crate::backend::process::io;
use crate::backend::process::report::{HiddenStatement, OrRaise, RawReport};
use crate::backend::process::server;
use crate::backend::process::transaction::{self, StatementTimeout};
use crate::backend::process::wait::WaitEvent;
use crate::backend::text::password_from_server;
use crate::secrets::client;
use crate::settings;
use crate::settings::sync::{HashedPassword, PasswordSettings, PasswordSync};

/// A role whose secret must change with this transaction.
struct Work {
    role: Role,
    before: Option<Role>,
    change: Change,
    /// The secret that a renamed role had under its old name, where a template names secrets.
    moved_from: Option<SecretId>,
    /// Whether the new password came as a hash: it has to be found in the secret.
    hashed: bool,
}

impl Work {
    /// Whether this was the role's password before the transaction.
    fn was_right(&self, password: &Secret) -> bool {
        self.before.as_ref().is_some_and(|before| before.verify(password))
    }

    fn role(&self) -> String {
        self.change.role.clone()
    }

    fn secret(&self) -> String {
        self.change.secret.as_str().to_owned()
    }

    fn not_staged(&self, obstacle: Obstacle) -> SyncError {
        let obstacle = target::knowing_clones(&self.change.role, obstacle);
        SyncError::NotStaged { role: self.role(), secret: self.secret(), obstacle: Box::new(obstacle) }
    }
}

/// Stages the new passwords of synced roles. Raises ERROR where one cannot be, and with it aborts the
/// transaction.
pub(crate) fn before_commit() {
    if !changes::is_empty() {
        let _hidden = HiddenStatement::begin();
        stage().or_raise();
    }
}

fn stage() -> Result<(), SyncError> {
    transaction::see_own_changes();
    let settings = settings::sync::current();
    let _limit = StatementTimeout::resume();
    let changes = changes::take();
    turn::lock(changes.iter().map(|(role, _)| role));
    let mut after = AfterCommit::default();
    let mut works = Vec::new();
    let mut labelled = Vec::new();
    for (oid, change) in changes {
        labelled.extend((change.labelled && !change.dropped).then_some(oid));
        works.extend(consider(oid, change, &settings, &mut after)?);
    }
    keep_apart(&labelled, &mut works, &settings, &mut after)?;
    if !works.is_empty() {
        server::show_activity(turn::ACTIVITY);
        transaction::force_synchronous_commit();
        promote::begin(works.iter().map(|work| work.role.oid).collect());
        bring_in(works, &settings, &mut after)?;
    }
    promote::if_committed(after);
    Ok(())
}

/// Sees to it that no two roles share a secret. A label is checked when it is set; here is seen what a
/// template, a rename or another session has made of it since. Who comes second sees what the first has
/// done, since both lock the secret's names first.
fn keep_apart(
    labelled: &[pg_sys::Oid],
    works: &mut Vec<Work>,
    settings: &PasswordSettings,
    after: &mut AfterCommit,
) -> Result<(), SyncError> {
    if labelled.is_empty() && works.is_empty() {
        return Ok(());
    }
    let mut secrets: Vec<_> = works.iter().map(|work| work.change.secret.clone()).collect();
    for role in labelled.iter().filter_map(|oid| roles::by_oid(*oid)) {
        secrets.extend(target::of(&role).ok().flatten());
    }
    target::lock(&secrets, true);
    transaction::see_changes_of_others();
    let owners = target::Owners::read();
    for refused in works.extract_if(.., |work| owners.rival(work.role.oid).is_some()) {
        let Some(rival) = owners.rival(refused.role.oid) else { continue };
        if is_strict(&refused, settings) {
            return Err(rival);
        }
        not_stored(refused.role.oid, &refused.change, &rival, after);
    }
    match labelled.iter().find_map(|oid| owners.other(*oid)) {
        // Nothing is written to it, and a WARNING has told.
        Some(other) if settings.mode != PasswordSync::Off => Err(other),
        _ => Ok(()),
    }
}

/// Whether a change that cannot be brought into its secret fails.
fn is_strict(work: &Work, settings: &PasswordSettings) -> bool {
    // Without its secret, nobody would know the password that was made for a role.
    settings.mode == PasswordSync::Strict || matches!(work.change.missing, Missing::MustCreate(_))
}

/// What one role's change asks for.
fn consider(
    oid: pg_sys::Oid,
    change: RoleChange,
    settings: &PasswordSettings,
    after: &mut AfterCommit,
) -> Result<Option<Work>, SyncError> {
    let role = if change.dropped { None } else { roles::by_oid(oid) };
    let Some(role) = role else {
        after.forgotten.push(oid);
        return Ok(None);
    };
    let off = settings.mode == PasswordSync::Off && !change.secret_wanted;
    let secret = match target::of(&role) {
        // A template that gives no name is no reason to refuse what is not synced.
        Err(_) if off => None,
        secret => secret?,
    };
    let Some(secret) = secret else {
        after.forgotten.push(oid);
        return Ok(None);
    };
    if off {
        after.doubted.push(oid);
        return Ok(None);
    }
    let name = role.display();
    let had_hash = change.before.as_ref().and_then(|before| before.hash.as_ref());
    let mut work = Change {
        role: name.clone(),
        renamed_from: None,
        secret,
        password: None,
        missing: missing(&change, settings),
    };
    let (mut moved_from, mut hashed) = (None, false);
    if let Some(before) = &change.before
        && before.name != role.name
    {
        work.renamed_from = Some(before.display());
        moved_from = target::of(&Role { name: before.name.clone(), ..role.clone() })?
            .filter(|old| *old != work.secret);
    }

    if role.hash.is_none() {
        if change.changed && had_hash.is_some() {
            let notice = Notice::NoPassword { role: name, secret: work.secret.as_str().into() };
            RawReport::new(&notice).emit(PgLogLevel::WARNING);
        }
        after.standings.push(Standing { oid, state: State::NoPassword, version_id: None, error: None });
        return Ok(None);
    }
    if change.changed && (role.hash.as_ref() != had_hash || !change.passwords.is_empty()) {
        match find_password(&role, &change.passwords) {
            Ok(password) => work.password = Some(password),
            Err(SyncError::Hashed { .. }) => hashed = true,
            // No client can send it: nothing can be stored.
            Err(error) if settings.hashed == HashedPassword::Verify => return Err(error),
            Err(error) => {
                not_stored(oid, &work, &error, after);
                return Ok(None);
            }
        }
    } else if work.renamed_from.is_none() {
        match change.labelled {
            true if change.is_seen => after.doubted.push(oid),
            true => after.tied.push(oid),
            false => {}
        }
        return Ok(None);
    }
    Ok(Some(Work { before: change.before, role, change: work, moved_from, hashed }))
}

fn missing(change: &RoleChange, settings: &PasswordSettings) -> Missing {
    if !change.secret_wanted && !settings.create_missing {
        return Missing::Refuse;
    }
    let fields = NewFields {
        host: settings::sync::advertised_host().unwrap_or_else(server::host_name),
        port: server::port(),
        dbname: server::database_name(),
    };
    if change.secret_wanted { Missing::MustCreate(fields) } else { Missing::Create(fields) }
}

/// The password that will be in force, as clients send it: one of those that the transaction has named.
/// The catalog decides: whatever was rolled back, overwritten or hashed by somebody else is not it.
fn find_password(role: &Role, passwords: &[Secret]) -> Result<Secret, SyncError> {
    let Some(password) = passwords.iter().find(|password| role.verify(password)) else {
        return Err(SyncError::Hashed { role: role.display() });
    };
    let sent = password_from_server(password.expose());
    if sent == *password || role.verify(&sent) {
        Ok(sent)
    } else {
        Err(SyncError::Encoding { role: role.display() })
    }
}

/// `secretlink.password_sync = warn`, or a rename that changes nothing for the worse: the change is
/// kept, and said not to be in the secret.
fn not_stored(oid: pg_sys::Oid, change: &Change, error: &dyn Report, after: &mut AfterCommit) {
    let mut reason = error.to_string();
    if let Some(detail) = error.detail() {
        reason = detail;
    }
    let (role, secret) = (change.role.clone(), change.secret.as_str().into());
    let (reason_told, hint) = (reason.clone(), error.hint());
    let notice = match &change.renamed_from {
        Some(from) if change.password.is_none() => {
            Notice::NotRenamed { from: from.clone(), role, secret, reason: reason_told, hint }
        }
        _ => Notice::NotStored { role, secret, reason: reason_told, hint },
    };
    RawReport::new(&notice).emit(PgLogLevel::WARNING);
    after.standings.push(Standing { oid, state: State::Drifted, version_id: None, error: Some(reason) });
}

/// Brings the changes into Secrets Manager, as far as that is done before the commit. With `strict`,
/// nothing is written unless everything can be.
fn bring_in(
    mut works: Vec<Work>,
    settings: &PasswordSettings,
    after: &mut AfterCommit,
) -> Result<(), SyncError> {
    // All calls of the change, those after the commit too, go over the same few connections.
    let client = client::current()?.in_conversation();
    let aws = client.until(Instant::now() + client.settings().request_timeout);
    after.with = Some((client, settings.promote_timeout));

    let ids = works.iter().map(|work| work.change.secret.clone()).collect();
    let mut versions = read_all(&aws, ids)?;
    find_moved(&aws, &mut works, &mut versions)?;
    find_renamed(&aws, &mut works, &mut versions)?;
    find_hashed(&mut works, &versions);

    let plans = plan_all(works, versions, settings, after)?;
    write_all(aws, plans, settings, after)
}

/// The plans for the changes that need one. What is to be said of the others goes into `after`.
fn plan_all(
    works: Vec<Work>,
    versions: Vec<Read>,
    settings: &PasswordSettings,
    after: &mut AfterCommit,
) -> Result<Vec<(Work, StagingPlan)>, SyncError> {
    let strict = |work: &Work| is_strict(work, settings);
    let mut plans = Vec::new();
    for (work, versions) in works.into_iter().zip(versions) {
        if work.hashed && work.change.password.is_none() && versions.is_ok() {
            let error = SyncError::Hashed { role: work.role() };
            if strict(&work) && settings.hashed == HashedPassword::Verify {
                return Err(error);
            }
            not_stored(work.role.oid, &work.change, &error, after);
            continue;
        }
        let planned = versions
            .map_err(Obstacle::from)
            .and_then(|versions| plan(&work.change, versions.as_ref(), |p| work.was_right(p)));
        match planned {
            Ok(StagingPlan::Nothing { version_id }) => after.standings.push(Standing {
                oid: work.role.oid,
                state: State::InSync,
                version_id: Some(version_id),
                error: None,
            }),
            Ok(StagingPlan::Leave { version_id }) => after.standings.push(Standing {
                oid: work.role.oid,
                state: State::Pending,
                version_id: Some(version_id),
                error: None,
            }),
            Ok(plan) => plans.push((work, plan)),
            Err(error) if strict(&work) && !matches!(error, Obstacle::NothingToRename { .. }) => {
                return Err(work.not_staged(error));
            }
            Err(error) => not_stored(work.role.oid, &work.change, &work.not_staged(error), after),
        }
    }
    Ok(plans)
}

/// Carries out the plans, side by side.
fn write_all(
    aws: Client,
    plans: Vec<(Work, StagingPlan)>,
    settings: &PasswordSettings,
    after: &mut AfterCommit,
) -> Result<(), SyncError> {
    let strict = |work: &Work| is_strict(work, settings);
    let (works, plans): (Vec<Work>, Vec<StagingPlan>) = plans.into_iter().unzip();
    let values: Vec<_> = plans.iter().map(|plan| plan.value().cloned()).collect();
    let requests: Vec<_> = works.iter().map(|work| work.change.clone()).zip(plans).collect();
    let server = server::observer();
    let written = io::run(WaitEvent::SecretsManager, async move {
        side_by_side(requests, |(change, plan)| {
            let aws = aws.clone();
            async move { write(&aws, server, &change, plan).await }
        })
        .await
    })?;
    for ((work, value), written) in works.iter().zip(values).zip(written) {
        match written {
            Ok(staged) => {
                let notice = Notice::Staged {
                    role: work.role(),
                    secret: work.secret(),
                    version_id: staged.version_id.clone(),
                };
                RawReport::new(&notice).emit(PgLogLevel::LOG);
                after.promotions.push(Promotion {
                    oid: work.role.oid,
                    role: work.role(),
                    secret: work.change.secret.clone(),
                    staged,
                    value,
                });
            }
            Err(error) if strict(work) => return Err(work.not_staged(error)),
            Err(error) => not_stored(work.role.oid, &work.change, &work.not_staged(error), after),
        }
    }
    Ok(())
}

/// What was read of a secret, or why it could not be read. Each further read that a change needs and that fails
/// stands here, too: what then becomes of the change is decided in one place.
type Read = Result<Option<Versions>, AwsError>;

fn read_all(aws: &Client, ids: Vec<SecretId>) -> Result<Vec<Read>, SyncError> {
    Ok(io::run(WaitEvent::SecretsManager, read_all_versions(aws.clone(), ids, server::observer()))?)
}

/// A renamed role whose secret goes by its name takes its password along to the new secret.
fn find_moved(aws: &Client, works: &mut [Work], versions: &mut [Read]) -> Result<(), SyncError> {
    let all = works.iter_mut().zip(versions);
    let moved: Vec<_> =
        all.filter(|(work, _)| work.change.password.is_none() && work.moved_from.is_some()).collect();
    let ids = moved.iter().filter_map(|(work, _)| work.moved_from.clone()).collect();
    for ((work, versions), former) in moved.into_iter().zip(read_all(aws, ids)?) {
        let former = match former {
            Ok(former) => former,
            Err(error) => {
                *versions = Err(error);
                continue;
            }
        };
        let name = work.change.name_before();
        let found = former.and_then(|former| former.of_role(name, |p| work.was_right(p)));
        let own = found.filter(|candidate| candidate.may_be_of(name));
        work.change.password = own.map(|candidate| candidate.password);
    }
    Ok(())
}

/// A rename that was committed, and whose version was neither promoted nor has kept its label, must not be
/// lost with the next change: the secret still has the former name.
fn find_renamed(aws: &Client, works: &mut [Work], versions: &mut [Read]) -> Result<(), SyncError> {
    for (work, read) in works.iter_mut().zip(versions) {
        let Ok(Some(versions)) = &*read else { continue };
        let name = work.change.name_before().to_owned();
        let Some(former) = versions.other_name(&name, |password| work.was_right(password)) else { continue };
        let (aws, id, then) = (aws.clone(), work.change.secret.clone(), versions.clone());
        match io::run(WaitEvent::SecretsManager, async move { unlabelled(&aws, &id, &then).await })? {
            Ok(found) if found.iter().any(|c| c.is_of(&name, |password| work.was_right(password))) => {
                work.change.renamed_from = Some(former);
            }
            Ok(_) => {}
            Err(error) => *read = Err(error),
        }
    }
    Ok(())
}

/// Takes a password that came as a hash if the secret has that password already: a tool that sends hashes has put it
/// there first. From here on it is as any other.
fn find_hashed(works: &mut [Work], versions: &[Read]) {
    for (work, versions) in works.iter_mut().zip(versions).filter(|(work, _)| work.hashed) {
        let Ok(Some(versions)) = versions else { continue };
        let names = [Some(&work.change.role), work.change.renamed_from.as_ref()];
        let found = versions.labelled().find(|candidate| {
            names.iter().flatten().any(|name| candidate.may_be_of(name))
                && work.role.verify(&candidate.password)
        });
        work.change.password = found.map(|candidate| candidate.password);
    }
}

/// A prepared transaction may be committed by any session at any time, or never: its passwords cannot
/// be staged.
pub(crate) fn before_prepare() {
    if !changes::is_empty() {
        refuse_prepare().or_raise();
    }
}

fn refuse_prepare() -> Result<(), SyncError> {
    transaction::see_own_changes();
    let settings = settings::sync::current();
    for (oid, change) in changes::take() {
        let mut after = AfterCommit::default();
        let work = consider(oid, change, &settings, &mut after)?;
        // Nor can the worker be told of what else happened to a synced role.
        let told = !after.standings.is_empty() || !after.doubted.is_empty() || !after.tied.is_empty();
        if work.is_some() || (told && settings.mode != PasswordSync::Off) {
            let role = roles::by_oid(oid).map(|role| role.display()).unwrap_or_default();
            return Err(SyncError::Prepared { role });
        }
    }
    Ok(())
}
