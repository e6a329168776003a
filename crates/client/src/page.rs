//! Lists that come in pages.

use futures_core::Stream;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{Client, Error, transport::Call};

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Page<T> {
    /// What is on it.
    pub data: Vec<T>,
    /// Where the next one begins; `None` after the last.
    #[serde(default)]
    pub next: Option<String>,
}

/// A list: page by page, or as a stream of what is on them.
#[derive(Debug, Clone)]
#[must_use = "nothing is asked before a page is"]
pub struct Pages<T> {
    client: Client,
    call: Call,
    /// `None` after the last page.
    after: Option<Option<String>>,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Pages<T> {
    pub(crate) fn new(client: Client, call: Call) -> Self {
        let after = Some(None);
        Self { client, call, after, kind: std::marker::PhantomData }
    }

    /// How many are on a page, 1 to 1000 where not said otherwise.
    pub fn limit(mut self, limit: u32) -> Self {
        self.call = self.call.query("limit", Some(limit));
        self
    }

    /// Begins after this: what an earlier page gave as `next`; of events also an id, a position or a
    /// time.
    pub fn after(mut self, place: impl Into<String>) -> Self {
        self.after = Some(Some(place.into()));
        self
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached. The same page may be asked for
    /// again.
    pub async fn next_page(&mut self) -> Result<Option<Page<T>>, Error> {
        let Some(after) = self.after.clone() else { return Ok(None) };
        let call = match after {
            Some(after) => self.call.clone().query("after", Some(after)),
            None => self.call.clone(),
        };
        let page: Page<T> = self.client.call(call).await?;
        self.after = page.next.clone().map(Some);
        Ok(Some(page))
    }

    /// Everything on this page and the next ones, as it is asked for.
    pub fn stream(self) -> impl Stream<Item = Result<T, Error>> + Send
    where
        T: Send,
    {
        let state = (self, Vec::new().into_iter(), false);
        futures_util::stream::unfold(state, |(mut pages, mut rows, failed)| async move {
            if failed {
                return None;
            }
            loop {
                if let Some(row) = rows.next() {
                    return Some((Ok(row), (pages, rows, false)));
                }
                match pages.next_page().await {
                    Ok(Some(page)) => rows = page.data.into_iter(),
                    Ok(None) => return None,
                    Err(error) => return Some((Err(error), (pages, rows, true))),
                }
            }
        })
    }

    /// Everything on this page and the next ones.
    ///
    /// # Errors
    ///
    /// As for [`next_page`](Self::next_page).
    pub async fn all(mut self) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await? {
            all.extend(page.data);
        }
        Ok(all)
    }
}
