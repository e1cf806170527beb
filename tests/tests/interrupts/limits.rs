//! How long things may take.

use std::time::Duration;

/// What the extension promises.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What it never exceeds, on however busy a machine.
pub const SOON: Duration = Duration::from_secs(2);

/// A machine that runs other things may take its time now and then: the best of so many tries.
const TRIES: usize = 3;

/// For what has no promise of its own, but is not to hang.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Tries until it takes less than [`AT_ONCE`].
pub fn at_once(what: &str, mut attempt: impl FnMut() -> Duration) {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let took = attempt();
        assert!(took < SOON, "{what} took {took:?}");
        seen.push(took);
        if took < AT_ONCE {
            println!("{what}: {seen:?}");
            return;
        }
    }
    panic!("{what} took longer than {AT_ONCE:?} each time: {seen:?}");
}
