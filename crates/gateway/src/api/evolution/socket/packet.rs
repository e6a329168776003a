//! The packets of Engine.IO v4 and of Socket.IO v5 inside them, as texts. Pure.
//!
//! An Engine.IO packet is a digit and what follows; several in one body of HTTP are separated. A
//! message carries a Socket.IO packet: a digit, the namespace up to a comma unless it is `/`, the id
//! of an acknowledgement if there is one, and JSON.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Value, json};

/// Stands between packets in a body.
pub(super) const SEPARATOR: char = '\x1e';

/// The namespace that needs no name.
pub(super) const ROOT: &str = "/";

/// Digits that an id of an acknowledgement may have.
const MOST_DIGITS: usize = 18;

pub(super) const CLOSE: &str = "1";
pub(super) const PING: &str = "2";
pub(super) const PONG_OF_PROBE: &str = "3probe";
pub(super) const NOOP: &str = "6";

/// A packet of a client.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Packet<'a> {
    /// It goes.
    Close,
    /// Asks for a [`Packet::Pong`] with the same text: on a WebSocket that may take over.
    Ping(&'a str),
    /// The answer to a ping.
    Pong,
    /// Something for a namespace.
    Message(Message<'a>),
    /// The WebSocket takes over.
    Upgrade,
    /// Nothing, or bytes that belong to a message and that nobody here has a use for.
    Noop,
}

/// A packet of Socket.IO.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message<'a> {
    /// Joins a namespace, with what the client says of itself.
    Connect { namespace: &'a str, auth: Value },
    /// Leaves it.
    Disconnect { namespace: &'a str },
    /// Acknowledges the event with this number.
    Ack { namespace: &'a str, number: u64 },
    /// An event of the client's own.
    Event { namespace: &'a str },
}

/// Text that is no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads one packet.
pub(super) fn read(text: &str) -> Result<Packet<'_>, Malformed> {
    let mut rest = text.chars();
    let kind = rest.next().ok_or(Malformed)?;
    let rest = rest.as_str();
    Ok(match kind {
        '1' => Packet::Close,
        '2' => Packet::Ping(rest),
        '3' => Packet::Pong,
        '4' => Packet::Message(message(rest)?),
        '5' => Packet::Upgrade,
        // In a body, bytes are base64 behind a `b`.
        '6' | 'b' => Packet::Noop,
        _ => return Err(Malformed),
    })
}

fn message(text: &str) -> Result<Message<'_>, Malformed> {
    let kind = text.bytes().next().ok_or(Malformed)?;
    let mut rest = text.get(1..).ok_or(Malformed)?;
    if matches!(kind, b'5' | b'6') {
        // So many binary frames follow; they are passed over.
        let (count, behind) = rest.split_once('-').ok_or(Malformed)?;
        if count.is_empty() || !count.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(Malformed);
        }
        rest = behind;
    }
    let (namespace, rest) = match rest.starts_with('/') {
        true => rest.split_once(',').unwrap_or((rest, "")),
        false => (ROOT, rest),
    };
    // Older clients put their query behind it.
    let namespace = namespace.split_once('?').map_or(namespace, |(name, _)| name);
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, payload) = rest.split_at(digits);
    let payload: Value = match payload {
        "" => Value::Null,
        text => serde_json::from_str(text).map_err(|_| Malformed)?,
    };
    if digits > MOST_DIGITS {
        return Err(Malformed);
    }
    let number: Option<u64> = number.parse().ok();
    Ok(match (kind, payload) {
        (b'0', auth @ (Value::Null | Value::Object(_))) => Message::Connect { namespace, auth },
        (b'1', Value::Null) => Message::Disconnect { namespace },
        (b'2' | b'5', Value::Array(event)) if !event.is_empty() => Message::Event { namespace },
        (b'3' | b'6', Value::Array(_)) => {
            Message::Ack { namespace, number: number.ok_or(Malformed)? }
        }
        _ => return Err(Malformed),
    })
}

/// What every packet of a namespace has behind its digit: nothing, or the name and a comma.
pub(super) fn place(namespace: &str) -> Cow<'_, str> {
    match namespace {
        ROOT => Cow::Borrowed(""),
        name => Cow::Owned(format!("{name},")),
    }
}

/// The first packet of a session.
pub(super) fn open(sid: &str, upgrades: &[&str], ping: (u64, u64), max_payload: usize) -> Bytes {
    let (interval, timeout) = ping;
    let open = json!({
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": interval,
        "pingTimeout": timeout,
        "maxPayload": max_payload,
    });
    format!("0{open}").into()
}

/// A namespace was joined. With `pid` a client remembers the last text of each event and shows both
/// when it comes again.
pub(super) fn joined(place: &str, sid: &str, pid: Option<&str>) -> Bytes {
    let data = match pid {
        Some(pid) => json!({ "sid": sid, "pid": pid }),
        None => json!({ "sid": sid }),
    };
    format!("40{place}{data}").into()
}

/// A namespace was not joined.
pub(super) fn refused(namespace: &str, message: &str) -> Bytes {
    format!("44{}{}", place(namespace), json!({ "message": message })).into()
}

