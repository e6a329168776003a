//! The life of a subscription: connections one after the other, what they bring, and what is said
//! on them. The same for every kind of endpoint.

use std::{collections::VecDeque, future::Future, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use http::HeaderMap;
use jiff::Timestamp;
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::Instant,
};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use url::Url;

use super::{
    delivery::{Delivery, Seen},
    ledger::Arrived,
    shared::{Command, Shared, State},
    socket::{self, Socket},
    subscription::{Dead, Gap},
};
use crate::{Error, backoff::Backoff, transport::Transport};

/// Things said about events that are written together.
const BATCH: usize = 1_024;
/// So many are written at once, and fewer if the last were written so long ago: each write costs
/// more than what is in it.
const ENOUGH: usize = 64;
const GATHERING: Duration = Duration::from_millis(1);
/// How long saying goodbye may take.
const LAST_WORD: Duration = Duration::from_secs(2);
/// A connection that was open for so long, or brought an event, was a good one.
const GOOD: Duration = Duration::from_secs(10);
/// A server that restarts asks us to be quick.
const AT_ONCE: Duration = Duration::from_millis(100);
/// The close code of a server that restarts.
const RESTART: u16 = 1001;

/// Where and how to connect.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
}

/// What a frame is.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame {
    /// The stream begins here.
    Opened { cursor: Option<String> },
    /// An event.
    Event(Seen),
    /// Events are missing.
    Gap(Gap),
    /// An event was given up.
    Dead(Dead),
    /// Nothing that anybody needs to know.
    Nothing,
}

/// What differs between endpoints.
pub(crate) trait Protocol: Send + Sync + 'static {
    /// Where to connect, after what was settled last.
    fn target(&self, cursor: Option<&str>) -> impl Future<Output = Result<Target, Error>> + Send;

    /// The server has refused that. Whether another attempt, at once, makes sense.
    fn refused(&self, target: &Target, error: &Error) -> impl Future<Output = bool> + Send;

    /// Whether a refusal is the end.
    fn is_final(&self, error: &Error) -> bool {
        !error.is_temporary()
    }

    /// Reads a frame.
    fn read(&self, frame: &str) -> Result<Frame, Error>;

    /// Writes what is to be said.
    fn say(&self, commands: &mut Vec<Command>, frames: &mut Vec<String>);

    /// Whether what came while there was no connection is lost.
    fn loses(&self) -> bool {
        false
    }
}

/// What a subscription hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A connection is open.
    Opened,
    /// An event.
    Delivery(Delivery),
    /// Events are missing.
    Gap(Gap),
    /// An event was given up.
    Dead(Dead),
    /// A frame could not be read, and it goes on.
    Trouble(Error),
    /// A connection broke or could not be made; the next attempt follows.
    Broken(Error),
    /// A connection has ended that was open.
    Closed,
    /// The subscription has ended, by itself if there is an error.
    Ended(Option<Error>),
}

/// When and how often to connect again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Whether to connect again at all.
    pub(crate) reconnect: bool,
    /// Attempts in a row that may fail after the first; `None`: for ever.
    pub(crate) max_retries: Option<u32>,
    /// The pauses.
    pub(crate) backoff: Backoff,
    /// Whether the first connection is waited for too.
    pub(crate) patient: bool,
    /// A connection without any sign of life for so long is asked for one, and taken for dead when
    /// twice that time has passed.
    pub(crate) keep_alive: Duration,
    /// Larger frames are not read.
    pub(crate) max_frame_bytes: usize,
}

/// Tells whoever opens a subscription how that went.
pub(crate) type Opening = oneshot::Sender<Result<(), Error>>;

/// The engine.
pub(crate) struct Engine<P> {
    pub(crate) protocol: P,
    pub(crate) transport: Transport,
    pub(crate) policy: Policy,
    pub(crate) shared: Arc<Shared>,
    pub(crate) heard: mpsc::Sender<Heard>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) opening: Option<Opening>,
}

