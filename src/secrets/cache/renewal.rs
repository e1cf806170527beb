//! Values in use are read again shortly before they are too old, so that nobody has to wait for that.

use secretlink_cache::{Ask, Wanted};
use secretlink_core::side_by_side;

use super::entry::{Entry, asking};
use super::flight::Flight;
use super::memory;
use crate::backend::process::io;
use crate::backend::process::wait::WaitEvent;
use crate::secrets::error::SecretsError;
use crate::settings;
use crate::stats::{self, Counter};

/// How many are read at once.
const AT_ONCE: usize = 16;

/// Reads again what is due, as far as it was read under the settings of the server. Returns whether there
/// may be more. What fails is tried again later, and told to the log if it is news.
///
/// # Errors
/// If nothing could even be tried.
pub(crate) fn renew() -> Result<bool, SecretsError> {
    let (settings, timing) = (settings::aws::current()?, settings::cache::timing());
    let asking = asking(&settings);
    let ask = Ask { wanted: &Wanted::Fresh, timing: &timing, asking: &asking };
    let request = |key: &_| Entry::of_key(key, &settings);
    let begun = memory::with(|store| store.renew(request, &ask, AT_ONCE, memory::now()));
    let begun: Vec<_> = begun
        .unwrap_or_default()
        .into_iter()
        .map(|(request, ticket)| (request, Flight::begin(ticket)))
        .collect();
    let more = begun.len() == AT_ONCE;
    if begun.is_empty() {
        return Ok(false);
    }
    let fetches: Vec<_> = begun.iter().map(|(request, _)| request.fetch(request.key.to_bytes())).collect();
    let came = io::run(WaitEvent::SecretsManager, side_by_side(fetches, |fetch| fetch))?;
    stats::add(Counter::CacheRenewals, begun.len() as u64);
    for ((request, flight), came) in begun.into_iter().zip(came) {
        flight.land(&request.key, &came, &ask);
    }
    Ok(more)
}
