//! Rotations that sessions wait for, and the workers that carry them out, in shared memory.
//!
//! Nothing here is needed to be right after a crash, which ends every session that waits. What must not be
//! forgotten is in the table of runs, see [`super::history`].

use pgrx::pg_sys;
use secretlink_cache::SharedError;
use secretlink_core::Report;
use secretlink_rotation::Strategy;
use std::time::Duration;

use super::error::RotationError;
use crate::backend::process::shared_block::SharedBlock;
use crate::backend::process::shared_memory::{Shared, SharedData};
use crate::backend::process::short_text::ShortText;
use crate::backend::process::wait::WaitEvent;
use crate::backend::process::{server, shared_memory};
use crate::workers::doorbell;

/// How many sessions can wait at the same time.
const REQUESTS: usize = 32;
/// How many workers there can be: as many as `secretlink.rotation_workers` may allow.
const WORKERS: usize = 64;
/// Bytes of a secret's id (API reference, GetSecretValue, SecretId).
const SECRET_ID: usize = 2048;
/// Bytes of an answer.
const ANSWER: usize = 4000;
/// How long a worker may take from its start until it says that it is there.
const START: i64 = 20_000_000;

/// How far a request has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Free,
    Queued,
    Claimed,
    Answered,
}

impl State {
    fn from_byte(byte: u8) -> State {
        match byte {
            1 => State::Queued,
            2 => State::Claimed,
            3 => State::Answered,
            _ => State::Free,
        }
    }
}

#[derive(Clone, Copy)]
struct Slot {
    id: u64,
    state: u8,
    good: bool,
    /// The process that waits, 0 if it has gone.
    caller: i32,
    /// The process that has claimed it.
    worker: i32,
    since: pg_sys::TimestampTz,
    /// The run's row, 0 as long as there is none.
    run: i64,
    secret: ShortText<SECRET_ID>,
    strategy: ShortText<32>,
    master: ShortText<SECRET_ID>,
    answer: ShortText<ANSWER>,
}

impl Slot {
    fn is(&self, state: State) -> bool {
        State::from_byte(self.state) == state
    }

    fn answer(&mut self, good: bool, answer: &str) {
        self.good = good;
        self.answer.set(answer);
        // Nobody reads it if nobody waits.
        self.state = if self.caller == 0 { State::Free as u8 } else { State::Answered as u8 };
    }
}

#[derive(Clone, Copy)]
struct Registry {
    last_id: u64,
    /// When there may be something to do besides requests. Zero, at the server's start, is long over.
    look_at: pg_sys::TimestampTz,
    /// When a worker was started that has not said yet that it is there; 0 if there is none.
    starting: pg_sys::TimestampTz,
    /// Schedules whose time had come when somebody looked last.
    backlog: u32,
    workers: [i32; WORKERS],
    slots: [Slot; REQUESTS],
}

// SAFETY: plain data. All zeros is an empty registry.
unsafe impl SharedData for Registry {}

static REGISTRY: Shared<Registry> = Shared::new(c"secretlink rotations");
/// Wakes those who wait. It holds no data.
static ANSWERS: SharedBlock = SharedBlock::new(c"secretlink rotation answers");

/// Has the memory made. To be called while the library is preloaded.
pub(crate) fn init() {
    shared_memory::install(
        || {
            REGISTRY.request();
            ANSWERS.request(size_of::<u64>());
        },
        || {
            REGISTRY.attach();
            ANSWERS.attach();
        },
    );
}

/// Whether the library was preloaded.
pub(crate) fn is_shared() -> bool {
    ANSWERS.is_attached()
}

fn with<R>(f: impl FnOnce(&mut Registry) -> R) -> Option<R> {
    REGISTRY.with(f)
}

/// What a session asks for.
#[derive(Clone, Debug)]
pub(crate) struct RotationRequest {
    /// The secret.
    pub secret: String,
    /// How the secret is to be rotated.
    pub strategy: Option<Strategy>,
    /// The master's secret.
    pub master: Option<String>,
}

/// A request that this session waits for. It is left when this is dropped, as by an ERROR; a rotation
/// that has begun goes on.
pub(crate) struct Waiting(u64);

