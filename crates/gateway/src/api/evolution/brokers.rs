//! Brokers of an instance: the destinations with the labels `evolution/rabbitmq`, `evolution/sqs` and
//! `evolution/pusher`.
//!
//! RabbitMQ and SQS are the server's own: their destinations hold no connection, and it is put in when
//! they are opened ([`crate::brokers`]). Pusher's app is the instance's.

mod pusher;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Map, Value, json};
use zapbus_channel::{Config as Channel, MASK, rabbitmq, sqs};
use zapbus_event::{AccountId, dialect::evolution::Name};
use zapbus_store::{DEFAULT_ACCOUNT, Destination, Instance, Start, StoreError};

use self::pusher::Pusher;
use super::{
    access::Access,
    answer::Failure,
    block::{self, Common, Form},
    body::{Members, Path},
    destination::{self, Stored},
    webhook::to_its_end,
};
use crate::{
    api::{
        auth::{Caller, find_account},
        error::ApiError,
    },
    app::App,
    lane::Lanes,
    spec::Spec,
};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broker {
    Rabbitmq,
    Sqs,
    Pusher,
}

impl Broker {
    pub(super) const ALL: [Self; 3] = [Self::Rabbitmq, Self::Sqs, Self::Pusher];

    /// Its name in paths and bodies.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rabbitmq => "rabbitmq",
            Self::Sqs => "sqs",
            Self::Pusher => "pusher",
        }
    }

    /// The label of an instance's destination.
    const fn label(self) -> &'static str {
        match self {
            Self::Rabbitmq => "evolution/rabbitmq",
            Self::Sqs => "evolution/sqs",
            Self::Pusher => "evolution/pusher",
        }
    }

    /// Members by which a body without an outer object is known.
    const fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Rabbitmq | Self::Sqs => &["enabled", "events"],
            Self::Pusher => &["enabled", "events", "appId", "key", "secret", "cluster"],
        }
    }

    /// Whether instances of an account may use what the server has, or why not.
    pub(super) async fn is_there(self, app: &App, account: AccountId) -> Result<(), Refusal> {
        let brokers = app.config.evolution.brokers();
        let missing = match self {
            Self::Rabbitmq => brokers.rabbitmq.err(),
            Self::Sqs => brokers.sqs.err(),
            Self::Pusher => brokers.pusher.err(),
        };
        if let Some(missing) = missing {
            return Err(Refusal::Missing(missing.to_string()));
        }
        // Names of instances are unique in an account only: what two accounts publish under one
        // name would be one stream to whoever consumes it.
        if self != Self::Pusher && find_account(app, DEFAULT_ACCOUNT).await?.id != account {
            let name = self.name();
            return Err(Refusal::Missing(format!(
                "this server's {name} is for instances of the account `{DEFAULT_ACCOUNT}`: make a \
                 destination with a {name} of your own instead",
            )));
        }
        Ok(())
    }
}

/// Why a broker cannot be switched on.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is none for this instance.
    Missing(String),
    /// It could not be found out.
    Failed(Failure),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Missing(reason) => Self::bad(reason),
            Refusal::Failed(failure) => failure,
        }
    }
}

/// What a request wants of a broker.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) broker: Broker,
    pub(super) common: Common,
    /// Pusher's own members.
    app: Pusher,
}