/// A namespace is over; a client does not come again by itself.
pub(super) fn left(namespace: &str) -> Bytes {
    format!("41{}", place(namespace)).into()
}

/// An event: its name, its body, and a text behind it if there is one.
pub(super) fn event(
    place: &str,
    number: Option<u64>,
    name: &str,
    body: &[u8],
    behind: Option<&str>,
) -> Bytes {
    let mut out = Vec::with_capacity(body.len() + place.len() + name.len() + 64);
    out.extend_from_slice(b"42");
    out.extend_from_slice(place.as_bytes());
    if let Some(number) = number {
        out.extend_from_slice(number.to_string().as_bytes());
    }
    out.push(b'[');
    out.extend_from_slice(Value::from(name).to_string().as_bytes());
    out.push(b',');
    out.extend_from_slice(body);
    if let Some(text) = behind {
        out.push(b',');
        out.extend_from_slice(Value::from(text).to_string().as_bytes());
    }
    out.push(b']');
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message_of(text: &str) -> Message<'_> {
        match read(text) {
            Ok(Packet::Message(message)) => message,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn packets_are_read_as_clients_write_them() {
        let connect = |namespace, auth| Message::Connect { namespace, auth };
        assert_eq!(message_of("40"), connect("/", Value::Null));
        assert_eq!(message_of("40/shop,"), connect("/shop", Value::Null));
        assert_eq!(message_of("40/shop"), connect("/shop", Value::Null));
        assert_eq!(message_of("40/shop?x=1,"), connect("/shop", Value::Null));
        assert_eq!(
            message_of(r#"40/shop,{"apikey":"k"}"#),
            connect("/shop", json!({ "apikey": "k" }))
        );
        assert_eq!(message_of("41/shop,"), Message::Disconnect { namespace: "/shop" });
        assert_eq!(message_of("43/shop,12[]"), Message::Ack { namespace: "/shop", number: 12 });
        assert_eq!(message_of("4312[1,2]"), Message::Ack { namespace: "/", number: 12 });
        let event = Message::Event { namespace: "/a" };
        for text in [r#"42/a,["sendNode",{}]"#, r#"42/a,7["x"]"#, r#"451-/a,["x",{"num":0}]"#] {
            assert_eq!(message_of(text), event, "{text}");
        }
        assert_eq!(read("2probe"), Ok(Packet::Ping("probe")));
        assert_eq!(read("3"), Ok(Packet::Pong));
        assert_eq!(read("bAQID"), Ok(Packet::Noop));
    }

    #[test]
    fn what_is_no_packet_is_said_to_be_none() {
        for text in [
            "",
            "7",
            "0",
            "x",
            "4",
            "49",
            "40[]",
            "40/shop,7x",
            "42",
            "42{}",
            "42[]",
            "43[]",
            "41/a,{}",
            "45[]",
            "45-[1]",
            "45x-[1]",
            "4",
            "4é",
            "é",
            "42[\"x\"",
            "431234567890123456789[]",
        ] {
            assert_eq!(read(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn packets_are_written_as_clients_read_them() {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(
            text(open("s", &["websocket"], (25_000, 20_000), 65_536)),
            r#"0{"sid":"s","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}"#
        );
        assert_eq!(text(joined("/a,", "s", None)), r#"40/a,{"sid":"s"}"#);
        assert_eq!(text(joined("", "s", Some("p"))), r#"40{"sid":"s","pid":"p"}"#);
        assert_eq!(text(refused("/a", "no")), r#"44/a,{"message":"no"}"#);
        assert_eq!(text(left("/")), "41");
        assert_eq!(text(event("/a,", None, "call", b"{}", None)), r#"42/a,["call",{}]"#);
        assert_eq!(
            text(event("", Some(3), "call", b"{}", Some("evt_1"))),
            r#"423["call",{},"evt_1"]"#
        );
    }

    proptest! {
        #[test]
        fn any_text_is_packets_or_none(text in r#"[0-6b]?[0-6]?(/[a-z?,]{0,4})?,?[0-9\-]{0,3}([\[{"a-z0-9:,}\]]{0,12}|\PC{0,20}|\x1e)"#) {
            super::super::read_packets(&text);
        }

        #[test]
        fn what_is_said_of_a_namespace_comes_back(
            name in "/[a-zA-Z0-9 %._é-]{1,20}",
            number in 0_u64..1_000_000_000_000,
        ) {
            let place = place(&name);
            let ack = format!("43{place}{number}[]");
            prop_assert_eq!(read(&ack), Ok(Packet::Message(Message::Ack { namespace: &name, number })));
            let sent = event(&place, Some(number), "x", b"{}", None);
            let sent = std::str::from_utf8(&sent).unwrap();
            prop_assert_eq!(read(sent), Ok(Packet::Message(Message::Event { namespace: &name })));
            let left = left(&name);
            let left = std::str::from_utf8(&left).unwrap();
            prop_assert_eq!(read(left), Ok(Packet::Message(Message::Disconnect { namespace: &name })));
        }
    }
}
