//! The one webhook of an instance and the events it subscribes to.
//!
//! The webhook is the instance's destination with the label `vzaps`. While there is none, what was
//! subscribed to stands in the instance's settings.

use serde_json::{Value, json};
use url::Url;
use zapbus_channel::{Config as Channel, webhook};
use zapbus_event::{
    DestinationId, Dialect, Filter,
    dialect::vzaps::names::{self, ALL},
};
use zapbus_store::{Activity, Destination, Instance, InstancePatch, Start};

use super::{
    answer::Failure,
    body::{Members, malformed},
};
use crate::{
    api::{
        auth::Caller,
        error::ApiError,
        native::{
            complete,
            destinations::{
                Resume,
                document::{document_of, known_spec},
                update,
            },
            instances::alter,
        },
        token,
    },
    app::App,
    spec::{Preset, Retry, Spec},
};

/// The label of the destination that is an instance's VZaps webhook.
const LABEL: &str = "vzaps";

/// Why it is paused when it was switched off through this API.
const OFF: &str = "switched off through the VZaps API";

/// How the URL's key is spelled on its way here, by whom does not matter: the first that is not
/// empty counts. `webhook_u_r_l` is what becomes of `webhookURL` when a converter takes each
/// capital for a word.
const URL_KEYS: [&str; 6] =
    ["webhook_url", "webhookURL", "webhook_u_r_l", "webhookUrl", "url", "webhook"];

const EVENT_KEYS: [&str; 4] = ["events", "events_subscribe", "eventsSubscribe", "subscribe"];

/// What a request wants of the webhook.
#[derive(Debug)]
pub(super) struct Wanted {
    url: WantedUrl,
    events: Option<Vec<&'static str>>,
}

#[derive(Debug, PartialEq)]
enum WantedUrl {
    Keep,
    Off,
    Set(Box<Url>),
}

impl Wanted {
    /// What is asked for, or what is wrong with it. `url_keys` are the keys that hold the URL.
    fn read(app: &App, body: &Members, url_keys: &[&str]) -> Result<Self, Failure> {
        let events = body.list(&EVENT_KEYS)?;
        let events = match events.as_deref() {
            None | Some([]) => None,
            Some(given) => Some(
                names::read(given)
                    .map_err(|error| Failure::bad("unknown_event", format!("{error}.")))?,
            ),
        };
        Ok(Self { url: url_of(app, body, url_keys)?, events })
    }

    /// What `POST …/webhook` asks for.
    pub(super) fn of_webhook(app: &App, body: &Members) -> Result<Self, Failure> {
        let wanted = Self::read(app, body, &URL_KEYS)?;
        if wanted.is_nothing() {
            return Err(malformed(&["webhook_url"], "a URL, or `events` to change alone"));
        }
        Ok(wanted)
    }

    /// What creating or changing an instance asks for. `url` is something else there.
    pub(super) fn of_instance(app: &App, body: &Members) -> Result<Self, Failure> {
        let keys: Vec<&str> = URL_KEYS.into_iter().filter(|key| *key != "url").collect();
        Self::read(app, body, &keys)
    }

    /// Nothing is asked for.
    pub(super) fn is_nothing(&self) -> bool {
        self.url == WantedUrl::Keep && self.events.is_none()
    }

    /// What an instance that has no webhook yet keeps of it.
    pub(super) fn settings(&self) -> Value {
        settings(&self.events.clone().unwrap_or_else(|| vec![ALL]))
    }
}

fn url_of(app: &App, body: &Members, keys: &[&str]) -> Result<WantedUrl, Failure> {
    if body.truth(&["enabled"])? == Some(false) {
        return Ok(WantedUrl::Off);
    }
    let mut given = false;
    for key in keys {
        match body.text(&[key])? {
            None => {}
            Some("") => given = true,
            Some(text) => {
                let invalid = |message: String| Failure::bad("webhook_url_invalid", message);
                let url = Url::parse(text).map_err(|error| {
                    invalid(format!("{key}: {error}; expected an absolute http or https URL."))
                })?;
                let channel = Channel::Webhook(webhook::Config::new(url.clone()).with_defaults());
                if let Err(faults) = channel.validate(&app.egress) {
                    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    return Err(invalid(format!("{}.", faults.join("; "))));
                }
                return Ok(WantedUrl::Set(Box::new(url)));
            }
        }
    }
    Ok(if given { WantedUrl::Off } else { WantedUrl::Keep })
}

