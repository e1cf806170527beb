//! SQL about rows of local tables, with values of any size.

use crate::ground::{Ground, LIMITS};

/// `BIG` stands for a text that is as long as the one in the table.
const STATEMENTS: [&str; 9] = [
    "SELECT length(dblink_build_sql_update('t', '1', 1, '{1}', '{2}'))",
    "SELECT length(dblink_build_sql_insert('t', '1', 1, '{1}', '{2}'))",
    "SELECT length(dblink_build_sql_delete('t', '1', 1, '{2}'))",
    "SELECT length(dblink_build_sql_update('t', '1', 1, '{1}', ARRAY[BIG]))",
    "SELECT length(dblink_build_sql_insert('t', '1', 1, '{1}', ARRAY[BIG]))",
    "SELECT length(dblink_build_sql_delete('t', '1', 1, ARRAY[BIG]))",
    "SELECT length(dblink_build_sql_insert('t', '1', 1, ARRAY[BIG], '{2}'))",
    "SELECT length(dblink_build_sql_update('t', '2', 1, ARRAY[BIG], ARRAY[BIG]))",
    // Many values in place of a long one.
    "SELECT length(dblink_build_sql_delete('t', '1', 1, array_fill('x'::text, ARRAY[3000000])))",
];

/// What a value is filled with, some of which is longer in a literal, and how many bytes it has.
const VALUES: [(&str, usize); 3] = [("x", 20_000_000), ("x", 80_000_000), ("''", 20_000_000)];

#[test]
fn a_local_row_without_room_is_an_error() {
    for megabytes in LIMITS {
        let mut ground = Ground::with(megabytes);
        let mut out_of_memory = 0;
        for (fill, size) in VALUES {
            let big = format!("repeat('{fill}', {size})");
            let mut client = ground.connect();
            let filled = format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (id text, v text); INSERT INTO t VALUES ('1', {big})"
            );
            ground.try_run(&mut client, &filled, "filling the table").unwrap();
            for statement in STATEMENTS {
                let sql = statement.replace("BIG", &big);
                let what = format!("{size} of {fill}: {statement}");
                if let Err(code) = ground.try_run(&mut client, &sql, &what) {
                    out_of_memory += u32::from(code == "53200");
                    // No such row, or too many values: it had room.
                    assert!(["53200", "21000", "2202E"].contains(&&*code), "{what}: {code}");
                }
            }
        }
        assert!(out_of_memory > 3, "{out_of_memory} statements had no room");
    }
}
