//! How long attempts took: a histogram fine enough for percentiles, small enough to keep by slot.

/// Exact below this many milliseconds; beyond, eight ranges for each doubling.
const EXACT: u32 = 16;
const PER_OCTAVE: u32 = 8;

/// Milliseconds, counted in ranges that are at most an eighth wide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies(Vec<(u8, u32)>);

impl Latencies {
    pub(crate) fn observe(&mut self, millis: u32) {
        self.count(range_of(millis), 1);
    }

    fn count(&mut self, range: u8, by: u32) {
        match self.0.binary_search_by_key(&range, |(range, _)| *range) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(by),
            Err(at) => self.0.insert(at, (range, by)),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (range, by) in &other.0 {
            self.count(*range, *by);
        }
    }

    /// The time in milliseconds within which `share` (0 to 1) of all attempts ended, an eighth too
    /// much at most; `None` when there were none.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let all: u64 = self.0.iter().map(|(_, count)| u64::from(*count)).sum();
        let wanted = ((all as f64 * share).ceil() as u64).clamp(1, all.max(1));
        let mut seen = 0;
        self.0.iter().find_map(|(range, count)| {
            seen += u64::from(*count);
            (seen >= wanted).then(|| end_of(*range))
        })
    }

    /// For the store.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let pair = |(range, count): &(u8, u32)| {
            let [a, b, c, d] = count.to_le_bytes();
            [*range, a, b, c, d]
        };
        self.0.iter().flat_map(pair).collect()
    }

    /// From the store; `None` when it is not what [`Self::to_bytes`] makes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (pairs, rest) = bytes.as_chunks::<5>();
        let found: Vec<(u8, u32)> = pairs
            .iter()
            .map(|[range, a, b, c, d]| (*range, u32::from_le_bytes([*a, *b, *c, *d])))
            .collect();
        (rest.is_empty() && found.is_sorted_by(|a, b| a.0 < b.0)).then_some(Self(found))
    }
}

fn range_of(millis: u32) -> u8 {
    if millis < EXACT {
        return millis as u8;
    }
    let octave = millis.ilog2();
    let eighth = (millis >> (octave - 3)) & (PER_OCTAVE - 1);
    // 28 octaves of eight at most: it fits.
    (EXACT + (octave - 4) * PER_OCTAVE + eighth) as u8
}

/// The greatest number of milliseconds in a range.
fn end_of(range: u8) -> u64 {
    let range = u64::from(range);
    let (exact, per_octave) = (u64::from(EXACT), u64::from(PER_OCTAVE));
    if range < exact {
        return range;
    }
    let octave = (range - exact) / per_octave + 4;
    let eighth = (range - exact) % per_octave;
    ((per_octave + eighth + 1) << (octave - 3)) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_holds_its_values_and_is_an_eighth_wide(millis: u32) {
            let end = end_of(range_of(millis));
            let millis = u64::from(millis);
            prop_assert!(end >= millis && end - millis <= millis / 8, "{millis} in {end}");
        }

        #[test]
        fn quantiles_are_those_of_the_values(values in prop::collection::vec(0_u32..100_000, 1..300)) {
            let mut counted = Latencies::default();
            values.iter().for_each(|millis| counted.observe(*millis));
            let mut sorted = values.clone();
            sorted.sort_unstable();
            for share in [0.5, 0.99, 1.0] {
                let rank = ((sorted.len() as f64 * share).ceil() as usize).max(1);
                let exact = u64::from(sorted[rank - 1]);
                let found = counted.quantile(share).unwrap();
                prop_assert!(found >= exact && found - exact <= exact / 8);
            }
            prop_assert_eq!(Latencies::from_bytes(&counted.to_bytes()), Some(counted));
        }

        #[test]
        fn bytes_that_are_none_of_ours_are_noticed_or_read(bytes: Vec<u8>) {
            if let Some(read) = Latencies::from_bytes(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
                let _ = read.quantile(0.99);
            }
        }
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Latencies::default().quantile(0.5), None);
    }
}
