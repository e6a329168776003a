//! Decoding again what was not understood when it came.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Decoded, Routed, cloud_api, evolution, waha, wuzapi};
use crate::{Event, Kind, Raw, SourceKind};

/// What a stored `event.unknown`, whole as it came in, turns out to be today. `body` is the whole
/// upstream body where the event is only a part of it (its `body_ref`).
///
/// The drafts are marked as history and are recognised when the same event is decoded once more.
/// Neighbours in the body that were understood at the time are not among them, or have the keys of
/// the events that they became. Empty: it is not understood today either.
pub fn again(event: &Event, body: Option<&Bytes>) -> Vec<Routed> {
    if event.kind != Kind::EventUnknown {
        return Vec::new();
    }
    let element = event.raw_bytes();
    let Some(decoded) = decode(event, body.unwrap_or(element)) else {
        return Vec::new();
    };
    let mut seen: HashMap<(u32, Kind), u32> = HashMap::new();
    let mut found = Vec::new();
    for mut routed in decoded.events {
        let index = routed.draft.source.index;
        // Its place in the body, whatever else of it is understood: that may be more tomorrow.
        let nth = seen.entry((index, routed.draft.kind)).or_default();
        let place = format!("{index}.{}.{nth}", routed.draft.kind);
        *nth += 1;
        let is_meant = match body {
            // Of the whole body, only what stands in this element.
            Some(_) => stands_in(&routed.draft.raw, element),
            // Without a key, a neighbour cannot be told from the event that it became.
            None => !routed.draft.keys.is_empty() || index == event.source.index,
        };
        if routed.draft.kind == Kind::EventUnknown || !is_meant {
            continue;
        }
        let draft = &mut routed.draft;
        draft.history = true;
        draft.hops = event.hops;
        draft.occurred_at = draft.occurred_at.or(Some(event.occurred_at));
        // Its place in the body is what the unknown event itself is recognised by.
        draft.keys.retain(|key| Some(key) != event.dedup_key.as_ref());
        draft.keys.push(format!("u|{}|{place}", event.id));
        found.push(routed);
    }
    found
}

fn decode(event: &Event, body: &[u8]) -> Option<Decoded> {
    Some(match event.source.kind {
        SourceKind::CloudApi => cloud_api::decode(body),
        SourceKind::Evolution => evolution::decode(body, Some(&event.source.event)),
        SourceKind::Wuzapi => wuzapi::decode(body, multipart(body).as_deref()),
        SourceKind::Waha => waha::decode(body),
        SourceKind::WhatsappWeb
        | SourceKind::Native
        | SourceKind::Simulator
        | SourceKind::Gateway => return None,
    })
}

fn stands_in(raw: &Raw, element: &[u8]) -> bool {
    match raw {
        Raw::Data => false,
        Raw::Bytes(raw) => memchr::memmem::find(element, raw).is_some(),
    }
}

