//! Which queues there are, and what their service's answers mean.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_sqs::{
    Client,
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    types::QueueAttributeName,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::time::Instant;

use super::config::FIFO;
use crate::{Outcome, Scope, webhook::RETRY_AFTER_LIMIT};

/// What a queue takes when it does not say.
const USUAL_LIMIT: usize = 256 << 10;
/// Queues that are remembered.
const KNOWN: usize = 16_384;

/// A queue that is there.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) url: String,
    /// The most that a message of it takes, in bytes.
    pub(super) limit: usize,
    /// When that was asked for.
    pub(super) asked: Instant,
}

/// Queues by their names.
#[derive(Debug)]
pub(super) struct Queues {
    create: bool,
    known: Mutex<HashMap<String, Arc<Queue>>>,
}

/// Why a message was not taken.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) outcome: Outcome,
    /// For the destination's owner.
    pub(super) words: String,
    /// The queue has been deleted, or is not what it was.
    pub(super) is_of_queue: bool,
    /// Of several messages one may be meant.
    pub(super) may_be_one: bool,
}

impl Queues {
    pub(super) fn new(create: bool) -> Self {
        Self { create, known: Mutex::default() }
    }

    /// The queue of a name, which is created if it is not there.
    pub(super) async fn find(&self, client: &Client, name: &str) -> Result<Arc<Queue>, Failure> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(queue) = known {
            return Ok(queue);
        }
        let url = match client.get_queue_url().queue_name(name).send().await {
            Ok(answer) => answer.queue_url,
            Err(error) if is_missing(error.code()) => {
                if !self.create {
                    let mut failure = Failure::of(&error);
                    failure.words =
                        format!("there is no queue `{name}`; create it, or set `create` to true");
                    return Err(failure);
                }
                let mut request = client.create_queue().queue_name(name);
                if name.ends_with(FIFO) {
                    request = request.attributes(QueueAttributeName::FifoQueue, "true");
                }
                request.send().await.map_err(|error| Failure::of(&error))?.queue_url
            }
            Err(error) => return Err(Failure::of(&error)),
        };
        let url = url.ok_or_else(|| Failure::unfit("SQS did not say where the queue is".into()))?;
        self.ask(client, name, url).await
    }

    /// Asks again what a queue takes: somebody may have changed it.
    pub(super) async fn ask_again(
        &self,
        client: &Client,
        name: &str,
        queue: &Queue,
    ) -> Result<Arc<Queue>, Failure> {
        self.ask(client, name, queue.url.clone()).await
    }

    async fn ask(&self, client: &Client, name: &str, url: String) -> Result<Arc<Queue>, Failure> {
        let asked = Instant::now();
        let answer = client
            .get_queue_attributes()
            .queue_url(&url)
            .attribute_names(QueueAttributeName::MaximumMessageSize)
            .send()
            .await;
        // Whoever may only send is not told: the service itself refuses what is too large then.
        let limit = match answer {
            Ok(answer) => answer
                .attributes()
                .and_then(|all| all.get(&QueueAttributeName::MaximumMessageSize)?.parse().ok())
                .unwrap_or(USUAL_LIMIT),
            Err(error) if is_missing(error.code()) => {
                self.forget(name);
                return Err(Failure::of(&error));
            }
            Err(SdkError::ServiceError(_)) => super::BATCH_BYTES,
            Err(error) => return Err(Failure::of(&error)),
        };
        let queue = Arc::new(Queue { url, limit, asked });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(name.to_owned(), Arc::clone(&queue));
        Ok(queue)
    }

    /// A queue may have been deleted, or changed.
    pub(super) fn forget(&self, name: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// Whether a code says that there is no such queue; older protocols have another word.
fn is_missing(code: Option<&str>) -> bool {
    code.is_some_and(|code| {
        code.ends_with("QueueDoesNotExist") || code.ends_with("NonExistentQueue")
    })
}

impl Failure {
    /// Of this event, again.
    pub(super) fn unfit(words: String) -> Self {
        let outcome = Outcome::Retry { after: None, scope: Scope::Event };
        Self { outcome, words, is_of_queue: false, may_be_one: false }
    }

    /// What an error of a whole request means.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        SdkError<E, HttpResponse>: std::error::Error,
    {
        let raw = error.raw_response();
        let Some(code) = error.code() else {
            let words = match raw {
                Some(raw) => format!("SQS answered {}, which is no answer of SQS", raw.status()),
                None => DisplayErrorContext(error).to_string(),
            };
            let outcome = Outcome::Retry { after: None, scope: Scope::Destination };
            return Self { outcome, ..Self::unfit(words) };
        };
        let after = raw
            .and_then(|raw| raw.headers().get("retry-after")?.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_LIMIT));
        let status = raw.map(|raw| raw.status().as_u16());
        let mut failure = Self::of_code(code, status, error.message().unwrap_or_default());
        if let Outcome::Retry { after: none, .. } = &mut failure.outcome {
            *none = after;
        }
        failure
    }

    /// What is said of one message of a batch.
    pub(super) fn of_entry(code: &str, is_sender: bool, message: &str) -> Self {
        Self::of_code(code, Some(if is_sender { 400 } else { 500 }), message)
    }

    fn of_code(code: &str, status: Option<u16>, message: &str) -> Self {
        // `com.amazonaws.sqs#QueueDoesNotExist`, `AWS.SimpleQueueService.NonExistentQueue`.
        let short = code.rsplit(['#', '.']).next().unwrap_or(code);
        let words = format!("SQS said {short}: {message}");
        let destination = Outcome::Retry { after: None, scope: Scope::Destination };
        let event = Outcome::Retry { after: None, scope: Scope::Event };
        let is_gone = is_missing(Some(short));
        // What a queue takes may have been lowered: its limit is asked for again.
        let is_size = matches!(short, "BatchRequestTooLong" | "InvalidParameterValue");
        let (outcome, may_be_one) = match short {
            // The text itself.
            "InvalidMessageContents" => (Outcome::Refused, true),
            _ if is_size => (event, true),
            // Who asks, where, and how often.
            _ if is_gone || is_about_all(short) => (destination, false),
            _ if status.is_some_and(|status| status >= 500) => (destination, false),
            _ => (event, true),
        };
        Self { outcome, words, is_of_queue: is_gone || is_size, may_be_one }
    }
}

