//! The HTTP client under the SDK.
//!
//! The SDK's own client has rustls, which refuses certificates that boto3 and the AWS CLI take, such as those of
//! proxies that look into TLS; and it keeps connections. The client here has OpenSSL, and keeps nothing, but for calls
//! that follow each other, see `conversation.rs`.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::header::PROXY_AUTHORIZATION;
use ::http::{Request, Response, Uri};
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector as TcpConnector};
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::{TokioExecutor, TokioIo};
use openssl::ssl::SslContext;
use secretlink_tls::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use crate::conversation::{self, BoxError, Kept, Open};
use crate::proxy::{self, Proxies, Scheme};
use crate::{AwsError, trust};

/// The client for everything: Secrets Manager, STS, container and instance metadata. `ca_bundle` is
/// `secretlink.ca_bundle`.
pub(crate) fn client(ca_bundle: Option<String>) -> HyperClient {
    let shared = Shared {
        ca_bundle,
        tls: OnceLock::new(),
        http_proxies: OnceLock::new(),
        https_proxies: OnceLock::new(),
    };
    HyperClient { shared: Arc::new(shared), kept: None }
}

/// The HTTP client. Its clones share what they have made.
#[derive(Clone)]
pub(crate) struct HyperClient {
    shared: Arc<Shared>,
    /// The connections that calls which follow each other share.
    kept: Option<Kept>,
}

impl HyperClient {
    /// A client that keeps its connections, until it and its clones are gone.
    pub(crate) fn keeping(&self) -> HyperClient {
        HyperClient { kept: Some(Kept::default()), ..self.clone() }
    }

    /// The client in the form that the SDK takes.
    pub(crate) fn shared(&self) -> SharedHttpClient {
        SharedHttpClient::new(self.clone())
    }
}

impl fmt::Debug for HyperClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HyperClient").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// What is made at the first request that needs it. What fails is tried anew next time: a file may be
/// there then.
struct Shared {
    ca_bundle: Option<String>,
    tls: OnceLock<SslContext>,
    http_proxies: OnceLock<Proxies>,
    https_proxies: OnceLock<Proxies>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy may have a password.
        f.debug_struct("Shared").field("ca_bundle", &self.ca_bundle).finish_non_exhaustive()
    }
}

impl Shared {
    /// How to get to `uri`.
    fn route(&self, uri: &Uri) -> Result<Route, AwsError> {
        let is_tls = uri.scheme_str().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let (scheme, proxies) =
            if is_tls { (Scheme::Https, &self.https_proxies) } else { (Scheme::Http, &self.http_proxies) };
        let proxies = get_or_try_init(proxies, || proxy::from_environment(scheme))?;
        let proxy = proxies.intercept(uri);
        let proxy_has_tls = proxy.as_ref().is_some_and(|proxy| proxy.uri().scheme_str() == Some("https"));
        let tls = match is_tls || proxy_has_tls {
            true => Some(get_or_try_init(&self.tls, || trust::context(self.ca_bundle.as_deref()))?.clone()),
            false => None,
        };
        Ok(Route { is_tls, proxy, tls, connect_timeout: None })
    }
}

fn get_or_try_init<T>(
    cell: &OnceLock<T>,
    init: impl FnOnce() -> Result<T, AwsError>,
) -> Result<&T, AwsError> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = init()?;
    Ok(cell.get_or_init(|| value))
}

impl HttpClient for HyperClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            client: self.clone(),
            connect_timeout: settings.connect_timeout(),
            read_timeout: settings.read_timeout(),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        Some(ConnectorMetadata::new("hyper", Some("1.x".into())))
    }
}

#[derive(Clone, Debug)]
struct Connector {
    client: HyperClient,
    connect_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move { connector.exchange(request).await })
    }
}

impl Connector {
    /// Sends a request over a connection of its own, which ends with the response, or over one that a
    /// conversation has kept.
    ///
    /// An idle connection keeps its read buffer, and with it the secret of the last response, for as
    /// long as it stays in a pool. Without one the connection is dropped once the body is read, and the
    /// allocator wipes what it frees. A backend fetches a secret now and then, not in a loop: the
    /// handshake saved would not be worth it.
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let mut request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        // `Call` finds the error again among the sources of the SDK's.
        let route =
            self.client.shared.route(request.uri()).map_err(|error| ConnectorError::user(error.into()))?;
        if let (false, Some(proxy)) = (route.is_tls, &route.proxy)
            && let Some(authorization) = proxy.basic_auth()
        {
            request.headers_mut().insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let route = Route { connect_timeout: self.connect_timeout, ..route };
        let response = match &self.client.kept {
            // A proxy that reads requests itself would have to be told apart; nobody is in such a hurry there.
            Some(kept) if route.is_tls || route.proxy.is_none() => {
                self.exchange_kept(kept, route, request).await
            }
            _ => {
                let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(route);
                let response = within(self.read_timeout, READ_TIMEOUT, async {
                    client.request(request).await.map_err(BoxError::from)
                });
                response.await.map(|response| response.map(SdkBody::from_body_1_x))
            }
        };
        let response = response.map_err(|error| match find_timeout(&*error) {
            true => ConnectorError::timeout(error),
            false => ConnectorError::io(error),
        })?;
        HttpResponse::try_from(response).map_err(|error| ConnectorError::other(error.into(), None))
    }

