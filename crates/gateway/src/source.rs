//! Where an instance's events enter, as the store keeps it: a sealed document.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zapbus_event::SourceKind;

/// What Meta's webhook is checked with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudApi {
    /// Signs the bodies.
    pub app_secret: String,
    /// Proves that the callback URL was set by its owner.
    pub verify_token: String,
    /// The number whose changes are this instance's. App-level sources have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number_id: Option<String>,
    /// Opens the Graph API, for the files of messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
}

impl std::fmt::Debug for CloudApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudApi")
            .field("phone_number_id", &self.phone_number_id)
            .finish_non_exhaustive()
    }
}

/// A product that holds WhatsApp sessions itself and posts what happens in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Product {
    /// Evolution API.
    Evolution,
    /// wuzapi.
    Wuzapi,
    /// WAHA.
    Waha,
}

impl Product {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Evolution, Self::Wuzapi, Self::Waha];

    /// Its name in documents and paths.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evolution => "evolution",
            Self::Wuzapi => "wuzapi",
            Self::Waha => "waha",
        }
    }

    /// What its events say they came from.
    pub const fn kind(self) -> SourceKind {
        match self {
            Self::Evolution => SourceKind::Evolution,
            Self::Wuzapi => SourceKind::Wuzapi,
            Self::Waha => SourceKind::Waha,
        }
    }
}

/// A bridged product's webhook.
#[derive(Clone, PartialEq, Eq)]
pub struct Bridge {
    /// Which product posts.
    pub product: Product,
    /// What it shows, or signs with.
    pub secret: String,
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").field("product", &self.product).finish_non_exhaustive()
    }
}

/// Where events enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Only through our own API, which is open to every instance.
    Native,
    /// Through Meta's webhook too.
    CloudApi(CloudApi),
    /// Through the webhook of a bridged product too.
    Bridge(Bridge),
}

impl Source {
    /// The `type` of its document.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::CloudApi(_) => "cloud-api",
            Self::Bridge(bridge) => bridge.product.as_str(),
        }
    }

    /// What app-level sources find the instance by.
    pub fn route(&self) -> Option<String> {
        match self {
            Self::Native | Self::Bridge(_) => None,
            Self::CloudApi(cloud_api) => cloud_api.phone_number_id.as_deref().map(cloud_api_route),
        }
    }

    /// As the store keeps it.
    pub fn to_document(&self) -> Value {
        let mut document = match self {
            Self::Native => Value::Object(serde_json::Map::new()),
            // A struct of texts: its serialisation cannot fail.
            Self::CloudApi(cloud_api) => serde_json::to_value(cloud_api).unwrap_or_default(),
            Self::Bridge(bridge) => serde_json::json!({ "secret": bridge.secret }),
        };
        document["type"] = Value::from(self.kind());
        document
    }

    /// The inverse of [`Self::to_document`].
    pub fn from_document(document: &Value) -> Result<Self, serde_json::Error> {
        match document.get("type").and_then(Value::as_str) {
            Some("cloud-api") => CloudApi::deserialize(document).map(Self::CloudApi),
            Some("native") => Ok(Self::Native),
            other => {
                let kind = other.unwrap_or("none");
                let product = Product::ALL.into_iter().find(|product| product.as_str() == kind);
                if let Some((product, secret)) = product.zip(document["secret"].as_str()) {
                    return Ok(Self::Bridge(Bridge { product, secret: secret.to_owned() }));
                }
                Err(serde::de::Error::custom(format!("{kind} is not a source of this version")))
            }
        }
    }
}

/// The route of a Cloud API number.
pub fn cloud_api_route(phone_number_id: &str) -> String {
    format!("cloud-api:{phone_number_id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(product: Product) -> Source {
        Source::Bridge(Bridge { product, secret: "hush".to_owned() })
    }

    #[test]
    fn a_document_reads_back() {
        for source in [
            Source::Native,
            Source::CloudApi(CloudApi {
                app_secret: "a".to_owned(),
                verify_token: "b".to_owned(),
                phone_number_id: Some("1".to_owned()),
                access_token: Some("c".to_owned()),
            }),
            bridge(Product::Evolution),
            bridge(Product::Wuzapi),
            bridge(Product::Waha),
        ] {
            assert_eq!(Source::from_document(&source.to_document()).unwrap(), source);
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let source = Source::CloudApi(CloudApi {
            app_secret: "hush".to_owned(),
            verify_token: "hush".to_owned(),
            phone_number_id: None,
            access_token: Some("hush".to_owned()),
        });
        assert!(!format!("{source:?}").contains("hush"));
        assert!(!format!("{:?}", bridge(Product::Waha)).contains("hush"));
    }
}
