//! What the operator says of files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zapbus_media::{Bucket, Credentials, Place};

use crate::config::Secret;

/// `[media]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seconds for which a link to a file works.
    pub link_ttl_s: u32,
    /// Larger files are never put into a body, whatever a destination asks for.
    pub max_inline_bytes: usize,
    /// A bucket for files, in place of the data folder or the database.
    pub s3: S3,
    /// Files that events only name.
    pub fetch: Fetching,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            link_ttl_s: 7 * 24 * 3_600,
            max_inline_bytes: 8 << 20,
            s3: S3::default(),
            fetch: Fetching::default(),
        }
    }
}

/// `[media.s3]`: a bucket of S3, or of what speaks like it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// Its name. Unset: files are kept in the data folder, or in the database on a server.
    pub bucket: Option<String>,
    /// Of a compatible service. Unset: Amazon's, of the region.
    pub endpoint: Option<String>,
    /// Unset: `us-east-1`.
    pub region: Option<String>,
    /// What all names begin with.
    pub prefix: Option<String>,
    /// Unset: AWS's own variables, or the role of the container or machine.
    pub access_key_id: Option<String>,
    /// The key's secret.
    pub secret_access_key: Option<Secret>,
    /// What goes with keys that end.
    pub session_token: Option<Secret>,
    /// The bucket's name stands in the path. Unset: with an endpoint it does.
    pub path_style: Option<bool>,
    /// Certificates to trust beside the machine's, in PEM.
    pub ca_file: Option<PathBuf>,
}

/// `[media.fetch]`: files that events name by an id or a URL.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetching {
    /// Meta's Graph API.
    pub graph_url: String,
    /// Larger files are not fetched.
    pub max_bytes: u64,
    /// Seconds that one try may take.
    pub timeout_s: u64,
    /// Files that are fetched at a time.
    pub at_once: usize,
}

impl Default for Fetching {
    fn default() -> Self {
        Self {
            graph_url: "https://graph.facebook.com/v23.0".to_owned(),
            max_bytes: 100 << 20,
            timeout_s: 300,
            at_once: 4,
        }
    }
}

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.link_ttl_s < 60 {
            wrong.push(("link_ttl_s", format!("found {}, expected at least 60", self.link_ttl_s)));
        }
        wrong.extend(self.s3.check());
        let fetch = &self.fetch;
        let url = url::Url::parse(&fetch.graph_url).ok();
        if !url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            let example = Fetching::default().graph_url;
            wrong.push(("fetch.graph_url", format!("expected a URL such as {example}")));
        }
        for (key, found, range) in [
            ("fetch.max_bytes", fetch.max_bytes, 1..=u64::from(u32::MAX)),
            ("fetch.timeout_s", fetch.timeout_s, 1..=3_600),
            ("fetch.at_once", fetch.at_once as u64, 1..=64),
        ] {
            if !range.contains(&found) {
                let (least, most) = (range.start(), range.end());
                wrong.push((key, format!("found {found}, expected {least} to {most}")));
            }
        }
        wrong
    }
}

impl S3 {
    /// The bucket, if one is set.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn open(&self) -> Result<Option<Bucket>, (&'static str, String)> {
        let Some(place) = self.place()? else { return Ok(None) };
        Bucket::open(&place).map(Some).map_err(|error| ("s3", error.to_string()))
    }

    /// Where it is, for people.
    pub fn shown(&self) -> Option<String> {
        self.place().ok().flatten().map(|place| place.to_string())
    }

    fn place(&self) -> Result<Option<Place>, (&'static str, String)> {
        let Some(bucket) = &self.bucket else { return Ok(None) };
        let credentials = match (&self.access_key_id, &self.secret_access_key) {
            (Some(id), Some(secret)) => Some(Credentials {
                access_key_id: id.clone(),
                secret_access_key: secret.expose().to_owned(),
                session_token: self.session_token.as_ref().map(|token| token.expose().to_owned()),
            }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(("s3.secret_access_key", needed_with("access_key_id")));
            }
            (None, Some(_)) => {
                return Err(("s3.access_key_id", needed_with("secret_access_key")));
            }
        };
        let ca_pem = match &self.ca_file {
            None => None,
            Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
                ("s3.ca_file", format!("{} cannot be read: {error}", path.display()))
            })?),
        };
        Ok(Some(Place {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            bucket: bucket.clone(),
            prefix: self.prefix.clone().unwrap_or_default(),
            credentials,
            path_style: self.path_style.unwrap_or(self.endpoint.is_some()),
            ca_pem,
        }))
    }

    fn check(&self) -> Option<(&'static str, String)> {
        match self.place() {
            Ok(place) => place?.check().err().map(|error| ("s3", error.to_string())),
            Err(wrong) => Some(wrong),
        }
    }
}

fn needed_with(other: &str) -> String {
    format!("is needed with {other}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_by_key() {
        assert_eq!(Config::default().check(), []);
        let key = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(key(|config| config.link_ttl_s = 59), ["link_ttl_s"]);
        assert_eq!(key(|config| config.fetch.graph_url = "graph".to_owned()), ["fetch.graph_url"]);
        assert_eq!(key(|config| config.fetch.max_bytes = 0), ["fetch.max_bytes"]);
        assert_eq!(key(|config| config.s3.bucket = Some(String::new())), ["s3"]);
        let half = |config: &mut Config| {
            config.s3.bucket = Some("files".to_owned());
            config.s3.access_key_id = Some("id".to_owned());
        };
        assert_eq!(key(half), ["s3.secret_access_key"]);
    }
}
