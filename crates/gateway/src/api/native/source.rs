//! Where events enter: Meta's webhook for one number, or for all numbers of an account's app; the
//! webhook of a bridged product.

mod paste;

use std::collections::HashSet;

use axum::extract::State;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zapbus_event::{AccountId, InstanceId, data::InstanceAction};
use zapbus_store::{Append, InstancePatch, NewEvent};

use self::paste::Paste;
use super::{complete, instances, refuse_if_any};
use crate::{
    api::{
        auth::Caller,
        body::{self, Json, Path},
        error::{ApiError, Changing, Fault, Named},
        token,
    },
    app::App,
    source::{Bridge, CloudApi, Product, Source},
};

/// What stands in `type`.
const EXPECTED: &str = "expected `cloud-api`, `evolution`, `wuzapi`, `waha` or `native`";

/// The shortest HMAC key that wuzapi takes.
const WUZAPI_KEY: usize = 32;

/// The shortest secret of the other bridged products.
const SECRET: usize = 16;

/// Where events enter. `native` needs nothing else, nor do `evolution`, `wuzapi` and `waha`;
/// `cloud-api` needs the app secret.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "only describes what `read` takes")]
pub(super) struct SourceRequest {
    /// `cloud-api`, `evolution`, `wuzapi`, `waha` or `native`.
    #[schema(example = "cloud-api")]
    r#type: String,
    /// Of a bridged product: what it shows, or signs with. Left out: it stays, or is made if there
    /// is none; `null`: a new one is made.
    secret: Option<String>,
    /// Meta's app secret: it signs what Meta posts. Left out: it stays.
    app_secret: Option<String>,
    /// The token Meta repeats when the callback URL is set. Left out: it stays, or is made if there
    /// is none.
    verify_token: Option<String>,
    /// The number whose changes are this instance's. Left out: whatever no other instance of
    /// the account claims.
    #[schema(example = "900000000000101")]
    phone_number_id: Option<String>,
    /// Opens Meta's Graph API, for the files of messages. Left out: it stays; `null` takes it away.
    access_token: Option<String>,
}

/// The members of a `cloud-api` source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CloudApiMembers {
    #[serde(default)]
    app_secret: Option<String>,
    #[serde(default)]
    verify_token: Option<String>,
    #[serde(default)]
    phone_number_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    access_token: Option<Option<String>>,
}

/// Tells `null` from absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The members of the source of a bridged product.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BridgeMembers {
    #[serde(default, deserialize_with = "present")]
    secret: Option<Option<String>>,
}

/// The members of a `native` source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NativeMembers {}

/// A source as it is set, and what to do upstream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Source)]
pub(super) struct SourceAnswer {
    /// `cloud-api`, `evolution`, `wuzapi`, `waha` or `native`.
    #[schema(value_type = String, example = "cloud-api")]
    r#type: &'static str,
    /// Where upstream posts to: paste it there.
    #[schema(example = "https://bus.example.com/sources/cloud-api/ins_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    url: String,
    /// The number whose changes are this instance's.
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_number_id: Option<String>,
    /// Whether files of messages can be fetched with a token; of `cloud-api`.
    #[serde(skip_serializing_if = "Option::is_none")]
    has_access_token: Option<bool>,
    /// What to enter upstream. Of Meta's webhook only in the answer that sets it; of a bridged
    /// product for whoever may set it.
    #[serde(skip_serializing_if = "Option::is_none")]
    paste: Option<Paste>,
}

