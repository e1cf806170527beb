//! Notifications.

use crate::cluster::cluster;
use crate::pair::{Pair, Side};
use secretlink_e2e::eventually;
use std::time::Duration;

#[test]
fn notifications_are_fetched_as_with_contrib() {
    let cluster = cluster();
    for database in ["local", "latin1"] {
        let mut pair = Pair::new(&cluster, database);
        assert_eq!(pair.same("SELECT * FROM dblink_get_notify()").rows().len(), 0, "no connection");
        pair.same("SELECT dblink_connect('c', '{conn}')");
        pair.same("SELECT dblink_connect('{conn}')");
        let fetch = "SELECT notify_name, be_pid = (SELECT pid FROM dblink({same}'SELECT pg_backend_pid()') AS t(pid int)), extra, extra IS NULL FROM dblink_get_notify({conn_name})";
        for (same, name) in [("'c', ", "'c'"), ("", ""), ("'c', ", "conname => 'c'")] {
            let fetch = fetch.replace("{same}", same).replace("{conn_name}", name);
            assert_eq!(pair.same(&fetch).rows().len(), 0);
            for sql in [
                "LISTEN one",
                "LISTEN \"caf\u{e9}\"",
                "NOTIFY one",
                "NOTIFY \"caf\u{e9}\", 'cr\u{e8}me'",
                "BEGIN; NOTIFY one, 'a'; NOTIFY one, 'b'; COMMIT",
                "NOTIFY two, 'not listened to'",
            ] {
                pair.same(&format!("SELECT dblink_exec({same}$q${sql}$q$)"));
            }
            let told = pair.same(&fetch);
            let told = told.rows();
            assert_eq!(told.len(), 4, "{told:?}");
            assert_eq!(told[1], [Some("caf\u{e9}"), Some("t"), Some("cr\u{e8}me"), Some("f")]);
            assert_eq!(told[0], [Some("one"), Some("t"), Some(""), Some("f")]);
            assert_eq!(pair.same(&fetch).rows().len(), 0, "each comes once");
            pair.same(&format!("SELECT dblink_exec({same}'UNLISTEN *')"));
        }
        // They come with the answer to any query, also one that is sent and read later.
        pair.same("SELECT dblink_exec('c', 'LISTEN one')");
        pair.same("SELECT dblink_send_query('c', 'NOTIFY one, $$later$$')");
        pair.same("SELECT * FROM dblink_get_result('c') AS t(status text)");
        pair.same("SELECT * FROM dblink_get_result('c') AS t(status text)");
        assert_eq!(pair.same("SELECT extra FROM dblink_get_notify('c')").value(), "later");
    }
}

#[test]
fn notifications_come_while_nothing_is_asked() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("SELECT dblink_connect('c', '{conn}')");
    ours.value("SELECT dblink_exec('c', 'LISTEN news')");
    let mut other = cluster.connect("postgres", "remote_secretlink");
    let mut fetched = Vec::new();
    for number in 0..20 {
        other.batch_execute(&format!("NOTIFY news, '{number}'")).unwrap();
    }
    eventually("all notifications", Duration::from_secs(10), || {
        let outcome = ours.run("SELECT extra FROM dblink_get_notify('c')");
        fetched.extend(outcome.rows().iter().map(|row| row[0].unwrap().to_owned()));
        if fetched.len() == 20 { Ok(()) } else { Err(format!("{fetched:?}")) }
    });
    assert_eq!(fetched, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());

    // Nobody fetches them: the server's memory does not fill, and what is missing is said.
    other
        .batch_execute("DO $$BEGIN FOR i IN 1..40 LOOP FOR j IN 1..250 LOOP PERFORM pg_notify('news', i || ' ' || j || repeat('x', 3000)); END LOOP; COMMIT; END LOOP; END$$")
        .unwrap();
    let mut total = 0;
    let mut dropped = None;
    eventually("the last one", Duration::from_secs(20), || {
        let outcome = ours.run("SELECT pg_sleep(1); SELECT count(*) FROM dblink_get_notify('c')");
        total +=
            outcome.result.as_ref().unwrap().last().unwrap()[0].as_deref().unwrap().parse::<u64>().unwrap();
        dropped = dropped.take().or(outcome.notices.first().cloned());
        match &dropped {
            Some(told) if told.severity == "WARNING" && told.code == "01000" => Ok(()),
            _ if total == 10_000 => panic!("10,000 notifications were kept"),
            told => Err(format!("{total} so far, {told:?}")),
        }
    });
    let dropped = dropped.unwrap().message;
    assert!(dropped.ends_with(" notifications had no room and were dropped"), "{dropped}");
    assert!(total > 1000, "{total}");
    assert_eq!(ours.value("SELECT * FROM dblink('c', 'SELECT 1') AS t(a int)"), "1");
}

#[test]
fn a_listener_hears_of_the_end_of_its_connection() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("SELECT dblink_connect('c', '{conn}')");
    ours.value("SELECT dblink_exec('c', 'LISTEN news')");
    let pid = ours.value("SELECT * FROM dblink('c', 'SELECT pg_backend_pid()') AS t(pid int)");
    let mut other = cluster.connect("postgres", "remote_secretlink");
    other.batch_execute("NOTIFY news, 'the last'").unwrap();
    other.batch_execute(&format!("SELECT pg_sleep(0.5); SELECT pg_terminate_backend({pid})")).unwrap();
    let mut heard = Vec::new();
    let error = eventually("the end", Duration::from_secs(10), || {
        match ours.run("SELECT extra FROM dblink_get_notify('c')").result {
            Ok(rows) => {
                heard.extend(rows);
                Err("no error yet".into())
            }
            Err(error) => Ok(error),
        }
    });
    assert_eq!(heard, [[Some("the last".to_owned())]]);
    assert_eq!(error.code, "08006");
    assert!(error.message.contains("terminating connection due to administrator command"), "{error:?}");
    assert_eq!(
        error.context.as_deref(),
        Some("while fetching notifications on dblink connection named \"c\"")
    );
}
