//! Which browsers of other origins may call the API.

use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// `[cors]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Origins such as `https://app.example.com`, or `*`. Empty: no other origin.
    pub origins: Vec<String>,
    /// Methods they may use.
    pub methods: Vec<String>,
    /// Whether they may send credentials of the browser.
    pub credentials: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            methods: ["GET", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned).to_vec(),
            credentials: false,
        }
    }
}

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        for origin in self.origins.iter().filter(|origin| *origin != "*") {
            if !is_origin(origin) {
                wrong.push((
                    "origins",
                    format!(
                        "found {origin:?}, expected * or an origin such as https://app.example.com"
                    ),
                ));
            }
        }
        for method in &self.methods {
            if Method::from_bytes(method.as_bytes()).is_err() {
                wrong.push(("methods", format!("found {method:?}, expected names such as GET")));
            }
        }
        wrong
    }

    /// The layer that does it; `None` when no other origin is allowed.
    pub fn layer(&self) -> Option<CorsLayer> {
        if self.origins.is_empty() {
            return None;
        }
        let origins = if self.origins.iter().any(|origin| origin == "*") {
            // Browsers refuse a literal `*` together with credentials.
            AllowOrigin::mirror_request()
        } else {
            AllowOrigin::list(
                self.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()),
            )
        };
        let methods: Vec<Method> =
            self.methods.iter().filter_map(|method| method.parse().ok()).collect();
        let exposed = [
            "retry-after",
            "location",
            "idempotency-replayed",
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ];
        Some(
            CorsLayer::new()
                .allow_origin(origins)
                .allow_methods(methods)
                .allow_headers(AllowHeaders::mirror_request())
                .expose_headers(exposed.map(HeaderName::from_static))
                .allow_credentials(self.credentials),
        )
    }
}

/// Scheme and authority, nothing behind.
fn is_origin(text: &str) -> bool {
    text.parse::<url::Url>().is_ok_and(|url| url.origin().ascii_serialization() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_checked() {
        let check = |origin: &str| {
            Config { origins: vec![origin.to_owned()], ..Config::default() }.check().is_empty()
        };
        assert!(check("*") && check("https://app.example.com") && check("http://localhost:3000"));
        assert!(
            !check("app.example.com") && !check("https://app.example.com/") && !check("https:")
        );
    }
}
