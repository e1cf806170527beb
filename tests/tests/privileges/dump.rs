//! `pg_dump` of servers and mappings with secrets, and restore.

use crate::ground::{WHO, execute, name, role, secret, server};
use secretlink_e2e::{PostgresBin, Stage, db_error};
use std::process::Command;

#[test]
fn a_restored_database_connects_as_the_old_one_did() {
    let local = &Stage::shared().local;
    let (first, second) = (server(), secret());
    let ((user, _), (owner, _)) = (role("user"), role("owner"));
    let (old, new) = (name("old"), name("new"));
    execute(&format!("DROP SERVER {first}"));
    execute(&format!("CREATE DATABASE {old}"));
    execute(&format!("CREATE DATABASE {new}"));
    local
        .connect("postgres", &old)
        .batch_execute(&format!(
            "CREATE SCHEMA secretlink; CREATE EXTENSION secretlink SCHEMA secretlink;
             GRANT USAGE ON SCHEMA secretlink TO PUBLIC;
             CREATE SERVER first FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id '{first}', region 'us-east-1', dbname 'postgres');
             ALTER SERVER first OWNER TO {owner};
             CREATE SERVER second FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (region 'us-east-1', sslmode 'require');
             CREATE USER MAPPING FOR {user} SERVER second OPTIONS (secret_id '{second}');
             CREATE USER MAPPING FOR PUBLIC SERVER first OPTIONS (user 'app');
             GRANT USAGE ON FOREIGN SERVER first, second TO {user}"
        ))
        .unwrap();
    let dump = Command::new(PostgresBin::get().program("pg_dump"))
        .args(["--schema-only", "--dbname", &local.conninfo("postgres", &old)])
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let script = String::from_utf8(dump.stdout).unwrap();
    assert!(script.contains("secret_id") && !script.contains(Stage::shared().remote.app_password()));
    let script: Vec<&str> = script.lines().filter(|line| !line.starts_with('\\')).collect();
    local.connect("postgres", &new).batch_execute(&script.join("\n")).unwrap();

    for database in [&old, &new] {
        let mut client = local.connect(&user, database);
        for (server, leads_to) in [("first", "app postgres true"), ("second", "app testdb true")] {
            let sql = "SELECT v FROM secretlink.dblink($1, $2) AS t(v text)";
            let who: String = client.query_one(sql, &[&server, &WHO]).unwrap().get(0);
            assert_eq!(who, leads_to, "{database}");
        }
    }
    // Its rules, too.
    let mut client = local.connect(&owner, &new);
    let refused = db_error(client.batch_execute("ALTER SERVER first OPTIONS (host 'elsewhere')"));
    assert!(refused.message().starts_with("permission denied to set option "), "{refused:?}");
}
