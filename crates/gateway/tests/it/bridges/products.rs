//! What each bridged product posts, and how it shows that it is the one who posts.

use std::{fs, path::PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use reqwest::Response;
use serde_json::{Value, json};
use sha2::{Sha256, Sha512};
use zapbus_event::{
    Draft,
    source::{Decoded, evolution, waha, wuzapi},
};

use crate::{
    api::text,
    api_cloud_api::put,
    server::{Gateway, expect_json},
};

/// The secret of every source here.
pub(super) const SECRET: &str = "secret-of-the-bridges-0123456789-abcdef";

/// A bridged product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Product {
    /// Its name, which is also that of its fixtures' folder.
    pub(super) name: &'static str,
    /// Where it puts its signature.
    pub(super) header: Option<&'static str>,
}

pub(super) const EVOLUTION: Product = Product { name: "evolution", header: None };
pub(super) const WUZAPI: Product = Product { name: "wuzapi", header: Some("x-hmac-signature") };
pub(super) const WAHA: Product = Product { name: "waha", header: Some("x-webhook-hmac") };

impl Product {
    fn read(self, file: &str) -> Vec<u8> {
        let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../event/fixtures");
        fs::read(fixtures.join(self.name).join(file)).unwrap()
    }

    /// Its fixtures, with the types of their events.
    pub(super) fn expected(self) -> Vec<(String, Vec<String>)> {
        let all: Vec<Value> = serde_json::from_slice(&self.read("expected.json")).unwrap();
        let types = |row: &Value| {
            row["types"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it.as_str().unwrap().to_owned())
                .collect()
        };
        all.iter().map(|row| (text(row, "file"), types(row))).collect()
    }

    /// A fixture as the product posts it.
    pub(super) fn post(self, file: &str) -> Post {
        let mut post = Post {
            product: self,
            body: self.read(file),
            content_type: "application/json".to_owned(),
            headers: Vec::new(),
            query: String::new(),
            secret: Some(SECRET.to_owned()),
        };
        if file == "message-text-form-fields.json" {
            let fields: Value = serde_json::from_slice(&post.body).unwrap();
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in fields.as_object().unwrap() {
                form.append_pair(name, value.as_str().unwrap());
            }
            post.body = form.finish().into_bytes();
            "application/x-www-form-urlencoded".clone_into(&mut post.content_type);
        }
        post
    }

    /// The signature over these words.
    pub(super) fn sign(self, secret: &str, signed: &[u8]) -> String {
        let key = secret.as_bytes();
        match self {
            WAHA => {
                let mac = Hmac::<Sha512>::new_from_slice(key).unwrap().chain_update(signed);
                hex::encode(mac.finalize().into_bytes())
            }
            _ => {
                let mac = Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(signed);
                hex::encode(mac.finalize().into_bytes())
            }
        }
    }
}

/// A request of a product.
#[derive(Clone)]
pub(super) struct Post {
    product: Product,
    pub(super) body: Vec<u8>,
    pub(super) content_type: String,
    headers: Vec<(String, String)>,
    query: String,
    /// It signs with this, or shows it; nothing of the kind without.
    secret: Option<String>,
}

impl Post {
    pub(super) fn unsigned(mut self) -> Self {
        self.secret = None;
        self
    }

    pub(super) fn signed_with(mut self, secret: &str) -> Self {
        self.secret = Some(secret.to_owned());
        self
    }

    pub(super) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn with_query(mut self, query: &str) -> Self {
        query.clone_into(&mut self.query);
        self
    }

    pub(super) fn with_bytes(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(super) fn with_body(self, body: &Value) -> Self {
        self.with_bytes(body.to_string().as_bytes())
    }

    pub(super) fn with_content_type(mut self, content_type: &str) -> Self {
        content_type.clone_into(&mut self.content_type);
        self
    }

    /// What it says.
    pub(super) fn decoded(&self) -> impl Iterator<Item = Draft> + use<> {
        let decoded: Decoded = match self.product {
            EVOLUTION => evolution::decode(&self.body, None),
            WUZAPI => wuzapi::decode(&self.body, Some(&self.content_type)),
            _ => waha::decode(&self.body),
        };
        decoded.events.into_iter().map(|routed| routed.draft)
    }

    /// Posts it to the URL of an instance.
    pub(super) async fn send(&self, gateway: &Gateway, target: &str) -> Response {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let url = format!("{}/sources/{}/{target}{query}", gateway.url, self.product.name);
        let mut request = gateway.client.post(url).header("content-type", &self.content_type);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(secret) = &self.secret {
            request = match self.product.header {
                Some(header) => request.header(header, self.product.sign(secret, &self.body)),
                None => request.header("authorization", format!("Bearer {secret}")),
            };
        }
        request.body(self.body.clone()).send().await.unwrap()
    }
}

/// An instance with a source of this product: its id.
pub(super) async fn connect(gateway: &Gateway, product: Product, name: &str) -> String {
    let made = gateway.create_instance(name).await;
    let id = text(&made, "id");
    let source = json!({ "type": product.name, "secret": SECRET });
    let path = format!("/v1/instances/{id}/source");
    expect_json(put(gateway, &path, &source).await, 200).await;
    id
}
