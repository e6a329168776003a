//! From what the store keeps of a destination to something that can be sent to.

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde_json::Value;
use zapbus_channel::{Channel, Fault, OpenError, Warrant};
use zapbus_event::{AccountId, DestinationId, InstanceId};
use zapbus_store::{RESERVED_INSTANCE, StoreError};

use super::roster::Tenure;
use super::runner::Opened;
use super::schedule::{Schedule, preset_timeout};
use super::send::Outlet;
use super::{Shared, lock};
use crate::{
    environment::is_of_environment,
    spec::{Retry, Spec},
};

impl Shared {
    /// Opens the channel of a destination with this label. Where the operator's own environment or
    /// broker leads is not guarded.
    pub(super) fn open_channel(&self, label: &str, spec: &Spec) -> Result<Channel, OpenError> {
        let timeout = self
            .retry(spec)
            .timeout_s
            .map_or_else(|| preset_timeout(spec.retry.preset), Duration::from_secs_f64);
        let mut opening = self.opening.as_ref().clone().with_timeout(timeout);
        let mut is_operators = is_of_environment(label);
        let mut config = Cow::Borrowed(&spec.channel);
        if spec.server_broker {
            let connected = self.evolution.brokers.connect(&config).map_err(|missing| {
                let fault =
                    Fault { path: spec.channel.kind().to_owned(), message: missing.to_string() };
                OpenError { faults: vec![fault] }
            })?;
            is_operators |= connected.is_operators;
            config = Cow::Owned(connected.config);
        }
        if is_operators {
            opening = opening.with_guard(Arc::clone(&self.trusted));
        }
        Channel::open(&config, &opening)
    }

    /// When a failed delivery is tried again: what the destination says, then what the operator says
    /// for its preset.
    fn retry(&self, spec: &Spec) -> Retry {
        spec.retry.or(&self.evolution.retry)
    }

    /// Reads a destination and opens its channel. `None`: it is gone, or its config cannot be
    /// used and it has been paused for that.
    pub(super) async fn open(
        self: &Arc<Self>,
        id: DestinationId,
        tenure: Tenure,
    ) -> Result<Option<Opened>, StoreError> {
        let destination = match self.store.destination(id).await {
            Ok(Some(destination)) => destination,
            Ok(None) => return Ok(None),
            Err(StoreError::Sealed { what }) => {
                let reason = format!("{what} cannot be decrypted with the keys given");
                self.suspend(id, reason, Value::Null);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let spec: Spec = match serde_json::from_value(destination.spec.clone()) {
            Ok(spec) => spec,
            Err(error) => {
                let reason = format!("its configuration cannot be read: {error}");
                self.suspend(id, reason, destination.spec);
                return Ok(None);
            }
        };
        let channel = match self.open_channel(&destination.label, &spec) {
            Ok(channel) => channel,
            Err(error) => {
                self.suspend(id, error.to_string(), destination.spec);
                return Ok(None);
            }
        };
        let notice_instance = match destination.instance {
            Some(instance) => instance,
            None => self.reserved_instance(destination.account).await?,
        };
        let schedule = Schedule::of(&self.retry(&spec));
        let has_neighbours = match destination.instance {
            Some(instance) => self.roster().is_shared(instance),
            None => true,
        };
        let outlet = Outlet {
            shared: Arc::clone(self),
            destination: id,
            channel: Arc::new(channel),
            meter: self.telemetry.meter(spec.channel.kind()),
            spec: Arc::new(spec),
            warrant: self.warrant(tenure),
            is_global: destination.instance.is_none(),
            has_neighbours,
        };
        Ok(Some(Opened { destination, outlet, schedule, notice_instance }))
    }

    /// The right of a lane to send.
    fn warrant(&self, tenure: Tenure) -> Warrant {
        let Tenure { home, epoch } = tenure;
        let store = self.store.clone();
        let is_blind = self.is_blind();
        let warrant = Warrant::new(move || is_blind || store.holds(home, epoch));
        #[cfg(debug_assertions)]
        if self.shows_tenure {
            return warrant.shown_as(format!("{home}/{epoch}/{}", self.store.node()));
        }
        warrant
    }

    pub(super) async fn reserved_instance(
        &self,
        account: AccountId,
    ) -> Result<InstanceId, StoreError> {
        let known = lock(&self.reserved).get(&account).copied();
        if let Some(id) = known {
            return Ok(id);
        }
        let named = self.store.instances_named(RESERVED_INSTANCE).await?;
        let instance = named
            .into_iter()
            .find(|instance| instance.account == account)
            .ok_or(StoreError::NotFound { what: "account" })?;
        lock(&self.reserved).insert(account, instance.id);
        Ok(instance.id)
    }
}
