//! What a version of a secret says about a login.

use secretlink_aws::{AwsError, DatabaseSecret, Document, SecretValue};
use secretlink_core::Secret;

use crate::Trouble;

/// A login as a version of a secret has it. Its text is kept, so that a new version differs in nothing but
/// what is meant to differ.
#[derive(Clone, Debug)]
pub struct Account {
    /// Where the server is.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// The database; AWS's own functions take `postgres` where there is none.
    pub dbname: String,
    /// The role.
    pub username: String,
    /// The role's password.
    pub password: Secret,
    /// The secret of who may change other roles' passwords.
    pub master: Option<String>,
    /// Whether TLS is to be used, if the secret says.
    pub ssl: Option<bool>,
    /// The secret's JSON, to which a new version keeps all but the password.
    pub(crate) document: Document,
}

/// The kinds of server that speak Postgres, as secrets name them.
const ENGINES: [&str; 3] = ["postgres", "aurora-postgresql", "postgresql"];

impl Account {
    /// Reads a version of a secret.
    ///
    /// # Errors
    /// If it is no JSON object, lacks a field, or is of another kind of server.
    pub fn of(value: &SecretValue) -> Result<Account, Trouble> {
        let fields = DatabaseSecret::from_value(value)?;
        let secret = || value.name.clone();
        let document = Document::parse(value.text()?).unwrap_or_default();
        if let Some(engine) = fields.engine.filter(|engine| !ENGINES.contains(&engine.as_str())) {
            return Err(Trouble::Engine { secret: secret(), engine });
        }
        let text = |field| {
            document.text(field).map_err(|problem| AwsError::InvalidField {
                secret: secret(),
                field,
                problem,
            })
        };
        Ok(Account {
            host: fields.host.ok_or_else(|| Trouble::FieldMissing { secret: secret(), field: "host" })?,
            port: fields.port.unwrap_or(5432),
            dbname: fields.dbname.unwrap_or_else(|| "postgres".into()),
            username: fields
                .username
                .ok_or_else(|| Trouble::FieldMissing { secret: secret(), field: "username" })?,
            password: fields.password,
            master: text("masterarn")?,
            ssl: ssl(&document),
            document,
        })
    }

    /// This login with another role and password.
    #[must_use]
    pub fn with(&self, username: &str, password: &Secret) -> Account {
        let mut document = self.document.clone();
        if username != self.username {
            document.set("username", username);
        }
        document.set("password", password.expose_str().unwrap_or_default());
        Account { username: username.to_owned(), password: password.clone(), document, ..self.clone() }
    }

    /// The secret's text.
    pub fn text(&self) -> Secret {
        self.document.to_secret()
    }

    /// Whether two versions differ in role and password at most.
    pub fn is_same_but_login(&self, other: &Account) -> bool {
        other.with(&self.username, &self.password).text() == self.with(&self.username, &self.password).text()
    }

    /// Whether two versions lead to the same server.
    pub fn is_at(&self, other: &Account) -> bool {
        self.host.eq_ignore_ascii_case(&other.host) && self.port == other.port
    }
}

/// The field `ssl`, read as AWS's functions read it: `true` or `false`, also as a string; anything else says nothing.
fn ssl(document: &Document) -> Option<bool> {
    match document.raw("ssl")?.to_ascii_lowercase().trim_matches('"') {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secretlink_aws::SecretBody;

    fn account(text: &str) -> Result<Account, Trouble> {
        Account::of(&SecretValue {
            arn: "arn".into(),
            name: "x".into(),
            version_id: "v".into(),
            stages: vec![],
            created: None,
            body: SecretBody::String(Secret::new(text)),
        })
    }

    const APP: &str =
        r#"{"engine":"postgres","host":"db","port":"6543","username":"app","password":"old","n":1.10}"#;

    #[test]
    fn only_role_and_password_differ() {
        let old = account(APP).unwrap();
        let new = old.with("app_clone", &Secret::new("n\"ew"));
        assert_eq!(
            new.text().expose_str().unwrap(),
            r#"{"engine":"postgres","host":"db","port":"6543","username":"app_clone","password":"n\"ew","n":1.10}"#
        );
        assert!(old.is_same_but_login(&new) && new.is_same_but_login(&old) && old.is_at(&new));
        let moved = account(&APP.replace("\"db\"", "\"db2\"")).unwrap();
        assert!(!moved.is_same_but_login(&new) && !moved.is_at(&old));
        assert!(!account(&APP.replace("1.10", "1.1")).unwrap().is_same_but_login(&new));
        assert_eq!((old.port, old.dbname.as_str()), (6543, "postgres"));
    }

    #[test]
    fn what_cannot_be_rotated() {
        for (text, error) in [
            ("p", "secret \"x\" is not valid JSON"),
            ("[]", "secret \"x\" is not a JSON object"),
            (r#"{"host":"h","username":"u"}"#, "secret \"x\" has no password field"),
            (r#"{"host":"h","password":"p"}"#, "secret \"x\" has no username field"),
            (r#"{"username":"u","password":"p"}"#, "secret \"x\" has no host field"),
            (
                r#"{"engine":"mysql","host":"h","username":"u","password":"p"}"#,
                "secret \"x\" is of another kind of server: mysql",
            ),
            (
                r#"{"masterarn":1,"host":"h","username":"u","password":"p"}"#,
                "field \"masterarn\" of secret \"x\" is not valid",
            ),
        ] {
            assert_eq!(account(text).unwrap_err().to_string(), error, "{text}");
        }
    }

    #[test]
    fn ssl_as_awss_functions_read_it() {
        let ssl = |value| account(&APP.replace("1.10", &format!("1,\"ssl\":{value}"))).unwrap().ssl;
        assert_eq!(
            [ssl("true"), ssl("\"True\""), ssl("false"), ssl("\"FALSE\"")],
            [Some(true), Some(true), Some(false), Some(false)]
        );
        assert_eq!([ssl("1"), ssl("\"yes\""), ssl("null")], [None, None, None]);
    }
}
