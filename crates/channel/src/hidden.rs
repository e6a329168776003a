//! Text that must not be shown.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What stands in the place of a hidden text.
pub const MASK: &str = "***";

/// A text that is stored and sent, but not shown: `Debug` prints [`MASK`].
///
/// It serialises as itself, since a stored config must read back; configs are masked before
/// they are shown, see [`crate::Config::masked`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl Hidden {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The mask instead of the text.
    pub(crate) fn mask() -> Self {
        Self(MASK.to_owned())
    }

    /// Whether somebody sent back what was shown to them.
    pub(crate) fn is_mask(&self) -> bool {
        self.0 == MASK
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}
