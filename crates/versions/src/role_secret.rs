//! The text of a role's secret: a JSON object with a password in it, or nothing but the password.

use secretlink_core::Secret;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::fmt;

/// What a secret made for a role says besides its password (Secrets Manager user guide, "JSON
/// structure of AWS Secrets Manager database credential secrets").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFields {
    /// Where this server is found.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database to connect to.
    pub dbname: String,
}

/// The text of a secret, taken apart.
pub(crate) enum RoleSecret {
    /// The members in their order, their values as they were written: numbers that no machine type
    /// holds stay what they are.
    Object(Vec<(String, Box<RawValue>)>),
    /// All of it is the password.
    Plain(Secret),
}

impl RoleSecret {
    /// Takes any text for a secret. What is not a JSON object is a password.
    pub(crate) fn parse(text: &str) -> RoleSecret {
        // Byte by byte, for the reason given at `parse_json` in secretlink-aws.
        match serde_json::from_reader::<_, Members>(text.as_bytes()) {
            Ok(Members(members)) => RoleSecret::Object(members),
            Err(_) => RoleSecret::Plain(Secret::new(text)),
        }
    }

    /// A new secret, still without a password.
    pub(crate) fn new(fields: &NewFields, role: &str) -> RoleSecret {
        RoleSecret::Object(
            [
                ("engine", raw(&"postgres")),
                ("host", raw(&fields.host)),
                ("port", raw(&fields.port)),
                ("dbname", raw(&fields.dbname)),
                ("username", raw(&role)),
            ]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        )
    }

    /// The password, if there is one: a member that is not a string is none.
    pub(crate) fn password(&self) -> Option<Secret> {
        match self {
            RoleSecret::Object(_) => self.text("password").map(Secret::new),
            RoleSecret::Plain(password) => Some(password.clone()),
        }
    }

    /// The user name, if there is one.
    pub(crate) fn username(&self) -> Option<String> {
        self.text("username")
    }

    /// Puts another password in its place. Everything else stays.
    pub(crate) fn set_password(&mut self, password: &Secret) {
        match (&mut *self, password.expose_str()) {
            (RoleSecret::Object(_), Some(text)) => self.set("password", raw(&text)),
            _ => *self = RoleSecret::Plain(password.clone()),
        }
    }

    /// Makes the user name follow a renamed role. Another user name than the role's was chosen by
    /// somebody, and stays.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if self.username().as_deref() == Some(from) {
            self.set("username", raw(&to));
        }
    }

    /// The text again.
    pub(crate) fn to_secret(&self) -> Secret {
        match self {
            RoleSecret::Plain(password) => password.clone(),
            RoleSecret::Object(members) => {
                let members = members.iter().map(|(name, value)| format!("{}:{value}", raw(name)));
                Secret::new(format!("{{{}}}", members.collect::<Vec<_>>().join(",")))
            }
        }
    }

    /// A member that is a string. Of several with one name the last counts, as everywhere.
    fn text(&self, name: &str) -> Option<String> {
        let RoleSecret::Object(members) = self else { return None };
        let (_, value) = members.iter().rev().find(|(member, _)| member == name)?;
        serde_json::from_reader(value.get().as_bytes()).ok()
    }

    fn set(&mut self, name: &str, value: Box<RawValue>) {
        let RoleSecret::Object(members) = self else { return };
        match members.iter_mut().rev().find(|(member, _)| member == name) {
            Some((_, old)) => *old = value,
            None => members.push((name.to_owned(), value)),
        }
    }
}

/// A string or number as JSON.
fn raw(value: &(impl serde::Serialize + ?Sized)) -> Box<RawValue> {
    // Only a map with odd keys or a failing `Serialize` could fail, and neither comes here.
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The members of an object, in order.
struct Members(Vec<(String, Box<RawValue>)>);

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

    fn changed(text: &str, password: &str) -> String {
        let mut secret = RoleSecret::parse(text);
        secret.set_password(&Secret::new(password));
        secret.to_secret().expose_str().unwrap().to_owned()
    }

    #[test]
    fn other_members_stay_to_the_last_digit() {
        assert_eq!(
            changed(
                r#" { "z": 12345678901234567890.10, "password": "old", "a": {"x" : [1, null]}, "é": "ü" } "#,
                "new\"\\é"
            ),
            r#"{"z":12345678901234567890.10,"password":"new\"\\é","a":{"x" : [1, null]},"é":"ü"}"#
        );
        assert_eq!(changed(r#"{"username":"u"}"#, "p"), r#"{"username":"u","password":"p"}"#);
        assert_eq!(changed("{}", "p"), r#"{"password":"p"}"#);
        assert_eq!(changed(r#"{"password":1,"password":null}"#, "p"), r#"{"password":1,"password":"p"}"#);
    }

    #[test]
    fn what_is_no_object_is_the_password() {
        for text in ["old", "", "\"old\"", "12", "[1]", "{not json", "{\"a\":1} x"] {
            assert_eq!(changed(text, "new"), "new", "{text}");
            assert_eq!(RoleSecret::parse(text).password(), Some(Secret::new(text)), "{text}");
        }
    }

    #[test]
    fn passwords_are_found() {
        let password = |text| RoleSecret::parse(text).password();
        assert_eq!(password(r#"{"password":"a","password":"b\u00e9"}"#), Some(Secret::new("bé")));
        for text in ["{}", r#"{"password":null}"#, r#"{"password":["a"]}"#, r#"{"Password":"a"}"#] {
            assert_eq!(password(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_roles_own_name_follows() {
        let renamed = |text: &str| {
            let mut secret = RoleSecret::parse(text);
            secret.rename("app", "app2");
            secret.to_secret().expose_str().unwrap().to_owned()
        };
        assert_eq!(renamed(r#"{"username":"app"}"#), r#"{"username":"app2"}"#);
        assert_eq!(renamed(r#"{"username":"other"}"#), r#"{"username":"other"}"#);
        assert_eq!(renamed(r#"{"user":"app"}"#), r#"{"user":"app"}"#);
        assert_eq!(renamed("app"), "app");
    }

    #[test]
    fn a_new_one_has_all_fields() {
        let fields = NewFields { host: "db".into(), port: 5432, dbname: "d\"".into() };
        let mut secret = RoleSecret::new(&fields, "app");
        secret.set_password(&Secret::new("p"));
        assert_eq!(
            secret.to_secret().expose_str(),
            Some(
                r#"{"engine":"postgres","host":"db","port":5432,"dbname":"d\"","username":"app","password":"p"}"#
            )
        );
    }
}
