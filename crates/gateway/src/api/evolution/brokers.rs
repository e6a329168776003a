//! Brokers: RabbitMQ, Amazon SQS, Pusher.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zapbus_event::Timestamp;
use zapbus_store::Instance;

use super::{
    access::Access,
    answer::Failure,
    block::{self, Common, Form},
    body::{Members, Path},
    settings::{self, Kept},
    webhook::to_its_end,
};
use crate::app::App;

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

    /// Texts that its block must have, with the names they have in the block.
    const fn texts(self) -> &'static [&'static str] {
        match self {
            Self::Rabbitmq | Self::Sqs => &[],
            Self::Pusher => &["appId", "key", "secret", "cluster"],
        }
    }
}

/// What a request wants of a broker.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) broker: Broker,
    pub(super) common: Common,
    /// What else the block says, in its order.
    members: Map<String, Value>,
}

impl Wanted {
    /// What is asked for, or everything that is wrong with it.
    pub(super) fn read(broker: Broker, members: &Members, form: Form) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        let name = broker.name();
        let (snake, camel) = (format!("{name}_events"), format!("{name}Events"));
        let keys = ["events", snake.as_str(), camel.as_str()];
        let common = Common::read(members, form, &keys, &mut faults);
        let mut kept = Map::new();
        for text in broker.texts() {
            match members.text(&[*text]) {
                Ok(Some(value)) => {
                    kept.insert((*text).to_owned(), value.into());
                }
                Ok(None) if common.enabled => faults.push(members.requires(text)),
                Ok(None) => {}
                Err(fault) => faults.push(fault),
            }
        }
        if broker == Broker::Pusher {
            match members.truth(&["useTLS"]) {
                Ok(value) => {
                    kept.insert("useTLS".to_owned(), value.unwrap_or(true).into());
                }
                Err(fault) => faults.push(fault),
            }
        }
        block::refuse_if_any(faults)?;
        Ok(Self { broker, common, members: kept })
    }

    /// Switched on or off, with the names that go with it.
    pub(super) fn of(broker: Broker, common: Common) -> Self {
        Self { broker, common, members: Map::new() }
    }

    /// What is kept of it. A secret is not: settings are not sealed.
    pub(super) fn kept(&self, before: Option<&KeptBroker>, now: Timestamp) -> KeptBroker {
        let mut members = self.members.clone();
        members.shift_remove("secret");
        let common = Kept {
            enabled: self.common.enabled,
            events: self.common.list(),
            created_at: before.and_then(|before| before.common.created_at).or(Some(now)),
            updated_at: Some(now),
        };
        KeptBroker { common, members }
    }
}

/// A broker as an instance keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeptBroker {
    common: Kept,
    #[serde(default)]
    members: Map<String, Value>,
}

impl KeptBroker {
    fn row(&self, broker: Broker, instance: &Instance) -> Value {
        let mut row = self.common.row(broker.name(), instance);
        if let Value::Object(row) = &mut row {
            row.extend(self.members.clone());
        }
        row
    }
}

/// The row of an instance's broker, or `null`.
pub(super) fn row(broker: Broker, instance: &Instance) -> Value {
    settings::read::<KeptBroker>(instance, broker.name())
        .map_or(Value::Null, |kept| kept.row(broker, instance))
}

async fn set(
    app: App,
    access: Access,
    instance: String,
    body: Members,
    broker: Broker,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let marks: Vec<&str> = ["enabled", "events"].iter().chain(broker.texts()).copied().collect();
    let (members, form) = block::open(&body, broker.name(), &marks)?;
    let wanted = Wanted::read(broker, &members, form)?;
    let row = to_its_end(async move {
        let _one_at_a_time = app.evolution.changing.lock().await;
        let id = known.instance.id;
        let before = settings::read(&settings::fresh(&app, id).await?, broker.name());
        let kept = wanted.kept(before.as_ref(), (app.clock)());
        let instance = settings::keep(&app, &access.caller, id, broker.name(), &kept).await?;
        Ok(kept.row(broker, &instance))
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
    Ok(Json(row(broker, &known.instance)))
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
