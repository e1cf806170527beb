//! Settings of the cache of secrets.

use secretlink_cache::Timing;

use super::kind::{Context, Number, settings};

settings! {
    CACHE_SIZE: Number = Number::new(
        c"secretlink.cache_size",
        Context::SharedMemory,
        c"Memory for the cache of secrets.",
        c"Shared by all sessions if secretlink is preloaded, else of each session. 0 turns the cache off.",
        1024,
        0..=1_048_576,
    )
    .in_kilobytes();
    CACHE_TTL: Number = Number::new(
        c"secretlink.cache_ttl",
        Context::Reload,
        c"Time for which a cached secret is used before AWS is asked again.",
        c"0 asks each time, but once for all that ask at the same time.",
        300,
        0..=86_400,
    )
    .in_seconds();
    CACHE_MAX_STALE: Number = Number::new(
        c"secretlink.cache_max_stale",
        Context::Reload,
        c"Time for which a cached secret is used after secretlink.cache_ttl if AWS cannot be reached or throttles.",
        c"With 0, an old value is never used.",
        86_400,
        0..=2_592_000,
    )
    .in_seconds();
}

/// `secretlink.cache_size`, in bytes.
pub(crate) fn size() -> usize {
    usize::try_from(CACHE_SIZE.get()).unwrap_or(0) * 1024
}

/// `secretlink.cache_ttl` and `secretlink.cache_max_stale`
pub(crate) fn timing() -> Timing {
    Timing { ttl: CACHE_TTL.seconds(), max_stale: CACHE_MAX_STALE.seconds() }
}
