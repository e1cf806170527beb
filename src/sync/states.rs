//! What is known of each synced role, shared by all processes of the server.
//!
//! Nothing here is needed to be right after a crash: the memory is empty then, and the background
//! worker looks at every synced role when it starts.

use pgrx::pg_sys;

use crate::backend::process::server;
use crate::backend::process::shared_memory::SharedData;
use crate::backend::process::shared_slots::{SharedSlots, Slots};
use crate::backend::process::short_text::ShortText;
use crate::settings;

/// Bytes of a version id: at most 64 (API reference, PutSecretValue, ClientRequestToken).
const VERSION_ID: usize = 64;
/// Bytes kept of an error message.
const ERROR: usize = 240;

/// How a role and its secret stand to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody has looked yet, or the secret could not be read.
    #[default]
    Unknown,
    /// `AWSCURRENT` holds the role's password.
    InSync,
    /// The password is in the secret, but not yet at `AWSCURRENT`.
    Pending,
    /// No version holds the role's password.
    Drifted,
    /// The role has no password.
    NoPassword,
    /// There is no secret.
    NoSecret,
    /// A template names a secret for the role, which nobody has made yet: the role's password was not set since.
    NeverSet,
    /// The role has just been tied to the secret, at which nobody has looked yet.
    Tied,
}

impl State {
    /// The state's name in `role_sync`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::InSync => "in_sync",
            State::Pending => "pending",
            State::Drifted => "drifted",
            State::NoPassword => "no_password",
            State::NoSecret => "no_secret",
            State::NeverSet => "never_set",
            State::Tied => "tied",
        }
    }

    /// Whether a role in this state stays as it is until somebody does something. A role in another state is looked
    /// at again and again.
    pub(crate) fn is_lasting(self) -> bool {
        matches!(self, State::InSync | State::NoPassword | State::NeverSet)
    }

    /// Whether the secret does not hold the password that it should hold.
    fn is_drift(self) -> bool {
        matches!(self, State::Drifted | State::NoSecret)
    }

    fn to_byte(self) -> u8 {
        match self {
            State::Unknown => 0,
            State::InSync => 1,
            State::Pending => 2,
            State::Drifted => 3,
            State::NoPassword => 4,
            State::NoSecret => 5,
            State::NeverSet => 6,
            State::Tied => 7,
        }
    }

    fn from_byte(byte: u8) -> State {
        match byte {
            1 => State::InSync,
            2 => State::Pending,
            3 => State::Drifted,
            4 => State::NoPassword,
            5 => State::NoSecret,
            6 => State::NeverSet,
            7 => State::Tied,
            _ => State::Unknown,
        }
    }
}

#[derive(Clone, Copy)]
struct Slot {
    state: u8,
    in_doubt: bool,
    announce: bool,
    /// Whether drift was announced and its end was not.
    drift_told: bool,
    /// Whether the role is to be looked at once more after the next time.
    twice: bool,
    /// How often somebody else has written the secret or the role's password, as far as this was noticed.
    rewritten: u8,
    /// A digest of the version that was last seen to be somebody else's; zero if none was.
    other_version: u64,
    /// A digest of the role's hash when the worker found the two in sync; zero if it did not yet.
    hash: u64,
    /// Counts changes, so that who looked at the secret without a lock can tell whether that counts.
    generation: u32,
    synced_at: pg_sys::TimestampTz,
    version_id: ShortText<VERSION_ID>,
    last_error: ShortText<ERROR>,
}

// SAFETY: plain data. All zeros is a slot of which nothing is known.
unsafe impl SharedData for Slot {}

#[derive(Clone, Copy)]
struct Header {
    /// Roles were in doubt for which there was no slot.
    overflowed: bool,
    /// How many slots are in use: the first ones.
    used: u32,
    /// How many of these are to be announced.
    to_announce: u32,
}

// SAFETY: plain data. All zeros is right for a table without a slot in use.
unsafe impl SharedData for Header {}

/// The key of a slot is the role.
static TABLE: SharedSlots<Header, Slot> = SharedSlots::new(c"secretlink roles");

/// Asks for the memory.
pub(crate) fn request() {
    TABLE.request(settings::sync::max_roles());
}

