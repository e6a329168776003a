//! Which instances bring nothing, or bring it to nobody.

use std::collections::HashSet;

use serde::Serialize;
use utoipa::ToSchema;
use zapbus_event::{AccountId, InstanceId, SourceKind, Timestamp};
use zapbus_store::{Destination, Instance, Limit, RESERVED_INSTANCE, Reader};

use crate::{api::error::ApiError, app::App, reading::MAX_POSITION, source::Source};

/// Instances looked at.
const LOOKED_AT: usize = 1_000;
/// Instances that are described.
const DESCRIBED: usize = 50;
/// Silent for longer than this is worth a line.
const SILENT_MS: i64 = 24 * 3_600_000;

/// Newest events of an instance that are looked at.
const NEWEST: Limit = Limit { events: 20, bytes: 1 << 20 };

/// Who gets the events of which instances.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    accounts: HashSet<AccountId>,
    instances: HashSet<InstanceId>,
    /// All destinations are in it.
    pub(super) all_known: bool,
}

impl Receivers {
    pub(super) fn add(&mut self, destination: &Destination) {
        match destination.instance {
            Some(instance) => self.instances.insert(instance),
            None => self.accounts.insert(destination.account),
        };
    }

    fn lacks(&self, instance: &Instance) -> bool {
        self.all_known
            && !self.accounts.contains(&instance.account)
            && !self.instances.contains(&instance.id)
    }
}

/// All instances, and those that need attention.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct InstancesHealth {
    /// How many were looked at.
    looked_at: usize,
    /// There are more.
    more: bool,
    /// Of those looked at, that have a source whose upstream must reach this gateway.
    with_source: usize,
    /// Those that need attention, up to 50.
    attention: Vec<Quiet>,
}

/// An instance that needs attention.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = QuietInstance)]
struct Quiet {
    /// Its id.
    #[schema(value_type = String)]
    id: InstanceId,
    /// Its name.
    name: String,
    /// Its account.
    #[schema(value_type = String)]
    account: AccountId,
    /// The `type` of its source.
    source: &'static str,
    /// When the last event came in from outside, as far as it is still stored.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_event_at: Option<Timestamp>,
    /// It has had no event for a day, or never.
    silent: bool,
    /// No destination gets its events.
    no_destination: bool,
}

impl InstancesHealth {
    pub(super) async fn look(
        app: &App,
        now: Timestamp,
        receivers: &Receivers,
    ) -> Result<Self, ApiError> {
        let mut found = app.store.instances(None, None, LOOKED_AT + 1).await?;
        let more = found.len() > LOOKED_AT;
        found.truncate(LOOKED_AT);
        let mut health = Self { looked_at: found.len(), more, ..Self::default() };
        for instance in found {
            if instance.name == RESERVED_INSTANCE || instance.deleted_at.is_some() {
                health.looked_at -= 1;
                continue;
            }
            let source = match &instance.source {
                Some(document) => Source::from_document(document).map_or("unknown", |it| it.kind()),
                None => Source::Native.kind(),
            };
            health.with_source += usize::from(source != Source::Native.kind());
            let last_event_at = last_heard(app, instance.id).await?;
            let silent = last_event_at
                .is_none_or(|at| now.as_millis().saturating_sub(at.as_millis()) > SILENT_MS);
            let no_destination = receivers.lacks(&instance);
            if (silent || no_destination) && health.attention.len() < DESCRIBED {
                health.attention.push(Quiet {
                    id: instance.id,
                    name: instance.name.clone(),
                    account: instance.account,
                    source,
                    last_event_at,
                    silent,
                    no_destination,
                });
            }
        }
        Ok(health)
    }
}

/// When an instance last brought something: what the gateway itself says of it does not count.
async fn last_heard(app: &App, instance: InstanceId) -> Result<Option<Timestamp>, ApiError> {
    let reader = Reader::Instance(instance);
    let newest = app.store.read_before(reader, MAX_POSITION, NEWEST).await?.events;
    let heard = newest.iter().filter(|event| event.source.kind != SourceKind::Gateway);
    match heard.map(|event| event.received_at).max() {
        None if newest.len() == NEWEST.events => {
            Ok(app.store.instance_status(instance).await?.last_event_at)
        }
        heard => Ok(heard),
    }
}
