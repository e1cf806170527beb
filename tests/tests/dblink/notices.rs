//! Notices of the remote server.

use crate::cluster::cluster;
use crate::pair::Side;

#[test]
fn remote_notices_reach_the_client_and_name_their_connection() {
    let cluster = cluster();
    let mut ours = Side::new(&cluster, "postgres", "local", "secretlink");
    ours.run("SELECT dblink_connect('c', '{conn}')");
    let notice = |ours: &mut Side, level: &str, sql: &str| {
        let outcome = ours.run(&sql.replace("{do}", &format!("DO $d$BEGIN RAISE {level} USING MESSAGE = 'caf\u{e9} 100%', DETAIL = 'd', HINT = 'h', ERRCODE = 'SL002'; END$d$")));
        assert!(outcome.result.is_ok(), "{outcome:?}");
        outcome.notices
    };
    for level in ["NOTICE", "WARNING", "INFO"] {
        let told = notice(&mut ours, level, "SELECT dblink_exec('c', $q${do}$q$)");
        let [told] = &told[..] else { panic!("{told:?}") };
        assert_eq!(
            (told.severity.as_str(), told.code.as_str(), told.message.as_str()),
            (level, "SL002", "caf\u{e9} 100%")
        );
        assert_eq!((told.detail.as_deref(), told.hint.as_deref()), (Some("d"), Some("h")));
        let context = told.context.as_deref().unwrap();
        assert!(context.ends_with("received on dblink connection named \"c\""), "{context}");
    }
    let told =
        notice(&mut ours, "WARNING", "SELECT * FROM dblink('{conn}', $q${do}; SELECT 1$q$) AS t(a int)");
    assert!(told[0].context.as_deref().unwrap().ends_with("received on unnamed dblink connection"));
    // The levels of both sides count.
    assert_eq!(notice(&mut ours, "DEBUG", "SELECT dblink_exec('c', $q${do}$q$)"), []);
    ours.run("SET client_min_messages = error");
    assert_eq!(notice(&mut ours, "WARNING", "SELECT dblink_exec('c', $q${do}$q$)"), []);
    ours.run("SET client_min_messages = warning; SELECT dblink_exec('c', 'SET client_min_messages = error')");
    assert_eq!(notice(&mut ours, "WARNING", "SELECT dblink_exec('c', $q${do}$q$)"), []);
    // Many of them, among rows, in order.
    ours.run("RESET client_min_messages; SELECT dblink_exec('c', 'RESET client_min_messages')");
    ours.run("SELECT dblink_exec('c', $q$CREATE FUNCTION chatty(i int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', i; RETURN i; END'$q$)");
    let outcome = ours.run(
        "SELECT sum(i) FROM dblink('c', 'SELECT chatty(i) FROM generate_series(1, 2000) AS i') AS t(i int)",
    );
    assert_eq!(outcome.value(), "2001000");
    let numbers: Vec<String> = outcome.notices.iter().map(|n| n.message.clone()).collect();
    assert_eq!(numbers, (1..=2000).map(|n| n.to_string()).collect::<Vec<_>>());
}
