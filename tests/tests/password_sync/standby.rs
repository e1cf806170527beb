//! A standby does nothing; once promoted, it does what is left to do.

use crate::ground::{Ground, SETTLED, api};
use secretlink_e2e::{Fault, StopMode, eventually, private_file};

const WORKERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'secretlink'";

#[test]
fn the_worker_starts_with_the_promotion() {
    let mut ground = Ground::start();
    // A change that is committed and not promoted yet.
    let (secret, password) = {
        let role = ground.synced_role("standby");
        ground.relay.rule(&role.secret, |request| match request.operation.as_str() {
            "UpdateSecretVersionStage" => Fault::Refuse(403, "AccessDeniedException"),
            _ => Fault::None,
        });
        let (sql, password) = role.alter();
        ground.session().warned(&sql);
        (role.secret.clone(), password)
    };
    ground.cluster.stop(StopMode::Fast);
    ground.relay.pass_all();
    private_file(ground.cluster.data_dir().join("standby.signal"), "");
    ground.cluster.start();

    let asked = ground.relay.requests(&secret).len();
    let mut session = ground.session();
    assert_eq!(session.text("SELECT pg_is_in_recovery()").as_deref(), Some("t"));
    std::thread::sleep(crate::ground::RECONCILE_INTERVAL * 2);
    assert_eq!(session.text(WORKERS).as_deref(), Some("0"), "nothing runs on a standby");
    assert_eq!(ground.relay.requests(&secret).len(), asked);
    // Reading is fine: the view and its functions have nothing to write. What a check finds is shown here, too.
    session.run("SELECT * FROM role_sync");
    let sql = "SELECT check_role_sync(role) || ' ' || state FROM role_sync WHERE secret_id = ";
    session.text(&format!("{sql}'{secret}'"));
    let shown = format!("SELECT state FROM role_sync WHERE secret_id = '{secret}'");
    assert_eq!(session.text(&shown).as_deref(), Some("pending"));
    let all = format!("SELECT state FROM check_all_role_sync() WHERE secret_id = '{secret}'");
    assert_eq!(session.text(&all).as_deref(), Some("pending"));
    for sql in [
        format!("SELECT unsync_role(role) FROM role_sync WHERE secret_id = '{secret}'"),
        "SELECT sync_role('postgres', 'at/a/standby')".to_owned(),
    ] {
        session.refused(&sql, "25006", "during recovery");
    }
    assert_ne!(api().version_at(&secret, "SECRETLINK"), api().version_at(&secret, "AWSCURRENT"));

    session.run("SELECT pg_promote()");
    eventually("the worker starts", SETTLED, || match session.text(WORKERS).as_deref() {
        Some("1") => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    eventually("the worker promotes the version", SETTLED, || {
        let current = api().get_secret_value(&secret).unwrap();
        if current.contains(&password) { Ok(()) } else { Err("not current".to_owned()) }
    });
    let role = session.text(&format!("SELECT role FROM role_sync WHERE secret_id = '{secret}'")).unwrap();
    assert_eq!(ground.log_in(&role, &password), Ok(role));
}
