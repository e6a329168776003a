//! Sends to queues of Amazon SQS, or of a service that speaks its protocol.

mod config;
mod connector;
mod queues;
mod services;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};
use bytes::Bytes;
use tokio::time::Instant;

pub use config::{Config, Preset};
pub(crate) use services::Services;

use self::{
    config::Names,
    connector::RIGHT,
    queues::{Failure, Queue},
    services::Service,
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

/// The account, as the messages of one destination are sent to it.
struct Account(Arc<Service>);

/// What became of each message, as far as it is known.
type Results = Vec<Option<Result<(), Failure>>>;

/// What a message becomes.
#[derive(Debug, Clone)]
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
        let service = opening.services.service(config, opening);
        let limits = Limits {
            count: BATCH,
            bytes: BATCH_BYTES,
            requests: REQUESTS,
            patience: service.timeout,
        };
        Ok(Self { gather: Gather::new(Account(service), limits), names: config.names() })
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

    /// Creates the queues of messages of these names, where they are missing.
    pub(crate) async fn prepare(&self, messages: &[Message]) -> Result<(), String> {
        let Account(service) = self.gather.peer();
        let client = service.client().await;
        for message in messages {
            let name = self.names.queue(message);
            service.queues.find(client, &name).await.map_err(|failure| failure.words)?;
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
            *value = value.chars().fold(String::new(), written);
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

/// Puts a character behind a text, as JSON escapes it if SQS does not take it.
fn written(mut text: String, letter: char) -> String {
    if is_taken(letter) {
        text.push(letter);
    } else {
        // All of them are in the basic plane.
        text.push_str(&format!("\\u{:04x}", u32::from(letter)));
    }
    text
}

/// JSON without the characters that SQS rejects: those that can stand in a text are escaped, which
/// is the same text.
fn escaped(json: &str) -> Result<Cow<'_, str>, String> {
    if json.chars().all(is_taken) {
        return Ok(Cow::Borrowed(json));
    }
    // No JSON has them but in a text, and no JSON has the others.
    let is_text = |letter: char| is_taken(letter) || matches!(letter, '\u{FFFE}' | '\u{FFFF}');
    if let Some(letter) = json.chars().find(|letter| !is_text(*letter)) {
        let code = u32::from(letter);
        return Err(format!("the event holds the character U+{code:04X}, which SQS rejects"));
    }
    let text = String::with_capacity(json.len() + 16);
    Ok(Cow::Owned(json.chars().fold(text, written)))
}

impl Account {
    /// Sends messages to one queue in one request: what became of each.
    async fn send(&self, queue: &Queue, messages: &[&Prepared]) -> Vec<Result<(), Failure>> {
        let entries: Result<Vec<_>, _> =
            messages.iter().enumerate().map(|(index, message)| entry(index, message)).collect();
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return vec![Err(Failure::unfit(error.to_string())); messages.len()],
        };
        let request = self.0.client().await.send_message_batch().queue_url(&queue.url);
        let answer = match request.set_entries(Some(entries)).send().await {
            Ok(answer) => answer,
            Err(error) => return vec![Err(Failure::of(&error)); messages.len()],
        };
        let mut results: Vec<Result<(), Failure>> =
            vec![Err(Failure::unanswered()); messages.len()];
        let place = |id: &str| id.parse::<usize>().ok().filter(|index| *index < messages.len());
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
    message: &Prepared,
) -> Result<SendMessageBatchRequestEntry, aws_sdk_sqs::error::BuildError> {
    let Prepared { body, attributes, fifo, .. } = message;
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
        // What is known of some of them stays known when the time is over for the others.
        let mut results: Results = vec![None; items.len()];
        let timeout = self.0.timeout;
        let ended = tokio::time::timeout(timeout, self.deliver(&items, &mut results)).await;
        let latency = started.elapsed();
        let unknown = || match ended {
            Ok(()) => Err(Failure::unanswered()),
            Err(_) => Err(Failure::late(timeout.as_secs_f64())),
        };
        let results = results.into_iter().map(|result| result.unwrap_or_else(unknown));
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
    async fn deliver(&self, items: &[Item<Prepared>], results: &mut Results) {
        let messages: Vec<Message> = items.iter().map(|item| item.message.clone()).collect();
        let right: Arc<dyn Fn() -> bool + Send + Sync> =
            Arc::new(move || messages.iter().all(Message::may_go));
        RIGHT.scope(right, self.deliver_by_right(items, results)).await;
    }

    async fn deliver_by_right(&self, items: &[Item<Prepared>], results: &mut Results) {
        let began = Instant::now();
        let (service, name) = (&self.0, &items[0].place);
        let client = service.client().await;
        let mut queue = match service.queues.find(client, name).await {
            Ok(queue) => queue,
            Err(failure) => return results.fill(Some(Err(failure))),
        };
        let is_too_large = |queue: &Queue, item: &Item<Prepared>| item.more.bytes > queue.limit;
        let mut doubt = None;
        if queue.asked < began && items.iter().any(|item| is_too_large(&queue, item)) {
            match service.queues.ask_again(client, name, &queue).await {
                Ok(now) => queue = now,
                Err(failure) => doubt = Some(failure),
            }
        }
        let mut fitting = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            if is_too_large(&queue, item) {
                let too_large = || Failure::too_large(item.more.bytes, queue.limit);
                results[index] = Some(Err(doubt.clone().unwrap_or_else(too_large)));
            } else {
                fitting.push((index, &item.more));
            }
        }
        self.send_in_parts(&queue, &fitting, results).await;
        let mut failures = results.iter().flatten().filter_map(|result| result.as_ref().err());
        if failures.any(|failure| failure.is_of_queue) {
            service.queues.forget(name);
        }
    }

    /// In one request; one by one if what was said of them all may concern only one of them.
    async fn send_in_parts(
        &self,
        queue: &Queue,
        chosen: &[(usize, &Prepared)],
        results: &mut Results,
    ) {
        if chosen.is_empty() {
            return;
        }
        let together: Vec<&Prepared> = chosen.iter().map(|(_, message)| *message).collect();
        let said = self.send(queue, &together).await;
        let is_one =
            |result: &Result<(), Failure>| result.as_ref().is_err_and(|failure| failure.may_be_one);
        if chosen.len() == 1 || !said.iter().all(is_one) {
            for ((index, _), result) in chosen.iter().zip(said) {
                results[*index] = Some(result);
            }
            return;
        }
        for (index, message) in chosen {
            results[*index] = self.send(queue, &[*message]).await.pop();
        }
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
            ("instance", "Loja \\u0001é".to_owned()),
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
