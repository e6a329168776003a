//! Meta's webhook.
//!
//! A callback URL belongs to one instance, to one account's app (its id in the path), or to any
//! app whose secret verifies (nothing in the path). Each change of a body goes by itself: to the
//! instance of the account with its `phone_number_id`, in whichever URL it came; then, at the
//! URL of an instance that names no number, to that instance; else to the account's instance
//! `_account`, where what concerns the whole business account goes too. What names neither a
//! number nor a business account (nothing of it was understood) stays with the instance of the
//! URL. One body is one append.
//!
//! Several accounts may share one Meta app, and so one secret. A change is then that of the
//! account with its number; one of an unknown number, or of none, is that of the account with
//! another number of the same business account, as far as one was seen; else that of the oldest
//! of these accounts.

mod guesses;

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, header};
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use utoipa::IntoParams;
use zapbus_event::{AccountId, InstanceId, SourceKind, source::cloud_api};
use zapbus_store::{Append, NewEvent};

pub use self::guesses::Guesses;
use self::guesses::Names;
use super::door::{self, ReceivedAnswer, Visit};
use crate::{
    api::{
        body::{Path, Query},
        error::{ApiError, Greeting, Receiving, What},
        native::hops,
    },
    app::App,
    directory::{AppSource, Known},
    source::{CloudApi, Source, cloud_api_route},
};

/// The header with the signature of the raw body.
const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("x-hub-signature-256");

/// What the signature must be.
pub(in crate::api) const EXPECTED: &str = "The header `X-Hub-Signature-256` must be `sha256=` \
                                           and the HMAC-SHA256 of the raw body under the app \
                                           secret of this source.";

/// Bytes that are hashed without handing them to another thread.
const HASHED_AT_ONCE: usize = 64 << 10;

/// The parameters of Meta's handshake; their names have dots. Others are none of our business.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Handshake {
    /// `subscribe`.
    #[serde(rename = "hub.mode")]
    mode: Option<String>,
    /// The verify token of the source.
    #[serde(rename = "hub.verify_token")]
    verify_token: Option<String>,
    /// What to answer.
    #[serde(rename = "hub.challenge")]
    challenge: Option<String>,
}

/// Whose a callback URL is.
enum Callback {
    /// One instance's.
    Instance(Arc<Known>, CloudApi),
    /// Any of these accounts' apps.
    Apps(Apps),
}

/// App-level sources: one account's, or all.
struct Apps {
    all: Arc<Vec<AppSource>>,
    only: Option<AccountId>,
}

impl Apps {
    fn iter(&self) -> impl Iterator<Item = &AppSource> {
        self.all.iter().filter(|app| self.only.is_none_or(|only| app.account == only))
    }
}

impl Callback {
    /// What the last segment of the path stands for: an instance by id or name, or an account
    /// by id.
    async fn find(app: &App, headers: &HeaderMap, target: &str) -> Result<Self, ApiError> {
        if let Ok(account) = target.parse::<AccountId>() {
            return Self::apps(app, Some(account)).await;
        }
        let known = door::instance(app, headers, target).await?;
        match &known.source {
            Source::CloudApi(cloud_api) => Ok(Self::Instance(known.clone(), cloud_api.clone())),
            // Nothing listens there: as if there were no such instance.
            Source::Native | Source::Bridge(_) => Err(ApiError::NotFound(What::Instance)),
        }
    }

    /// The app-level sources: one account's, or all. There being none, nothing listens there.
    async fn apps(app: &App, only: Option<AccountId>) -> Result<Self, ApiError> {
        let apps = Apps { all: app.directory.app_sources().await?, only };
        if apps.iter().next().is_none() {
            return Err(ApiError::NotFound(What::Account));
        }
        Ok(Self::Apps(apps))
    }

    /// What it is called in the log.
    fn name(&self) -> String {
        match self {
            Self::Instance(known, _) => known.instance.id.to_string(),
            Self::Apps(Apps { only: Some(account), .. }) => account.to_string(),
            Self::Apps(Apps { only: None, .. }) => "any app".to_owned(),
        }
    }