/// Why a connection has ended.
enum End {
    /// We wanted it.
    Wanted,
    /// It broke; whether it was a good one.
    Broke { error: Error, was_good: bool },
}

impl<P: Protocol> Engine<P> {
    /// Runs until nothing more is wanted or nothing more can be done.
    pub(crate) async fn run(mut self) {
        let error = self.connections().await;
        self.shared.set_state(State::Closed);
        if let Some(opening) = self.opening.take() {
            // Nobody may wait for it any more.
            let _ = opening.send(Err(error.clone().unwrap_or(Error::SubscriptionClosed)));
        }
        let _ = self.heard.send(Heard::Ended(error)).await;
    }

    async fn connections(&mut self) -> Option<Error> {
        let mut failures = 0;
        let mut is_first = true;
        loop {
            self.shared.set_state(State::Connecting);
            let opened = tokio::select! {
                opened = Self::connect(&self.protocol, &self.transport, &self.policy, &self.shared) => opened,
                () = wanted_no_more(&mut self.commands, &self.heard) => return None,
            };
            let error = match opened {
                Ok(socket) => {
                    if !is_first && self.protocol.loses() {
                        let gap = Heard::Gap(Gap::default());
                        if self.heard.send(gap).await.is_err() {
                            return None;
                        }
                    }
                    is_first = false;
                    match self.converse(socket).await {
                        End::Wanted => return None,
                        End::Broke { error, was_good } => {
                            if was_good {
                                failures = 0;
                            }
                            error
                        }
                    }
                }
                Err(error) => {
                    let is_final = self.protocol.is_final(&error);
                    if is_final || (is_first && !self.policy.patient) {
                        return Some(error);
                    }
                    error
                }
            };
            if matches!(error, Error::TooLarge { .. }) || !self.policy.reconnect {
                return Some(error);
            }
            if self.policy.max_retries.is_some_and(|most| failures >= most) {
                if failures == 0 {
                    return Some(error);
                }
                // Each was told as it happened; this one is told as the end.
                return Some(Error::GaveUp { attempts: failures + 1, last: Box::new(error) });
            }
            failures += 1;
            let pause = self.pause(&error, failures);
            self.shared.set_state(State::Waiting { attempts: failures, pause });
            if self.heard.send(Heard::Broken(error)).await.is_err() {
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = wanted_no_more(&mut self.commands, &self.heard) => return None,
            }
        }
    }

    fn pause(&self, error: &Error, failures: u32) -> Duration {
        let pause = self.policy.backoff.pause(failures);
        match error {
            Error::Closed { code: RESTART, .. } if failures == 1 => pause.min(AT_ONCE),
            _ => {
                let asked = error.problem().and_then(|problem| problem.retry_after);
                asked.map_or(pause, |asked| asked.max(pause))
            }
        }
    }

    async fn connect(
        protocol: &P,
        transport: &Transport,
        policy: &Policy,
        shared: &Shared,
    ) -> Result<Socket, Error> {
        let mut again = true;
        loop {
            let cursor = shared.ledger().cursor().cloned();
            let target = protocol.target(cursor.as_deref()).await?;
            let opened = socket::open(
                transport,
                &target.url,
                target.headers.clone(),
                policy.max_frame_bytes,
                transport.timeout(),
            )
            .await;
            match opened {
                Ok(opened) => {
                    if let Some(server_time) = opened.server_time {
                        shared.server_time(Timestamp::now(), server_time);
                    }
                    return Ok(opened.socket);
                }
                Err(error) if again && protocol.refused(&target, &error).await => again = false,
                Err(error) => return Err(error),
            }
        }
    }

