//! Whatever can go wrong, in plain words.

use std::time::Duration;

use secretlink_core::{OutOfMemory, Report, SqlState};

use crate::{TokenError, VersionSelector, stage};

/// A failed call, or a secret that is not what it was used as.
///
/// No variant holds any part of a secret, a credential or a response body. What AWS says is kept
/// only where it cannot echo a secret that was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what their names say; the variants are documented")]
pub enum AwsError {
    /// The id is empty, too long, or holds what an id cannot hold.
    #[error("invalid secret id")]
    InvalidSecretId { problem: &'static str },

    /// The name of a new secret has characters or a length that Secrets Manager does not take.
    #[error("invalid secret name")]
    InvalidSecretName { problem: &'static str },

    /// A setting that cannot be used as it stands.
    #[error("invalid value for setting \"{setting}\"")]
    InvalidSetting { setting: &'static str, problem: &'static str },

    /// The certificates to trust cannot be read. `setting` is ours, or the variable of the environment.
    #[error("could not use the CA bundle \"{path}\"")]
    BadCaBundle { setting: &'static str, path: String, problem: String },

    /// A variable of the server's environment does not name a proxy. What it holds may have a password
    /// in it.
    #[error("environment variable {variable} does not name a proxy")]
    BadProxy { variable: &'static str },

    /// An argument that Secrets Manager does not take. `message` is ours or AWS's.
    #[error("invalid parameter for secret \"{secret}\"")]
    InvalidParameter { secret: String, message: Option<String> },

    /// The secret's state does not allow the call (AWS's InvalidRequestException and the like).
    #[error("{action} is not possible for secret \"{secret}\" in its present state")]
    InvalidRequest { action: &'static str, secret: String, message: Option<String> },

    /// More than the 65,536 bytes that a secret can hold.
    #[error("value for secret \"{secret}\" is too large")]
    TooLarge { secret: String, bytes: usize },

    /// A quota of Secrets Manager is exhausted.
    #[error("a limit of Secrets Manager was exceeded for secret \"{secret}\"")]
    LimitExceeded { secret: String, message: Option<String> },

    /// The region has no such secret.
    #[error("secret \"{secret}\" not found in region {region}")]
    SecretNotFound { secret: String, region: String },

    /// The secret has no such version.
    #[error("secret \"{secret}\" has no version with {}", describe(version))]
    VersionNotFound { secret: String, region: String, version: VersionSelector },

    /// The name belongs to a secret already.
    #[error("secret \"{name}\" already exists")]
    AlreadyExists { name: String },

    /// The secret is scheduled for deletion.
    #[error("secret \"{secret}\" is marked for deletion")]
    MarkedForDeletion { secret: String },

    /// The identity of this server may not do this. `action` is the IAM action.
    #[error("not authorized to perform {action} on secret \"{secret}\"")]
    NotAuthorized { action: &'static str, secret: String, message: Option<String> },

    /// KMS did not decrypt the secret: not permitted, or the key is disabled or gone.
    #[error("KMS could not decrypt secret \"{secret}\"")]
    KmsDecryption { secret: String, message: Option<String> },

    /// KMS did not encrypt the secret: not permitted, or the key is disabled or gone.
    #[error("KMS could not encrypt secret \"{secret}\"")]
    KmsEncryption { secret: String, message: Option<String> },

    /// Too many requests, and all attempts were used up.
    #[error("Secrets Manager throttled the request for secret \"{secret}\"")]
    Throttled { secret: String, message: Option<String> },

    /// No provider of the chain has credentials.
    #[error("no AWS credentials found")]
    NoCredentials { looked: String },

    /// A provider of the chain should have credentials but failed; perhaps since it could not be reached.
    #[error("could not load AWS credentials")]
    CredentialsFailed { reason: String, unreachable: bool },

    /// STS did not let this server assume `secretlink.role_arn`. `code` is AWS's error code.
    #[error("could not assume role \"{role}\": {code}")]
    RoleRefused { role: String, code: String, message: Option<String> },

    /// STS, which gives the credentials of `secretlink.role_arn`, could not be reached, or failed.
    #[error("could not assume role \"{role}\"")]
    RoleNotAssumed { role: String, reason: String },

    /// AWS did not accept the credentials. `code` is AWS's error code.
    #[error("AWS refused the credentials: {code}")]
    CredentialsRefused { code: String },

    /// Neither a setting nor the environment nor a profile names a region.
    #[error("no AWS region is set")]
    NoRegion,

    /// Memory for a call is lacking.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),

    /// No connection to the endpoint, or it broke before the response.
    #[error("could not reach Secrets Manager at {endpoint}")]
    Unreachable { endpoint: String, reason: String },

    /// The call as a whole took longer than `secretlink.request_timeout`, or the endpoint did not
    /// answer in time. Without an `endpoint`, nothing had been sent yet.
    #[error("request to Secrets Manager timed out after {} ms", after.as_millis())]
    TimedOut { endpoint: Option<String>, after: Duration },

    /// Secrets Manager failed (HTTP 5xx), and all attempts were used up.
    #[error("Secrets Manager failed: {code}")]
    ServerFault { code: String, message: Option<String> },

    /// The answer was cut short or is not one of Secrets Manager's.
    #[error("could not understand the answer of Secrets Manager")]
    BadResponse { endpoint: Option<String>, status: Option<u16> },

    /// The SDK could not build or sign the request.
    #[error("could not prepare the request to Secrets Manager")]
    NotSent { reason: String },

    /// Any other error of the service, by AWS's error code.
    #[error("Secrets Manager refused the request: {code}")]
    Service { code: String, message: Option<String> },

    /// Text was asked for and the secret is binary.
    #[error("secret \"{secret}\" is binary")]
    IsBinary { secret: String },

    /// Bytes were asked for and the secret is text.
    #[error("secret \"{secret}\" is not binary")]
    IsString { secret: String },

    /// JSON was asked for and the secret is other text.
    #[error("secret \"{secret}\" is not valid JSON")]
    NotJson { secret: String, line: usize, column: usize },

    /// Connection fields were asked for and the secret is other text than JSON.
    #[error("secret \"{secret}\" is not valid JSON")]
    NotJsonObject { secret: String, line: usize, column: usize },

    /// Connection fields were asked for and the secret is JSON, but not an object.
    #[error("secret \"{secret}\" is not a JSON object")]
    NotAnObject { secret: String },

    /// Connection fields were asked for and there is no password among them.
    #[error("secret \"{secret}\" has no password field")]
    NoPasswordField { secret: String },

    /// No token could be signed for a login at a database.
    #[error(transparent)]
    Token(#[from] TokenError),

    /// A connection field has the wrong type or a value that cannot be one.
    #[error("field \"{field}\" of secret \"{secret}\" is not valid")]
    InvalidField { secret: String, field: &'static str, problem: &'static str },

    /// A field was asked for by its name, and the JSON object has none of that name.
    #[error("secret \"{secret}\" has no field \"{field}\"")]
    NoField { secret: String, field: String },

    /// A field that was asked for by its name cannot be a text of SQL.
    #[error("field \"{field}\" of secret \"{secret}\" is not valid")]
    FieldNotText { secret: String, field: String, problem: &'static str },

    /// Somebody else has made another version current since the secret was read.
    #[error("secret \"{secret}\" was changed by somebody else at the same time")]
    ChangedMeanwhile { secret: String },
}

impl AwsError {
    /// Keeps the position only: serde's own message can quote what it stumbled over.
    pub(crate) fn not_json(secret: &str, error: &serde_json::Error) -> AwsError {
        AwsError::NotJson { secret: secret.to_owned(), line: error.line(), column: error.column() }
    }

    /// Whether nothing was learnt about the secret because Secrets Manager could not be reached,
    /// did not answer in time or failed: an older copy may then still be good.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            AwsError::Unreachable { .. }
                | AwsError::TimedOut { .. }
                | AwsError::ServerFault { .. }
                | AwsError::BadResponse { .. }
                | AwsError::RoleNotAssumed { .. }
                | AwsError::CredentialsFailed { unreachable: true, .. }
                | AwsError::Token(TokenError::TimedOut { .. })
        )
    }

    /// Whether a secret was read and is not what a login needs.
    pub fn is_unusable(&self) -> bool {
        matches!(
            self,
            AwsError::IsBinary { .. }
                | AwsError::NotJson { .. }
                | AwsError::NotJsonObject { .. }
                | AwsError::NotAnObject { .. }
                | AwsError::NoPasswordField { .. }
                | AwsError::InvalidField { .. }
                | AwsError::NoField { .. }
                | AwsError::FieldNotText { .. }
        )
    }

    /// Whether Secrets Manager asked to be called less often.
    pub fn is_throttled(&self) -> bool {
        matches!(self, AwsError::Throttled { .. })
    }
}

fn describe(version: &VersionSelector) -> String {
    match (&version.stage, &version.version_id) {
        (Some(stage), Some(id)) => format!("id \"{id}\" and stage \"{stage}\""),
        (None, Some(id)) => format!("id \"{id}\""),
        (Some(stage), None) => format!("stage \"{stage}\""),
        (None, None) => format!("stage \"{}\"", stage::CURRENT),
    }
}

impl Report for AwsError {
    fn sqlstate(&self) -> SqlState {
        use AwsError::*;
        // Named in PostgreSQL's documentation, Appendix A.
        const CANNOT_CONNECT: SqlState = SqlState::new("08001");
        const INVALID_PARAMETER_VALUE: SqlState = SqlState::new("22023");
        const INVALID_JSON_TEXT: SqlState = SqlState::new("22032");
        const SERIALIZATION_FAILURE: SqlState = SqlState::new("40001");
        const SQL_JSON_MEMBER_NOT_FOUND: SqlState = SqlState::new("2203A");
        const SQL_JSON_OBJECT_NOT_FOUND: SqlState = SqlState::new("2203C");
        const INVALID_AUTHORIZATION: SqlState = SqlState::new("28000");
        const INSUFFICIENT_PRIVILEGE: SqlState = SqlState::new("42501");
        const UNDEFINED_OBJECT: SqlState = SqlState::new("42704");
        const DUPLICATE_OBJECT: SqlState = SqlState::new("42710");
        const WRONG_OBJECT_TYPE: SqlState = SqlState::new("42809");
        const CONFIGURATION_LIMIT_EXCEEDED: SqlState = SqlState::new("53400");
        const PROGRAM_LIMIT_EXCEEDED: SqlState = SqlState::new("54000");
        const NOT_IN_PREREQUISITE_STATE: SqlState = SqlState::new("55000");
        const SYSTEM_ERROR: SqlState = SqlState::new("58000");
        match self {
            InvalidSecretId { .. }
            | InvalidSecretName { .. }
            | InvalidSetting { .. }
            | BadCaBundle { .. }
            | BadProxy { .. }
            | InvalidParameter { .. }
            | InvalidField { .. }
            | FieldNotText { .. } => INVALID_PARAMETER_VALUE,
            ChangedMeanwhile { .. } => SERIALIZATION_FAILURE,
            SecretNotFound { .. } | VersionNotFound { .. } => UNDEFINED_OBJECT,
            AlreadyExists { .. } => DUPLICATE_OBJECT,
            NotAuthorized { .. } | KmsDecryption { .. } | KmsEncryption { .. } => INSUFFICIENT_PRIVILEGE,
            NoCredentials { .. }
            | CredentialsFailed { .. }
            | RoleRefused { .. }
            | CredentialsRefused { .. } => INVALID_AUTHORIZATION,
            NoRegion | MarkedForDeletion { .. } | InvalidRequest { .. } => NOT_IN_PREREQUISITE_STATE,
            TooLarge { .. } | LimitExceeded { .. } => PROGRAM_LIMIT_EXCEEDED,
            Throttled { .. } => CONFIGURATION_LIMIT_EXCEEDED,
            Unreachable { .. } | RoleNotAssumed { .. } => CANNOT_CONNECT,
            // Not 57014: nobody cancelled the query, and who retries on statement_timeout should not
            // be misled. Not class 08 either, which connection pools take as "my own connection is
            // broken" and which would be the more likely to hit the busier the server is.
            TimedOut { .. } | ServerFault { .. } | BadResponse { .. } | NotSent { .. } | Service { .. } => {
                SYSTEM_ERROR
            }
            IsBinary { .. } | IsString { .. } => WRONG_OBJECT_TYPE,
            NotJson { .. } | NotJsonObject { .. } => INVALID_JSON_TEXT,
            NotAnObject { .. } => SQL_JSON_OBJECT_NOT_FOUND,
            NoPasswordField { .. } | NoField { .. } => SQL_JSON_MEMBER_NOT_FOUND,
            Token(error) => error.sqlstate(),
            OutOfMemory(error) => error.sqlstate(),
        }
    }

    fn detail(&self) -> Option<String> {
        use AwsError::*;
        match self {
            InvalidSecretId { problem } | InvalidSecretName { problem } => Some((*problem).to_owned()),
            InvalidSetting { problem, .. } | InvalidField { problem, .. } | FieldNotText { problem, .. } => {
                Some((*problem).to_owned())
            }
            InvalidParameter { message, .. }
            | InvalidRequest { message, .. }
            | LimitExceeded { message, .. }
            | NotAuthorized { message, .. }
            | KmsDecryption { message, .. }
            | KmsEncryption { message, .. }
            | RoleRefused { message, .. }
            | Throttled { message, .. }
            | ServerFault { message, .. }
            | Service { message, .. } => message.clone(),
            TooLarge { bytes, .. } => Some(format!("It has {bytes} bytes; a secret holds at most 65536.")),
            VersionNotFound { region, .. } => Some(format!("Region {region} was asked.")),
            BadCaBundle { setting, problem, .. } => Some(format!("{setting} names it. {problem}")),
            NoCredentials { looked } => Some(looked.clone()),
            CredentialsFailed { reason, .. }
            | RoleNotAssumed { reason, .. }
            | NotSent { reason }
            | Unreachable { reason, .. } => Some(reason.clone()),
            TimedOut { endpoint: Some(endpoint), .. } => Some(format!("{endpoint} was asked.")),
            TimedOut { endpoint: None, .. } => Some(
                "No request was sent yet: AWS credentials or the region were still being looked for.".into(),
            ),
            BadResponse { endpoint, status } => {
                let from = endpoint.as_deref().unwrap_or("the endpoint");
                Some(match status {
                    Some(status) => format!("It came from {from} with HTTP status {status}."),
                    None => format!("It came from {from}."),
                })
            }
            NotJson { line, column, .. } | NotJsonObject { line, column, .. } => {
                Some(format!("Line {line}, column {column}."))
            }
            Token(error) => error.detail(),
            OutOfMemory(error) => error.detail(),
            SecretNotFound { .. }
            | AlreadyExists { .. }
            | NoField { .. }
            | ChangedMeanwhile { .. }
            | MarkedForDeletion { .. }
            | CredentialsRefused { .. }
            | BadProxy { .. }
            | NoRegion
            | IsBinary { .. }
            | IsString { .. }
            | NotAnObject { .. }
            | NoPasswordField { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        use AwsError::*;
        let hint = match self {
            InvalidSecretId { .. } => {
                "Name a secret by its name, its ARN, or its ARN without the random suffix.".into()
            }
            InvalidSecretName { .. } => {
                "A secret's name has 1 to 512 characters: letters, digits and /_+=.@-".into()
            }
            SecretNotFound { .. } => {
                "Check the name and secretlink.region. A secret of another region is found by its ARN.".into()
            }
            VersionNotFound { .. } => "describe_secret lists the versions and their stages.".into(),
            AlreadyExists { .. } => "Use put_secret_value to change it.".into(),
            MarkedForDeletion { .. } => "It can be brought back with RestoreSecret until it is deleted.".into(),
            NotAuthorized { action, .. } => {
                format!("Grant {action} on this secret to the AWS identity of this server.")
            }
            KmsDecryption { .. } => {
                "Grant kms:Decrypt on the secret's KMS key to the AWS identity of this server, and check that the key is enabled.".into()
            }
            KmsEncryption { .. } => {
                "Grant kms:GenerateDataKey and kms:Decrypt on the secret's KMS key to the AWS identity of this server, and check that the key is enabled.".into()
            }
            Throttled { .. } => "Call less often, or raise secretlink.max_attempts.".into(),
            BadCaBundle { .. } => {
                "It must be readable by the operating-system user that runs Postgres, and hold certificates in PEM format.".into()
            }
            BadProxy { .. } => "It must be a URL such as http://proxy.example.com:3128.".into(),
            RoleRefused { code, .. } if code.starts_with("AccessDenied") => {
                "The role's trust policy must allow sts:AssumeRole to the AWS identity of this server, with the secretlink.external_id that it asks for, if any; an identity of another account must also be allowed it by its own policy.".into()
            }
            RoleRefused { .. } => "Check secretlink.role_arn and the AWS identity of this server.".into(),
            RoleNotAssumed { .. } => {
                "Check the way from this server to STS in its region; in a VPC without internet access STS needs an endpoint of its own.".into()
            }
            NoCredentials { .. } | CredentialsFailed { .. } => {
                "Credentials are looked for, as the operating-system user that runs Postgres, in the environment (AWS_ACCESS_KEY_ID), the profile files (~/.aws), a web identity token (EKS), the container endpoint (ECS, EKS Pod Identity) and the EC2 instance metadata.".into()
            }
            CredentialsRefused { code } if code.contains("Signature") || code.contains("Expired") => {
                "Check that the credentials are current and that this server's clock is right.".into()
            }
            CredentialsRefused { .. } => {
                "Check that the credentials exist, are enabled and belong to this endpoint.".into()
            }
            NoRegion => "Set secretlink.region, or AWS_REGION in the server's environment.".into(),
            Unreachable { .. } => {
                "Check secretlink.endpoint_url, secretlink.region and the way from this server to the endpoint, with the proxy and the CA bundle if there are any.".into()
            }
            TimedOut { endpoint: Some(_), .. } => {
                "Check the way from this server to the endpoint, or raise secretlink.request_timeout.".into()
            }
            TimedOut { endpoint: None, .. } => {
                "Outside AWS, set AWS_EC2_METADATA_DISABLED=true in the server's environment; with secretlink.role_arn, check the way to STS; else raise secretlink.request_timeout.".into()
            }
            BadResponse { .. } => "Check secretlink.endpoint_url: something else may be answering there.".into(),
            ServerFault { .. } => {
                "The fault is on the other side: try again later, and see the AWS Health Dashboard. If secretlink.endpoint_url is set, see what answers there.".into()
            }
            IsBinary { .. } => "Use get_secret_binary.".into(),
            IsString { .. } => "Use get_secret_string.".into(),
            NotJson { .. } => "Use get_secret_string for a secret that is not JSON.".into(),
            NotJsonObject { .. } | NotAnObject { .. } | NoPasswordField { .. } => {
                "Such a secret is a JSON object with a \"password\", and optionally \"username\", \"host\", \"port\" and \"dbname\".".into()
            }
            Token(error) => return error.hint(),
            InvalidSetting { .. }
            | InvalidParameter { .. }
            | InvalidRequest { .. }
            | TooLarge { .. }
            | LimitExceeded { .. }
            | OutOfMemory(_)
            | NotSent { .. }
            | Service { .. }
            | InvalidField { .. }
            | FieldNotText { .. } => return None,
            NoField { .. } => "The names of fields are case-sensitive.".into(),
            ChangedMeanwhile { .. } => "Nothing was changed. Try again.".into(),
        };
        Some(hint)
    }
}
