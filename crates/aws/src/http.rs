//! The HTTP client under the SDK.

use std::sync::{Arc, OnceLock};

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use crate::{AwsError, ca_bundle, proxy};

/// The client for everything: Secrets Manager, STS, container and instance metadata. `ca_bundle` is
/// `secretlink.ca_bundle`.
pub(crate) fn client(ca_bundle: Option<String>) -> SharedHttpClient {
    SharedHttpClient::new(ByScheme(Arc::new(Clients {
        ca_bundle,
        plain: OnceLock::new(),
        tls: OnceLock::new(),
    })))
}

/// Every connection ends with its response.
///
/// An idle connection keeps its read buffer, and with it the secret of the last response, for as
/// long as it stays in the pool. Without a pool the connection is dropped once the body is read,
/// and the allocator wipes what it frees. Unlike a `Connection: close` header this also holds for
/// HTTP/2, which TLS may negotiate. A backend fetches a secret now and then, not in a loop: the
/// handshake saved would not be worth it.
const KEEP_NO_CONNECTION: usize = 0;

/// One client for `http`, one for `https`, each made at the first request that needs it, not before, as
/// the SDK would: TLS loads and parses the system's root certificates, which a stand-in or a metadata
/// endpoint on plain `http` never needs. Every backend is a fresh process and would pay for it.
#[derive(Clone, Debug)]
struct ByScheme(Arc<Clients>);

#[derive(Debug)]
struct Clients {
    ca_bundle: Option<String>,
    plain: OnceLock<SharedHttpClient>,
    tls: OnceLock<SharedHttpClient>,
}

impl Clients {
    fn for_scheme_of(&self, uri: &str) -> Result<&SharedHttpClient, AwsError> {
        let is_tls = uri.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        let made = if is_tls { &self.tls } else { &self.plain };
        if let Some(client) = made.get() {
            return Ok(client);
        }
        // What fails is tried anew next time: a file may be there then.
        let client = if is_tls { tls_client(self.ca_bundle.as_deref())? } else { plain_client()? };
        Ok(made.get_or_init(|| client))
    }
}

fn plain_client() -> Result<SharedHttpClient, AwsError> {
    let proxy = proxy::from_environment(proxy::Scheme::Http)?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        connector(settings, components, &proxy).build_http()
    }))
}

fn tls_client(ca_bundle: Option<&str>) -> Result<SharedHttpClient, AwsError> {
    let proxy = proxy::from_environment(proxy::Scheme::Https)?;
    let context = ca_bundle::tls_context(ca_bundle)?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        connector(settings, components, &proxy)
            .tls_provider(Provider::rustls(CryptoMode::Ring))
            .tls_context(context.clone())
            .build()
    }))
}

fn connector(
    settings: Option<&HttpConnectorSettings>,
    components: Option<&RuntimeComponents>,
    proxy: &ProxyConfig,
) -> ConnectorBuilder {
    let mut builder =
        Connector::builder().pool_max_idle_per_host(KEEP_NO_CONNECTION).proxy_config(proxy.clone());
    builder.set_connector_settings(settings.cloned());
    builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
    builder
}

impl HttpClient for ByScheme {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Chooser {
            clients: self.0.clone(),
            settings: settings.clone(),
            components: components.clone(),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        Some(ConnectorMetadata::new("hyper", Some("1.x".into())))
    }
}

/// Chooses between the two clients when the request, and with it the scheme, is known.
#[derive(Debug)]
struct Chooser {
    clients: Arc<Clients>,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for Chooser {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match self.clients.for_scheme_of(request.uri()) {
            Ok(client) => client.http_connector(&self.settings, &self.components).call(request),
            // `Call` finds it again among the sources of the SDK's error.
            Err(error) => HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_only_for_https() {
        let clients = Clients { ca_bundle: None, plain: OnceLock::new(), tls: OnceLock::new() };
        clients.for_scheme_of("http://https:443/").unwrap();
        clients.for_scheme_of("/").unwrap();
        assert!(clients.tls.get().is_none());
        clients.for_scheme_of("HTTPS://secretsmanager.us-east-1.amazonaws.com/").unwrap();
        assert!(clients.tls.get().is_some());
    }
}