    /// What each source is checked with.
    fn sources(&self) -> impl Iterator<Item = &CloudApi> {
        let (one, several) = match self {
            Self::Instance(_, cloud_api) => (Some(cloud_api), None),
            Self::Apps(apps) => (None, Some(apps)),
        };
        let several = several.into_iter().flat_map(Apps::iter).map(|app| &app.cloud_api);
        one.into_iter().chain(several)
    }

    /// Whose secret signed these bytes.
    async fn signer(
        &self,
        app: &App,
        body: &Bytes,
        signature: [u8; 32],
    ) -> Result<Option<Signer<'_>>, ApiError> {
        // Each secret once: accounts may share an app, and each costs a hash of the whole body.
        let mut secrets: Vec<&str> =
            self.sources().map(|source| source.app_secret.as_str()).collect();
        secrets.sort_unstable();
        secrets.dedup();
        let mut found = None;
        if let Self::Apps(apps) = self
            && secrets.len() > guesses::FREE
        {
            let likely = likely_secrets(app, apps, body).await?;
            found = find_secret(likely.iter().map(String::as_str), body, signature).await?;
            secrets.retain(|secret| !likely.iter().any(|tried| tried == secret));
            let cost = body.len().saturating_mul(secrets.len());
            if found.is_none() && !app.guesses.allow(cost, Instant::now()) {
                return Err(ApiError::Busy);
            }
        }
        if found.is_none() {
            found = find_secret(secrets.into_iter(), body, signature).await?;
        }
        let Some(secret) = found else { return Ok(None) };
        Ok(Some(match self {
            Self::Instance(known, _) => {
                Signer { accounts: vec![known.instance.account], instance: Some(known) }
            }
            Self::Apps(apps) => {
                let own = apps.iter().filter(|app| app.cloud_api.app_secret == secret);
                Signer { accounts: own.map(|app| app.account).collect(), instance: None }
            }
        }))
    }
}

/// The first of the secrets that signed these bytes.
async fn find_secret<'a>(
    secrets: impl ExactSizeIterator<Item = &'a str>,
    body: &Bytes,
    signature: [u8; 32],
) -> Result<Option<String>, ApiError> {
    let mut secrets = secrets.map(str::to_owned);
    if body.len().saturating_mul(secrets.len()) <= HASHED_AT_ONCE {
        return Ok(secrets.find(|secret| verifies(secret, body, &signature)));
    }
    let (secrets, body) = (secrets.collect::<Vec<_>>(), body.clone());
    tokio::task::spawn_blocking(move || {
        secrets.into_iter().find(|secret| verifies(secret, &body, &signature))
    })
    .await
    .map_err(ApiError::internal)
}

/// The secrets of the accounts that the body seems to speak of: a handful at most.
async fn likely_secrets(app: &App, apps: &Apps, body: &Bytes) -> Result<Vec<String>, ApiError> {
    let names = Names::of(body);
    let mut accounts = Vec::new();
    for number in names.numbers {
        let oldest = app.directory.oldest_routed(&cloud_api_route(&number)).await?;
        accounts.extend(oldest.map(|known| known.instance.account));
    }
    let seen = names.businesses.iter();
    accounts.extend(seen.filter_map(|waba| app.directory.account_seen_with(waba)));
    let mut secrets: Vec<String> = apps
        .iter()
        .filter(|source| accounts.contains(&source.account))
        .map(|source| source.cloud_api.app_secret.clone())
        .collect();
    secrets.sort_unstable();
    secrets.dedup();
    Ok(secrets)
}

/// Whose changes these are.
struct Signer<'a> {
    /// The accounts whose app this is, the oldest first; at least one.
    accounts: Vec<AccountId>,
    /// The instance whose URL they came to.
    instance: Option<&'a Arc<Known>>,
}

/// Constant in time.
fn verifies(app_secret: &str, body: &[u8], signature: &[u8]) -> bool {
    Hmac::<Sha256>::new_from_slice(app_secret.as_bytes())
        .is_ok_and(|mac| mac.chain_update(body).verify_slice(signature).is_ok())
}

