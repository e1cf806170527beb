//! Connections by a foreign server: made again when they were lost, and when the server leads elsewhere
//! or may not be used any more.

use crate::session::{PID, Session, kill, put};
use secretlink_e2e::{Cluster, Stage};
use serde_json::json;

const WHERE: &str = "SELECT current_user || '@' || current_database()";

/// What runs something on connection `c`, each with what sets it right again.
const USES: [&str; 4] = [
    "SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)",
    "SELECT dblink_exec('c', 'SET work_mem = 64')",
    "SELECT dblink_open('c', 'cur', 'SELECT 1')",
    "SELECT dblink_send_query('c', 'SELECT 1')",
];

/// A session of the role `app`, with a connection `c` by the server `orders`, which has the secret
/// `orders`, and one of the superuser.
fn connected(stage: &Stage) -> (Session, Session) {
    let mut admin = Session::new(&stage.local);
    put(stage, "orders", "app", stage.remote.app_password(), stage.remote.port(), true);
    stage.remote.create_login("second", "its own", "scram-sha-256");
    admin.run(
        "CREATE SERVER orders FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id 'orders');
         CREATE ROLE app LOGIN; CREATE ROLE team; CREATE ROLE other;
         GRANT USAGE ON FOREIGN SERVER orders TO app",
    );
    let mut app = Session::of("app", &stage.local);
    app.run("SELECT dblink_connect('c', 'orders')");
    (admin, app)
}

const CHANGED: &str = "connection \"c\" was out of date and has been made again";

#[test]
fn one_that_was_lost_is_made_again() {
    let stage = Stage::start();
    let (mut admin, mut app) = connected(&stage);
    let lose = |app: &mut Session| {
        kill(&stage, &app.ask("c", PID));
        app.until_lost("c");
        app.told();
    };
    lose(&mut app);
    assert_eq!(app.ask("c", WHERE), "app@testdb");
    app.told_of("c");

    // The one without a name, too.
    app.run("SELECT dblink_connect('orders')");
    let pid = app.value("SELECT v FROM dblink('SELECT pg_backend_pid()') AS t(v int)");
    kill(&stage, &pid);
    secretlink_e2e::eventually("the loss is noticed", crate::session::PATIENCE, || {
        match app.value("SELECT state FROM remote_connections WHERE name IS NULL").as_str() {
            "lost" => Ok(()),
            state => Err(state.to_owned()),
        }
    });
    assert_eq!(app.value("SELECT dblink_exec('SET work_mem = 64')"), "SET");
    app.told_once("unnamed connection was lost and has been made again");

    // With a password of the mapping, which is read again. It is the mapping of who connected.
    admin.run(&format!(
        "CREATE SERVER plain FOREIGN DATA WRAPPER secretlink_fdw
         OPTIONS (host '127.0.0.1', port '{}', dbname 'testdb');
         CREATE USER MAPPING FOR app SERVER plain OPTIONS (user 'second', password 'its own');
         GRANT USAGE ON FOREIGN SERVER plain TO app",
        stage.remote.port()
    ));
    app.run("SELECT dblink_disconnect('c'), dblink_connect('c', 'plain')");
    let mut remote = stage.remote.connect("postgres", "postgres");
    remote.batch_execute("ALTER ROLE second PASSWORD 'new'").unwrap();
    lose(&mut app);
    assert_eq!(app.fails(USES[0]).0, "08001");
    admin.run("ALTER USER MAPPING FOR app SERVER plain OPTIONS (SET password 'new')");
    assert_eq!(app.ask("c", WHERE), "second@testdb");
    app.told_of("c");

    // Not in a remote transaction.
    app.run("SELECT dblink_exec('c', 'BEGIN')");
    lose(&mut app);
    app.stays_lost("c");

    // Nor by who may not any more.
    app.run("SELECT dblink_disconnect('c'), dblink_connect('c', 'plain')");
    lose(&mut app);
    admin.run("REVOKE USAGE ON FOREIGN SERVER plain FROM app");
    let denied = ("42501".to_owned(), "permission denied for foreign server plain".to_owned());
    assert_eq!(app.fails(USES[0]), denied);
    admin.run("DROP SERVER plain CASCADE");
    let gone = "foreign server \"plain\" of the connection does not exist any more";
    assert_eq!(app.fails(USES[0]), ("42704".to_owned(), gone.to_owned()));
}

