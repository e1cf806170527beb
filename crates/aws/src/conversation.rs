//! Calls that follow each other, over the same connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use ::http::{HeaderValue, Request, Response, header};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};

/// Any error on the way to an answer.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The connections of calls that follow each other, and what is made once for all of them. When it is
/// dropped, the connections end.
pub(crate) struct Conversation {
    /// The HTTP client that keeps the connections.
    pub(crate) http: SharedHttpClient,
    /// The clients of Secrets Manager, by region.
    pub(crate) secrets_manager: Mutex<HashMap<String, aws_sdk_secretsmanager::Client>>,
}

/// Connections that are open and have nothing to do.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<Open>>>);

/// How many connections are kept. More calls than that at the same time have each their own.
const MOST: usize = 16;

/// An open connection.
pub(crate) struct Open {
    to: (Scheme, Authority),
    sender: SendRequest<SdkBody>,
}

impl Kept {
    fn idle(&self) -> MutexGuard<'_, Vec<Open>> {
        // Nothing can panic while the lock is held, and if it did, the list would still be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to where `uri` is, if there is one, and the server has not closed it.
    pub(crate) async fn take(&self, uri: &Uri) -> Option<Open> {
        let to = destination(uri)?;
        loop {
            let mut open = {
                let mut idle = self.idle();
                let place = idle.iter().position(|open| open.to == to)?;
                idle.swap_remove(place)
            };
            // The answer before was read to its end, so this takes no time.
            if open.sender.ready().await.is_ok() {
                return Some(open);
            }
        }
    }

    /// Keeps a connection whose answer was read.
    pub(crate) fn put(&self, open: Open) {
        let mut idle = self.idle();
        if idle.len() < MOST {
            idle.push(open);
        }
    }
}

fn destination(uri: &Uri) -> Option<(Scheme, Authority)> {
    Some((uri.scheme()?.clone(), uri.authority()?.clone()))
}

impl Open {
    /// Begins to speak HTTP on a new connection.
    ///
    /// # Errors
    /// If that does not go.
    pub(crate) async fn over<W>(wire: W, uri: &Uri) -> Result<Open, BoxError>
    where
        W: Read + Write + Send + Unpin + 'static,
    {
        let to = destination(uri).ok_or("no host in the address of the endpoint")?;
        let (sender, connection) = http1::handshake(wire).await?;
        // The task ends when the sender is dropped, or when the server closes the connection. A caller that
        // waits for an answer then gets an error.
        tokio::spawn(connection);
        Ok(Open { to, sender })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// If the connection is lost.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<SdkBody>,
    ) -> Result<Response<hyper::body::Incoming>, BoxError> {
        let host = HeaderValue::from_str(self.to.1.as_str())?;
        request.headers_mut().entry(header::HOST).or_insert(host);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
        Ok(self.sender.send_request(request).await?)
    }
}

/// Reads an answer to its end, so that the connection is free for the next request.
///
/// # Errors
/// If the connection is lost, or more comes than any answer has.
pub(crate) async fn read(response: Response<hyper::body::Incoming>) -> Result<Response<SdkBody>, BoxError> {
    let (head, body) = response.into_parts();
    let body = ByteStream::new(SdkBody::from_body_1_x(body)).collect().await?;
    Ok(Response::from_parts(head, SdkBody::from(body.into_bytes())))
}

/// A request once more, for a connection that has failed. `None` if its body cannot be had again.
pub(crate) fn copy(request: &Request<SdkBody>) -> Option<Request<SdkBody>> {
    let mut copy = Request::new(request.body().try_clone()?);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    Some(copy)
}
