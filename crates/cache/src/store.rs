//! What is kept, who asks for it and who waits.
//!
//! For each key at most one request is under way. Others that want the value meanwhile wait for its answer,
//! be it a value or an error. A request that never comes back, since its process hangs, counts for a
//! limited time; what is answered later, or after the entry was changed or forgotten, is not kept.

use std::time::Duration;

use crate::chain::Chain;
use crate::key::{Key, Subject, is_named};
use crate::policy::{Moment, Timing, pause_after_confirmations, pause_after_failures};
use crate::table::{Entry, Place, Table};

/// The cache, in memory that is plain words and was all zeros at first.
pub struct Store<'a> {
    table: Table<'a>,
}

/// Which value will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A value that is not too old.
    Fresh,
    /// A value that was asked for at this moment or later.
    Since(Moment),
    /// A value of another version than these, with which logins failed, or else the certainty that there was none at
    /// `since`. Somebody else may have asked for that in vain just now, and it is not asked for all the
    /// time: then that will do, or who is `patient` waits until it may be asked for again.
    Other {
        /// Ids of versions.
        than: Vec<String>,
        /// When the last one was refused.
        since: Moment,
        /// Whether to wait.
        patient: bool,
    },
}

/// What is wanted, when a value is too old, and who asks.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What is wanted.
    pub wanted: &'a Wanted,
    /// When a value is too old.
    pub timing: &'a Timing,
    /// Who asks.
    pub asking: &'a Asking,
}

/// Who asks for a value, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asking {
    /// The process that asks.
    pub owner: i32,
    /// When the session began to want the value.
    pub arrived: Moment,
    /// For how long it will ask.
    pub patience: Duration,
    /// For how long it will wait for a connection.
    pub connect_patience: Duration,
    /// How often it will try.
    pub attempts: u32,
}

impl Asking {
    /// Whether the last request failed although it was tried as hard as the next one will be: how hard that is
    /// anybody may choose, but not for others.
    fn may_believe_failure(&self, entry: &Entry) -> bool {
        entry.failed != 0
            && entry.failed_patience >= micros(self.patience)
            && entry.failed_connect_patience >= micros(self.connect_patience)
            && entry.failed_attempts >= self.attempts.into()
    }
}

/// A value, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value, sealed.
    pub sealed: Vec<u8>,
    /// The value's version.
    pub version_id: String,
    /// When the value was asked for.
    pub asked: Moment,
    /// When the value ends by itself, if it does.
    pub ends: Option<Moment>,
}

/// What to do about a value that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Here it is.
    Hit(Found),
    /// Here is an old one. Nobody can be asked for a newer.
    Stale(Found),
    /// Another process asked while we waited, and failed: what [`Failure::report`] was.
    Failed(Vec<u8>),
    /// Somebody else is asking: wait for that, until then at most.
    Wait(Moment),
    /// Somebody else is still asking, and we have waited as long as we would have asked.
    GaveUp,
    /// Ask, and tell what came of it.
    Ask(Ticket),
    /// Ask. There is no room to keep it.
    Uncached,
}

/// The right to ask for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Ticket {
    place: Place,
    generation: u64,
    began: Moment,
}

/// A value that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The value, sealed.
    pub sealed: Vec<u8>,
    /// The value's version.
    pub version_id: String,
    /// The secret's full ARN.
    pub arn: String,
    /// The secret's name.
    pub name: String,
    /// When the value ends by itself, if it does.
    pub ends: Option<Moment>,
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Nothing was learnt: nobody could be reached, or was willing to answer.
    pub unreachable: bool,
    /// The error, for those who waited.
    pub report: Vec<u8>,
}

/// What came of a request.
pub type Answer<'a> = Result<&'a Contents, Failure>;

/// What a request that has ended means to the one who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The value is kept, or the error known to all.
    Kept {
        /// Whether this is the first value after failures, or the first failure after a value.
        news: bool,
        /// Whether a value was kept before, and now there is another version or none.
        changed: bool,
    },
    /// The request failed, and an old value will have to do.
    Stale {
        /// The value.
        found: Found,
        /// Whether this is the first failure.
        news: bool,
    },
    /// The entry was changed meanwhile: what came may be older than what is there now.
    Superseded,
}

/// An entry, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What was asked for.
    pub key: Key,
    /// The version that is kept; `None` if there is no value.
    pub version_id: Option<String>,
    /// The full ARN of the secret; empty if it was never read.
    pub arn: String,
    /// When the value was asked for.
    pub asked: Moment,
    /// When the value ends by itself, if it does.
    pub ends: Option<Moment>,
    /// When the value was last used.
    pub used: Moment,
    /// How often it was.
    pub hits: u64,
    /// Whether a request is under way.
    pub is_asked: bool,
    /// The last error, if the last request failed: what [`Failure::report`] was.
    pub error: Option<Vec<u8>>,
}

