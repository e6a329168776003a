//! Destinations that the operator's environment asks for: one of the default account for each channel,
//! with the label `env/<channel>`. They are brought in line at every start, keep their place in the
//! journal, and stand still when the environment does not name them any more.

use serde_json::Value;
use zapbus_channel as channel;
use zapbus_event::{
    AccountId, DestinationId, Dialect, Filter, Timestamp,
    dialect::{Fallback, evolution::Names},
};
use zapbus_store::{
    Activity, Actor, DEFAULT_ACCOUNT, Destination, DestinationScope, Start, Store, StoreError,
};

use crate::{
    RunError,
    api::{evolution, token},
    lane::Lanes,
    spec::{Preset, Retry, Spec},
};

/// What the labels of such destinations begin with. No other destination may have one.
const LABELS: &str = "env/";

/// The webhook of `[evolution.webhook]`.
const WEBHOOK: &str = "env/webhook";
/// The brokers of `[evolution.rabbitmq]`, `[evolution.sqs]` and `[evolution.pusher]` in their global
/// mode.
const RABBITMQ: &str = "env/rabbitmq";
const SQS: &str = "env/sqs";
const PUSHER: &str = "env/pusher";

/// Why one stands still that was asked for once.
const GONE: &str = "the environment does not name it any more";

/// The environment names it no more.
pub(crate) fn has_gone(destination: &Destination) -> bool {
    matches!(&destination.activity, Activity::Paused { reason, .. } if reason == GONE)
}

/// Who changes them, in the audit log.
const ACTOR: &str = "environment";

/// A destination as the environment wants it.
struct Wanted {
    label: &'static str,
    filter: Filter,
    spec: Spec,
}

/// Whether it comes from the operator's environment.
pub(crate) fn is_of_environment(label: &str) -> bool {
    label.starts_with(LABELS)
}

