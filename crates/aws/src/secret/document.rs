//! A secret's text as JSON.

use secretlink_core::Secret;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;

/// A secret whose text is a JSON object: its members in their order, as they were written.
///
/// Only what is asked for is understood. A member that nobody asks for may be what no machine type
/// holds: a number of a thousand digits, a lone surrogate, arrays nested a thousand times. It has to be
/// JSON, and it is written as it was read. Of several members of one name the last one counts, as it does
/// for PostgreSQL's `jsonb` and for AWS's own rotation functions.
#[derive(Clone)]
pub struct Document(Vec<(Box<RawValue>, Box<RawValue>)>);

/// Why a text is no JSON object. What it holds is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotADocument {
    /// The text is no JSON; the fields say where that shows.
    NotJson {
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 stands for the end of the line before.
        column: usize,
    },
    /// The text is JSON, but no object.
    NotAnObject,
}

impl Document {
    /// Without any member.
    pub const fn new() -> Document {
        Document(Vec::new())
    }

    /// Takes a text apart.
    ///
    /// # Errors
    /// If it is not a JSON object.
    pub fn parse(text: &str) -> Result<Document, NotADocument> {
        if let Ok(Members(members)) = parse_json(text) {
            return Ok(Document(members));
        }
        match parse_json::<IgnoredAny>(text) {
            Ok(_) => Err(NotADocument::NotAnObject),
            Err(error) => Err(NotADocument::NotJson { line: error.line(), column: error.column() }),
        }
    }

    /// The text of a member. Without one, and for `null` and `""`, which say as much, `None`.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence, if it is something else, or a text that no field of a
    /// database's secret can be.
    pub fn text(&self, name: &str) -> Result<Option<String>, &'static str> {
        match self.raw(name) {
            None | Some("null") => Ok(None),
            Some(value) if !value.starts_with('"') => Err("It must be a string."),
            Some(value) => match text_of(value) {
                None => Err("It has a character that cannot be."),
                Some(text) if text.contains('\0') => Err("It contains a NUL character."),
                Some(text) => Ok((!text.is_empty()).then_some(text)),
            },
        }
    }

    /// The JSON of a member.
    pub fn raw(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().rev().find(|(member, _)| is_called(member, name))?;
        Some(value.get())
    }

    /// Gives a member this string or number; all others stay as they are.
    pub fn set(&mut self, name: &str, value: &(impl serde::Serialize + ?Sized)) {
        match self.0.iter_mut().rev().find(|(member, _)| is_called(member, name)) {
            Some((_, old)) => *old = to_raw(value),
            None => self.0.push((to_raw(name), to_raw(value))),
        }
    }

    /// The text again.
    pub fn to_secret(&self) -> Secret {
        let members = self.0.iter().map(|(name, value)| format!("{name}:{value}"));
        Secret::new(format!("{{{}}}", members.collect::<Vec<_>>().join(",")))
    }
}

impl Default for Document {
    fn default() -> Document {
        Document::new()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document(…)")
    }
}

fn is_called(member: &RawValue, name: &str) -> bool {
    text_of(member.get()).is_some_and(|member| member == name)
}

/// What a JSON string says; `None` if that cannot be said in Unicode.
pub(crate) fn text_of(json: &str) -> Option<String> {
    parse_json(json).ok()
}

/// A string or number as JSON.
fn to_raw(value: &(impl serde::Serialize + ?Sized)) -> Box<RawValue> {
    // Only a map with odd keys or a failing `Serialize` could fail, and neither comes here.
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Parses byte by byte. serde_json's reader for whole strings says where an error is by searching
/// for line ends with vector instructions, and what is in a vector can end up on the stack, which
/// nobody wipes; it does in an unoptimised build.
pub(crate) fn parse_json<T: serde::de::DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    serde_json::from_reader(text.as_bytes())
}

/// The members of an object, in order.
struct Members(Vec<(Box<RawValue>, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str, name: &str) -> Result<Option<String>, &'static str> {
        Document::parse(json).unwrap().text(name)
    }

    #[test]
    fn only_what_is_asked_for_is_understood() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for odd in [
            "1e999",
            "-1E-99999",
            &"9".repeat(400),
            &deep,
            &format!("{}1{}", r#"{"a":"#.repeat(1000), "}".repeat(1000)),
            r#""\ud800""#,
            r#"["\udc00\ud800x"]"#,
            r#"{"\ud800":1}"#,
            r#""\u0000""#,
        ] {
            let json = format!(r#"{{"odd":{odd},"password":"p","\ud800":{odd}}}"#);
            let mut document = Document::parse(&json).unwrap_or_else(|e| panic!("{odd}: {e:?}"));
            assert_eq!(document.text("password"), Ok(Some("p".into())), "{odd}");
            document.set("password", "q");
            let written = document.to_secret();
            assert_eq!(written.expose_str().unwrap(), json.replace(r#""p""#, r#""q""#), "{odd}");
        }
    }

    #[test]
    fn what_is_used_must_be_text() {
        for (json, found) in [
            (r#"{"a":"x"}"#, Ok(Some("x".to_owned()))),
            (r#"{"a":"x","a":"\u00fc"}"#, Ok(Some("ü".to_owned()))),
            (r#"{"a":1,"a":null}"#, Ok(None)),
            (r#"{"\u0061":"x"}"#, Ok(Some("x".to_owned()))),
            (r#"{"a":""}"#, Ok(None)),
            (r#"{"A":"x"}"#, Ok(None)),
            (r#"{"a":["x"]}"#, Err("It must be a string.")),
            (r#"{"a":1e999}"#, Err("It must be a string.")),
            (r#"{"a":"x\ud800"}"#, Err("It has a character that cannot be.")),
            (r#"{"a":"x\u0000"}"#, Err("It contains a NUL character.")),
        ] {
            assert_eq!(text(json, "a"), found, "{json}");
        }
    }

    #[test]
    fn what_is_no_object() {
        for json in ["[]", "1", "\"{}\"", "null", " true "] {
            assert_eq!(Document::parse(json).unwrap_err(), NotADocument::NotAnObject, "{json}");
        }
        for json in ["", "{", "{}x", "\u{feff}{}", "{\"a\":1,}", "{'a':1}", "a=b", "[1", "{\"a\":NaN}"] {
            let error = Document::parse(json).unwrap_err();
            assert!(matches!(error, NotADocument::NotJson { .. }), "{json}: {error:?}");
        }
    }

    #[test]
    fn debug_shows_nothing() {
        let document = Document::parse(r#"{"password":"hunter2"}"#).unwrap();
        assert_eq!(format!("{document:?}"), "Document(…)");
    }
}
