//! One session of Engine.IO: a transport, and the namespaces that share it.
//!
//! A session is a task. Namespaces are live connections like any others; each hands over a batch and
//! waits until that is written, so that what waits here is one batch of each. On a WebSocket a batch
//! is written when the socket has taken it; with long polling when the client asks for more.

mod outbox;
mod pings;
mod transport;

use std::{collections::BTreeMap, future::pending, pin::pin, time::Duration};

use axum::extract::ws::{Utf8Bytes, WebSocket};
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

pub(super) use self::pings::ping;
use self::{
    outbox::Outbox,
    transport::{Probe, Probed, Talked, Transport},
};
use super::{
    access::Visitor,
    namespace::{self, Joined},
    packet::{self, Message, Packet},
    sessions::Registered,
};
use crate::{
    app::App,
    realtime::{FromLink, LinkEnd, STALLED, Slot, Told},
};

/// Namespaces of one session.
const MAX_NAMESPACES: usize = 256;
/// How long a session may be in no namespace.
const LOBBY: Duration = Duration::from_secs(20);
/// How long one may that has shown no key yet.
const LOBBY_OF_STRANGERS: Duration = Duration::from_secs(10);
/// How long a WebSocket may take to take over.
const PROBE: Duration = Duration::from_secs(10);
/// Packets that nobody can read, between two pings.
const MAX_NONSENSE: u32 = 100;
/// Answers that wait for a client that asks and does not read.
const MAX_ANSWERS: u32 = 100;
/// No sleep is longer: the clock may jump.
const LONGEST: Duration = Duration::from_secs(30);

const RESTARTS: &str = "the gateway restarts: connect again";

/// What requests bring a session.
#[derive(Debug)]
pub(super) enum Command {
    /// A long poll, answered with packets.
    Poll(oneshot::Sender<Bytes>),
    /// Packets of the client.
    Post(String),
    /// A WebSocket that may take over.
    Upgrade(Box<WebSocket>),
}

/// What a session begins with.
pub(super) struct Beginning {
    pub(super) app: App,
    pub(super) visitor: Visitor,
    pub(super) slot: Slot,
}

/// A running session.
pub(super) struct Session {
    app: App,
    visitor: Visitor,
    transport: Transport,
    probe: Option<Probe>,
    /// Of one that began with long polling.
    commands: Option<(Registered, mpsc::Receiver<Command>)>,
    from_links: mpsc::Receiver<FromLink>,
    to_session: mpsc::Sender<FromLink>,
    namespaces: BTreeMap<u64, Namespace>,
    joined: u64,
    out: Outbox,
    /// While no namespace has one.
    slot: Option<Slot>,
    /// In no namespace since.
    idle_since: Option<Instant>,
    ping_at: Instant,
    pinged_at: Option<Instant>,
    nonsense: u32,
    answers: u32,
}

struct Namespace {
    name: String,
    /// None: nothing is ever sent there.
    link: Option<LinkEnd>,
}

enum End {
    /// The client has gone.
    Gone,
    /// We close it.
    Close(u16, &'static str),
}

enum Woken {
    Closing,
    Talked(Talked),
    Probed(Probed),
    Command(Command),
    Told(FromLink),
    Time,
}

impl Session {
    /// One on a WebSocket from the beginning.
    pub(super) fn on_socket(beginning: Beginning, socket: WebSocket, open: Bytes) -> Self {
        let mut session = Self::new(beginning, Transport::Socket(Box::new(socket)), None);
        session.out.push(open);
        session
    }

    /// One that begins with long polling.
    pub(super) fn on_polls(
        beginning: Beginning,
        registered: Registered,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self::new(beginning, Transport::Polls(None), Some((registered, commands)))
    }

