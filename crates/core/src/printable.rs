//! Text of somebody else's in a message of ours.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with every character escaped that could steer a terminal, begin a line or turn the direction of
/// writing: what a remote server says must not pass for a line of our own server's log.
///
/// ```
/// assert_eq!(secretlink_core::printable("a\n\x1b[2JFATAL:"), "a\\x0a\\x1b[2JFATAL:");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, steers)
}

/// A whole message as [`printable`] makes a line: it may have several lines and tabs.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| steers(c) && c != '\n' && c != '\t')
}

fn steers(c: char) -> bool {
    // Besides control characters, those that separate lines or paragraphs, and those that turn the direction.
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, steers: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // Writing to a string does not fail.
        let _ = match c {
            c if !steers(c) => {
                shown.push(c);
                Ok(())
            }
            c if c.is_ascii() => write!(shown, "\\x{:02x}", u32::from(c)),
            c => write!(shown, "\\u{:04x}", u32::from(c)),
        };
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_escaped_and_nothing_else() {
        for plain in ["", "caf\u{e9} \u{4e2d} \u{1f600}", "back\\slash 'quoted' \"double\" 100%"] {
            assert!(matches!(printable(plain), Cow::Borrowed(text) if text == plain));
        }
        assert_eq!(printable("\0\x07\x08\t\n\r\x1b\x7f"), "\\x00\\x07\\x08\\x09\\x0a\\x0d\\x1b\\x7f");
        assert_eq!(printable("\u{9b}2J\u{85}\u{202e}\u{2028}"), "\\u009b2J\\u0085\\u202e\\u2028");
        assert_eq!(printable_lines("a\n\tb\r\x1b[31m"), "a\n\tb\\x0d\\x1b[31m");
    }
}
