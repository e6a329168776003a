//! Sends to queues of Amazon SQS, or of a service that speaks its protocol.

mod config;
mod connector;
mod queues;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
    types::{MessageAttributeValue, SendMessageBatchRequestEntry},
};
use bytes::Bytes;
use tokio::{sync::OnceCell, time::Instant};

pub use config::{Config, Preset};

use self::{
    config::Names,
    connector::{Connector, RIGHT},
    queues::{Failure, Queue, Queues},
};
use crate::{
    Fault, Message, Opening, Outcome, Report, Scope,
    gather::{Gather, Item, Limits, Peer, failed},
    template::fitted,
};

/// What one request takes: messages, and bytes of them together.
const BATCH: usize = 10;
const BATCH_BYTES: usize = 1 << 20;
/// Requests under way at one time.
const REQUESTS: usize = 8;
/// The longest ids of groups and of messages.
const ID_LIMIT: usize = 128;

/// Queues ready to be sent to.
pub struct Sqs {
    gather: Arc<Gather<Account>>,
    names: Names,
}

impl fmt::Debug for Sqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqs").field("names", &self.names).finish_non_exhaustive()
    }
}

/// An AWS account in a region, and how to ask.
struct Account {
    region: Region,
    endpoint: Option<String>,
    credentials: Option<Credentials>,
    connector: Connector,
    /// Made with the first request: where the credentials come from may have to be found out.
    client: OnceCell<Client>,
    queues: Queues,
    timeout: Duration,
}

/// What a message becomes.
struct Prepared {
    body: String,
    attributes: Vec<(&'static str, String)>,
    /// Group and deduplication id, in a FIFO queue.
    fifo: Option<(String, String)>,
    bytes: usize,
}

impl Sqs {
    /// Prepares everything that is the same for each message.
    pub(crate) fn open(config: &Config, opening: &Opening) -> Result<Self, Vec<Fault>> {
        let mut faults = config.form_faults();
        faults.extend(config.credentials_fault(&opening.guard));
        if !faults.is_empty() {
            return Err(faults);
        }
        let timeout = config.timeout().unwrap_or(opening.timeout);
        let connector = Connector::new(
            Arc::clone(&opening.guard),
            Arc::clone(&opening.pools),
            config.ca_pem.clone(),
            timeout,
            config.connect_timeout(),
        );
        let secret = config.secret_access_key.as_ref();
        let credentials = config.access_key_id.as_ref().zip(secret).map(|(id, secret)| {
            let token = config.session_token.as_ref().map(|token| token.expose().to_owned());
            Credentials::new(id, secret.expose(), token, None, "zapbus")
        });
        let names = config.names();
        let account = Account {
            region: Region::new(config.region.clone()),
            endpoint: config
                .endpoint
                .as_ref()
                .map(|url| url.as_str().trim_end_matches('/').to_owned()),
            credentials,
            connector,
            client: OnceCell::new(),
            queues: Queues::new(names.fifo, config.create),
            timeout,
        };
        let limits =
            Limits { count: BATCH, bytes: BATCH_BYTES, requests: REQUESTS, patience: timeout };
        Ok(Self { gather: Gather::new(account, limits), names })
    }

    /// Sends the messages one after another.
    pub(crate) async fn send(&self, batch: &[Message]) -> Vec<Report> {
        let mut reports = Vec::with_capacity(batch.len());
        for message in batch {
            reports.push(match prepared(message, self.names.fifo) {
                Ok(prepared) => {
                    let item = Item {
                        place: self.names.queue(message),
                        bytes: prepared.bytes,
                        message: message.clone(),
                        more: prepared,
                    };
                    self.gather.send(item).await
                }
                Err(error) => failed(Outcome::Refused, error),
            });
        }
        reports
    }
}

impl Sqs {
    /// Creates the queues of messages of these names, where they are missing.
    pub(crate) async fn prepare(&self, messages: &[Message]) -> Result<(), String> {
        let account = self.gather.peer();
        let client = account.client().await;
        for message in messages {
            let name = self.names.queue(message);
            account.queues.find(client, &name).await.map_err(|failure| failure.words)?;
        }
        Ok(())
    }
}

/// A message as SQS takes it.
fn prepared(message: &Message, fifo: bool) -> Result<Prepared, String> {
    let body = std::str::from_utf8(&message.body)
        .map_err(|_| "the event is no text, and SQS carries nothing else".to_owned())?;
    let body = escaped(body)?.into_owned();
    if body.is_empty() {
        return Err("the event is empty, and SQS carries no empty message".into());
    }
    let mut attributes = vec![
        ("event", message.event_name.clone()),
        ("instance", message.instance_name.to_string()),
        ("id", message.id.clone()),
        ("hops", message.hops.to_string()),
    ];
    attributes.extend(message.replay.clone().map(|replay| ("replay", replay)));
    attributes.extend(message.traceparent.clone().map(|parent| ("traceparent", parent)));
    // SQS takes no empty values, and no characters there that it takes nowhere.
    attributes.retain(|(_, value)| !value.is_empty());
    for (_, value) in &mut attributes {
        if value.contains(|letter| !is_taken(letter)) {
            *value = value.chars().filter(|letter| is_taken(*letter)).collect();
        }
    }
    let fifo = fifo.then(|| {
        let fits = |letter: char| letter.is_ascii_graphic();
        let group = match message.ordering_key.as_str() {
            "" => "none",
            key => key,
        };
        (fitted(group, fits, ID_LIMIT), fitted(&message.id, fits, ID_LIMIT))
    });
    let of_attributes =
        attributes.iter().map(|(name, value)| name.len() + "String".len() + value.len());
    let bytes = body.len() + of_attributes.sum::<usize>();
    Ok(Prepared { body, attributes, fifo, bytes })
}

/// Whether SQS takes a character.
fn is_taken(letter: char) -> bool {
    matches!(letter, '\t' | '\n' | '\r' | '\u{20}'..='\u{FFFD}' | '\u{10000}'..)
}

/// JSON without the characters that SQS rejects: those that can stand in a text are escaped, which
/// is the same text.
fn escaped(json: &str) -> Result<Cow<'_, str>, String> {
    if json.chars().all(is_taken) {
        return Ok(Cow::Borrowed(json));
    }
    let mut text = String::with_capacity(json.len() + 16);
    for letter in json.chars() {
        match letter {
            '\u{FFFE}' => text.push_str("\\ufffe"),
            '\u{FFFF}' => text.push_str("\\uffff"),
            letter if is_taken(letter) => text.push(letter),
            // No JSON has it.
            letter => {
                let code = u32::from(letter);
                return Err(format!(
                    "the event holds the character U+{code:04X}, which SQS rejects"
                ));
            }
        }
    }
    Ok(Cow::Owned(text))
}

