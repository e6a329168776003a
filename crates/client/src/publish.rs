//! Events of one's own, in batches that may be repeated.

use serde::Deserialize;

use crate::{
    Client, Error, Fault, NewEvent, Problem,
    transport::{Call, random_key},
};

/// Events in one request.
const BATCH: usize = 500;
/// Bytes of them; one event may go beyond it.
const BATCH_BYTES: usize = 1 << 20;

/// What became of an event.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Published {
    /// It is stored.
    Stored {
        /// Its id.
        id: String,
        /// Its position.
        seq: i64,
        /// It was stored before: this is the first one's id.
        duplicate: bool,
    },
    /// It is of a kind that is not stored.
    Ignored,
    /// It was refused.
    Refused(Box<Problem>),
}

impl Published {
    /// Its id, if it is stored.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Stored { id, .. } => Some(id),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    id: Option<String>,
    seq: Option<i64>,
    #[serde(default)]
    duplicate: Option<bool>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

impl From<Outcome> for Published {
    fn from(outcome: Outcome) -> Self {
        let Outcome { id, seq, duplicate, error } = outcome;
        if let Some(error) = error {
            return Self::Refused(Box::new(problem(error)));
        }
        match (id, seq) {
            (Some(id), Some(seq)) => {
                Self::Stored { id, seq, duplicate: duplicate.unwrap_or_default() }
            }
            _ => Self::Ignored,
        }
    }
}

fn problem(body: serde_json::Value) -> Problem {
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let status = body["status"].as_u64().and_then(|status| u16::try_from(status).ok());
    let faults: Vec<Fault> = serde_json::from_value(body["errors"].clone()).unwrap_or_default();
    Problem {
        status: status.unwrap_or(400),
        code: text("code"),
        detail: text("detail").or_else(|| text("title")).unwrap_or_else(|| "refused".to_owned()),
        faults,
        retry_after: None,
        request_id: None,
        body,
    }
}

impl Client {
    /// Publishes events of an instance, in order, and says for each what became of it. They are
    /// stored when this returns. Requests that fail are repeated under the same key, so that nothing
    /// is stored twice.
    ///
    /// # Errors
    ///
    /// What went wrong with a request as a whole: events of the requests before it are stored.
    /// Published again with ids or keys of their own, these are duplicates.
    pub async fn publish(
        &self,
        instance: &str,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Result<Vec<Published>, Error> {
        let mut outcomes = Vec::new();
        let mut batch = Batch::default();
        for event in events {
            let event = serde_json::to_string(&event)
                .map_err(|error| Error::usage(format!("an event cannot be written: {error}")))?;
            if batch.is_full(event.len()) {
                outcomes.extend(self.publish_batch(instance, &mut batch).await?);
            }
            batch.add(&event);
        }
        if batch.events > 0 {
            outcomes.extend(self.publish_batch(instance, &mut batch).await?);
        }
        Ok(outcomes)
    }

    async fn publish_batch(
        &self,
        instance: &str,
        batch: &mut Batch,
    ) -> Result<impl Iterator<Item = Published> + use<>, Error> {
        let Batch { events, mut body } = std::mem::take(batch);
        body.push(']');
        let path = ["v1", "instances", instance, "events"];
        let mut call = Call::new(http::Method::POST, &path).keyed(Some(&random_key()))?;
        call.body = Some(body.into());
        let answer: Answer = self.call(call).await?;
        if answer.results.len() != events {
            return Err(Error::Unreadable(format!(
                "{events} events were published, and the gateway answered for {}",
                answer.results.len()
            )));
        }
        Ok(answer.results.into_iter().map(Published::from))
    }
}

/// Events of one request, as they will be sent.
#[derive(Default)]
struct Batch {
    events: usize,
    body: String,
}

impl Batch {
    fn is_full(&self, more: usize) -> bool {
        self.events >= BATCH || (self.events > 0 && self.body.len() + more > BATCH_BYTES)
    }

    fn add(&mut self, event: &str) {
        self.body.push(if self.events == 0 { '[' } else { ',' });
        self.body.push_str(event);
        self.events += 1;
    }
}
