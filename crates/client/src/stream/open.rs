//! What to subscribe to, and how.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{
    Subscription,
    engine::{Engine, Policy},
    ledger::Ledger,
    native::Native,
    shared::Shared,
};
use crate::{Client, Error, backoff::Backoff};

/// Items besides events that may wait: gaps and the like.
const MORE: usize = 64;
/// As many as the gateway lets wait at once.
const MOST_UNACKED: u32 = 4_096;
/// Dialects whose events have no id, so that they cannot be acknowledged.
const WITHOUT_IDS: [&str; 2] = ["ryze", "evolution"];

/// A subscription to be opened. See [`Client::subscribe`].
#[derive(Debug, Clone)]
#[must_use = "nothing is subscribed before it is opened"]
pub struct Subscribe {
    client: Client,
    instance: Option<String>,
    subscriber: Option<String>,
    after: Option<String>,
    types: Vec<String>,
    dialect: String,
    include_raw: bool,
    exclude_ephemeral: bool,
    inline_media: bool,
    fallback: Option<String>,
    max_unacked: u32,
    ack_wait: Duration,
    policy: Policy,
}

impl Subscribe {
    pub(crate) fn new(client: Client, instance: Option<String>) -> Self {
        let policy = Policy {
            reconnect: true,
            max_retries: None,
            backoff: Backoff {
                first: Duration::from_millis(500),
                longest: Duration::from_secs(30),
            },
            patient: false,
            keep_alive: Duration::from_secs(20),
            max_frame_bytes: 64 << 20,
        };
        Self {
            client,
            instance,
            subscriber: None,
            after: None,
            types: Vec::new(),
            dialect: "native".to_owned(),
            include_raw: false,
            exclude_ephemeral: false,
            inline_media: false,
            fallback: None,
            max_unacked: 256,
            ack_wait: Duration::from_secs(30),
            policy,
        }
    }

    /// Under a name, for which the gateway keeps what was acknowledged. Without one, this object
    /// does, for as long as it lives.
    pub fn named(mut self, subscriber: impl Into<String>) -> Self {
        self.subscriber = Some(subscriber.into());
        self
    }

    /// Begins after an event id, a cursor, a time or, of one instance, a position; now, if not
    /// said. A name that the gateway knows goes on where it was.
    pub fn after(mut self, place: impl Into<String>) -> Self {
        self.after = Some(place.into());
        self
    }

