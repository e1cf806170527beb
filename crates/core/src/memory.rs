//! Memory whose size others decide, and what is done when there is none left.
//!
//! Rust ends the process when an allocation fails, and Postgres then restarts every session of the
//! server. Postgres itself raises ERROR 53200, and the session goes on. So here:
//!
//! - **What others decide the size of** (rows, messages, query strings, files, answers of AWS) is allocated
//!   by the functions of this module, which can fail, or is bounded first.
//! - **What is small and bounded** is allocated as usual. Should that fail, [`Allocator`] gives up a
//!   [reserve](prepare), so that it succeeds after all, and [`is_low`] tells the thread that waits for the work to
//!   raise the ERROR. Nothing is begun without a full reserve.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use zeroizing_alloc::ZeroAlloc;

use crate::report::{Report, SqlState};

/// What is given up when small allocations fail: enough for all of them until somebody looks whether
/// memory [is low](is_low). Address space until then, and no more: nobody writes to it.
const RESERVE: usize = 16 << 20;

/// The largest allocation that the reserve is given up for. What may be larger has to be allocated in a
/// way that can fail.
const SMALL: usize = 8 << 20;

/// How much of the stack is had ahead, below the function that asks: more than our calls need. A stack that cannot grow
/// ends the process. Less than what Postgres leaves below the deepest of its own calls (STACK_DEPTH_SLOP).
const STACK: usize = 384 << 10;

/// Memory has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of memory")]
pub struct OutOfMemory {
    /// How many bytes were wanted, if that is known.
    pub bytes: Option<usize>,
}

impl OutOfMemory {
    /// An error for so many bytes that were wanted.
    pub fn of(bytes: usize) -> OutOfMemory {
        OutOfMemory { bytes: Some(bytes) }
    }
}

impl Report for OutOfMemory {
    fn sqlstate(&self) -> SqlState {
        OUT_OF_MEMORY
    }

    fn detail(&self) -> Option<String> {
        Some(format!("Failed on request of size {}.", self.bytes?))
    }
}

/// `out_of_memory`.
pub const OUT_OF_MEMORY: SqlState = SqlState::new("53200");

/// For what reads and writes: `ErrorKind::OutOfMemory` travels without an allocation.
impl From<OutOfMemory> for io::Error {
    fn from(_: OutOfMemory) -> io::Error {
        io::ErrorKind::OutOfMemory.into()
    }
}

/// Room for `count` items.
///
/// # Errors
/// If there is no memory for them.
pub fn room<T>(count: usize) -> Result<Vec<T>, OutOfMemory> {
    let mut room = Vec::new();
    room.try_reserve_exact(count).map_err(|_| OutOfMemory::of(count.saturating_mul(size_of::<T>())))?;
    Ok(room)
}

/// A copy of `bytes`.
///
/// # Errors
/// If there is no memory for it.
pub fn copy(bytes: &[u8]) -> Result<Vec<u8>, OutOfMemory> {
    let mut copy = room(bytes.len())?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}

/// A copy of the pieces, one after the other, as `concat` makes it.
///
/// # Errors
/// If there is no memory for it.
pub fn concat(pieces: &[&[u8]]) -> Result<Vec<u8>, OutOfMemory> {
    let mut all = room(pieces.iter().map(|piece| piece.len()).sum())?;
    pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    Ok(all)
}

/// A copy of the pieces with a separator between them, as `join` makes it.
///
/// # Errors
/// If there is no memory for it.
pub fn join(pieces: &[Vec<u8>], separator: &[u8]) -> Result<Vec<u8>, OutOfMemory> {
    let mut all = room(pieces.iter().map(|piece| piece.len() + separator.len()).sum())?;
    for (i, piece) in pieces.iter().enumerate() {
        all.extend_from_slice(if i == 0 { b"" } else { separator });
        all.extend_from_slice(piece);
    }
    Ok(all)
}

/// Adds `bytes` at the end of `to`.
///
/// # Errors
/// If there is no memory for them; then nothing was added.
pub fn append(to: &mut Vec<u8>, bytes: &[u8]) -> Result<(), OutOfMemory> {
    to.try_reserve(bytes.len()).map_err(|_| OutOfMemory::of(to.len() + bytes.len()))?;
    to.extend_from_slice(bytes);
    Ok(())
}

/// Looks whether there is room for so many bytes, for a library that is going to need about that much and
/// cannot fail. What other threads of the process take meanwhile is small.
///
/// # Errors
/// If there is not.
pub fn look_for(bytes: usize) -> Result<(), OutOfMemory> {
    let found = map(bytes)?;
    // SAFETY: just mapped, and nobody knows it.
    unsafe { libc::munmap(found, bytes.max(1)) };
    Ok(())
}

