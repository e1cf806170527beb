//! Passwords that come as a hash. They are taken if the secret has the password already, since nobody can
//! turn one into a secret.

use crate::ground::{Ground, api, ground, new_password};
use crate::synced_role::SyncedRole;
use secretlink_e2e::{Fault, random_password, unique};
use serde_json::json;
use std::process::{Command, Stdio};

const ENCRYPTIONS: [&str; 2] = ["scram-sha-256", "md5"];

/// What Postgres stores for a password of a role.
fn hash_of(role: &str, password: &str, encryption: &str) -> String {
    let mut session = ground().session();
    // MD5 depends on the name: made on a server of its own transaction, which is rolled back.
    session.run(&format!(
        "BEGIN; SET LOCAL secretlink.password_sync = off; SET LOCAL password_encryption = '{encryption}';
         ALTER ROLE {role} RENAME TO {role}_away; CREATE ROLE {role} PASSWORD '{password}'"
    ));
    let hash = session.text(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")).unwrap();
    session.run("ROLLBACK");
    hash
}

/// A hash of some password.
fn foreign_hash(role: &SyncedRole<'_>, encryption: &str) -> String {
    hash_of(&role.name, &random_password(), encryption)
}

/// Store a password for the role, as a user of hashes is to do first.
fn put(role: &SyncedRole<'_>, password: &str, stage: &str) -> String {
    let value = json!({ "username": role.name, "password": password, "kept": true });
    api().put_secret_value(&role.secret, &value.to_string(), &[stage])
}

#[test]
fn a_hash_of_another_password_is_rejected_for_a_synced_role() {
    let ground = ground();
    let role = ground.synced_role("hashed");
    let before = (role.current(), role.versions());
    let mut session = ground.session();
    for encryption in ENCRYPTIONS {
        let hash = foreign_hash(&role, encryption);
        let error = session.refused(&role.alter_to(&hash), "28P01", &role.name);
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains("the password itself") && hint.contains("put_secret_value"), "{error:?}");
        assert!(!format!("{error:?}").contains(&hash), "{error:?}");
        assert_eq!((role.current(), role.versions()), before);
        role.assert_in_sync();
        // Nobody else's business.
        let other = unique("other").replace('-', "_");
        session.run_quietly(&format!("CREATE ROLE {other} PASSWORD '{hash}'"));
    }
    assert_eq!(ground.relay.count(&role.secret, "PutSecretValue"), 0);
    assert_eq!(ground.relay.count(&role.secret, "UpdateSecretVersionStage"), 0);
}

#[test]
fn a_hash_of_what_is_current_changes_nothing_but_the_role() {
    let ground = ground();
    for encryption in ENCRYPTIONS {
        let role = ground.synced_role("current");
        let password = new_password();
        let version = put(&role, &password, "AWSCURRENT");
        let hash = hash_of(&role.name, &password, encryption);
        ground.session().run_quietly(&role.alter_to(&hash));
        role.assert_password(&password);
        assert_eq!(api().version_at(&role.secret, "AWSCURRENT"), Some(version));
        assert_eq!(ground.relay.count(&role.secret, "PutSecretValue"), 0);
        assert_eq!(role.check(), "in_sync");
        role.until_state("in_sync");
    }
}

#[test]
fn a_hash_of_what_is_pending_makes_it_current_with_the_commit() {
    let ground = ground();
    for encryption in ENCRYPTIONS {
        let role = ground.synced_role("pending");
        let (before, password) = (role.password(), new_password());
        let version = put(&role, &password, "AWSPENDING");
        let hash = hash_of(&role.name, &password, encryption);
        let mut session = ground.session();
        session.run(&format!("BEGIN; {}; ROLLBACK", role.alter_to(&hash)));
        assert_eq!(role.password(), before);
        session.run_quietly(&role.alter_to(&hash));
        assert_eq!(role.password(), password);
        role.try_log_in().unwrap();
        assert_eq!(api().version_at(&role.secret, "AWSCURRENT"), Some(version));
        assert_eq!(ground.relay.count(&role.secret, "PutSecretValue"), 0);
        role.until_state("in_sync");
    }
}

