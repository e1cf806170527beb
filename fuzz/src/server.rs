//! The messages of a server, as it should send them.

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short message");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// DataRow.
pub fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        match value {
            None => body.extend((-1i32).to_be_bytes()),
            Some(value) => {
                body.extend((value.len() as u32).to_be_bytes());
                body.extend(*value);
            }
        }
    }
    message(b'D', &body)
}

/// RowDescription, every column a `text`.
pub fn columns(names: &[&str]) -> Vec<u8> {
    let texts: Vec<_> = names.iter().map(|name| (*name, 25)).collect();
    typed_columns(&texts)
}

/// RowDescription, with the names and types of columns.
pub fn typed_columns(columns: &[(&str, u8)]) -> Vec<u8> {
    let mut body = (columns.len() as u16).to_be_bytes().to_vec();
    for (name, type_oid) in columns {
        body.extend(name.as_bytes());
        // Table, column number, type, its size, modifier, text format.
        body.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, *type_oid, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    }
    message(b'T', &body)
}

/// ParseComplete, ParameterDescription and RowDescription.
pub fn parsed(parameters: &[u8], columns: &[(&str, u8)]) -> Vec<u8> {
    [parse_complete(), parameter_description(parameters), typed_columns(columns)].concat()
}

/// ParseComplete, ParameterDescription and NoData.
pub fn parsed_without_result() -> Vec<u8> {
    [parse_complete(), parameter_description(&[]), message(b'n', b"")].concat()
}

fn parse_complete() -> Vec<u8> {
    message(b'1', b"")
}

fn parameter_description(types: &[u8]) -> Vec<u8> {
    let mut body = (types.len() as u16).to_be_bytes().to_vec();
    types.iter().for_each(|type_oid| body.extend([0, 0, 0, *type_oid]));
    message(b't', &body)
}

/// BindComplete.
pub fn bind_complete() -> Vec<u8> {
    message(b'2', b"")
}

/// PortalSuspended.
pub fn portal_suspended() -> Vec<u8> {
    message(b's', b"")
}

/// The answer to a described SHOW.
pub fn shown(value: &str) -> Vec<u8> {
    [parse_complete(), bind_complete(), row(&[Some(value.as_bytes())]), complete("SHOW")].concat()
}

/// The end of a described statement: CommandComplete, CloseComplete and ReadyForQuery.
pub fn executed(tag: &str) -> Vec<u8> {
    [complete(tag), message(b'3', b""), ready()].concat()
}

/// The answer to a statement with two columns that is described and then run, the first in binary.
pub fn binary_result() -> Vec<u8> {
    [
        parsed(&[], &[("id", 23), ("name", 25)]),
        bind_complete(),
        row(&[Some(&[0, 0, 0, 1]), Some(b"one")]),
        row(&[None, Some(b"")]),
        executed("SELECT 2"),
    ]
    .concat()
}

/// The answer to a statement with two columns that is described and then run, the second one a float in binary.
pub fn float_result() -> Vec<u8> {
    let columns = typed_columns(&[("id", 23), ("share", 0)]);
    // float8 is 701.
    let at = columns.len() - 10;
    let columns = [&columns[..at], &[2, 0xbd], &columns[at + 2..]].concat();
    [
        parse_complete(),
        parameter_description(&[]),
        columns,
        bind_complete(),
        row(&[Some(&[0, 0, 0, 1]), Some(&0.1f64.to_be_bytes())]),
        executed("SELECT 1"),
    ]
    .concat()
}

/// CommandComplete.
pub fn complete(tag: &str) -> Vec<u8> {
    message(b'C', format!("{tag}\0").as_bytes())
}

/// ReadyForQuery, outside of a transaction.
pub fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// EmptyQueryResponse.
pub fn empty() -> Vec<u8> {
    message(b'I', b"")
}

/// ErrorResponse.
pub fn error(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    message(b'E', &fields(severity, sqlstate, text))
}

/// NoticeResponse.
pub fn notice(text: &str) -> Vec<u8> {
    message(b'N', &fields("NOTICE", "00000", text))
}

fn fields(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    let (detail, hint, context) = ("a detail", "a hint", "a context\nof two lines");
    format!("SLOCAL\0V{severity}\0C{sqlstate}\0M{text}\0D{detail}\0H{hint}\0W{context}\0Ffile.c\0L1\0Rf\0\0")
        .into_bytes()
}

/// ParameterStatus.
pub fn parameter(name: &str, value: &str) -> Vec<u8> {
    message(b'S', format!("{name}\0{value}\0").as_bytes())
}

/// BackendKeyData.
pub fn key() -> Vec<u8> {
    message(b'K', &[0, 0, 0x12, 0x34, 1, 2, 3, 4])
}

/// NotificationResponse.
pub fn notification() -> Vec<u8> {
    message(b'A', b"\0\0\x12\x34channel\0payload\0")
}

/// CopyOutResponse and the data of one line.
pub fn copy_out() -> Vec<u8> {
    [message(b'H', &[0, 0, 1, 0, 0]), message(b'd', b"line\n"), message(b'c', b"")].concat()
}

/// CopyInResponse.
pub fn copy_in() -> Vec<u8> {
    message(b'G', &[0, 0, 1, 0, 0])
}

/// An Authentication message.
pub fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes()[..], data].concat())
}

/// AuthenticationSASL.
pub fn sasl(mechanisms: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    for mechanism in mechanisms {
        data.extend(format!("{mechanism}\0").as_bytes());
    }
    data.push(0);
    authentication(10, &data)
}

/// What follows a login: parameters, key, ready.
pub fn session() -> Vec<u8> {
    [
        parameter("server_version", "17.2"),
        parameter("DateStyle", "ISO, DMY"),
        parameter("IntervalStyle", "postgres"),
        parameter("default_transaction_read_only", "off"),
        parameter("in_hot_standby", "off"),
        key(),
        ready(),
    ]
    .concat()
}

/// The answer to a query with two rows.
pub fn result() -> Vec<u8> {
    [
        columns(&["id", "name"]),
        row(&[Some(b"1"), Some(b"one")]),
        row(&[Some(b"2"), None]),
        complete("SELECT 2"),
        ready(),
    ]
    .concat()
}

/// A run of messages as a list.
pub fn split(mut messages: &[u8]) -> Vec<Vec<u8>> {
    let mut list = Vec::new();
    while let [_, a, b, c, d, ..] = messages {
        let (one, rest) = messages.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize + 1);
        list.push(one.to_vec());
        messages = rest;
    }
    list
}