/// A new private mapping of so many bytes, which nobody else knows and nobody has written to.
fn map(bytes: usize) -> Result<*mut libc::c_void, OutOfMemory> {
    // SAFETY: a new mapping at a place that the operating system chooses.
    let mapped = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(null_mut(), bytes.max(1), access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if mapped == libc::MAP_FAILED { Err(OutOfMemory::of(bytes)) } else { Ok(mapped) }
}

/// The process's allocator: wipes what is freed, and has a [reserve](prepare).
pub struct Allocator(ZeroAlloc<System>);

impl Allocator {
    /// For `#[global_allocator]`.
    #[allow(clippy::new_without_default, reason = "a constant")]
    pub const fn new() -> Allocator {
        Allocator(ZeroAlloc(System))
    }
}

// SAFETY: `ZeroAlloc`, which keeps the contract, does the work; asking it again after a failure is allowed.
// Nothing here panics or allocates.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        unsafe {
            let memory = self.0.alloc(layout);
            if memory.is_null() && give_up_reserve(layout) { self.0.alloc(layout) } else { memory }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        unsafe {
            let memory = self.0.alloc_zeroed(layout);
            if memory.is_null() && give_up_reserve(layout) { self.0.alloc_zeroed(layout) } else { memory }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { self.0.dealloc(memory, layout) }
    }

    // `realloc` is the default's: a new block, a copy, and the old block wiped and freed.
}

/// The reserve: a mapping of its own, or null.
static KEPT: AtomicPtr<libc::c_void> = AtomicPtr::new(null_mut());

/// A small allocation failed since the reserve was made.
static LOW: AtomicBool = AtomicBool::new(false);

/// Gives the reserve back to the operating system. True if an allocation of this layout is to be tried
/// again: another thread may have given up the reserve just now.
#[cold]
fn give_up_reserve(layout: Layout) -> bool {
    if layout.size() > SMALL {
        return false;
    }
    LOW.store(true, Ordering::Release);
    let kept = KEPT.swap(null_mut(), Ordering::AcqRel);
    if !kept.is_null() {
        // SAFETY: a mapping of this size that nobody refers to: it was just taken out.
        unsafe { libc::munmap(kept, RESERVE) };
    }
    true
}

/// Makes the reserve if there is none. To be called before anything is begun, by the backend's own thread.
///
/// # Errors
/// If there is no room for it: then nothing is to be begun.
pub fn prepare() -> Result<(), OutOfMemory> {
    if KEPT.load(Ordering::Acquire).is_null() {
        grow_stack()?;
        let kept = map(RESERVE)?;
        KEPT.store(kept, Ordering::Release);
        LOW.store(false, Ordering::Release);
    }
    Ok(())
}

/// Has the stack grow to where our calls may need it: what is had is address space, which a fork inherits.
///
/// The operating system writes the byte there that makes the stack grow. It says so if there is no room; a
/// write of our own would end the process.
///
/// # Errors
/// If there is no room for it.
pub fn grow_stack() -> Result<(), OutOfMemory> {
    let mut here = 0_u8;
    let below = black_box(&raw mut here).wrapping_sub(STACK);
    // SAFETY: a call that writes one byte, or gives an error where it cannot. What is there belongs to the
    // stack and to no call in progress: it is far below the deepest one, and below where signal handlers write.
    let written = unsafe { libc::syscall(libc::SYS_getrandom, below, 1_usize, libc::GRND_NONBLOCK) };
    let no_room = written < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT);
    if no_room { Err(OutOfMemory::of(STACK)) } else { Ok(()) }
}

/// Whether the reserve was needed: what is under way is to end with [`OutOfMemory`].
pub fn is_low() -> bool {
    LOW.load(Ordering::Acquire)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than any machine has.
    const TOO_MUCH: usize = isize::MAX as usize / 2;

    #[test]
    fn too_much_is_an_error() {
        assert_eq!(room::<u16>(TOO_MUCH), Err(OutOfMemory::of(TOO_MUCH * 2)));
        assert_eq!(room::<u64>(usize::MAX), Err(OutOfMemory::of(usize::MAX)));
        assert_eq!(look_for(TOO_MUCH), Err(OutOfMemory::of(TOO_MUCH)));
        let error = OutOfMemory::of(12);
        assert_eq!((error.sqlstate().as_str(), error.to_string().as_str()), ("53200", "out of memory"));
        assert_eq!(error.detail().as_deref(), Some("Failed on request of size 12."));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::OutOfMemory);
    }

    #[test]
    fn what_fits_is_copied() {
        assert_eq!(copy(b"abc"), Ok(b"abc".to_vec()));
        assert_eq!(concat(&[b"a", b"", b"bc"]), Ok(b"abc".to_vec()));
        assert_eq!(join(&[b"a".to_vec(), b"".to_vec(), b"bc".to_vec()], b", "), Ok(b"a, , bc".to_vec()));
        assert_eq!(join(&[], b", "), Ok(Vec::new()));
        let mut bytes = b"a".to_vec();
        append(&mut bytes, b"bc").unwrap();
        assert_eq!(bytes, b"abc");
        assert_eq!(look_for(0), Ok(()));
        assert_eq!(look_for(1 << 24), Ok(()));
    }

    #[test]
    fn the_reserve_is_given_up_once_for_small_ones_only() {
        prepare().unwrap();
        assert!(!is_low());
        assert!(!give_up_reserve(Layout::new::<[u8; SMALL + 1]>()));
        assert!(!is_low());
        assert!(give_up_reserve(Layout::new::<u8>()));
        assert!(is_low());
        assert!(give_up_reserve(Layout::new::<u8>()), "it may have been given up for another one");
        prepare().unwrap();
        assert!(!is_low());
    }
}