/// The header that a multipart body had: the body begins with its boundary.
fn multipart(body: &[u8]) -> Option<String> {
    let line = body.strip_prefix(b"--")?.split(|byte| *byte == b'\r').next()?;
    let boundary = std::str::from_utf8(line).ok()?;
    Some(format!("multipart/form-data; boundary=\"{boundary}\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Data, Draft, EventId, InstanceId, Position, Source, Timestamp,
        data::{EventUnknown, UnknownReason},
    };

    /// An event that an older version did not understand.
    fn unknown(kind: SourceKind, name: &str, index: u32, raw: &[u8], key: Option<&str>) -> Event {
        let data = Data::EventUnknown(EventUnknown {
            upstream_event: name.to_owned(),
            reason: UnknownReason::UnmappedName,
            body_ref: None,
        });
        let source =
            Source { kind, event: name.to_owned(), version: None, delivery_id: None, index };
        let draft = Draft::from_data(&data, source);
        let at = Timestamp::from_millis(1_767_225_700_123);
        Event {
            id: EventId::new(at, 1),
            seq: Position(1),
            instance: InstanceId::new(at, 1),
            kind: draft.kind,
            facet: draft.facet,
            occurred_at: at,
            occurred_at_estimated: true,
            received_at: at,
            source: draft.source,
            dedup_key: key.map(str::to_owned),
            partition: draft.partition,
            history: false,
            ephemeral: false,
            client_id: None,
            hops: 2,
            data: draft.data,
            raw: Raw::Bytes(Bytes::copy_from_slice(raw)),
        }
    }

    const CONTACTS: &str = r#"{"event":"contacts.upsert","data":[{"remoteJid":"5511@s.whatsapp.net","pushName":"Ana"},{"remoteJid":"5512@s.whatsapp.net","pushName":"Bia"}],"date_time":"x"}"#;

    #[test]
    fn what_is_understood_today_is_found_and_marked() {
        let event = unknown(SourceKind::Evolution, "contacts.upsert", 0, CONTACTS.as_bytes(), None);
        let found = again(&event, None);
        assert_eq!(found.len(), 2);
        for (place, routed) in found.iter().enumerate() {
            let draft = &routed.draft;
            assert!(draft.history && draft.hops == 2);
            assert_eq!(draft.occurred_at, Some(event.occurred_at));
            let keys =
                evolution::decode(CONTACTS.as_bytes(), None).events[place].draft.keys.clone();
            assert_eq!(draft.keys[..keys.len()], keys, "that of the same event from the upstream");
            let key = format!("u|{}|{place}.contact.updated.0", event.id);
            assert_eq!(draft.keys[keys.len()], key);
        }
        assert_eq!(again(&event, None), found);
    }

    #[test]
    fn of_a_body_only_the_element_itself_is_taken() {
        let body = Bytes::from_static(CONTACTS.as_bytes());
        let element = br#"{"remoteJid":"5512@s.whatsapp.net","pushName":"Bia"}"#;
        let event = unknown(SourceKind::Evolution, "contacts.upsert", 1, element, Some("t|x|1"));
        let found = again(&event, Some(&body));
        assert_eq!(found.len(), 1);
        assert!(String::from_utf8_lossy(&found[0].draft.data).contains("Bia"));
        // Without the body nobody knows what the element is.
        assert!(again(&event, None).is_empty());
    }

    #[test]
    fn the_place_of_the_unknown_event_is_not_a_key_of_what_it_is() {
        let body = br#"{"event":"presence.update","data":{"id":"5@s.whatsapp.net","presences":{"5@s.whatsapp.net":{"lastKnownPresence":"composing"},"6@s.whatsapp.net":{"lastKnownPresence":"composing"}}}}"#;
        let event = unknown(SourceKind::Evolution, "presence.update", 0, body, None);
        // The second has no key either: it may have been understood at the time.
        assert_eq!(again(&event, None).len(), 1);
        let posted = evolution::decode(CONTACTS.as_bytes(), None).events.remove(0).draft;
        let key = posted.keys[0].clone();
        let bytes = CONTACTS.as_bytes();
        let event = unknown(SourceKind::Evolution, "contacts.upsert", 0, bytes, Some(&key));
        assert!(!again(&event, None)[0].draft.keys.contains(&key));
    }

    #[test]
    fn forms_are_read_without_their_header() {
        let body = b"--B\r\nContent-Disposition: form-data; name=\"jsonData\"\r\n\r\n{\"type\":\"Connected\",\"event\":{}}\r\n--B--\r\n";
        let event = unknown(SourceKind::Wuzapi, "webhook", 0, body, None);
        assert_eq!(again(&event, None)[0].draft.kind, Kind::InstanceConnected);
        let event = unknown(SourceKind::Native, "webhook", 0, b"{}", None);
        assert!(again(&event, None).is_empty());
        let event = unknown(SourceKind::Waha, "webhook", 0, b"{}", None);
        assert!(again(&event, None).is_empty());
    }
}
