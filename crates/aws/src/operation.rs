//! What Secrets Manager is asked to do.

/// The operations used (API reference), each with its IAM action.
#[allow(missing_docs, reason = "the names say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    GetSecretValue,
    DescribeSecret,
    ListSecretVersionIds,
    CreateSecret,
    PutSecretValue,
    UpdateSecretVersionStage,
    RotateSecret,
    ListSecrets,
}

impl Operation {
    /// All operations, in the order in which they are declared.
    pub const ALL: [Operation; 8] = [
        Operation::GetSecretValue,
        Operation::DescribeSecret,
        Operation::ListSecretVersionIds,
        Operation::CreateSecret,
        Operation::PutSecretValue,
        Operation::UpdateSecretVersionStage,
        Operation::RotateSecret,
        Operation::ListSecrets,
    ];

    /// AWS's name for it.
    pub fn as_str(self) -> &'static str {
        self.action().split_once(':').map_or("", |(_service, name)| name)
    }

    /// The IAM action that permits it.
    pub(crate) fn action(self) -> &'static str {
        match self {
            Operation::GetSecretValue => "secretsmanager:GetSecretValue",
            Operation::DescribeSecret => "secretsmanager:DescribeSecret",
            Operation::ListSecretVersionIds => "secretsmanager:ListSecretVersionIds",
            Operation::CreateSecret => "secretsmanager:CreateSecret",
            Operation::PutSecretValue => "secretsmanager:PutSecretValue",
            Operation::UpdateSecretVersionStage => "secretsmanager:UpdateSecretVersionStage",
            Operation::RotateSecret => "secretsmanager:RotateSecret",
            Operation::ListSecrets => "secretsmanager:ListSecrets",
        }
    }

    /// Whether a secret's value is part of the request.
    pub(crate) fn sends_secret(self) -> bool {
        matches!(self, Operation::CreateSecret | Operation::PutSecretValue)
    }
}
