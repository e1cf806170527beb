//! Other libraries that look at passwords.

use crate::ground::{Ground, api, new_password};
use postgres::error::DbError;
use secretlink_e2e::{OsUser, PostgresBin, StopMode, TempDir, unique};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn passwordcheck_is_asked_whichever_is_loaded_first() {
    for libraries in ["passwordcheck, secretlink", "secretlink, passwordcheck"] {
        let ground = Ground::with(|cluster| {
            cluster.preload(false).conf(&format!("shared_preload_libraries = '{libraries}'"))
        });
        let mut session = ground.session();
        let role = ground.synced_role("checked");
        let before = role.password();
        session.refused(&role.alter_to("short"), "22023", "password is too short");
        assert_eq!(role.password(), before, "{libraries}");
        role.assert_in_sync();

        // What it refused is forgotten, what it accepted is not.
        let (good, password) = role.alter();
        let bad = role.alter_to("short");
        session.run_quietly(&format!(
            "DO $do$ BEGIN {good}; BEGIN {bad}; EXCEPTION WHEN invalid_parameter_value THEN NULL; END; END $do$"
        ));
        role.assert_password(&password);
        assert_eq!(role.versions(), 2, "{libraries}");
    }
}

/// A library whose `check_password_hook` raises an ERROR with all fields, for some passwords and some roles, and a plain
/// one for others.
const POLICY: &str = r#"
#include "postgres.h"
#include "commands/user.h"
#include "fmgr.h"
PG_MODULE_MAGIC;
void _PG_init(void);
static check_password_hook_type before = NULL;
static void check(const char *role, const char *password, PasswordType type, Datum until, bool has_until)
{
    if (before) before(role, password, type, until, has_until);
    if (strncmp(password, "policy-", 7) == 0 || strncmp(role, "never_made", 10) == 0)
        ereport(ERROR, (errcode(MAKE_SQLSTATE('P', 'W', '0', '4', '2')), errmsg("password breaks a rule"),
            errdetail("It is on a list."), errhint("Choose another one."), err_generic_string(PG_DIAG_CONSTRAINT_NAME, "no_lists"),
            err_generic_string(PG_DIAG_SCHEMA_NAME, "rules"), err_generic_string(PG_DIAG_TABLE_NAME, "listed"),
            err_generic_string(PG_DIAG_COLUMN_NAME, "word"), err_generic_string(PG_DIAG_DATATYPE_NAME, "text")));
    if (strncmp(password, "internal-", 9) == 0)
        elog(ERROR, "cannot look it up");
}
void _PG_init(void) { before = check_password_hook; check_password_hook = check; }
"#;

/// The library, without the suffix of its file; `None` where there is no compiler for C.
fn policy(directory: &Path) -> Option<PathBuf> {
    let (source, library) = (directory.join("policy.c"), directory.join("policy.so"));
    fs::write(&source, POLICY).unwrap();
    let include =
        Command::new(PostgresBin::get().program("pg_config")).arg("--includedir-server").output().ok()?;
    let include = String::from_utf8(include.stdout).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-I", include.trim(), "-o"])
        .args([&library, &source])
        .status();
    let Ok(status) = compiled else {
        println!("skipped: there is no compiler for C");
        return None;
    };
    assert!(status.success());
    OsUser::for_servers().own(&library);
    Some(directory.join("policy"))
}

fn assert_all_fields(error: &DbError, what: &str) {
    let fields =
        [error.detail(), error.hint(), error.constraint(), error.schema(), error.table(), error.column()];
    let expected =
        ["It is on a list.", "Choose another one.", "no_lists", "rules", "listed", "word"].map(Some);
    assert_eq!((error.code().code(), fields), ("PW042", expected), "{what}: {error:?}");
    assert_eq!(error.datatype(), Some("text"), "{what}");
}

/// Whatever the other library says arrives as it was said, and nothing is staged of what it refused.
#[test]
fn the_error_of_another_hook_arrives_whole_and_leaves_nothing() {
    let directory = TempDir::new();
    let Some(policy) = policy(directory.path()) else { return };
    for libraries in
        [format!("{}, secretlink", policy.display()), format!("secretlink, {}", policy.display())]
    {
        let mut ground = Ground::with(|cluster| {
            cluster
                .preload(false)
                .conf(&format!("shared_preload_libraries = '{libraries}'"))
                .conf("log_min_messages = debug1")
        });
        let missing = unique("never_made").replace('-', "_");
        let (refused, failing) =
            (format!("policy-{}", new_password()), format!("internal-{}", new_password()));
        let (name, secret, good) = {
            let mut session = ground.session();
            let role = ground.synced_role("ruled");
            let (before, versions) = (role.password(), role.versions());
            for _ in 0..2 {
                let what = format!("ALTER ROLE, {libraries}");
                assert_all_fields(
                    &session.refused(&role.alter_to(&refused), "PW042", "breaks a rule"),
                    &what,
                );
                let what = format!("create_role_with_secret, {libraries}");
                let create = format!("SELECT create_role_with_secret('{missing}', 'sync/{missing}')");
                assert_all_fields(&session.refused(&create, "PW042", "breaks a rule"), &what);
                session.refused(&role.alter_to(&failing), "XX000", "cannot look it up");
                // A name is changed in the same transaction, and a password before, which is staged.
                let staged = role.alter().0;
                let refuse = role.alter_to(&refused);
                let error = session.fails(&format!("BEGIN; {staged}; {refuse}; COMMIT"));
                assert_all_fields(&error, "in a block");
                session.run("ROLLBACK");
            }
            assert_eq!(role.password(), before, "{libraries}");
            assert_eq!(role.left_over(), None, "{libraries}");
            assert!(role.versions() <= versions + 2, "{libraries}: {}", role.versions());
            assert_eq!(session.text(&format!("SELECT 1 FROM pg_roles WHERE rolname = '{missing}'")), None);
            let error = api().get_secret_value(&format!("sync/{missing}")).unwrap_err();
            assert_eq!(error.kind, "ResourceNotFoundException", "{libraries}");
            role.assert_in_sync();
            // What it likes is as before, after a refusal, too.
            let (good, password) = role.alter();
            let refuse = role.alter_to(&refused);
            session.run_quietly(&format!(
                "DO $do$ BEGIN {good}; BEGIN {refuse}; EXCEPTION WHEN SQLSTATE 'PW042' THEN NULL; END; END $do$"
            ));
            role.assert_password(&password);
            (role.name.clone(), role.secret.clone(), password)
        };
        // Without a postmaster.
        ground.cluster.stop(StopMode::Fast);
        let alter = format!("ALTER ROLE {name} PASSWORD '{refused}'");
        let single = ground.cluster.single_user(&[], &[&alter]);
        assert!(single.output.contains("password breaks a rule"), "{single:?}");
        assert!(!single.output.contains(&refused), "{single:?}");
        let value = api().get_secret_value(&secret).unwrap();
        assert!(value.contains(&good) && !value.contains(&refused), "{libraries}");
        for said in [&refused, &failing] {
            assert!(!ground.cluster.log().contains(said.as_str()), "{libraries}");
        }
    }
}