fn settings(events: &[&'static str]) -> Value {
    json!({ "vzaps": { "subscribe": events } })
}

/// An instance's webhook as it is.
#[derive(Debug)]
pub(super) struct Webhook {
    /// Its destination, if it was ever set.
    pub(super) destination: Option<Destination>,
    /// Where to; empty when it is off or was never set.
    pub(super) url: String,
    /// Documented names of what it subscribes to; empty when nothing was ever set.
    pub(super) subscribe: Vec<&'static str>,
}

impl Webhook {
    /// What the store has now.
    pub(super) async fn of(app: &App, instance: &Instance) -> Result<Self, Failure> {
        let destination =
            app.store.destination_by_label(instance.account, Some(instance.id), LABEL).await?;
        let subscribe = match &destination {
            Some(destination) => names::names(&destination.filter),
            None => kept(instance),
        };
        let url = match &destination {
            Some(destination) if !is_off(destination) => url(destination)?,
            _ => String::new(),
        };
        Ok(Self { destination, url, subscribe })
    }

    /// Makes it as it is wanted, and says how it is then.
    pub(super) async fn set(
        self,
        app: &App,
        caller: &Caller,
        instance: &Instance,
        wanted: Wanted,
    ) -> Result<Self, Failure> {
        let Wanted { url, events } = wanted;
        match (self.destination, url) {
            (Some(destination), url) => change(app, caller, destination.id, url, events).await?,
            (None, WantedUrl::Set(url)) => {
                let events = match (events, self.subscribe) {
                    (Some(events), _) => events,
                    (None, kept) if !kept.is_empty() => kept,
                    (None, _) => vec![ALL],
                };
                create(app, caller, instance, *url, &events).await?;
            }
            (None, WantedUrl::Keep | WantedUrl::Off) => {
                if let Some(events) = events {
                    keep(app, caller, instance, &events).await?;
                }
            }
        }
        let instance = app.store.instance(instance.id).await?;
        let instance = instance.ok_or(ApiError::NotFound(crate::api::error::What::Instance))?;
        Self::of(app, &instance).await
    }
}

/// What an instance without a webhook subscribes to.
fn kept(instance: &Instance) -> Vec<&'static str> {
    let kept = instance.settings.pointer("/vzaps/subscribe").and_then(Value::as_array);
    let kept: Vec<&str> = kept.into_iter().flatten().filter_map(Value::as_str).collect();
    names::known_among(&kept)
}

fn is_off(destination: &Destination) -> bool {
    matches!(&destination.activity, Activity::Paused { reason, .. } if reason == OFF)
}

fn url(destination: &Destination) -> Result<String, Failure> {
    Ok(match known_spec(destination)?.map(|spec| spec.channel) {
        Some(Channel::Webhook(webhook)) => webhook.url.to_string(),
        // Somebody has made something else of it in the native API.
        Some(_) | None => String::new(),
    })
}

fn spec(url: Url) -> Spec {
    let mut spec = Spec::new(Channel::Webhook(webhook::Config::new(url).with_defaults()));
    spec.dialect = Dialect::Vzaps;
    spec.retry = Retry { preset: Preset::Vzaps, ..Retry::default() };
    spec.media_key = true;
    spec
}

async fn create(
    app: &App,
    caller: &Caller,
    instance: &Instance,
    url: Url,
    events: &[&str],
) -> Result<(), Failure> {
    let now = (app.clock)();
    let destination = Destination {
        id: DestinationId::new(now, token::random()?),
        account: instance.account,
        instance: Some(instance.id),
        label: LABEL.to_owned(),
        filter: names::filter(events),
        exclude_ephemeral: false,
        activity: Activity::Active,
        spec: document_of(&spec(url))?,
        created_at: now,
        updated_at: now,
    };
    let (app, actor) = (app.clone(), caller.actor());
    complete(async move {
        let head = crate::lane::head_of(&destination);
        let cursor = app.store.create_destination(destination, Start::Now, &actor, None).await?;
        app.lanes.created(head, cursor);
        Ok(())
    })
    .await?;
    Ok(())
}

async fn change(
    app: &App,
    caller: &Caller,
    id: DestinationId,
    wanted: WantedUrl,
    events: Option<Vec<&'static str>>,
) -> Result<(), Failure> {
    let stored = app.store.destination(id).await?;
    let was_off = stored.as_ref().is_some_and(is_off);
    // What happened while it was off is not sent later, and what waits then is called off.
    let resume = match &wanted {
        WantedUrl::Off => Resume::AtHead,
        WantedUrl::Set(_) if was_off => Resume::AtHead,
        WantedUrl::Set(_) | WantedUrl::Keep => Resume::AtCursor,
    };
    let filter: Option<Filter> = events.map(|events| names::filter(&events));
    let change = move |app: &App, mut stored: Destination| {
        if let Some(filter) = filter {
            stored.filter = filter;
        }
        match wanted {
            WantedUrl::Keep => {}
            WantedUrl::Off => {
                if !is_off(&stored) {
                    let since = (app.clock)();
                    stored.activity = Activity::Paused { reason: OFF.to_owned(), since };
                }
            }
            WantedUrl::Set(url) => {
                let mut spec = match known_spec(&stored)? {
                    Some(known) => known,
                    None => spec(Url::clone(&url)),
                };
                match &mut spec.channel {
                    Channel::Webhook(webhook) => webhook.url = *url,
                    other => {
                        *other = Channel::Webhook(webhook::Config::new(*url).with_defaults());
                    }
                }
                stored.spec = document_of(&spec)?;
                stored.activity = Activity::Active;
            }
        }
        Ok(stored)
    };
    update(app, caller, id, resume, change).await?;
    Ok(())
}

async fn keep(
    app: &App,
    caller: &Caller,
    instance: &Instance,
    events: &[&'static str],
) -> Result<(), Failure> {
    let mut all = instance.settings.clone();
    match (&mut all, settings(events)) {
        (Value::Object(all), Value::Object(own)) => all.extend(own),
        (all, own) => *all = own,
    }
    let patch = InstancePatch { settings: Some(all), ..InstancePatch::default() };
    let (app, instance, actor) = (app.clone(), instance.clone(), caller.actor());
    complete(async move { alter(&app, &instance, patch, &actor).await }).await?;
    Ok(())
}