/// Finds the memory.
pub(crate) fn attach() {
    TABLE.attach();
}

/// Whether the library was preloaded.
pub(crate) fn are_shared() -> bool {
    TABLE.is_attached()
}

/// The number of roles of which account can be kept.
pub(crate) fn capacity() -> usize {
    TABLE.len()
}

/// What is known of a role.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoleState {
    /// How role and secret stand to each other.
    pub state: State,
    /// The version that was last found or made to hold its password.
    pub version_id: Option<String>,
    /// When that was.
    pub synced_at: Option<pg_sys::TimestampTz>,
    /// Why the role is not in sync.
    pub last_error: Option<String>,
}

/// The memory with everybody else locked out.
struct Table<'a>(Slots<'a, Header, Slot>);

impl Table<'_> {
    fn used(&self) -> usize {
        (self.0.header.used as usize).min(self.0.slots.len())
    }

    fn slots(&mut self) -> &mut [Slot] {
        let used = self.used();
        &mut self.0.slots[..used]
    }

    fn roles(&self) -> impl Iterator<Item = pg_sys::Oid> {
        self.0.keys[..self.used()].iter().map(|role| pg_sys::Oid::from_u32(*role))
    }

    fn place(&self, role: pg_sys::Oid) -> Option<usize> {
        self.0.keys[..self.used()].iter().position(|key| *key == role.to_u32())
    }

    fn find(&mut self, role: pg_sys::Oid) -> Option<&mut Slot> {
        let place = self.place(role)?;
        self.0.slots.get_mut(place)
    }

    /// The slot of a role, a new one if there is place for it without giving up another.
    fn free_slot(&mut self, role: pg_sys::Oid) -> Option<&mut Slot> {
        let used = self.used();
        if self.place(role).is_none() && used < self.0.slots.len() {
            self.0.header.used += 1;
            self.put(used, role);
        }
        self.find(role)
    }

    /// The slot of a role that is in doubt, which goes before those that are not. `None` if there is no place.
    fn slot_in_doubt(&mut self, role: pg_sys::Oid) -> Option<&mut Slot> {
        if self.free_slot(role).is_none() {
            // One that is in sync can be found out about again.
            let place = self.slots().iter().position(|slot| !slot.in_doubt && !slot.announce)?;
            self.put(place, role);
        }
        self.find(role)
    }

    /// The slot of a role, as [`Table::slot_in_doubt`] finds it. That there is no place is remembered.
    fn slot(&mut self, role: pg_sys::Oid) -> Option<&mut Slot> {
        if self.slot_in_doubt(role).is_none() {
            self.0.header.overflowed = true;
        }
        self.find(role)
    }

    fn put(&mut self, place: usize, role: pg_sys::Oid) {
        self.0.slots[place] = Slot::EMPTY;
        self.0.keys[place] = role.to_u32();
    }
}

impl Slot {
    const EMPTY: Slot = Slot {
        state: 0,
        in_doubt: false,
        announce: false,
        drift_told: false,
        twice: false,
        rewritten: 0,
        other_version: 0,
        hash: 0,
        generation: 0,
        synced_at: 0,
        version_id: ShortText::EMPTY,
        last_error: ShortText::EMPTY,
    };

    fn doubt(&mut self) {
        self.in_doubt = true;
        self.generation = self.generation.wrapping_add(1);
    }
}