impl Account {
    async fn client(&self) -> &Client {
        self.client
            .get_or_init(|| async {
                let mut config = aws_sdk_sqs::Config::builder()
                    .behavior_version(BehaviorVersion::latest())
                    .region(self.region.clone())
                    .http_client(self.connector.clone())
                    // Trying again is the lane's business, and times are the connector's.
                    .retry_config(RetryConfig::disabled())
                    .timeout_config(TimeoutConfig::disabled());
                config.set_endpoint_url(self.endpoint.clone());
                match &self.credentials {
                    Some(credentials) => config = config.credentials_provider(credentials.clone()),
                    None => {
                        let found = aws_config::defaults(aws_config::BehaviorVersion::latest())
                            .http_client(self.connector.clone())
                            .region(self.region.clone())
                            .load()
                            .await;
                        config.set_credentials_provider(found.credentials_provider());
                    }
                }
                Client::from_conf(config.build())
            })
            .await
    }

    /// Sends messages to one queue in one request: what became of each.
    async fn send(&self, queue: &Queue, items: &[&Item<Prepared>]) -> Vec<Result<(), Failure>> {
        let entries: Result<Vec<_>, _> =
            items.iter().enumerate().map(|(index, item)| entry(index, item)).collect();
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return vec![Err(Failure::unfit(error.to_string())); items.len()],
        };
        let request = self.client().await.send_message_batch().queue_url(&queue.url);
        let answer = match request.set_entries(Some(entries)).send().await {
            Ok(answer) => answer,
            Err(error) => return vec![Err(Failure::of(&error)); items.len()],
        };
        let mut results: Vec<Result<(), Failure>> = vec![Err(Failure::unanswered()); items.len()];
        let place = |id: &str| id.parse::<usize>().ok().filter(|index| *index < items.len());
        for accepted in answer.successful() {
            if let Some(index) = place(accepted.id()) {
                results[index] = Ok(());
            }
        }
        for refused in answer.failed() {
            if let Some(index) = place(refused.id()) {
                let words = refused.message().unwrap_or_default();
                results[index] =
                    Err(Failure::of_entry(refused.code(), refused.sender_fault(), words));
            }
        }
        results
    }
}

/// A message in a batch.
fn entry(
    index: usize,
    item: &Item<Prepared>,
) -> Result<SendMessageBatchRequestEntry, aws_sdk_sqs::error::BuildError> {
    let Prepared { body, attributes, fifo, .. } = &item.more;
    let mut entry =
        SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(body);
    for (name, value) in attributes {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value);
        entry = entry.message_attributes(*name, value.build()?);
    }
    if let Some((group, deduplication)) = fifo {
        entry = entry.message_group_id(group).message_deduplication_id(deduplication);
    }
    entry.build()
}

impl Peer for Account {
    type More = Prepared;

    async fn post(&self, items: Vec<Item<Prepared>>) -> Vec<Report> {
        let started = Instant::now();
        let sending = self.deliver(&items);
        let results = tokio::time::timeout(self.timeout, sending)
            .await
            .unwrap_or_else(|_| vec![Err(Failure::late(self.timeout.as_secs_f64())); items.len()]);
        let latency = started.elapsed();
        let reports = items.iter().zip(results).map(|(item, result)| match result {
            Ok(()) => report(Outcome::Accepted, latency, None),
            // What was said when it could not go any more says nothing of the queue.
            Err(_) if !item.message.may_go() => {
                let error = "not sent: the right to send it has ended".to_owned();
                report(Outcome::Withheld, latency, Some(error))
            }
            Err(failure) => report(failure.outcome.clone(), latency, Some(failure.words)),
        });
        reports.collect()
    }
}