impl SourceAnswer {
    fn new(source: &Source, url: String) -> Self {
        let (phone_number_id, has_access_token) = match source {
            Source::CloudApi(cloud_api) => {
                (cloud_api.phone_number_id.clone(), Some(cloud_api.access_token.is_some()))
            }
            Source::Native | Source::Bridge(_) => (None, None),
        };
        Self { r#type: source.kind(), url, phone_number_id, has_access_token, paste: None }
    }

    fn with_paste(mut self, source: &Source) -> Self {
        self.paste = Paste::of(source, &self.url);
        self
    }
}

/// Reads a source: first its `type`, then what that type takes. Secrets that are left out are those
/// of `stored`, if that is of the same type.
pub(in crate::api) fn read(
    document: Value,
    app_level: bool,
    stored: &Source,
) -> Result<Source, ApiError> {
    let Value::Object(mut members) = document else {
        return Err(ApiError::invalid("", "expected an object with `type`"));
    };
    let kind = match members.shift_remove("type") {
        Some(Value::String(kind)) => kind,
        _ => return Err(ApiError::invalid("type", EXPECTED)),
    };
    let members = Value::Object(members);
    let product = Product::ALL.into_iter().find(|product| product.as_str() == kind);
    match (kind.as_str(), product) {
        ("native", _) => {
            body::convert::<NativeMembers>("", members)?;
            Ok(Source::Native)
        }
        ("cloud-api", _) => {
            let stored = match stored {
                Source::CloudApi(stored) => Some(stored),
                Source::Native | Source::Bridge(_) => None,
            };
            cloud_api(members, app_level, stored).map(Source::CloudApi)
        }
        (_, Some(product)) if app_level => Err(ApiError::invalid(
            "type",
            format!(
                "a source of type `{}` belongs to one instance: set that of the instance",
                product.as_str()
            ),
        )),
        (_, Some(product)) => {
            let stored = match stored {
                Source::Bridge(stored) if stored.product == product => Some(stored),
                Source::Bridge(_) | Source::Native | Source::CloudApi(_) => None,
            };
            bridge(product, members, stored).map(Source::Bridge)
        }
        (other, None) => {
            let near = ["cloud-api", "native", "evolution", "wuzapi", "waha"]
                .into_iter()
                .find(|name| strsim::damerau_levenshtein(name, other) <= 3);
            let hint = near.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            Err(ApiError::invalid("type", format!("unknown source, {EXPECTED}{hint}")))
        }
    }
}

fn bridge(product: Product, members: Value, stored: Option<&Bridge>) -> Result<Bridge, ApiError> {
    let members: BridgeMembers = body::convert("", members)?;
    let secret = match (members.secret, stored) {
        (Some(Some(secret)), _) => secret,
        (None, Some(stored)) => return Ok(stored.clone()),
        (Some(None), _) | (None, None) => {
            return Ok(Bridge { product, secret: token::generate()? });
        }
    };
    let shortest = if product == Product::Wuzapi { WUZAPI_KEY } else { SECRET };
    let fits = (shortest..=256).contains(&secret.len());
    if !fits || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("expected {shortest} to 256 visible ASCII characters");
        return Err(ApiError::invalid("secret", message));
    }
    Ok(Bridge { product, secret })
}

