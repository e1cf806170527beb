//! Arguments of any size.

use crate::ground::Ground;
use secretlink_e2e::{HostileServer, server_messages as say};

/// What may be done with a text of any length. `BIG` stands for it.
const STATEMENTS: [&str; 30] = [
    "SELECT dblink_exec('h', 'small ''' || BIG || '''')",
    "SELECT * FROM dblink('h', 'small ''' || BIG || '''') AS t(v int)",
    "SELECT dblink_send_query('h', 'small ''' || BIG || ''''); SELECT * FROM dblink_get_result('h') AS t(v int); SELECT * FROM dblink_get_result('h') AS t(v int)",
    "SELECT dblink_open('h', 'c', 'small ''' || BIG || '''', false)",
    "SELECT dblink_connect('other', 'host=' || BIG)",
    "SELECT dblink_connect('other', 'host=127.0.0.1 port=1 options=''' || BIG || '''')",
    "SELECT dblink_connect(BIG, 'host=127.0.0.1 port=1')",
    "SELECT get_secret_value(BIG)",
    "SELECT put_secret_string('x', BIG)",
    "SELECT connect_with_secret('x', options => BIG)",
    "SELECT dblink_open('h', BIG, 'small', false)",
    "SELECT dblink_open('h', BIG, BIG, false)",
    "SELECT * FROM dblink_fetch('h', BIG, 1, false) AS t(v int)",
    "SELECT dblink_close('h', BIG, false)",
    "SELECT * FROM dblink(BIG, 'small') AS t(v int)",
    "SELECT * FROM dblink_get_pkey(BIG)",
    "SELECT put_secret_string(BIG, 'x')",
    "SELECT put_secret_string('x', 'y', ARRAY[BIG])",
    "SELECT put_secret_string('x', 'y', array_fill('y'::text, ARRAY[4000000]))",
    "SELECT put_secret_binary('x', convert_to(BIG, getdatabaseencoding()))",
    "SELECT put_secret_field('x', BIG, 'x')",
    "SELECT sync_role('postgres', BIG)",
    "SELECT create_role_with_secret('somebody', BIG)",
    "SELECT rotate_secret(BIG)",
    "SELECT set_config('secretlink.region', BIG, false)",
    "SELECT set_config('secretlink.profile', BIG, false)",
    "SELECT set_config('secretlink.ca_bundle', BIG, false)",
    "SELECT set_config('secretlink.endpoint_url', BIG, false)",
    "DO $$ BEGIN EXECUTE 'SECURITY LABEL FOR secretlink ON ROLE nobody IS ' || quote_literal(BIG); END $$",
    "DO $$ BEGIN EXECUTE 'CREATE SERVER s FOREIGN DATA WRAPPER secretlink_fdw OPTIONS (secret_id ' || quote_literal(BIG) || ')'; END $$",
];

#[test]
fn an_argument_without_room_is_an_error() {
    try_all(480, "UTF8", "x");
}

/// What is converted is twice as long.
#[test]
fn an_argument_of_another_encoding_without_room_is_an_error() {
    try_all(600, "LATIN1", "é");
}

/// What is no text at all is shown as something three times as long.
#[test]
fn an_argument_of_any_bytes_without_room_is_an_error() {
    try_all(600, "SQL_ASCII", r"\xff");
}

/// Runs each statement in a database of this encoding, with arguments filled with this text.
fn try_all(megabytes: u64, encoding: &str, fill: &str) {
    let server = HostileServer::after_login(|session, _| {
        session.say(
            &[say::columns(&["v"]), say::row(&[Some(b"1")]), say::complete("SELECT 1"), say::ready()]
                .concat(),
        )
    });
    let mut ground = Ground::with(megabytes);
    let create =
        format!("CREATE DATABASE other ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    ground.connect().batch_execute(&create).unwrap();
    let connect = |ground: &Ground| ground.cluster.connect("postgres", "other");
    connect(&ground).batch_execute("CREATE EXTENSION secretlink; CREATE ROLE nobody").unwrap();
    let mut out_of_memory = 0;
    for statement in STATEMENTS {
        let mut client = connect(&ground);
        client.batch_execute(&format!("SELECT dblink_connect('h', '{}')", server.conninfo())).unwrap();
        for size in ["20000000", "90000000"] {
            let sql = statement.replace("BIG", &format!("repeat(E'{fill}', {size})"));
            let what = format!("{size} {fill} in {encoding}: {statement}");
            if let Err(code) = ground.try_run(&mut client, &sql, &what) {
                out_of_memory += u32::from(code == "53200");
                assert!(!["XX000", "00000"].contains(&&*code), "{what}: {code}");
            }
            let next = "SELECT * FROM dblink('h', 'small') AS t(v int)";
            ground.try_run(&mut client, next, &what).unwrap_or_else(|code| panic!("{what}: then {code}"));
        }
    }
    assert!(out_of_memory > 5, "{out_of_memory} statements had no room in {encoding}");
}
