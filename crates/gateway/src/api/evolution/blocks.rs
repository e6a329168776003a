//! The channels that a request names which makes an instance.

use serde_json::{Value, json};
use zapbus_event::{AccountId, Timestamp};
use zapbus_store::{Instance, Start};

use super::{
    answer::Failure,
    block::{Common, Form},
    body::Members,
    brokers::{self, Broker},
    sockets::{Websocket, with_websocket},
    webhook,
};
use crate::{api::auth::Caller, app::App};

/// Channels that there are no destinations for here.
const IGNORED: [&str; 2] = ["nats", "kafka"];

/// What is asked for, channel by channel.
#[derive(Debug)]
pub(super) struct Blocks {
    webhook: Option<webhook::Wanted>,
    websocket: Option<Websocket>,
    brokers: Vec<brokers::Wanted>,
}

impl Blocks {
    /// Reads them, or says what is wrong, before anything is made.
    pub(super) async fn read(
        app: &App,
        account: AccountId,
        body: &Members,
    ) -> Result<Self, Failure> {
        for name in IGNORED.iter().filter(|name| body.has(&[**name])) {
            tracing::warn!(
                event = "evolution.block_ignored",
                channel = *name,
                "an instance was made with a channel that there is none of here"
            );
        }
        let webhook = match (body.object("webhook"), body.has(&["webhook", "webhookUrl"])) {
            (Some(block), _) => Some(webhook::Wanted::read(app, &block, Form::Create)?),
            // The first version, flat: `webhook` is the URL.
            (None, true) if !is_empty(body, &["webhook", "webhookUrl"]) => {
                Some(webhook::Wanted::read(app, body, Form::Create)?)
            }
            (None, _) => None,
        };
        let brokers = Broker::ALL.into_iter().filter_map(|it| broker(body, it).transpose());
        let brokers: Vec<brokers::Wanted> = brokers.collect::<Result<_, _>>()?;
        for wanted in &brokers {
            wanted.check(app, account).await?;
        }
        Ok(Self { webhook, websocket: websocket(body)?, brokers })
    }

    /// Settings of the new instance with those put in that stand there.
    pub(super) fn settings(&self, settings: Value, now: Timestamp) -> Value {
        match self.websocket {
            Some(wanted) => with_websocket(&settings, wanted, now),
            None => settings,
        }
    }

    /// Makes those that are destinations, and shows all as the answer has them.
    pub(super) async fn put(
        &self,
        app: &App,
        caller: &Caller,
        instance: &Instance,
        start: Start,
    ) -> Result<Vec<(&'static str, Value)>, Failure> {
        let webhook = match &self.webhook {
            Some(wanted) => {
                let row = wanted.clone().put(app, caller, instance, start).await?;
                let mut shown = json!({
                    "webhookUrl": row["url"],
                    "webhookHeaders": row["headers"],
                    "webhookByEvents": row["webhookByEvents"],
                    "webhookBase64": row["webhookBase64"],
                });
                // What was not asked for is not there, rather than `null`.
                if let Value::Object(shown) = &mut shown {
                    shown.retain(|_, value| !value.is_null());
                }
                shown
            }
            None => json!({}),
        };
        for wanted in &self.brokers {
            wanted.clone().put(app, caller, instance, start).await?;
        }
        let on = |enabled: Option<bool>| match enabled {
            Some(enabled) => json!({ "enabled": enabled }),
            None => json!({}),
        };
        Ok(vec![
            ("webhook", webhook),
            ("websocket", on(self.websocket.map(Websocket::enabled))),
            ("rabbitmq", on(self.enabled(Broker::Rabbitmq))),
            ("nats", json!({})),
            ("sqs", on(self.enabled(Broker::Sqs))),
        ])
    }
}

impl Blocks {
    fn enabled(&self, broker: Broker) -> Option<bool> {
        let wanted = self.brokers.iter().find(|wanted| wanted.broker == broker);
        wanted.map(|wanted| wanted.common.enabled)
    }
}

fn broker(body: &Members, broker: Broker) -> Result<Option<brokers::Wanted>, Failure> {
    if let Some(block) = body.object(broker.name()) {
        return brokers::Wanted::read(broker, &block, Form::Create).map(Some);
    }
    if broker == Broker::Pusher {
        return Ok(None);
    }
    let common = flat(body, broker.name())?;
    Ok(common.map(|common| brokers::Wanted::of(broker, common)))
}

fn is_empty(body: &Members, names: &[&str]) -> bool {
    body.text(names).is_ok_and(|text| text.is_none_or(|text| text.is_empty()))
}

fn websocket(body: &Members) -> Result<Option<Websocket>, Failure> {
    if let Some(block) = body.object("websocket") {
        return Websocket::read(&block, Form::Create).map(Some);
    }
    Ok(flat(body, "websocket")?.map(Websocket::of))
}

/// A channel in the flat form: `<channel>_enabled`, `<channel>_events`, or with capitals.
fn flat(body: &Members, channel: &str) -> Result<Option<Common>, Failure> {
    let keys =
        |what: &str, capital: &str| [format!("{channel}_{what}"), format!("{channel}{capital}")];
    let (enabled, events) = (keys("enabled", "Enabled"), keys("events", "Events"));
    let enabled: Vec<&str> = enabled.iter().map(String::as_str).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let mut faults = Vec::new();
    let is_on = body.truth(&enabled).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    let names = super::names::read(body, &events).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    });
    super::block::refuse_if_any(faults)?;
    if is_on != Some(true) {
        return Ok(None);
    }
    let names = names.unwrap_or(zapbus_event::dialect::evolution::Names::ALL);
    Ok(Some(Common { enabled: true, names }))
}
