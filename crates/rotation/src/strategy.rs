//! The ways to rotate a password.

/// How a secret is rotated, in AWS's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The role changes its own password.
    SingleUser,
    /// A role and its clone take turns; a master changes the password of the one whose turn it is.
    AlternatingUsers,
    /// AWS does it, or a Lambda function that AWS calls.
    Managed,
}

impl Strategy {
    /// All strategies.
    pub const ALL: [Strategy; 3] = [Strategy::SingleUser, Strategy::AlternatingUsers, Strategy::Managed];

    /// The strategy's name in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::SingleUser => "single_user",
            Strategy::AlternatingUsers => "alternating_users",
            Strategy::Managed => "managed",
        }
    }

    /// The strategy of this name.
    pub fn parse(name: &str) -> Option<Strategy> {
        Strategy::ALL.into_iter().find(|strategy| strategy.as_str() == name)
    }
}
