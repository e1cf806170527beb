//! Messages of any size from a remote server.

use crate::ground::{Ground, LIMITS};
use secretlink_e2e::{HostileServer, HostileSession, server_messages as say};
use std::collections::BTreeMap;
use std::io::Result;

/// Plays what the query string says: a word, and how many megabytes.
fn play(session: &mut HostileSession, sql: &[u8]) -> Result<()> {
    let sql = String::from_utf8_lossy(sql);
    let mut words = sql.trim_end_matches('\0').split(' ');
    let word = words.next().unwrap_or_default();
    let size = words.next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0) << 20;
    let row = |session: &mut HostileSession, fill| {
        let value = u32::try_from(size).expect("it fits");
        session.say_long(b'D', &[&[0, 1], &value.to_be_bytes()[..]].concat(), fill, size + 6, b"")
    };
    match word {
        "row" | "digits" => {
            session.say(&say::columns(&["v"]))?;
            row(session, if word == "row" { b'x' } else { b'7' })?;
            session.say(&say::complete("SELECT 1"))?;
        }
        "rows" => {
            session.say(&say::columns(&["v"]))?;
            let many = say::row(&[Some(&[b'x'; 5_000])]).repeat(200);
            for _ in 0..size / many.len() {
                session.say(&many)?;
            }
            session.say(&say::complete("SELECT 1"))?;
        }
        "short" => {
            // Claims more than ever comes.
            session.say(&say::columns(&["v"]))?;
            session.say(&[b'D', 0x3f, 0xff, 0xff, 0xff, 0, 1, 0x3f, 0xff, 0xff, 0xf9])?;
            session.say(&vec![b'x'; size])?;
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        "columns" => {
            let name = "c".repeat(size / 65_535);
            session.say(&say::columns(&vec![name.as_str(); 65_535]))?;
            session.say(&say::complete("SELECT 0"))?;
        }
        "notice" => {
            session.say_long(b'N', b"SNOTICE\0VNOTICE\0C00000\0M", b'n', size, b"\0\0")?;
            session.say(&say::complete("DO"))?;
        }
        "notices" => {
            for _ in 0..size >> 20 {
                session.say_long(b'N', b"SNOTICE\0VNOTICE\0C00000\0M", b'n', 1 << 20, b"\0\0")?;
            }
            session.say(&say::complete("DO"))?;
        }
        "error" => session.say_long(b'E', b"SERROR\0VERROR\0CP0042\0M", b'e', size, b"\0\0")?,
        "fields" => {
            let part = "f".repeat(size / 8);
            let fields = ["M", "D", "H", "W", "q", "s", "t"].map(|field| format!("{field}{part}\0")).concat();
            let body = format!("SERROR\0VERROR\0CP0042\0p1\0{fields}\0");
            session.say_long(b'E', body.as_bytes(), 0, body.len(), b"")?;
        }
        "notify" => {
            session.say_long(b'A', b"\0\0\x12\x34channel\0", b'p', size, b"\0")?;
            session.say(&say::complete("DO"))?;
        }
        "notifies" => {
            let one = say::notification().repeat(40_000);
            for _ in 0..size / one.len() {
                session.say(&one)?;
            }
            session.say(&say::complete("DO"))?;
        }
        "tag" => session.say_long(b'C', b"SELECT ", b't', size, b"\0")?,
        "parameter" => {
            session.say_long(b'S', b"DateStyle\0", b'I', size, b"\0")?;
            session.say(&say::complete("DO"))?;
        }
        "copy" => {
            session.say(&say::copy_out())?;
            session.say_long(b'd', b"", b'c', size, b"")?;
            session.say(&say::complete("COPY 1"))?;
        }
        _ => session
            .say(&[say::columns(&["v"]), say::row(&[Some(b"1")]), say::complete("SELECT 1")].concat())?,
    }
    session.say(&say::ready())
}

/// The words, and with which SQLSTATEs a statement may fail besides `out_of_memory`.
const CASES: [(&str, &str, &[&str]); 19] = [
    ("row", "v text", &[]),
    ("row", "v json", &["22P02"]),
    ("row", "v bytea", &[]),
    ("row", "v text[]", &["22P02"]),
    ("digits", "v numeric", &["22003", "22P02"]),
    ("row", "v int", &["22P02"]),
    ("row", "v pg_am", &["22P02"]),
    ("row", "v text COLLATE \"C\"", &[]),
    ("rows", "v text", &[]),
    ("columns", "v text", &["42804"]),
    ("notice", "", &[]),
    ("notices", "", &[]),
    ("error", "", &["P0042"]),
    ("fields", "", &["P0042"]),
    ("notify", "", &[]),
    ("notifies", "", &[]),
    ("tag", "", &["08006"]),
    ("parameter", "", &["08006"]),
    ("copy", "", &["0A000"]),
];

/// In megabytes.
const SIZES: [usize; 2] = [24, 320];

#[test]
fn a_message_without_room_is_an_error() {
    let server = HostileServer::after_login(play);
    let mut seen: BTreeMap<(&str, &str), BTreeMap<String, u32>> = BTreeMap::new();
    for megabytes in LIMITS {
        let mut ground = Ground::with(megabytes);
        for (word, columns, others) in CASES {
            let mut client = ground.connect();
            client.batch_execute(&format!("SELECT dblink_connect('h', '{}')", server.conninfo())).unwrap();
            for size in SIZES {
                let size = if word.ends_with("ies") || word == "notices" { size / 16 } else { size };
                let sql = match columns {
                    "" => format!("SELECT dblink_exec('h', '{word} {size}')"),
                    _ => format!("SELECT count(*) FROM dblink('h', '{word} {size}') AS t({columns})"),
                };
                let what = format!("{word} {size} {columns}");
                let outcome = ground.try_run(&mut client, &sql, &what);
                let code = outcome.map_or_else(|code| code, |()| "done".into());
                assert!(["done", "53200"].contains(&&*code) || others.contains(&&*code), "{what}: {code}");
                *seen.entry((word, columns)).or_default().entry(code).or_default() += 1;
                // The connection goes on, or is lost and says so.
                let next = "SELECT * FROM dblink('h', 'small') AS t(v int)";
                if let Err(code) = ground.try_run(&mut client, next, &what) {
                    assert_eq!(code, "08006", "{what}");
                    let again = format!(
                        "SELECT dblink_disconnect('h'); SELECT dblink_connect('h', '{}')",
                        server.conninfo()
                    );
                    ground.try_run(&mut client, &again, &what).unwrap();
                }
            }
        }
    }
    println!("{seen:#?}");
    for word in ["row", "rows", "error", "notice"] {
        let codes: Vec<_> =
            seen.iter().filter(|((case, _), _)| *case == word).map(|(_, codes)| codes).collect();
        assert!(codes.iter().any(|codes| codes.contains_key("53200")), "{word} always had room");
    }
}
