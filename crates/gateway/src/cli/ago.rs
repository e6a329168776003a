//! Times as people type them: RFC 3339, or how long ago.

use zapbus_event::Timestamp;

/// `2026-01-31T08:00:00Z`, or `90s`, `15m`, `2h`, `3d` ago.
pub(super) fn time(text: &str) -> Result<String, String> {
    time_at(text, crate::clock::system()())
}

fn time_at(text: &str, now: Timestamp) -> Result<String, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.to_string());
    }
    let expected = || {
        "expected a time such as 2026-01-31T08:00:00Z, or how long ago: 90s, 15m, 2h, 3d".to_owned()
    };
    let unit = match text.chars().next_back() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => return Err(expected()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    let ago = unit * i64::from(count);
    Ok(Timestamp::from_millis(now.as_millis().saturating_sub(ago)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_type_them() {
        let now: Timestamp = "2026-01-31T08:00:00Z".parse().unwrap();
        for (text, read) in [
            ("2026-01-30T08:00:00+02:00", Some("2026-01-30T06:00:00.000Z")),
            ("90s", Some("2026-01-31T07:58:30.000Z")),
            ("15m", Some("2026-01-31T07:45:00.000Z")),
            ("2h", Some("2026-01-31T06:00:00.000Z")),
            ("3d", Some("2026-01-28T08:00:00.000Z")),
            ("", None),
            ("m", None),
            ("-1h", None),
            ("yesterday", None),
            ("2é", None),
        ] {
            assert_eq!(time_at(text, now).ok().as_deref(), read, "{text}");
        }
    }
}
