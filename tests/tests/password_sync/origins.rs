//! Whose a version is: this server's, a former release's, a rotation's, or that of a server which was promoted
//! in place of this one.

use crate::ground::{Ground, SETTLED, api, ground, new_password};
use crate::synced_role::SyncedRole;
use secretlink_e2e::{Fault, eventually};
use serde_json::json;

/// A version as the release before has written it.
const BEFORE: &str = "secretlink-01234567-89ab-cdef-0123-456789abcdef";

/// Writes a version with this id and this label.
fn put(role: &SyncedRole<'_>, version_id: &str, password: &str, label: &str) {
    let value = json!({ "username": role.name, "password": password }).to_string();
    let input = json!({ "SecretId": role.secret, "ClientRequestToken": version_id, "SecretString": value,
                        "VersionStages": [label] });
    api().call("PutSecretValue", input).unwrap();
}

/// Sets a password behind the back of password sync: the role is in doubt afterwards.
fn set_unseen(role: &SyncedRole<'_>, password: &str) {
    role.ground.session().run(&format!("SET secretlink.password_sync = off; {}", role.alter_to(password)));
}

/// The id of a version that this server writes, on another timeline.
fn of_timeline(role: &SyncedRole<'_>, timeline: u32) -> String {
    let sql = "SELECT to_hex(system_identifier) FROM pg_control_system()";
    let system = role.ground.session().text(sql).unwrap();
    format!("secretlink-{system:0>16}-{timeline:08x}-{:016x}", fastrand::u64(..))
}

#[test]
fn a_version_says_which_server_has_written_it() {
    let role = ground().synced_role("origin");
    ground().session().run_quietly(&role.alter().0);
    let version = api().version_at(&role.secret, "AWSCURRENT").unwrap();
    assert_eq!(version[..version.len() - 17], of_timeline(&role, 1)[..version.len() - 17], "{version}");
    assert!((32..=64).contains(&version.len()), "{version}");
}

#[test]
fn a_rotation_of_awss_begins_whatever_was_changed_before() {
    let ground = Ground::start();
    let rotate = |role: &SyncedRole<'_>| {
        api().call("RotateSecret", json!({ "SecretId": role.secret })).map(drop).map_err(|e| format!("{e:?}"))
    };
    // Through, rolled back, in doubt.
    let (through, back, doubt) =
        (ground.synced_role("through"), ground.synced_role("back"), ground.synced_role("doubt"));
    let mut session = ground.session();
    session.run_quietly(&through.alter().0);
    // The password is stored, and nobody hears of it.
    ground.relay.rule(&back.secret, |request| match request.operation.as_str() {
        "PutSecretValue" => Fault::CutAnswer,
        _ => Fault::None,
    });
    session.fails(&back.alter().0);
    ground.relay.rule(&doubt.secret, |request| match request.operation.as_str() {
        "UpdateSecretVersionStage" => Fault::Cut,
        _ => Fault::None,
    });
    session.warned(&doubt.alter().0);
    for role in [&through, &back, &doubt] {
        assert_eq!(api().version_at(&role.secret, "AWSPENDING"), None);
        rotate(role).unwrap();
    }
    ground.relay.pass_all();
}

#[test]
fn what_the_release_before_has_left_at_awspending_is_taken_away() {
    let ground = Ground::start();
    let gone = |role: &SyncedRole<'_>| {
        eventually("AWSPENDING is nowhere", SETTLED, || {
            api().version_at(&role.secret, "AWSPENDING").map_or(Ok(()), Err)
        });
    };
    // At what was never committed, at what was committed and not promoted, and at what is current.
    for committed in [false, true] {
        let role = ground.synced_role("before");
        let (before, staged) = (role.password(), new_password());
        put(&role, BEFORE, &staged, "AWSPENDING");
        set_unseen(&role, if committed { &staged } else { &before });
        gone(&role);
        role.assert_password(if committed { &staged } else { &before });
    }
    let role = ground.synced_role("promoted");
    let password = new_password();
    put(&role, BEFORE, &password, "AWSPENDING");
    let current = api().version_at(&role.secret, "AWSCURRENT").unwrap();
    api().move_label(&role.secret, "AWSCURRENT", Some(&current), Some(BEFORE)).unwrap();
    set_unseen(&role, &password);
    gone(&role);
    role.assert_password(&password);
}

#[test]
fn a_server_that_was_superseded_writes_nothing_and_says_so() {
    let ground = Ground::start();
    // As a standby of this cluster makes it after its promotion; a later version has become current since.
    for label in ["AWSCURRENT", "SECRETLINK", "AWSPREVIOUS"] {
        let role = ground.synced_role("superseded");
        let before = role.password();
        put(
            &role,
            &of_timeline(&role, 2),
            &new_password(),
            if label == "SECRETLINK" { label } else { "AWSCURRENT" },
        );
        if label == "AWSPREVIOUS" {
            put(&role, &format!("{:0>32}", fastrand::u64(..)), &new_password(), "AWSCURRENT");
        }
        let versions = || api().versions(&role.secret);
        let (untouched, current) = (versions(), role.current());
        let mut session = ground.session();
        let error = session.fails(&role.alter().0);
        assert_eq!(error.code().code(), "55000", "{error:?}");
        let detail = error.detail().unwrap_or_default();
        assert!(detail.contains("This server has been superseded"), "{error:?}");
        session.run_quietly("SELECT 1");
        assert!(ground.log_in(&role.name, &before).is_ok(), "nothing has changed");
        // Nor does the worker, which is told to look.
        role.check();
        set_unseen(&role, &new_password());
        role.until_seen("that it was superseded", |_| {
            role.seen().last_error.is_some_and(|error| error.contains("superseded"))
        });
        assert!(ground.cluster.log().contains("This server has been superseded"));
        assert_eq!((versions(), role.current()), (untouched, current), "{label}");
    }
}

#[test]
fn a_version_of_another_cluster_is_left_alone() {
    let ground = Ground::start();
    let role = ground.synced_role("other_cluster");
    let (before, theirs) = (role.password(), new_password());
    let other = "secretlink-00000000000000aa-00000001-00000000000000bb";
    put(&role, other, &theirs, "SECRETLINK");
    // Even if it has the role's password by now.
    set_unseen(&role, &theirs);
    role.until_state("drifted");
    assert_eq!(role.password(), before);
    assert_eq!(api().version_at(&role.secret, "SECRETLINK").as_deref(), Some(other));
    let (sql, password) = role.alter();
    ground.session().run_quietly(&sql);
    role.assert_password(&password);
}