    /// One connection, from its first frame to its last.
    async fn converse(&mut self, mut socket: Socket) -> End {
        let opened_at = Instant::now();
        self.shared.set_state(State::Open);
        if let Some(opening) = self.opening.take() {
            let _ = opening.send(Ok(()));
        }
        let mut waiting = VecDeque::from([Heard::Opened]);
        let mut brought = false;
        let mut said = Vec::new();
        let mut frames = Vec::new();
        let mut written_at = opened_at;
        let mut last_heard = Instant::now();
        let mut asked = false;
        // None: it is wanted no more.
        let broke = loop {
            let is_full = self.shared.ledger().is_full();
            let patience = if asked { 2 * self.policy.keep_alive } else { self.policy.keep_alive };
            let sign_of_life = last_heard + patience;
            tokio::select! {
                biased;
                count = self.commands.recv_many(&mut said, BATCH) => {
                    if count == 0 || said.contains(&Command::Close) {
                        break None;
                    }
                    if said.len() >= ENOUGH || written_at.elapsed() >= GATHERING {
                        written_at = Instant::now();
                        if let Err(error) = self.say(&mut socket, &mut said, &mut frames).await {
                            break Some(self.broken(error));
                        }
                    }
                }
                () = tokio::time::sleep_until(written_at + GATHERING), if !said.is_empty() => {
                    written_at = Instant::now();
                    if let Err(error) = self.say(&mut socket, &mut said, &mut frames).await {
                        break Some(self.broken(error));
                    }
                }
                permit = self.heard.reserve(), if !waiting.is_empty() => {
                    let Ok(permit) = permit else { break None };
                    if let Some(next) = waiting.pop_front() {
                        permit.send(next);
                    }
                }
                () = self.heard.closed(), if waiting.is_empty() => break None,
                frame = socket.next(), if waiting.is_empty() && !is_full => {
                    last_heard = Instant::now();
                    asked = false;
                    match frame {
                        Some(Ok(Message::Text(text))) => {
                            brought |= self.take(text, &mut waiting);
                            self.hand_on(&mut waiting);
                        }
                        Some(Ok(Message::Binary(bytes))) => match Utf8Bytes::try_from(bytes) {
                            Ok(text) => brought |= self.take(text, &mut waiting),
                            Err(_) => waiting.push_back(Heard::Trouble(unreadable("no UTF-8"))),
                        },
                        Some(Ok(Message::Close(frame))) => {
                            // The answer that the protocol asks for.
                            let _ = tokio::time::timeout(LAST_WORD, socket.flush()).await;
                            let (code, reason) = frame.map_or((1005, String::new()), |frame| {
                                (frame.code.into(), frame.reason.to_string())
                            });
                            break Some(Error::Closed { code, reason });
                        }
                        Some(Ok(_)) => {}
                        Some(Err(tungstenite::Error::Capacity(_))) => {
                            let reason = "an event is larger than this client reads";
                            bid_farewell(&mut socket, 1009, reason).await;
                            break Some(Error::TooLarge { limit: self.policy.max_frame_bytes });
                        }
                        Some(Err(error)) => break Some(self.broken(error)),
                        None => break Some(Error::Closed { code: 1006, reason: String::new() }),
                    }
                }
                () = tokio::time::sleep_until(sign_of_life), if waiting.is_empty() && !is_full => {
                    if asked {
                        let after = 2 * self.policy.keep_alive;
                        break Some(Error::Timeout { server: self.transport.server(), after });
                    }
                    asked = true;
                    if let Err(error) = socket.send(Message::Ping(Vec::new().into())).await {
                        break Some(self.broken(error));
                    }
                }
            }
        };
        let Some(error) = broke else {
            self.part(socket, said).await;
            return End::Wanted;
        };
        for heard in waiting.into_iter().chain([Heard::Closed]) {
            if self.heard.send(heard).await.is_err() {
                return End::Wanted;
            }
        }
        End::Broke { error, was_good: brought || opened_at.elapsed() >= GOOD }
    }