fn with<T>(f: impl FnOnce(&mut Table<'_>) -> T) -> Option<T> {
    TABLE.with(|slots| f(&mut Table(slots)))
}

/// A role's secret is about to be changed: until [`found`], it is in doubt.
pub(crate) fn begin(role: pg_sys::Oid) {
    with(|table| {
        if let Some(slot) = table.slot(role) {
            slot.doubt();
            slot.state = State::Pending.to_byte();
        }
    });
}

/// A role's secret is to be looked at by the worker.
pub(crate) fn doubt(role: pg_sys::Oid) {
    with(|table| {
        if let Some(slot) = table.slot(role) {
            slot.doubt();
        }
    });
}

/// A role's secret is to be looked at now, and at the next pass: a request whose sender gave up may still land
/// after the first look.
pub(crate) fn doubt_twice(role: pg_sys::Oid) {
    with(|table| {
        if let Some(slot) = table.slot(role) {
            slot.doubt();
            slot.twice = true;
        }
    });
}

/// Puts `roles` in doubt, from the last one on, as long as there is room; the others stay in the list.
pub(crate) fn doubt_as_many(roles: &mut Vec<pg_sys::Oid>) {
    with(|table| {
        while let Some(&role) = roles.last() {
            let Some(slot) = table.slot_in_doubt(role) else { break };
            slot.doubt();
            roles.pop();
        }
    });
}

/// Notes the state in which a role was found. Only a state that lasts is beyond doubt: with any other, much may have
/// changed when the worker looks again. Returns whether drift had been told of, and not its end.
///
/// What the DBA wants to hear of, drift and its end, is marked to be announced.
pub(crate) fn found(role: pg_sys::Oid, state: State, version_id: Option<&str>, error: Option<&str>) -> bool {
    let now = server::clock();
    with(|table| {
        let is_lasting = state.is_lasting();
        let slot = if is_lasting { table.free_slot(role) } else { table.slot(role) };
        let Some(slot) = slot else { return false };
        let drift_told = slot.drift_told;
        let mut is_news = false;
        if (state.is_drift() && !slot.drift_told) || (state == State::InSync && slot.drift_told) {
            slot.drift_told = !slot.drift_told;
            is_news = !std::mem::replace(&mut slot.announce, true);
        }
        slot.state = state.to_byte();
        slot.hash = 0;
        let once_more = std::mem::take(&mut slot.twice);
        slot.in_doubt = once_more || !is_lasting;
        slot.generation = slot.generation.wrapping_add(1);
        if let Some(version_id) = version_id {
            slot.version_id.set(version_id);
        }
        slot.last_error.set(error.unwrap_or_default());
        if state == State::InSync {
            slot.synced_at = now;
        }
        table.0.header.to_announce += u32::from(is_news);
        drift_told
    })
    .unwrap_or_default()
}

/// Somebody who changes nothing has seen how a role stands, without a lock. The view shows it at once, and the
/// worker, which makes sure of it and tells of it, is given the role if that is news. Returns whether it is.
///
/// `generation` is from before the look: what has been changed since counts, and not what was seen.
pub(crate) fn seen(role: pg_sys::Oid, generation: Option<u32>, known: &RoleState) -> bool {
    let now = server::clock();
    with(|table| {
        if table.find(role).map(|slot| slot.generation) != generation {
            return false;
        }
        let is_lasting = known.state.is_lasting();
        let slot = if is_lasting { table.free_slot(role) } else { table.slot(role) };
        let Some(slot) = slot else { return false };
        let is_news = slot.state != known.state.to_byte();
        if is_news {
            slot.doubt();
        }
        slot.in_doubt |= !is_lasting;
        slot.state = known.state.to_byte();
        if let Some(version_id) = &known.version_id {
            slot.version_id.set(version_id);
        }
        slot.last_error.set(known.last_error.as_deref().unwrap_or_default());
        if known.state == State::InSync {
            slot.synced_at = now;
        }
        is_news
    })
    .unwrap_or_default()
}

/// A role has been tied to a secret.
pub(crate) fn tied(role: pg_sys::Oid) {
    with(|table| {
        if let Some(slot) = table.slot(role) {
            slot.doubt();
            slot.state = State::Tied.to_byte();
            slot.version_id = ShortText::EMPTY;
            slot.last_error = ShortText::EMPTY;
            slot.synced_at = 0;
        }
    });
}

/// The worker has found that the version which is known holds the password of this hash.
pub(crate) fn verified(role: pg_sys::Oid, hash: u64) {
    with(|table| {
        if let Some(slot) = table.find(role) {
            slot.hash = hash;
        }
    });
}

/// The version that holds the password of this hash, if the two are known to be in sync.
pub(crate) fn verified_version(role: pg_sys::Oid, hash: u64) -> Option<String> {
    with(|table| {
        let slot = table.find(role)?;
        let is_known = slot.state == State::InSync.to_byte() && !slot.in_doubt && slot.hash == hash;
        is_known.then(|| slot.version_id.get()).flatten()
    })
    .flatten()
}

/// Whether a role is to be looked at by the worker.
pub(crate) fn is_in_doubt(role: pg_sys::Oid) -> bool {
    with(|table| table.find(role).is_some_and(|slot| slot.in_doubt)).unwrap_or_default()
}

/// How often somebody else has to write what belongs to a role before it is said that they do so again and again.
const OFTEN: u8 = 3;

/// A role has drifted, and this, a digest of its current version, is what the secret was found with; or, if it
/// is the role's password that was changed, a digest of its hash. Returns whether it is time to say that somebody
/// rewrites it again and again: once, until the worker is started again.
pub(crate) fn rewritten(role: pg_sys::Oid, found: u64) -> bool {
    with(|table| {
        let Some(slot) = table.find(role) else { return false };
        if slot.other_version == found {
            return false;
        }
        slot.other_version = found;
        slot.rewritten = slot.rewritten.saturating_add(1);
        slot.rewritten == OFTEN
    })
    .unwrap_or_default()
}

/// Whether the log has said of a role that somebody rewrites it again and again.
pub(crate) fn is_rewritten_often(role: pg_sys::Oid) -> bool {
    with(|table| table.find(role).is_some_and(|slot| slot.rewritten >= OFTEN)).unwrap_or_default()
}

/// A look at a role's secret failed. What was known stays. Returns whether that is news.
pub(crate) fn failed(role: pg_sys::Oid, error: &str) -> bool {
    with(|table| {
        let Some(slot) = table.find(role) else { return true };
        let before = slot.last_error;
        slot.last_error.set(error);
        before.get() != slot.last_error.get()
    })
    .unwrap_or(true)
}

/// Forgets a role.
pub(crate) fn forget(role: pg_sys::Oid) {
    with(|table| {
        let Some(place) = table.place(role) else { return };
        let last = table.used() - 1;
        let announce = table.0.slots[place].announce;
        table.0.slots[place] = table.0.slots[last];
        table.0.keys[place] = table.0.keys[last];
        table.0.header.used -= 1;
        table.0.header.to_announce -= u32::from(announce);
    });
}

/// What is known of a role.
pub(crate) fn get(role: pg_sys::Oid) -> Option<RoleState> {
    with(|table| {
        table.find(role).map(|slot| RoleState {
            state: State::from_byte(slot.state),
            version_id: slot.version_id.get(),
            synced_at: (slot.synced_at != 0).then_some(slot.synced_at),
            last_error: slot.last_error.get(),
        })
    })
    .flatten()
}

/// How often a role's secret has been touched.
pub(crate) fn generation(role: pg_sys::Oid) -> Option<u32> {
    with(|table| table.find(role).map(|slot| slot.generation)).flatten()
}

/// The roles in doubt.
pub(crate) fn in_doubt() -> Vec<pg_sys::Oid> {
    with(|table| {
        let slots = table.roles().zip(&*table.0.slots);
        slots.filter(|(_, slot)| slot.in_doubt).map(|(role, _)| role).collect()
    })
    .unwrap_or_default()
}

/// Whether there were roles in doubt for which there was no place, since this was last asked.
pub(crate) fn take_overflowed() -> bool {
    with(|table| std::mem::take(&mut table.0.header.overflowed)).unwrap_or_default()
}

/// Whether account is kept of as many roles as there is place for.
pub(crate) fn is_full() -> bool {
    with(|table| table.used() == table.0.slots.len()).unwrap_or_default()
}

/// Whether there is anything to announce.
pub(crate) fn any_to_announce() -> bool {
    with(|table| table.0.header.to_announce > 0).unwrap_or_default()
}

/// The roles to be announced, which then no longer are, each with its state.
pub(crate) fn take_to_announce() -> Vec<(pg_sys::Oid, State)> {
    with(|table| {
        table.0.header.to_announce = 0;
        let used = table.used();
        let slots = table.0.keys[..used].iter().zip(&mut table.0.slots[..used]);
        let announced = slots.filter_map(|(role, slot)| {
            let state = State::from_byte(slot.state);
            std::mem::take(&mut slot.announce).then_some((pg_sys::Oid::from_u32(*role), state))
        });
        announced.collect()
    })
    .unwrap_or_default()
}