#[test]
fn a_change_is_followed_at_the_next_use() {
    follows(&Stage::start());
}

#[test]
fn a_change_is_followed_where_the_library_is_preloaded() {
    follows(&Stage::preloaded());
}

fn follows(stage: &Stage) {
    let (mut admin, mut app) = connected(stage);
    let mut pid = app.ask("c", PID);
    app.told();
    // What there is to be seen of each change; nothing, if it is the same server for this role.
    for (change, now) in [
        ("GRANT USAGE ON FOREIGN SERVER orders TO other", ""),
        ("ALTER SERVER orders RENAME TO renamed; ALTER SERVER renamed RENAME TO orders", ""),
        ("ALTER SERVER orders OWNER TO other; ALTER SERVER orders OWNER TO postgres", ""),
        ("CREATE USER MAPPING FOR other SERVER orders OPTIONS (user 'other')", ""),
        ("ALTER ROLE other PASSWORD 'x'; GRANT team TO other", ""),
        ("ALTER SERVER orders OPTIONS (dbname 'postgres')", "app@postgres"),
        ("ALTER SERVER orders OPTIONS (SET dbname 'testdb')", "app@testdb"),
        (
            "CREATE USER MAPPING FOR PUBLIC SERVER orders OPTIONS (user 'second', password 'its own')",
            "second@testdb",
        ),
        ("CREATE USER MAPPING FOR app SERVER orders", "app@testdb"),
        (
            "ALTER USER MAPPING FOR app SERVER orders OPTIONS (user 'second', password 'its own')",
            "second@testdb",
        ),
        ("ALTER USER MAPPING FOR app SERVER orders OPTIONS (DROP user, DROP password)", "app@testdb"),
        ("DROP USER MAPPING FOR app SERVER orders", "second@testdb"),
        ("DROP USER MAPPING FOR PUBLIC SERVER orders", "app@testdb"),
    ] {
        admin.run(change);
        assert_eq!(app.ask("c", WHERE), if now.is_empty() { "app@testdb" } else { now }, "{change}");
        if now.is_empty() {
            assert!(app.told().is_empty(), "{change}");
            assert_eq!(app.ask("c", PID), pid, "{change}");
        } else {
            let told = app.told_once(CHANGED);
            assert_eq!(told.detail(), Some("Foreign server \"orders\" or its user mapping has changed."));
            assert_ne!(app.ask("c", PID), pid, "{change}");
            pid = app.ask("c", PID);
        }
    }

    // Whatever uses it. Inside a remote transaction, and while results are to be read, it goes on.
    let mut change = {
        let mut databases = ["postgres", "testdb"].into_iter().cycle();
        move |admin: &mut Session| {
            let database = databases.next().unwrap();
            admin.run(&format!("ALTER SERVER orders OPTIONS (SET dbname '{database}')"));
            format!("app@{database}")
        }
    };
    for (sql, again) in USES.into_iter().zip([
        "",
        "",
        "SELECT dblink_close('c', 'cur')",
        "SELECT * FROM dblink_get_result('c') AS t(a int)",
    ]) {
        change(&mut admin);
        app.run(sql);
        app.told_once(CHANGED);
        if !again.is_empty() {
            change(&mut admin);
            if again.contains("get_result") {
                assert_eq!(app.fails(USES[1]).0, "55006");
            } else {
                assert_eq!(app.value("SELECT count(*) FROM dblink_fetch('c', 'cur', 9) AS t(a int)"), "1");
            }
            app.run(again);
            assert!(app.told().is_empty());
            app.run(USES[1]);
            app.told_once(CHANGED);
        }
    }
    let before = app.ask("c", WHERE);
    app.run("SELECT dblink_exec('c', 'BEGIN')");
    let after = change(&mut admin);
    assert_eq!(app.ask("c", WHERE), before);
    app.run("SELECT dblink_exec('c', 'ROLLBACK')");
    assert!(app.told().is_empty());
    assert_eq!(app.ask("c", WHERE), after);
    app.told_once(CHANGED);

    // In the middle of a transaction here, and of a function.
    app.run("BEGIN");
    app.ask("c", WHERE);
    let now = change(&mut admin);
    assert_eq!(app.ask("c", WHERE), now);
    app.told_once(CHANGED);
    app.run("COMMIT");

    // The one without a name.
    app.run("SELECT dblink_connect('orders')");
    let now = change(&mut admin);
    assert_eq!(app.value(&format!("SELECT v FROM dblink($q${WHERE}$q$) AS t(v text)")), now);
    app.told_once("unnamed connection was out of date and has been made again");

    // What one has changed oneself, and what is taken back.
    admin.run("SELECT dblink_connect('c', 'orders')");
    let before = admin.ask("c", WHERE);
    admin.run("BEGIN");
    let now = change(&mut admin);
    assert_eq!(admin.ask("c", WHERE), now);
    admin.told_once(CHANGED);
    admin.run("ROLLBACK");
    assert_eq!(admin.ask("c", WHERE), before);
    admin.told_once(CHANGED);
}

