//! How fast the worker asks Secrets Manager, whose quotas are for all of an account in a region.

use std::time::{Duration, Instant};

use crate::backend::process::worker;
use crate::settings;

/// The time between two reads of secrets: 500 in a second, each of one DescribeSecret and one to three GetSecretValue.
/// AWS takes 40,000 and 10,000 of these in a second, from everybody in the account.
const BETWEEN_READS: Duration = Duration::from_millis(2);
/// The time between two roles for which something is written: each takes one call or two, and 25 in a second are half of
/// what AWS takes. The other half is for password changes.
const BETWEEN_WRITES: Duration = Duration::from_millis(80);
/// The first pause after Secrets Manager has asked to be asked less often. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How often the reads become half as many.
const MOST_HALVINGS: u32 = 6;

/// How Secrets Manager has answered those who asked it for secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// Something was asked, and nothing was without an answer.
    All,
    /// Nothing was asked, or not everything had an answer.
    Some,
    /// It asks to be asked less often.
    Throttled,
}

/// How fast the worker may ask, all of it together.
#[derive(Default)]
pub(crate) struct Pace {
    /// How often Secrets Manager has asked to be asked less often, less how often it has answered everything since.
    halvings: u32,
    /// The moment until which nothing is asked.
    rests_until: Option<Instant>,
    /// When something was written last.
    wrote: Option<Instant>,
}

impl Pace {
    /// The time between two reads of secrets.
    pub(super) fn between_reads(&self) -> Duration {
        BETWEEN_READS * 2_u32.pow(self.halvings)
    }

    /// How long nothing is asked from now on, if so.
    pub(crate) fn rest(&self) -> Option<Duration> {
        self.rests_until
            .map(|until| until.saturating_duration_since(Instant::now()))
            .filter(|rest| !rest.is_zero())
    }

    /// Takes note of how Secrets Manager has answered.
    pub(crate) fn heard(&mut self, answers: Answers) {
        match answers {
            Answers::All => self.halvings = self.halvings.saturating_sub(1),
            Answers::Some => {}
            Answers::Throttled => self.throttled(),
        }
    }

    /// Secrets Manager has asked to be asked less often.
    fn throttled(&mut self) {
        let pause = FIRST_PAUSE * 2_u32.pow(self.halvings);
        self.rests_until = Some(Instant::now() + pause.min(settings::sync::reconcile_interval()));
        self.halvings = (self.halvings + 1).min(MOST_HALVINGS);
    }

    /// Something is about to be written.
    pub(super) fn write(&mut self) {
        self.wrote = Some(Instant::now());
    }

    /// Waits until something may be written.
    pub(super) fn wait_for_write(&self) {
        let Some(wrote) = self.wrote else { return };
        loop {
            let rest = BETWEEN_WRITES.saturating_sub(wrote.elapsed());
            if rest.is_zero() {
                return;
            }
            // A ring of the doorbell wakes us up, and is looked for later.
            worker::wait(rest.max(Duration::from_millis(1)));
        }
    }
}
