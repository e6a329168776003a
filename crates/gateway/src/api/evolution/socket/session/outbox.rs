//! What a session has to write, and who is to be told when it is written.

use bytes::Bytes;
use tokio::time::Instant;

use super::super::packet;
use crate::realtime::Written;

#[derive(Default)]
pub(super) struct Outbox {
    frames: Vec<Bytes>,
    told: Vec<Written>,
    /// Being written, since when, and who is to be told.
    writing: Option<(Instant, Vec<Written>)>,
    ping: Ping,
}

/// Where the last ping is.
#[derive(Default, PartialEq, Eq)]
enum Ping {
    #[default]
    None,
    Waits,
    Written,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    pub(super) fn writing_since(&self) -> Option<Instant> {
        self.writing.as_ref().map(|(since, _)| *since)
    }

    /// Adds a frame of the session's own.
    pub(super) fn push(&mut self, frame: Bytes) {
        self.frames.push(frame);
    }

    /// Adds a ping, unless one waits.
    pub(super) fn ping(&mut self) {
        if self.ping != Ping::Waits {
            self.ping = Ping::Waits;
            self.frames.push(Bytes::from_static(packet::PING.as_bytes()));
        }
    }

    /// Adds a batch of a namespace.
    pub(super) fn extend(&mut self, frames: Vec<Bytes>, written: Written) {
        self.frames.extend(frames);
        self.told.push(written);
    }

    /// Everything that waits is being written.
    pub(super) fn begin(&mut self) -> Vec<Bytes> {
        if self.ping == Ping::Waits {
            self.ping = Ping::Written;
        }
        self.writing = Some((Instant::now(), std::mem::take(&mut self.told)));
        std::mem::take(&mut self.frames)
    }

    /// They were not written after all: on another transport each goes by itself.
    pub(super) fn put_back(&mut self, frames: Vec<Bytes>) {
        self.frames.splice(0..0, frames);
        if let Some((_, told)) = self.writing.take() {
            self.told.splice(0..0, told);
        }
        if self.ping == Ping::Written {
            self.ping = Ping::Waits;
        }
    }

    /// It is written. Whether a ping was among it.
    pub(super) fn written(&mut self) -> bool {
        if let Some((_, told)) = self.writing.take() {
            told.into_iter().for_each(Written::done);
        }
        std::mem::take(&mut self.ping) == Ping::Written
    }

    /// The client lives: a ping that is written by now needs no answer any more.
    pub(super) fn heard(&mut self) {
        if self.ping == Ping::Written {
            self.ping = Ping::None;
        }
    }

    /// What has not been written, at the end.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_goes_out_frame_by_frame_and_in_order() {
        let mut out = Outbox::default();
        let frame = Bytes::from_static;
        out.push(frame(b"42[1]"));
        out.push(frame(b"42[2]"));
        out.ping();
        let lost = out.begin();
        assert!(out.is_writing() && out.is_empty());
        out.push(frame(b"42[3]"));
        out.put_back(lost);
        assert!(!out.is_writing());
        // On a WebSocket each is a message of its own.
        assert_eq!(out.begin(), ["42[1]", "42[2]", "2", "42[3]"]);
        assert!(out.written(), "the ping is among them");
    }
}