#[test]
fn a_password_for_somebody_else_is_not_found() {
    let ground = ground();
    let role = ground.synced_role("elses");
    let before = role.password();
    let password = new_password();
    let value = json!({ "username": format!("{}_clone", role.name), "password": password });
    api().put_secret_value(&role.secret, &value.to_string(), &["AWSPENDING"]);
    let hash = hash_of(&role.name, &password, "scram-sha-256");
    ground.session().refused(&role.alter_to(&hash), "28P01", &role.name);
    assert_eq!(role.password(), before);
}

#[test]
fn a_secret_that_cannot_be_read_says_why() {
    let ground = ground();
    let role = ground.synced_role("away");
    let password = new_password();
    put(&role, &password, "AWSCURRENT");
    let hash = hash_of(&role.name, &password, "scram-sha-256");
    ground.relay.rule(&role.secret, |_| Fault::Refuse(400, "AccessDeniedException"));
    let error = ground.session().refused(&role.alter_to(&hash), "42501", &role.secret);
    assert!(error.detail().is_some_and(|detail| detail.contains("Not authorized")), "{error:?}");
    ground.relay.pass(&role.secret);
    ground.session().run_quietly(&role.alter_to(&hash));
    role.assert_password(&password);
}

#[test]
fn a_new_role_may_come_with_a_hash_too() {
    let ground = ground();
    let (role, secret, password) = (unique("newly").replace('-', "_"), unique("newly"), new_password());
    api().create_login_secret(&secret, &role, &password);
    let mut session = ground.session();
    session.run(&format!("CREATE ROLE {role}"));
    let hash = hash_of(&role, &password, "scram-sha-256");
    session.run(&format!(
        "DROP ROLE {role}; BEGIN; CREATE ROLE {role} LOGIN PASSWORD '{hash}'; SELECT sync_role('{role}', '{secret}'); COMMIT"
    ));
    let role = SyncedRole { ground, name: role, secret };
    role.assert_password(&password);
    role.until_state("in_sync");
    // Under another name, whose secret does not say so.
    session.refused(
        &format!(
            "BEGIN; ALTER ROLE {0} RENAME TO {0}_2; ALTER ROLE {0}_2 PASSWORD '{1}'; COMMIT",
            role.name,
            foreign_hash(&role, "scram-sha-256")
        ),
        "28P01",
        &format!("{}_2", role.name),
    );
    session.run("ROLLBACK");
    // A rename with it is carried into the secret.
    let hash = hash_of(&role.name, &password, "scram-sha-256");
    session.run_quietly(&format!(
        "BEGIN; ALTER ROLE {0} RENAME TO {0}_2; ALTER ROLE {0}_2 PASSWORD '{hash}'; COMMIT",
        role.name
    ));
    let role = SyncedRole { name: format!("{}_2", role.name), ..role };
    role.assert_password(&password);
}

/// Types a password at a terminal whenever it is asked for one, and prints what was said.
const TYPIST: &str = r"
import os, pty, sys
password, command = sys.argv[1].encode(), sys.argv[2:]
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)
said, prompts = b'', [b'Enter new password', b'Enter it again']
while True:
    try:
        piece = os.read(terminal, 4096)
    except OSError:
        piece = b''
    if not piece:
        break
    said += piece
    if prompts and prompts[0] in said:
        del prompts[0]
        os.write(terminal, password + b'\n')
os.waitpid(child, 0)
sys.stdout.write(said.decode())
";

/// Type a password into psql's `\password`, at a terminal.
fn psql_password(ground: &Ground, role: &str, password: &str, encryption: &str) -> String {
    let psql = ground.cluster.psql_command(&ground.cluster.conninfo("postgres", "postgres"));
    let mut command = Command::new("python3");
    command.args(["-c", TYPIST, password]).arg(psql.get_program()).args(psql.get_args());
    for (name, value) in psql.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command
        .args(["--set=ON_ERROR_STOP=1", "--command", &format!("\\password {role}")])
        .env("PGOPTIONS", format!("-c password_encryption={encryption}"))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("Enter it again"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains(password), "it was typed in the clear: {said}");
    said
}

