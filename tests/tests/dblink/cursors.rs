//! Cursors, and the transaction that `dblink_open` begins and the last `dblink_close` ends.

use crate::cluster::cluster;
use crate::pair::Pair;

const NUMBERS: &str = "SELECT i, ''row '' || i FROM generate_series(1, 7) i";

#[test]
fn rows_come_as_they_are_fetched() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    for connection in ["'c', ", ""] {
        for fail in ["", ", true", ", false"] {
            let opened = pair.same(&format!("SELECT dblink_open({connection}'cur', '{NUMBERS}'{fail})"));
            assert_eq!(opened.value(), "OK");
            for (howmany, expected) in [("3", 3), ("100", 4), ("1", 0)] {
                let fetch = format!(
                    "SELECT * FROM dblink_fetch({connection}'cur', {howmany}{fail}) AS t(i int, row text)"
                );
                assert_eq!(pair.same(&fetch).rows().len(), expected, "{fetch}");
            }
            assert_eq!(pair.same(&format!("SELECT dblink_close({connection}'cur'{fail})")).value(), "OK");
        }
    }
}

#[test]
fn the_transaction_lasts_from_the_first_cursor_to_the_last() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    let exec = |sql: &str| format!("SELECT dblink_exec('c', $q${sql}$q$)");
    let count = "SELECT * FROM dblink('c', 'SELECT count(*) FROM counted') AS t(n int)";
    pair.same(&exec("CREATE TEMP TABLE counted (i int)"));
    pair.same(&format!("SELECT dblink_open('c', 'one', '{NUMBERS}')"));
    pair.same(&format!("SELECT dblink_open('c', 'two', '{NUMBERS}')"));
    pair.same(&exec("INSERT INTO counted VALUES (1)"));
    pair.same("SELECT dblink_close('c', 'one')");
    // Still in the transaction: it can be undone.
    pair.same(&exec("SAVEPOINT still_there"));
    pair.same("SELECT dblink_close('c', 'two')");
    // Not any more.
    assert!(pair.same(&exec("SAVEPOINT gone")).result.is_err());
    assert_eq!(pair.same(count).value(), "1");

    // A transaction of the user's is the user's to end.
    pair.same(&exec("BEGIN"));
    pair.same(&format!("SELECT dblink_open('c', 'mine', '{NUMBERS}')"));
    pair.same(&exec("INSERT INTO counted VALUES (2)"));
    pair.same("SELECT dblink_close('c', 'mine')");
    pair.same(&exec("ROLLBACK"));
    assert_eq!(pair.same(count).value(), "1");

    // Ended behind dblink's back, the account of cursors starts anew.
    pair.same(&format!("SELECT dblink_open('c', 'lost', '{NUMBERS}')"));
    pair.same(&exec("ROLLBACK"));
    pair.same(&format!("SELECT dblink_open('c', 'new', '{NUMBERS}')"));
    pair.same(&exec("INSERT INTO counted VALUES (3)"));
    pair.same("SELECT dblink_close('c', 'new')");
    assert!(pair.same(&exec("SAVEPOINT gone")).result.is_err());
    assert_eq!(pair.same(count).value(), "2");
}

#[test]
fn errors_name_the_cursor() {
    let cluster = cluster();
    let mut pair = Pair::connected(&cluster, "local");
    // Some of the errors leave a transaction behind; where there is none the server warns, and that
    // reaches the client of ours alone, on purpose.
    let rollback = "SELECT dblink_exec('c', 'ROLLBACK')";
    for statement in [
        "SELECT dblink_open('c', 'cur', 'SELECT * FROM nothing')",
        "SELECT dblink_open('c', 'cur', 'SELECT * FROM nothing', false)",
        "SELECT dblink_open('c', 'no good name', 'SELECT 1')",
        "SELECT * FROM dblink_fetch('c', 'nowhere', 1) AS t(i int)",
        "SELECT * FROM dblink_fetch('c', 'nowhere', 1, false) AS t(i int)",
        "SELECT dblink_close('c', 'nowhere')",
        "SELECT dblink_close('c', 'nowhere', false)",
        "SELECT dblink_open('nobody', 'cur', 'SELECT 1')",
        "SELECT * FROM dblink_fetch('nobody', 'cur', 1) AS t(i int)",
        "SELECT dblink_close('nobody', 'cur')",
    ] {
        let said = pair.same(statement);
        let context = match (said.result.is_err(), said.notices.first()) {
            (true, _) => said.error().context.clone(),
            (false, Some(notice)) => notice.context.clone(),
            (false, None) => panic!("{statement} did not fail"),
        };
        if !statement.contains("nobody") {
            let context = context.expect(statement);
            assert!(context.contains("ing cursor \"") || context.contains("from cursor \""), "{context}");
            assert!(context.ends_with("on dblink connection named \"c\""), "{context}");
        }
        pair.both(rollback);
    }
    pair.same(&format!("SELECT dblink_open('c', 'cur', '{NUMBERS}')"));
    // Opened twice.
    assert!(pair.same(&format!("SELECT dblink_open('c', 'cur', '{NUMBERS}')")).result.is_err());
    pair.both(rollback);
    pair.same(&format!("SELECT dblink_open('c', 'cur', '{NUMBERS}')"));
    // Another number of columns than the caller expects.
    let misfit = pair.same("SELECT * FROM dblink_fetch('c', 'cur', 1) AS t(i int)");
    assert_eq!(misfit.error().code, "42804");
}