impl Waiting {
    /// Asks for a rotation.
    ///
    /// # Errors
    /// If there is no room.
    pub(crate) fn begin(request: &RotationRequest) -> Result<Waiting, RotationError> {
        let (caller, now) = (server::process_id(), server::clock());
        let id = with(|registry| {
            let slot = registry.slots.iter_mut().find(|slot| slot.is(State::Free))?;
            registry.last_id += 1;
            slot.id = registry.last_id;
            slot.state = State::Queued as u8;
            slot.caller = caller;
            slot.worker = 0;
            slot.since = now;
            slot.run = 0;
            slot.secret.set(&request.secret);
            slot.strategy.set(request.strategy.map_or("", Strategy::as_str));
            slot.master.set(request.master.as_deref().unwrap_or_default());
            Some(slot.id)
        });
        let id = id.ok_or(RotationError::NotPreloaded)?.ok_or(RotationError::TooMany)?;
        doorbell::ROTATION.ring();
        Ok(Waiting(id))
    }

    /// Waits for the answer. Interrupts act here.
    pub(crate) fn answer(&self) -> Result<String, SharedError> {
        let answer = loop {
            let answer = with(|registry| {
                let slot = registry.slots.iter_mut().find(|slot| slot.id == self.0)?;
                slot.is(State::Answered).then(|| (slot.good, slot.answer.get().unwrap_or_default()))
            });
            match answer.flatten() {
                Some(answer) => break answer,
                None => ANSWERS.wait(Duration::from_secs(1), WaitEvent::Rotation),
            }
        };
        ANSWERS.end_wait();
        match answer {
            (true, version_id) => Ok(version_id),
            (false, report) => Err(SharedError::from_bytes(report.as_bytes())),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        with(|registry| {
            for slot in registry.slots.iter_mut().filter(|slot| slot.id == self.0) {
                leave(slot);
            }
        });
    }
}

fn leave(slot: &mut Slot) {
    slot.caller = 0;
    if !slot.is(State::Claimed) {
        slot.state = State::Free as u8;
        slot.id = 0;
    }
}

/// Notes that this process ends, and waits for nothing any more.
pub(crate) fn leave_all() {
    let caller = server::process_id();
    with(|registry| {
        for slot in registry.slots.iter_mut().filter(|slot| !slot.is(State::Free) && slot.caller == caller) {
            leave(slot);
        }
    });
}

/// Takes the request that has waited longest, for this worker to carry out.
pub(crate) fn claim() -> Option<(u64, RotationRequest)> {
    let worker = server::process_id();
    with(|registry| {
        let queued = registry.slots.iter_mut().filter(|slot| slot.is(State::Queued));
        let slot = queued.min_by_key(|slot| slot.id)?;
        slot.state = State::Claimed as u8;
        slot.worker = worker;
        let request = RotationRequest {
            secret: slot.secret.get().unwrap_or_default(),
            strategy: slot.strategy.get().and_then(|name| Strategy::parse(&name)),
            master: slot.master.get(),
        };
        Some((slot.id, request))
    })
    .flatten()
}

/// A request is carried out by this run: the end of that one answers it.
pub(crate) fn attach_to_run(id: u64, run: i64) {
    with(|registry| {
        for slot in registry.slots.iter_mut().filter(|slot| slot.id == id) {
            slot.run = run;
        }
    });
}

/// Answers a request.
pub(crate) fn answer(id: u64, result: Result<&str, &dyn Report>) {
    answer_where(result, |slot| slot.id == id);
}

/// Answers the sessions that wait for a run.
pub(crate) fn answer_run(run: i64, result: Result<&str, &dyn Report>) {
    answer_where(result, |slot| slot.run == run);
}

fn answer_where(result: Result<&str, &dyn Report>, is_it: impl Fn(&Slot) -> bool) {
    let (good, answer) = match result {
        Ok(version_id) => (true, version_id.to_owned()),
        Err(error) => (false, String::from_utf8_lossy(&SharedError::bytes_of(error)).into_owned()),
    };
    with(|registry| {
        for slot in registry.slots.iter_mut().filter(|slot| slot.is(State::Claimed) && is_it(slot)) {
            slot.answer(good, &answer);
        }
    });
    ANSWERS.wake_all();
}

/// The runs that sessions wait for while the worker that began them has gone.
pub(crate) fn orphans() -> Vec<i64> {
    let orphans = with(|registry| {
        let workers = registry.workers;
        let waits =
            |slot: &&Slot| slot.is(State::Claimed) && slot.run != 0 && !workers.contains(&slot.worker);
        registry.slots.iter().filter(waits).map(|slot| slot.run).collect()
    });
    orphans.unwrap_or_default()
}

/// Answers all for whom no worker is at work: there is nothing to keep their rotations in.
pub(crate) fn answer_all(error: &dyn Report) {
    let answer = String::from_utf8_lossy(&SharedError::bytes_of(error)).into_owned();
    with(|registry| {
        let workers = registry.workers;
        let is_left = |slot: &&mut Slot| {
            slot.is(State::Queued) || slot.is(State::Claimed) && !workers.contains(&slot.worker)
        };
        for slot in registry.slots.iter_mut().filter(is_left) {
            slot.answer(false, &answer);
        }
    });
    ANSWERS.wake_all();
}

/// Notes that this process is a worker from now on.
pub(crate) fn worker_begins() {
    let worker = server::process_id();
    with(|registry| {
        registry.starting = 0;
        if let Some(place) = registry.workers.iter_mut().find(|place| **place == 0) {
            *place = worker;
        }
    });
}

/// Notes that this worker ends. What it had not begun yet is not done; what it had is taken up by another. What
/// was known of schedules is not known any more if the worker has not `finished`, or was the last one: the next
/// one that looks does so when it is time.
pub(crate) fn worker_ends(finished: bool) {
    let worker = server::process_id();
    let error = String::from_utf8_lossy(&SharedError::bytes_of(&RotationError::WorkerEnded)).into_owned();
    with(|registry| {
        registry.starting = 0;
        for place in registry.workers.iter_mut().filter(|place| **place == worker) {
            *place = 0;
        }
        if !finished || registry.workers.iter().all(|place| *place == 0) {
            registry.backlog = 0;
        }
        for slot in registry.slots.iter_mut() {
            if slot.is(State::Claimed) && slot.worker == worker && slot.run == 0 {
                slot.answer(false, &error);
            }
        }
    });
    ANSWERS.wake_all();
    doorbell::ROTATION.ring();
}

/// There may be something to do at this time, and not before that as far as is known now.
pub(crate) fn set_look_at(time: pg_sys::TimestampTz) {
    with(|registry| registry.look_at = time);
}

/// There may be something to do at this time, too.
pub(crate) fn look_at_latest(time: pg_sys::TimestampTz) {
    with(|registry| registry.look_at = registry.look_at.min(time));
}

/// Notes for how many schedules the time has come, those that are being carried out among them.
pub(crate) fn set_backlog(count: usize) {
    with(|registry| registry.backlog = u32::try_from(count).unwrap_or(u32::MAX));
}

/// What the launcher has to know.
pub(crate) struct Work {
    /// Requests that nobody carries out yet.
    pub queued: usize,
    /// Workers there are, the one that starts among them.
    pub workers: usize,
    /// Whether one is just starting.
    pub starting: bool,
    /// Schedules whose time has come.
    pub backlog: usize,
    /// When to look for other work.
    pub look_at: pg_sys::TimestampTz,
}

/// How things stand.
pub(crate) fn work() -> Work {
    let now = server::clock();
    with(|registry| {
        if registry.starting != 0 && now - registry.starting > START {
            registry.starting = 0;
        }
        let starting = registry.starting != 0;
        Work {
            queued: registry.slots.iter().filter(|slot| slot.is(State::Queued)).count(),
            workers: registry.workers.iter().filter(|worker| **worker != 0).count() + usize::from(starting),
            starting,
            backlog: registry.backlog as usize,
            look_at: registry.look_at,
        }
    })
    .unwrap_or(Work {
        queued: 0,
        workers: 0,
        starting: false,
        backlog: 0,
        look_at: pg_sys::TimestampTz::MAX,
    })
}

/// A worker has been started.
pub(crate) fn note_start() {
    let now = server::clock();
    with(|registry| registry.starting = now);
}

/// No worker could be started.
pub(crate) fn worker_did_not_start() {
    with(|registry| registry.starting = 0);
}

/// Nobody will carry out what has waited longer than a worker may take to start.
pub(crate) fn give_up_waiting() {
    let now = server::clock();
    let error = String::from_utf8_lossy(&SharedError::bytes_of(&RotationError::NoWorker)).into_owned();
    let any = with(|registry| {
        let starved = |slot: &&mut Slot| slot.is(State::Queued) && now - slot.since > 2 * START;
        registry.slots.iter_mut().filter(starved).map(|slot| slot.answer(false, &error)).count() > 0
    });
    if any.unwrap_or_default() {
        ANSWERS.wake_all();
    }
}