/// The bytes of `sha256=<hex>`.
pub(in crate::api) fn signature(headers: &HeaderMap) -> Result<[u8; 32], ApiError> {
    let refuse = |reason| ApiError::WrongSignature { reason, expected: EXPECTED };
    let value = headers
        .get(&SIGNATURE_HEADER)
        .ok_or_else(|| refuse("The signature is missing"))?
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("sha256="))
        .ok_or_else(|| refuse("The signature is not `sha256=<hex>`"))?;
    let mut bytes = [0; 32];
    hex::decode_to_slice(value.trim(), &mut bytes)
        .map_err(|_| refuse("The signature is not `sha256=<hex>`"))?;
    Ok(bytes)
}

/// Answers Meta's handshake for the callback URL of an instance or of one account's app.
#[utoipa::path(
    get, path = "/sources/cloud-api/{target}", tag = "sources", security(()),
    params(("target" = String, Path, description = "An instance (id or name), or the id of an account with an app-level source."), Handshake),
    responses(
        (status = 200, body = String, content_type = "text/plain", description = "The challenge."),
        Greeting,
    )
)]
pub(super) async fn verify_callback(
    State(app): State<App>,
    Path(target): Path<String>,
    headers: HeaderMap,
    Query(handshake): Query<Handshake>,
) -> Result<Response, ApiError> {
    answer_handshake(&Callback::find(&app, &headers, &target).await?, handshake)
}

/// Answers Meta's handshake for the callback URL that all app-level sources share.
#[utoipa::path(
    get, path = "/sources/cloud-api", tag = "sources", security(()), params(Handshake),
    responses(
        (status = 200, body = String, content_type = "text/plain", description = "The challenge."),
        Greeting,
    )
)]
pub(super) async fn verify_app_callback(
    State(app): State<App>,
    Query(handshake): Query<Handshake>,
) -> Result<Response, ApiError> {
    answer_handshake(&Callback::apps(&app, None).await?, handshake)
}

fn answer_handshake(callback: &Callback, handshake: Handshake) -> Result<Response, ApiError> {
    let given = handshake.verify_token.unwrap_or_default();
    // All of them are compared, so that the time says nothing about which one is near.
    let known = callback.sources().fold(false, |known, source| {
        known | bool::from(source.verify_token.as_bytes().ct_eq(given.as_bytes()))
    });
    match handshake.challenge {
        Some(challenge) if known && handshake.mode.as_deref() == Some("subscribe") => {
            // A browser must not take what a stranger made it ask for as a page of ours.
            let headers = [
                (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            Ok((headers, challenge).into_response())
        }
        _ => Err(ApiError::Forbidden { needs: "the verify token of this source" }),
    }
}

/// Takes what Meta posts to the callback URL of an instance or of one account's app.
///
/// Each change goes to the instance of the account that has its `phone_number_id`; what belongs
/// to no number, or to an unknown one, goes to the account's instance `_account`. A body that
/// is signed but not understood is kept as `event.unknown`.
#[utoipa::path(
    post, path = "/sources/cloud-api/{target}", tag = "sources", security(()),
    request_body(content = Object, content_type = "application/json", description = "As Meta posts it."),
    params(
        ("target" = String, Path, description = "An instance (id or name), or the id of an account with an app-level source."),
        ("X-Hub-Signature-256" = String, Header, description = "`sha256=` and the HMAC-SHA256 of the raw body under the app secret, as hex."),
    ),
    responses(
        (status = 200, body = ReceivedAnswer, description = "It is durable."),
        Receiving,
    )
)]
pub(super) async fn receive_changes(
    State(app): State<App>,
    Path(target): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let callback = Callback::find(&app, request.headers(), &target).await;
    receive(&app, callback, request).await
}

/// Takes what Meta posts to the callback URL that all app-level sources share: it belongs to the
/// account whose app secret signed it.
#[utoipa::path(
    post, path = "/sources/cloud-api", tag = "sources", security(()),
    request_body(content = Object, content_type = "application/json", description = "As Meta posts it."),
    params(("X-Hub-Signature-256" = String, Header, description = "`sha256=` and the HMAC-SHA256 of the raw body under the app secret, as hex.")),
    responses(
        (status = 200, body = ReceivedAnswer, description = "It is durable."),
        Receiving,
    )
)]
pub(super) async fn receive_app_changes(
    State(app): State<App>,
    request: Request,
) -> Result<Response, ApiError> {
    let callback = Callback::apps(&app, None).await;
    receive(&app, callback, request).await
}

