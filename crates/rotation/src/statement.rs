//! Parts of statements that are sent to the server: quoted text and names, and the one that sets a password.

use secretlink_core::Secret;

/// Text as a literal, whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!(" E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// A name as an identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The statement that gives a role a password.
pub(crate) fn alter_role(role: &str, verifier: &Secret) -> Secret {
    let verifier = verifier.expose_str().unwrap_or_default();
    Secret::new(format!("ALTER ROLE {} PASSWORD '{verifier}'", identifier(role)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
        assert_eq!(identifier("a\"b'c\\"), "\"a\"\"b'c\\\"");
    }
}
