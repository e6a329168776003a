//! The store's own counters, read when somebody scrapes.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use zapbus_store::{Histogram, Metrics};

/// Exports [`Metrics`].
pub(super) struct StoreCollector {
    metrics: Arc<Metrics>,
}

impl StoreCollector {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics }
    }
}

impl std::fmt::Debug for StoreCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreCollector").finish_non_exhaustive()
    }
}

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let metrics = &*self.metrics;
        for (name, help, count) in [
            ("store_events", "Events written to the journal", &metrics.events),
            ("store_duplicates", "Events that were known already", &metrics.duplicates),
            ("store_busy", "Appends refused because the queue was full", &metrics.busy),
            ("store_commits", "Commits", &metrics.commits),
            ("store_failed_commits", "Commits that failed", &metrics.failed_commits),
            ("store_rows", "Delivery rows written", &metrics.rows),
            ("store_settlements", "Settlements written", &metrics.settlements),
            ("store_tail_hits", "Reads answered from memory", &metrics.tail_hits),
            ("store_tail_misses", "Reads that went to the database", &metrics.tail_misses),
            ("store_pruned_events", "Events pruned", &metrics.pruned_events),
            ("store_pruned_rows", "Delivery rows pruned", &metrics.pruned_rows),
            ("store_gaps", "Lanes that lost events to pruning", &metrics.gaps),
            ("store_checkpoints", "Checkpoints", &metrics.checkpoints),
        ] {
            let counter = ConstCounter::new(count.get());
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        for (name, help, count) in [
            ("store_queue", "Appends that wait to be written", &metrics.queue_bytes),
            ("store_tail", "Newest events kept in memory", &metrics.tail_bytes),
            ("store_dedup", "Memory used to recognise repeated events", &metrics.dedup_bytes),
        ] {
            let value = i64::try_from(count.get()).unwrap_or(i64::MAX);
            let gauge = ConstGauge::new(value);
            let metric =
                encoder.encode_descriptor(name, help, Some(&Unit::Bytes), gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        encode_histogram(
            &mut encoder,
            "store_commit_seconds",
            "Seconds from the start of a transaction to the end of its disk sync",
            &metrics.commit_us,
            1e-6,
        )?;
        encode_histogram(
            &mut encoder,
            "store_commit_events",
            "Events per commit",
            &metrics.commit_events,
            1.0,
        )
    }
}

fn encode_histogram<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    histogram: &Histogram<N>,
    unit: f64,
) -> Result<(), std::fmt::Error> {
    let mut buckets: Vec<(f64, u64)> =
        histogram.buckets().map(|(bound, count)| (bound as f64 * unit, count)).collect();
    let (count, sum) = histogram.total();
    let counted: u64 = buckets.iter().map(|(_, count)| count).sum();
    buckets.push((f64::INFINITY, count.saturating_sub(counted)));
    encoder
        .encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(sum as f64 * unit, count, &buckets, None)
}
