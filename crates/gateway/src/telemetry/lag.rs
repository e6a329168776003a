//! The latest picture of all lanes, as series.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, gauge::ConstGauge},
};
use zapbus_event::{DestinationId, Position};
use zapbus_store::Holdings;

use super::HealthLabels;

/// How far one destination is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Which.
    pub destination: DestinationId,
    /// `flowing`, `probing` or `stopped`.
    pub standing: &'static str,
    /// Since when its oldest unsettled event waits.
    pub age: Duration,
    /// Events that wait, before its filter.
    pub events: u64,
}

/// What was found when lanes were last looked at.
#[derive(Debug, Default)]
pub struct Picture {
    /// Destinations by how they stand.
    pub lanes: [(&'static str, u64); 3],
    /// Lanes with something to do.
    pub awake: u64,
    /// The destinations that are furthest behind, worst first.
    pub lags: Vec<Lag>,
    /// Bytes of events that lanes have read and not sent.
    pub read_ahead_bytes: u64,
    /// Connections to receivers: open, and of these idle.
    pub outbound: (usize, usize),
    /// What the store holds.
    pub holdings: Holdings,
    /// The newest position; where there are several shards, the sum of theirs.
    pub head: Position,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationLabels {
    destination: String,
    health: &'static str,
}

impl From<&Lag> for DestinationLabels {
    fn from(lag: &Lag) -> Self {
        Self { destination: lag.destination.to_string(), health: lag.standing }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

/// Where the latest picture hangs.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(Arc<Mutex<Option<Picture>>>);

impl Board {
    pub(super) fn hang(&self, picture: Picture) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(picture);
    }

    /// The age that is worst of all; `None` before the first look.
    pub(super) fn worst(&self) -> Option<Duration> {
        let picture = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let picture = picture.as_ref()?;
        Some(picture.lags.iter().map(|lag| lag.age).max().unwrap_or_default())
    }
}

impl Collector for Board {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let picture = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(picture) = picture.as_ref() else { return Ok(()) };
        let mut lanes = family(&mut encoder, "lanes", "Destinations by health")?;
        for (health, count) in picture.lanes {
            put(&mut lanes, &HealthLabels { health }, count as f64)?;
        }
        let of =
            |health: &'static str| picture.lags.iter().filter(move |lag| lag.standing == health);
        let mut ages = family(
            &mut encoder,
            "lag_seconds",
            "Age of the oldest unsettled event of all destinations, by their health",
        )?;
        for (health, _) in picture.lanes {
            let age = of(health).map(|lag| lag.age).max().unwrap_or_default();
            put(&mut ages, &HealthLabels { health }, age.as_secs_f64())?;
        }
        let mut events = family(
            &mut encoder,
            "lag_events",
            "Events waiting for the destinations that are furthest behind, by health",
        )?;
        for (health, _) in picture.lanes {
            let waiting: u64 = of(health).map(|lag| lag.events).sum();
            put(&mut events, &HealthLabels { health }, waiting as f64)?;
        }
        if !picture.lags.is_empty() {
            let mut ages = family(
                &mut encoder,
                "destination_lag_seconds",
                "Age of the oldest unsettled event of a destination (those furthest behind)",
            )?;
            for lag in &picture.lags {
                put(&mut ages, &DestinationLabels::from(lag), lag.age.as_secs_f64())?;
            }
            let mut events = family(
                &mut encoder,
                "destination_lag_events",
                "Events waiting for a destination, before its filter (those furthest behind)",
            )?;
            for lag in &picture.lags {
                put(&mut events, &DestinationLabels::from(lag), lag.events as f64)?;
            }
        }
        let (open, idle) = picture.outbound;
        let mut outbound =
            family(&mut encoder, "outbound_connections", "Open connections to receivers")?;
        for (state, count) in [("busy", open.saturating_sub(idle)), ("idle", idle)] {
            put(&mut outbound, &StateLabels { state }, count as f64)?;
        }
        for (name, help, value) in [
            ("lanes_awake", "Destinations with something to do", picture.awake as f64),
            (
                "read_ahead_bytes",
                "Memory reserved for events read and not sent yet",
                picture.read_ahead_bytes as f64,
            ),
            (
                "held_deliveries",
                "Deliveries that wait for a retry or for their turn, up to 100000",
                picture.holdings.held as f64,
            ),
            (
                "dead_deliveries",
                "Dead letters in the log, up to 100000",
                picture.holdings.dead as f64,
            ),
            ("store_head_position", "The newest position of the journal", picture.head.0 as f64),
            (
                "store_oldest_event_timestamp_seconds",
                "When the oldest stored event was accepted; 0 when there is none",
                picture.holdings.oldest_event.map_or(0.0, |at| at.as_millis() as f64 / 1_000.0),
            ),
        ] {
            single(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}

fn family<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
) -> Result<MetricEncoder<'a>, std::fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)
}

fn put<L: EncodeLabelSet>(
    family: &mut MetricEncoder<'_>,
    labels: &L,
    value: f64,
) -> Result<(), std::fmt::Error> {
    ConstGauge::new(value).encode(family.encode_family(labels)?)
}

/// A gauge without labels.
pub(super) fn single(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> Result<(), std::fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}
