//! Certificate and key: read at the start and whenever the files change.

pub mod expiry;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `[tls]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The certificate chain, in PEM.
    pub cert: Option<PathBuf>,
    /// Its private key, in PEM.
    pub key: Option<PathBuf>,
}

impl Config {
    /// The listener speaks TLS.
    pub fn is_on(&self) -> bool {
        self.cert.is_some()
    }

    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        match (&self.cert, &self.key) {
            (Some(_), None) => vec![("key", "is needed with tls.cert".to_owned())],
            (None, Some(_)) => vec![("cert", "is needed with tls.key".to_owned())],
            (Some(cert), Some(key)) => match read(cert, key) {
                Ok(_) => Vec::new(),
                Err(error) => vec![(error.key(), error.to_string())],
            },
            (None, None) => Vec::new(),
        }
    }
}

/// Files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificates in the file.
    #[error("{}: expected certificates in PEM: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// No key in the file.
    #[error("{}: expected a private key in PEM: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// They do not go together.
    #[error("{} and {} do not go together: {reason}", cert.display(), key.display())]
    Pair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl TlsError {
    fn key(&self) -> &'static str {
        match self {
            Self::Certificate { .. } => "cert",
            Self::Key { .. } | Self::Pair { .. } => "key",
        }
    }
}

/// The certificate in use.
#[derive(Clone)]
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    current: Arc<ArcSwap<ServerConfig>>,
    seen: Stamp,
}

/// What tells that the files changed.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Tls {
    /// Reads the files; `None` when TLS is off.
    pub fn load(config: &Config) -> Result<Option<Self>, TlsError> {
        let (Some(cert), Some(key)) = (&config.cert, &config.key) else {
            return Ok(None);
        };
        // Taken before reading: a change in between is seen again.
        let seen = stamp(cert, key);
        let current = Arc::new(ArcSwap::from_pointee(read(cert, key)?));
        Ok(Some(Self { cert: cert.clone(), key: key.clone(), current, seen }))
    }

    /// Accepts with the certificate of this moment.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }

    /// Takes new files when they change. Files that cannot be used leave the old ones in place.
    pub async fn watch(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
            let found = stamp(&self.cert, &self.key);
            if found == self.seen {
                continue;
            }
            self.seen = found;
            match read(&self.cert, &self.key) {
                Ok(config) => {
                    self.current.store(Arc::new(config));
                    tracing::info!(event = "tls.reloaded", cert = %self.cert.display(), "new certificate");
                }
                Err(error) => {
                    tracing::error!(event = "tls.reload_failed", %error, "the old certificate stays in use");
                }
            }
        }
    }
}

fn stamp(cert: &Path, key: &Path) -> Stamp {
    [cert, key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

fn read(cert: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let no_certificate = |reason: String| TlsError::Certificate { path: cert.to_owned(), reason };
    let certificates = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| no_certificate(error.to_string()))?;
    if certificates.is_empty() {
        return Err(no_certificate("there is none".to_owned()));
    }
    let private_key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| TlsError::Key { path: key.to_owned(), reason: error.to_string() })?;
    let unfit = |error: rustls::Error| TlsError::Pair {
        cert: cert.to_owned(),
        key: key.to_owned(),
        reason: error.to_string(),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder.with_no_client_auth().with_single_cert(certificates, private_key)
        })
        .map_err(unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
