//! The two forms of `/metrics`: OpenMetrics, and the older text that every scraper reads.

use std::fmt::Write as _;

/// The content type of OpenMetrics.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The content type of the older form.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// OpenMetrics in the older form: there the `_total` of a counter is part of its name, and there
/// are no units and no end mark.
pub fn to_plain(openmetrics: &str) -> String {
    let mut plain = String::with_capacity(openmetrics.len() + 1_024);
    // A family's help comes before its type is known.
    let mut help: Option<(&str, &str)> = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else { continue };
            let total = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take().filter(|(helped, _)| *helped == name) {
                // Writing to a String cannot fail.
                let _ = writeln!(plain, "# HELP {name}{total} {text}");
            }
            let _ = writeln!(plain, "# TYPE {name}{total} {kind}");
        } else if !line.starts_with('#') {
            plain.push_str(line);
            plain.push('\n');
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_get_their_full_name() {
        let open = "# HELP a Things.\n# TYPE a counter\n# UNIT a x\na_total{b=\"c d\"} 1\n\
                    # HELP g Now.\n# TYPE g gauge\ng 2\n# EOF\n";
        assert_eq!(
            to_plain(open),
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{b=\"c d\"} 1\n\
             # HELP g Now.\n# TYPE g gauge\ng 2\n"
        );
    }
}
