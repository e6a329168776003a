//! The right to send, which may end while a message is on its way out.

use std::{fmt, sync::Arc};

/// Whether a message may still be sent. A channel asks immediately before each time it begins to
/// write one to a connection: between the decision to send and that moment a connection may have
/// to be made, and a process may have been frozen.
#[derive(Clone)]
pub struct Warrant {
    holds: Arc<dyn Fn() -> bool + Send + Sync>,
    /// What a receiver of a test is shown of it (`zapbus-test-lease`).
    #[cfg(debug_assertions)]
    shown: Option<Arc<str>>,
}

impl Warrant {
    /// A right that lasts as long as `holds` says so.
    pub fn new(holds: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            holds: Arc::new(holds),
            #[cfg(debug_assertions)]
            shown: None,
        }
    }

    /// The same right, named to the receiver. Only in debug builds.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn shown_as(self, text: impl Into<Arc<str>>) -> Self {
        Self { shown: Some(text.into()), ..self }
    }

    /// Whether it holds at this moment.
    pub fn holds(&self) -> bool {
        (self.holds)()
    }

    /// What the receiver is shown: the name of the right, and the time (microseconds since 1970).
    /// Processes on one machine share it, so a test can tell who looked at their right when.
    #[cfg(debug_assertions)]
    pub(crate) fn shown_now(&self) -> Option<String> {
        let name = self.shown.as_deref()?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Some(format!("{name}/{}", now.unwrap_or_default().as_micros()))
    }
}

impl fmt::Debug for Warrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warrant").field("holds", &self.holds()).finish_non_exhaustive()
    }
}
