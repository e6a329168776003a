//! What text from outside may be stored in an indexed place: databases refuse a NUL in text, and
//! an index entry has a size.

/// The longest id, key and partition that a caller may give, in characters.
pub(crate) const MAX_KEY: usize = 256;

/// The longest facet, in characters.
pub(crate) const MAX_FACET: usize = 64;

/// The longest key that a decoder puts together, in bytes.
const MAX_COMPOSED: usize = 2048;

/// Whether a caller's id, key or partition is fit.
pub(crate) fn is_key(text: &str) -> bool {
    !text.is_empty() && is_short(text, MAX_KEY) && !text.contains(char::is_control)
}

/// Whether a value is fit for the facet of a type whose set is open.
pub(crate) fn is_facet(text: &str) -> bool {
    !text.is_empty()
        && is_short(text, MAX_FACET)
        && !text.contains(|c: char| c.is_control() || c.is_whitespace())
}

/// Whether a key that a decoder put together of an upstream's ids is fit.
pub(crate) fn is_composed(text: &str) -> bool {
    text.len() <= MAX_COMPOSED && !text.contains(char::is_control)
}

/// An upstream's name for something, as far as it is one.
pub(crate) fn name(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_KEY).collect()
}

fn is_short(text: &str, most: usize) -> bool {
    text.chars().nth(most).is_none()
}
