//! Webhooks of products that hold WhatsApp sessions themselves: one path for all of them.
//!
//! Authenticate over the exact bytes, decode, append, answer. The products differ in how a post
//! shows that it is theirs ([`proof`]) and in their decoder. A decoder cannot fail, so that
//! whatever is authentic is stored and answered 200.
//!
//! Evolution does not send again what was answered 400, 401, 403, 404 or 422: here those say
//! that a setting is wrong, never that something is wrong at the moment.

mod proof;
mod size;

use std::time::Instant;

use axum::{
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Deserialize;
use zapbus_event::{
    InstanceId,
    source::{self, Decoded, evolution, waha, wuzapi},
};
use zapbus_store::{Append, NewEvent};

use self::proof::Proof;
use super::door::{self, ReceivedAnswer, Visit};
use crate::{
    api::{
        body::Path,
        error::{ApiError, Receiving, What},
        native::hops,
    },
    app::App,
    source::{Bridge, Product, Source},
};

/// Bytes that are hashed and decoded without handing them to another thread.
const AT_ONCE: usize = 256 << 10;

/// Takes what Evolution API posts for an instance.
///
/// The source's secret comes as `Authorization: Bearer <secret>`, as a token that Evolution signs
/// with it (`jwt_key`), or in the URL. Where each event has a URL of its own, its name follows as a
/// last segment; the name in the body goes before it. What is not understood is kept as
/// `event.unknown`. Nothing that is wrong for the moment only is answered 4xx: Evolution would not
/// send it again.
#[utoipa::path(
    post, path = "/sources/evolution/{instance}", tag = "sources", security(()),
    request_body(content = Object, content_type = "application/json", description = "As Evolution posts it."),
    params(
        ("instance" = String, Path, description = "Id in any form, or name."),
        ("Authorization" = Option<String>, Header, description = "`Bearer` and the secret, or a token signed with it."),
        ("secret" = Option<String>, Query, description = "The secret, where no header can be sent."),
    ),
    responses(
        (status = 200, body = ReceivedAnswer, description = "It is durable."),
        Receiving,
    )
)]
pub(super) async fn receive_evolution(
    State(app): State<App>,
    Path(Target { instance, event }): Path<Target>,
    request: Request,
) -> Result<Response, ApiError> {
    receive(&app, Product::Evolution, &instance, event, request).await
}

/// What stands in the path.
#[derive(Debug, Deserialize)]
pub(super) struct Target {
    instance: String,
    /// The event, for example `messages-upsert`, where each has a URL of its own.
    #[serde(default)]
    event: Option<String>,
}

/// Takes what wuzapi posts for an instance.
#[utoipa::path(
    post, path = "/sources/wuzapi/{instance}", tag = "sources", security(()),
    request_body(
        content(
            (Object = "application/json"), (Object = "application/x-www-form-urlencoded"),
            (Object = "multipart/form-data"),
        ),
        description = "As wuzapi posts it.",
    ),
    params(
        ("instance" = String, Path, description = "Id in any form, or name."),
        ("x-hmac-signature" = Option<String>, Header, description = "The HMAC-SHA256 of the body (of a multipart body: of its fields as JSON) under the secret, as hex."),
        ("secret" = Option<String>, Query, description = "The secret, where nothing is signed."),
    ),
    responses(
        (status = 200, body = ReceivedAnswer, description = "It is durable."),
        Receiving,
    )
)]
pub(super) async fn receive_wuzapi(
    State(app): State<App>,
    Path(instance): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    receive(&app, Product::Wuzapi, &instance, None, request).await
}

/// Takes what WAHA posts for an instance. `message` and `message.any` of one message are one
/// event.
#[utoipa::path(
    post, path = "/sources/waha/{instance}", tag = "sources", security(()),
    request_body(content = Object, content_type = "application/json", description = "As WAHA posts it."),
    params(
        ("instance" = String, Path, description = "Id in any form, or name."),
        ("X-Webhook-Hmac" = Option<String>, Header, description = "The HMAC-SHA512 of the body under the secret, as hex."),
        ("Authorization" = Option<String>, Header, description = "`Bearer` and the secret, where nothing is signed."),
        ("secret" = Option<String>, Query, description = "The secret, where nothing is signed and no header can be sent."),
    ),
    responses(
        (status = 200, body = ReceivedAnswer, description = "It is durable."),
        Receiving,
    )
)]
pub(super) async fn receive_waha(
    State(app): State<App>,
    Path(instance): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    receive(&app, Product::Waha, &instance, None, request).await
}

