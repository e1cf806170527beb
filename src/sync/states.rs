//! What is known of each synced role, shared by all processes of the server.
//!
//! Nothing here is needed to be right after a crash: the memory is empty then, and the background
//! worker looks at every synced role when it starts.

use pgrx::pg_sys;

use crate::backend::process::server;
use crate::backend::process::shared_memory::{Shared, SharedData};

/// How many roles are kept account of. Of more, only those in doubt are, as they come.
const MAX_ROLES: usize = 2048;
/// Bytes of a version id: at most 64 (API reference, PutSecretValue, ClientRequestToken).
const VERSION_ID: usize = 64;
/// Bytes kept of an error message.
const ERROR: usize = 240;

/// How a role and its secret stand to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
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
}

impl State {
    /// As `role_sync` shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::InSync => "in_sync",
            State::Pending => "pending",
            State::Drifted => "drifted",
            State::NoPassword => "no_password",
        }
    }

    fn to_byte(self) -> u8 {
        match self {
            State::Unknown => 0,
            State::InSync => 1,
            State::Pending => 2,
            State::Drifted => 3,
            State::NoPassword => 4,
        }
    }

    fn from_byte(byte: u8) -> State {
        match byte {
            1 => State::InSync,
            2 => State::Pending,
            3 => State::Drifted,
            4 => State::NoPassword,
            _ => State::Unknown,
        }
    }
}

/// A short text in shared memory.
#[derive(Clone, Copy)]
struct ShortText<const N: usize> {
    length: u16,
    bytes: [u8; N],
}

impl<const N: usize> ShortText<N> {
    fn set(&mut self, text: &str) {
        let mut end = text.len().min(N);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        self.length = end as u16;
    }

    fn get(&self) -> Option<String> {
        let text = self.bytes.get(..usize::from(self.length))?;
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    }
}

#[derive(Clone, Copy)]
struct Slot {
    role: pg_sys::Oid,
    state: u8,
    in_doubt: bool,
    announce: bool,
    /// Whether drift was announced and its end was not.
    drift_told: bool,
    /// To be looked at once more after the next time.
    twice: bool,
    /// Counts changes, so that who looked at the secret without a lock can tell whether that counts.
    generation: u32,
    synced_at: pg_sys::TimestampTz,
    version_id: ShortText<VERSION_ID>,
    last_error: ShortText<ERROR>,
}

#[derive(Clone, Copy)]
struct Table {
    /// Roles were in doubt for which there was no slot.
    overflowed: bool,
    used: u32,
    slots: [Slot; MAX_ROLES],
}

// SAFETY: plain data. All zeros is an empty table.
unsafe impl SharedData for Table {}

static TABLE: Shared<Table> = Shared::new(c"secretlink roles");

/// Asks for the memory.
pub fn request() {
    TABLE.request();
}

/// Finds the memory.
pub fn attach() {
    TABLE.attach();
}

/// Whether the library was preloaded.
pub fn are_shared() -> bool {
    TABLE.is_attached()
}

/// What is known of a role.
#[derive(Clone, Debug, Default)]
pub struct RoleState {
    /// Its state.
    pub state: State,
    /// The version that was last found or made to hold its password.
    pub version_id: Option<String>,
    /// When that was.
    pub synced_at: Option<pg_sys::TimestampTz>,
    /// Why it is not in sync.
    pub last_error: Option<String>,
}

impl Table {
    fn slots(&mut self) -> &mut [Slot] {
        let used = (self.used as usize).min(MAX_ROLES);
        &mut self.slots[..used]
    }

    fn find(&mut self, role: pg_sys::Oid) -> Option<&mut Slot> {
        self.slots().iter_mut().find(|slot| slot.role == role)
    }

    /// The slot of a role, a new one if need be. `None` if there is no place, which is remembered.
    fn slot(&mut self, role: pg_sys::Oid) -> Option<&mut Slot> {
        if self.free_slot(role).is_none() {
            self.overflowed = true;
        }
        self.find(role)
    }

    /// The slot of a role, a new one if need be; `None` if there is no place.
    fn free_slot(&mut self, role: pg_sys::Oid) -> Option<&mut Slot> {
        let used = self.used as usize;
        let place = match self.slots().iter().position(|slot| slot.role == role) {
            Some(place) => place,
            None if used < MAX_ROLES => {
                self.used += 1;
                self.slots[used] = Slot { role, ..Slot::EMPTY };
                used
            }
            // One that is in sync can be found out about again.
            None => {
                let place = self.slots().iter().position(|slot| !slot.in_doubt && !slot.announce)?;
                self.slots[place] = Slot { role, ..Slot::EMPTY };
                place
            }
        };
        self.slots.get_mut(place)
    }
}

