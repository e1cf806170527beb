//! The HTTP client under the SDK.

use std::sync::{Arc, OnceLock};

use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// The client for everything: Secrets Manager, STS, container and instance metadata.
pub(crate) fn client() -> SharedHttpClient {
    SharedHttpClient::new(LazyTls(Arc::new(Clients {
        plain: Builder::new().pool_max_idle_per_host(KEEP_NO_CONNECTION).build_http(),
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

/// Sets TLS up at the first `https` request, not when a client is made, as the SDK would: that
/// loads and parses the system's root certificates, which a stand-in or a metadata endpoint on
/// plain `http` never needs. Every backend is a fresh process and would pay for it.
#[derive(Clone, Debug)]
struct LazyTls(Arc<Clients>);

#[derive(Debug)]
struct Clients {
    plain: SharedHttpClient,
    tls: OnceLock<SharedHttpClient>,
}

impl Clients {
    fn for_scheme_of(&self, uri: &str) -> &SharedHttpClient {
        if !uri.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:")) {
            return &self.plain;
        }
        self.tls.get_or_init(|| {
            Builder::new()
                .pool_max_idle_per_host(KEEP_NO_CONNECTION)
                .tls_provider(Provider::rustls(CryptoMode::Ring))
                .build_https()
        })
    }
}

impl HttpClient for LazyTls {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(ByScheme {
            clients: self.0.clone(),
            settings: settings.clone(),
            components: components.clone(),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.plain.connector_metadata()
    }
}

/// Chooses between the two clients when the request, and with it the scheme, is known.
#[derive(Debug)]
struct ByScheme {
    clients: Arc<Clients>,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for ByScheme {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.clients.for_scheme_of(request.uri());
        client.http_connector(&self.settings, &self.components).call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_only_for_https() {
        let clients = Clients { plain: Builder::new().build_http(), tls: OnceLock::new() };
        clients.for_scheme_of("http://https:443/");
        clients.for_scheme_of("/");
        assert!(clients.tls.get().is_none());
        clients.for_scheme_of("HTTPS://secretsmanager.us-east-1.amazonaws.com/");
        assert!(clients.tls.get().is_some());
    }
}
