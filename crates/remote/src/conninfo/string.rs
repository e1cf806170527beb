//! The `keyword=value` syntax (fe-connect.c, `conninfo_parse`).

use super::error::{ConnInfoError, Place};
use super::keywords;
use super::options::{Options, without_requiressl};
use super::value::is_space;

/// Adds every pair of `text` to `options`.
pub(super) fn parse(text: &str, options: &mut Options) -> Result<(), ConnInfoError> {
    let mut scan = Scan { rest: text, length: text.len() };
    let mut after = None;
    // Right behind a password a word may be the rest of it, for want of quotes.
    let mut behind_secret = false;
    loop {
        scan.skip_spaces();
        if scan.rest.is_empty() {
            return Ok(());
        }
        let place = Place { byte: scan.byte(), after };
        let name = scan.take_until(|b| b == b'=' || is_space(b));
        scan.skip_spaces();
        let Some(behind) = scan.rest.strip_prefix('=') else {
            let keyword = keywords::find(name).map(|k| k.name);
            return Err(ConnInfoError::MissingEquals { place, keyword });
        };
        scan.rest = behind;
        scan.skip_spaces();
        let value = scan.value()?;
        let (name, value) = without_requiressl(name, &value);
        match keywords::find(name) {
            Some(keyword) => {
                options.store(keyword, value)?;
                after = Some(keyword.name);
                behind_secret = keyword.secret;
            }
            None if keywords::looks_like_one(name)
                && (!behind_secret || keywords::closest(name).is_some()) =>
            {
                return Err(ConnInfoError::UnknownKeyword { name: name.to_owned() });
            }
            None => {
                let meant = keywords::find(&name.to_ascii_lowercase()).map(|k| k.name);
                return Err(ConnInfoError::UnknownWord { place, meant });
            }
        }
    }
}

/// What is left of the input.
struct Scan<'a> {
    rest: &'a str,
    length: usize,
}

impl<'a> Scan<'a> {
    /// The position in the whole input, from 1.
    fn byte(&self) -> usize {
        self.length - self.rest.len() + 1
    }

    /// Takes up to the first byte for which `end` holds, which must be an ASCII character.
    fn take_until(&mut self, end: impl Fn(u8) -> bool) -> &'a str {
        let at = self.rest.bytes().position(end).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(at).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn skip_spaces(&mut self) {
        self.take_until(|b| !is_space(b));
    }

