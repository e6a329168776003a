//! Setting a webhook: one request says all of it, and at most three of an instance are on.

use serde_json::Value;
use url::Url;
use zapbus_channel::{Config as Channel, Hidden, webhook};
use zapbus_event::{
    DestinationId, Dialect, Filter,
    dialect::{
        Fallback,
        ryze::{Choice, Names},
    },
};
use zapbus_store::{Activity, Destination, Instance, Quota, Start};

use super::{
    Config, Waits,
    answer::Failure,
    body::{Members, expected},
    options::{Own, names_of},
    row::{self, DEFAULT, LABELS, label_of},
};
use crate::{
    api::{
        auth::Caller,
        error::{ApiError, What},
        native::{
            complete,
            destinations::{
                Changed, Resume, Terms,
                document::{document_of, known_spec},
                update_on,
            },
        },
        token,
    },
    app::App,
    spec::{Preset, RYZE_OFF, Retry, Spec, is_off_for_ryze},
};

/// Webhooks of an instance that are on at the same time.
const MOST_ON: usize = 3;

/// Webhooks of an instance, on or off.
const MOST: usize = 50;

/// Characters of a label.
const MOST_LABEL: usize = 120;

/// Where one points that is off: a name that never leads anywhere (RFC 2606).
const NOWHERE: &str = "https://disabled.invalid/";

/// How often it is tried to be neither too early nor too late for another request for the label.
const TRIES: usize = 4;

/// What a request wants of a webhook.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    label: String,
    /// What it is to be; `None`: off.
    on: Option<On>,
    by_events: Option<bool>,
    own: Own,
}

#[derive(Debug, Clone)]
struct On {
    url: Url,
    authorization: Option<Hidden>,
    names: Names,
    inline_media: bool,
}

/// What the members of a webhook are called.
pub(super) struct Spelling {
    pub(super) label: Option<&'static str>,
    pub(super) enabled: &'static str,
    pub(super) url: &'static str,
    pub(super) authorization: &'static str,
    pub(super) by_events: &'static str,
    pub(super) events: &'static str,
    pub(super) media: &'static str,
}

/// Where the body is about nothing else.
pub(super) const OF_WEBHOOK: Spelling = Spelling {
    label: Some("label"),
    enabled: "enabled",
    url: "url",
    authorization: "authorization",
    by_events: "byEvents",
    events: "events",
    media: "mediaBase64",
};

impl Wanted {
    /// What is asked for, or what is wrong with it.
    pub(super) fn read(app: &App, body: &Members, names: &Spelling) -> Result<Self, Failure> {
        let label = match names.label {
            Some(name) => label(body.text(name)?.unwrap_or_default())?,
            None => DEFAULT.to_owned(),
        };
        let url = body.text(names.url)?.map(str::trim).filter(|url| !url.is_empty());
        let enabled = body.truth(names.enabled)?;
        // Of their types, also where they do not matter.
        let authorization = body.text(names.authorization)?.filter(|text| !text.is_empty());
        let events = names_of(&app.config.ryze, body, names.events)?;
        let inline_media = body.truth(names.media)?.unwrap_or(false);
        let on = match (enabled, url) {
            (Some(false), _) => None,
            (_, Some(url)) => Some(On {
                url: checked(app, names, url, authorization)?,
                authorization: authorization.map(Hidden::from),
                names: events,
                inline_media,
            }),
            (Some(true), None) => {
                return Err(Failure::bad(format!(
                    "{} is required when {} is true",
                    names.url, names.enabled
                )));
            }
            (None, None) => {
                return Err(Failure::bad(format!(
                    "{} is required, or {}: false",
                    names.url, names.enabled
                )));
            }
        };
        Ok(Self { label, on, by_events: body.truth(names.by_events)?, own: Own::of(body)? })
    }
}

/// A label as it may be; an empty one is the default.
pub(super) fn label(text: &str) -> Result<String, Failure> {
    let text = text.trim();
    if text.chars().count() > MOST_LABEL || text.chars().any(char::is_control) {
        let what = format!("at most {MOST_LABEL} characters, without control characters");
        return Err(expected("label", &what));
    }
    Ok(if text.is_empty() { DEFAULT } else { text }.to_owned())
}

fn checked(
    app: &App,
    names: &Spelling,
    url: &str,
    authorization: Option<&str>,
) -> Result<Url, Failure> {
    let name = names.url;
    let read = Url::parse(url).map_err(|error| {
        Failure::bad(format!("{name}: {error}; expected an absolute http or https URL"))
    })?;
    let mut config = webhook::Config::new(read.clone()).with_defaults();
    config.authorization = authorization.map(Hidden::from);
    match Channel::Webhook(config).validate(&app.egress) {
        Ok(()) => Ok(read),
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Err(Failure::bad(faults.join("; ")))
        }
    }
}