fn cloud_api(
    members: Value,
    app_level: bool,
    stored: Option<&CloudApi>,
) -> Result<CloudApi, ApiError> {
    let members: CloudApiMembers = body::convert("", members)?;
    let mut faults = Vec::new();
    let text = "expected 1 to 256 visible ASCII characters";
    let fits = |text: &str| {
        (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let app_secret = members.app_secret.or_else(|| stored.map(|stored| stored.app_secret.clone()));
    if !app_secret.as_deref().is_some_and(fits) {
        faults.push(Fault::new("app_secret", text));
    }
    let access_token = members
        .access_token
        .unwrap_or_else(|| stored.and_then(|stored| stored.access_token.clone()));
    let fits_token = |token: &str| {
        (1..=4_096).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if access_token.as_deref().is_some_and(|token| !fits_token(token)) {
        let text = "expected 1 to 4096 visible ASCII characters";
        faults.push(Fault::new("access_token", text));
    }
    if members.verify_token.as_deref().is_some_and(|token| !fits(token)) {
        faults.push(Fault::new("verify_token", text));
    }
    match &members.phone_number_id {
        Some(_) if app_level => faults.push(Fault::new(
            "phone_number_id",
            "belongs to the source of an instance; an app's source serves all numbers",
        )),
        Some(id) if !fits(id) || id.len() > 64 => faults.push(Fault::new(
            "phone_number_id",
            "expected Meta's id of the number, for example 106540352242922",
        )),
        _ => {}
    }
    refuse_if_any(faults)?;
    Ok(CloudApi {
        app_secret: app_secret.unwrap_or_default(),
        verify_token: match (members.verify_token, stored) {
            (Some(token), _) => token,
            (None, Some(stored)) => stored.verify_token.clone(),
            (None, None) => token::generate()?,
        },
        phone_number_id: members.phone_number_id,
        access_token,
    })
}

/// Shows where an instance's events enter, and what to set in a bridged product for that.
#[utoipa::path(
    get, path = "/v1/instances/{instance}/source", tag = "sources",
    params(("instance" = String, Path, description = "Id in any form, or name.")),
    responses((status = 200, body = SourceAnswer), Named)
)]
pub(super) async fn show_source(
    State(app): State<App>,
    caller: Caller,
    Path(instance): Path<String>,
) -> Result<axum::Json<SourceAnswer>, ApiError> {
    let known = caller.instance(&app, &instance).await?;
    let url = instance_url(&app, &known.source, known.instance.id);
    let answer = SourceAnswer::new(&known.source, url);
    // Who cannot change it has no use for its secret.
    let is_shown = matches!(known.source, Source::Bridge(_)) && caller.need_account().is_ok();
    Ok(axum::Json(if is_shown { answer.with_paste(&known.source) } else { answer }))
}

/// Sets where an instance's events enter. What is posted natively is taken beside any source.
/// A change is the event `instance.lifecycle` with action `loaded`.
#[utoipa::path(
    put, path = "/v1/instances/{instance}/source", tag = "sources", request_body = SourceRequest,
    params(("instance" = String, Path, description = "Id in any form, or name.")),
    responses((status = 200, body = SourceAnswer, description = "With what to paste upstream."), Changing)
)]
pub(super) async fn set_source(
    State(app): State<App>,
    caller: Caller,
    Path(instance): Path<String>,
    body: Json<Value>,
) -> Result<axum::Json<SourceAnswer>, ApiError> {
    let known = caller.instance(&app, &instance).await?;
    caller.need_account()?;
    instances::refuse_reserved(&known.instance)?;
    let source = read(body.value, false, &known.source)?;
    complete(async move {
        let before = &known.instance;
        let patch = InstancePatch {
            source: Some(Some(source.to_document())),
            route: Some(source.route()),
            ..InstancePatch::default()
        };
        let changed = app.store.update_instance(before.id, patch, &caller.actor()).await;
        app.directory.forget_instance(before);
        changed?;
        app.directory.forget_instance(&instances::current(&app, before.id).await?);
        if source != known.source {
            loaded(&app, before.id).await;
        }
        let url = instance_url(&app, &source, before.id);
        Ok(axum::Json(SourceAnswer::new(&source, url).with_paste(&source)))
    })
    .await
}

/// Tells the instance's destinations that its events enter another way from now on. The source is
/// set whether they are told or not.
async fn loaded(app: &App, instance: InstanceId) {
    let draft = instances::lifecycle(app, InstanceAction::Loaded);
    let append = Append { events: vec![NewEvent { instance, draft }], body: None };
    if let Err(error) = app.ingest.append(append).await {
        tracing::warn!(event = "instance.not_announced", %instance, %error, "`loaded` was not written");
    }
}

/// Where upstream posts to for one instance. Holds the id: names can change.
fn instance_url(app: &App, source: &Source, id: InstanceId) -> String {
    let public = &app.public_url;
    match source {
        Source::Native => format!("{public}/v1/instances/{id}/events"),
        Source::CloudApi(_) | Source::Bridge(_) => {
            format!("{public}/sources/{}/{id}", source.kind())
        }
    }
}

