//! Rows read in place, against a decoder so plain that it is right.

use bytes::BytesMut;
use secretlink_remote::framed::{self, Incoming};

use super::server;

/// The longest message, as after login.
const LIMIT: usize = 1 << 30;

type Row = Vec<Option<Vec<u8>>>;

/// The bytes are what has been read from the server so far.
pub fn run(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    loop {
        let before = buffer.to_vec();
        match framed::decode(&mut buffer, LIMIT) {
            // Whatever the message claims, no more room is made than its bytes need.
            Ok(None) => return assert_eq!(&buffer[..], &before[..], "an incomplete message stays"),
            Err(_) => return,
            Ok(Some(
                Incoming::Columns(_)
                | Incoming::Notification(_)
                | Incoming::LostNotification
                | Incoming::Message(_),
            )) => {
                assert!(buffer.len() + 5 <= before.len(), "a message is taken out of the buffer");
            }
            Ok(Some(Incoming::Rows(mut batch))) => {
                let taken = &before[..before.len() - buffer.len()];
                assert_eq!(&before[taken.len()..], &buffer[..]);
                assert_eq!(batch.wire_len(), taken.len());
                let messages = messages(taken);
                assert_eq!(batch.remaining(), messages.len());
                for (number, message) in messages.iter().enumerate() {
                    let mut row = Row::new();
                    let read = batch.next_row(|column, value| {
                        assert_eq!(column, row.len());
                        row.push(value.map(|value| {
                            let bytes = value.bytes().to_vec();
                            let with_margins = value.with_margins();
                            assert_eq!(
                                with_margins[1..],
                                [&bytes[..], &[0]].concat(),
                                "value and terminator"
                            );
                            // As Postgres's headers do: the reader of the next value must not see it.
                            with_margins.fill(0xee);
                            bytes
                        }));
                    });
                    match (read, plain(message)) {
                        (Ok(columns), Some(expected)) => {
                            assert_eq!(columns, Some(expected.len()));
                            assert_eq!(row, expected, "row {number}");
                        }
                        (Err(_), None) => return,
                        (read, expected) => panic!("row {number}: {read:?} instead of {expected:?}"),
                    }
                }
                assert_eq!(batch.next_row(|_, _| panic!("a row after the last")), Ok(None));
            }
        }
    }
}

/// The bodies of whole DataRow messages.
fn messages(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let [b'D', a, b, c, d, rest @ ..] = bytes {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
        found.push(&rest[..length]);
        bytes = &rest[length..];
    }
    assert!(bytes.is_empty(), "a batch holds whole rows and nothing else");
    found
}

/// `None` if the row does not keep to the protocol.
fn plain(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Row::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        rest = behind;
        row.push(match i32::from_be_bytes(*length) {
            -1 => None,
            length => {
                let (value, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                rest = behind;
                Some(value.to_vec())
            }
        });
    }
    rest.is_empty().then_some(row)
}

/// Runs of rows of all shapes.
pub fn seeds() -> Vec<Vec<u8>> {
    let long = vec![b'y'; 300];
    let rows = [
        server::row(&[Some(b"1"), Some(b"one"), None]),
        server::row(&[None, Some(b""), Some(&long)]),
        server::row(&[]),
        server::row(&[Some(b"")]),
        server::row(&[None]),
        server::row(&[Some(b"x"), None, Some(b""), Some(b"last")]),
    ];
    let mut seeds: Vec<Vec<u8>> = rows.to_vec();
    seeds.push(rows.concat());
    seeds.push([rows.concat(), server::complete("SELECT 6"), rows[0].clone(), server::ready()].concat());
    seeds.push([server::columns(&["a", "b"]), rows.concat()].concat());
    seeds
}
