//! A remote error as libpq prints it, which is what `dblink_error_message` returns.
//!
//! Source: PostgreSQL documentation, `PQerrorMessage` and `PQsetErrorVerbosity`, and what libpq 15
//! does for PQERRORS_DEFAULT (fe-protocol3.c, pqBuildErrorMessage3).

use pgrx::pg_sys;
use secretlink_remote::error::QueryError;
use secretlink_remote::server_message::ServerMessage;
use std::collections::VecDeque;

use crate::backend::text;

/// How wide a line of the query may be shown, in columns.
const WIDTH: usize = 60;

/// How far from the right end of what is shown the place of the error is kept, in columns.
const MARGIN: usize = 10;

/// The text of `error`, which `query` caused, in the encoding of the database.
pub(crate) fn error_text(error: &QueryError, query: &[u8]) -> Vec<u8> {
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

/// `LINE n: …` and a line with `^` under the character at `position`, which counts from 1; `None` if
/// there is no such character. A long line is cut to what is around it.
fn place(query: &[u8], position: usize) -> Option<Vec<u8>> {
    let (number, line, at) = line_around(query, position.checked_sub(1)?)?;
    // The column of the screen where each character begins, and where the last one ends.
    let mut columns = vec![0];
    for character in &line {
        columns.push(columns.last().map_or(0, |column| column + width(character)));
    }
    let column = |i: usize| columns.get(i).copied().unwrap_or_default();

    let (mut from, mut to) = (0, line.len());
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
    for character in line.range(from..to) {
        lines.extend(if *character == b"\t" { b" " } else { *character });
    }
    if cut_right {
        lines.extend(b"...");
    }
    lines.push(b'\n');
    lines.resize(lines.len() + indent, b' ');
    lines.extend(b"^\n");
    Some(lines)
}

/// The number of the line where the character at `at` is, the characters of that line, and where among
/// them it is. Of a long line, enough of them to cut it from; a query may be long, too.
fn line_around(query: &[u8], at: usize) -> Option<(usize, VecDeque<&[u8]>, usize)> {
    const ENOUGH: usize = 2 * WIDTH;
    let mut number = 1;
    let mut line = VecDeque::new();
    let mut place = None;
    let (mut rest, mut previous) = (query, &b""[..]);
    for index in 0.. {
        if index == at {
            place = Some(line.len());
        }
        if rest.is_empty() {
            break;
        }
        let (character, after) = rest.split_at(length(rest));
        let ends_line = matches!(character, b"\n" | b"\r");
        match place {
            Some(place) if ends_line || line.len() == place + ENOUGH => break,
            None if ends_line => {
                // CR and LF together end one line.
                if character == b"\r" || previous != b"\r" {
                    number += 1;
                }
                line.clear();
            }
            _ => line.push_back(character),
        }
        if place.is_none() && line.len() > ENOUGH {
            line.pop_front();
        }
        (rest, previous) = (after, character);
    }
    Some((number, line, place?))
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
