//! Percentiles of measured times.

/// Times, sorted.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    pub(crate) fn from_micros(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        Self(micros)
    }

    /// All times of several measurements.
    pub(crate) fn merged<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        Self::from_micros(all.into_iter().flat_map(|one| one.0.iter().copied()).collect())
    }

    /// The time that this share of all does not exceed (nearest rank), in milliseconds; 1.0 is
    /// the longest.
    pub(crate) fn ms(&self, share: f64) -> f64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        let micros = self.0.get(rank.saturating_sub(1)).copied().unwrap_or(0);
        f64::from(micros) / 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = Latencies::from_micros((1..=1_000).rev().collect());
        assert_eq!([times.ms(0.5), times.ms(0.99), times.ms(1.0)], [0.5, 0.99, 1.0]);
        let more = Latencies::from_micros(vec![5_000]);
        assert_eq!(Latencies::merged([&times, &more]).ms(1.0), 5.0);
        assert_eq!(Latencies::default().ms(0.5), 0.0);
        assert_eq!(Latencies::from_micros(vec![7]).ms(0.01), 0.007);
    }
}
