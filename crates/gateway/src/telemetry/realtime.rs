//! What live connections report.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use super::{ProtocolLabels, Telemetry};

/// Figures of the connections of one protocol. Looked up once for a connection.
#[derive(Debug, Clone)]
pub struct Realtime {
    connections: Gauge,
    frames: Counter,
    unacked: Gauge,
    behind: Gauge,
    /// Events sent again because nobody acknowledged them.
    pub redelivered: Counter,
    /// Events given up for a subscriber.
    pub dead: Counter,
    /// Gaps that were told of, or would have been if the dialect had words for it.
    pub gaps: Counter,
    /// Messages of clients that changed nothing: unreadable, of a foreign type, or
    /// acknowledgements of events that do not wait for one.
    pub ignored: Counter,
}

impl Realtime {
    /// Counts frames.
    pub fn sent(&self, frames: usize) {
        self.frames.inc_by(frames as u64);
    }

    /// A connection has so many more unacknowledged, and is or is not behind the journal.
    pub fn moved(&self, unacked: i64, was_behind: bool, is_behind: bool) {
        self.unacked.inc_by(unacked);
        self.behind.inc_by(i64::from(is_behind) - i64::from(was_behind));
    }

    /// A connection has ended that had so many unacknowledged.
    pub fn closed(&self, unacked: i64, was_behind: bool) {
        self.connections.dec();
        self.moved(-unacked, was_behind, false);
    }
}

impl Telemetry {
    /// The figures of a connection that has begun.
    pub fn realtime(&self, protocol: &'static str) -> Realtime {
        let figures = self.figures_of(protocol);
        figures.connections.inc();
        figures
    }

    /// A client has shown a cursor that leads to nothing, and was let in without.
    pub fn unknown_cursor(&self, protocol: &'static str) {
        self.realtime.unknown_cursors.get_or_create(&ProtocolLabels { protocol }).inc();
    }

    /// The figures of a protocol. Asked for once, they are shown from 0 on.
    pub(super) fn figures_of(&self, protocol: &'static str) -> Realtime {
        let labels = ProtocolLabels { protocol };
        Realtime {
            connections: self.realtime.connections.get_or_create_owned(&labels),
            frames: self.realtime.frames.get_or_create_owned(&labels),
            unacked: self.realtime.unacked.get_or_create_owned(&labels),
            behind: self.realtime.behind.get_or_create_owned(&labels),
            redelivered: self.realtime.redelivered.get_or_create_owned(&labels),
            dead: self.realtime.dead.get_or_create_owned(&labels),
            gaps: self.realtime.gaps.get_or_create_owned(&labels),
            ignored: self.realtime.ignored.get_or_create_owned(&labels),
        }
    }
}
