//! A query string, and what its sender knows about it.

use bytes::Bytes;
use secretlink_core::fnv1a;

use crate::binary_type::BinaryType;

/// A query string. Its copies share one memory.
pub type QueryText = Bytes;

/// What is to be run, and what becomes of its result.
#[derive(Clone, Debug, Default)]
pub struct QueryRequest {
    /// One or more statements, in the session's client encoding.
    pub sql: QueryText,
    /// The types of the values that are to be made of the result's columns, 0 for one that is to
    /// come as text. Empty if all of them are.
    pub local_types: Vec<u32>,
}

/// A string to be run for its effect or its text.
impl From<Vec<u8>> for QueryRequest {
    fn from(sql: Vec<u8>) -> QueryRequest {
        QueryRequest { sql: sql.into(), local_types: Vec::new() }
    }
}

/// Longer strings are not looked at: they are sent as they are.
const LOOKED_AT: usize = 1 << 20;

/// What a single statement that gives rows begins with. Not all: those that matter.
const BEGINNINGS: [&[u8]; 5] = [b"SELECT", b"WITH", b"VALUES", b"TABLE", b"FETCH"];

impl QueryRequest {
    /// Whether any column could come in binary.
    pub(crate) fn wants(&self, kind: impl Fn(BinaryType) -> bool) -> bool {
        self.local_types.iter().any(|oid| BinaryType::of(*oid).is_some_and(&kind))
    }

    /// Whether this is surely one statement, and one that gives rows: the extended protocol takes no
    /// more than one at a time, and to find out by trying would end a remote transaction.
    pub(crate) fn is_one_query(&self) -> bool {
        if self.sql.len() > LOOKED_AT {
            return false;
        }
        let text = self.sql.trim_ascii_start();
        let text = &text[text.iter().take_while(|byte| **byte == b'(').count()..];
        let begins = BEGINNINGS.iter().any(|word| {
            text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
                // Not a longer word.
                && text.get(word.len()).is_some_and(|next| !next.is_ascii_alphanumeric() && *next < 0x80 && *next != b'_' && *next != b'$')
        });
        let body = text.trim_ascii_end();
        let body = body.strip_suffix(b";").unwrap_or(body);
        // No encoding of a server has an ASCII byte inside another character. A semicolon in a
        // string or a comment does no harm but that its statement goes the other way.
        begins && !body.contains(&b';')
    }

    /// A number that is equal for statements that differ in their numbers and strings only; by chance, and rarely,
    /// for others.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut quoted = false;
        fnv1a(self.sql.iter().copied().filter(|&byte| {
            if byte == b'\'' {
                quoted = !quoted;
                return false;
            }
            !quoted && !byte.is_ascii_digit()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(sql: &str) -> QueryRequest {
        QueryRequest::from(sql.as_bytes().to_vec())
    }

    #[test]
    fn one_query() {
        for sql in [
            "SELECT 1",
            "  select 1 ; \n",
            "((SELECT 1) UNION SELECT 2)",
            "\tWith x AS (SELECT 1) TABLE x;",
            "values(1)",
            "SELECT$1",
            "SELECT-1",
            "FETCH 5 FROM c",
            "SELECT 1 -- and that is all",
        ] {
            assert_eq!(request(sql).is_one_query(), !sql.contains("SELECT$"), "{sql}");
        }
    }

    #[test]
    fn whatever_is_not_surely_one_query() {
        for sql in [
            "",
            ";",
            "SELECT",
            "SELECT 1; SELECT 2",
            "SELECT 1;;",
            "SELECT ';'",
            "SELECT 1 /* ; */",
            "/* a comment */ SELECT 1",
            "SELECTED",
            "SELECT_1",
            "SELECT\u{e9}",
            "INSERT INTO t VALUES (1) RETURNING 1",
            "COPY t TO STDOUT",
            "BEGIN",
            "EXPLAIN SELECT 1",
        ] {
            assert!(!request(sql).is_one_query(), "{sql}");
        }
        assert!(!request(&format!("SELECT '{}'", "x".repeat(LOOKED_AT))).is_one_query());
    }

    #[test]
    fn fingerprints_ignore_literals() {
        let same =
            ["SELECT v FROM t WHERE id = 1 AND n = 'a'", "SELECT v FROM t WHERE id = 20 AND n = 'it''s'"];
        assert_eq!(request(same[0]).fingerprint(), request(same[1]).fingerprint());
        assert_ne!(request(same[0]).fingerprint(), request("SELECT w FROM t WHERE id = 1").fingerprint());
    }

    #[test]
    fn wanted_types() {
        let request = QueryRequest { local_types: vec![0, 25, 701], ..QueryRequest::default() };
        assert!(request.wants(|_| true));
        assert!(request.wants(|kind| kind == BinaryType::Float));
        assert!(!request.wants(|kind| kind == BinaryType::DateTime));
        assert!(!QueryRequest::from(Vec::new()).wants(|_| true));
    }
}
