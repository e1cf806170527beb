//! The connection fields of a secret.

use secretlink_core::Secret;

use super::document::Document;
use crate::{AwsError, SecretValue};

/// What a secret says about a database (Secrets Manager user guide, "JSON structure of AWS Secrets
/// Manager database credential secrets"). Other fields are ignored, and so are `null` and `""`. A
/// secret that RDS manages has a user name and a password only.
#[derive(Clone, Debug)]
pub struct DatabaseSecret {
    /// The kind of server, such as `postgres`.
    pub engine: Option<String>,
    /// Where the server is.
    pub host: Option<String>,
    /// The port, 1 to 65535, given as a number or as a string.
    pub port: Option<u16>,
    /// The database.
    pub dbname: Option<String>,
    /// The role.
    pub username: Option<String>,
    /// The password: not empty, and without the NUL character, which no Postgres password holds.
    /// Empty if [`DatabaseSecret::iam_auth`] says that there need be none.
    pub password: Secret,
    /// Whether the role logs in with an IAM token in place of a password: `"iam_auth": true`.
    pub iam_auth: bool,
}

impl DatabaseSecret {
    /// Takes the fields out of a secret.
    ///
    /// # Errors
    /// [`AwsError::IsBinary`], [`AwsError::NotJsonObject`], [`AwsError::NotAnObject`],
    /// [`AwsError::NoPasswordField`] if the password is missing, `null` or empty, and
    /// [`AwsError::InvalidField`], which names a field of the wrong type but never shows its value.
    pub fn from_value(value: &SecretValue) -> Result<DatabaseSecret, AwsError> {
        let name = value.name.as_str();
        let secret = value.document().map_err(|error| match error {
            // A plain password is of no use here.
            AwsError::NotJson { secret, line, column } => AwsError::NotJsonObject { secret, line, column },
            error => error,
        })?;
        let invalid = |field, problem| AwsError::InvalidField { secret: name.to_owned(), field, problem };
        let text = |field: &'static str| secret.text(field).map_err(|problem| invalid(field, problem));
        let iam_auth = iam_auth(&secret).map_err(|problem| invalid("iam_auth", problem))?;
        Ok(DatabaseSecret {
            engine: text("engine")?,
            host: text("host")?,
            port: port(&secret).map_err(|problem| invalid("port", problem))?,
            dbname: text("dbname")?,
            username: text("username")?,
            iam_auth,
            password: text("password")?
                .or_else(|| iam_auth.then(String::new))
                .map(Secret::new)
                .ok_or_else(|| AwsError::NoPasswordField { secret: name.to_owned() })?,
        })
    }
}

/// The port, a number or a string of digits.
fn port(secret: &Document) -> Result<Option<u16>, &'static str> {
    let text = match secret.raw("port") {
        Some(value) if !value.starts_with('"') && value != "null" => Some(value.to_owned()),
        _ => secret.text("port")?,
    };
    let Some(text) = text else { return Ok(None) };
    // u16's own parser would also take "+5432".
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(Some(port)),
        _ => Err("It must be a number from 1 to 65535."),
    }
}

