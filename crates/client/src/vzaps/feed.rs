//! Realtime events of VZaps, as they are pulled: the machinery below the handlers.

use std::{borrow::Cow, sync::Arc, time::Duration};

use http::header;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{Client, EventSubscription};
use crate::{
    Delivery, Error, State,
    backoff::Backoff,
    stream::{
        Seen,
        engine::{Engine, Frame, Heard, Policy, Protocol, Target, unreadable},
        ledger::Ledger,
        shared::{Command, Shared},
    },
    transport::Query,
};

/// Events that may wait to be handled. A server that sends more without waiting for
/// acknowledgements is slowed down.
const WAITING: usize = 1_024;

/// Events. See [`Client::events`].
#[derive(Debug, Clone, Copy)]
pub struct Events<'a>(pub(super) &'a Client);

impl Events<'_> {
    /// A subscription with handlers. It connects when it is opened.
    pub fn subscribe(&self, watch: Watch) -> EventSubscription {
        EventSubscription::new(self.0.clone(), watch)
    }

    /// A subscription without handlers: what happens is pulled. It connects at once, and goes on
    /// trying.
    pub fn feed(&self, watch: Watch) -> Feed {
        Feed::open(self.0.clone(), watch)
    }
}

/// What to watch, and how.
#[derive(Clone)]
pub struct Watch {
    instance_id: String,
    instance_token: String,
    events: Vec<String>,
    last_event_id: Option<String>,
    policy: Policy,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("instance_id", &self.instance_id)
            .field("events", &self.events)
            .field("last_event_id", &self.last_event_id)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// An instance, with its token.
    pub fn new(instance_id: impl Into<String>, instance_token: impl Into<String>) -> Self {
        let policy = Policy {
            reconnect: true,
            max_retries: None,
            backoff: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) },
            patient: true,
            keep_alive: Duration::from_secs(20),
            max_frame_bytes: 64 << 20,
        };
        Self {
            instance_id: instance_id.into(),
            instance_token: instance_token.into(),
            events: Vec::new(),
            last_event_id: None,
            policy,
        }
    }

    /// Which events, by name; those that the instance subscribes to, if not said.
    #[must_use]
    pub fn events<T: Into<String>>(mut self, events: impl IntoIterator<Item = T>) -> Self {
        self.events = events.into_iter().map(Into::into).collect();
        self
    }

    /// Whether to connect again when the connection breaks; yes, if not said.
    #[must_use]
    pub fn reconnect(mut self, yes: bool) -> Self {
        self.policy.reconnect = yes;
        self
    }

    /// How many attempts in a row may fail after the first; for ever, if not said.
    #[must_use]
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.policy.max_retries = Some(retries);
        self
    }

    /// The pause before the first attempt; it doubles up to 30 seconds, and is shortened by up to a
    /// half at random. A second, if not said.
    #[must_use]
    pub fn retry_delay(mut self, delay: Duration) -> Self {
        self.policy.backoff.first = delay;
        self
    }

    /// Begins after this event.
    #[must_use]
    pub fn last_event_id(mut self, id: impl Into<String>) -> Self {
        self.last_event_id = Some(id.into());
        self
    }

    /// A connection that is silent for so long is pinged, and taken for dead when it is silent for
    /// twice as long again; 20 seconds if not said.
    #[must_use]
    pub fn keep_alive(mut self, every: Duration) -> Self {
        self.policy.keep_alive = every.max(Duration::from_millis(10));
        self
    }

    /// Larger frames end the subscription; 64 MiB if not said.
    #[must_use]
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.policy.max_frame_bytes = bytes;
        self
    }
}

/// An event as VZaps writes it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct RealtimeEvent {
    /// Its id, to deduplicate by.
    pub id: String,
    /// Its name, for example `Message`; it may be one that this version has never heard of.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whose it is.
    #[serde(default)]
    pub instance_id: Option<String>,
    /// When it was made, as the server writes it.
    #[serde(default)]
    pub created_at: Option<Value>,
    /// What happened.
    #[serde(default)]
    pub data: Value,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What happens to a subscription.
#[derive(Debug)]
#[non_exhaustive]
pub enum Happening {
    /// A connection is open.
    Opened,
    /// An event, to be acknowledged.
    Event(Delivery),
    /// Something went wrong, and it goes on: a connection broke or could not be made, or a frame
    /// could not be read.
    Trouble(Error),
    /// A connection has ended that was open.
    Closed,
    /// The subscription has ended: by itself, if there is an error.
    Ended(Option<Error>),
}

