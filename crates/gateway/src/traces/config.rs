//! What the operator may set about traces.

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::config::Secret;

/// Where collectors take spans by OTLP over HTTP.
const PATH: &str = "/v1/traces";

/// `[traces]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// URL of an OTLP/HTTP collector; without a path, `/v1/traces` is meant. Unset: no traces.
    pub endpoint: Option<String>,
    /// `name=value` each, for example a key that the collector asks for.
    pub headers: Vec<Secret>,
    /// The share of events that is traced, 0 to 1.
    pub sample_ratio: f64,
    /// What this gateway is called.
    pub service_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: Vec::new(),
            sample_ratio: 1.0,
            service_name: "zapbus".to_owned(),
        }
    }
}

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if let Err(problem) = self.target() {
            wrong.push(("endpoint", problem.to_owned()));
        }
        if let Err(problem) = self.header_map() {
            wrong.push(("headers", problem));
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            wrong.push(("sample_ratio", format!("found {}, expected 0 to 1", self.sample_ratio)));
        }
        if self.service_name.is_empty() || self.service_name.len() > 255 {
            wrong.push(("service_name", "expected 1 to 255 bytes".to_owned()));
        }
        wrong
    }

    /// Where spans go; `None`: nowhere.
    pub(super) fn target(&self) -> Result<Option<Url>, &'static str> {
        // It is not repeated: it may hold a password.
        const EXPECTED: &str = "expected an http:// or https:// URL such as http://127.0.0.1:4318";
        let Some(endpoint) = &self.endpoint else { return Ok(None) };
        let mut url: Url = endpoint.parse().map_err(|_| EXPECTED)?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(EXPECTED);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("expected a URL without user and password: use headers for that");
        }
        if url.path() == "/" {
            url.set_path(PATH);
        }
        url.set_fragment(None);
        Ok(Some(url))
    }

    /// What goes with each request.
    pub(super) fn header_map(&self) -> Result<HeaderMap, String> {
        let mut map = HeaderMap::new();
        for (index, header) in self.headers.iter().enumerate() {
            let wrong = || format!("header {}: expected name=value", index + 1);
            let (name, value) = header.expose().split_once('=').ok_or_else(wrong)?;
            let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
            let mut value: HeaderValue = value.trim().parse().map_err(|_| wrong())?;
            value.set_sensitive(true);
            map.append(name, value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(endpoint: &str) -> Result<String, &'static str> {
        let config = Config { endpoint: Some(endpoint.to_owned()), ..Config::default() };
        Ok(config.target()?.unwrap().to_string())
    }

    #[test]
    fn a_collector_is_named_with_or_without_its_path() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://otlp.example.com/", "https://otlp.example.com/v1/traces"),
            ("https://otlp.example.com/otlp/v1/traces", "https://otlp.example.com/otlp/v1/traces"),
        ] {
            assert_eq!(target(endpoint).as_deref(), Ok(expected));
        }
        for wrong in ["127.0.0.1:4318", "grpc://x:4317", "https://a:b@example.com/"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_that_cannot_be_read_is_not_repeated() {
        let config = Config { headers: vec![Secret::new("hunter2")], ..Config::default() };
        let [(key, problem)] = &config.check()[..] else { panic!() };
        assert_eq!(*key, "headers");
        assert!(!problem.contains("hunter2"), "{problem}");
        let config = Config { headers: vec![Secret::new("x-key=a=b")], ..Config::default() };
        assert_eq!(config.header_map().unwrap()["x-key"], "a=b");
    }
}
