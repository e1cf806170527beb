//! `secretlink.sync_secret_template`.

use std::fmt::Write;

/// The name of a role's secret, from a pattern such as `postgres/{cluster}/{role}`.
///
/// A role's name may hold anything, a secret's only ASCII letters, digits and `/_+=.@-`. Other bytes
/// become `=XX` with two hexadecimal digits, and so do `=` itself, which keeps names apart, and `/`,
/// which keeps `{cluster}` and `{role}` apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretTemplate(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Role,
    Cluster,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template does not contain the role's name, so that all roles would share one secret.
    #[error("It must contain {{role}}.")]
    NoRole,
    /// A character that no secret's name holds.
    #[error("The character \"{0}\" cannot be in a secret's name.")]
    Character(char),
    /// Something in braces that is neither `{role}` nor `{cluster}`.
    #[error("{{role}} and {{cluster}} are the only words in braces.")]
    UnknownWord,
    /// `{cluster}`, and the server has no name.
    #[error("It contains {{cluster}}, and neither secretlink.cluster_name nor cluster_name is set.")]
    NoClusterName,
    /// Longer than the 512 characters of a secret's name.
    #[error("The secret's name would be longer than 512 characters.")]
    TooLong,
}

impl SecretTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// If no secret's name, or the same one for every role, could come of it.
    pub fn parse(text: &str) -> Result<SecretTemplate, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('{') {
                let (word, after) = after.split_once('}').ok_or(TemplateError::UnknownWord)?;
                pieces.push(match word {
                    "role" => Piece::Role,
                    "cluster" => Piece::Cluster,
                    _ => return Err(TemplateError::UnknownWord),
                });
                rest = after;
            } else {
                let end = rest.find('{').unwrap_or(rest.len());
                let (literal, after) = rest.split_at(end);
                if let Some(c) = literal.chars().find(|&c| !in_a_name(c)) {
                    return Err(TemplateError::Character(c));
                }
                pieces.push(Piece::Text(literal.to_owned()));
                rest = after;
            }
        }
        if pieces.contains(&Piece::Role) { Ok(SecretTemplate(pieces)) } else { Err(TemplateError::NoRole) }
    }

    /// The name of the secret of a role.
    ///
    /// # Errors
    /// If it would be too long, or the cluster's name is needed and empty.
    pub fn expand(&self, role: &[u8], cluster: &[u8]) -> Result<String, TemplateError> {
        let mut name = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Role => encode(role, &mut name),
                Piece::Cluster if cluster.is_empty() => return Err(TemplateError::NoClusterName),
                Piece::Cluster => encode(cluster, &mut name),
            }
        }
        if name.len() > 512 { Err(TemplateError::TooLong) } else { Ok(name) }
    }
}

fn in_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/_+=.@-".contains(c)
}

fn encode(name: &[u8], out: &mut String) {
    for &byte in name {
        let c = char::from(byte);
        if in_a_name(c) && !"=/".contains(c) {
            out.push(c);
        } else {
            // Writing to a String does not fail.
            let _ = write!(out, "={byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &str, role: &str, cluster: &str) -> String {
        SecretTemplate::parse(template).unwrap().expand(role.as_bytes(), cluster.as_bytes()).unwrap()
    }

    #[test]
    fn names() {
        assert_eq!(expand("postgres/{role}", "app", ""), "postgres/app");
        assert_eq!(expand("{cluster}/{role}-x", "app.rw@x+y_z", "main"), "main/app.rw@x+y_z-x");
        assert_eq!(expand("{role}", "a b/c=d\"é", ""), "a=20b=2Fc=3Dd=22=C3=A9");
    }

    #[test]
    fn no_two_roles_share_a_secret() {
        let odd = ["a", "A", "a=20", "a ", "a/b", "a=2Fb", "a=2fb", "é", "=C3=A9", "a-b", "a_b"];
        let names: std::collections::HashSet<_> =
            odd.iter().map(|role| expand("p/{role}", role, "")).collect();
        assert_eq!(names.len(), odd.len());
        assert_ne!(expand("{cluster}/{role}", "c", "a/b"), expand("{cluster}/{role}", "b/c", "a"));
    }

    #[test]
    fn mistakes() {
        for (template, error) in [
            ("", TemplateError::NoRole),
            ("postgres/{cluster}", TemplateError::NoRole),
            ("{Role}", TemplateError::UnknownWord),
            ("{role", TemplateError::UnknownWord),
            ("a b/{role}", TemplateError::Character(' ')),
            ("{role}}", TemplateError::Character('}')),
        ] {
            assert_eq!(SecretTemplate::parse(template).unwrap_err(), error, "{template}");
        }
        let template = SecretTemplate::parse("{cluster}{role}").unwrap();
        assert_eq!(template.expand(b"app", b""), Err(TemplateError::NoClusterName));
        assert_eq!(template.expand(&[b'/'; 63], &[b'/'; 200]), Err(TemplateError::TooLong));
    }
}
