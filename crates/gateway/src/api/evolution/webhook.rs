//! An instance's webhook: the destination with the label `evolution/webhook`.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Map, Value, json};
use url::Url;
use zapbus_channel::{Config as Channel, Hidden, webhook};
use zapbus_store::{Instance, Start};

use super::{
    access::Access,
    answer::Failure,
    block::{self, Common, Form},
    body::{Members, Path},
    destination::{self, Stored},
};
use crate::{
    api::{auth::Caller, error::ApiError},
    app::App,
    spec::{EVOLUTION_WEBHOOK as LABEL, Spec},
};

/// The header by which a webhook asks for a token that is signed anew for each attempt. Upstream
/// knows it in lower case only.
const JWT_KEY: &str = "jwt_key";

const URL_KEYS: [&str; 4] = ["url", "webhookUrl", "webhook_url", "webhook"];
const EVENT_KEYS: [&str; 3] = ["events", "webhookEvents", "webhook_events"];
const BY_EVENTS_KEYS: [&str; 3] = ["byEvents", "webhookByEvents", "webhook_by_events"];
const BASE64_KEYS: [&str; 3] = ["base64", "webhookBase64", "webhook_base64"];

/// Members by which a body without an outer object is known.
const MARKS: [&str; 9] = [
    "url",
    "enabled",
    "events",
    "webhook",
    "webhookUrl",
    "webhookByEvents",
    "webhook_by_events",
    "webhookBase64",
    "webhook_base64",
];

/// What a request wants of the webhook; what is `None` stays as it is.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    common: Common,
    url: Option<Written>,
    headers: Option<Headers>,
    by_events: Option<bool>,
    base64: Option<bool>,
}

/// A URL, and how it was written: rows and bodies show it so.
#[derive(Debug, Clone)]
struct Written {
    url: Url,
    text: String,
}

#[derive(Debug, Clone, Default)]
struct Headers {
    own: BTreeMap<String, Hidden>,
    jwt_key: Option<Hidden>,
}

impl Wanted {
    /// What is asked for, or everything that is wrong with it.
    pub(super) fn read(app: &App, members: &Members, form: Form) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        let common = Common::read(members, form, &EVENT_KEYS, &mut faults);
        let mut or_fault = |truth: Result<Option<bool>, String>| {
            truth.unwrap_or_else(|fault| {
                faults.push(fault);
                None
            })
        };
        let by_events = or_fault(members.truth(&BY_EVENTS_KEYS));
        let base64 = or_fault(members.truth(&BASE64_KEYS));
        let url = members.text(&URL_KEYS).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        if url.is_none() && common.enabled && faults.is_empty() {
            faults.push(members.requires("url"));
        }
        let headers = headers(members, &mut faults);
        block::refuse_if_any(faults)?;
        let url = match url.as_deref() {
            None => None,
            // What is switched off needs no URL.
            Some("") if !common.enabled => None,
            Some(text) => Some(read_url(text)?),
        };
        let wanted = Self { common, url, headers, by_events, base64 };
        wanted.check(app)?;
        Ok(wanted)
    }

    /// Finds what the channel would not take of a new one.
    fn check(&self, app: &App) -> Result<(), Failure> {
        match &self.url {
            Some(written) => {
                let fresh = webhook::Config::new(written.url.clone()).with_defaults();
                check(app, &self.channel(fresh))
            }
            None => Ok(()),
        }
    }

    /// A channel's config with what is asked for put in.
    fn channel(&self, mut config: webhook::Config) -> webhook::Config {
        if let Some(written) = &self.url {
            config.url = written.url.clone();
        }
        if let Some(headers) = &self.headers {
            config.headers.clone_from(&headers.own);
            config.jwt_key.clone_from(&headers.jwt_key);
        }
        config.by_events = self.by_events.unwrap_or(config.by_events);
        config
    }

    /// How it is to deliver, from how it does; `url` is where to, if nothing else is known.
    fn spec(self, app: &App, stored: Option<Spec>, url: Written) -> Result<Spec, Failure> {
        let fresh = || webhook::Config::new(url.url).with_defaults();
        let (config, mut spec) = match stored {
            // Should somebody have made another channel of it, it is a webhook again.
            Some(spec) => (spec.channel.webhook().cloned().unwrap_or_else(fresh), spec),
            None => {
                let config = fresh();
                (config.clone(), destination::spec(Channel::Webhook(config)))
            }
        };
        let config = self.channel(config);
        // What is put together of old and new may be wrong where neither was.
        check(app, &config)?;
        let written = match (&self.url, spec.shown_url()) {
            (Some(written), _) => written.text.clone(),
            (None, Some(shown)) => shown.to_owned(),
            (None, None) => url.text,
        };
        spec.set_webhook(config, &written);
        spec.inline_media = self.base64.unwrap_or(spec.inline_media);
        Ok(spec)
    }

    /// Makes the webhook as it is wanted, and shows it. Whoever calls it is the only one who does.
    pub(super) async fn put(
        self,
        app: &App,
        caller: &Caller,
        instance: &Instance,
        start: Start,
    ) -> Result<Value, Failure> {
        let stored = destination::find(app, instance, LABEL).await?;
        let Some(url) = self.url.clone().or_else(|| written_url(stored.as_ref()?)) else {
            // Nothing was ever set, and nothing is.
            return Ok(unset_row(instance));
        };
        let common = self.common;
        let change = move |app: &App, stored| self.spec(app, stored, url);
        let wanted = destination::Wanted { label: LABEL, common, change, start };
        let stored = destination::put(app, caller, instance, wanted).await?;
        Ok(row(&stored, instance))
    }
}

