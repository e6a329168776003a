//! The frames of AMQP 0-9-1, as far as they must be told apart in a stream of bytes.
//!
//! A broker returns a mandatory message that no queue takes with its whole body, and lapin keeps
//! returned messages until their confirm comes, if it ever does. Nothing here wants those bodies, and
//! no broker shall fill our memory: [`Inbound`] takes them out before lapin sees them, and tells a
//! broker that returns more than it was given.

use std::io;

/// Type, channel and size stand before each payload.
const HEAD: usize = 7;
/// Types of frames.
const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;
const CONTENT_BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// What is no frame, to its end: a server answers so that speaks another version.
const OTHER: u8 = 0;
/// What the first thing that a client says takes; it is no frame.
const PROTOCOL_HEADER: usize = 8;
/// Where in a content header's payload the size of the body stands.
const BODY_SIZE: std::ops::Range<usize> = 4..12;
/// Class and method.
const BASIC_PUBLISH: u32 = (60 << 16) | 40;
const BASIC_RETURN: u32 = (60 << 16) | 50;

/// Where one direction of a connection is.
#[derive(Debug, Default)]
struct Frames {
    kind: u8,
    /// Bytes of this frame that have passed.
    at: usize,
    /// Of its payload.
    size: usize,
    /// Class and method, as far as they have passed.
    method: u32,
}

/// The next bytes that belong together.
#[derive(Debug)]
struct Piece {
    length: usize,
    kind: u8,
    /// Where in the payload it begins, if it is of the payload.
    payload_at: Option<usize>,
    /// Class and method, once both are known.
    method: Option<u32>,
}

impl Frames {
    /// Passes the beginning of `bytes`, which are not empty.
    fn next(&mut self, bytes: &[u8]) -> Piece {
        let byte = bytes[0];
        let mut piece = Piece { length: 1, kind: self.kind, payload_at: None, method: None };
        if self.at < HEAD {
            match self.at {
                0 => {
                    let known = matches!(byte, METHOD | CONTENT_HEADER | CONTENT_BODY | HEARTBEAT);
                    let kind = if known { byte } else { OTHER };
                    *self = Self { kind, ..Self::default() };
                    piece.kind = kind;
                    if !known {
                        (self.at, self.size) = (HEAD, usize::MAX);
                        return piece;
                    }
                }
                1 | 2 => {}
                _ => self.size = (self.size << 8) | usize::from(byte),
            }
            self.at += 1;
            return piece;
        }
        let passed = self.at - HEAD;
        if passed == self.size {
            // The octet at the end.
            self.at = 0;
            return piece;
        }
        piece.payload_at = Some(passed);
        if self.kind == METHOD && passed < 4 {
            self.method = (self.method << 8) | u32::from(byte);
            piece.method = (passed == 3).then_some(self.method);
        } else if self.kind == OTHER {
            piece.length = bytes.len();
            return piece;
        } else {
            piece.length = bytes.len().min(self.size - passed);
        }
        self.at += piece.length;
        piece
    }
}

/// What lapin sends.
#[derive(Debug)]
pub(super) struct Outbound {
    frames: Frames,
    /// Bytes before the first frame.
    preface: usize,
    /// Messages that have gone.
    pub(super) published: u64,
}

impl Outbound {
    pub(super) fn new() -> Self {
        Self { frames: Frames::default(), preface: PROTOCOL_HEADER, published: 0 }
    }

    /// Counts what has been written.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        let mut rest = &bytes[preface..];
        while !rest.is_empty() {
            let piece = self.frames.next(rest);
            self.published += u64::from(piece.method == Some(BASIC_PUBLISH));
            rest = &rest[piece.length..];
        }
    }
}

/// What the broker sends.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    frames: Frames,
    returned: u64,
}