impl Account {
    async fn deliver(&self, items: &[Item<Prepared>]) -> Vec<Result<(), Failure>> {
        let client = self.client().await;
        let name = &items[0].place;
        let messages: Vec<Message> = items.iter().map(|item| item.message.clone()).collect();
        let right: Arc<dyn Fn() -> bool + Send + Sync> =
            Arc::new(move || messages.iter().all(Message::may_go));
        RIGHT
            .scope(right, async {
                let queue = match self.queues.find(client, name).await {
                    Ok(queue) => queue,
                    Err(failure) => return vec![Err(failure); items.len()],
                };
                let mut results = vec![Ok(()); items.len()];
                let mut fitting = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    if item.more.bytes > queue.limit {
                        results[index] = Err(Failure::too_large(item.more.bytes, queue.limit));
                    } else {
                        fitting.push(index);
                    }
                }
                for (index, result) in self.send_in_parts(&queue, items, fitting).await {
                    results[index] = result;
                }
                let gone = |result: &Result<(), Failure>| {
                    result.as_ref().is_err_and(|failure| failure.queue_is_gone)
                };
                if results.iter().any(gone) {
                    self.queues.forget(name);
                }
                results
            })
            .await
    }

    /// In one request; one by one if what was said of them all may concern only one of them.
    async fn send_in_parts(
        &self,
        queue: &Queue,
        items: &[Item<Prepared>],
        chosen: Vec<usize>,
    ) -> Vec<(usize, Result<(), Failure>)> {
        if chosen.is_empty() {
            return Vec::new();
        }
        let together: Vec<&Item<Prepared>> = chosen.iter().map(|index| &items[*index]).collect();
        let results = self.send(queue, &together).await;
        let is_one =
            |result: &Result<(), Failure>| result.as_ref().is_err_and(|failure| failure.may_be_one);
        if chosen.len() == 1 || !results.iter().all(is_one) {
            return chosen.into_iter().zip(results).collect();
        }
        let mut each = Vec::with_capacity(chosen.len());
        for (index, item) in chosen.into_iter().zip(together) {
            let result = self.send(queue, &[item]).await.pop();
            each.push((index, result.unwrap_or_else(|| Err(Failure::unanswered()))));
        }
        each
    }
}

fn report(outcome: Outcome, latency: Duration, error: Option<String>) -> Report {
    Report {
        outcome,
        status: None,
        latency,
        error,
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        excerpt: Bytes::new(),
    }
}

impl Failure {
    fn too_large(bytes: usize, limit: usize) -> Self {
        let words = format!(
            "the event takes {bytes} bytes, its attributes included, and the queue takes {limit} \
             (MaximumMessageSize); raise the queue's limit, or leave `include_raw` and inline media \
             out"
        );
        Self { outcome: Outcome::Refused, ..Self::unfit(words) }
    }

    fn unanswered() -> Self {
        let outcome = Outcome::Retry { after: None, scope: Scope::Event };
        Self { outcome, ..Self::unfit("SQS did not say what became of it".into()) }
    }

    fn late(seconds: f64) -> Self {
        let outcome = Outcome::Retry { after: None, scope: Scope::Destination };
        Self { outcome, ..Self::unfit(format!("no answer within {seconds} s")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::message;

    #[test]
    fn what_sqs_rejects_is_escaped_or_refused() {
        let json = "{\"text\":\"a\u{FFFE}b\u{FFFF}\u{1F600}\u{FFFD}\\u0000\"}";
        let text = escaped(json).unwrap();
        assert!(text.chars().all(is_taken));
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&text), read(json));
        assert!(matches!(escaped("{\"a\": 1}\r\n").unwrap(), Cow::Borrowed(_)));
        assert!(escaped("\u{1}").unwrap_err().contains("U+0001"));
    }

    #[test]
    fn a_message_has_what_the_queue_wants_to_know() {
        let mut message = message("Loja \u{1}é");
        message.ordering_key = "55 11@c.us".into();
        message.replay = Some("3".into());
        let standard = prepared(&message, false).unwrap();
        assert!(standard.fifo.is_none());
        let expected = [
            ("event", "message.received".to_owned()),
            ("instance", "Loja é".to_owned()),
            ("id", "evt_1".to_owned()),
            ("hops", "1".to_owned()),
            ("replay", "3".to_owned()),
        ];
        assert_eq!(standard.attributes, expected);
        let fifo = prepared(&message, true).unwrap().fifo.unwrap();
        assert_eq!(fifo, ("55_11@c.us".to_owned(), "evt_1".to_owned()));
        message.ordering_key.clear();
        message.instance_name = "".into();
        let prepared = prepared(&message, true).unwrap();
        assert_eq!(prepared.fifo.unwrap().0, "none");
        assert_eq!(prepared.attributes[1].0, "id");
    }
}
