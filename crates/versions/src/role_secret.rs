//! The text of a role's secret: a JSON object with a password in it, or nothing but the password.

use secretlink_aws::{Document, NotADocument};
use secretlink_core::Secret;

/// What a secret made for a role says besides its password (Secrets Manager user guide, "JSON
/// structure of AWS Secrets Manager database credential secrets").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFields {
    /// Where this server is found.
    pub host: String,
    /// The port that this server listens at.
    pub port: u16,
    /// The database to connect to.
    pub dbname: String,
}

/// The text of a secret, taken apart.
pub(crate) enum RoleSecret {
    /// A JSON object.
    Object(Document),
    /// A password, and nothing else.
    Plain(Secret),
    /// Somebody's notes, by the look of it. Not to be replaced, unless it is known to be the password.
    Unclear {
        /// The whole text.
        text: Secret,
        /// What the text looks like, as a sentence.
        problem: &'static str,
    },
}

impl RoleSecret {
    /// Takes any text for a secret.
    pub(crate) fn parse(text: &str) -> RoleSecret {
        match Document::parse(text) {
            Ok(document) => RoleSecret::Object(document),
            Err(why) => match looks_like(text, why) {
                Some(problem) => RoleSecret::Unclear { text: Secret::new(text), problem },
                None => RoleSecret::Plain(Secret::new(text)),
            },
        }
    }

    /// A new secret, still without a password.
    pub(crate) fn new(fields: &NewFields, role: &str) -> RoleSecret {
        let mut document = Document::new();
        document.set("engine", "postgres");
        document.set("host", &fields.host);
        document.set("port", &fields.port);
        document.set("dbname", &fields.dbname);
        document.set("username", role);
        RoleSecret::Object(document)
    }

    /// What may be the password, if anything: whether it is, the role's hash tells.
    pub(crate) fn password(&self) -> Option<Secret> {
        match self {
            RoleSecret::Object(document) => document.text("password").ok().flatten().map(Secret::new),
            RoleSecret::Plain(text) | RoleSecret::Unclear { text, .. } => Some(text.clone()),
        }
    }

    /// Why a text is neither a JSON object nor a password, by the look of it.
    pub(crate) fn problem(&self, role: &str) -> Option<&'static str> {
        match self {
            RoleSecret::Object(document) => document.text("password").err().map(|_| NOT_A_PASSWORD),
            RoleSecret::Plain(text) => names(text, role).then_some(NAME_AND_MORE),
            RoleSecret::Unclear { problem, .. } => Some(problem),
        }
    }

    /// The user that the secret is for, if it says so.
    ///
    /// # Errors
    /// What is wrong with what it says.
    pub(crate) fn username(&self) -> Result<Option<String>, &'static str> {
        match self {
            RoleSecret::Object(document) => {
                document.text("username").map_err(|_| "Its \"username\" is not a text.")
            }
            RoleSecret::Plain(_) | RoleSecret::Unclear { .. } => Ok(None),
        }
    }

    /// Puts another password in its place. Everything else stays.
    ///
    /// # Errors
    /// Why nobody could say afterwards what the secret held before, or holds now. `is_known` tells whether
    /// a text is a password of the role of this name.
    pub(crate) fn set_password(
        &mut self,
        role: &str,
        password: &Secret,
        is_known: impl Fn(&Secret) -> bool,
    ) -> Result<(), &'static str> {
        match self {
            RoleSecret::Object(document) => {
                document.text("password").map_err(|_| NOT_A_PASSWORD)?;
                let text = password.expose_str().ok_or("The new password is not UTF-8.")?;
                document.set("password", text);
                return Ok(());
            }
            RoleSecret::Unclear { text, problem } if !is_known(text) => return Err(problem),
            RoleSecret::Plain(text) if names(text, role) && !is_known(text) => {
                return Err(NAME_AND_MORE);
            }
            RoleSecret::Plain(_) | RoleSecret::Unclear { .. } => {}
        }
        *self = RoleSecret::Plain(password.clone());
        match password.expose_str().map(Document::parse) {
            Some(Ok(_)) => Err("The new password would be read as a JSON object."),
            _ => Ok(()),
        }
    }

    /// Gives it another user name, if it has one.
    pub(crate) fn rename(&mut self, to: &str) {
        if let RoleSecret::Object(document) = self
            && document.text("username").is_ok_and(|username| username.is_some())
        {
            document.set("username", to);
        }
    }

    /// The text again.
    pub(crate) fn to_secret(&self) -> Secret {
        match self {
            RoleSecret::Object(document) => document.to_secret(),
            RoleSecret::Plain(text) | RoleSecret::Unclear { text, .. } => text.clone(),
        }
    }
}

const NOT_A_PASSWORD: &str = "Its \"password\" is not a text.";
const NAME_AND_MORE: &str = "It has the role's name in it, and something else.";

