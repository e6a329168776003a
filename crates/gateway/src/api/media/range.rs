//! `Range` (RFC 9110 §14): one range of bytes; several are answered with the whole.

/// A stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) from: u64,
    pub(super) length: u64,
}

/// What of a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// All of it.
    All,
    /// A stretch, not an empty one.
    Part(Part),
    /// Nothing that it has.
    Beyond,
}

impl Range {
    /// Reads the header of a request for a file of this length. What is no range of bytes is not
    /// looked at.
    pub(super) fn of(header: Option<&str>, length: u64) -> Self {
        let range = header.and_then(|text| text.trim().strip_prefix("bytes="));
        let Some((first, last)) = range.and_then(|text| text.trim().split_once('-')) else {
            return Self::All;
        };
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        let (from, end) = match (first, last) {
            ("", last) if digits(last) => (length.saturating_sub(number(last)), length),
            (first, "") if digits(first) => (number(first), length),
            (first, last) if digits(first) && digits(last) && number(first) <= number(last) => {
                (number(first), number(last).saturating_add(1).min(length))
            }
            _ => return Self::All,
        };
        if from >= end {
            return Self::Beyond;
        }
        Self::Part(Part { from, length: end - from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let part = |from, length| Range::Part(Part { from, length });
        for (header, range) in [
            ("bytes=0-4", part(0, 5)),
            ("bytes=5-", part(5, 5)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-30", part(0, 10)),
            ("bytes=9-99", part(9, 1)),
            ("bytes=0-99999999999999999999", part(0, 10)),
            ("bytes=10-", Range::Beyond),
            ("bytes=-0", Range::Beyond),
            ("bytes=99999999999999999999-", Range::Beyond),
            ("bytes=4-2", Range::All),
            ("bytes=0-1,3-4", Range::All),
            ("bytes=-", Range::All),
            ("bytes=+1-2", Range::All),
            ("items=0-1", Range::All),
            ("", Range::All),
        ] {
            assert_eq!(Range::of(Some(header), 10), range, "{header}");
        }
        assert_eq!(Range::of(None, 0), Range::All);
        assert_eq!(Range::of(Some("bytes=0-"), 0), Range::Beyond);
    }
}
