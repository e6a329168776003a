//! How deep JSON is nested.

/// The deepest nesting accepted from outside: what JSON readers commonly manage.
pub(crate) const MAX: usize = 128;

/// Whether valid JSON is nested at most [`MAX`] deep.
pub(crate) fn is_bounded(json: &[u8]) -> bool {
    // What opens at most so often is not deeper. Counting is a fraction of the work below.
    if json.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= MAX {
        return true;
    }
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX {
                    return false;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}
