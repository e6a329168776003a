//! Where a bucket is, and how to get in.

use std::{fmt, time::Duration};

use object_store::{
    ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
};

use crate::client::Connector;

/// How long one request to the service is tried again.
const RETRYING: Duration = Duration::from_secs(30);

/// A bucket, and how to get in. Prints without secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Of a compatible service: `https://host:port`; `http` is taken as it is written. `None`:
    /// Amazon's, of the region.
    pub endpoint: Option<String>,
    /// `None`: `us-east-1`, which most compatible services take.
    pub region: Option<String>,
    /// The bucket's name.
    pub bucket: String,
    /// What all names begin with, for a bucket that others use too; slashes at its ends do not
    /// count.
    pub prefix: String,
    /// `None`: what AWS's own variables say, or the role of the container or machine.
    pub credentials: Option<Credentials>,
    /// The bucket's name stands in the path and not before the host: what most compatible services
    /// need.
    pub path_style: bool,
    /// Authorities to trust beside the machine's, as PEM.
    pub ca_pem: Option<String>,
}

/// A key of the service.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Its id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// What goes with keys that end.
    pub session_token: Option<String>,
}

/// Why a place cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// There is no name.
    #[error("expected the name of a bucket")]
    NoBucket,
    /// It is no address.
    #[error("the endpoint is no address, expected for example https://s3.example.com")]
    Endpoint,
    /// No certificate can be read.
    #[error("{0}")]
    Authorities(&'static str),
    /// Anything else.
    #[error("{0}")]
    Unfit(#[from] object_store::Error),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.to_string()).finish()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix())?;
        match &self.endpoint {
            Some(endpoint) => write!(f, " at {endpoint}"),
            None => Ok(()),
        }
    }
}

impl Place {
    /// What all names begin with: nothing, or folders and a slash.
    pub(crate) fn prefix(&self) -> String {
        match self.prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        }
    }

    /// Where requests go to: with the bucket before the host, unless it stands in the path.
    fn address(&self, endpoint: &url::Url) -> String {
        let text = endpoint.as_str().trim_end_matches('/');
        match text.split_once("://") {
            Some((scheme, rest)) if !self.path_style => {
                format!("{scheme}://{}.{rest}", self.bucket)
            }
            _ => text.to_owned(),
        }
    }

    /// Whether it can be used as it is written. Asks nobody.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), PlaceError> {
        self.connect().map(drop)
    }

    pub(crate) fn connect(&self) -> Result<AmazonS3, PlaceError> {
        if self.bucket.is_empty() {
            return Err(PlaceError::NoBucket);
        }
        let mut builder = match &self.credentials {
            // Only AWS's own variables, and what they lead to.
            None => AmazonS3Builder::from_env(),
            Some(credentials) => {
                let builder = AmazonS3Builder::new()
                    .with_access_key_id(&credentials.access_key_id)
                    .with_secret_access_key(&credentials.secret_access_key);
                match &credentials.session_token {
                    Some(token) => builder.with_token(token),
                    None => builder,
                }
            }
        };
        if let Some(endpoint) = &self.endpoint {
            let url = url::Url::parse(endpoint).map_err(|_| PlaceError::Endpoint)?;
            if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
                return Err(PlaceError::Endpoint);
            }
            builder = builder.with_endpoint(self.address(&url));
            if url.scheme() == "http" {
                builder = builder.with_allow_http(true);
            }
        }
        builder = match &self.region {
            Some(region) => builder.with_region(region),
            None if self.endpoint.is_some() || self.credentials.is_some() => {
                builder.with_region("us-east-1")
            }
            None => builder,
        };
        let connector = Connector::new(self.ca_pem.as_deref())?;
        let retry = RetryConfig { retry_timeout: RETRYING, ..RetryConfig::default() };
        Ok(builder
            .with_bucket_name(&self.bucket)
            .with_virtual_hosted_style_request(!self.path_style)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_retry(retry)
            .with_http_connector(connector)
            .build()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            bucket: "files".to_owned(),
            prefix: "/zapbus/".to_owned(),
            credentials: Some(Credentials {
                access_key_id: "id".to_owned(),
                secret_access_key: "hush".to_owned(),
                session_token: None,
            }),
            path_style: true,
            ..Place::default()
        }
    }

    #[test]
    fn a_place_shows_no_secret() {
        assert_eq!(place().to_string(), "s3://files/zapbus/ at http://127.0.0.1:1");
        assert!(!format!("{:?} {:?}", place(), place().credentials).contains("hush"));
    }

    #[test]
    fn what_cannot_be_used_is_said_before_it_is() {
        place().check().unwrap();
        let nameless = Place { bucket: String::new(), ..place() };
        assert!(matches!(nameless.check(), Err(PlaceError::NoBucket)));
        for endpoint in ["s3.example.com", "ftp://example.com", "https://"] {
            let odd = Place { endpoint: Some(endpoint.to_owned()), ..place() };
            assert!(matches!(odd.check(), Err(PlaceError::Endpoint)), "{endpoint}");
        }
        let unread = Place { ca_pem: Some("no certificate".to_owned()), ..place() };
        assert!(matches!(unread.check(), Err(PlaceError::Authorities(_))));
    }
}