/// Whether a code speaks of who asks or of how much is asked, and not of a message.
fn is_about_all(code: &str) -> bool {
    const WORDS: [&str; 14] = [
        "Throttl",
        "OverLimit",
        "AccessDenied",
        "SignatureDoesNotMatch",
        "Token",
        "Credential",
        "Unrecognized",
        "Unavailable",
        "InternalError",
        "InternalFailure",
        "Kms",
        "InvalidAddress",
        "OptInRequired",
        "QueueDeletedRecently",
    ];
    WORDS.iter().any(|word| code.contains(word)) || code == "InvalidSecurity"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_outcome() {
        let retry = |scope| Outcome::Retry { after: None, scope };
        for (codes, status, outcome) in [
            (
                &[
                    "ThrottlingException",
                    "RequestThrottled",
                    "AccessDenied",
                    "ExpiredToken",
                    "AccessDeniedException",
                    "InvalidClientTokenId",
                    "SignatureDoesNotMatch",
                    "UnrecognizedClientException",
                    "KmsThrottled",
                    "QueueDeletedRecently",
                    "com.amazonaws.sqs#QueueDoesNotExist",
                    "OverLimit",
                    "AWS.SimpleQueueService.NonExistentQueue",
                ][..],
                400,
                retry(Scope::Destination),
            ),
            (&["InternalError", "Whatever"], 500, retry(Scope::Destination)),
            (&["InvalidMessageContents"], 400, Outcome::Refused),
            (&["InvalidParameterValue", "Whatever"], 400, retry(Scope::Event)),
        ] {
            for code in codes {
                let failure = Failure::of_code(code, Some(status), "words");
                assert_eq!(failure.outcome, outcome, "{code}");
                assert!(failure.words.ends_with(": words"));
                let is_gone = code.contains("DoesNotExist") || code.contains("NonExistent");
                let is_size = *code == "InvalidParameterValue";
                assert_eq!(failure.is_of_queue, is_gone || is_size, "{code}");
            }
        }
    }
}
