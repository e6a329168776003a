//! What a node knows of the cluster it is in, read when somebody scrapes. On SQLite it is all there
//! is of one.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use zapbus_store::Store;

/// Exports leases and connections.
pub(super) struct ClusterCollector {
    store: Store,
}

impl ClusterCollector {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }
}

impl std::fmt::Debug for ClusterCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterCollector").finish_non_exhaustive()
    }
}

impl Collector for ClusterCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let metrics = self.store.metrics();
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let held = if self.store.is_on_server() { metrics.shards_held.get() } else { 1 };
        let (in_use, most) = self.store.connections().unwrap_or_default();
        for (name, help, value) in [
            ("cluster_nodes", "Nodes heard of lately, this one too", number(self.store.nodes())),
            ("cluster_shards_held", "Shards whose lanes this node runs", number(held)),
            ("cluster_shards", "Shards of the journal", i64::from(self.store.shards())),
            ("store_connections_used", "Connections to the database in use", in_use as i64),
            ("store_connections_max", "Connections to the database at most", most as i64),
        ] {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        for (name, help, count) in [
            ("lease_renewals", "Leases of shards renewed", &metrics.lease_renewals),
            ("lease_takeovers", "Shards taken that nobody had", &metrics.lease_takeovers),
            (
                "lease_losses",
                "Shards found in other hands without having been given away",
                &metrics.lease_losses,
            ),
        ] {
            let counter = ConstCounter::new(count.get());
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}
