//! The error webhook: each request to this API that failed is told once, in Evolution's form. The
//! operator's key, which upstream sends with it, is not.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use url::Url;
use zapbus_channel::{Channel, Config, Message, OpenError, Opening, Outcome, signature, webhook};
use zapbus_store::Clock;

use super::answer::Said;

/// How long one telling may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Tellings under way at one time. Strangers can make requests fail: what is more is not told.
const AT_ONCE: usize = 8;

/// Tells of failed requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reporter {
    channel: Arc<Channel>,
    slots: Arc<Semaphore>,
    server_url: Arc<str>,
    clock: Clock,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").finish_non_exhaustive()
    }
}

impl Reporter {
    /// `opening` is that of targets which the operator names.
    pub(crate) fn open(
        url: Url,
        secret: Option<signature::Secret>,
        opening: Opening,
        server_url: &str,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        let mut config = webhook::Config::new(url);
        config.secret = secret;
        let config = Config::Webhook(config.with_defaults());
        let channel = Channel::open(&config, &opening.with_timeout(TIMEOUT))?;
        Ok(Self {
            channel: Arc::new(channel),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            server_url: server_url.into(),
            clock,
        })
    }

    /// Tells of it, once, and does not wait.
    pub(super) fn tell(&self, status: StatusCode, said: &Said) {
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return untold("busy");
        };
        let message = self.message(status, said);
        let channel = Arc::clone(&self.channel);
        tokio::spawn(async move {
            for report in channel.send(&[message]).await {
                if report.outcome != Outcome::Accepted {
                    untold(report.error.as_deref().unwrap_or("refused"));
                }
            }
            drop(slot);
        });
    }

    fn message(&self, status: StatusCode, said: &Said) -> Message {
        let now = (self.clock)();
        let body = json!({
            "event": "error",
            "data": {
                "error": said.error,
                "message": said.message,
                "status": status.as_u16(),
                "response": { "message": said.message },
            },
            "date_time": now,
            "api_key": Value::Null,
            "server_url": &*self.server_url,
        });
        let random = zapbus_store::random_bits().unwrap_or_default();
        Message {
            id: format!("err_{random:032x}"),
            event_name: "error".to_owned(),
            segment: None,
            instance_name: "".into(),
            body: body.to_string().into(),
            headers: Vec::new(),
            headers_win: false,
            ordering_key: String::new(),
            timestamp: now,
            hops: 1,
            replay: None,
            traceparent: None,
            warrant: None,
        }
    }
}

fn untold(reason: &str) {
    tracing::debug!(event = "evolution.error_untold", reason, "a failed request was not told");
}
