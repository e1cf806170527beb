//! One secret, one role: whatever the secret is called, and by whomever it is tied.

use crate::ground::{Ground, api, ground, new_password};
use crate::session::Session;
use crate::synced_role::SyncedRole;
use postgres::error::DbError;
use secretlink_e2e::{StopMode, random_password, unique};
use serde_json::{Value, json};
use std::thread;

fn arn_of(secret: &str) -> String {
    let described = api().call("DescribeSecret", json!({ "SecretId": secret })).unwrap();
    described["ARN"].as_str().unwrap().to_owned()
}

fn new_role(session: &mut Session, stem: &str) -> String {
    let role = unique(stem).replace('-', "_");
    session.run(&format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", new_password()));
    role
}

fn label(role: &str, secret: &str) -> String {
    format!("SECURITY LABEL FOR secretlink ON ROLE {role} IS '{secret}'")
}

/// That it was refused because of a role, and how.
#[track_caller]
fn refused_for(session: &mut Session, sql: &str, role: &str) -> DbError {
    let error = session.refused(sql, "42710", role);
    assert!(error.hint().is_some(), "{error:?}");
    error
}

#[test]
fn whatever_a_secret_is_called_a_second_role_does_not_get_it() {
    let ground = ground();
    let mut session = ground.session();
    let (one, other) = (new_role(&mut session, "one"), new_role(&mut session, "other"));
    // The name of a secret may end as an ARN does.
    for name in [unique("apart"), format!("{}-backup", unique("apart"))] {
        api().create_login_secret(&name, &one, "x");
        let arn = arn_of(&name);
        let partial = arn.rsplit_once('-').unwrap().0.to_owned();
        let ids = [name.clone(), partial, arn];
        for (first, second) in ids.iter().flat_map(|first| ids.iter().map(move |second| (first, second))) {
            session.run(&label(&one, first));
            // AWS is not asked: nobody would answer.
            session.run("SET secretlink.endpoint_url = 'http://127.0.0.1:1'");
            for region in ["us-east-1", "eu-west-1"] {
                session.run(&format!("SET secretlink.region = '{region}'"));
                for sql in [
                    format!("SELECT sync_role('{other}', '{second}')"),
                    label(&other, second),
                    format!("SELECT create_role_with_secret('{other}_2', '{second}')"),
                ] {
                    let error = refused_for(&mut session, &sql, &one);
                    let named = error.detail().is_some_and(|detail| detail.contains(first.as_str()));
                    assert_eq!(named, first != second, "{error:?}");
                }
            }
            session.run("RESET secretlink.region; RESET secretlink.endpoint_url");
            session.run(&label(&one, ""));
        }
        // Those of another region or account are others.
        for different in
            [ids[2].replace("us-east-1", "eu-west-1"), ids[1].replace("123456789012", "999999999999")]
        {
            session.run(&format!("{}; {}", label(&one, &ids[2]), label(&other, &different)));
            session.run(&format!("{}; {}", label(&one, ""), label(&other, "")));
        }
    }
}

#[test]
fn a_template_leads_no_second_role_to_a_secret() {
    let mut ground = Ground::with(|cluster| cluster.conf("secretlink.sync_secret_template = 'kept/{role}'"));
    let mut session = ground.session();
    let password = random_password();
    session.run(&format!("CREATE ROLE owner LOGIN; {}", label("owner", "kept/a")));
    session.run(&format!("ALTER ROLE owner PASSWORD '{password}'"));
    let owner = |ground: &Ground| {
        assert_eq!(ground.log_in("owner", &password).as_deref(), Ok("owner"));
        let current: Value = serde_json::from_str(&api().get_secret_value("kept/a").unwrap()).unwrap();
        assert_eq!((&current["username"], &current["password"]), (&json!("owner"), &json!(password)));
    };
    owner(&ground);

    // A new role, one that gets its first password, and one that gets the name.
    refused_for(&mut session, "CREATE ROLE a LOGIN PASSWORD 'x'", "owner");
    session.run("CREATE ROLE a LOGIN; CREATE ROLE b LOGIN PASSWORD 'b'");
    refused_for(&mut session, "ALTER ROLE a PASSWORD 'x'", "owner");
    refused_for(&mut session, "BEGIN; ALTER ROLE a PASSWORD 'x'; COMMIT", "owner");
    session.run("ROLLBACK; DROP ROLE a");
    refused_for(&mut session, "ALTER ROLE b RENAME TO a", "owner");
    refused_for(&mut session, "BEGIN; ALTER ROLE b RENAME TO a; ALTER ROLE a PASSWORD 'x'; COMMIT", "owner");
    session.run("ROLLBACK");
    // A label for a secret that is a templated role's.
    refused_for(&mut session, &label("owner", "kept/b"), "b");
    refused_for(&mut session, &label("owner", &arn_of("kept/b")), "b");

    // A label that was set at the same time.
    let mut labelling = ground.session();
    labelling.run(&format!("BEGIN; CREATE ROLE late; {}", label("late", "kept/c")));
    session.run("CREATE ROLE c LOGIN PASSWORD 'c'");
    refused_for(&mut labelling, "COMMIT", "c");

    // With warn the change is kept, and nothing is written.
    session.run("SET secretlink.password_sync = warn");
    let warning = session.warned("CREATE ROLE a LOGIN PASSWORD 'x'");
    assert!(format!("{warning:?}").contains("owner"), "{warning:?}");
    owner(&ground);
    session.run("RESET secretlink.password_sync");
    let a = SyncedRole { ground: &ground, name: "a".into(), secret: "kept/a".into() };
    let seen = a.until_state("drifted");
    assert!(seen.last_error.unwrap_or_default().contains("owner"));
    assert_eq!(a.check(), "drifted");

    // A restart forgets nothing, and no other template than the one in force counts.
    drop((session, labelling));
    ground.cluster.restart(StopMode::Fast);
    let mut session = ground.session();
    refused_for(&mut session, "ALTER ROLE a PASSWORD 'y'", "owner");
    session.run("ALTER SYSTEM SET secretlink.sync_secret_template = 'other/{role}'");
    session.run("SELECT pg_reload_conf()");
    secretlink_e2e::eventually("the template is read", crate::ground::SETTLED, || {
        session.client.batch_execute("ALTER ROLE a PASSWORD 'y'").map_err(|e| format!("{e:?}"))
    });
    owner(&ground);
    session.run(&format!("ALTER ROLE owner PASSWORD '{password}-2'"));
    assert_eq!(ground.log_in("owner", &format!("{password}-2")).as_deref(), Ok("owner"));
    assert_eq!(ground.log_in("a", "y").as_deref(), Ok("a"));
}

#[test]
fn two_roles_that_a_former_release_tied_to_one_secret_do_not_change_it() {
    let ground = ground();
    let role = ground.synced_role("legacy");
    let mut session = ground.session();
    let other = new_role(&mut session, "legacy_other");
    // As the former release took it: by a catalog that knows nothing of ARNs.
    session.run(&label(&other, &unique("own")));
    let arn = arn_of(&role.secret);
    session.run("SET allow_system_table_mods = on");
    session.run(&format!(
        "UPDATE pg_shseclabel SET label = '{arn}' WHERE provider = 'secretlink' AND objoid = '{other}'::regrole"
    ));
    let before = role.current();
    let error = refused_for(&mut session, &role.alter().0, &other);
    assert!(error.detail().is_some_and(|detail| detail.contains(&arn)), "{error:?}");
    refused_for(&mut session, &format!("ALTER ROLE {other} PASSWORD 'x'"), &role.name);
    assert_eq!(role.current(), before);
    assert_eq!(role.check(), "drifted");
    // Untying one of them is the way out.
    session.run(&format!("SELECT unsync_role('{other}')"));
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);
    role.until_state("in_sync");
}

