//! The native stream: `GET /v1/instances/{instance}/stream` and `GET /v1/stream`.

use std::{sync::Arc, time::Duration};

use http::header;
use serde::Deserialize;
use serde_json::json;

use super::{
    delivery::Seen,
    engine::{Frame, Protocol, Target, unreadable},
    shared::Command,
    subscription::{Dead, Gap},
};
use crate::{Client, Error, transport::Query};

/// Ids in one message: the gateway takes as many.
const IDS: usize = 4_096;

/// Which stream.
#[derive(Debug, Clone)]
pub(crate) struct Native {
    pub(crate) client: Client,
    pub(crate) path: Vec<String>,
    pub(crate) query: Query,
    /// Whether events have ids to acknowledge.
    pub(crate) explicit: bool,
}

/// As much of a frame as decides what it is. What follows `type` in an event is not looked at.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    r#type: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    ordering_key: Option<String>,
    #[serde(borrow, default)]
    received_at: Option<std::borrow::Cow<'a, str>>,
    // Of messages about the stream.
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    first: Option<i64>,
    #[serde(default)]
    deliveries: Option<u32>,
    #[serde(default)]
    message: Option<String>,
}

impl Protocol for Native {
    async fn target(&self, cursor: Option<&str>) -> Result<Target, Error> {
        let mut query = self.query.clone();
        // A name goes on where the gateway says, if it knows it; else here.
        if let Some(cursor) = cursor {
            query.retain(|(name, _)| name != "after");
            query.push(("after".into(), cursor.to_owned()));
        }
        Ok(Target {
            url: self.client.transport().url(&self.path, &query),
            headers: self.client.headers().await?,
        })
    }

    async fn refused(&self, target: &Target, error: &Error) -> bool {
        if error.status() != Some(401) {
            return false;
        }
        let token = target.headers.get(header::AUTHORIZATION);
        let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        self.client.bearer().refused(token.unwrap_or_default()).await
    }

    fn read(&self, frame: &str) -> Result<Frame, Error> {
        let head: Head<'_> = match serde_json::from_str(frame) {
            Ok(head) => head,
            // Members of other dialects may have the same names and other shapes.
            Err(error) if self.explicit || error.is_syntax() => return Err(unreadable(error)),
            Err(_) => return Ok(Frame::Event(Seen::default())),
        };
        let kind = head.r#type.unwrap_or_default();
        Ok(match &*kind {
            "stream.opened" => Frame::Opened { cursor: head.cursor },
            "stream.gap" => {
                Frame::Gap(Gap { after: head.after, first: head.first, cursor: head.cursor })
            }
            "stream.dead" => Frame::Dead(Dead {
                id: head.id.map(std::borrow::Cow::into_owned),
                deliveries: head.deliveries.unwrap_or_default(),
            }),
            "stream.error" => {
                let message = head.message.unwrap_or_default();
                return Err(Error::Unreadable(format!("the gateway says: {message}")));
            }
            other if other.starts_with("stream.") => Frame::Nothing,
            _ => {
                let id = head.id.filter(|_| self.explicit);
                if self.explicit && id.is_none() {
                    return Err(unreadable("an event has no id"));
                }
                Frame::Event(Seen {
                    id: id.map(|id| Arc::from(&*id)),
                    kind: kind.into_owned(),
                    key: head.ordering_key,
                    stored: head.received_at.and_then(|at| at.parse().ok()),
                })
            }
        })
    }

    fn say(&self, commands: &mut Vec<Command>, frames: &mut Vec<String>) {
        let acks: Vec<&str> = commands
            .iter()
            .filter_map(|command| match command {
                Command::Ack(id) => Some(&**id),
                _ => None,
            })
            .collect();
        for ids in acks.chunks(IDS) {
            frames.push(json!({ "type": "ack", "ids": ids }).to_string());
        }
        for command in commands.iter() {
            frames.push(match command {
                Command::Nack(id, Some(after)) => {
                    json!({ "type": "nack", "id": id, "after": seconds(*after) }).to_string()
                }
                Command::Progress(id) => json!({ "type": "in_progress", "id": id }).to_string(),
                Command::Reject(id) => json!({ "type": "reject", "id": id }).to_string(),
                Command::Ack(_) | Command::Nack(_, None) | Command::Close => continue,
            });
        }
    }

    fn loses(&self) -> bool {
        !self.explicit
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
