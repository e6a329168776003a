//! A consumer that reads for a while, breaks off without a word, and comes again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::watch, task::JoinHandle};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::load::{ADMIN_TOKEN, Dice};

/// How it goes on where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// The gateway knows: it acknowledges each event.
    Named,
    /// It remembers the last id.
    LastId,
    /// So does its `EventSource`.
    ServerSent,
    /// As [`Cursor::LastId`], of a whole account.
    Account,
}

/// What a subscriber has seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    ids: HashSet<String>,
    newest: HashMap<String, u64>,
    /// Chat, the newest number seen, and the older one that came first after it.
    pub(crate) disorder: Vec<(String, u64, u64)>,
    pub(crate) frames: usize,
    pub(crate) connections: usize,
    pub(crate) gaps: usize,
}

impl Seen {
    pub(crate) fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    pub(crate) fn count(&self) -> usize {
        self.ids.len()
    }

    /// Notes an event: `c<chat>-<number>`, however it came in.
    fn note(&mut self, document: &Value) {
        self.frames += 1;
        let id = document["data"]["message"]["id"].as_str().unwrap_or_default();
        let id = id.trim_start_matches("wamid.").to_owned();
        let Some((chat, number)) = id.split_once('-') else { return };
        let (chat, number) = (chat.to_owned(), number.parse::<u64>().unwrap());
        if !self.ids.insert(id) {
            return;
        }
        let newest = self.newest.entry(chat.clone()).or_insert(number);
        if *newest > number {
            let newest = *newest;
            self.disorder.push((chat, newest, number));
        } else {
            *newest = number;
        }
    }
}

pub(crate) struct Subscriber {
    seen: Arc<Mutex<Seen>>,
    connected: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Subscriber {
    pub(crate) fn start(
        number: u64,
        cursor: Cursor,
        url: watch::Receiver<String>,
        dice: Dice,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (connecting, connected) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let seen_there = Arc::clone(&seen);
        let life = Life { number, cursor, url, dice, seen: seen_there, connecting, after: None };
        let task = tokio::spawn(life.live(stopped));
        Self { seen, connected, stop, task }
    }

    pub(crate) async fn is_connected(&self) {
        let mut connected = self.connected.clone();
        let there = connected.wait_for(|connected| *connected);
        let there = tokio::time::timeout(Duration::from_secs(60), there).await;
        there.expect("it connects in time").unwrap();
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) async fn stop(self) -> Seen {
        self.stop.send_replace(true);
        // It may be waiting for a gateway that is not there.
        self.task.abort();
        let _ = self.task.await;
        self.seen.lock().unwrap().clone()
    }
}

struct Life {
    number: u64,
    cursor: Cursor,
    url: watch::Receiver<String>,
    dice: Dice,
    seen: Arc<Mutex<Seen>>,
    connecting: watch::Sender<bool>,
    /// Where it goes on.
    after: Option<String>,
}

impl Life {
    async fn live(mut self, stopped: watch::Receiver<bool>) {
        while !*stopped.borrow() {
            let url = self.url.borrow().clone();
            let first = self.after.is_none();
            // The first connection stays until it is known where it began.
            let lives = Duration::from_millis(self.dice.between(50, 1_500));
            let _ = match self.cursor {
                Cursor::ServerSent => self.read_events(&url, lives, first).await,
                _ => self.read_socket(&url, lives, first).await,
            };
            tokio::time::sleep(Duration::from_millis(self.dice.between(5, 200))).await;
        }
    }

    fn path(&self) -> String {
        let base = match self.cursor {
            Cursor::Account => "/v1/stream",
            _ => "/v1/instances/shop/stream",
        };
        let mut path = format!("{base}?types=message.*");
        match self.cursor {
            Cursor::Named => {
                path.push_str(&format!("&ack=explicit&subscriber=s{}", self.number));
            }
            Cursor::LastId | Cursor::Account => {
                if let Some(after) = &self.after {
                    path.push_str(&format!("&after={after}"));
                }
            }
            Cursor::ServerSent => {}
        }
        path
    }

    fn note(&mut self, document: &Value) {
        let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
        match text("type").as_str() {
            "stream.opened" => {
                self.after.get_or_insert_with(|| text("cursor"));
                self.seen.lock().unwrap().connections += 1;
                self.connecting.send_replace(true);
            }
            "stream.gap" => self.seen.lock().unwrap().gaps += 1,
            kind if kind.starts_with("stream.") => panic!("{document}"),
            _ => {
                self.seen.lock().unwrap().note(document);
                self.after = Some(text("id"));
            }
        }
    }

    /// `None`: it broke.
    async fn read_socket(&mut self, url: &str, lives: Duration, first: bool) -> Option<()> {
        let address = url.trim_start_matches("http://");
        let mut request = format!("ws://{address}{}", self.path()).into_client_request().ok()?;
        let token = format!("Bearer {ADMIN_TOKEN}").parse().unwrap();
        request.headers_mut().insert("authorization", token);
        let stream = TcpStream::connect(address).await.ok()?;
        let connect = tokio::time::timeout(Duration::from_secs(10), client_async(request, stream));
        let (mut socket, _) = connect.await.ok()?.ok()?;
        let ends = tokio::time::Instant::now() + lives;
        let mut begun = !first;
        loop {
            let next = tokio::time::timeout_at(ends, socket.next()).await;
            let message = match next {
                Ok(Some(Ok(message))) => message,
                Ok(_) => return None,
                Err(_) if begun => return Some(()),
                Err(_) => socket.next().await?.ok()?,
            };
            let Message::Text(text) = message else { continue };
            begun = true;
            let document: Value = serde_json::from_str(&text).unwrap();
            self.note(&document);
            if self.cursor == Cursor::Named && document["id"].is_string() {
                let ack = json!({ "type": "ack", "id": document["id"] }).to_string();
                socket.send(Message::Text(ack.into())).await.ok()?;
            }
        }
    }

    async fn read_events(&mut self, url: &str, lives: Duration, first: bool) -> Option<()> {
        let client = reqwest::Client::new();
        let mut request = client
            .get(format!("{url}{}", self.path()))
            .bearer_auth(ADMIN_TOKEN)
            .header("accept", "text/event-stream");
        if let Some(after) = &self.after {
            request = request.header("last-event-id", after);
        }
        let mut response = request.send().await.ok()?.error_for_status().ok()?;
        let ends = tokio::time::Instant::now() + lives;
        let mut pending = String::new();
        let mut begun = !first;
        loop {
            let chunk = match tokio::time::timeout_at(ends, response.chunk()).await {
                Ok(chunk) => chunk.ok()??,
                Err(_) if begun => return Some(()),
                Err(_) => response.chunk().await.ok()??,
            };
            begun = true;
            pending.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((block, rest)) = pending.split_once("\n\n") {
                let data = block.lines().find_map(|line| line.strip_prefix("data: "));
                if let Some(data) = data {
                    let document: Value = serde_json::from_str(data).unwrap();
                    self.note(&document);
                }
                pending = rest.to_owned();
            }
        }
    }
}
