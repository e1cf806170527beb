//! A role and its secret.

use crate::ground::{Ground, SETTLED, api, new_password};
use secretlink_e2e::eventually;
use serde_json::Value;

pub struct SyncedRole<'a> {
    pub ground: &'a Ground,
    pub name: String,
    pub secret: String,
}

impl SyncedRole<'_> {
    /// The secret's current text.
    pub fn current(&self) -> String {
        api().get_secret_value(&self.secret).unwrap_or_else(|e| panic!("{}: {e:?}", self.secret))
    }

    /// The password in the secret.
    pub fn password(&self) -> String {
        password_in(&self.current())
    }

    /// How many versions the secret has.
    pub fn versions(&self) -> usize {
        api().versions(&self.secret).len()
    }

    /// A version that is staged, or pending. What was promoted keeps the label of password sync.
    pub fn left_over(&self) -> Option<String> {
        let current = api().version_at(&self.secret, "AWSCURRENT");
        let labels = ["SECRETLINK", "AWSPENDING"].into_iter();
        let mut holders = labels.filter_map(|label| api().version_at(&self.secret, label));
        holders.find(|holder| Some(holder) != current.as_ref())
    }

    /// What the secret says logs in, as this role.
    pub fn try_log_in(&self) -> Result<(), String> {
        let current = self.current();
        let value: Value = serde_json::from_str(&current).unwrap_or_default();
        let username = value["username"].as_str().unwrap_or(&self.name);
        let user = self.ground.log_in(username, &password_in(&current))?;
        if user == self.name { Ok(()) } else { Err(format!("logged in as {user}, not {}", self.name)) }
    }

    #[track_caller]
    pub fn assert_in_sync(&self) {
        self.try_log_in().unwrap_or_else(|e| panic!("{}: {e}", self.name));
        assert_eq!(self.left_over(), None, "nothing is left over");
    }

    /// The secret has this password, and it logs in.
    #[track_caller]
    pub fn assert_password(&self, password: &str) {
        assert_eq!(
            self.password(),
            password,
            "{} {:?}",
            self.name,
            self.ground.relay.operations(&self.secret)
        );
        self.assert_in_sync();
    }

    /// The worker brings role and secret together.
    #[track_caller]
    pub fn until_in_sync(&self) {
        eventually("the role is in sync", SETTLED, || self.try_log_in());
    }

    /// `ALTER ROLE` with a new password, which is the answer too.
    pub fn alter(&self) -> (String, String) {
        let password = new_password();
        (self.alter_to(&password), password)
    }

    pub fn alter_to(&self, password: &str) -> String {
        format!("ALTER ROLE \"{}\" PASSWORD '{password}'", self.name)
    }

    /// What the view `role_sync` says: secret, state, version, and whether there is a time and an error.
    #[track_caller]
    pub fn seen(&self) -> Seen {
        let row = self
            .ground
            .session()
            .client
            .query_one(
                "SELECT secret_id::text, state::text, version_id::text, synced_at IS NOT NULL, last_error::text
                 FROM role_sync WHERE role::text = $1",
                &[&self.name],
            )
            .unwrap_or_else(|e| panic!("role_sync: {e:?}"));
        Seen {
            secret: row.get(0),
            state: row.get(1),
            version: row.get(2),
            synced: row.get(3),
            last_error: row.get(4),
        }
    }

    /// Wait until `role_sync` shows a state.
    #[track_caller]
    pub fn until_state(&self, state: &str) -> Seen {
        self.until_seen(state, |seen| seen == state)
    }

    /// Wait until the state that `role_sync` shows is as it should be.
    #[track_caller]
    pub fn until_seen(&self, what: &str, right: impl Fn(&str) -> bool) -> Seen {
        eventually(&format!("role_sync shows {what}"), SETTLED, || {
            let seen = self.seen();
            if right(&seen.state) { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
    }

    /// What `check_role_sync` says.
    #[track_caller]
    pub fn check(&self) -> String {
        let sql = format!("SELECT check_role_sync('{}')", self.name);
        self.ground.session().text(&sql).expect("never null")
    }
}

/// A row of `role_sync`.
#[derive(Debug)]
pub struct Seen {
    pub secret: Option<String>,
    pub state: String,
    pub version: Option<String>,
    pub synced: bool,
    pub last_error: Option<String>,
}

/// The password in the text of a secret: a field of an object, or the whole.
pub fn password_in(secret: &str) -> String {
    match serde_json::from_str::<Value>(secret) {
        Ok(Value::Object(fields)) => fields["password"].as_str().expect("the password is text").to_owned(),
        _ => secret.to_owned(),
    }
}
