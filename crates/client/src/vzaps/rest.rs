//! What VZaps's API offers of instances, sessions and webhooks.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Client;
use crate::{
    Error,
    transport::{Call, Repeat},
};

/// What most answers stand in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Envelope<T> {
    /// The HTTP status again.
    pub code: i64,
    /// Whether it was done.
    pub success: bool,
    /// The answer.
    pub data: T,
}

/// An instance's webhook.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct WebhookSettings {
    /// Where events go; empty: nowhere.
    #[serde(default)]
    pub webhook: String,
    /// Which events, by name.
    #[serde(default)]
    pub subscribe: Vec<String>,
}

/// What to set an instance's webhook to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SetWebhook {
    /// Where events go; empty: nowhere.
    pub webhook_url: String,
    /// Which events, by name; as before, if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
}

/// A page of the delivery log.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct LogPage {
    /// What is on it.
    pub content: Vec<Log>,
    /// Its number, from 1 on.
    #[serde(default)]
    pub page: u64,
    /// How many are on a page.
    #[serde(default)]
    pub size: u64,
    /// How many there are.
    #[serde(default)]
    pub total: u64,
    /// How many pages there are.
    #[serde(default)]
    pub total_pages: u64,
}

/// The delivery of one event.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Log {
    /// Its id.
    pub id: String,
    /// `pending`, `processing`, `success` or `failed`.
    pub status: String,
    /// The event's id.
    #[serde(default)]
    pub event_id: Option<String>,
    /// The event's name.
    #[serde(default)]
    pub event: Option<String>,
    /// Where it went.
    #[serde(default)]
    pub url: Option<String>,
    /// The last answer's status.
    #[serde(default)]
    pub http_status: Option<u16>,
    /// How often it was sent.
    #[serde(default)]
    pub attempts: u32,
    /// Why the last attempt failed.
    #[serde(default)]
    pub error: Option<String>,
    /// What was sent; of a page only with `include_payload`.
    #[serde(default)]
    pub payload: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How an instance's session is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct SessionStatus {
    /// Whether it is connected to WhatsApp.
    pub connected: bool,
    /// Its number.
    #[serde(default)]
    pub phone: Option<String>,
    /// Its address.
    #[serde(default)]
    pub whatsapp_jid: Option<String>,
    /// The name that it shows.
    #[serde(default)]
    pub push_name: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A POST that changes nothing.
fn ask(path: &[&str]) -> Call {
    let mut call = Call::new(Method::POST, path);
    call.repeat = Repeat::Harmless;
    call
}

/// Instances. See [`Client::instances`].
#[derive(Debug, Clone, Copy)]
pub struct Instances<'a>(pub(super) &'a Client);

impl Instances<'_> {
    /// Makes one: `name`, and if wanted `webhook` and `events_subscribe`.
    ///
    /// # Errors
    ///
    /// Whatever the server refuses, and that it cannot be reached.
    pub async fn create(&self, instance: &Value) -> Result<Value, Error> {
        // A repeat would make a second one.
        let mut call = Call::new(Method::PUT, &["instances", "create"]).json(instance)?;
        call.repeat = Repeat::Unbegun;
        self.0.call(call, None).await
    }

    /// A page of them: `page`, `size`, `filter`, `sort`, `sort_desc`.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub async fn list(&self, query: &Value) -> Result<Value, Error> {
        self.0.call(ask(&["instances", "list"]).json(query)?, None).await
    }

    /// One of them.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub async fn get(&self, id: &str) -> Result<Value, Error> {
        self.0.call(ask(&["instances", "get"]).json(&json!({ "id": id }))?, None).await
    }

    /// Changes one.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub async fn update(&self, id: &str, changes: &Value) -> Result<Value, Error> {
        self.0.call(Call::new(Method::PATCH, &["instances", id]).json(changes)?, None).await
    }

    /// Deletes one.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub async fn delete(&self, id: &str) -> Result<Value, Error> {
        self.0.call(Call::new(Method::DELETE, &["instances", id]), None).await
    }

    /// Asks one to connect again.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create).
    pub async fn restart(&self, id: &str) -> Result<Value, Error> {
        self.0.call(Call::new(Method::POST, &["instances", id, "restart"]), None).await
    }
}

