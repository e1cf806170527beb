//! Arguments of any size.

use crate::ground::Ground;
use secretlink_e2e::{HostileServer, server_messages as say};

/// What may be done with a text of any length. `BIG` stands for it.
const STATEMENTS: [&str; 10] = [
    "SELECT dblink_exec('h', 'small ''' || BIG || '''')",
    "SELECT * FROM dblink('h', 'small ''' || BIG || '''') AS t(v int)",
    "SELECT dblink_send_query('h', 'small ''' || BIG || ''''); SELECT * FROM dblink_get_result('h') AS t(v int); SELECT * FROM dblink_get_result('h') AS t(v int)",
    "SELECT dblink_open('h', 'c', 'small ''' || BIG || '''', false)",
    "SELECT dblink_connect('other', 'host=' || BIG)",
    "SELECT dblink_connect('other', 'host=127.0.0.1 port=1 options=''' || BIG || '''')",
    "SELECT dblink_connect(BIG, 'host=127.0.0.1 port=1')",
    "SELECT get_secret_value(BIG)",
    "SELECT put_secret_value('x', BIG)",
    "SELECT connect_with_secret('x', options => BIG)",
];

#[test]
fn an_argument_without_room_is_an_error() {
    let server = HostileServer::after_login(|session, _| {
        session.say(
            &[say::columns(&["v"]), say::row(&[Some(b"1")]), say::complete("SELECT 1"), say::ready()]
                .concat(),
        )
    });
    for megabytes in [480, 600] {
        let mut ground = Ground::with(megabytes);
        let mut client = ground.connect();
        client
            .batch_execute("CREATE TABLE t (id text PRIMARY KEY, v text); INSERT INTO t VALUES ('1', repeat('v', 30000000))")
            .unwrap();
        let mut out_of_memory = 0;
        for statement in STATEMENTS {
            let mut client = ground.connect();
            client.batch_execute(&format!("SELECT dblink_connect('h', '{}')", server.conninfo())).unwrap();
            for size in ["1000000", "20000000", "60000000", "120000000"] {
                let sql = statement.replace("BIG", &format!("repeat('x', {size})"));
                let what = format!("{size} {statement}");
                if let Err(code) = ground.try_run(&mut client, &sql, &what) {
                    out_of_memory += u32::from(code == "53200");
                    assert!(!["XX000", "00000"].contains(&&*code), "{what}: {code}");
                }
                let next = "SELECT * FROM dblink('h', 'small') AS t(v int)";
                ground.try_run(&mut client, next, &what).unwrap_or_else(|code| panic!("{what}: then {code}"));
            }
        }
        assert!(out_of_memory > 5, "{out_of_memory} statements had no room");
    }
}