#[test]
fn where_it_leads_cannot_be_reached() {
    let stage = Stage::start();
    let (mut admin, mut app) = connected(&stage);
    let pid = app.ask("c", PID);
    admin.run("ALTER SERVER orders OPTIONS (port '1')");
    for sql in USES.into_iter().chain(USES) {
        assert_eq!(app.fails(sql).0, "08001", "the old one is not used: {sql}");
    }
    // As it was, so is the connection.
    admin.run("ALTER SERVER orders OPTIONS (DROP port)");
    app.told();
    assert_eq!(app.ask("c", PID), pid);
    assert!(app.told().is_empty());
    // The secret has gone.
    admin.run("ALTER SERVER orders OPTIONS (SET secret_id 'nowhere')");
    assert_eq!(
        app.fails(USES[0]),
        ("42704".into(), "secret \"nowhere\" not found in region us-east-1".into())
    );
}

#[test]
fn what_is_taken_away_ends_what_is_open() {
    let stage = Stage::start();
    let (mut admin, mut app) = connected(&stage);
    let pid = app.ask("c", PID);
    app.run("SELECT dblink_connect('in_transaction', 'orders'), dblink_exec('in_transaction', 'BEGIN')");
    let denied = ("42501".to_owned(), "permission denied for foreign server orders".to_owned());
    let refused = |app: &mut Session| {
        for sql in USES.into_iter().chain(USES) {
            assert_eq!(app.fails(sql), denied, "{sql}");
        }
        assert_eq!(app.state("c"), "idle");
    };
    admin.run("REVOKE USAGE ON FOREIGN SERVER orders FROM app");
    refused(&mut app);
    assert_eq!(app.ask("in_transaction", WHERE), "app@testdb");
    app.run("SELECT dblink_exec('in_transaction', 'COMMIT')");
    assert_eq!(app.fails("SELECT dblink_exec('in_transaction', 'BEGIN')"), denied);

    // By way of another role.
    admin.run("GRANT USAGE ON FOREIGN SERVER orders TO team; GRANT team TO app");
    app.told();
    assert_eq!(app.ask("c", PID), pid);
    assert!(app.told().is_empty());
    admin.run("REVOKE team FROM app");
    refused(&mut app);
    admin.run("ALTER ROLE app SUPERUSER");
    assert_eq!(app.ask("c", PID), pid);
    admin.run("ALTER ROLE app NOSUPERUSER");
    refused(&mut app);

    // A function of its owner's opens it; who made it decides, not who uses it.
    admin.run(
        "CREATE ROLE vault; GRANT USAGE ON FOREIGN SERVER orders TO vault;
         CREATE FUNCTION open_it() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
         AS $$ SELECT public.dblink_connect('by_function', 'orders') $$;
         ALTER FUNCTION open_it() OWNER TO vault",
    );
    app.run("SELECT open_it()");
    admin.run("ALTER SERVER orders OPTIONS (dbname 'postgres')");
    assert_eq!(app.ask("by_function", WHERE), "app@postgres");
    admin.run("REVOKE USAGE ON FOREIGN SERVER orders FROM vault");
    assert_eq!(app.fails("SELECT dblink_exec('by_function', 'SET work_mem = 64')"), denied);

    // The server has gone, and one of its name is another.
    let another = "CREATE SERVER orders FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id 'orders');
                   GRANT USAGE ON FOREIGN SERVER orders TO app";
    admin.run(&format!("DROP SERVER orders CASCADE; {another}"));
    let gone = "foreign server \"orders\" of the connection does not exist any more";
    for sql in USES {
        assert_eq!(app.fails(sql), ("42704".to_owned(), gone.to_owned()), "{sql}");
    }
    app.run("SELECT dblink_disconnect('c'), dblink_connect('c', 'orders')");
    assert_eq!(app.ask("c", WHERE), "app@testdb");
}

