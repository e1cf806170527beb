//! How far a run has come, how it ends, and what is to be done next.

use crate::Trouble;

/// AWS's name for what a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The new password exists in Secrets Manager, or not yet; the server does not know it.
    Create,
    /// The server may know it.
    Set,
    /// The new password is tried.
    Test,
    /// `AWSCURRENT` moves.
    Finish,
}

impl Step {
    /// AWS's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Create => "createSecret",
            Step::Set => "setSecret",
            Step::Test => "testSecret",
            Step::Finish => "finishSecret",
        }
    }

    /// The step of this name.
    pub fn parse(name: &str) -> Option<Step> {
        [Step::Create, Step::Set, Step::Test, Step::Finish].into_iter().find(|step| step.as_str() == name)
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// The new password is current, and logs in.
    Succeeded,
    /// The run gave up, and nothing was changed.
    Failed,
    /// The server had the new password and has the old one again.
    RolledBack,
    /// Somebody else has changed the secret meanwhile, and theirs is right.
    Abandoned,
    /// AWS has rotated it.
    Managed,
}

impl RunOutcome {
    /// All outcomes.
    pub const ALL: [RunOutcome; 5] = [
        RunOutcome::Succeeded,
        RunOutcome::Failed,
        RunOutcome::RolledBack,
        RunOutcome::Abandoned,
        RunOutcome::Managed,
    ];

    /// The outcome's name in `rotation_history`.
    pub fn as_str(self) -> &'static str {
        match self {
            RunOutcome::Succeeded => "succeeded",
            RunOutcome::Failed => "failed",
            RunOutcome::RolledBack => "rolled_back",
            RunOutcome::Abandoned => "abandoned",
            RunOutcome::Managed => "managed",
        }
    }

    /// The outcome of this name.
    pub fn parse(name: &str) -> Option<RunOutcome> {
        RunOutcome::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }

    /// Whether the secret has a new password.
    pub fn is_success(self) -> bool {
        matches!(self, RunOutcome::Succeeded | RunOutcome::Managed)
    }
}

/// What a run does next. Who drives it writes down the step first.
#[derive(Debug)]
pub enum Next {
    /// Find out how far an earlier attempt came that had come so far.
    Resume(Step),
    /// Store the new password and take `AWSPENDING`.
    Create,
    /// Log in to the server and look at everything, without changing anything there.
    Open,
    /// Give the role the new password. To be written down as [`Step::Set`] before.
    Set,
    /// Log in with it.
    Test,
    /// Move `AWSCURRENT`.
    Finish,
    /// The outcome is clear; `AWSPENDING` has to go.
    Clear(RunOutcome, Option<Trouble>),
    /// Wait: nothing can be told at the moment. The run has to be resumed later, with this step.
    Later(Trouble),
    /// Nothing: all is done.
    Over,
}
