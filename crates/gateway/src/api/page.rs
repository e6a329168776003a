//! Lists come in pages: `{"data": […], "next": …}`, where `next` is what `after` takes.

use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiError, Fault};

/// Entries of a page when the caller does not say.
pub const DEFAULT_LIMIT: usize = 100;

/// Entries of a page at most.
pub const MAX_LIMIT: usize = 1_000;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    /// The entries.
    pub data: Vec<T>,
    /// Give it as `after` to get the next page; `null` on the last one. Opaque.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A page made of one entry more than `limit` was asked for, so that the end is known.
    pub fn cut(mut entries: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Self {
        let next = if entries.len() > limit {
            entries.truncate(limit);
            entries.last().map(cursor)
        } else {
            None
        };
        Self { data: entries, next }
    }

    /// The same page of something else.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page { data: self.data.into_iter().map(convert).collect(), next: self.next }
    }
}

/// How many entries the caller wants.
pub fn limit(limit: Option<u32>) -> Result<usize, ApiError> {
    match limit.map(|limit| limit as usize) {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(_) => {
            Err(ApiError::query("limit", format!("expected a number from 1 to {MAX_LIMIT}")))
        }
    }
}

/// Where the page starts, for lists whose cursor is an id.
pub fn after<T: std::str::FromStr>(after: Option<&str>) -> Result<Option<T>, ApiError> {
    after
        .map(|text| {
            text.parse().map_err(|_| {
                ApiError::InvalidQuery(vec![Fault::new(
                    "after",
                    "expected the `next` of an earlier page of this list",
                )])
            })
        })
        .transpose()
}