impl Slot {
    const EMPTY: Slot = Slot {
        role: pg_sys::Oid::INVALID,
        state: 0,
        in_doubt: false,
        announce: false,
        drift_told: false,
        twice: false,
        generation: 0,
        synced_at: 0,
        version_id: ShortText { length: 0, bytes: [0; VERSION_ID] },
        last_error: ShortText { length: 0, bytes: [0; ERROR] },
    };

    fn doubt(&mut self) {
        self.in_doubt = true;
        self.generation = self.generation.wrapping_add(1);
    }
}

fn with<T>(f: impl FnOnce(&mut Table) -> T) -> Option<T> {
    TABLE.with(f)
}

/// A role's secret is about to be changed: until [`settled`], it is in doubt.
pub fn begin(role: pg_sys::Oid) {
    with(|table| {
        if let Some(slot) = table.slot(role) {
            slot.doubt();
            slot.state = State::Pending.to_byte();
        }
    });
}

/// A role's secret is to be looked at by the worker.
pub fn doubt(role: pg_sys::Oid) {
    with(|table| {
        if let Some(slot) = table.slot(role) {
            slot.doubt();
        }
    });
}

/// The same, and once more at the next pass: a request whose sender gave up may still land after the first
/// look.
pub fn doubt_twice(role: pg_sys::Oid) {
    with(|table| {
        if let Some(slot) = table.slot(role) {
            slot.doubt();
            slot.twice = true;
        }
    });
}

/// As [`doubt`] for each of `roles`, from the last one on, as long as there is room; the others stay.
pub fn doubt_as_many(roles: &mut Vec<pg_sys::Oid>) {
    with(|table| {
        while let Some(&role) = roles.last() {
            let Some(slot) = table.free_slot(role) else { break };
            slot.doubt();
            roles.pop();
        }
    });
}

/// It is known how a role stands. Only `in_sync` and `no_password` are beyond doubt: any other may have
/// changed when the worker looks again. Returns the state before.
///
/// What the DBA wants to hear of, drift and its end, is marked to be announced.
pub fn settled(role: pg_sys::Oid, state: State, version_id: Option<&str>, error: Option<&str>) -> State {
    let now = server::clock();
    with(|table| {
        let Some(slot) = table.slot(role) else { return State::Unknown };
        let before = State::from_byte(slot.state);
        if (state == State::Drifted && !slot.drift_told) || (state == State::InSync && slot.drift_told) {
            slot.drift_told = !slot.drift_told;
            slot.announce = true;
        }
        slot.state = state.to_byte();
        let once_more = std::mem::take(&mut slot.twice);
        slot.in_doubt = once_more || !matches!(state, State::InSync | State::NoPassword);
        slot.generation = slot.generation.wrapping_add(1);
        if let Some(version_id) = version_id {
            slot.version_id.set(version_id);
        }
        slot.last_error.set(error.unwrap_or_default());
        if state == State::InSync {
            slot.synced_at = now;
        }
        before
    })
    .unwrap_or_default()
}

/// A look at a role's secret failed. What was known stays. Returns whether that is news.
pub fn failed(role: pg_sys::Oid, error: &str) -> bool {
    with(|table| {
        let Some(slot) = table.find(role) else { return true };
        let before = slot.last_error;
        slot.last_error.set(error);
        before.get() != slot.last_error.get()
    })
    .unwrap_or(true)
}

/// Forgets a role.
pub fn forget(role: pg_sys::Oid) {
    with(|table| {
        let used = (table.used as usize).min(MAX_ROLES);
        if let Some(place) = table.slots().iter().position(|slot| slot.role == role) {
            table.slots[place] = table.slots[used - 1];
            table.used -= 1;
        }
    });
}

/// What is known of a role.
pub fn get(role: pg_sys::Oid) -> Option<RoleState> {
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
pub fn generation(role: pg_sys::Oid) -> Option<u32> {
    with(|table| table.find(role).map(|slot| slot.generation)).flatten()
}

/// The roles in doubt.
pub fn in_doubt() -> Vec<pg_sys::Oid> {
    with(|table| table.slots().iter().filter(|slot| slot.in_doubt).map(|slot| slot.role).collect())
        .unwrap_or_default()
}

/// Whether there were roles in doubt for which there was no place, since this was last asked.
pub fn take_overflowed() -> bool {
    with(|table| std::mem::take(&mut table.overflowed)).unwrap_or_default()
}

/// Whether there is anything to announce.
pub fn any_to_announce() -> bool {
    with(|table| table.slots().iter().any(|slot| slot.announce)).unwrap_or_default()
}

/// The roles to be announced, which then no longer are, each with its state.
pub fn take_to_announce() -> Vec<(pg_sys::Oid, State)> {
    with(|table| {
        let slots = table.slots().iter_mut().filter(|slot| slot.announce);
        slots
            .map(|slot| {
                slot.announce = false;
                (slot.role, State::from_byte(slot.state))
            })
            .collect()
    })
    .unwrap_or_default()
}
