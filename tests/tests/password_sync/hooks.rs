//! Other libraries that look at passwords.

use crate::ground::Ground;

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
