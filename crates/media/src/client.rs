//! What requests to the service are sent over: hyper, with the TLS of everything else here.

use std::{error::Error as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector as Connecting, HttpError, HttpErrorKind, HttpRequest,
        HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
    },
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::place::PlaceError;

/// How long it may take to be connected.
const CONNECTING: Duration = Duration::from_secs(5);

/// How long it may take from the request to the head of its answer: as long as a part of a file
/// takes on a slow line.
const ANSWERING: Duration = Duration::from_secs(120);

/// How long a connection is kept that nobody uses: services close theirs after 20 s.
const IDLE: Duration = Duration::from_secs(15);

/// Makes clients for one bucket.
#[derive(Debug)]
pub(crate) struct Connector {
    tls: Arc<ClientConfig>,
}

impl Connector {
    /// Trusts the machine's authorities, and those in `ca_pem`.
    pub(crate) fn new(ca_pem: Option<&str>) -> Result<Self, PlaceError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(pem) = ca_pem {
            const UNREAD: PlaceError = PlaceError::Authorities(
                "expected certificates of authorities as PEM: -----BEGIN CERTIFICATE-----",
            );
            let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|_| UNREAD)?;
            if found.is_empty() {
                return Err(UNREAD);
            }
            for authority in found {
                roots.add(authority).map_err(|_| UNREAD)?;
            }
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|_| PlaceError::Authorities("TLS cannot be set up"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls) })
    }
}

impl Connecting for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECTING));
        tcp.set_nodelay(true);
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(ClientConfig::clone(&self.tls))
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(https);
        Ok(HttpClient::new(Hyper(client)))
    }
}

#[derive(Debug)]
struct Hyper(Client<HttpsConnector<HttpConnector>, HttpRequestBody>);

#[async_trait]
impl HttpService for Hyper {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(ANSWERING, self.0.request(request)).await;
        let answer = answer.map_err(|late| HttpError::new(HttpErrorKind::Timeout, late))?.map_err(
            |error| {
                let kind = if error.is_connect() {
                    HttpErrorKind::Connect
                } else {
                    let hyper = error.source().and_then(|source| source.downcast_ref());
                    kind_of(hyper)
                };
                HttpError::new(kind, error)
            },
        )?;
        Ok(answer.map(|body| {
            HttpResponseBody::new(
                body.map_err(|error| HttpError::new(kind_of(Some(&error)), error)),
            )
        }))
    }
}

/// What may be tried again.
fn kind_of(error: Option<&hyper::Error>) -> HttpErrorKind {
    match error {
        Some(error) if error.is_timeout() => HttpErrorKind::Timeout,
        Some(error) if error.is_closed() || error.is_incomplete_message() => {
            HttpErrorKind::Interrupted
        }
        Some(error) if error.is_canceled() => HttpErrorKind::Request,
        _ => HttpErrorKind::Unknown,
    }
}