/// What a text that is not a JSON object looks like, if not like a password. Nobody would get back what
/// else it says once it was replaced.
fn looks_like(text: &str, why: NotADocument) -> Option<&'static str> {
    let trimmed = text.trim();
    if let Some(rest) = trimmed.strip_prefix('\u{feff}') {
        return Some(match Document::parse(rest) {
            Ok(_) => "It is JSON behind a byte order mark.",
            Err(_) => "It begins with a byte order mark.",
        });
    }
    // Joiners, marks of direction and the like, which editors and web pages leave.
    if trimmed.starts_with(|c| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}')) {
        return Some("It begins with a character that is not to be seen.");
    }
    if trimmed.starts_with(['{', '[', '"']) {
        return Some(match why {
            NotADocument::NotJson { .. } => "It begins like JSON, and is not valid JSON.",
            NotADocument::NotAnObject => "It is JSON, but not an object.",
        });
    }
    if trimmed.contains(['\n', '\r']) {
        return Some("It has several lines.");
    }
    if trimmed.contains('\t') {
        return Some("It has several columns.");
    }
    if is_uri(trimmed) {
        return Some("It is a URI.");
    }
    if is_of_password_file(trimmed) {
        return Some("It is a line of a password file.");
    }
    if trimmed.starts_with('<')
        && trimmed.ends_with('>')
        && (trimmed.contains("</") || trimmed.contains("/>"))
    {
        return Some("It is XML.");
    }
    if is_encoded_json(trimmed) {
        return Some("It is JSON that was encoded.");
    }
    if has_pairs(trimmed) { Some("It consists of names and values.") } else { None }
}

/// `postgresql://…`, `jdbc:postgresql://…`
fn is_uri(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+.-:".contains(&b))
    })
}

/// `host:port:database:user:password`, as in `.pgpass`.
fn is_of_password_file(text: &str) -> bool {
    let mut fields = text.split(':');
    let is_host = fields.next().is_some_and(|host| !host.is_empty());
    let is_port = fields
        .next()
        .is_some_and(|port| port == "*" || (!port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())));
    is_host && is_port && fields.count() >= 3
}

/// JSON in base64 or in percent encoding: an object, or an array of texts or objects. Of base64 the first
/// three characters tell: `{"`, `{` and a blank or a line's end, `["`, `[{`.
fn is_encoded_json(text: &str) -> bool {
    const BASE64: [&str; 7] = ["eyJ", "eyA", "ewo", "ewk", "ew0", "WyJ", "W3s"];
    let is_base64 = text.len() >= 12
        && BASE64.iter().any(|begin| text.starts_with(begin))
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(&b));
    let begins = |begin: &str| text.get(..3).is_some_and(|first| first.eq_ignore_ascii_case(begin));
    is_base64 || begins("%7b") || begins("%5b")
}

/// Whether a text has this name in it, and something else: `app:hunter2`, `app/hunter2@db`, `(app, hunter2)`.
fn names(text: &Secret, name: &str) -> bool {
    let is_between = |c: char| c.is_whitespace() || ":,;|/@()'\"".contains(c);
    let mut pieces =
        text.expose_str().unwrap_or_default().split(is_between).filter(|piece| !piece.is_empty());
    let mut others = pieces.clone().filter(|piece| *piece != name);
    pieces.any(|piece| piece == name) && others.next().is_some()
}

