//! Publishes to RabbitMQ, with confirms.
//!
//! All destinations of one URI share one connection ([`link`]). Each message has an AMQP channel to
//! itself until it is confirmed: a broker says what it returns without saying to which confirm that
//! belongs, and its closing of a channel for one message's mistake is no other's. What is sent at the
//! same time is on the wire at the same time.

mod address;
mod config;
mod frames;
mod kit;
mod link;
mod transport;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    BasicProperties, Confirmation,
    options::BasicPublishOptions,
    types::{AMQPValue, FieldTable},
};
use tokio::time::Instant;

pub use config::{Config, ExchangeType, Preset, QueueType};
pub(crate) use link::Links;

use self::{
    config::{Names, Place},
    link::{Link, LinkError, Open, Topology, words},
};
use crate::{Fault, Message, Opening, Outcome, Report, Scope, gather::failed};

/// A broker ready to be published to. Holds a connection only once something was sent.
#[derive(Debug)]
pub struct Rabbitmq {
    link: Arc<Link>,
    names: Names,
    topology: Topology,
    mandatory: bool,
    persistent: bool,
    timeout: Duration,
    /// The connection that was used last: as long as the destination is at work it stays open.
    open: Mutex<Option<Arc<Open>>>,
}

/// Why a message was not confirmed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// AMQP cannot carry it.
    #[error("{0}")]
    Unfit(String),
    /// It may not be sent any more.
    #[error("not sent: the right to send it has ended")]
    Withheld,
    /// There is no connection, or not any more.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The broker has nowhere to put it.
    #[error(
        "no queue takes it: nothing is bound to the exchange `{exchange}` for the routing key \
         `{routing_key}`; bind a queue, set `queue`, narrow the destination's `events`, or set \
         `mandatory` to false"
    )]
    Unroutable { exchange: String, routing_key: String },
    /// The broker could not take it.
    #[error("the broker could not take it (nack): a queue is full, or a node of the broker fails")]
    Nack,
    /// The broker takes nothing at the moment.
    #[error("the broker has blocked publishing: it is short of memory or disk")]
    Blocked,
    /// The broker has closed the AMQP channel.
    #[error("the broker refused: {}", words(.0))]
    Refused(lapin::Error),
    /// It is larger than the broker takes.
    #[error("the event takes {bytes} bytes and the broker takes {most} (max_message_size)")]
    TooLarge { bytes: usize, most: usize },
}

impl Rabbitmq {
    /// Prepares everything that is the same for each message.
    pub(crate) fn open(config: &Config, opening: &Opening) -> Result<Self, Vec<Fault>> {
        let faults = config.form_faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let one = |fault: Fault| vec![fault];
        let address = config.address().map_err(one)?;
        let connecting = config.connecting();
        let identity = match address.is_tls() {
            true => Some(connecting.identity().map_err(one)?),
            false => None,
        };
        Ok(Self {
            link: opening.links.link(opening, address, identity, connecting.connect_timeout()),
            names: config.names(),
            topology: Topology::of(config),
            mandatory: config.mandatory,
            persistent: !config.transient,
            timeout: connecting.timeout().unwrap_or(opening.timeout),
            open: Mutex::new(None),
        })
    }

    /// Sends the messages one after another.
    pub(crate) async fn send(&self, batch: &[Message]) -> Vec<Report> {
        let mut reports = Vec::with_capacity(batch.len());
        for message in batch {
            reports.push(self.send_one(message).await);
        }
        reports
    }

    /// Declares what messages of these names need.
    pub(crate) async fn prepare(&self, messages: &[Message]) -> Result<(), String> {
        let declaring = async {
            let open = self.link.open().await?;
            for message in messages {
                let place = self.names.place(message).map_err(Failure::Unfit)?;
                open.declare(&self.topology, &place).await?;
            }
            Ok::<_, Failure>(())
        };
        match tokio::time::timeout(self.timeout, declaring).await {
            Ok(declared) => declared.map_err(|failure| failure.to_string()),
            Err(_) => Err(LinkError::late(self.timeout.as_secs_f64()).to_string()),
        }
    }