/// Makes a webhook as it is wanted, and says how it is then.
pub(super) async fn set(
    app: &App,
    caller: &Caller,
    instance: &Instance,
    wanted: Wanted,
) -> Result<Value, Failure> {
    let label = label_of(&wanted.label);
    for _ in 0..TRIES {
        let (account, id) = (instance.account, Some(instance.id));
        let done = match app.store.destination_id_by_label(account, id, &label).await? {
            Some(stored) => change(app, caller, stored, wanted.clone()).await,
            None => create(app, caller, instance, &label, wanted.clone()).await,
        };
        match done {
            Ok(destination) => return row::shown(&destination),
            // Somebody else has just made it, changed it on another node, or deleted it.
            Err(
                ApiError::Exists { what: "destination", .. }
                | ApiError::NotFound(What::Destination)
                | ApiError::Conflict { code: "changed_meanwhile", .. },
            ) => {}
            Err(ApiError::Conflict { code: "too_many_enabled", .. }) => {
                return Err(Failure::bad(format!(
                    "Maximum of {MOST_ON} enabled webhooks per instance reached"
                )));
            }
            Err(ApiError::Conflict { code: "too_many_destinations", .. }) => {
                return Err(Failure::bad(format!(
                    "Maximum of {MOST} webhooks per instance reached"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(
        http::StatusCode::CONFLICT,
        "Another request changes this webhook at the same time. Send it again.",
    ))
}

fn quota() -> Quota {
    let (labels, off) = (LABELS.to_owned(), RYZE_OFF.to_owned());
    Quota { labels, on: MOST_ON, all: MOST, off, seen: None }
}

/// A webhook that leads to nothing yet.
fn nowhere() -> Result<Channel, ApiError> {
    let url = Url::parse(NOWHERE).map_err(ApiError::internal)?;
    Ok(Channel::Webhook(webhook::Config::new(url).with_defaults()))
}

/// A destination as webhooks of this API are, without anything that a request says.
fn spec(config: &Config) -> Result<Spec, ApiError> {
    let mut spec = Spec::new(nowhere()?);
    spec.dialect = Dialect::Ryze;
    spec.media_key = true;
    spec.retry = Retry {
        preset: Preset::Ryze,
        waits_s: match config.retry {
            Waits::Hour => None,
            Waits::X2 => Some(vec![1.0, 2.0, 4.0, 8.0]),
        },
        ..Retry::default()
    };
    Ok(spec)
}

impl Wanted {
    /// Puts everything that it says into `spec`; what only our own API knows of stays.
    fn put_in(self, spec: &mut Spec) -> Result<Filter, ApiError> {
        spec.dialect = Dialect::Ryze;
        if !matches!(spec.channel, Channel::Webhook(_)) {
            // Somebody has made something else of it in the native API.
            spec.channel = nowhere()?;
        }
        let Channel::Webhook(webhook) = &mut spec.channel else {
            return Err(ApiError::internal("what was made a webhook is none"));
        };
        let names = match self.on {
            Some(on) => {
                webhook.url = on.url;
                webhook.authorization = on.authorization;
                webhook.by_events = self.by_events.unwrap_or(false);
                spec.inline_media = on.inline_media;
                on.names
            }
            None => {
                webhook.url = Url::parse(NOWHERE).map_err(ApiError::internal)?;
                webhook.authorization = None;
                webhook.by_events = self.by_events.unwrap_or(webhook.by_events);
                spec.inline_media = false;
                Names::ALL
            }
        };
        spec.ryze = self.own.put_in(Choice { names, ..spec.ryze });
        // The six names have events, whatever becomes of others.
        let filter = names.filter(spec.fallback).or_else(|| names.filter(Fallback::Skip));
        filter.ok_or_else(|| ApiError::internal("names without events"))
    }
}

fn activity(app: &App, is_on: bool) -> Activity {
    match is_on {
        true => Activity::Active,
        false => Activity::Paused { reason: RYZE_OFF.to_owned(), since: (app.clock)() },
    }
}

async fn create(
    app: &App,
    caller: &Caller,
    instance: &Instance,
    label: &str,
    wanted: Wanted,
) -> Result<Destination, ApiError> {
    let now = (app.clock)();
    let activity = activity(app, wanted.on.is_some());
    let mut spec = spec(&app.config.ryze)?;
    let filter = wanted.put_in(&mut spec)?;
    let destination = Destination {
        id: DestinationId::new(now, token::random()?),
        account: instance.account,
        instance: Some(instance.id),
        label: label.to_owned(),
        filter,
        exclude_ephemeral: false,
        activity,
        spec: document_of(&spec)?,
        created_at: now,
        updated_at: now,
    };
    let (app, actor) = (app.clone(), caller.actor());
    complete(async move {
        let head = crate::lane::head_of(&destination);
        let made = destination.clone();
        let quota = Some(quota());
        let cursor =
            app.store.create_destination_within(made, Start::Now, &actor, None, quota).await?;
        app.lanes.created(head, cursor);
        Ok(destination)
    })
    .await
}

async fn change(
    app: &App,
    caller: &Caller,
    id: DestinationId,
    wanted: Wanted,
) -> Result<Destination, ApiError> {
    let terms = Terms { quota: Some(quota()), replaces_spec: true };
    update_on(app, caller, id, terms, move |app, mut stored| {
        // What happened while it was off is not sent later, and what waits then is called off. Only
        // what is stored now can say so: somebody else may have switched it on just before.
        let (is_on, was_off) = (wanted.on.is_some(), is_off_for_ryze(&stored.activity));
        let resume = if !is_on || was_off { Resume::AtHead } else { Resume::AtCursor };
        let was_unreadable = stored.spec.is_null();
        let mut spec = match known_spec(&stored)? {
            Some(known) => known,
            None => spec(&app.config.ryze)?,
        };
        stored.filter = wanted.put_in(&mut spec)?;
        stored.spec = document_of(&spec)?;
        // What a person has paused stays so: clients set their webhook at each start. What the
        // gateway has, since it failed or could not be decrypted, goes on.
        let was_given_up = matches!(stored.activity, Activity::Disabled { .. }) || was_unreadable;
        if is_on == was_off || is_on && was_given_up {
            stored.activity = activity(app, is_on);
        }
        Ok::<_, ApiError>(Changed { destination: stored, resume })
    })
    .await
}