    /// Only these: `message.*`, `call.updated:offer`; all, if not said.
    pub fn types<T: Into<String>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.types = types.into_iter().map(Into::into).collect();
        self
    }

    /// In other words than our own: `vzaps`, `ryze`, `evolution`. Events of the last two have no
    /// id: they count as done when they are sent.
    pub fn dialect(mut self, dialect: impl Into<String>) -> Self {
        self.dialect = dialect.into();
        self
    }

    /// With the upstream's own element.
    pub fn include_raw(mut self, yes: bool) -> Self {
        self.include_raw = yes;
        self
    }

    /// Without typing and presence.
    pub fn exclude_ephemeral(mut self, yes: bool) -> Self {
        self.exclude_ephemeral = yes;
        self
    }

    /// With the files of messages as base64.
    pub fn inline_media(mut self, yes: bool) -> Self {
        self.inline_media = yes;
        self
    }

    /// What becomes of events the dialect has no name for: `skip`, `extended`, `native`.
    pub fn fallback(mut self, fallback: impl Into<String>) -> Self {
        self.fallback = Some(fallback.into());
        self
    }

    /// How many events may wait for their acknowledgement at once, 1 to 4096; 256 if not said.
    pub fn max_unacked(mut self, events: u32) -> Self {
        self.max_unacked = events;
        self
    }

    /// After how long an event that waits comes again; 30 seconds if not said.
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = wait;
        self
    }

    /// Whether to connect again when the connection breaks; yes, if not said.
    pub fn reconnect(mut self, yes: bool) -> Self {
        self.policy.reconnect = yes;
        self
    }

    /// How many attempts in a row may fail before it is given up; for ever, if not said. An attempt
    /// has not failed when it brought an event or lasted ten seconds.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.policy.max_retries = Some(retries);
        self
    }

    /// The pause before the first attempt, and the longest one: they double in between, and are
    /// shortened by up to a half at random. Half a second and half a minute, if not said.
    pub fn retry_pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.policy.backoff = Backoff { first, longest };
        self
    }

    /// Whether to wait for a server that is not there yet. Without, [`open`](Self::open) fails when
    /// the first attempt does.
    pub fn patient(mut self, yes: bool) -> Self {
        self.policy.patient = yes;
        self
    }

    /// A connection that is silent for so long is pinged, and taken for dead when it is silent for
    /// twice as long again; 20 seconds if not said.
    pub fn keep_alive(mut self, every: Duration) -> Self {
        self.policy.keep_alive = every;
        self
    }

    /// Larger frames end the subscription; 64 MiB if not said.
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.policy.max_frame_bytes = bytes;
        self
    }

    pub(crate) fn max_unacked_of(&self) -> usize {
        self.max_unacked as usize
    }

    pub(crate) fn ack_wait_of(&self) -> Duration {
        self.ack_wait
    }

    /// Connects, and waits until that has succeeded once.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for options that cannot be, [`Error::Refused`] when the token or the
    /// instance is wrong, [`Error::Unreachable`] or [`Error::Timeout`] when nothing answers.
    pub async fn open(self) -> Result<Subscription, Error> {
        let protocol = self.protocol()?;
        // A name's cursor is kept by the gateway.
        let after = self.after.as_deref().filter(|_| self.subscriber.is_none());
        let (shared, commands) = Shared::new(Ledger::after(after));
        let (sender, heard) = mpsc::channel(self.max_unacked as usize + MORE);
        let (opening, opened) = oneshot::channel();
        let engine = Engine {
            transport: self.client.transport().clone(),
            protocol,
            policy: self.policy,
            shared: shared.clone(),
            heard: sender,
            commands,
            opening: Some(opening),
        };
        let subscription = Subscription::new(heard, shared, tokio::spawn(engine.run()));
        opened.await.unwrap_or(Err(Error::SubscriptionClosed))?;
        Ok(subscription)
    }

    fn protocol(&self) -> Result<Native, Error> {
        if !(1..=MOST_UNACKED).contains(&self.max_unacked) {
            return Err(Error::usage(format!("max_unacked: expected 1 to {MOST_UNACKED}")));
        }
        if self.policy.keep_alive.is_zero() {
            return Err(Error::usage("keep_alive: expected more than nothing"));
        }
        let explicit = !WITHOUT_IDS.contains(&self.dialect.as_str());
        let mut query = vec![
            ("dialect", self.dialect.clone()),
            ("ack", if explicit { "explicit" } else { "auto" }.to_owned()),
        ];
        if explicit {
            query.push(("max_unacked", self.max_unacked.to_string()));
            query.push(("ack_wait", self.ack_wait.as_secs_f64().to_string()));
        }
        if !self.types.is_empty() {
            query.push(("types", self.types.join(",")));
        }
        let optional = [
            ("subscriber", self.subscriber.clone()),
            ("after", self.after.clone()),
            ("fallback", self.fallback.clone()),
        ];
        query.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let flags = [
            ("include_raw", self.include_raw),
            ("exclude_ephemeral", self.exclude_ephemeral),
            ("inline_media", self.inline_media),
        ];
        let set = flags.into_iter().filter(|(_, yes)| *yes);
        query.extend(set.map(|(name, _)| (name, "true".to_owned())));
        let path = match &self.instance {
            Some(instance) => vec!["v1", "instances", instance, "stream"],
            None => vec!["v1", "stream"],
        };
        Ok(Native {
            client: self.client.clone(),
            path: path.into_iter().map(str::to_owned).collect(),
            query: query.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            explicit,
        })
    }
}