/// A subscription whose happenings are pulled.
#[derive(Debug)]
pub struct Feed {
    heard: mpsc::Receiver<Heard>,
    shared: Arc<Shared>,
    engine: JoinHandle<()>,
}

impl Feed {
    pub(super) fn open(client: Client, watch: Watch) -> Self {
        let (shared, commands) = Shared::new(Ledger::after(watch.last_event_id.as_deref()));
        let (sender, heard) = mpsc::channel(WAITING);
        let engine = Engine {
            transport: client.realtime().clone(),
            policy: watch.policy,
            protocol: Realtime { client, watch },
            shared: shared.clone(),
            heard: sender,
            commands,
            opening: None,
        };
        Self { heard, shared, engine: tokio::spawn(engine.run()) }
    }

    /// What happens next; `None` after the end.
    pub async fn next(&mut self) -> Option<Happening> {
        self.heard.recv().await.map(Happening::from)
    }

    /// Waits for what happens next, and takes what has happened besides, up to `most` in all.
    /// Nothing: it has ended.
    pub async fn next_many(&mut self, most: usize) -> Vec<Happening> {
        let mut heard = Vec::new();
        self.heard.recv_many(&mut heard, most).await;
        heard.into_iter().map(Happening::from).collect()
    }

    /// What has happened already, up to `most`; nothing is waited for.
    pub fn ready_many(&mut self, most: usize) -> Vec<Happening> {
        let heard = std::iter::from_fn(|| self.heard.try_recv().ok());
        heard.take(most).map(Happening::from).collect()
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// The last event up to which all are acknowledged.
    pub fn last_event_id(&self) -> Option<String> {
        self.shared.ledger().cursor().map(|cursor| cursor.to_string())
    }

    /// Ends it: acknowledgements are sent, and the connection closed in order.
    pub async fn close(mut self) {
        self.heard.close();
        // It may have ended by itself.
        let _ = self.shared.send(Command::Close);
        while self.heard.recv().await.is_some() {}
        let _ = (&mut self.engine).await;
    }
}

impl From<Heard> for Happening {
    fn from(heard: Heard) -> Self {
        match heard {
            Heard::Opened => Self::Opened,
            Heard::Delivery(delivery) => Self::Event(delivery),
            Heard::Trouble(error) | Heard::Broken(error) => Self::Trouble(error),
            Heard::Closed => Self::Closed,
            Heard::Ended(error) => Self::Ended(error),
            // There are no frames for these.
            Heard::Gap(_) | Heard::Dead(_) => {
                Self::Trouble(unreadable("something that VZaps has no frame for"))
            }
        }
    }
}

/// `GET /events/ws`.
struct Realtime {
    client: Client,
    watch: Watch,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    r#type: Cow<'a, str>,
}

impl Protocol for Realtime {
    async fn target(&self, cursor: Option<&str>) -> Result<Target, Error> {
        let Watch { instance_id, instance_token, events, .. } = &self.watch;
        let mut query: Query = vec![("instance_id".into(), instance_id.clone())];
        if !events.is_empty() {
            query.push(("events".into(), events.join(",")));
        }
        query.extend(cursor.map(|cursor| ("last_event_id".into(), cursor.to_owned())));
        let path = ["events".to_owned(), "ws".to_owned()];
        Ok(Target {
            url: self.client.realtime().url(&path, &query),
            headers: self.client.headers(instance_token).await?,
        })
    }

    async fn refused(&self, target: &Target, error: &Error) -> bool {
        if error.status() != Some(401) {
            return false;
        }
        let token = target.headers.get(header::AUTHORIZATION);
        let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        self.client.bearer().refused(token.unwrap_or_default()).await
    }

    fn read(&self, frame: &str) -> Result<Frame, Error> {
        let Head { id, r#type } = serde_json::from_str(frame).map_err(unreadable)?;
        if id.is_empty() {
            return Err(unreadable("an event has no id"));
        }
        Ok(Frame::Event(Seen {
            id: Some(Arc::from(&*id)),
            kind: r#type.into_owned(),
            ..Seen::default()
        }))
    }

    fn say(&self, commands: &mut Vec<Command>, frames: &mut Vec<String>) {
        for command in commands.iter() {
            // There is a word for one thing only; what is not said comes again.
            if let Command::Ack(id) | Command::Reject(id) = command {
                frames.push(json!({ "type": "ack", "event_id": id }).to_string());
            }
        }
    }
}
