//! As much of the WebSocket protocol (RFC 6455) as a fast client needs.

use std::ops::Range;

use crate::Failure;

/// A key that every client may use: the answer to it tells nothing that matters here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Bits of a frame's first two bytes.
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// A control frame's longest payload.
const CONTROL: usize = 125;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A document.
    Text,
    /// Wants a pong with the same payload.
    Ping,
    Pong,
    /// The end, with a code and a reason.
    Close,
}

/// The first frame of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// Where its payload is. The next frame begins at its end.
    pub(crate) payload: Range<usize>,
}

/// The first frame of `bytes`; `None` while it is incomplete.
///
/// # Errors
///
/// It is none that a server may send, or a kind that ours do not.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<Frame>, Failure> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    let kind = match first {
        0x81 => Kind::Text,
        0x88 => Kind::Close,
        0x89 => Kind::Ping,
        0x8a => Kind::Pong,
        _ => return Err(format!("a frame that begins with {first:#04x}").into()),
    };
    let (head, length) = match (second, rest) {
        (0..=125, _) => (2, u64::from(*second)),
        (126, [a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
        }
        (126 | 127, _) => return Ok(None),
        _ => return Err("a masked frame from a server".into()),
    };
    let end = usize::try_from(length).ok().and_then(|length| length.checked_add(head));
    let end = end.ok_or("a frame that does not fit into memory")?;
    Ok((bytes.len() >= end).then_some(Frame { kind, payload: head..end }))
}

/// The answer to a ping. A client masks what it sends; a mask of zeros leaves it as it is.
pub(crate) fn pong(payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(CONTROL)];
    let mut frame = vec![FINAL | 0x0a, MASKED | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// Asks for a WebSocket.
pub(crate) fn upgrade(host: &str, path: &str, token: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
         connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(head: &[u8], length: usize) -> Vec<u8> {
        [head, &vec![b'x'; length]].concat()
    }

    #[test]
    fn a_frame_ends_where_its_length_says() {
        let cases: [(&[u8], usize); 4] = [
            (&[0x81, 0], 0),
            (&[0x81, 125], 125),
            (&[0x81, 126, 1, 0], 256),
            (&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536),
        ];
        for (head, length) in cases {
            let mut bytes = frame(head, length);
            for cut in [0, 1, head.len() - 1] {
                assert_eq!(first(&bytes[..cut]).unwrap(), None);
            }
            if length > 0 {
                assert_eq!(first(&bytes[..bytes.len() - 1]).unwrap(), None);
            }
            bytes.extend_from_slice(&[0x89, 0]);
            let found = first(&bytes).unwrap().unwrap();
            let payload = head.len()..head.len() + length;
            assert_eq!(found, Frame { kind: Kind::Text, payload: payload.clone() });
            let next = first(&bytes[payload.end..]).unwrap().unwrap();
            assert_eq!(next.kind, Kind::Ping);
        }
    }

    #[test]
    fn what_no_server_of_ours_sends_is_an_error() {
        // A binary frame, a fragment, a mask, a length beyond memory.
        for head in [&[0x82, 0][..], &[0x01, 0], &[0x81, 0x80], &[0x81, 127]] {
            let bytes = [head, &[0xff; 8]].concat();
            assert!(first(&bytes).is_err(), "{head:?}");
        }
    }

    #[test]
    fn a_pong_carries_what_the_ping_did() {
        assert_eq!(pong(b"hi"), [0x8a, 0x82, 0, 0, 0, 0, b'h', b'i']);
        assert_eq!(pong(b""), [0x8a, 0x80, 0, 0, 0, 0]);
    }
}
