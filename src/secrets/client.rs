//! The Secrets Manager client of this backend.

use secretlink_aws::{AwsError, Client, Settings};
use std::cell::RefCell;
use std::future::Future;

use crate::backend::process::io;
use crate::backend::process::wait::WaitEvent;
use crate::secrets::error::SecretsError;
use crate::settings;
use crate::stats;

/// How many clients are kept: one for each region and role of the foreign servers that a session uses,
/// and one for the settings.
const KEPT: usize = 8;

thread_local! {
    static CLIENTS: RefCell<Vec<Client>> = const { RefCell::new(Vec::new()) };
}

/// The client for the settings as they are now.
///
/// # Errors
/// A setting that was refused.
pub(crate) fn current() -> Result<Client, SecretsError> {
    Ok(with(settings::aws::current()?))
}

/// The client for these settings. Kept from call to call, since finding region and credentials takes
/// time.
pub(crate) fn with(settings: Settings) -> Client {
    CLIENTS.with_borrow_mut(|clients| {
        let kept = clients.iter().position(|client| *client.settings() == settings);
        let client = kept.map(|place| clients.remove(place));
        // The one used last comes last, and the first is let go.
        if client.is_none() && clients.len() == KEPT {
            clients.remove(0);
        }
        let client = client.unwrap_or_else(|| Client::new(settings).recorded_by(stats::recorder()));
        clients.push(client.clone());
        client
    })
}

/// Runs one call on the I/O thread and waits for it.
///
/// # Errors
/// Those of the call, and a setting that was refused.
pub(crate) fn call<T, F, Fut>(request: F) -> Result<T, SecretsError>
where
    T: Send + 'static,
    F: FnOnce(Client) -> Fut,
    Fut: Future<Output = Result<T, AwsError>> + Send + 'static,
{
    io::run(WaitEvent::SecretsManager, request(current()?))?.map_err(Into::into)
}