#[test]
fn roles_that_may_share_a_secret_take_turns_and_do_not_deadlock() {
    let ground = ground();
    let role = ground.synced_role("turns");
    let arn = arn_of(&role.secret);
    let (name, secret) = (role.name.clone(), role.secret.clone());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut session = ground.session();
                for round in 0..20 {
                    let id = if round % 2 == 0 { &arn } else { &secret };
                    session.run(&format!("SELECT sync_role('{name}', '{id}')"));
                }
            });
        }
        scope.spawn(|| {
            let mut session = ground.session();
            for _ in 0..20 {
                session.run(&role.alter().0);
            }
        });
    });
    role.assert_in_sync();
}

/// A synced role whose secret is for somebody else, with the role's own password.
fn role_with_secret_of<'a>(ground: &'a Ground, user: &str) -> (SyncedRole<'a>, String) {
    let role = unique("tied").replace('-', "_");
    let (secret, password) = (format!("sync/{role}"), random_password());
    api().create_login_secret(&secret, &user.replace("ROLE", &role), &password);
    (ground.labelled_role(&role, &secret, &password), password)
}

#[test]
fn a_secret_belongs_to_the_role_it_names() {
    let ground = ground();
    for user in ["somebody", "ROLE_clone", "ROLE ", "\u{feff}ROLE", "PostgreS"] {
        let (role, password) = role_with_secret_of(ground, user);
        let user = user.replace("ROLE", &role.name);
        let before = (role.current(), role.versions());
        let mut session = ground.session();
        assert_eq!(role.check(), "drifted", "{user}");
        let seen = role.until_state("drifted");
        assert!(seen.last_error.is_some_and(|error| error.contains(&user)), "{user}");
        let warning = session.warned(&format!("SELECT sync_role('{}', '{}')", role.name, role.secret));
        assert!(warning.detail().is_some_and(|detail| detail.contains(&user)), "{warning:?}");

        let error = session.refused(&role.alter().0, "55000", &role.secret);
        assert!(error.detail().is_some_and(|detail| detail.contains(&user)), "{error:?}");
        assert!(error.hint().is_some_and(|hint| !hint.contains("rotate_secret")), "{error:?}");
        session.refused(&format!("ALTER ROLE {0} RENAME TO {0}_2", role.name), "55000", &role.secret);
        assert_eq!((role.current(), role.versions()), before);
        assert_eq!(ground.log_in(&role.name, &password).as_ref(), Ok(&role.name));

        // With warn the change is kept, and the secret is not touched.
        session.run("SET secretlink.password_sync = warn");
        let (sql, password) = role.alter();
        session.warned(&sql);
        assert_eq!((role.current(), role.versions()), before);
        assert_eq!(ground.log_in(&role.name, &password).as_ref(), Ok(&role.name));
        session.run("RESET secretlink.password_sync");

        // A secret that is put right is the role's.
        api().put_secret_value(
            &role.secret,
            &json!({ "username": role.name, "password": password }).to_string(),
            &["AWSCURRENT"],
        );
        assert_eq!(role.check(), "in_sync");
        let (sql, password) = role.alter();
        session.run_quietly(&sql);
        role.assert_password(&password);
    }
}