/// As with contrib dblink, but that a lost one is made again.
#[test]
fn servers_of_other_wrappers_leave_alone_what_is_open() {
    let stage = Stage::start();
    let (mut admin, mut app) = connected(&stage);
    admin.run(&format!(
        "CREATE FOREIGN DATA WRAPPER theirs VALIDATOR dblink_fdw_validator;
         CREATE SERVER plain FOREIGN DATA WRAPPER theirs OPTIONS (host '127.0.0.1', port '{}', dbname 'testdb');
         CREATE USER MAPPING FOR app SERVER plain OPTIONS (user 'second', password 'its own');
         GRANT USAGE ON FOREIGN SERVER plain TO app",
        stage.remote.port()
    ));
    app.run("SELECT dblink_connect('d', 'plain')");
    let pid = app.ask("d", PID);
    admin.run("ALTER SERVER plain OPTIONS (SET dbname 'postgres')");
    assert_eq!(app.ask("d", PID), pid);
    kill(&stage, &pid);
    app.until_lost("d");
    assert_eq!(app.ask("d", WHERE), "second@postgres");
    admin.run("DROP SERVER plain CASCADE");
    assert_eq!(app.ask("d", WHERE), "second@postgres");
}

/// The rule about passwords holds for who asks.
#[test]
fn who_asks_must_have_used_a_password() {
    let stage = Stage::start();
    let trusting = Cluster::remote().auth("host", "app", "trust").start();
    let (mut admin, _app) = connected(&stage);
    admin.run("SELECT dblink_connect('c', 'orders')");
    let value = json!({ "host": "127.0.0.1", "port": trusting.port(), "dbname": "postgres", "username": "app", "password": "is not asked for" });
    stage.moto.secrets().create_secret("trusting", &value.to_string());
    admin.run("ALTER SERVER orders OPTIONS (SET secret_id 'trusting'); SET ROLE app");
    assert_eq!(admin.fails(USES[0]), ("2F003".into(), "password is required".into()));
    admin.run("RESET ROLE");
    assert_eq!(admin.ask("c", WHERE), "app@postgres");
}

#[test]
fn another_version_of_the_secret_is_followed() {
    for stage in [Stage::start(), Stage::preloaded()] {
        let (mut admin, mut app) = connected(&stage);
        admin.run("GRANT EXECUTE ON FUNCTION refresh_secret TO app");
        let pid = app.ask("c", PID);
        app.run("SELECT dblink_connect('busy', 'orders'), dblink_exec('busy', 'BEGIN')");
        put(&stage, "orders", "second", "its own", stage.remote.port(), false);
        app.told();
        // Nobody here knows yet.
        assert_eq!(app.ask("c", PID), pid);
        app.run("SELECT refresh_secret('orders')");
        assert_eq!(app.ask("busy", WHERE), "app@testdb", "not in a transaction");
        assert!(app.told().is_empty());
        assert_eq!(app.ask("c", WHERE), "second@testdb");
        assert_eq!(app.told_once(CHANGED).detail(), Some("Secret \"orders\" has a new version."));
        assert_eq!(app.ask("c", WHERE), "second@testdb");
        assert!(app.told().is_empty(), "once");
        app.run("SELECT dblink_exec('busy', 'COMMIT')");
        app.told();
        assert_eq!(app.ask("busy", WHERE), "second@testdb");
    }
}