fn invalid_url() -> Failure {
    Failure::bad("Invalid \"url\" property")
}

fn read_url(text: &str) -> Result<Written, Failure> {
    let url = Url::parse(text).map_err(|error| {
        invalid_url().because(format!("{error}; expected an absolute http or https URL"))
    })?;
    Ok(Written { url, text: text.to_owned() })
}

/// Finds what the channel would not take.
fn check(app: &App, config: &webhook::Config) -> Result<(), Failure> {
    let Err(faults) = Channel::Webhook(config.clone()).validate(&app.egress) else {
        return Ok(());
    };
    let (of_url, others): (Vec<_>, Vec<_>) =
        faults.into_iter().partition(|fault| fault.path == "url");
    let lines = |faults: Vec<zapbus_channel::Fault>| {
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    match of_url.is_empty() {
        true => Err(Failure::bad(lines(others))),
        false => Err(invalid_url().because(lines(of_url))),
    }
}

/// The headers that a body lists. Values that are no texts are written as such; `null` is none.
fn headers(members: &Members, faults: &mut Vec<String>) -> Option<Headers> {
    let (name, value) = members.first(&["headers", "webhookHeaders", "webhook_headers"])?;
    let Value::Object(given) = value else {
        faults.push(members.not_a(name, "object"));
        return None;
    };
    let mut headers = Headers::default();
    for (key, value) in given {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                faults.push(members.not_a(&format!("{name}.{key}"), "string"));
                continue;
            }
        };
        if key == JWT_KEY {
            headers.jwt_key = Some(text.into());
        } else {
            headers.own.insert(key.clone(), text.into());
        }
    }
    Some(headers)
}

/// The stored webhook, unless its secrets are lost.
fn config_of(stored: &Stored) -> Option<&webhook::Config> {
    stored.spec.as_ref()?.channel.webhook()
}

/// Where it leads, as it was written.
fn written_url(stored: &Stored) -> Option<Written> {
    let (config, spec) = (config_of(stored)?, stored.spec.as_ref()?);
    Some(Written { url: config.url.clone(), text: spec.shown_url()?.to_owned() })
}

/// As it is shown to whoever has the instance's key, headers included, since upstream's clients write
/// back what they have read.
fn row(stored: &Stored, instance: &Instance) -> Value {
    let config = config_of(stored);
    let mut headers = Map::new();
    for (name, value) in config.into_iter().flat_map(|config| &config.headers) {
        headers.insert(name.clone(), value.expose().into());
    }
    if let Some(key) = config.and_then(|config| config.jwt_key.as_ref()) {
        headers.insert(JWT_KEY.to_owned(), key.expose().into());
    }
    let headers = (!headers.is_empty()).then_some(headers);
    let destination = &stored.destination;
    json!({
        "id": destination.id,
        "url": stored.spec.as_ref().and_then(Spec::shown_url).unwrap_or_default(),
        "headers": headers,
        "enabled": stored.is_on(),
        "events": stored.events(),
        "webhookByEvents": config.is_some_and(|config| config.by_events),
        "webhookBase64": stored.spec.as_ref().is_some_and(|spec| spec.inline_media),
        "createdAt": destination.created_at,
        "updatedAt": destination.updated_at,
        "instanceId": instance.id.to_uuid(),
    })
}

/// What is shown of one that was switched off before it was ever set.
fn unset_row(instance: &Instance) -> Value {
    json!({
        "id": format!("webhook-{}", instance.id),
        "url": "",
        "headers": null,
        "enabled": false,
        "events": [],
        "webhookByEvents": false,
        "webhookBase64": false,
        "createdAt": instance.created_at,
        "updatedAt": instance.created_at,
        "instanceId": instance.id.to_uuid(),
    })
}

/// Sets it.
pub(super) async fn set(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
    body: Members,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let (members, form) = block::open(&body, "webhook", &MARKS)?;
    let wanted = Wanted::read(&app, &members, form)?;
    let caller = access.caller;
    let row = to_its_end(async move {
        let _one_at_a_time = app.evolution.changing.lock().await;
        wanted.put(&app, &caller, &known.instance, Start::Now).await
    })
    .await?;
    Ok((StatusCode::CREATED, Json(row)).into_response())
}

/// Shows it; `null` when it was never set.
pub(super) async fn find(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Json<Value>, Failure> {
    let known = access.instance(&app, &instance).await?;
    let stored = destination::find(&app, &known.instance, LABEL).await?;
    Ok(Json(stored.map_or(Value::Null, |stored| row(&stored, &known.instance))))
}

/// Runs a change to its end even if the caller hangs up: what stands in the store must be told to
/// whoever goes by it, and others wait for their turn until then.
pub(super) async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    tokio::spawn(change).await.map_err(|error| Failure::from(ApiError::internal(error)))?
}
