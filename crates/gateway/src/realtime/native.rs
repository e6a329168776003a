//! The native frames: events as the native dialect (or another) writes them, and a few of our own
//! whose type begins with `stream.`, which no event's does.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use zapbus_event::{
    Event, EventId,
    dialect::{Part, single_line},
};

use super::protocol::{Dead, Gap, Opened, Protocol, Said};

/// Ids in one message of a client.
const MAX_IDS: usize = 4_096;

/// The longest pause before an event comes again, in seconds: a day.
const LONGEST_PAUSE_S: f64 = 86_400.0;

/// Native frames on a WebSocket: one JSON document each.
pub(crate) struct NativeSocket;

/// The same as server-sent events.
pub(crate) struct NativeEvents;

fn opened(opened: &Opened<'_>) -> Bytes {
    json!({
        "type": "stream.opened",
        "cursor": opened.places.cursor(),
        "subscriber": opened.subscriber,
        "ack": if opened.explicit { "explicit" } else { "auto" },
    })
    .to_string()
    .into()
}

fn gap(gap: &Gap<'_>) -> Bytes {
    json!({
        "type": "stream.gap",
        "after": gap.after.cursor(),
        "first": gap.first,
        "cursor": gap.resumes.cursor(),
    })
    .to_string()
    .into()
}

fn dead(dead: &Dead) -> Bytes {
    json!({ "type": "stream.dead", "id": dead.id, "deliveries": dead.deliveries })
        .to_string()
        .into()
}

#[derive(Deserialize)]
struct Message {
    r#type: String,
    id: Option<String>,
    ids: Option<Vec<String>>,
    after: Option<f64>,
}

/// Reads a client's message.
pub(crate) fn read(message: &str) -> Said {
    let Ok(Message { r#type, id, ids, after }) = serde_json::from_str(message) else {
        return nonsense("expected {\"type\":\"ack\",\"id\":\"evt_…\"}");
    };
    if ids.as_ref().is_some_and(|ids| ids.len() > MAX_IDS) {
        return nonsense("too many ids in one message");
    }
    // Ids that are none are of events that nobody was sent.
    let parse = |text: String| text.parse::<EventId>().ok();
    let mut given = ids.unwrap_or_default().into_iter().chain(id).filter_map(parse);
    match r#type.as_str() {
        "ack" => Said::Acks(given.collect()),
        "in_progress" => Said::Working(given.collect()),
        "reject" => Said::Rejects(given.collect()),
        "nack" => {
            let after = after.unwrap_or_default();
            if !(0.0..=LONGEST_PAUSE_S).contains(&after) {
                return nonsense("after: expected 0 to 86400 seconds");
            }
            match given.next() {
                Some(id) => Said::Later(id, Duration::from_secs_f64(after)),
                None => Said::Acks(Vec::new()),
            }
        }
        "ping" => Said::Ask(Bytes::from_static(b"{\"type\":\"stream.pong\"}")),
        _ => nonsense("expected a message of type ack, nack, in_progress, reject or ping"),
    }
}

fn nonsense(message: &str) -> Said {
    let answer = json!({ "type": "stream.error", "message": message });
    Said::Nonsense(Some(answer.to_string().into()))
}

impl Protocol for NativeSocket {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn opened(&self, it: &Opened<'_>) -> Option<Bytes> {
        Some(opened(it))
    }

    fn event(&mut self, _: &Arc<Event>, parts: &[Part], frames: &mut Vec<Bytes>) {
        frames.extend(parts.iter().map(|part| part.body.clone()));
    }

    fn gap(&self, it: &Gap<'_>) -> Option<Bytes> {
        Some(gap(it))
    }

    fn dead(&self, it: &Dead) -> Option<Bytes> {
        Some(dead(it))
    }

    fn read(&mut self, message: &str) -> Said {
        read(message)
    }
}

impl NativeEvents {
    fn frame(id: Option<EventId>, name: &str, data: &[u8]) -> Bytes {
        let mut frame = Vec::with_capacity(data.len() + name.len() + 64);
        if let Some(id) = id {
            frame.extend_from_slice(format!("id: {id}\n").as_bytes());
        }
        frame.extend_from_slice(b"event: ");
        frame.extend_from_slice(name.as_bytes());
        frame.extend_from_slice(b"\ndata: ");
        frame.extend_from_slice(&single_line(data));
        frame.extend_from_slice(b"\n\n");
        frame.into()
    }
}

impl Protocol for NativeEvents {
    fn name(&self) -> &'static str {
        "sse"
    }

    fn opened(&self, it: &Opened<'_>) -> Option<Bytes> {
        // Browsers wait three seconds otherwise, whatever the reason was.
        let mut frame = b"retry: 1000\n".to_vec();
        frame.extend_from_slice(&Self::frame(None, "stream.opened", &opened(it)));
        Some(frame.into())
    }

    fn event(&mut self, event: &Arc<Event>, parts: &[Part], frames: &mut Vec<Bytes>) {
        // The id stands with the last part: whoever breaks off before gets all of them again.
        for (index, part) in parts.iter().enumerate() {
            let id = (index + 1 == parts.len()).then_some(event.id);
            frames.push(Self::frame(id, &part.name, &part.body));
        }
    }

    fn gap(&self, it: &Gap<'_>) -> Option<Bytes> {
        Some(Self::frame(None, "stream.gap", &gap(it)))
    }

    fn dead(&self, it: &Dead) -> Option<Bytes> {
        Some(Self::frame(None, "stream.dead", &dead(it)))
    }

    fn read(&mut self, _: &str) -> Said {
        Said::Nothing
    }

    fn heartbeat(&self) -> Option<Bytes> {
        Some(Bytes::from_static(b": \n\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_read_however_they_come() {
        let id = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let acks = |message: &str| match read(message) {
            Said::Acks(ids) => ids.len(),
            other => panic!("{message}: {other:?}"),
        };
        assert_eq!(acks(&format!(r#"{{"type":"ack","id":"{id}"}}"#)), 1);
        assert_eq!(acks(&format!(r#"{{"type":"ack","ids":["{id}","{id}"],"x":1}}"#)), 2);
        assert_eq!(acks(r#"{"type":"ack","id":"nothing"}"#), 0);
        assert_eq!(acks(r#"{"type":"ack"}"#), 0);
        assert!(matches!(read(r#"{"type":"ping"}"#), Said::Ask(_)));
        let id: EventId = id.parse().unwrap();
        let told = |r#type: &str| format!(r#"{{"type":"{type}","id":"{id}","after":1.5}}"#);
        assert_eq!(read(&told("nack")), Said::Later(id, Duration::from_millis(1_500)));
        assert_eq!(read(&told("in_progress")), Said::Working(vec![id]));
        assert_eq!(read(&told("reject")), Said::Rejects(vec![id]));
        let never = format!(r#"{{"type":"nack","id":"{id}","after":-1}}"#);
        assert!(matches!(read(&never), Said::Nonsense(Some(_))));
        let many = format!(r#"{{"type":"ack","ids":{:?}}}"#, vec!["x"; MAX_IDS + 1]);
        for message in ["", "{", "[]", "7", r#"{"id":"x"}"#, r#"{"type":"subscribe"}"#, &many] {
            assert!(matches!(read(message), Said::Nonsense(Some(_))), "{message:.40}");
        }
    }

    #[test]
    fn an_event_of_server_sent_events_is_on_one_line() {
        let frame = NativeEvents::frame(None, "x", b"{\n\"a\":\r\n1}");
        assert_eq!(&frame[..], b"event: x\ndata: {\"a\":1}\n\n");
    }
}
