//! Reading single values.

use super::error::ConnInfoError;

/// What C's `isspace` takes for a space in the "C" locale.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// `value` for a message, unless it might be more than the one word it ought to be: after a
/// forgotten quote a value can run on into the next option, the password.
pub(super) fn harmless(value: &str) -> Option<String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'+');
    (value.len() <= 32 && value.bytes().all(word)).then(|| value.to_owned())
}

/// An `int` as libpq reads it (fe-connect.c, `parse_int_param`): decimal, a sign, spaces around.
pub(super) fn parse_int(keyword: &'static str, value: &str) -> Result<i32, ConnInfoError> {
    let trimmed = value.trim_matches(|c: char| u8::try_from(c).is_ok_and(is_space));
    trimmed.parse().map_err(|_| ConnInfoError::InvalidInteger { keyword, value: harmless(value) })
}

/// The entry of `list` named by `value`; without a value the `default`.
pub(super) fn choose<T: Copy>(
    keyword: &'static str,
    value: Option<&str>,
    default: T,
    list: &[(&str, T)],
) -> Result<T, ConnInfoError> {
    let Some(value) = value else { return Ok(default) };
    match list.iter().find(|(name, _)| *name == value) {
        Some((_, choice)) => Ok(*choice),
        None => Err(ConnInfoError::InvalidValue { keyword, value: harmless(value) }),
    }
}

/// What follows `postgresql://` or `postgres://`; `None` if `text` is no URI.
pub(super) fn without_designator(text: &str) -> Option<&str> {
    ["postgresql://", "postgres://"].iter().find_map(|designator| text.strip_prefix(designator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_as_strtol_reads_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("+7", Some(7)),
            ("-7", Some(-7)),
            (" \t5\n\x0b", Some(5)),
            ("007", Some(7)),
            ("2147483647", Some(i32::MAX)),
            ("2147483648", None),
            ("", None),
            (" ", None),
            ("5 5", None),
            ("0x10", None),
            ("1e3", None),
            ("+-1", None),
            ("5s", None),
        ] {
            assert_eq!(parse_int("port", text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn integer_errors_show_single_words_only() {
        let message = |value| parse_int("port", value).unwrap_err().to_string();
        assert_eq!(message("x"), "invalid integer value \"x\" for connection option \"port\"");
        assert_eq!(message("5432 pw=x"), "invalid integer value for connection option \"port\"");
    }
}