/// Sessions. See [`Client::sessions`].
#[derive(Debug, Clone, Copy)]
pub struct Sessions<'a>(pub(super) &'a Client);

impl Sessions<'_> {
    /// How it is.
    ///
    /// # Errors
    ///
    /// Whatever the server refuses, and that it cannot be reached.
    pub async fn status(
        &self,
        instance_id: &str,
        instance_token: Option<&str>,
    ) -> Result<Envelope<SessionStatus>, Error> {
        let path = ["instances", instance_id, "session", "status"];
        self.0.call(Call::new(Method::GET, &path), instance_token).await
    }

    /// The QR code to connect it with, as the server last knew it.
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub async fn qr(
        &self,
        instance_id: &str,
        instance_token: Option<&str>,
    ) -> Result<Envelope<Value>, Error> {
        let path = ["instances", instance_id, "session", "qr"];
        self.0.call(Call::new(Method::GET, &path), instance_token).await
    }

    /// A code to connect it with, for a phone number.
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub async fn pair_code(
        &self,
        instance_id: &str,
        phone: &str,
        instance_token: Option<&str>,
    ) -> Result<Envelope<Value>, Error> {
        let path = ["instances", instance_id, "session", "paircode", phone];
        self.0.call(Call::new(Method::GET, &path), instance_token).await
    }

    /// Disconnects it.
    ///
    /// # Errors
    ///
    /// As for [`status`](Self::status).
    pub async fn disconnect(
        &self,
        instance_id: &str,
        instance_token: Option<&str>,
    ) -> Result<Envelope<Value>, Error> {
        let path = ["instances", instance_id, "session", "disconnect"];
        self.0.call(Call::new(Method::POST, &path), instance_token).await
    }
}

/// Webhooks. See [`Client::webhooks`].
#[derive(Debug, Clone, Copy)]
pub struct Webhooks<'a>(pub(super) &'a Client);

impl Webhooks<'_> {
    /// How it is set.
    ///
    /// # Errors
    ///
    /// Whatever the server refuses, and that it cannot be reached.
    pub async fn get(
        &self,
        instance_id: &str,
        instance_token: &str,
    ) -> Result<Envelope<WebhookSettings>, Error> {
        let call = Call::new(Method::GET, &["instances", instance_id, "webhook"]);
        self.0.call(call, Some(instance_token)).await
    }

    /// Sets it. Setting the same again changes nothing.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub async fn set(
        &self,
        instance_id: &str,
        instance_token: &str,
        webhook: &SetWebhook,
    ) -> Result<Envelope<Value>, Error> {
        let call = ask(&["instances", instance_id, "webhook"]).json(webhook)?;
        self.0.call(call, Some(instance_token)).await
    }

    /// A page of the delivery log. Filters are those of the server: `status`, `event`, `page` …
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub async fn search_logs(
        &self,
        instance_id: &str,
        instance_token: &str,
        filters: &Value,
    ) -> Result<Envelope<LogPage>, Error> {
        let path = ["instances", instance_id, "webhook", "logs", "search"];
        self.0.call(ask(&path).json(filters)?, Some(instance_token)).await
    }

    /// One delivery.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub async fn get_log(
        &self,
        instance_id: &str,
        instance_token: &str,
        log_id: &str,
    ) -> Result<Envelope<Log>, Error> {
        let path = ["instances", instance_id, "webhook", "logs", log_id];
        self.0.call(Call::new(Method::GET, &path), Some(instance_token)).await
    }

    /// Sends it again.
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    pub async fn retry_log(
        &self,
        instance_id: &str,
        instance_token: &str,
        log_id: &str,
    ) -> Result<Envelope<Value>, Error> {
        let path = ["instances", instance_id, "webhook", "logs", log_id, "retry"];
        self.0.call(Call::new(Method::POST, &path), Some(instance_token)).await
    }
}
