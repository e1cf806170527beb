//! Without `shared_preload_libraries`, password changes go unseen.

use crate::ground::moto;
use crate::session::Session;
use secretlink_e2e::Cluster;

#[test]
fn without_preloading_sync_role_says_so_and_how_to_fix_it() {
    let cluster = Cluster::local(moto()).start();
    let mut session = Session::start(&cluster.conninfo("postgres", "postgres"));
    session.run("CREATE ROLE app LOGIN");
    for call in ["sync_role('app', 'x')", "create_role_with_secret('new', 'x')"] {
        let error = session.refused(&format!("SELECT {call}"), "55000", "shared_preload_libraries");
        assert!(error.hint().is_some_and(|hint| hint.contains("secretlink")), "{error:?}");
    }
    assert_eq!(session.text("SELECT count(*) FROM pg_shseclabel").as_deref(), Some("0"));
    // The library is loaded in this session by now: half-synced would be worse than not at all.
    session.run_quietly("ALTER ROLE app PASSWORD 'x'; SELECT * FROM role_sync");
    let worker = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'secretlink'";
    assert_eq!(session.text(worker).as_deref(), Some("0"));
}
