//! The guard as hyper and tower want it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use url::Host;

use super::{Error, Guard};

/// Opens guarded TCP connections; see [`Guard::connector`].
#[derive(Debug, Clone)]
pub struct Connector {
    pub(super) guard: Arc<Guard>,
    pub(super) timeout: Duration,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { guard, timeout } = self.clone();
        Box::pin(async move {
            // `Host::parse` reads the same odd forms of addresses (0x7f000001) as a browser.
            let host = uri.host().and_then(|host| Host::parse(host).ok()).ok_or(Error::NoHost)?;
            let https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
            let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
            Ok(TokioIo::new(guard.connect(&host, port, timeout).await?))
        })
    }
}
