//! What the calls to every service share: settings, HTTP, region, credentials, and a time limit.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use aws_config::{Region, SdkConfig};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use secretlink_core::memory;
use tokio::sync::OnceCell;

use crate::call::Call;
use crate::conversation::Conversation;
use crate::http::HyperClient;
use crate::recorder::Recorder;
use crate::{AwsError, Settings, config, http, profile, region};

/// AWS under one set of settings: what the calls to every service share.
///
/// Cheap to make and to clone. The first call looks for region and credentials; what it finds is kept
/// (and credentials renewed when they expire) until this and its clones are gone. Must be used inside
/// a tokio runtime with I/O and time.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// The moment by which the client's calls must be over, if that is earlier than their own time limit.
    deadline: Option<Instant>,
    /// Who is told of them.
    recorder: Option<&'static dyn Recorder>,
    /// The connections that the calls of this client share, if the calls follow each other.
    conversation: Option<Arc<Conversation>>,
}

struct Inner {
    settings: Settings,
    http: HyperClient,
    /// The region of the settings, the environment or the profile.
    configured_region: OnceCell<Option<Region>>,
    /// The region of the instance.
    instance_region: OnceCell<Option<Region>>,
    config: OnceCell<SdkConfig>,
    /// The clients of Secrets Manager, by region.
    secrets_manager: Mutex<HashMap<String, aws_sdk_secretsmanager::Client>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

/// About what a call needs at most, TLS with the certificates of an operating system included.
const A_CALL: usize = 64 << 20;

impl Client {
    /// Does no I/O, and does not look at the settings yet: bad ones are reported by the first call.
    pub fn new(settings: Settings) -> Client {
        let inner = Inner {
            http: http::client(settings.ca_bundle.clone()),
            settings,
            configured_region: OnceCell::new(),
            instance_region: OnceCell::new(),
            config: OnceCell::new(),
            secrets_manager: Mutex::default(),
        };
        Client { inner: Arc::new(inner), deadline: None, recorder: None, conversation: None }
    }

    /// The client for calls that follow each other: they use the same connections, which end when it and its
    /// clones are gone. Its calls must do or say the same if they are sent twice.
    #[must_use]
    pub fn in_conversation(&self) -> Client {
        let http = self.inner.http.keeping().shared();
        let conversation = Arc::new(Conversation { http, secrets_manager: Mutex::default() });
        Client { conversation: Some(conversation), ..self.clone() }
    }

    /// The client, with each of its calls told to `recorder` when it is over.
    #[must_use]
    pub fn recorded_by(self, recorder: &'static dyn Recorder) -> Client {
        Client { recorder: Some(recorder), ..self }
    }

    /// The client, with a limit on the time of all its calls together.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Client {
        Client { deadline: Some(deadline), ..self.clone() }
    }

    /// The settings it was made with.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Bounds a call as a whole, and has it recorded. The SDK's own timeouts begin only once there are
    /// credentials.
    pub(crate) async fn in_time<T>(
        &self,
        call: &Call,
        work: impl Future<Output = Result<T, AwsError>>,
    ) -> Result<T, AwsError> {
        let recording = call.recording(self.recorder);
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let limit = self.inner.settings.request_timeout;
        let work = async {
            // The HTTP client, TLS and the SDK cannot fail for want of memory.
            memory::look_for(A_CALL)?;
            work.await
        };
        let result = tokio::time::timeout(left.map_or(limit, |left| left.min(limit)), work)
            .await
            .unwrap_or_else(|_| Err(call.timed_out()));
        recording.over(&result);
        result
    }

    /// The region to ask, and everything else but the endpoint.
    pub(crate) async fn region_and_config(
        &self,
        arn_region: Option<&str>,
    ) -> Result<(Region, &SdkConfig), AwsError> {
        self.inner.settings.validate()?;
        let configured = self.configured_region().await?;
        let region = match (arn_region, configured) {
            (Some(region), _) => Region::new(region.to_owned()),
            (None, Some(region)) => region.clone(),
            (None, None) => {
                let http = self.inner.http.shared();
                let found = self.inner.instance_region.get_or_init(|| region::of_instance(&http)).await;
                found.clone().ok_or(AwsError::NoRegion)?
            }
        };
        let config = self.config(configured.unwrap_or(&region)).await?;
        Ok((region, config))
    }

    /// Who named the region that is asked for a secret without one of its own.
    pub(crate) async fn region_source(&self) -> &'static str {
        match self.configured_region().await {
            Ok(Some(_)) => region::source(&self.inner.settings).await,
            _ => "instance metadata",
        }
    }

    /// The client, with nobody told of its calls.
    pub(crate) fn unrecorded(&self) -> Client {
        Client { recorder: None, ..self.clone() }
    }

    async fn configured_region(&self) -> Result<Option<&Region>, AwsError> {
        let settings = &self.inner.settings;
        let configured =
            async || Ok::<_, AwsError>(region::configured(settings, profile::files(settings)?).await);
        Ok(self.inner.configured_region.get_or_try_init(configured).await?.as_ref())
    }

    /// The SDK's configuration, but for region and endpoint. `region` is where STS is asked, if it is: the configured
    /// one, whichever secret happens to be read first.
    async fn config(&self, region: &Region) -> Result<&SdkConfig, AwsError> {
        let load = async || {
            let (settings, http) = (&self.inner.settings, self.inner.http.shared());
            Ok::<_, AwsError>(config::load(settings, profile::files(settings)?, region.clone(), http).await)
        };
        self.inner.config.get_or_try_init(load).await
    }

    /// The clients of Secrets Manager made so far, by region.
    pub(crate) fn secrets_manager_clients(&self) -> &Mutex<HashMap<String, aws_sdk_secretsmanager::Client>> {
        self.conversation.as_ref().map_or(&self.inner.secrets_manager, |kept| &kept.secrets_manager)
    }

    /// The HTTP client that keeps connections from one call to the next, if this client has one.
    pub(crate) fn kept_http(&self) -> Option<SharedHttpClient> {
        self.conversation.as_ref().map(|kept| kept.http.clone())
    }
}