/// Shows the source that serves all numbers of an account's Meta app.
#[utoipa::path(
    get, path = "/v1/source", tag = "sources",
    params(("zapbus-account" = Option<String>, Header, description = "With the admin token: the account to act in, by id or name.")),
    responses((status = 200, body = SourceAnswer), Named)
)]
pub(super) async fn show_account_source(
    State(app): State<App>,
    caller: Caller,
) -> Result<axum::Json<SourceAnswer>, ApiError> {
    caller.need_account()?;
    let account = caller.acting_account(&app).await?;
    let stored = app.store.account(account).await?.and_then(|account| account.source);
    let source = match &stored {
        Some(document) => Source::from_document(document).map_err(ApiError::internal)?,
        None => Source::Native,
    };
    Ok(axum::Json(SourceAnswer::new(&source, account_url(&app, &source, account))))
}

/// Sets the source that serves all numbers of an account's Meta app: each change goes to the
/// instance with its `phone_number_id`, all else to the account's instance `_account`.
/// `native` takes it away.
#[utoipa::path(
    put, path = "/v1/source", tag = "sources", request_body = SourceRequest,
    params(("zapbus-account" = Option<String>, Header, description = "With the admin token: the account to act in, by id or name.")),
    responses((status = 200, body = SourceAnswer, description = "With what to paste upstream."), Changing)
)]
pub(super) async fn set_account_source(
    State(app): State<App>,
    caller: Caller,
    body: Json<Value>,
) -> Result<axum::Json<SourceAnswer>, ApiError> {
    caller.need_account()?;
    let account = caller.acting_account(&app).await?;
    let stored = app.store.account(account).await?.and_then(|account| account.source);
    let stored = stored.as_ref().and_then(|document| Source::from_document(document).ok());
    let source = read(body.value, true, stored.as_ref().unwrap_or(&Source::Native))?;
    refuse_one_too_many(&app, &source, account).await?;
    complete(async move {
        let document = match &source {
            Source::Native | Source::Bridge(_) => None,
            Source::CloudApi(_) => Some(source.to_document()),
        };
        let set = app.store.set_account_source(account, document, &caller.actor()).await;
        app.directory.forget_account(account);
        set?;
        let url = account_url(&app, &source, account);
        Ok(axum::Json(SourceAnswer::new(&source, url).with_paste(&source)))
    })
    .await
}

/// Distinct app secrets of app-level sources: each is tried on what comes to the URL that all
/// accounts share.
const MAX_SECRETS: usize = 1_000;

/// Refuses a secret that would be one more than are tried.
async fn refuse_one_too_many(
    app: &App,
    source: &Source,
    account: AccountId,
) -> Result<(), ApiError> {
    let Source::CloudApi(new) = source else { return Ok(()) };
    let sources = app.directory.app_sources().await?;
    let others: HashSet<&str> = sources
        .iter()
        .filter(|other| other.account != account)
        .map(|other| other.cloud_api.app_secret.as_str())
        .collect();
    if others.len() >= MAX_SECRETS && !others.contains(new.app_secret.as_str()) {
        return Err(ApiError::Conflict {
            code: "too_many_sources",
            reason: format!(
                "{MAX_SECRETS} Meta apps have an app-level source already. Set the source of \
                 each instance instead, or take one away."
            ),
        });
    }
    Ok(())
}

/// Where Meta posts to for a whole app. Holds the account's id, so that one secret is tried.
fn account_url(app: &App, source: &Source, account: AccountId) -> String {
    let public = &app.public_url;
    match source {
        Source::Native | Source::Bridge(_) => format!("{public}/v1/instances/{{instance}}/events"),
        Source::CloudApi(_) => format!("{public}/sources/cloud-api/{account}"),
    }
}
