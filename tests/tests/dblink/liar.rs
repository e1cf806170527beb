//! A server whose values in binary are none of their types.

use crate::cluster::cluster;
use secretlink_e2e::server_messages as server;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Plays a server for one session: whatever is asked, the answer is one row with `value` in a column of
/// type `type_oid`. Requests to cancel are refused.
fn serve(listener: TcpListener, type_oid: u32, value: &[u8]) {
    let Ok((mut stream, _)) = listener.accept() else { return };
    drop(listener);
    let mut startup = [0; 4];
    let mut hear = move |stream: &mut TcpStream| -> Option<u8> {
        let mut tag = [b'S'];
        if startup == [0; 4] {
            stream.read_exact(&mut startup).ok()?;
        } else {
            stream.read_exact(&mut tag).ok()?;
            stream.read_exact(&mut startup).ok()?;
        }
        let mut body = vec![0; u32::from_be_bytes(startup) as usize - 4];
        stream.read_exact(&mut body).ok()?;
        Some(tag[0])
    };
    if hear(&mut stream).is_none() {
        return;
    }
    let _ = stream.write_all(&[server::authentication(0, b""), server::session()].concat());
    let described = {
        let with_text = server::parsed(&[], &[("v", 0)]);
        // Its type is before its size, modifier and format.
        let at = with_text.len() - 12;
        [&with_text[..at], &type_oid.to_be_bytes(), &with_text[at + 4..]].concat()
    };
    let mut shown = false;
    while let Some(tag) = hear(&mut stream) {
        let answer = match tag {
            b'E' if !shown => {
                shown = true;
                continue;
            }
            b'H' if shown => [server::shown("1"), described.clone()].concat(),
            b'H' => described.clone(),
            b'S' => {
                [server::bind_complete(), server::row(&[Some(value)]), server::executed("SELECT 1")].concat()
            }
            b'X' => return,
            _ => continue,
        };
        shown = true;
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Malformed values of a type, given one that is well formed.
fn malformed(good: &[u8], fixed: bool) -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    values.push([good, b"\0"].concat());
    if !fixed {
        values.push(vec![0xff; good.len()]);
        values.push([&[0x7f; 12], good].concat());
    }
    values
}

#[test]
fn values_that_are_none_of_their_type_are_errors() {
    let cluster = cluster();
    let mut client = cluster.connect("postgres", "local");
    let array = |oid: u32, element: &[u8]| {
        let header = [1, 1, oid, 2, 1].map(u32::to_be_bytes).concat();
        let length = (element.len() as u32).to_be_bytes();
        [&header[..], &[0xff; 4], &length[..], element].concat()
    };
    let numeric = [0, 2, 0, 1, 0, 0, 0, 2, 0, 1, 0x13, 0x88];
    let cases: [(&str, u32, Vec<u8>, bool); 17] = [
        ("bool", 16, vec![1], true),
        ("int2", 21, vec![0; 2], true),
        ("int4", 23, vec![0; 4], true),
        ("oid", 26, vec![0; 4], true),
        ("int8", 20, vec![0; 8], true),
        ("float4", 700, vec![0; 4], true),
        ("float8", 701, vec![0; 8], true),
        ("date", 1082, vec![0; 4], true),
        ("time", 1083, vec![0; 8], true),
        ("timestamp", 1114, vec![0; 8], true),
        ("timestamptz", 1184, vec![0; 8], true),
        ("uuid", 2950, vec![0; 16], true),
        ("numeric", 1700, numeric.to_vec(), false),
        ("numeric(9,2)", 1700, numeric.to_vec(), false),
        ("numeric[]", 1231, array(1700, &numeric), false),
        ("float8[]", 1022, array(701, &[0; 8]), false),
        ("timestamptz[]", 1185, array(1184, &[0; 8]), false),
    ];
    let out_of_range = [
        ("date", 1082, i64::from(i32::MIN) + 1, 4),
        ("time", 1083, -1, 8),
        ("time", 1083, 86_400_000_001, 8),
        ("timestamp", 1114, i64::MIN + 1, 8),
        ("timestamptz", 1184, i64::MAX - 1, 8),
    ]
    .map(|(kind, oid, value, len)| (kind, oid, value.to_be_bytes()[8 - len..].to_vec()));
    let bad = cases.iter().flat_map(|(kind, oid, good, fixed)| {
        malformed(good, *fixed).into_iter().map(|value| (*kind, *oid, value))
    });
    let good = cases.iter().map(|(kind, oid, good, _)| (*kind, *oid, good.clone(), true));

    let cases = bad.chain(out_of_range).map(|(kind, oid, value)| (kind, oid, value, false)).chain(good);
    for (kind, oid, value, is_good) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let said = value.clone();
        let server = thread::spawn(move || serve(listener, oid, &said));
        let sql = format!(
            "SELECT v::text FROM secretlink.dblink('host=127.0.0.1 port={port} user=u sslmode=disable', 'SELECT v FROM t') AS t(v {kind})"
        );
        let result = client.query_opt(&sql, &[]);
        server.join().unwrap();
        match result {
            Ok(row) => assert!(is_good && row.is_some(), "{kind} {value:02x?} was taken for {row:?}"),
            Err(error) => {
                let code = error.code().unwrap_or_else(|| panic!("{kind} {value:02x?}: {error:?}")).code();
                let expected = ["22P03", "08P01", "22008", "22003", "54000", "2202E", "22000", "42804"];
                assert!(!is_good && expected.contains(&code), "{kind} {value:02x?}: {error:?}");
            }
        }
    }
}
