//! A rotation by somebody else: AWS's four steps, by a function that AWS calls again when it fails.

use super::world::World;
use crate::ground::{api, log_in};
use postgres_protocol::password::scram_sha_256;
use serde_json::Value;

/// How often setSecret fails before somebody cancels the rotation.
const CALLS: u32 = 3;

/// A rotation under way.
pub struct ForeignRotation {
    pub secret: String,
    version: String,
    /// The user that the secret named when the rotation began, if it names one.
    username: Option<String>,
    password: String,
    sends_a_hash: bool,
    failed: u32,
}

/// How a rotation has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Finished,
    Cancelled,
}

impl ForeignRotation {
    /// createSecret: the new password is stored, unless another rotation is under way.
    pub fn create(secret: &str, password: String, sends_a_hash: bool) -> Option<Self> {
        let at = |label| api().version_at(secret, label);
        let (current, pending) = (at("AWSCURRENT"), at("AWSPENDING"));
        if pending.is_some() && pending != current {
            return None;
        }
        let mut value: Value = serde_json::from_str(&api().get_secret_value(secret).ok()?).ok()?;
        value["password"] = password.clone().into();
        let username = value["username"].as_str().map(str::to_owned);
        let version = api().put_secret_value(secret, &value.to_string(), &["FOREIGN"]);
        // RotateSecret is refused while a rotation is under way: nobody's AWSPENDING is taken away.
        api().move_label(secret, "AWSPENDING", pending.as_deref(), Some(&version)).ok()?;
        Some(Self { secret: secret.to_owned(), version, username, password, sends_a_hash, failed: 0 })
    }

    /// setSecret: what is said to the server.
    pub fn statement(&self, role: &str) -> String {
        let sent =
            if self.sends_a_hash { scram_sha_256(self.password.as_bytes()) } else { self.password.clone() };
        format!("ALTER ROLE {role} PASSWORD '{sent}'")
    }

    /// testSecret, whatever setSecret was answered, and then finishSecret. `None` if AWS calls once more.
    pub fn test_and_finish(&mut self, world: &World) -> Option<End> {
        let role = world.role_at_rest(&self.secret);
        let at = |label| api().version_at(&self.secret, label);
        let current = at("AWSCURRENT");
        // What AWS's functions look at before each step: password sync may have finished the rotation, and whoever
        // has changed the role since has ended it.
        if current.as_ref() == Some(&self.version) {
            return Some(End::Finished);
        }
        if at("AWSPENDING").as_ref() != Some(&self.version) {
            return Some(End::Cancelled);
        }
        // Who logs in is whom the secret names, even if the role has another name by now.
        let user = self.username.as_ref().or(role.as_ref());
        if user.is_some_and(|user| log_in(world.port(), user, &self.password).is_ok()) {
            api().move_label(&self.secret, "AWSCURRENT", current.as_deref(), Some(&self.version)).ok()?;
            return Some(End::Finished);
        }
        self.failed += 1;
        if role.is_some() && self.failed < CALLS {
            return None;
        }
        let _ = api().move_label(&self.secret, "AWSPENDING", Some(&self.version), None);
        Some(End::Cancelled)
    }
}
