//! What the AWS SDK sends its requests over: our own connections, which pass the egress guard.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::{header, uri::PathAndQuery};
use url::Url;

use crate::{
    egress::Guard,
    exchange::{Body, Call, Failure, Target},
    pool::{Identity, Pool, Pools, Route},
    webhook::Http2,
};

/// The most that is read of an answer, in bytes.
const ANSWER_LIMIT: usize = 1 << 20;

tokio::task_local! {
    /// Whether what is being sent in this task may still go.
    pub(super) static RIGHT: Arc<dyn Fn() -> bool + Send + Sync>;
}

/// Sends requests of the SDK.
#[derive(Clone)]
pub(super) struct Connector(Arc<Inner>);

struct Inner {
    guard: Arc<Guard>,
    pools: Arc<Pools>,
    ca_pem: Option<String>,
    timeout: Duration,
    connect_timeout: Duration,
    /// Where it was sent last: mostly there is one place.
    last: RwLock<Option<(String, Arc<Peer>)>>,
}

/// A host, and connections to it.
struct Peer {
    target: Target,
    pool: Arc<Pool>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    pub(super) fn new(
        guard: Arc<Guard>,
        pools: Arc<Pools>,
        ca_pem: Option<String>,
        timeout: Duration,
        connect_timeout: Duration,
    ) -> Self {
        let last = RwLock::new(None);
        Self(Arc::new(Inner { guard, pools, ca_pem, timeout, connect_timeout, last }))
    }

    fn peer(&self, url: &Url) -> Result<Arc<Peer>, ConnectorError> {
        let inner = &self.0;
        let origin = url.origin().ascii_serialization();
        let last = inner.last.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((place, peer)) = last
            && place == origin
        {
            return Ok(peer);
        }
        let unfit = || ConnectorError::user("the address cannot be written in a request".into());
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(unfit());
        };
        let identity = Identity::read(None, inner.ca_pem.as_deref())
            .map_err(|error| ConnectorError::user(error.into()))?;
        let peer = Arc::new(Peer {
            target: Target::of(url).map_err(|_| unfit())?,
            pool: inner.pools.pool(Route {
                guard: Arc::clone(&inner.guard),
                https: url.scheme() == "https",
                host: host.to_owned(),
                port,
                http2: Http2::Never,
                identity,
                proxy: None,
            }),
        });
        *inner.last.write().unwrap_or_else(PoisonError::into_inner) =
            Some((origin, Arc::clone(&peer)));
        Ok(peer)
    }

    async fn exchange(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request =
            request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        let (head, body) = request.into_parts();
        let body = body.bytes().map(Bytes::copy_from_slice).unwrap_or_default();
        let url = Url::parse(&head.uri.to_string())
            .map_err(|error| ConnectorError::user(error.into()))?;
        let peer = self.peer(&url)?;
        let path =
            head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut headers = head.headers;
        if !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, peer.target.host().clone());
        }
        // Hyper counts the body itself.
        headers.remove(header::CONTENT_LENGTH);
        let call = Call {
            pool: &peer.pool,
            timeout: self.0.timeout,
            connect_timeout: self.0.connect_timeout,
            body: Body::Whole(ANSWER_LIMIT),
        };
        let may_go = || RIGHT.try_with(|right| right()).unwrap_or(true);
        let answer = call
            .send(may_go, |form| {
                peer.target.request(
                    form,
                    head.method.clone(),
                    path.clone(),
                    headers.clone(),
                    body.clone(),
                )
            })
            .await;
        let status = answer.result.map_err(|failure| match failure {
            Failure::Timeout { .. } => ConnectorError::timeout(failure.into()),
            Failure::Request(_) => ConnectorError::user(failure.into()),
            _ => ConnectorError::io(failure.into()),
        })?;
        let mut response = http::Response::new(SdkBody::from(answer.body));
        *response.status_mut() = status;
        *response.headers_mut() = answer.headers;
        HttpResponse::try_from(response).map_err(|error| ConnectorError::user(error.into()))
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.clone().exchange(request))
    }
}

impl HttpClient for Connector {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
