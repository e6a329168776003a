//! What is measured, one file per question.

mod channels;
mod cluster;
mod fanout;
mod growth;
mod outage;
mod path;
mod pusher;
mod rabbitmq;
mod sqs;
mod start;
mod steady;
mod streams;

use crate::{Failure, bench::Bench};

/// A question with its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// How many events per second get through, at 1, 16, 64 and 256 connections and in batches.
    Path,
    /// How long an event takes at a steady rate.
    Steady,
    /// What a destination that is down costs, itself and its neighbours.
    Outage,
    /// How long a start takes with much in the store.
    Start,
    /// How the cost of a delivery grows with what is stored.
    Growth,
    /// How long one event takes to many destinations.
    Fanout,
    /// What live connections cost, how fast events reach them, and how fast one catches up.
    Streams,
    /// What PostgreSQL costs beside SQLite, and how much more several nodes get through.
    Cluster,
    /// What the RabbitMQ channel adds to its client library.
    Rabbitmq,
    /// What the SQS channel adds to its client library.
    Sqs,
    /// What the Pusher channel adds to signed requests.
    Pusher,
}

impl Scenario {
    pub(crate) const ALL: [Self; 11] = [
        Self::Path,
        Self::Steady,
        Self::Outage,
        Self::Start,
        Self::Growth,
        Self::Fanout,
        Self::Streams,
        Self::Cluster,
        Self::Rabbitmq,
        Self::Sqs,
        Self::Pusher,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Steady => "steady",
            Self::Outage => "outage",
            Self::Start => "start",
            Self::Growth => "growth",
            Self::Fanout => "fanout",
            Self::Streams => "streams",
            Self::Cluster => "cluster",
            Self::Rabbitmq => "rabbitmq",
            Self::Sqs => "sqs",
            Self::Pusher => "pusher",
        }
    }

    pub(crate) fn run(self, bench: &mut Bench) -> Result<(), Failure> {
        match self {
            Self::Path => path::run(bench),
            Self::Steady => steady::run(bench),
            Self::Outage => outage::run(bench),
            Self::Start => start::run(bench),
            Self::Growth => growth::run(bench),
            Self::Fanout => fanout::run(bench),
            Self::Streams => streams::run(bench),
            Self::Cluster => cluster::run(bench),
            Self::Rabbitmq => rabbitmq::run(bench),
            Self::Sqs => sqs::run(bench),
            Self::Pusher => pusher::run(bench),
        }
    }
}