/// Brings the store in line with what the environment wants. Before the lanes start: who runs them
/// elsewhere learns of it from the store.
pub(crate) async fn apply(
    store: &Store,
    config: &evolution::Config,
    now: Timestamp,
) -> Result<(), RunError> {
    let account = store
        .account_by_name(DEFAULT_ACCOUNT)
        .await?
        .ok_or(StoreError::NotFound { what: "default account" })?
        .id;
    let wanted = wanted(config);
    for wanted in &wanted {
        put(store, account, wanted, now).await?;
    }
    let mut after = None;
    loop {
        let page = store.destinations(Some(account), DestinationScope::Global, after, PAGE).await?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|destination| destination.id);
        for destination in page {
            let is_wanted = wanted.iter().any(|wanted| wanted.label == destination.label);
            if is_of_environment(&destination.label) && !is_wanted {
                rest(store, destination, now).await?;
            }
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Has the brokers among them make their queues, so that consumers may start before the first event
/// comes. Once the lanes run.
pub(crate) async fn prepare(
    store: &Store,
    config: &evolution::Config,
    lanes: &Lanes,
) -> Result<(), RunError> {
    let Some(account) = store.account_by_name(DEFAULT_ACCOUNT).await? else { return Ok(()) };
    for wanted in wanted(config) {
        let stored = store.destination_by_label(account.id, None, wanted.label).await?;
        if let Some(stored) = stored.filter(|stored| stored.activity == Activity::Active) {
            evolution::prepare(lanes, &stored, &wanted.spec, "");
        }
    }
    Ok(())
}

/// Destinations read at a time.
const PAGE: usize = 500;

/// Everything that the environment asks for.
fn wanted(config: &evolution::Config) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    if let Some((url, names)) = config.webhook.target() {
        let mut webhook = channel::webhook::Config::new(url);
        webhook.by_events = config.webhook.by_events;
        webhook.secret = config.webhook.secret();
        let written = config.webhook.written_url().unwrap_or_default();
        let channel = channel::Config::Webhook(webhook.clone());
        wanted.extend(destination(WEBHOOK, channel, names).map(|mut wanted| {
            wanted.spec.set_webhook(webhook, written);
            wanted
        }));
    }
    for (channel, names) in config.global_brokers() {
        let label = match &channel {
            channel::Config::Webhook(_) => WEBHOOK,
            channel::Config::Rabbitmq(_) => RABBITMQ,
            channel::Config::Sqs(_) => SQS,
            channel::Config::Pusher(_) => PUSHER,
        };
        wanted.extend(destination(label, channel, names));
    }
    wanted
}

fn destination(label: &'static str, channel: channel::Config, names: Names) -> Option<Wanted> {
    let filter = names.filter(Fallback::Skip)?;
    let mut spec = Spec::new(channel);
    spec.dialect = Dialect::Evolution;
    spec.retry = Retry { preset: Preset::Evolution, ..Retry::default() };
    spec.media_key = true;
    spec.evolution.names = names;
    Some(Wanted { label, filter, spec })
}

async fn put(
    store: &Store,
    account: AccountId,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<(), RunError> {
    let stored = store.destination_by_label(account, None, wanted.label).await?;
    let Some(stored) = stored else {
        return match create(store, account, wanted, now).await {
            // Another node that starts at the same time, from the same environment, was first.
            Ok(()) | Err(RunError::Store(StoreError::Exists { .. })) => Ok(()),
            Err(error) => Err(error),
        };
    };
    let mut spec = wanted.spec.clone();
    if let Ok(Some(known)) = serde_json::from_value::<Option<Spec>>(stored.spec.clone()) {
        spec.channel = spec.channel.with_kept_secrets(&known.channel);
    }
    spec.channel = spec.channel.with_defaults();
    let document = document_of(&spec)?;
    let activity = match &stored.activity {
        Activity::Paused { reason, .. } if reason == GONE => Activity::Active,
        // What it was given up for may be what was changed.
        Activity::Disabled { .. } if document != stored.spec => Activity::Active,
        other => other.clone(),
    };
    let changed =
        Destination { filter: wanted.filter.clone(), spec: document, activity, ..stored.clone() };
    let is_same = changed.filter == stored.filter
        && changed.spec == stored.spec
        && changed.activity == stored.activity;
    if is_same {
        return Ok(());
    }
    change(store, Destination { updated_at: now, ..changed }).await
}

async fn create(
    store: &Store,
    account: AccountId,
    wanted: &Wanted,
    now: Timestamp,
) -> Result<(), RunError> {
    let mut spec = wanted.spec.clone();
    spec.channel = spec.channel.with_defaults();
    let random = token::random().map_err(|error| RunError::Environment(format!("{error:?}")))?;
    let destination = Destination {
        id: DestinationId::new(now, random),
        account,
        instance: None,
        label: wanted.label.to_owned(),
        filter: wanted.filter.clone(),
        exclude_ephemeral: false,
        activity: Activity::Active,
        spec: document_of(&spec)?,
        created_at: now,
        updated_at: now,
    };
    store.create_destination(destination, Start::Now, &actor(), None).await?;
    Ok(())
}

/// Stops one that nobody asks for any more; what waits for it waits on.
async fn rest(store: &Store, stored: Destination, now: Timestamp) -> Result<(), RunError> {
    if stored.activity != Activity::Active {
        return Ok(());
    }
    let activity = Activity::Paused { reason: GONE.to_owned(), since: now };
    change(store, Destination { activity, updated_at: now, ..stored }).await
}

async fn change(store: &Store, destination: Destination) -> Result<(), RunError> {
    let (id, label) = (destination.id, destination.label.clone());
    store.update_destination(destination, None, false, &actor()).await?;
    tracing::info!(
        event = "environment.changed",
        destination = %id,
        label,
        "a destination was brought in line with the environment"
    );
    Ok(())
}

fn document_of(spec: &Spec) -> Result<Value, RunError> {
    serde_json::to_value(spec).map_err(|error| RunError::Environment(error.to_string()))
}

fn actor() -> Actor {
    Actor(ACTOR.to_owned())
}
