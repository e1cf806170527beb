//! `pg_dumpall` and restore.

use crate::ground::Ground;
use secretlink_e2e::{PostgresBin, TempDir, unique};
use std::process::Command;
use std::time::Duration;

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
    let dump = Command::new(PostgresBin::get().program("pg_dumpall"))
        .args(["--dbname", &old.cluster.conninfo("postgres", "postgres"), "--file"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));

    let new = Ground::start();
    let restore = new
        .cluster
        .psql_command(&new.cluster.conninfo("postgres", "postgres"))
        .args(["--quiet", "--output=/dev/null", "--file"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&restore.stderr);
    // The superuser is there already.
    let complaints: Vec<&str> =
        said.lines().filter(|line| !line.ends_with("role \"postgres\" already exists")).collect();
    assert_eq!(complaints, Vec::<&str>::new());

    let mut session = new.session();
    assert_eq!(session.text(labels), before.0);
    std::thread::sleep(crate::ground::RECONCILE_INTERVAL * 2 + Duration::from_millis(500));
    assert_eq!((role.current(), role.versions()), (before.1, before.2));
    for secret in [&role.secret, &missing] {
        let operations = new.relay.operations(secret);
        let writes: Vec<&String> = operations
            .iter()
            .filter(|operation| {
                ["Put", "Create", "Update", "Delete"].iter().any(|write| operation.starts_with(write))
            })
            .collect();
        assert_eq!(writes, Vec::<&String>::new(), "{secret}");
    }
    // The hash was restored with the role.
    assert_eq!(new.log_in(&role.name, &password).as_ref(), Ok(&role.name));
    assert_eq!(session.text(&format!("SELECT check_role_sync('{}')", role.name)).as_deref(), Some("in_sync"));
}