impl<'a> Store<'a> {
    /// The cache in this memory. `None` if there is too little of it.
    pub fn over(memory: &'a mut [u64]) -> Option<Store<'a>> {
        Some(Store { table: Table::over(memory)? })
    }

    /// What to do about a value that is wanted at `now`.
    pub fn look(&mut self, key: &[u8], ask: &Ask<'_>, now: Moment) -> Look {
        let Ask { wanted, timing, asking } = *ask;
        let Some(place) = self.table.find(key).or_else(|| self.table.insert(key)) else {
            return Look::Uncached;
        };
        self.table.touch(place);
        let entry = self.table.at(place);
        entry.used = now.0;
        let entry = *entry;
        let (asked, answered) = (Moment(entry.asked), Moment(entry.answered));
        let has_value = !entry.value.is_empty() && !entry.life().is_over(now);

        // What came while we waited is as fresh as can be.
        let is_fresh = timing.is_fresh(entry.life(), now) || answered >= asking.arrived;
        let will_do = has_value
            && match wanted {
                Wanted::Fresh => is_fresh,
                Wanted::Since(since) => asked >= *since,
                Wanted::Other { than, since, patient } => {
                    let suppressed = now.0 < entry.recheck && !patient;
                    let is_other = || is_fresh && !than.contains(&self.version_at(place));
                    asked >= *since || suppressed || is_other()
                }
            };
        if will_do {
            self.table.at(place).hits += 1;
            return Look::Hit(self.found(place));
        }
        // It came, and there was no room for it: sessions that wait for the next one would do so in a queue.
        let is_too_large = !has_value && entry.answered != 0 && entry.failed == 0 && is_fresh;
        if is_too_large {
            return Look::Uncached;
        }
        let has_failed = asking.may_believe_failure(&entry);
        let is_unreachable = has_failed && entry.unreachable != 0;
        let may_be_stale = has_value && *wanted == Wanted::Fresh && timing.is_usable(entry.life(), now);
        let is_in_flight = is_in_flight(&entry, now);
        let failed_for_us = has_failed && entry.failed >= asking.arrived.0;
        if is_unreachable && may_be_stale && (is_in_flight || now.0 < entry.retry || failed_for_us) {
            self.table.at(place).hits += 1;
            return Look::Stale(self.found(place));
        }
        // Who doubts a value does not ask all the time, be it that it was confirmed just now, or that nobody
        // could be asked: each login with a wrong password would wait for that.
        let away = if is_unreachable { Moment(entry.failed) + pause_after_failures(1) } else { Moment(0) };
        let recheck = Moment(entry.recheck).max(away);
        let is_suppressed = matches!(wanted, Wanted::Other { .. }) && now < recheck;
        let is_patient = matches!(wanted, Wanted::Other { patient: true, .. });
        let has_error = has_failed && !entry.error.is_empty();
        if has_error && (failed_for_us || (is_suppressed && !is_patient)) {
            return Look::Failed(self.table.blocks().read(entry.error));
        }
        if is_suppressed && is_patient && !is_in_flight {
            return Look::Wait(recheck);
        }
        if is_in_flight {
            let until = asking.arrived + asking.patience;
            return match () {
                () if now < until => Look::Wait(until.min(Moment(entry.flight_until))),
                () if may_be_stale => Look::Stale(self.found(place)),
                () => Look::GaveUp,
            };
        }
        Look::Ask(self.take_off(place, asking, now))
    }

    /// Begins a request.
    fn take_off(&mut self, place: Place, asking: &Asking, now: Moment) -> Ticket {
        let generation = self.renumber(place);
        let entry = self.table.at(place);
        entry.flight_owner = asking.owner;
        entry.flight_began = now.0.max(1);
        entry.flight_until = (now + asking.patience.min(LONGEST) + GRACE).0;
        Ticket { place, generation, began: now }
    }

    /// Ends a request with what came of it.
    pub fn finish(&mut self, ticket: Ticket, outcome: Answer<'_>, ask: &Ask<'_>, now: Moment) -> Finish {
        let Ask { wanted, timing, asking } = *ask;
        let Ticket { place, generation, began } = ticket;
        if self.table.peek(place).generation != generation {
            return Finish::Superseded;
        }
        let doubted = matches!(wanted, Wanted::Other { .. });
        match outcome {
            Ok(contents) => {
                let same = self.version_at(place) == contents.version_id;
                let changed = !same && !self.table.peek(place).value.is_empty();
                let news = self.table.peek(place).failures > 0;
                self.put(place, contents, began, now);
                self.confirm(place, doubted && same, now);
                Finish::Kept { news, changed }
            }
            Err(failure) => {
                let entry = self.table.at(place);
                entry.flight_began = 0;
                entry.failed = now.0.max(1);
                entry.failed_patience = micros(asking.patience);
                entry.failed_connect_patience = micros(asking.connect_patience);
                entry.failed_attempts = asking.attempts.into();
                entry.unreachable = failure.unreachable.into();
                let news = entry.failures == 0;
                entry.failures = entry.failures.saturating_add(1);
                entry.retry = (now + pause_after_failures(entry.failures)).0;
                let life = entry.life();
                self.confirm(place, doubted && !failure.unreachable, now);
                let changed = !failure.unreachable && !self.table.peek(place).value.is_empty();
                if !failure.unreachable {
                    // Refused, or gone: what was read before must not be used any more.
                    self.clear(place);
                }
                let error = self.table.keep(&failure.report, Some(place)).unwrap_or_default();
                self.table.set_error(place, error);
                let has_value = !self.table.peek(place).value.is_empty();
                if has_value && *wanted == Wanted::Fresh && timing.is_usable(life, now) {
                    self.table.at(place).hits += 1;
                    return Finish::Stale { found: self.found(place), news };
                }
                Finish::Kept { news, changed }
            }
        }
    }

    fn confirm(&mut self, place: Place, confirmed: bool, now: Moment) {
        let entry = self.table.at(place);
        entry.confirmations = if confirmed { entry.confirmations.saturating_add(1) } else { 0 };
        entry.recheck = if confirmed { (now + pause_after_confirmations(entry.confirmations)).0 } else { 0 };
    }

    /// Keeps a value that was asked for at `asked` and came now, as long as there is room.
    fn put(&mut self, place: Place, contents: &Contents, asked: Moment, now: Moment) {
        self.clear(place);
        let about = [&*contents.version_id, &*contents.arn, &*contents.name].join("\0");
        let about = self.table.keep(about.as_bytes(), Some(place));
        self.table.set_about(place, about.unwrap_or_default());
        let value = about.and_then(|_| self.table.keep(&contents.sealed, Some(place)));
        self.table.set_value(place, value.unwrap_or_default());
        let entry = self.table.at(place);
        entry.asked = asked.0;
        entry.answered = now.0;
        entry.ends = contents.ends.map_or(0, |ends| ends.0.max(1));
        entry.failed = 0;
        entry.failures = 0;
        self.table.set_error(place, Chain::default());
    }

    /// Wipes the value.
    fn clear(&mut self, place: Place) {
        self.cancel(place);
        self.table.set_value(place, Chain::default());
        self.table.set_about(place, Chain::default());
    }

    /// What is being asked for counts for nothing.
    fn cancel(&mut self, place: Place) {
        self.renumber(place);
        self.table.at(place).flight_began = 0;
    }

    /// Gives an entry a number that no ticket has.
    fn renumber(&mut self, place: Place) -> u64 {
        let generation = self.table.next_generation();
        self.table.at(place).generation = generation;
        generation
    }

    /// Ends a request without a word.
    pub fn abandon(&mut self, ticket: Ticket) {
        let entry = self.table.at(ticket.place);
        if entry.generation == ticket.generation {
            entry.flight_began = 0;
        }
    }

    /// Gives up all requests of a process that ends.
    pub fn abandon_all(&mut self, owner: i32) {
        for place in self.table.places() {
            let entry = self.table.at(place);
            if entry.flight_owner == owner {
                entry.flight_began = 0;
            }
        }
    }

    /// Begins requests for values that are in use and will soon be too old, at most so many, and only those
    /// that the caller is able to ask for: for which `request` makes a request.
    pub fn renew<T>(
        &mut self,
        request: impl Fn(&Key) -> Option<T>,
        ask: &Ask<'_>,
        most: usize,
        now: Moment,
    ) -> Vec<(T, Ticket)> {
        let Ask { timing, asking, .. } = *ask;
        let mut begun = Vec::new();
        for place in self.table.places() {
            let entry = *self.table.peek(place);
            let is_due = !entry.value.is_empty()
                && timing.is_in_use(entry.life(), Moment(entry.used), now)
                && now >= timing.renewal(entry.life())
                && (!asking.may_believe_failure(&entry) || now.0 >= entry.retry)
                && !is_in_flight(&entry, now);
            if begun.len() < most
                && is_due
                && let Some(key) = Key::from_bytes(&self.table.blocks().read(entry.key))
                && let Some(request) = request(&key)
            {
                begun.push((request, self.take_off(place, asking, now)));
            }
        }
        begun
    }

    /// Puts another value in the place of one that is there, for which a key is chosen by `of`. What is being
    /// asked for meanwhile counts for nothing, nor does what is asked for under a name of which it is not
    /// known which secret it stands for. `None` wipes it.
    pub fn replace(&mut self, of: impl Fn(&Key, Named<'_>) -> Option<Option<Contents>>, now: Moment) {
        for place in self.table.places() {
            let entry = *self.table.peek(place);
            let Some(key) = Key::from_bytes(&self.table.blocks().read(entry.key)) else { continue };
            let about = self.about_at(place);
            let (_, arn, name) = parts(&about);
            let is_secret = matches!(key.subject, Subject::Secret { .. });
            match of(&key, Named { secret_id: key.subject.name(), arn, name }) {
                // Nobody knows yet whether this is the same secret by another name.
                None if is_secret && about.is_empty() && entry.flight_began != 0 => self.cancel(place),
                None => {}
                Some(None) => self.table.remove(place),
                Some(Some(contents)) => {
                    self.put(place, &contents, now, now);
                    self.confirm(place, false, now);
                }
            }
        }
    }

    /// Wipes what is kept of a secret, however it was named. Returns how many entries that were.
    pub fn forget(&mut self, secret: &str) -> usize {
        let before = self.table.places().len();
        self.replace(|_, named| named.is(secret).then_some(None), Moment::default());
        before - self.table.places().len()
    }

    /// Wipes everything. Returns how many entries that were.
    pub fn forget_all(&mut self) -> usize {
        let places = self.table.places();
        for place in &places {
            self.table.remove(*place);
        }
        places.len()
    }

    /// Counts the uses of each entry from zero again.
    pub fn reset_hits(&mut self) {
        for place in self.table.places() {
            self.table.at(place).hits = 0;
        }
    }

    /// A number that has changed if anything kept has.
    pub fn generation(&self) -> u64 {
        self.table.generation()
    }

    /// The version that is kept for a key.
    pub fn version(&self, key: &[u8]) -> Option<String> {
        let place = self.table.find(key)?;
        (!self.table.peek(place).value.is_empty()).then(|| self.version_at(place))
    }

    /// All entries, those used last at the end.
    pub fn list(&self) -> Vec<Listed> {
        let listed = |place| {
            let entry = self.table.peek(place);
            let has_value = !entry.value.is_empty();
            Some(Listed {
                key: Key::from_bytes(&self.table.blocks().read(entry.key))?,
                version_id: has_value.then(|| self.version_at(place)),
                arn: parts(&self.about_at(place)).1.to_owned(),
                asked: Moment(entry.asked),
                ends: entry.life().ends,
                used: Moment(entry.used),
                hits: entry.hits,
                is_asked: entry.flight_began != 0,
                error: (!entry.error.is_empty()).then(|| self.table.blocks().read(entry.error)),
            })
        };
        self.table.places().into_iter().filter_map(listed).collect()
    }

    fn found(&self, place: Place) -> Found {
        let entry = self.table.peek(place);
        Found {
            sealed: self.table.blocks().read(entry.value),
            version_id: self.version_at(place),
            asked: Moment(entry.asked),
            ends: entry.life().ends,
        }
    }

    fn about_at(&self, place: Place) -> String {
        let about = self.table.blocks().read(self.table.peek(place).about);
        String::from_utf8(about).unwrap_or_default()
    }

    fn version_at(&self, place: Place) -> String {
        parts(&self.about_at(place)).0.to_owned()
    }
}

/// How much longer than its own patience a request counts.
const GRACE: Duration = Duration::from_secs(1);

/// For how long others wait at most for a request, whatever the patience of the one who asks.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether a request is under way that still counts.
fn is_in_flight(entry: &Entry, now: Moment) -> bool {
    entry.flight_began != 0 && now.0 < entry.flight_until
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Version id, ARN and name.
fn parts(about: &str) -> (&str, &str, &str) {
    let mut parts = about.split('\0');
    let mut next = || parts.next().unwrap_or_default();
    (next(), next(), next())
}

/// How a secret that is kept can be named.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The secret as it was asked for.
    pub secret_id: &'a str,
    /// The secret's full ARN; empty if the secret was never read.
    pub arn: &'a str,
    /// The secret's name; empty if the secret was never read.
    pub name: &'a str,
}

impl Named<'_> {
    /// Whether `text` names it.
    pub fn is(&self, text: &str) -> bool {
        is_named(text, self.secret_id, self.arn, self.name)
    }
}