#[test]
fn a_secret_is_for_whom_a_role_is_being_renamed_to_or_from() {
    let ground = ground();
    let (role, _) = role_with_secret_of(ground, "ROLE_new");
    let mut session = ground.session();
    let new = format!("{}_new", role.name);
    session.run_quietly(&format!("ALTER ROLE {} RENAME TO {new}", role.name));
    let role = SyncedRole { name: new, ..role };
    role.assert_in_sync();
    assert_eq!(role.check(), "in_sync");
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);
}

#[test]
fn the_other_of_a_pair_that_takes_turns_is_recognised() {
    let ground = ground();
    let (base, _) = role_with_secret_of(ground, "ROLE_clone");
    let mut session = ground.session();
    session.run(&format!("CREATE ROLE {0}_clone LOGIN IN ROLE {0}", base.name));
    let error = session.refused(&base.alter().0, "55000", &base.secret);
    assert!(error.hint().is_some_and(|hint| hint.contains("rotate_secret")), "{error:?}");
    // The other way round, and told when they are tied.
    session.run(&format!("SELECT unsync_role('{}')", base.name));
    let secret = unique("turn");
    api().create_login_secret(&secret, &base.name, "x");
    let clone = SyncedRole { ground, name: format!("{}_clone", base.name), secret };
    session.run(&clone.alter_to("x"));
    let warning = session.warned(&format!("SELECT sync_role('{}', '{}')", clone.name, clone.secret));
    assert!(warning.hint().is_some_and(|hint| hint.contains("rotate_secret")), "{warning:?}");
    let error = session.refused(&clone.alter().0, "55000", &clone.secret);
    assert!(error.hint().is_some_and(|hint| hint.contains("rotate_secret")), "{error:?}");
}

#[test]
fn a_rotation_for_another_user_is_not_taken_for_the_roles() {
    let ground = ground();
    let role = ground.synced_role("alternating");
    let before = role.password();
    let (sql, password) = role.alter();
    let theirs = json!({ "username": format!("{}_clone", role.name), "password": password });
    let version = api().put_secret_value(&role.secret, &theirs.to_string(), &["AWSPENDING"]);
    let mut session = ground.session();
    let error = session.refused(&sql, "55000", &role.secret);
    assert!(error.detail().is_some_and(|detail| detail.contains("_clone")), "{error:?}");
    assert_eq!(api().version_at(&role.secret, "AWSPENDING").as_ref(), Some(&version));
    assert_eq!(role.password(), before);
    // Not even if the role has that password, and the worker looks.
    session.run(&format!("SET secretlink.password_sync = off; {sql}"));
    assert_eq!(role.check(), "drifted");
    role.until_state("drifted");
    assert_eq!(api().version_at(&role.secret, "AWSPENDING").as_ref(), Some(&version));
}
