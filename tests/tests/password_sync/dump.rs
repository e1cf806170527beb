//! `pg_dumpall` and restore.

use crate::ground::{Ground, RECONCILE_INTERVAL, SETTLED, api};
use crate::synced_role::password_in;
use secretlink_e2e::{PostgresBin, TempDir, eventually, unique};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What `pg_dumpall` says of a server.
fn dump(ground: &Ground, file: &Path) {
    let dump = Command::new(PostgresBin::get().program("pg_dumpall"))
        .args(["--dbname", &ground.cluster.conninfo("postgres", "postgres"), "--file"])
        .arg(file)
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
}

/// Restore it, and say what psql complained of: not of the superuser, who is there already.
fn restore(ground: &Ground, file: &Path, options: &str) -> Vec<String> {
    let restore = ground
        .cluster
        .psql_command(&ground.cluster.conninfo("postgres", "postgres"))
        .args(["--quiet", "--output=/dev/null", "--file"])
        .arg(file)
        .env("PGOPTIONS", options)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&restore.stderr);
    let complaints = said.lines().filter(|line| !line.ends_with("role \"postgres\" already exists"));
    complaints.map(str::to_owned).collect()
}

/// The requests that would change this secret.
fn writes(ground: &Ground, secret: &str) -> Vec<String> {
    let mut operations = ground.relay.operations(secret);
    operations
        .retain(|operation| !["Describe", "Get", "List"].iter().any(|read| operation.starts_with(read)));
    operations
}

#[test]
fn a_restored_cluster_has_the_labels_and_touches_no_secret() {
    let old = Ground::start();
    let role = old.synced_role("dumped");
    let mut session = old.session();
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    session.run("CREATE ROLE exempt LOGIN PASSWORD 'x'; SECURITY LABEL FOR secretlink ON ROLE exempt IS ''");
    let missing = unique("missing");
    session.run(&format!("CREATE ROLE unmade LOGIN PASSWORD 'x'; SELECT sync_role('unmade', '{missing}')"));
    let labels = "SELECT string_agg(objoid::regrole || '=' || label, ',' ORDER BY objoid::regrole::text) FROM pg_shseclabel WHERE provider = 'secretlink'";
    let before = (session.text(labels), role.current(), role.versions());

    let directory = TempDir::new();
    let file = directory.path().join("dump.sql");
    dump(&old, &file);
    let new = Ground::start();
    assert_eq!(restore(&new, &file, ""), Vec::<String>::new());

    let mut session = new.session();
    assert_eq!(session.text(labels), before.0);
    std::thread::sleep(RECONCILE_INTERVAL * 2);
    assert_eq!((role.current(), role.versions()), (before.1, before.2));
    for secret in [&role.secret, &missing] {
        assert_eq!(writes(&new, secret), Vec::<String>::new(), "{secret}");
    }
    // The hash was restored with the role.
    assert_eq!(new.log_in(&role.name, &password).as_ref(), Ok(&role.name));
    assert_eq!(session.text(&format!("SELECT check_role_sync('{}')", role.name)).as_deref(), Some("in_sync"));
}

#[test]
fn where_a_template_syncs_all_roles_a_restore_switches_it_off() {
    let old = Ground::start();
    let role = old.synced_role("dumped");
    let password = role.password();
    old.session().run("CREATE ROLE by_template LOGIN PASSWORD 'x'");
    let directory = TempDir::new();
    let file = directory.path().join("dump.sql");
    dump(&old, &file);

    let new = Ground::with(|cluster| cluster.conf("secretlink.sync_secret_template = 'restored/{role}'"));
    // A dump gives hashes, before it gives labels: that no secret can follow is said, not passed over.
    let complaints = restore(&new, &file, "");
    let hashed = |line: &&String| line.contains("ERROR") && line.contains("was given as a hash");
    assert_eq!(complaints.iter().filter(hashed).count(), 2, "{complaints:#?}");

    let new = Ground::with(|cluster| cluster.conf("secretlink.sync_secret_template = 'restored/{role}'"));
    assert_eq!(restore(&new, &file, "-c secretlink.password_sync=off"), Vec::<String>::new());
    assert_eq!(new.log_in(&role.name, &password).as_ref(), Ok(&role.name));
    assert_eq!(new.log_in("by_template", "x").as_deref(), Ok("by_template"));
    std::thread::sleep(RECONCILE_INTERVAL * 2);
    for secret in [role.secret.as_str(), "restored/by_template"] {
        assert_eq!(writes(&new, secret), Vec::<String>::new(), "{secret}");
    }
    // The template waits for the next change.
    new.session().run_quietly("ALTER ROLE by_template PASSWORD 'y'");
    assert_eq!(password_in(&api().get_secret_value("restored/by_template").unwrap()), "y");
}

/// A release before allowed it. What it made must not be lost, nor used.
#[test]
fn two_roles_with_one_secret_are_restored_and_told_of() {
    let old = Ground::start();
    let role = old.synced_role("one");
    let second = old.synced_role("two");
    let directory = TempDir::new();
    let file = directory.path().join("dump.sql");
    dump(&old, &file);
    let text = fs::read_to_string(&file).unwrap();
    let described = api().call("DescribeSecret", serde_json::json!({ "SecretId": role.secret })).unwrap();
    let arn = described["ARN"].as_str().unwrap();
    for same in [&role.secret, arn, &arn[..arn.len() - 7]] {
        let label = |secret: &str| format!(" IS '{secret}'");
        assert!(text.contains(&label(&second.secret)));
        fs::write(&file, text.replace(&label(&second.secret), &label(same))).unwrap();

        let new = Ground::start();
        let said = restore(&new, &file, "-c secretlink.password_sync=off");
        assert!(said.len() > 1 && !said.iter().any(|line| line.contains("ERROR")), "{said:#?}");
        let warned = |line: &&String| line.contains("WARNING") && line.contains("already in use for role");
        assert_eq!(said.iter().filter(warned).count(), 1, "{said:#?}");
        let mut session = new.session();
        for name in [&role.name, &second.name] {
            let seen = format!(
                "SELECT check_role_sync('{name}') || ' ' || (SELECT last_error FROM role_sync WHERE role = '{name}')"
            );
            // The worker may be looking just then: it is that look which the view shows.
            eventually("it is told", SETTLED, || match session.text(&seen) {
                Some(seen) if seen.starts_with("drifted ") && seen.contains("already in use") => Ok(()),
                other => Err(format!("{other:?}")),
            });
            session.refused(&format!("ALTER ROLE {name} PASSWORD 'x'"), "42710", "already in use");
        }
        assert_eq!(new.log_in(&second.name, &second.password()).as_ref(), Ok(&second.name));
        // The way out.
        session.run(&format!("SELECT sync_role('{}', '{}')", second.name, second.secret));
        for name in [&role.name, &second.name] {
            let check = format!("SELECT check_role_sync('{name}')");
            assert_eq!(session.text(&check).as_deref(), Some("in_sync"));
        }

        // Without the setting everything else is restored, and what is not is said.
        let new = Ground::start();
        let said = restore(&new, &file, "");
        assert_eq!(said.iter().filter(|line| line.contains("ERROR")).count(), 1, "{said:#?}");
        assert_eq!(new.log_in(&second.name, &second.password()).as_ref(), Ok(&second.name));
        assert_eq!(new.session().text("SELECT count(*) FROM role_sync").as_deref(), Some("1"));
    }
}
