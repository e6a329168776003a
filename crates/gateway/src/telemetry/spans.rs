//! What became of spans, as series.

use std::sync::{Arc, atomic::Ordering};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};

use crate::traces::Counts;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SpanLabels {
    result: &'static str,
}

/// Exports [`Counts`].
#[derive(Debug)]
pub(super) struct Spans(pub(super) Arc<Counts>);

impl Collector for Spans {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Spans of traces, by what became of them";
        let mut family =
            encoder.encode_descriptor("trace_spans", help, None, MetricType::Counter)?;
        for (result, count) in [("exported", &self.0.exported), ("dropped", &self.0.dropped)] {
            let counter = ConstCounter::new(count.load(Ordering::Relaxed));
            counter.encode(family.encode_family(&SpanLabels { result })?)?;
        }
        Ok(())
    }
}
