//! Why a rotation did not take place, or not yet.

use secretlink_aws::AwsError;
use secretlink_core::random::NoRandomness;
use secretlink_core::{Report, SqlState};
use secretlink_remote::conninfo::ConnInfoError;
use secretlink_remote::error::{AttemptError, ConnectError};
use secretlink_remote::server_message::ServerMessage;

/// What stands between a secret and its new password. No variant holds a password or a verifier.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what their names say; the variants are documented")]
pub enum Trouble {
    /// A call to AWS failed, or the secret is not what it should be.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// Replicas are written by Secrets Manager alone.
    #[error("secret \"{secret}\" is a replica")]
    Replica { secret: String, primary_region: String },
    /// AWS, or a Lambda function, rotates it, and another strategy was asked for.
    #[error("secret \"{secret}\" is rotated by {by}")]
    ManagedElsewhere { secret: String, by: String },
    /// Nobody but us can rotate it, and the strategy `managed` was asked for.
    #[error("secret \"{secret}\" is not managed by AWS")]
    NotManaged { secret: String },
    /// `AWSPENDING` is at a version that is not ours.
    #[error("a rotation of secret \"{secret}\" is in progress")]
    InProgress { secret: String, version_id: Option<String> },
    /// A server that was promoted in place of this server has written the secret.
    #[error("this server has been superseded, and does not rotate secret \"{secret}\"")]
    Superseded { secret: String, version_id: String },
    /// The secret names no role, or no host.
    #[error("secret \"{secret}\" has no {field} field")]
    FieldMissing { secret: String, field: &'static str },
    /// The secret's field `engine` names another kind of server than PostgreSQL.
    #[error("secret \"{secret}\" is of another kind of server: {engine}")]
    Engine { secret: String, engine: String },
    /// Something of the secret makes no sense for a connection.
    #[error(transparent)]
    Options(#[from] ConnInfoError),
    /// The server could not be reached, or did not let the session begin.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Neither the current nor the previous password logs in.
    #[error("neither the current nor the previous password of secret \"{secret}\" logs in as \"{role}\"")]
    NoLogin { secret: String, role: String, reason: ConnectError },
    /// The server lets the role in without a password, so that none can be tried.
    #[error("the server does not ask role \"{role}\" for a password")]
    NotAsked { role: String },
    /// The server did not carry out a statement.
    #[error("the server refused to {what}: {message}")]
    Refused { what: &'static str, message: String, code: Option<SqlState>, detail: Option<String> },
    /// The session was lost; nobody knows whether the statement was carried out.
    #[error("the connection to the server was lost: {reason}")]
    Lost { reason: String },
    /// The server is a standby.
    #[error("server \"{host}\" is a standby")]
    Standby { host: String },
    /// The role may not log in any more, whatever its password.
    #[error("the password of role \"{role}\" is valid no more")]
    Expired { role: String },
    /// Somebody else, such as another server with the same schedule, is changing the role.
    #[error("the password of role \"{role}\" is being changed by somebody else")]
    Busy { role: String },
    /// The secret was written by somebody else while the rotation was under way.
    #[error("secret \"{secret}\" was changed by somebody else during its rotation")]
    Edited { secret: String },
    /// The version with the new password is gone.
    #[error("version {version_id} of secret \"{secret}\" does not exist any more")]
    VersionGone { secret: String, version_id: String },
    /// The server has taken the new password and does not accept it.
    #[error("the server does not accept the new password of role \"{role}\"")]
    NotAccepted { role: String, reason: ConnectError },
    /// The run took too long, with nothing changed yet.
    #[error("the rotation of secret \"{secret}\" did not come as far as setSecret in time")]
    TooLate { secret: String },
    /// AWS has not rotated it in time.
    #[error("AWS has not rotated secret \"{secret}\" within {seconds} s")]
    ManagedTooLate { secret: String, seconds: u64 },
    /// AWS has given up.
    #[error("the rotation of secret \"{secret}\" by AWS has failed")]
    ManagedFailed { secret: String },

    /// `alternating_users` needs somebody who may alter roles.
    #[error("secret \"{secret}\" names no master secret")]
    NoMaster { secret: String },
    /// The master's secret is the secret itself.
    #[error("secret \"{secret}\" cannot be its own master")]
    OwnMaster { secret: String },
    /// The master's secret is of another server.
    #[error("master secret \"{master}\" is not of server \"{host}\"")]
    MasterElsewhere { master: String, host: String },
    /// The master cannot log in.
    #[error("the password of master secret \"{master}\" does not log in as \"{role}\"")]
    MasterRefused { master: String, role: String, reason: ConnectError },
    /// `NAME_clone` would be longer than a role's name can be.
    #[error("name of role \"{role}\" is too long for a clone")]
    CloneName { role: String },
    /// There is such a role, and it is no clone.
    #[error("role \"{clone}\" is not a clone of \"{role}\"")]
    NotAClone { role: String, clone: String },
    /// The clone owns what the base role cannot reach.
    #[error("role \"{clone}\", the clone of \"{role}\", owns objects")]
    CloneOwns { role: String, clone: String },
    /// The base role is not there.
    #[error("role \"{role}\" does not exist on the server")]
    NoRole { role: String },
    /// No version id or password could be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl Trouble {
    /// What became of a statement that failed, if that is known.
    pub(crate) fn of_statement(what: &'static str, error: AttemptError) -> Trouble {
        match error {
            AttemptError::Server(message) if !is_fatal(&message) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Trouble::Refused {
                    what,
                    message: text(&message.message),
                    code: message.sqlstate,
                    detail: message.detail.as_deref().map(text),
                }
            }
            error => Trouble::Lost { reason: error.to_string() },
        }
    }
}

/// After FATAL nobody knows whether the statement was carried out: a server that shuts down while it waits
/// for a standby has committed.
fn is_fatal(message: &ServerMessage) -> bool {
    message.severity != b"ERROR"
}

impl Report for Trouble {
    fn sqlstate(&self) -> SqlState {
        SqlState::new(match self {
            Trouble::Aws(error) => return error.sqlstate(),
            Trouble::NoRandomness(error) => return error.sqlstate(),
            Trouble::Options(error) => return error.sqlstate(),
            Trouble::Connect(error) => return error.sqlstate(),
            Trouble::Refused { code, .. } => return code.unwrap_or(SqlState::new("38000")),
            // object_in_use
            Trouble::InProgress { .. } | Trouble::Busy { .. } => "55006",
            Trouble::FieldMissing { .. } | Trouble::Engine { .. } => "22023",
            // invalid_password
            Trouble::NoLogin { .. } | Trouble::NotAccepted { .. } | Trouble::MasterRefused { .. } => "28P01",
            Trouble::Lost { .. } => "08006",
            Trouble::CloneName { .. } => "42622",
            Trouble::NoRole { .. } => "42704",
            // serialization_failure: it is worth trying again
            Trouble::Edited { .. } => "40001",
            Trouble::TooLate { .. } | Trouble::ManagedTooLate { .. } => "57014",
            Trouble::ManagedFailed { .. } => "38000",
            // object_not_in_prerequisite_state
            _ => "55000",
        })
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            Trouble::Aws(error) => return error.detail(),
            Trouble::Options(error) => return error.detail(),
            Trouble::Connect(error) => return error.detail(),
            Trouble::Refused { detail, .. } => return detail.clone(),
            Trouble::NoLogin { reason, .. }
            | Trouble::NotAccepted { reason, .. }
            | Trouble::MasterRefused { reason, .. } => return reason.detail(),
            Trouble::Replica { primary_region, .. } => format!("The original is in {primary_region}."),
            Trouble::InProgress { version_id: Some(version_id), .. } => {
                format!("AWSPENDING is at version {version_id}, which this server has not made.")
            }
            Trouble::InProgress { version_id: None, .. } => "This server is rotating it already.".into(),
            Trouble::Superseded { version_id, .. } => {
                format!("Version {version_id} was made by a server that was promoted in place of this one.")
            }
            Trouble::NotAsked { .. } => {
                "Whether a password is the right one cannot be found out where none is needed.".into()
            }
            Trouble::Expired { .. } => "The role's VALID UNTIL is over.".into(),
            Trouble::TooLate { .. } => "Nothing was changed.".into(),
            Trouble::ManagedTooLate { .. } => "AWS may still go on with it.".into(),
            Trouble::CloneName { .. } => {
                "A role's name has at most 63 bytes, and _clone is added to it.".into()
            }
            Trouble::NotAClone { role, .. } => format!("It is not a member of \"{role}\"."),
            Trouble::CloneOwns { role, .. } => {
                format!("They are out of reach for \"{role}\", whose turn is next.")
            }
            _ => return None,
        })
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Trouble::Aws(error) => return error.hint(),
            Trouble::Options(error) => return error.hint(),
            // A rotation has no connection string: the secret says whether there is TLS.
            Trouble::Connect(error) if error.is_without_tls() => {
                "Turn on ssl at the server, or add \"ssl\": false to the secret.".into()
            }
            Trouble::Connect(error) => return error.hint(),
            Trouble::Replica { .. } => "Rotate the original, by its ARN.".into(),
            Trouble::ManagedElsewhere { .. } => "Use the strategy managed, or turn that rotation off.".into(),
            Trouble::NotManaged { .. } => "Use single_user or alternating_users.".into(),
            Trouble::InProgress { version_id: Some(_), .. } => {
                "Wait until that rotation has ended, or remove AWSPENDING from that version.".into()
            }
            Trouble::Superseded { .. } => "Shut this server down, or make it a standby of the other.".into(),
            // Such a secret is RDS's to write.
            Trouble::FieldMissing { secret, field: "host" } if secret.starts_with("rds!") => {
                "Secrets that RDS manages name no host. Let the master be another role with CREATEROLE, with a secret that names its host.".into()
            }
            Trouble::FieldMissing { field, .. } => format!("Add \"{field}\" to the secret."),
            Trouble::NoLogin { .. } => "Store the right password in the secret.".into(),
            Trouble::NotAsked { .. } => "Use scram-sha-256 in the server's pg_hba.conf.".into(),
            Trouble::Refused { what: "set the password", .. } => {
                "Passwords are sent as SCRAM-SHA-256 verifiers. Some servers refuse those, as with the extension credcheck unless credcheck.encrypted_password_allowed is on, or let only members of rds_password change passwords.".into()
            }
            Trouble::Standby { .. } => "Let the secret's host be the primary.".into(),
            Trouble::Expired { .. } => "Use ALTER ROLE ... VALID UNTIL.".into(),
            Trouble::NoMaster { .. } => {
                "Add \"masterarn\" to the secret, or give master_secret_id.".into()
            }
            Trouble::OwnMaster { .. } => "Use single_user for the master's own secret.".into(),
            Trouble::MasterElsewhere { .. } => {
                "The master acts at the host of its own secret only: both secrets need the same host and port.".into()
            }
            Trouble::NotAClone { role, clone } => {
                format!("If it is meant to be one, use GRANT \"{role}\" TO \"{clone}\"; else use single_user.")
            }
            Trouble::CloneOwns { role, clone } => {
                format!("Use REASSIGN OWNED BY \"{clone}\" TO \"{role}\" in each database.")
            }
            Trouble::ManagedFailed { .. } => "Look at the rotation function's log, and at CloudTrail.".into(),
            _ => return None,
        })
    }
}