impl Wanted {
    /// What is asked for, or everything that is wrong with it.
    pub(super) fn read(broker: Broker, members: &Members, form: Form) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        let name = broker.name();
        let (snake, camel) = (format!("{name}_events"), format!("{name}Events"));
        let keys = ["events", snake.as_str(), camel.as_str()];
        let common = Common::read(members, form, &keys, &mut faults);
        let app = match broker {
            Broker::Pusher => Pusher::read(members, common.enabled, &mut faults),
            Broker::Rabbitmq | Broker::Sqs => Pusher::default(),
        };
        block::refuse_if_any(faults)?;
        Ok(Self { broker, common, app })
    }

    /// Switched on or off, with the names that go with it.
    pub(super) fn of(broker: Broker, common: Common) -> Self {
        Self { broker, common, app: Pusher::default() }
    }

    /// Refuses what could not be made, before anything is.
    pub(super) async fn check(&self, app: &App, account: AccountId) -> Result<(), Failure> {
        if !self.common.enabled {
            return Ok(());
        }
        self.broker.is_there(app, account).await?;
        match self.broker {
            Broker::Pusher => self.app.config(app, None).map(drop),
            Broker::Rabbitmq | Broker::Sqs => Ok(()),
        }
    }

    /// Makes the destination as it is wanted, and shows it. Whoever calls it is the only one who does.
    pub(super) async fn put(
        self,
        app: &App,
        caller: &Caller,
        instance: &Instance,
        start: Start,
    ) -> Result<Value, Failure> {
        let broker = self.broker;
        let stored = destination::find(app, instance, broker.label()).await?;
        if stored.is_none() && broker == Broker::Pusher && !self.app.is_whole() {
            // Nothing was ever set, and nothing is.
            return Ok(unset_row(broker, instance));
        }
        let is_there = match broker.is_there(app, instance.account).await {
            Ok(()) => Ok(()),
            Err(Refusal::Missing(reason)) => Err(reason),
            Err(Refusal::Failed(failure)) => return Err(failure),
        };
        let common = self.common;
        let change = move |app: &App, stored| self.spec(app, stored, is_there);
        let wanted = destination::Wanted { label: broker.label(), common, change, start };
        let stored = destination::put(app, caller, instance, wanted).await?;
        if let (true, Some(spec)) = (common.enabled, &stored.spec) {
            prepare(&app.lanes, &stored.destination, spec, &instance.name);
        }
        Ok(row_of(broker, &stored, instance))
    }

    fn spec(
        self,
        app: &App,
        stored: Option<Spec>,
        is_there: Result<(), String>,
    ) -> Result<Spec, Failure> {
        let stored = stored.filter(|spec| spec.channel.kind() == self.broker.name());
        // One that somebody has given a connection of its own keeps it.
        if let Some(spec) = &stored
            && !spec.server_broker
        {
            return Ok(spec.clone());
        }
        if self.common.enabled
            && let Err(reason) = is_there
        {
            return Err(Failure::bad(reason));
        }
        let channel = match self.broker {
            Broker::Rabbitmq => Channel::Rabbitmq(placeholder_of_rabbitmq()),
            Broker::Sqs => Channel::Sqs(placeholder_of_sqs()),
            Broker::Pusher => {
                let known = stored.as_ref().and_then(|spec| match &spec.channel {
                    Channel::Pusher(known) => Some(known),
                    _ => None,
                });
                Channel::Pusher(self.app.config(app, known)?)
            }
        };
        let mut spec = stored.unwrap_or_else(|| destination::spec(channel.clone()));
        spec.set_channel(channel);
        spec.server_broker = true;
        Ok(spec)
    }
}

/// Makes queues and what leads to them in the background: consumers may start before the first event
/// comes.
pub(crate) fn prepare(lanes: &Lanes, destination: &Destination, spec: &Spec, instance_name: &str) {
    let (spec, name) = (spec.clone(), instance_name.to_owned());
    let (id, label) = (destination.id, destination.label.clone());
    let beside = lanes.clone();
    lanes.beside(async move {
        let wanted = spec.evolution.names;
        let names: Vec<&str> =
            Name::ALL.iter().filter(|it| wanted.contains(**it)).map(|it| it.wire()).collect();
        if let Err(error) = beside.prepare(&label, &spec, &name, &names).await {
            tracing::info!(
                event = "evolution.not_prepared",
                destination = %id,
                label,
                error,
                "queues of a broker could not be made yet; they are made with the first event"
            );
        }
    });
}

/// A config that cannot be used by itself: whoever changes the channel through our own API has to
/// say where it leads.
fn placeholder_of_rabbitmq() -> rabbitmq::Config {
    let mut config = rabbitmq::Config::new(MASK);
    config.preset = rabbitmq::Preset::EvolutionInstance;
    config
}