#[test]
fn psqls_password_command_works_after_the_secret_was_put() {
    let ground = ground();
    for encryption in ENCRYPTIONS {
        let role = ground.synced_role("psql");
        let before = role.password();
        let said = psql_password(ground, &role.name, &new_password(), encryption);
        assert!(said.contains("was given as a hash") && said.contains("put_secret_value"), "{said}");
        role.assert_password(&before);
        let password = new_password();
        ground.session().run(&format!(
            r#"SELECT put_secret_value('{}', '{{"username":"{}","password":"{password}"}}')"#,
            role.secret, role.name
        ));
        let said = psql_password(ground, &role.name, &password, encryption);
        assert!(!said.contains("ERROR"), "{said}");
        role.assert_password(&password);
    }
}

#[test]
fn a_hash_of_libpqs_pqencryptpasswordconn_is_verified() {
    const SCRIPT: &str = "
import ctypes, sys
libpq = ctypes.CDLL('libpq.so.5')
libpq.PQconnectdb.restype = ctypes.c_void_p
libpq.PQencryptPasswordConn.restype = ctypes.c_char_p
libpq.PQencryptPasswordConn.argtypes = [ctypes.c_void_p] + [ctypes.c_char_p] * 3
conninfo, user, password, method = (argument.encode() for argument in sys.argv[1:])
connection = libpq.PQconnectdb(conninfo)
print(libpq.PQencryptPasswordConn(connection, password, user, method).decode())
";
    let ground = ground();
    for encryption in ENCRYPTIONS {
        // Not ASCII: libpq prepares it as the server does.
        for password in [new_password(), format!("clé\u{a0}\u{2460}{}", new_password())] {
            let role = ground.synced_role("libpq");
            let output = Command::new("python3")
                .args(["-c", SCRIPT, &ground.cluster.conninfo("postgres", "postgres")])
                .args([&role.name, &password, encryption])
                .output()
                .unwrap();
            let hash = String::from_utf8(output.stdout).unwrap().trim().to_owned();
            assert!(!hash.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            let mut session = ground.session();
            session.refused(&role.alter_to(&hash), "28P01", &role.name);
            put(&role, &password, "AWSCURRENT");
            session.run_quietly(&role.alter_to(&hash));
            assert_eq!(role.check(), "in_sync", "{password}");
            role.try_log_in().unwrap();
        }
    }
}

#[test]
fn the_statements_of_operators_that_send_hashes() {
    let ground = ground();
    type Statement = fn(&str, &str) -> String;
    let statements: [(&str, Statement); 5] = [
        // What its operator says for the owner of an application's database, and for its managed roles.
        ("CloudNativePG", |role, hash| {
            format!(
                "BEGIN; SET LOCAL log_min_error_statement = 'PANIC'; ALTER ROLE \"{role}\" WITH PASSWORD '{hash}'; COMMIT"
            )
        }),
        ("CloudNativePG's managed roles", |role, hash| {
            format!(
                "BEGIN; SET LOCAL log_min_error_statement = 'PANIC';
                 ALTER ROLE \"{role}\"  NOBYPASSRLS NOCREATEDB NOCREATEROLE INHERIT LOGIN NOREPLICATION NOSUPERUSER
                 CONNECTION LIMIT -1 PASSWORD '{hash}' VALID UNTIL '2053-04-12 00:00:00Z'; COMMIT;
                 COMMENT ON ROLE \"{role}\" IS 'managed, ''as such'' '"
            )
        }),
        ("CloudNativePG's managed roles, in one transaction", |role, hash| {
            format!(
                "BEGIN; COMMENT ON ROLE \"{role}\" IS 'before'; ALTER ROLE \"{role}\" LOGIN PASSWORD '{hash}' VALID UNTIL
                 'infinity'; COMMENT ON ROLE \"{role}\" IS 'after'; GRANT pg_monitor TO \"{role}\"; COMMIT"
            )
        }),
        ("Vault", |role, hash| format!("BEGIN; ALTER USER \"{role}\" WITH PASSWORD '{hash}'; COMMIT")),
        // What Citus's coordinator has its workers run.
        ("Citus", |role, hash| {
            format!(
                "BEGIN; DO $do$ BEGIN EXECUTE $q$ALTER ROLE {role} NOSUPERUSER NOCREATEDB NOCREATEROLE INHERIT LOGIN
                 NOREPLICATION NOBYPASSRLS CONNECTION LIMIT -1 PASSWORD '{hash}' VALID UNTIL 'infinity'$q$; END $do$; COMMIT"
            )
        }),
    ];
    for (who, statement) in statements {
        let role = ground.synced_role("operator");
        let mut session = ground.session();
        let error = session.fails(&statement(&role.name, &foreign_hash(&role, "scram-sha-256")));
        assert_eq!(error.code().code(), "28P01", "{who}: {error:?}");
        session.run("ROLLBACK");
        let password = new_password();
        put(&role, &password, "AWSCURRENT");
        session.run_quietly(&statement(&role.name, &hash_of(&role.name, &password, "scram-sha-256")));
        role.assert_password(&password);
    }
}

#[test]
fn a_hash_inside_execute_shows_nowhere() {
    let ground = Ground::with(|cluster| cluster.conf("log_min_error_statement = error"));
    let role = ground.synced_role("execute");
    let mut session = ground.session();
    // A hash that only text knows: nobody's.
    let hash = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let without = hash.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "SALT");
    session.run(&format!(
        "CREATE PROCEDURE set_it(salt text) LANGUAGE plpgsql AS $p$ BEGIN
             EXECUTE format('ALTER ROLE {} PASSWORD %L', replace('{without}', 'SALT', salt)); COMMIT;
         END $p$",
        role.name
    ));
    for sql in [
        "CALL set_it('W22ZaJ0SNY7soEsUEjb6gQ' || '==')".to_owned(),
        format!(
            "DO $do$ BEGIN EXECUTE 'ALTER ROLE {} PASSWORD ' || quote_literal(replace('{without}', 'SALT', 'W22ZaJ0SNY7soEsUEjb6gQ' || '==')); END $do$",
            role.name
        ),
    ] {
        let error = session.refused(&sql, "28P01", &role.name);
        assert!(!format!("{error:?}").contains("W22ZaJ0SNY7soEsUEjb6gQ=="), "{error:?}");
    }
    assert!(!ground.cluster.log().contains("W22ZaJ0SNY7soEsUEjb6gQ=="));
}

