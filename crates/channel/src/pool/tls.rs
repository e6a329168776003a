//! TLS: whom to trust, and who we are.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::webhook::Http2;

/// Our own certificate, and authorities to trust beside the machine's.
pub(crate) struct Identity {
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    authorities: Vec<CertificateDer<'static>>,
    /// Of the texts it was read from; equal ones share connections.
    pub(crate) fingerprint: [u8; 32],
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("client", &self.client.is_some())
            .field("authorities", &self.authorities.len())
            .finish()
    }
}

/// PEM that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("holds no certificate that can be read; expected PEM: -----BEGIN CERTIFICATE-----")]
    Certificate,
    #[error("holds no key that can be read; expected PEM, for example -----BEGIN PRIVATE KEY-----")]
    Key,
    #[error(
        "the key does not belong to the certificate, or its kind is not supported; expected an RSA, ECDSA or Ed25519 key"
    )]
    Pair,
    #[error(
        "holds no certificate of an authority that can be read; expected PEM: -----BEGIN CERTIFICATE-----"
    )]
    Authority,
}

impl IdentityError {
    /// Which part of a channel's config is meant.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Self::Certificate => "client_certificate.cert_pem",
            Self::Key | Self::Pair => "client_certificate.key_pem",
            Self::Authority => "ca_pem",
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// All certificates of a PEM text; `None` when there is none or one is broken.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

impl Identity {
    /// From a certificate with its key, and authorities, all in PEM.
    pub(crate) fn read(
        client: Option<(&str, &str)>,
        authorities: Option<&str>,
    ) -> Result<Self, IdentityError> {
        let mut hash = Sha256::new();
        for text in
            [client.map(|(certificate, _)| certificate), client.map(|(_, key)| key), authorities]
        {
            // The length keeps texts apart that are equal when strung together.
            hash.update(text.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
            hash.update(text.unwrap_or_default());
        }
        let client = match client {
            None => None,
            Some((certificate, key)) => {
                let chain = certificates(certificate).ok_or(IdentityError::Certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                    .map_err(|_| IdentityError::Key)?;
                CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider())
                    .map_err(|_| IdentityError::Pair)?;
                Some((chain, key))
            }
        };
        let authorities = match authorities {
            None => Vec::new(),
            Some(pem) => {
                let found = certificates(pem).ok_or(IdentityError::Authority)?;
                let mut store = RootCertStore::empty();
                for authority in &found {
                    store.add(authority.clone()).map_err(|_| IdentityError::Authority)?;
                }
                found
            }
        };
        Ok(Self { client, authorities, fingerprint: hash.finalize().into() })
    }
}

/// Why there is no TLS at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(
        "this machine has no certificates of authorities that can be read; the operator of this \
         gateway installs the package ca-certificates, or the destination sets `ca_pem`"
    )]
    NoRoots,
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// TLS configurations beyond this number are thrown away when nobody uses them.
const KEPT: usize = 256;

/// The fingerprint of an identity, and the protocols offered; none for what is no HTTP.
type ConfigKey = ([u8; 32], Option<Http2>);

/// Client configurations by identity and protocol; each keeps sessions to resume.
#[derive(Debug, Default)]
pub(super) struct Tls {
    /// The machine's authorities. Reading them takes milliseconds, so it happens once, and not
    /// before the first TLS connection.
    roots: OnceCell<Arc<RootCertStore>>,
    configs: Mutex<HashMap<ConfigKey, Arc<ClientConfig>>>,
}

impl Tls {
    pub(super) async fn config(
        &self,
        identity: &Identity,
        http2: Option<Http2>,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let key = (identity.fingerprint, http2);
        if let Some(config) = self.configs.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
        {
            return Ok(Arc::clone(config));
        }
        let native = self
            .roots
            .get_or_try_init(|| async {
                let roots = tokio::task::spawn_blocking(native_roots).await.ok();
                // None is not kept: they may be installed while we run.
                roots.filter(|roots| !roots.is_empty()).map(Arc::new).ok_or(TlsError::NoRoots)
            })
            .await;
        let roots = match native {
            Ok(native) if identity.authorities.is_empty() => Arc::clone(native),
            Err(error) if identity.authorities.is_empty() => return Err(error),
            native => {
                let mut roots = native
                    .map_or_else(|_| RootCertStore::empty(), |native| RootCertStore::clone(native));
                roots.add_parsable_certificates(identity.authorities.iter().cloned());
                Arc::new(roots)
            }
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match &identity.client {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = match http2 {
            Some(Http2::Auto) => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Some(Http2::PriorKnowledge) => vec![b"h2".to_vec()],
            Some(Http2::Never) => vec![b"http/1.1".to_vec()],
            None => Vec::new(),
        };
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if configs.len() >= KEPT {
            configs.retain(|_, config| Arc::strong_count(config) > 1);
        }
        // Somebody else may have been faster; then both use that one and its sessions.
        Ok(Arc::clone(configs.entry(key).or_insert_with(|| Arc::new(config))))
    }
}

fn native_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