    async fn send_one(&self, message: &Message) -> Report {
        let mut started = Instant::now();
        let mut used = None;
        let publishing = self.publish(message, &mut used, &mut started);
        let result = match tokio::time::timeout(self.timeout, publishing).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(used.as_ref(), started)),
        };
        let latency = started.elapsed();
        let Err(failure) = result else {
            return Report { latency, error: None, ..failed(Outcome::Accepted, "") };
        };
        Report { latency, ..failed(outcome(&failure), failure.to_string()) }
    }

    async fn publish(
        &self,
        message: &Message,
        used: &mut Option<Arc<Open>>,
        started: &mut Instant,
    ) -> Result<(), Failure> {
        let place = self.names.place(message).map_err(Failure::Unfit)?;
        let open = used.insert(self.link.open().await?);
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(open));
        if open.is_blocked() {
            return Err(Failure::Blocked);
        }
        open.declare(&self.topology, &place).await?;
        let (line, _place) = open.line().await?;
        if !message.may_go() {
            open.give_back(line);
            return Err(Failure::Withheld);
        }
        *started = Instant::now();
        let options = BasicPublishOptions { mandatory: self.mandatory, immediate: false };
        let confirm = line
            .basic_publish(
                place.exchange.as_str().into(),
                place.routing_key.as_str().into(),
                options,
                &message.body,
                self.properties(message),
            )
            .await;
        let confirmation = match confirm {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        if confirmation.is_ok() {
            open.confirmed();
            open.give_back(line);
        }
        match confirmation {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(_))) => {
                // Somebody may have deleted the queue: next time it is declared again.
                open.forget(&place);
                let Place { exchange, routing_key, .. } = place;
                Err(Failure::Unroutable { exchange, routing_key })
            }
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => Err(Failure::Nack),
            Err(error) => {
                open.forget(&place);
                Err(refusal(error, message.body.len()))
            }
        }
    }

    /// What a time-out means. A connection on which nothing was confirmed since may be dead without
    /// anybody having said so; where others were, it is this message's queue that does not answer.
    fn timed_out(&self, used: Option<&Arc<Open>>, started: Instant) -> Failure {
        let seconds = self.timeout.as_secs_f64();
        let Some(open) = used else {
            return LinkError::late(seconds).into();
        };
        if open.is_blocked() {
            return Failure::Blocked;
        }
        if !open.has_confirmed_since(started) {
            self.link.retire(open);
            // Nor is it kept by a destination that has nothing more to send.
            self.open
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take_if(|held| Arc::ptr_eq(held, open));
        }
        LinkError::unconfirmed(seconds).into()
    }

    fn properties(&self, message: &Message) -> BasicProperties {
        let mut headers = FieldTable::default();
        let mut header = |name: &str, value: &str| {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        };
        for (name, value) in &message.headers {
            header(name.as_str(), value);
        }
        header("zapbus-event", &message.event_name);
        header("zapbus-instance", &message.instance_name);
        header("zapbus-hops", &message.hops.to_string());
        if let Some(replay) = &message.replay {
            header("zapbus-replay", replay);
        }
        if let Some(traceparent) = &message.traceparent {
            header("traceparent", traceparent);
        }
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(if self.persistent { 2 } else { 1 })
            .with_message_id(message.id.as_str().into())
            .with_timestamp(u64::try_from(message.timestamp.as_secs()).unwrap_or(0))
            .with_type(message.event_name.as_str().into())
            .with_app_id("zapbus".into())
            .with_headers(headers)
    }
}

/// What the broker's closing of a channel, or a broken connection, means for a message.
///
/// A message that is too large closes the AMQP channel for those beside it too: only those that are
/// themselves too large are meant.
fn refusal(error: lapin::Error, bytes: usize) -> Failure {
    if link::is_lost(&error) {
        return LinkError::lost(error).into();
    }
    match size_limit(&words(&error)) {
        Some(most) if bytes > most => Failure::TooLarge { bytes, most },
        _ => Failure::Refused(error),
    }
}

/// The number in RabbitMQ's "message size 5 is larger than configured max size 4".
fn size_limit(text: &str) -> Option<usize> {
    let (_, rest) = text.split_once("larger than")?;
    let (_, number) = rest.split_once("max size ")?;
    let digits = number.find(|it: char| !it.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

/// What a failure means for the message, and for the destination.
fn outcome(failure: &Failure) -> Outcome {
    let scope = match failure {
        Failure::Unfit(_) | Failure::TooLarge { .. } => return Outcome::Refused,
        Failure::Withheld => return Outcome::Withheld,
        Failure::Unroutable { .. } => Scope::Event,
        Failure::Link(_) | Failure::Nack | Failure::Blocked | Failure::Refused(_) => {
            Scope::Destination
        }
    };
    Outcome::Retry { after: None, scope }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_that_the_broker_takes_is_read() {
        let said =
            "PRECONDITION_FAILED - message size 5000 is larger than configured max size 4000";
        assert_eq!(size_limit(said), Some(4000));
        assert_eq!(size_limit("message size 9 is larger than max size 8, in queue"), Some(8));
        assert_eq!(size_limit("NOT_FOUND - no exchange 'x' in vhost '/'"), None);
        assert_eq!(size_limit("larger than max size 99999999999999999999999"), None);
    }
}