/// Whether a token is to be used, `true` or `false` as such or as a string.
fn iam_auth(secret: &Document) -> Result<bool, &'static str> {
    let text = match secret.raw("iam_auth") {
        Some(value) if !value.starts_with('"') && value != "null" => Some(value.to_owned()),
        _ => secret.text("iam_auth")?,
    };
    match text.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err("It must be true or false."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretBody;
    use secretlink_core::Report;

    fn parse(json: &str) -> Result<DatabaseSecret, AwsError> {
        DatabaseSecret::from_value(&SecretValue {
            arn: "arn".into(),
            name: "x".into(),
            version_id: "v".into(),
            stages: vec![],
            created: None,
            body: SecretBody::String(Secret::new(json)),
        })
    }

    #[test]
    fn all_fields() {
        let secret = parse(
            r#"{"engine":"postgres","host":"db.example.com","port":5432,"dbname":"d","username":"u",
                "password":"\"'\\$ \n\u00e9","masterarn":"arn:…","extra":{"a":[1]}}"#,
        )
        .unwrap();
        assert_eq!(secret.engine.as_deref(), Some("postgres"));
        assert_eq!(secret.host.as_deref(), Some("db.example.com"));
        assert_eq!(secret.port, Some(5432));
        assert_eq!(secret.dbname.as_deref(), Some("d"));
        assert_eq!(secret.username.as_deref(), Some("u"));
        assert_eq!(secret.password.expose(), "\"'\\$ \né".as_bytes());
        assert!(!format!("{secret:?}").contains("\\$"));
    }

    #[test]
    fn the_rest_may_be_absent() {
        for json in [
            r#"{"username":"u","password":"p"}"#,
            r#"{"username":"u","password":"p","host":null,"port":null,"dbname":""}"#,
            r#"{"username":"u","password":"p","port":""}"#,
        ] {
            let secret = parse(json).unwrap();
            assert_eq!((secret.host, secret.port, secret.dbname), (None, None, None), "{json}");
        }
    }

    #[test]
    fn ports() {
        let port = |p: &str| parse(&format!(r#"{{"password":"p","port":{p}}}"#));
        assert_eq!(port("\"6543\"").unwrap().port, Some(6543));
        assert_eq!(port("65535").unwrap().port, Some(65535));
        for bad in ["0", "70000", "-1", "5432.5", "\"+1\"", "\"a\"", "\" 5432\"", "true", "[]", "\"70000\""] {
            let error = port(bad).unwrap_err();
            assert!(matches!(error, AwsError::InvalidField { field: "port", .. }), "{bad}: {error:?}");
            assert_eq!(error.to_string(), "field \"port\" of secret \"x\" is not valid");
        }
    }

    #[test]
    fn a_token_in_place_of_a_password() {
        for json in [r#"{"username":"u","iam_auth":true}"#, r#"{"iam_auth":"true","password":null}"#] {
            let secret = parse(json).unwrap();
            assert!(secret.iam_auth && secret.password.is_empty(), "{json}");
        }
        for json in [
            r#"{"password":"p"}"#,
            r#"{"password":"p","iam_auth":false}"#,
            r#"{"password":"p","iam_auth":null}"#,
        ] {
            assert!(!parse(json).unwrap().iam_auth, "{json}");
        }
        assert!(parse(r#"{"iam_auth":false}"#).is_err(), "there is no password");
        for value in ["1", "\"yes\"", "[]", "{}", "\"TRUE\""] {
            let error = parse(&format!(r#"{{"password":"p","iam_auth":{value}}}"#)).unwrap_err();
            assert!(matches!(error, AwsError::InvalidField { field: "iam_auth", .. }), "{value}: {error:?}");
        }
    }

    #[test]
    fn no_password() {
        for json in ["{}", r#"{"password":null}"#, r#"{"password":""}"#, r#"{"Password":"p"}"#] {
            let error = parse(json).unwrap_err();
            assert_eq!(error.to_string(), "secret \"x\" has no password field", "{json}");
        }
    }

    #[test]
    fn errors_never_show_a_value() {
        let marker = "hunter2hunter2";
        for json in [
            r#"{"password":["hunter2hunter2"]}"#,
            r#"{"password":{"hunter2hunter2":1}}"#,
            r#"{"password":"hunter2hunter2","port":"hunter2hunter2"}"#,
            r#"{"password":"hunter2hunter2","host":["hunter2hunter2"]}"#,
            r#"{"password":"hunter2hunter2\u0000"}"#,
            r#"["hunter2hunter2"]"#,
            r#""hunter2hunter2""#,
            r#"{"password":"hunter2hunter2""#,
            r#"{"password":hunter2hunter2}"#,
            r#"{"password":"hunter2hunter2\q"}"#,
            "hunter2hunter2",
        ] {
            let error = parse(json).unwrap_err();
            let shown = format!("{error} {error:?} {:?} {:?}", error.detail(), error.hint());
            assert!(!shown.contains(marker), "{shown}");
        }
        assert!(matches!(parse("[]"), Err(AwsError::NotAnObject { .. })));
        assert!(matches!(parse("{\n\"a\":}"), Err(AwsError::NotJsonObject { line: 2, column: 5, .. })));
    }
}
