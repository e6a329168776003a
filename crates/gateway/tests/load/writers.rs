//! Callers that post events until each is answered.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{sync::watch, task::JoinHandle};

use super::{ADMIN_TOKEN, APP_SECRET, PHONE_NUMBER_ID};

/// How much load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) writers: usize,
    pub(crate) chats_per_writer: usize,
    /// Between an answer and the writer's next post.
    pub(crate) pause: Duration,
    /// Characters of text in each event.
    pub(crate) text: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { writers: 8, chats_per_writer: 5, pause: Duration::ZERO, text: 10 }
    }
}

/// Writers at work. Each posts to its own chats in turn, one event after another; an event whose
/// fate is unknown is posted again until it is answered.
pub(crate) struct Load {
    url: watch::Sender<String>,
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<()>>,
}

struct Shared {
    shape: Shape,
    stop: AtomicBool,
    acknowledged: Mutex<Vec<String>>,
    refusals: AtomicUsize,
    /// The last refusal.
    refusal: Mutex<Value>,
}

impl Load {
    pub(crate) fn start(url: &str, shape: Shape) -> Self {
        let url = watch::Sender::new(url.to_owned());
        let shared = Arc::new(Shared {
            shape,
            stop: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            refusals: AtomicUsize::new(0),
            refusal: Mutex::default(),
        });
        let writers = (0..shape.writers)
            .map(|writer| tokio::spawn(write(writer, url.subscribe(), shared.clone())))
            .collect();
        Self { url, shared, writers }
    }

    /// The gateway listens somewhere else now.
    pub(crate) fn moved_to(&self, url: &str) {
        self.url.send_replace(url.to_owned());
    }

    /// Events answered 2xx so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.acknowledged.lock().unwrap().len()
    }

    /// Posts answered 503 so far. Each had `Retry-After` and said what to do.
    pub(crate) fn refusals(&self) -> usize {
        self.shared.refusals.load(Ordering::SeqCst)
    }

    /// What the last 503 said.
    pub(crate) fn refusal(&self) -> Value {
        self.shared.refusal.lock().unwrap().clone()
    }

    /// Waits until `count` more events are answered 2xx.
    pub(crate) async fn goes_on(&self, count: usize) {
        let (before, began) = (self.acknowledged(), Instant::now());
        while self.acknowledged() < before + count {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "only {} of {count} more events were taken; the last refusal: {}",
                self.acknowledged() - before,
                self.refusal()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `count` more posts are refused.
    pub(crate) async fn is_refused(&self, count: usize) {
        let (before, began) = (self.refusals(), Instant::now());
        while self.refusals() < before + count {
            assert!(began.elapsed() < Duration::from_secs(30), "posts go on being taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Everybody finishes the post they are at. Gives the ids of what was answered 2xx.
    pub(crate) async fn stop(&mut self) -> Vec<String> {
        self.shared.stop.store(true, Ordering::SeqCst);
        for writer in self.writers.drain(..) {
            writer.await.unwrap();
        }
        std::mem::take(&mut self.shared.acknowledged.lock().unwrap())
    }
}

async fn write(writer: usize, mut url: watch::Receiver<String>, shared: Arc<Shared>) {
    let client = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let chats = shared.shape.chats_per_writer;
    for number in 0_u64.. {
        for chat in writer * chats..(writer + 1) * chats {
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
            let id = format!("c{chat}-{number}");
            loop {
                let base = url.borrow_and_update().clone();
                let request = if number % 2 == 0 {
                    native(&client, &base, chat, &id, shared.shape.text)
                } else {
                    cloud_api(&client, &base, chat, &id)
                };
                match request.send().await {
                    Ok(response) if response.status().is_success() => break,
                    Ok(response) => shared.note_refusal(&id, response).await,
                    // Killed: the next one comes at another address.
                    Err(_) => {
                        let next = url.changed();
                        // Both mean the same: try again.
                        drop(tokio::time::timeout(Duration::from_secs(1), next).await);
                    }
                }
            }
            shared.acknowledged.lock().unwrap().push(id);
            if !shared.shape.pause.is_zero() {
                tokio::time::sleep(shared.shape.pause).await;
            }
        }
    }
}

impl Shared {
    /// Anything but a 503 that says when to come again fails the test.
    async fn note_refusal(&self, id: &str, response: Response) {
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").cloned();
        let text = match response.text().await {
            Ok(text) => text,
            // Killed while it answered.
            Err(_) => return,
        };
        assert_eq!(status, 503, "{id}: {text}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        assert!(seconds.is_some(), "a 503 without Retry-After: {text}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.to_lowercase().contains("again"), "it does not say what to do: {text}");
        *self.refusal.lock().unwrap() = problem;
        self.refusals.fetch_add(1, Ordering::SeqCst);
        // Far less than it asks for: what is tested must come true under pressure.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn native(client: &Client, base: &str, chat: usize, id: &str, text: usize) -> RequestBuilder {
    let path = format!("{base}/v1/instances/shop/events");
    client.post(path).bearer_auth(ADMIN_TOKEN).json(&message(chat, id, text))
}

/// A message with so many characters of text.
pub(crate) fn message(chat: usize, id: &str, text: usize) -> Value {
    let address = json!({ "id": format!("{}@s.whatsapp.net", phone(chat)), "kind": "user" });
    json!({
        "type": "message.received",
        "id": id,
        "data": {
            "message": { "id": id, "chat": address["id"], "from_me": false },
            "chat": address,
            "sender": address,
            "content": { "kind": "text", "body": "n ".repeat(text / 2) },
        },
    })
}

fn cloud_api(client: &Client, base: &str, chat: usize, id: &str) -> RequestBuilder {
    let body = json!({
        "object": "whatsapp_business_account",
        "entry": [{ "id": "900000000000001", "changes": [{ "field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": {
                "display_phone_number": "5511999990000",
                "phone_number_id": PHONE_NUMBER_ID,
            },
            "contacts": [{ "profile": { "name": "Ana" }, "wa_id": phone(chat) }],
            "messages": [{
                "from": phone(chat),
                "id": format!("wamid.{id}"),
                "timestamp": "1767225617",
                "type": "text",
                "text": { "body": "cloud api" },
            }],
        }}]}],
    })
    .to_string();
    let mac = Hmac::<Sha256>::new_from_slice(APP_SECRET.as_bytes()).unwrap();
    let signature = hex::encode(mac.chain_update(&body).finalize().into_bytes());
    client
        .post(format!("{base}/sources/cloud-api/shop"))
        .header("x-hub-signature-256", format!("sha256={signature}"))
        .header("content-type", "application/json")
        .body(body)
}

fn phone(chat: usize) -> String {
    format!("55119999{chat:05}")
}