/// `host=… password=…`, `PASSWORD=…`, `user=…&password=…`, `password: …`. A password may have an equals
/// sign in it, too; so one pair is one only if its name is a word of this trade.
fn has_pairs(text: &str) -> bool {
    const WORDS: [&str; 12] =
        ["pass", "pwd", "user", "host", "secret", "token", "key", "url", "uri", "dsn", "port", "database"];
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    // `a = b` is `a=b`, and `a: b` too.
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ").replace(" = ", "=").replace("= ", "=").replace(" =", "=").replace(": ", "=");
    let mut pairs = 0;
    for piece in text.split([' ', ';', '&', ',']) {
        if let Some((name, value)) = piece.split_once('=')
            && is_name(name)
            && !value.is_empty()
            && !value.starts_with('=')
        {
            pairs += 1;
            let name = name.to_ascii_lowercase();
            if pairs > 1 || WORDS.iter().any(|word| name.contains(word)) {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, password: &str) -> Result<String, &'static str> {
        let mut secret = RoleSecret::parse(text);
        let is_known = |known: &Secret| [&b"\"known\""[..], b"app:known"].contains(&known.expose());
        secret.set_password("app", &Secret::new(password), is_known)?;
        Ok(secret.to_secret().expose_str().unwrap().to_owned())
    }

    #[track_caller]
    fn changed(text: &str, password: &str) -> String {
        set(text, password).unwrap_or_else(|e| panic!("{text}: {e}"))
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
    fn a_plain_password_is_replaced() {
        for text in [
            "old",
            "old\n",
            " old ",
            "12",
            "null",
            "correct horse battery staple",
            "q83vEjRWeJCrze8SNFZ4kA==",
            "a=b",
            "p==w",
            "x<y>z",
            "50%=half;of+it",
            "//not a uri",
            "it's}{",
            "a:b:c",
            "a:1:2:3",
            "app",
            "apple:pie",
            "<3",
            "eyJ",
            "eyJhb!Gci",
            "100%7b",
        ] {
            assert_eq!(changed(text, "new"), "new", "{text}");
            assert_eq!(RoleSecret::parse(text).password(), Some(Secret::new(text)), "{text}");
        }
    }

    #[test]
    fn what_was_not_written_by_a_machine_is_not_replaced() {
        for text in [
            "\u{feff}{\"username\":\"u\",\"password\":\"p\"}",
            "\u{feff}p",
            "{\"username\":\"u\",\"password\":\"p\",}",
            "{'username':'u','password':'p'}",
            "{\"username\":\"u\",\"password\":\"p\"",
            "  {\"password\":\"p\"} x",
            "{\"password\":\"p\"}{\"password\":\"q\"}",
            "{password: p}",
            "[{\"password\":\"p\"}]",
            "[\"p\"",
            "[]",
            "\"{\\\"password\\\":\\\"p\\\"}\"",
            "\"p\"",
            "\"p",
            "USERNAME=u\nPASSWORD=p\n",
            "PASSWORD=p",
            "export DB_PASSWORD='p'",
            "username: u\npassword: p",
            "password: p",
            "host=db user=u password=p",
            "host = db  user = u",
            "Server=db;User Id=u;Pwd=p;",
            "user=u&password=p",
            "postgresql://u:p@db:5432/d",
            " postgres://u@db",
            "jdbc:postgresql://db/d?user=u",
            "u\np",
            "u\r\np\r\n",
            "-----BEGIN KEY-----\nx\n-----END KEY-----\n",
            "db.example.com:5432:d:u:p",
            "*:*:*:u:p",
            "db:5432:*:u:p:w",
            "u\tp",
            "<db><user>u</user></db>",
            "<db user='u'/>",
            "\u{200b}{\"password\":\"p\"}",
            "eyJ1c2VybmFtZSI6ICJ1IiwgInBhc3N3b3JkIjogInAifQ==",
            "ewogICJwYXNzd29yZCI6ICJwIgp9Cg",
            "%7B%22password%22%3A%22p%22%7D",
            "app:p",
            "app/p@db",
            "p,app",
            "(app, p)",
            "app p",
            "db|app|p",
            r#"{"password":{"value":"p"}}"#,
            r#"{"password":["p"]}"#,
            r#"{"password":123456}"#,
            r#"{"password":"\ud800"}"#,
        ] {
            assert!(set(text, "new").is_err(), "{text}");
        }
        // But for what is known to be the password, however it looks.
        assert_eq!(changed("\"known\"", "[new"), "[new");
        assert_eq!(changed("app:known", "app:new"), "app:new");
        // A new password that nobody could tell from JSON afterwards.
        assert!(set("old", "{}").is_err());
        assert_eq!(changed("old", "{"), "{");
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
    fn a_user_name_is_what_the_secret_says() {
        let username = |text| RoleSecret::parse(text).username();
        assert_eq!(username(r#"{"username":"app"}"#), Ok(Some("app".into())));
        for text in ["app", "{}", r#"{"username":null}"#, r#"{"username":""}"#, r#"{"user":"app"}"#] {
            assert_eq!(username(text), Ok(None), "{text}");
        }
        for text in [r#"{"username":["app"]}"#, r#"{"username":1e999}"#, r#"{"username":"\ud800"}"#] {
            assert!(username(text).is_err(), "{text}");
        }
        let renamed = |text: &str| {
            let mut secret = RoleSecret::parse(text);
            secret.rename("app2");
            secret.to_secret().expose_str().unwrap().to_owned()
        };
        assert_eq!(renamed(r#"{"username":"app"}"#), r#"{"username":"app2"}"#);
        assert_eq!(renamed(r#"{"user":"app"}"#), r#"{"user":"app"}"#);
        assert_eq!(renamed("app"), "app");
    }

    #[test]
    fn a_new_one_has_all_fields() {
        let fields = NewFields { host: "db".into(), port: 5432, dbname: "d\"".into() };
        let mut secret = RoleSecret::new(&fields, "app");
        secret.set_password("app", &Secret::new("p"), |_| false).unwrap();
        assert_eq!(
            secret.to_secret().expose_str(),
            Some(
                r#"{"engine":"postgres","host":"db","port":5432,"dbname":"d\"","username":"app","password":"p"}"#
            )
        );
    }
}
