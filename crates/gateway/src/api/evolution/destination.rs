//! Channels that are destinations of an instance: one for each, with a label of its own.

use zapbus_channel::Config as Channel;
use zapbus_event::{DestinationId, Dialect};
use zapbus_store::{Activity, Destination, Instance, Start};

use super::{answer::Failure, block::Common, names};
use crate::{
    api::{
        auth::Caller,
        error::ApiError,
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
    brokers,
    spec::{Preset, Retry, Spec},
};

/// Why one is paused that was switched off through this API.
const OFF: &str = "switched off through the Evolution API";

/// A destination with how it delivers.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) destination: Destination,
    /// `None` when it went with the secrets of a restored backup.
    pub(super) spec: Option<Spec>,
}

impl Stored {
    pub(super) fn of(destination: Destination) -> Result<Self, Failure> {
        let spec = known_spec(&destination)?;
        Ok(Self { destination, spec })
    }

    /// Whether it is switched on, as far as this API goes.
    pub(super) fn is_on(&self) -> bool {
        !is_off(&self.destination)
    }

    /// The names it subscribes to, as rows show them.
    pub(super) fn events(&self) -> Vec<String> {
        match &self.spec {
            Some(spec) if self.is_on() => spec.evolution.names.list(),
            _ => Vec::new(),
        }
    }
}

fn is_off(destination: &Destination) -> bool {
    matches!(&destination.activity, Activity::Paused { reason, .. } if reason == OFF)
}

/// The destination of an instance with this label.
pub(super) async fn find(
    app: &App,
    instance: &Instance,
    label: &str,
) -> Result<Option<Stored>, Failure> {
    let found = app.store.destination_by_label(instance.account, Some(instance.id), label).await?;
    found.map(Stored::of).transpose()
}

/// How a new one delivers.
pub(super) fn spec(channel: Channel) -> Spec {
    let mut spec = Spec::new(channel);
    spec.dialect = Dialect::Evolution;
    spec.retry = Retry { preset: Preset::Evolution, ..Retry::default() };
    spec.media_key = true;
    spec
}

/// What is to become of a destination.
pub(super) struct Wanted<F> {
    pub(super) label: &'static str,
    pub(super) common: Common,
    /// How it is to deliver, from how it does; or what is wrong with that.
    pub(super) change: F,
    /// Where a new one starts.
    pub(super) start: Start,
}

/// Makes it as it is wanted. Whoever calls it is the only one who does at this time.
pub(super) async fn put<F>(
    app: &App,
    caller: &Caller,
    instance: &Instance,
    wanted: Wanted<F>,
) -> Result<Stored, Failure>
where
    F: FnOnce(&App, Option<Spec>) -> Result<Spec, Failure> + Send + 'static,
{
    let Wanted { label, common, change, start } = wanted;
    let Some(stored) = find(app, instance, label).await? else {
        let mut spec = change(app, None)?;
        spec.evolution.names = common.names;
        return create(app, caller, instance, label, common, &spec, start).await;
    };
    let id = stored.destination.id;
    let changed = update_on(app, caller, id, Terms::default(), move |app, mut stored| {
        // What happens while it is off is not sent later, and what waits then is called off.
        let stays_on = common.enabled && !is_off(&stored);
        let resume = if stays_on { Resume::AtCursor } else { Resume::AtHead };
        let mut spec = change(app, known_spec(&stored)?)?;
        if common.enabled {
            spec.evolution.names = common.names;
            stored.filter = names::filter(common.names);
            // What somebody else has stopped stays so: clients set their webhook at each start.
            if is_off(&stored) || was_given_up(&stored) {
                stored.activity = Activity::Active;
            }
        } else if !is_off(&stored) {
            stored.activity = off(app);
        }
        stored.spec = document_of(&spec)?;
        Ok::<_, Failure>(Changed { destination: stored, resume })
    })
    .await?;
    Stored::of(changed)
}

/// The gateway itself has stopped it.
fn was_given_up(destination: &Destination) -> bool {
    match &destination.activity {
        Activity::Active => false,
        Activity::Disabled { .. } => true,
        Activity::Paused { reason, .. } => brokers::is_for_want_of_one(reason),
    }
}

fn off(app: &App) -> Activity {
    Activity::Paused { reason: OFF.to_owned(), since: (app.clock)() }
}

async fn create(
    app: &App,
    caller: &Caller,
    instance: &Instance,
    label: &str,
    common: Common,
    spec: &Spec,
    start: Start,
) -> Result<Stored, Failure> {
    let now = (app.clock)();
    let destination = Destination {
        id: DestinationId::new(now, token::random()?),
        account: instance.account,
        instance: Some(instance.id),
        label: label.to_owned(),
        filter: names::filter(common.names),
        exclude_ephemeral: false,
        activity: if common.enabled { Activity::Active } else { off(app) },
        spec: document_of(spec)?,
        created_at: now,
        updated_at: now,
    };
    let (here, actor, made) = (app.clone(), caller.actor(), destination.clone());
    complete(async move {
        let head = crate::lane::head_of(&made);
        let cursor = here.store.create_destination(made, start, &actor, None).await?;
        here.lanes.created(head, cursor);
        Ok(())
    })
    .await
    .map_err(|error: ApiError| Failure::from(error))?;
    Stored::of(destination)
}