#[test]
fn a_hash_may_be_taken_with_a_warning() {
    let ground = ground();
    let role = ground.synced_role("warned");
    let mut session = ground.session();
    let before = role.current();
    let hash = foreign_hash(&role, "scram-sha-256");
    session.run("SET secretlink.hashed_password = 'warn'");
    let warning = session.warned(&role.alter_to(&hash));
    assert!(warning.message().contains(&role.name), "{warning:?}");
    assert_eq!(role.current(), before);
    assert_eq!(role.check(), "drifted");
    role.until_state("drifted");
    let (sql, password) = role.alter();
    session.run_quietly(&sql);
    role.assert_password(&password);
    role.until_state("in_sync");
    // One that is in the secret is no reason to warn.
    let password = new_password();
    put(&role, &password, "AWSPENDING");
    session.run_quietly(&role.alter_to(&hash_of(&role.name, &password, "scram-sha-256")));
    assert_eq!(role.password(), password);
    role.try_log_in().unwrap();
}

#[test]
fn a_hash_followed_by_a_password_in_one_transaction_is_what_the_password_says() {
    let ground = ground();
    let role = ground.synced_role("mixed");
    let mut session = ground.session();
    let hash = foreign_hash(&role, "scram-sha-256");
    let (sql, password) = role.alter();
    session.run(&format!("BEGIN; {}; {sql}; COMMIT", role.alter_to(&hash)));
    role.assert_password(&password);
    // The other way round, the secret is not told a password that nobody has.
    session.run("SET secretlink.hashed_password = 'warn'");
    let (sql, _) = role.alter();
    session.warned(&format!("BEGIN; {sql}; {}; COMMIT", role.alter_to(&hash)));
    assert_eq!(role.password(), password);
    role.until_state("drifted");
}

#[test]
fn to_reject_every_hash_is_no_choice_any_more() {
    let error = ground().session().fails("SET secretlink.hashed_password = 'reject'");
    assert_eq!(error.code().code(), "22023", "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("verify, warn")), "{error:?}");
}