async fn receive(
    app: &App,
    callback: Result<Callback, ApiError>,
    request: Request,
) -> Result<Response, ApiError> {
    let visit = Visit::of(SourceKind::CloudApi, &request);
    let callback = callback.map_err(|error| visit.lost(app, error))?;
    let result = store(app, &callback, request).await;
    visit.answer(app, || callback.name(), result)
}

async fn store(app: &App, callback: &Callback, request: Request) -> Result<usize, ApiError> {
    let signature = signature(request.headers())?;
    let hops = hops(request.headers())?;
    let limit = app.config.ingest.max_event_bytes;
    let read = app.bodies.read_of_stranger(request, limit, "The body").await?;
    let body = &read.bytes;
    let began = Instant::now();
    let signer = callback.signer(app, body, signature).await?.ok_or(ApiError::WrongSignature {
        reason: "The signature does not fit the body",
        expected: EXPECTED,
    })?;
    let append = routed(app, &signer, body, hops).await?;
    let appended = app.ingest.append_since(began, append).await?;
    Ok(appended.iter().filter(|event| !event.duplicate).count())
}

/// The events of a body, each with its instance.
async fn routed(
    app: &App,
    signer: &Signer<'_>,
    body: &Bytes,
    hops: u8,
) -> Result<Append, ApiError> {
    let decoded = cloud_api::decode(body);
    // Most bodies hold one event, and most others events of one number.
    let mut last: Option<(Owner, InstanceId)> = None;
    let mut events = Vec::with_capacity(decoded.events.len());
    for event in decoded.events {
        let owner = Owner { number: event.phone_number_id, waba: event.waba_id };
        let instance = match &last {
            Some((same, instance)) if *same == owner => *instance,
            _ => route(app, signer, &owner).await?,
        };
        last = Some((owner, instance));
        let mut draft = event.draft;
        draft.hops = hops;
        events.push(NewEvent { instance, draft });
    }
    let body = decoded.keep_body.is_some().then(|| body.clone());
    Ok(Append { events, body })
}

/// Whom a change concerns, as far as it says.
#[derive(Debug, PartialEq, Eq)]
struct Owner {
    /// The id of the number; of the business account as a whole when it names none.
    number: Option<String>,
    /// The id of the business account; nothing was understood when it names neither.
    waba: Option<String>,
}

/// The instance that a change belongs to.
async fn route(app: &App, signer: &Signer<'_>, owner: &Owner) -> Result<InstanceId, ApiError> {
    let own = signer.instance.and_then(|known| match &known.source {
        Source::CloudApi(cloud_api) => {
            Some((known.instance.id, cloud_api.phone_number_id.as_deref()))
        }
        Source::Native | Source::Bridge(_) => None,
    });
    let shared = signer.accounts.len() > 1;
    match (&owner.number, own) {
        (Some(number), Some((id, Some(claimed)))) if number == claimed => return Ok(id),
        (Some(number), own) => {
            let route = cloud_api_route(number);
            if let Some(known) = app.directory.instance_routed(&signer.accounts, &route).await? {
                if let (true, Some(waba)) = (shared, &owner.waba) {
                    app.directory.saw_business(waba, known.instance.account, &app.clock).await?;
                }
                return Ok(known.instance.id);
            }
            if let Some((id, None)) = own {
                return Ok(id);
            }
        }
        (None, Some((id, _))) if owner.waba.is_none() => return Ok(id),
        (None, _) => {}
    }
    let seen = match &owner.waba {
        Some(waba) if shared => app.directory.account_of_business(waba, &signer.accounts).await?,
        _ => None,
    };
    let account = seen
        .filter(|account| signer.accounts.contains(account))
        .or_else(|| signer.accounts.first().copied())
        .ok_or_else(|| ApiError::internal("a signer without an account"))?;
    Ok(app.directory.reserved(account).await?.instance.id)
}