    fn new(
        beginning: Beginning,
        transport: Transport,
        commands: Option<(Registered, mpsc::Receiver<Command>)>,
    ) -> Self {
        let Beginning { app, visitor, slot } = beginning;
        let (to_session, from_links) = mpsc::channel(1);
        let now = Instant::now();
        Self {
            ping_at: now + ping(&app).every,
            app,
            visitor,
            transport,
            probe: None,
            commands,
            from_links,
            to_session,
            namespaces: BTreeMap::new(),
            joined: 0,
            out: Outbox::default(),
            slot: Some(slot),
            idle_since: Some(now),
            pinged_at: None,
            nonsense: 0,
            answers: 0,
        }
    }

    /// Runs it to its end.
    pub(super) async fn run(mut self) {
        let end = self.converse().await;
        // Connections of namespaces end with their links.
        self.namespaces.clear();
        let (code, reason) = match end {
            End::Gone => (None, ""),
            End::Close(code, reason) => (Some(code), reason),
        };
        self.transport.close(code, reason, self.out.take()).await;
    }

    async fn converse(&mut self) -> End {
        let closing = self.app.realtime.closing().clone();
        let released = self.app.realtime.released().clone();
        let mut sleep = pin!(tokio::time::sleep(LONGEST));
        loop {
            if !self.send() {
                return End::Gone;
            }
            sleep.as_mut().reset(self.deadline());
            let woken = {
                let Self { transport, probe, commands, from_links, out, .. } = self;
                let polls = transport.polls();
                let is_writing = out.is_writing();
                tokio::select! {
                    biased;
                    () = closing.cancelled() => Woken::Closing,
                    () = released.cancelled(), if polls => Woken::Closing,
                    talked = transport.talk(is_writing) => Woken::Talked(talked),
                    probed = Probe::talk(probe) => Woken::Probed(probed),
                    command = next_command(commands) => Woken::Command(command),
                    Some(told) = from_links.recv() => Woken::Told(told),
                    () = sleep.as_mut() => Woken::Time,
                }
            };
            let end = match woken {
                Woken::Closing => Some(End::Close(1001, RESTARTS)),
                Woken::Talked(Talked::Gone) => Some(End::Gone),
                Woken::Talked(Talked::Written) => {
                    self.written();
                    None
                }
                Woken::Talked(Talked::Alive) => {
                    self.alive();
                    None
                }
                Woken::Talked(Talked::Packet(text)) => Box::pin(self.hear(&text)).await,
                Woken::Probed(probed) => Box::pin(self.probed(probed)).await,
                Woken::Command(command) => Box::pin(self.obey(command)).await,
                Woken::Told(told) => self.told(told),
                Woken::Time => self.pass(Instant::now()),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Begins to write what waits, if it can be written. False: the connection is broken.
    fn send(&mut self) -> bool {
        if self.out.is_writing() || self.out.is_empty() {
            return true;
        }
        match &mut self.transport {
            Transport::Socket(socket) => transport::feed(socket, self.out.begin()),
            // While a WebSocket takes over, everything waits for it.
            Transport::Polls(_) if self.probe.as_ref().is_some_and(Probe::is_answered) => true,
            Transport::Polls(waiting) => {
                let Some(poll) = waiting.take() else { return true };
                let frames = self.out.begin();
                if poll.send(transport::body(&frames)).is_err() {
                    // Whoever asked has gone; the next one gets it.
                    self.out.put_back(frames);
                }
                true
            }
        }
    }

    /// The client has shown that it lives.
    fn alive(&mut self) {
        self.pinged_at = None;
        self.out.heard();
    }

    /// What was being written is written.
    fn written(&mut self) {
        self.answers = 0;
        if self.out.written() {
            self.pinged_at.get_or_insert_with(Instant::now);
        }
    }

    async fn obey(&mut self, command: Command) -> Option<End> {
        match command {
            Command::Post(body) => {
                self.alive();
                for text in body.split(packet::SEPARATOR) {
                    if let Some(end) = self.hear(text).await {
                        return Some(end);
                    }
                }
                None
            }
            Command::Poll(poll) => {
                if self.out.is_writing() && self.transport.polls() {
                    // Who asks for more has what was sent before.
                    self.written();
                }
                let is_upgrading = self.probe.as_ref().is_some_and(Probe::is_answered);
                match &mut self.transport {
                    Transport::Polls(waiting) if !is_upgrading => match waiting {
                        Some(other) if !other.is_closed() => {
                            return Some(End::Close(1008, "two polls at once"));
                        }
                        _ => *waiting = Some(poll),
                    },
                    _ => drop(poll.send(Bytes::from_static(packet::NOOP.as_bytes()))),
                }
                None
            }
            Command::Upgrade(socket) => {
                if self.transport.polls() && self.probe.is_none() {
                    self.probe = Some(Probe::new(socket));
                }
                None
            }
        }
    }

    async fn probed(&mut self, probed: Probed) -> Option<End> {
        match probed {
            Probed::Gone => self.probe = None,
            Probed::Asked => {
                let answered = match &mut self.probe {
                    Some(probe) => probe.answer().await,
                    None => false,
                };
                if !answered {
                    self.probe = None;
                } else if let Transport::Polls(waiting) = &mut self.transport
                    && let Some(poll) = waiting.take()
                {
                    // The client waits for its poll to end before it goes over.
                    let _ = poll.send(Bytes::from_static(packet::NOOP.as_bytes()));
                }
            }
            Probed::TakesOver => {
                if let Some(probe) = self.probe.take() {
                    // It has read the answers to all its polls.
                    if self.out.is_writing() {
                        self.written();
                    }
                    self.transport = Transport::Socket(probe.into_socket());
                }
            }
            Probed::Nothing => {}
        }
        None
    }

    /// Reads a packet.
    async fn hear(&mut self, text: &str) -> Option<End> {
        self.alive();
        match packet::read(text) {
            Ok(Packet::Close) => Some(End::Gone),
            Ok(Packet::Message(message)) => self.heard(message).await,
            Ok(Packet::Ping(_) | Packet::Pong | Packet::Upgrade | Packet::Noop) => None,
            Err(packet::Malformed) => {
                self.nonsense += 1;
                (self.nonsense > MAX_NONSENSE)
                    .then_some(End::Close(1008, "too many messages that cannot be read"))
            }
        }
    }

    async fn heard(&mut self, message: Message<'_>) -> Option<End> {
        match message {
            Message::Connect { namespace, auth } => return self.join(namespace, &auth).await,
            Message::Disconnect { namespace } => {
                self.namespaces.retain(|_, joined| joined.name != namespace);
                return self.settle();
            }
            Message::Ack { namespace, number } => {
                let joined = self.namespaces.values().find(|joined| joined.name == namespace);
                if let Some(link) = joined.and_then(|joined| joined.link.as_ref()) {
                    link.hear(Utf8Bytes::from(number.to_string())).await;
                }
            }
            // What clients say to a session of WhatsApp's is not for us.
            Message::Event { .. } => {}
        }
        None
    }

    async fn join(&mut self, name: &str, auth: &serde_json::Value) -> Option<End> {
        if self.namespaces.values().any(|joined| joined.name == name) {
            return None;
        }
        self.answers += 1;
        if self.answers > MAX_ANSWERS {
            return Some(End::Close(1008, "it asks and does not read"));
        }
        if self.namespaces.len() >= MAX_NAMESPACES {
            self.out.push(packet::refused(name, "too many namespaces on one connection"));
            return None;
        }
        let joined = match namespace::join(&self.app, &self.visitor, name, auth).await {
            Ok(joined) => joined,
            Err(refused) => {
                self.out.push(packet::refused(name, &refused.message()));
                return None;
            }
        };
        self.joined += 1;
        let number = self.joined;
        let link = match joined {
            Joined::Quiet(frame) => {
                self.out.push(frame);
                None
            }
            Joined::Subscribed(ready, frames) => {
                Some(ready.link(number, self.to_session.clone(), *frames))
            }
        };
        self.namespaces.insert(number, Namespace { name: name.to_owned(), link });
        self.settle()
    }

    /// A session takes a place as long as none of its namespaces does.
    fn settle(&mut self) -> Option<End> {
        self.idle_since = match self.namespaces.is_empty() {
            true => Some(self.idle_since.unwrap_or_else(Instant::now)),
            false => None,
        };
        if self.namespaces.values().any(|joined| joined.link.is_some()) {
            self.slot = None;
            return None;
        }
        // Whoever has joined something has shown a key by then.
        let has_place = self.slot.as_ref().is_some_and(|slot| !slot.is_strangers());
        if !has_place && !self.namespaces.is_empty() || self.slot.is_none() {
            match self.app.realtime.admit(None) {
                Ok(slot) => self.slot = Some(slot),
                Err(_) => return Some(End::Close(1013, "no room")),
            }
        }
        None
    }

    fn lobby(&self) -> Duration {
        match &self.slot {
            Some(slot) if slot.is_strangers() => LOBBY_OF_STRANGERS,
            _ => LOBBY,
        }
    }

    fn told(&mut self, FromLink { number, told }: FromLink) -> Option<End> {
        match told {
            // Of a namespace that was left nothing is written any more.
            Told::Frames(frames, written) if self.namespaces.contains_key(&number) => {
                self.out.extend(frames, written);
                None
            }
            Told::Frames(..) => None,
            Told::Ended(1001, reason) => Some(End::Close(1001, reason)),
            Told::Ended(code, reason) => {
                let left = self.namespaces.remove(&number)?;
                if reason == STALLED {
                    // Nothing is taken on this transport any more, of whichever namespace.
                    return Some(End::Close(code, reason));
                }
                self.out.push(packet::left(&left.name));
                self.settle()
            }
        }
    }

    /// What is due by now.
    fn pass(&mut self, now: Instant) -> Option<End> {
        if self.idle_since.is_some_and(|since| now >= since + self.lobby()) {
            return Some(End::Close(1008, "no namespace was joined"));
        }
        if self.is_stalled(now) {
            return Some(End::Close(1008, STALLED));
        }
        if self.pinged_at.is_some_and(|at| now >= at + ping(&self.app).within)
            && !self.is_being_read()
        {
            return Some(End::Close(1008, "a ping was not answered"));
        }
        if self.probe.as_ref().is_some_and(|probe| now >= probe.since() + PROBE) {
            self.probe = None;
        }
        if now >= self.ping_at {
            self.ping_at = now + ping(&self.app).every;
            self.nonsense = 0;
            self.out.ping();
            if self.transport.polls() {
                // One that does not ask at all is not there.
                self.pinged_at.get_or_insert(now);
            }
        }
        None
    }

    /// A WebSocket that takes what is written, however slowly, lives.
    fn is_being_read(&self) -> bool {
        !self.transport.polls() && self.out.is_writing()
    }

    fn is_stalled(&self, now: Instant) -> bool {
        let since = self.out.writing_since().filter(|_| !self.transport.polls());
        since.is_some_and(|since| now >= since + self.app.realtime.config().stall())
    }

    fn deadline(&self) -> Instant {
        let mut deadline = self.ping_at.min(Instant::now() + LONGEST);
        let stall = self.out.writing_since().filter(|_| !self.transport.polls());
        let pong = self.pinged_at.filter(|_| !self.is_being_read());
        for due in [
            self.idle_since.map(|since| since + self.lobby()),
            stall.map(|since| since + self.app.realtime.config().stall()),
            pong.map(|at| at + ping(&self.app).within),
            self.probe.as_ref().map(|probe| probe.since() + PROBE),
        ]
        .into_iter()
        .flatten()
        {
            deadline = deadline.min(due);
        }
        deadline
    }
}

async fn next_command(commands: &mut Option<(Registered, mpsc::Receiver<Command>)>) -> Command {
    match commands {
        Some((_, commands)) => match commands.recv().await {
            Some(command) => command,
            None => pending().await,
        },
        None => pending().await,
    }
}
