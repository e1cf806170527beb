//! A remote error as libpq prints it, which is what `dblink_error_message` returns.
//!
//! Source: PostgreSQL documentation, `PQerrorMessage` and `PQsetErrorVerbosity`, and what libpq 15
//! does for PQERRORS_DEFAULT (fe-protocol3.c, pqBuildErrorMessage3).

use pgrx::pg_sys;
use secretlink_remote::error::QueryError;
use secretlink_remote::server_message::ServerMessage;

use super::text;

/// How wide a line of the query may be shown, in columns.
const WIDTH: usize = 60;

/// How far from the right end of what is shown the place of the error is kept, in columns.
const MARGIN: usize = 10;

/// The text of `error`, which `query` caused, in the encoding of the database.
pub fn error_text(error: &QueryError, query: &[u8]) -> Vec<u8> {
    match error {
        QueryError::Server(message) => server_error(message, query),
        other => text::to_server(&other.to_string()).into_bytes(),
    }
}

fn server_error(error: &ServerMessage, query: &[u8]) -> Vec<u8> {
    let mut lines = [&error.shown_severity[..], b":  ", &error.message].concat();
    let (position, of) = match &error.position {
        Some(position) => (Some(position), Some(query)),
        None => (error.internal_position.as_ref(), error.internal_query.as_deref()),
    };
    let mut shown = None;
    match (position, of) {
        (Some(position), Some(query)) => {
            let number = std::str::from_utf8(position).ok().and_then(|number| number.parse().ok());
            shown = number.and_then(|number| place(query, number));
        }
        (Some(position), None) => lines.extend([b" at character ", &position[..]].concat()),
        (None, _) => {}
    }
    lines.push(b'\n');
    lines.extend(shown.unwrap_or_default());
    for (label, field) in [
        ("DETAIL", &error.detail),
        ("HINT", &error.hint),
        ("QUERY", &error.internal_query),
        ("CONTEXT", &error.context),
    ] {
        if let Some(field) = field {
            lines.extend([label.as_bytes(), b":  ", field, b"\n"].concat());
        }
    }
    while lines.ends_with(b"\n") {
        lines.pop();
    }
    text::verified(&lines).into_bytes()
}

/// A character of a query: its bytes, and the column of the screen where it begins.
struct Character<'a> {
    bytes: &'a [u8],
    column: usize,
}

/// `LINE n: …` and a line with `^` under the character at `position`, which counts from 1; `None` if
/// there is no such character. A long line is cut to what is around it.
fn place(query: &[u8], position: usize) -> Option<Vec<u8>> {
    let characters = characters(query);
    let at = position.checked_sub(1).filter(|at| *at <= characters.len())?;
    let is = |i: usize, byte: u8| characters.get(i).is_some_and(|c| c.bytes == [byte]);
    let ends_line = |i: usize| is(i, b'\n') || is(i, b'\r');

    let mut number = 1;
    let mut from = 0;
    for i in (0..at).filter(|i| ends_line(*i)) {
        // CR and LF together end one line.
        if is(i, b'\r') || i == 0 || !is(i - 1, b'\r') {
            number += 1;
        }
        from = i + 1;
    }
    let mut to = (at..characters.len()).find(|i| ends_line(*i)).unwrap_or(characters.len());

    let end = characters.last().map_or(0, |last| last.column + width(last.bytes));
    let column = |i: usize| characters.get(i).map_or(end, |c| c.column);
    let (mut cut_left, mut cut_right) = (false, false);
    if column(to) - column(from) > WIDTH {
        if column(from) + WIDTH >= column(at) + MARGIN {
            while column(to) - column(from) > WIDTH {
                to -= 1;
            }
            cut_right = true;
        } else {
            while column(at) + MARGIN < column(to) {
                to -= 1;
                cut_right = true;
            }
            while column(to) - column(from) > WIDTH {
                from += 1;
                cut_left = true;
            }
        }
    }

    let mut lines = format!("LINE {number}: {}", if cut_left { "..." } else { "" }).into_bytes();
    let indent = lines.len() + column(at) - column(from);
    for character in &characters[from..to] {
        lines.extend(if character.bytes == b"\t" { b" " } else { character.bytes });
    }
    if cut_right {
        lines.extend(b"...");
    }
    lines.push(b'\n');
    lines.resize(lines.len() + indent, b' ');
    lines.extend(b"^\n");
    Some(lines)
}

fn characters(text: &[u8]) -> Vec<Character<'_>> {
    let mut found = Vec::new();
    let (mut rest, mut column) = (text, 0);
    while !rest.is_empty() {
        let (bytes, after) = rest.split_at(length(rest));
        found.push(Character { bytes, column });
        column += width(bytes);
        rest = after;
    }
    found
}

/// The length of the first character in bytes.
fn length(text: &[u8]) -> usize {
    let start = first_bytes(text);
    // SAFETY: the longest character has four bytes, and more than that are there.
    let length = unsafe { pg_sys::pg_encoding_mblen(pg_sys::GetDatabaseEncoding(), start.as_ptr().cast()) };
    usize::try_from(length).unwrap_or(1).clamp(1, text.len())
}

/// The columns that a character takes on a screen; one for those that take none.
fn width(character: &[u8]) -> usize {
    let start = first_bytes(character);
    // SAFETY: as above.
    let width = unsafe { pg_sys::pg_encoding_dsplen(pg_sys::GetDatabaseEncoding(), start.as_ptr().cast()) };
    usize::try_from(width).unwrap_or(1).max(1)
}

/// The first character, with zeroes after it.
fn first_bytes(text: &[u8]) -> [u8; 8] {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().take(4).zip(text) {
        *to = *from;
    }
    first
}
