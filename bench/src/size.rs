//! How much each scenario measures.

/// Numbers of events and the like. A run with other sizes is another measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) name: &'static str,
    /// Repetitions of the figures that targets are about.
    pub(crate) passes: usize,
    /// Events of one pass at 64 connections; fewer connections get fewer.
    pub(crate) burst: u64,
    /// Seconds of a steady rate.
    pub(crate) steady_s: u64,
    /// Events behind a destination that is down, and in the store at a start.
    pub(crate) waiting: u64,
    /// Destinations that have nothing to do.
    pub(crate) idle_destinations: u64,
    /// Events in the store at the first and the second measurement of growth.
    pub(crate) growth: [u64; 2],
    /// Deliveries of one growth measurement.
    pub(crate) growth_burst: u64,
    /// Events of a fan-out to 100 destinations; fewer destinations get more.
    pub(crate) fanout: u64,
    /// Events that all nodes of a cluster get together.
    pub(crate) cluster: u64,
    /// Live connections that have nothing to do.
    pub(crate) idle_streams: &'static [usize],
    /// Live connections that one event goes to, and how many events are timed.
    pub(crate) reached: &'static [usize],
    pub(crate) timed: u64,
    /// Live connections that many events go to, and how many if it is a single one; the more there
    /// are, the fewer.
    pub(crate) streaming: &'static [usize],
    pub(crate) streamed: u64,
}

/// Enough to see that everything works, in less than two minutes.
pub(crate) const QUICK: Size = Size {
    name: "quick",
    passes: 1,
    burst: 4_000,
    steady_s: 2,
    waiting: 10_000,
    idle_destinations: 1_000,
    growth: [2_000, 20_000],
    growth_burst: 2_000,
    fanout: 100,
    cluster: 3_000,
    idle_streams: &[500],
    reached: &[100, 1_000],
    timed: 4,
    streaming: &[1, 100],
    streamed: 1_000,
};

/// What figures are taken from.
pub(crate) const FULL: Size = Size {
    name: "full",
    passes: 3,
    burst: 100_000,
    steady_s: 20,
    waiting: 1_000_000,
    idle_destinations: 100_000,
    growth: [10_000, 1_000_000],
    growth_burst: 50_000,
    fanout: 2_000,
    cluster: 60_000,
    idle_streams: &[10_000, 15_000, 50_000],
    reached: &[1_000, 10_000],
    timed: 20,
    streaming: &[1, 100, 1_000],
    streamed: 50_000,
};

/// The same with ten million rows.
pub(crate) const LONG: Size = Size { name: "long", growth: [10_000, 10_000_000], ..FULL };