    /// Whether it was an event.
    fn take(&self, text: Utf8Bytes, waiting: &mut VecDeque<Heard>) -> bool {
        let frame = match self.protocol.read(&text) {
            Ok(frame) => frame,
            Err(error) => {
                waiting.push_back(Heard::Trouble(error));
                return false;
            }
        };
        match frame {
            Frame::Event(seen) => {
                let mut again = false;
                if let Some(id) = &seen.id {
                    let arrived = self.shared.ledger().arrive(id);
                    match arrived {
                        Arrived::New => {}
                        Arrived::Again => again = true,
                        Arrived::Held => return true,
                        Arrived::Settled => {
                            // Whoever hears commands is this engine itself.
                            let _ = self.shared.send(Command::Ack(id.clone()));
                            return true;
                        }
                    }
                }
                if let Some(stored) = seen.stored {
                    self.shared.stored_at(stored);
                }
                let delivery = Delivery::new(seen, text, again, self.shared.clone());
                waiting.push_back(Heard::Delivery(delivery));
                return true;
            }
            Frame::Opened { cursor } => {
                if let Some(cursor) = cursor {
                    self.shared.ledger().begin(&cursor);
                }
            }
            Frame::Gap(gap) => waiting.push_back(Heard::Gap(gap)),
            Frame::Dead(dead) => {
                if let Some(id) = &dead.id {
                    self.shared.ledger().settle(id);
                }
                waiting.push_back(Heard::Dead(dead));
            }
            Frame::Nothing => {}
        }
        false
    }

    fn broken(&self, error: tungstenite::Error) -> Error {
        self.transport.unreachable(&error)
    }

    /// Hands on what there is room for.
    fn hand_on(&self, waiting: &mut VecDeque<Heard>) {
        while let Some(next) = waiting.pop_front() {
            if let Err(TrySendError::Full(next) | TrySendError::Closed(next)) =
                self.heard.try_send(next)
            {
                waiting.push_front(next);
                return;
            }
        }
    }

    /// Says what was said about events.
    async fn say(
        &self,
        socket: &mut Socket,
        said: &mut Vec<Command>,
        frames: &mut Vec<String>,
    ) -> Result<(), tungstenite::Error> {
        self.protocol.say(said, frames);
        said.clear();
        write(socket, frames).await
    }

    /// Says goodbye, with everything that was still to be said.
    async fn part(&mut self, mut socket: Socket, mut said: Vec<Command>) {
        while let Some(Some(command)) = self.commands.recv().now_or_never() {
            said.push(command);
        }
        said.retain(|command| *command != Command::Close);
        let mut frames = Vec::new();
        self.protocol.say(&mut said, &mut frames);
        let goodbye = async {
            write(&mut socket, &mut frames).await?;
            socket.close(None).await?;
            // What was said is read when the answer is here.
            while let Some(Ok(_)) = socket.next().await {}
            Ok::<(), tungstenite::Error>(())
        };
        let _ = tokio::time::timeout(LAST_WORD, goodbye).await;
    }
}

async fn bid_farewell(socket: &mut Socket, code: u16, reason: &'static str) {
    let reason = Utf8Bytes::from_static(reason);
    let frame = tungstenite::protocol::CloseFrame { code: code.into(), reason };
    let _ = tokio::time::timeout(LAST_WORD, socket.close(Some(frame))).await;
}

/// Waits until nobody wants anything. What is said without a connection is in the ledger already.
async fn wanted_no_more(
    commands: &mut mpsc::UnboundedReceiver<Command>,
    heard: &mpsc::Sender<Heard>,
) {
    let told = async {
        loop {
            match commands.recv().await {
                None | Some(Command::Close) => break,
                Some(_) => {}
            }
        }
    };
    tokio::select! {
        () = told => {}
        () = heard.closed() => {}
    }
}

async fn write(socket: &mut Socket, frames: &mut Vec<String>) -> Result<(), tungstenite::Error> {
    for frame in frames.drain(..) {
        socket.feed(Message::Text(frame.into())).await?;
    }
    socket.flush().await
}

pub(crate) fn unreadable(what: impl std::fmt::Display) -> Error {
    Error::Unreadable(format!("a frame of the server cannot be read: {what}"))
}
