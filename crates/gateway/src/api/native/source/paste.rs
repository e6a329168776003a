//! What to enter in an upstream's settings.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::source::{Bridge, CloudApi, Product, Source};

/// The fields of Meta's webhook to subscribe to.
const FIELDS: [&str; 4] = ["messages", "smb_message_echoes", "calls", "account_update"];

/// What to enter upstream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Paste {
    /// In Meta's app dashboard.
    Meta(MetaPaste),
    /// In a bridged product.
    Bridge(BridgePaste),
}

/// What to enter under WhatsApp → Configuration → Webhook in Meta's app dashboard.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MetaPaste {
    /// "Callback URL".
    callback_url: String,
    /// "Verify token".
    verify_token: String,
    /// The fields to subscribe to; others are taken too.
    #[schema(value_type = Vec<String>)]
    fields: [&'static str; 4],
}

/// What to set in Evolution API, wuzapi or WAHA.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BridgePaste {
    /// What the product shows or signs with.
    secret: String,
    /// For a product that can be told nothing but a URL: it holds the secret.
    #[schema(
        example = "https://bus.example.com/sources/waha/ins_01ARZ3NDEKTSV4RRFFQ69G5FAV?secret=zb_x"
    )]
    url_with_secret: String,
    /// The requests that set the product up, in order; what stands in braces is the product's
    /// own.
    requests: Vec<UpstreamRequest>,
}

/// A request to the API of a bridged product.
#[derive(Debug, Serialize, ToSchema)]
struct UpstreamRequest {
    /// Method and path.
    #[schema(value_type = String, example = "POST /webhook/set/{instance}")]
    request: &'static str,
    /// Its JSON body.
    #[schema(value_type = Object)]
    body: Value,
}

impl Paste {
    /// What makes the upstream of this source post to `url`.
    pub(super) fn of(source: &Source, url: &str) -> Option<Self> {
        match source {
            Source::Native => None,
            Source::CloudApi(cloud_api) => Some(Self::Meta(MetaPaste::new(cloud_api, url))),
            Source::Bridge(bridge) => Some(Self::Bridge(BridgePaste::new(bridge, url))),
        }
    }
}

impl MetaPaste {
    fn new(cloud_api: &CloudApi, url: &str) -> Self {
        Self {
            callback_url: url.to_owned(),
            verify_token: cloud_api.verify_token.clone(),
            fields: FIELDS,
        }
    }
}

impl BridgePaste {
    fn new(bridge: &Bridge, url: &str) -> Self {
        let secret = &bridge.secret;
        let escaped: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let requests = match bridge.product {
            Product::Evolution => vec![UpstreamRequest {
                request: "POST /webhook/set/{instance}",
                body: json!({ "webhook": {
                    "enabled": true,
                    "url": url,
                    "headers": { "Authorization": format!("Bearer {secret}") },
                    "byEvents": false,
                    "base64": true,
                    // None named: all.
                    "events": [],
                } }),
            }],
            Product::Wuzapi => vec![
                UpstreamRequest {
                    request: "POST /session/hmac/config",
                    body: json!({ "hmac_key": secret }),
                },
                UpstreamRequest {
                    request: "POST /webhook",
                    body: json!({ "webhookURL": url, "events": ["All"] }),
                },
            ],
            Product::Waha => vec![UpstreamRequest {
                request: "PUT /api/sessions/{session}",
                body: json!({ "config": { "webhooks": [{
                    "url": url,
                    "events": ["*"],
                    "hmac": { "key": secret },
                    "retries": { "policy": "exponential", "delaySeconds": 2, "attempts": 15 },
                }] } }),
            }],
        };
        let url_with_secret = format!("{url}?secret={escaped}");
        Self { secret: secret.clone(), url_with_secret, requests }
    }
}
