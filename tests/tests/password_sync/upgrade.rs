//! `pg_upgrade`, which puts roles back as they were, with their hashes and their labels.

use crate::ground::{Ground, api};
use crate::synced_role::SyncedRole;
use secretlink_e2e::{OsUser, PostgresBin, StopMode, TempDir};
use std::path::Path;
use std::process::Command;

#[test]
fn an_upgraded_cluster_has_the_labels_and_no_secret_was_touched() {
    let mut old = Ground::start();
    let (name, secret, password) = {
        let role = old.synced_role("upgraded");
        let (sql, password) = role.alter();
        old.session().run_quietly(&sql);
        (role.name.clone(), role.secret.clone(), password)
    };
    old.session().run("CREATE ROLE by_template LOGIN PASSWORD 'x'");
    old.cluster.stop(StopMode::Fast);
    // Even where a template would sync every role: none of them is being given a new password.
    let mut new = Ground::with(|cluster| cluster.conf("secretlink.sync_secret_template = 'upgrade/{role}'"));
    new.session().run("DROP EXTENSION secretlink");
    new.cluster.stop(StopMode::Fast);

    let versions = api().versions(&secret);
    let directory = TempDir::new();
    let bin = PostgresBin::get().program("pg_upgrade");
    let bin = bin.parent().map(Path::to_path_buf).unwrap_or_default();
    let mut command = Command::new(bin.join("pg_upgrade"));
    command
        .args(["--username=postgres", "--no-sync", "--socketdir"])
        .arg(directory.path())
        .args(["--old-port", &old.cluster.port().to_string(), "--new-port", &new.cluster.port().to_string()])
        .arg("--old-bindir")
        .arg(&bin)
        .arg("--new-bindir")
        .arg(&bin)
        .arg("--old-datadir")
        .arg(old.cluster.data_dir())
        .arg("--new-datadir")
        .arg(new.cluster.data_dir())
        .current_dir(directory.path());
    let output = OsUser::for_servers().apply(&mut command).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(api().versions(&secret), versions);
    assert_eq!(api().get_secret_value("upgrade/by_template").unwrap_err().kind, "ResourceNotFoundException");

    // And then it goes on.
    new.cluster.start();
    let role = SyncedRole { ground: &new, name, secret };
    role.assert_password(&password);
    role.until_state("in_sync");
    let (sql, password) = role.alter();
    new.session().run_quietly(&sql);
    role.assert_password(&password);
}