fn placeholder_of_sqs() -> sqs::Config {
    sqs::Config {
        region: MASK.to_owned(),
        endpoint: None,
        access_key_id: None,
        secret_access_key: None,
        session_token: None,
        preset: sqs::Preset::EvolutionInstance,
        queue: None,
        fifo: None,
        prefix: None,
        create: true,
        timeout_s: None,
        connect_timeout_s: None,
        ca_pem: None,
    }
}

/// The row of an instance's broker, or `null`.
pub(super) async fn row(app: &App, broker: Broker, instance: &Instance) -> Result<Value, Failure> {
    let label = broker.label();
    let found = app.store.destination_by_label(instance.account, Some(instance.id), label).await;
    match found {
        Ok(None) => Ok(Value::Null),
        Ok(Some(found)) => Ok(row_of(broker, &Stored::of(found)?, instance)),
        // A list of instances is not refused for want of one secret.
        Err(StoreError::Sealed { .. }) => Ok(unset_row(broker, instance)),
        Err(error) => Err(error.into()),
    }
}

fn row_of(broker: Broker, stored: &Stored, instance: &Instance) -> Value {
    let destination = &stored.destination;
    let mut row = json!({
        "id": destination.id,
        "enabled": stored.is_on(),
        "events": stored.events(),
        "createdAt": destination.created_at,
        "updatedAt": destination.updated_at,
        "instanceId": instance.id.to_uuid(),
    });
    let channel = stored.spec.as_ref().map(|spec| &spec.channel);
    if let (Broker::Pusher, Some(Channel::Pusher(app))) = (broker, channel) {
        extend(&mut row, pusher::members(app));
    }
    row
}

/// What is shown of one that was switched off before it was ever set.
fn unset_row(broker: Broker, instance: &Instance) -> Value {
    json!({
        "id": format!("{}-{}", broker.name(), instance.id),
        "enabled": false,
        "events": [],
        "createdAt": instance.created_at,
        "updatedAt": instance.created_at,
        "instanceId": instance.id.to_uuid(),
    })
}

fn extend(row: &mut Value, members: Map<String, Value>) {
    if let Value::Object(row) = row {
        row.extend(members);
    }
}

async fn set(
    app: App,
    access: Access,
    instance: String,
    body: Members,
    broker: Broker,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let (members, form) = block::open(&body, broker.name(), broker.marks())?;
    let wanted = Wanted::read(broker, &members, form)?;
    let row = to_its_end(async move {
        let _one_at_a_time = app.evolution.changing.lock().await;
        wanted.put(&app, &access.caller, &known.instance, Start::Now).await
    })
    .await?;
    Ok((StatusCode::CREATED, Json(row)).into_response())
}

async fn find(
    app: App,
    access: Access,
    instance: String,
    broker: Broker,
) -> Result<Json<Value>, Failure> {
    let known = access.instance(&app, &instance).await?;
    row(&app, broker, &known.instance).await.map(Json)
}

macro_rules! routes {
    ($($set:ident, $find:ident, $broker:ident;)+) => { $(
        #[doc = concat!("Sets `", stringify!($broker), "` of an instance.")]
        pub(super) async fn $set(
            State(app): State<App>,
            access: Access,
            Path(instance): Path<String>,
            body: Members,
        ) -> Result<Response, Failure> {
            set(app, access, instance, body, Broker::$broker).await
        }

        #[doc = concat!("Shows `", stringify!($broker), "` of an instance; `null` when it was never set.")]
        pub(super) async fn $find(
            State(app): State<App>,
            access: Access,
            Path(instance): Path<String>,
        ) -> Result<Json<Value>, Failure> {
            find(app, access, instance, Broker::$broker).await
        }
    )+ };
}

routes! {
    set_rabbitmq, find_rabbitmq, Rabbitmq;
    set_sqs, find_sqs, Sqs;
    set_pusher, find_pusher, Pusher;
}