    /// Takes a value: in single quotes, or up to the next space. A backslash stands for the byte
    /// after it, and for nothing at the end.
    fn value(&mut self) -> Result<Vec<u8>, ConnInfoError> {
        let quote_at = self.byte();
        let (quoted, text) = match self.rest.strip_prefix('\'') {
            Some(text) => (true, text),
            None => (false, self.rest),
        };
        // As much as can be needed, so that no piece of a password is left behind by growing.
        let mut value = Vec::with_capacity(text.len());
        let mut chars = text.chars();
        let mut closed = !quoted;
        while let Some(mut c) = chars.next() {
            if quoted && c == '\'' {
                closed = true;
                break;
            }
            if !quoted && u8::try_from(c).is_ok_and(is_space) {
                break;
            }
            if c == '\\' {
                match chars.next() {
                    Some(escaped) => c = escaped,
                    None => break,
                }
            }
            value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        if !closed {
            return Err(ConnInfoError::UnterminatedQuote { byte: quote_at });
        }
        self.rest = chars.as_str();
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secretlink_core::Report;

    fn pairs(text: &str) -> Result<Vec<(String, String)>, ConnInfoError> {
        let mut options = Options::default();
        parse(text, &mut options)?;
        let value = |k: &str| match options.password() {
            Some(password) if k == "password" => password.expose_str().unwrap_or("?").to_owned(),
            _ => options.get(k).unwrap_or("?").to_owned(),
        };
        Ok(options.keywords().map(|k| (k.to_owned(), value(k))).collect())
    }

    #[test]
    fn a_word_behind_a_password_is_named_only_if_it_is_nearly_a_keyword() {
        let message = |text| pairs(text).unwrap_err().to_string();
        assert_eq!(message("host=a foo=x"), "invalid connection option \"foo\"");
        assert_eq!(message("password=x port=1 foo=x"), "invalid connection option \"foo\"");
        assert_eq!(message("password=x sslmod=x"), "invalid connection option \"sslmod\"");
        assert!(!message("password=my secret=x").contains("secret"));
    }

    #[test]
    fn accepts() {
        for (text, expected) in [
            ("", &[][..]),
            (" \t\n", &[]),
            ("host=a", &[("host", "a")]),
            ("host = a  port\n=\t1 ", &[("host", "a"), ("port", "1")]),
            ("host='a b' port='1'", &[("host", "a b"), ("port", "1")]),
            ("host='a'port=1", &[("host", "a"), ("port", "1")]),
            ("host=a host=b", &[("host", "b")]),
            ("host=", &[("host", "")]),
            ("host='' port=1", &[("host", ""), ("port", "1")]),
            // libpq skips spaces after "=", so the next word is the value.
            ("host= port=1", &[("host", "port=1")]),
            (r"password=a\ b\'c\\d", &[("password", r"a b'c\d")]),
            (r"password='it\'s \\ \a'", &[("password", r"it's \ a")]),
            (r"password=a\", &[("password", "a")]),
            ("password=it's", &[("password", "it's")]),
            ("password=a=b=c", &[("password", "a=b=c")]),
            ("password='pä\u{1F511}\"$\n'", &[("password", "pä\u{1F511}\"$\n")]),
            (r"password=\é", &[("password", "é")]),
            // Only ASCII spaces separate.
            ("user=a\u{a0}b", &[("user", "a\u{a0}b")]),
            ("requiressl=1", &[("sslmode", "require")]),
            ("requiressl=0", &[("sslmode", "prefer")]),
            ("dbname='host=x port=1'", &[("dbname", "host=x port=1")]),
        ] {
            let found = pairs(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
            let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn rejects() {
        for (text, message) in [
            ("x", r#"missing "=" at byte 1 in connection info string"#),
            ("host", r#"missing "=" after "host" in connection info string"#),
            ("host localhost", r#"missing "=" after "host" in connection info string"#),
            (
                "password=my secret host=x",
                r#"missing "=" at byte 13, after the value of "password" in connection info string"#,
            ),
            ("password='a", "unterminated quoted string in connection info string"),
            ("password='a\\'", "unterminated quoted string in connection info string"),
            ("password='a\\", "unterminated quoted string in connection info string"),
            ("foo=1", r#"invalid connection option "foo""#),
            ("=1", "invalid connection option at byte 1"),
            ("SSLMODE=1", "invalid connection option at byte 1"),
            (
                "password=a Hunter2=x",
                r#"invalid connection option at byte 12, after the value of "password""#,
            ),
            ("ssl=true", r#"invalid connection option "ssl""#),
            (
                "user='a password=x'",
                "value of connection option \"user\" contains a connection string with a password",
            ),
        ] {
            let error = pairs(text).unwrap_err();
            assert_eq!(error.to_string(), message, "{text:?}");
            assert_eq!(error.sqlstate().as_str(), "22023");
        }
    }

    #[test]
    fn hints() {
        let hint = |text| pairs(text).unwrap_err().hint().unwrap_or_default();
        assert_eq!(hint("sslmod=x"), "Perhaps you meant the option \"sslmode\".");
        assert_eq!(hint("SSLMODE=x"), "Perhaps you meant the option \"sslmode\".");
        assert_eq!(hint("zzzzzz=x"), "");
        assert_eq!(hint("password=a b"), "Put a value that contains spaces in single quotes.");
        assert!(hint("password='a").contains("\\'"));
    }
}