impl Inbound {
    /// Takes bodies out of what has been read, and says in content headers that there are none: how
    /// many bytes are left, at the beginning.
    ///
    /// # Errors
    ///
    /// When the broker returns more messages than the `published` ones.
    pub(super) fn pass(&mut self, bytes: &mut [u8], published: u64) -> io::Result<usize> {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            let piece = self.frames.next(&bytes[at..]);
            let end = at + piece.length;
            if piece.method == Some(BASIC_RETURN) {
                self.returned += 1;
                if self.returned > published {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the broker returns more messages than it was sent",
                    ));
                }
            }
            if let (CONTENT_HEADER, Some(from)) = (piece.kind, piece.payload_at) {
                let size = BODY_SIZE.start.max(from)..BODY_SIZE.end.min(from + piece.length);
                if !size.is_empty() {
                    bytes[at + size.start - from..at + size.end - from].fill(0);
                }
            }
            if piece.kind != CONTENT_BODY {
                bytes.copy_within(at..end, kept);
                kept += piece.length;
            }
            at = end;
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0, 1];
        frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend(payload);
        frame.push(0xCE);
        frame
    }

    fn method(method: u32, fields: &[u8]) -> Vec<u8> {
        let mut payload = method.to_be_bytes().to_vec();
        payload.extend(fields);
        frame(METHOD, &payload)
    }

    fn content_header(size: u64) -> Vec<u8> {
        let mut payload = vec![0, 60, 0, 0];
        payload.extend(size.to_be_bytes());
        payload.extend([0x10, 0, 2]);
        frame(CONTENT_HEADER, &payload)
    }

    /// A returned message, as the broker sends it and as lapin sees it.
    fn returned(body: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let begins = method(BASIC_RETURN, b"\x01\x38\x08NO_ROUTE");
        let ack = method((60 << 16) | 80, &[0; 9]);
        let mut sent = [begins.clone(), content_header(body.len() as u64)].concat();
        for piece in body.chunks(1000) {
            sent.extend(frame(CONTENT_BODY, piece));
        }
        sent.extend(&ack);
        (sent, [begins, content_header(0), ack].concat())
    }

    /// In pieces, as a network brings them.
    fn pass(bytes: &[u8], cuts: &[usize], published: u64) -> io::Result<Vec<u8>> {
        let (mut inbound, mut seen) = (Inbound::default(), Vec::new());
        let mut rest = bytes;
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let length = (*cuts.next().unwrap()).min(rest.len());
            let mut piece = rest[..length].to_vec();
            let kept = inbound.pass(&mut piece, published)?;
            seen.extend(&piece[..kept]);
            rest = &rest[length..];
        }
        Ok(seen)
    }

    proptest! {
        #[test]
        fn bodies_are_taken_out_wherever_the_bytes_are_cut(
            body in prop::collection::vec(any::<u8>(), 0..3000),
            cuts in prop::collection::vec(1_usize..40, 1..8),
        ) {
            let heartbeat = frame(HEARTBEAT, b"");
            let (sent, seen) = returned(&body);
            let sent = [heartbeat.clone(), sent, heartbeat.clone()].concat();
            let seen = [heartbeat.clone(), seen, heartbeat].concat();
            prop_assert_eq!(pass(&sent, &cuts, 1).unwrap(), seen.clone());
            prop_assert_eq!(pass(&sent, &[usize::MAX], 1).unwrap(), seen);
        }
    }

    #[test]
    fn more_returns_than_messages_are_told() {
        let (sent, _) = returned(b"body");
        let twice = [sent.clone(), sent].concat();
        assert!(pass(&twice, &[5], 2).is_ok());
        let error = pass(&twice, &[5], 1).unwrap_err();
        assert!(error.to_string().contains("more messages than it was sent"), "{error}");
    }

    #[test]
    fn another_protocol_passes_as_it_is() {
        let other = b"AMQP\x00\x01\x00\x00 and what follows";
        assert_eq!(pass(other, &[3], 0).unwrap(), other);
    }

    #[test]
    fn what_is_published_is_counted() {
        let mut outbound = Outbound::new();
        let publish = method(BASIC_PUBLISH, b"\x00\x00\x00\x01q\x01");
        let message = [publish, content_header(3), frame(CONTENT_BODY, b"abc")].concat();
        let all = [b"AMQP\x00\x00\x09\x01".to_vec(), message.clone(), message].concat();
        for piece in all.chunks(3) {
            outbound.pass(piece);
        }
        assert_eq!(outbound.published, 2);
    }
}
