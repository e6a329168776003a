//! Lists that may be long: a part of them, unless all of it is asked for.

use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::{
    Failure,
    client::{Call, Connection},
};

/// Rows that are asked for in one call.
const PAGE: usize = 1_000;

/// How much of a list, and from where on.
#[derive(Debug, Args)]
pub(super) struct Listing {
    /// How many at most; 0 for all.
    #[arg(long, default_value_t = 100, value_name = "COUNT")]
    limit: usize,
    /// Go on where an earlier page ended, which said so.
    #[arg(long, value_name = "NEXT")]
    pub(super) after: Option<String>,
}

/// What a list is shown as.
pub(super) struct Shape {
    pub(super) columns: &'static [&'static str],
    /// What a page says besides its rows, for people.
    pub(super) remark: fn(&Value) -> Option<String>,
    /// Makes a row fit on a screen.
    pub(super) shorten: fn(&mut Value),
}

impl Shape {
    /// A table with these columns.
    pub(super) const fn table(columns: &'static [&'static str]) -> Self {
        Self { columns, remark: |_| None, shorten: |_| {} }
    }
}

impl Listing {
    /// Shows that part of a list.
    pub(super) fn show(
        self,
        to: &Connection,
        call: impl Fn() -> Call,
        shape: &Shape,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let limit = if self.limit == 0 { usize::MAX } else { self.limit };
        let (mut found, mut shown, mut after) = (Vec::new(), 0, self.after);
        let next = loop {
            let mut call = call().query("limit", (limit - shown).min(PAGE).to_string());
            if let Some(after) = after {
                call = call.query("after", after);
            }
            let mut page = to.ask(call)?;
            if let Some(remark) = (shape.remark)(&page) {
                writeln!(err, "{remark}")?;
            }
            let Value::Array(rows) = page["data"].take() else { break None };
            shown += rows.len();
            if to.wants_lines() {
                to.lines(&rows, out)?;
            } else {
                found.extend(rows);
            }
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() || shown >= limit {
                break after;
            }
        };
        if !to.wants_json() {
            found.iter_mut().for_each(shape.shorten);
        }
        if !to.wants_lines() {
            to.rows(found, shape.columns, out)?;
        }
        if let Some(next) = next {
            writeln!(err, "There are more: --after {next}, or --limit 0 for all.")?;
        }
        Ok(())
    }
}