    /// Sends a request over a connection that was kept, else over a new one, which is then kept.
    ///
    /// A server may close a connection at the moment at which it is used again. Then the request is sent
    /// once more, over a new one: all that are sent here say or do the same when they come twice.
    async fn exchange_kept(
        &self,
        kept: &Kept,
        route: Route,
        request: Request<SdkBody>,
    ) -> Result<Response<SdkBody>, BoxError> {
        let uri = request.uri().clone();
        if let Some(open) = kept.take(&uri).await
            && let Some(copy) = conversation::copy(&request)
        {
            match self.exchange_over(kept, open, copy).await {
                Err(error) if !find_timeout(&*error) => {}
                result => return result,
            }
        }
        // `Call` looks for these words.
        let wire = within(route.connect_timeout, CONNECT_TIMEOUT, route.connect(uri.clone())).await?;
        self.exchange_over(kept, Open::over(wire, &uri).await?, request).await
    }

    async fn exchange_over(
        &self,
        kept: &Kept,
        mut open: Open,
        request: Request<SdkBody>,
    ) -> Result<Response<SdkBody>, BoxError> {
        let response = within(self.read_timeout, READ_TIMEOUT, open.send(request)).await?;
        let response = conversation::read(response).await?;
        kept.put(open);
        Ok(response)
    }
}

const CONNECT_TIMEOUT: &str = "HTTP connect timeout";
const READ_TIMEOUT: &str = "HTTP read timeout";

/// Something took too long.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct TimedOut(&'static str);

async fn within<T>(
    limit: Option<Duration>,
    what: &'static str,
    work: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(TimedOut(what).into())),
        None => work.await,
    }
}

fn find_timeout(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| error.is::<TimedOut>())
}

/// The way to an endpoint: makes connections for hyper.
#[derive(Clone)]
struct Route {
    /// Whether the endpoint speaks TLS.
    is_tls: bool,
    proxy: Option<Intercept>,
    /// `None` where nobody on the way speaks TLS.
    tls: Option<SslContext>,
    connect_timeout: Option<Duration>,
}

impl Route {
    async fn connect(self, endpoint: Uri) -> Result<Wire, BoxError> {
        let Some(proxy) = &self.proxy else { return dial(endpoint, self.tls).await };
        let to_proxy = Dial(self.tls.clone());
        if !self.is_tls {
            // It is sent the whole URL.
            let wire = dial(proxy.uri().clone(), self.tls).await?;
            return Ok(Wire { is_forwarded: true, ..wire });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
        if let Some(authorization) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let wire = tunnel.call(endpoint.clone()).await?;
        encrypt(TokioIo::new(wire), &endpoint, self.tls).await
    }
}

/// A connection without a proxy, encrypted if `to` says so.
async fn dial(to: Uri, tls: Option<SslContext>) -> Result<Wire, BoxError> {
    let is_tls = to.scheme_str() == Some("https");
    // Tries IPv4 when IPv6 leads nowhere.
    let mut tcp = TcpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let stream = tcp.call(to.clone()).await?.into_inner();
    if is_tls { encrypt(stream, &to, tls).await } else { Ok(Wire::new(stream)) }
}

async fn encrypt<S>(stream: S, to: &Uri, tls: Option<SslContext>) -> Result<Wire, BoxError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let tls = tls.ok_or("no TLS for this endpoint")?;
    let mut stream = TlsStream::new(trust::session(&tls, host(to))?, stream)?;
    stream.connect().await?;
    Ok(Wire::new(stream))
}

/// The host without the brackets of an IPv6 address.
fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

impl Service<Uri> for Route {
    type Response = Wire;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, endpoint: Uri) -> Connecting {
        let route = self.clone();
        // `Call` looks for these words.
        Box::pin(within(self.connect_timeout, CONNECT_TIMEOUT, route.connect(endpoint)))
    }
}

/// The way to a proxy, for the tunnel through it.
struct Dial(Option<SslContext>);

impl Service<Uri> for Dial {
    type Response = Wire;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, proxy: Uri) -> Connecting {
        Box::pin(dial(proxy, self.0.clone()))
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<Wire, BoxError>> + Send>>;

/// A byte stream, as hyper wants it.
struct Wire {
    stream: TokioIo<Box<dyn Stream>>,
    /// A proxy reads the request itself.
    is_forwarded: bool,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Wire {
    fn new(stream: impl Stream + 'static) -> Wire {
        Wire { stream: TokioIo::new(Box::new(Bounded::new(stream))), is_forwarded: false }
    }
}

/// The most that is taken in of one answer. A secret has 65,536 bytes, each of
/// which JSON may write as six; a page of a list has far less. Nothing is asked for in a compressed form, and what
/// comes so all the same is not unpacked.
const MAX_ANSWER: usize = 768 * 1024;

/// How long an answer may take to come. Each call has its own, shorter limit. This limit ends an answer that
/// drips to a task that looks for credentials to the end (see `RunToEnd`).
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// A stream that ends with an error when more comes than any answer has, or when it takes too long. What is
/// written after that is the next request.
struct Bounded<S> {
    stream: S,
    left: usize,
    late: Pin<Box<Sleep>>,
}

impl<S> Bounded<S> {
    fn new(stream: S) -> Bounded<S> {
        Bounded { stream, left: MAX_ANSWER, late: Box::pin(tokio::time::sleep(ANSWER_TIME)) }
    }

    fn begin_request(&mut self) {
        if self.left < MAX_ANSWER {
            self.left = MAX_ANSWER;
            self.late.as_mut().reset(Instant::now() + ANSWER_TIME);
        }
    }
}

impl<S: Stream> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("the answer is too long")));
        }
        if self.late.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::other("the answer took too long")));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        self.left = self.left.saturating_sub(into.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin_request();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_forwarded)
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_only_for_https() {
        let shared = client(None).shared;
        shared.route(&Uri::from_static("http://https:443/")).unwrap();
        shared.route(&Uri::from_static("/")).unwrap();
        assert!(shared.tls.get().is_none());
        shared.route(&Uri::from_static("HTTPS://secretsmanager.us-east-1.amazonaws.com/")).unwrap();
        assert!(shared.tls.get().is_some());
    }
}