/// Whose URL it is.
struct Callback {
    instance: InstanceId,
    bridge: Bridge,
}

impl Callback {
    async fn find(
        app: &App,
        product: Product,
        headers: &HeaderMap,
        target: &str,
    ) -> Result<Self, ApiError> {
        let known = door::instance(app, headers, target).await?;
        match &known.source {
            Source::Bridge(bridge) if bridge.product == product => {
                Ok(Self { instance: known.instance.id, bridge: bridge.clone() })
            }
            // Nothing listens there: as if there were no such instance.
            Source::Bridge(_) | Source::CloudApi(_) | Source::Native => {
                Err(ApiError::NotFound(What::Instance))
            }
        }
    }
}

async fn receive(
    app: &App,
    product: Product,
    target: &str,
    segment: Option<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let visit = Visit::of(product.kind(), &request);
    let callback = Callback::find(app, product, request.headers(), target).await;
    let callback = callback.map_err(|error| visit.lost(app, error))?;
    let result = store(app, &callback, segment, request).await;
    visit.answer(app, || callback.instance.to_string(), result)
}

async fn store(
    app: &App,
    callback: &Callback,
    segment: Option<String>,
    request: Request,
) -> Result<usize, ApiError> {
    let bridge = &callback.bridge;
    let (proof, suffix) = Proof::of(bridge, &request, (app.clock)())?;
    let hops = hops(request.headers())?;
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let limits = &app.config.ingest;
    let limit = limits.max_body_bytes;
    let read = match &proof {
        Proof::Shown => app.bodies.read(request, limit, "The body").await,
        Proof::Signed(_) => app.bodies.read_of_stranger(request, limit, "The body").await,
    };
    let read = read.map_err(|error| temporary(error, bridge.product))?;
    let began = Instant::now();
    let post = Post {
        bridge: bridge.clone(),
        proof,
        body: read.bytes.clone(),
        content_type,
        segment: segment.or(suffix),
    };
    let decoded = match read.bytes.len() {
        0..=AT_ONCE => post.decoded(),
        _ => {
            tokio::task::spawn_blocking(move || post.decoded()).await.map_err(ApiError::internal)?
        }
    };
    let decoded = decoded.ok_or_else(|| proof::refusal(bridge.product, proof::DOES_NOT_FIT))?;
    let inline = app.config.store.inline_bytes;
    let limit = limits.max_event_bytes;
    let mut events = Vec::with_capacity(decoded.events.len());
    for routed in decoded.events {
        let mut draft = routed.draft;
        draft.hops = hops;
        if size::exceeds(&draft, inline, limit) {
            return Err(ApiError::TooLarge { what: "An event without its files", limit });
        }
        events.push(NewEvent { instance: callback.instance, draft });
    }
    let body = decoded.keep_body.map(|_| read.bytes.clone());
    let append = Append { events, body };
    let appended = app.ingest.append_since(began, append).await?;
    Ok(appended.iter().filter(|event| !event.duplicate).count())
}

/// Evolution takes 400 for the last word, also on a body that was cut off on its way.
fn temporary(error: ApiError, product: Product) -> ApiError {
    match (error, product) {
        (ApiError::BrokenBody, Product::Evolution) => ApiError::SlowBody,
        (error, _) => error,
    }
}

/// A body with what is needed to read it.
struct Post {
    bridge: Bridge,
    proof: Proof,
    body: Bytes,
    content_type: Option<String>,
    segment: Option<String>,
}

impl Post {
    /// What the body says, if it is the product's.
    fn decoded(&self) -> Option<Decoded> {
        let (key, body) = (self.bridge.secret.as_bytes(), &self.body);
        let content_type = self.content_type.as_deref();
        let is_theirs = match (&self.proof, self.bridge.product) {
            (Proof::Shown, _) => true,
            (Proof::Signed(_), Product::Evolution) => false,
            (Proof::Signed(signature), Product::Wuzapi) => {
                source::signature::wuzapi(key, body, content_type, signature)
            }
            (Proof::Signed(signature), Product::Waha) => {
                source::signature::waha(key, body, signature)
            }
        };
        is_theirs.then(|| match self.bridge.product {
            Product::Evolution => evolution::decode(body, self.segment.as_deref()),
            Product::Wuzapi => wuzapi::decode(body, content_type),
            Product::Waha => waha::decode(body),
        })
    }
}
