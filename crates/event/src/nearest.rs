//! What somebody probably meant who wrote a name that is none.

/// No name is this long; distances on text of any length would be quadratic.
const LONGEST: usize = 64;

/// The start of what was given, as far as a message repeats it.
pub(crate) fn shortened(given: &str) -> String {
    given.chars().take(LONGEST).collect()
}

/// Up to three names that come closest to what was given, nearest first. Case and space around it
/// do not count.
pub(crate) fn nearest<N: AsRef<str> + Ord>(
    given: &str,
    names: impl IntoIterator<Item = N>,
) -> Vec<N> {
    let given = shortened(given.trim()).to_lowercase();
    let mut names: Vec<_> = names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&given, name.as_ref()), name))
        .collect();
    names.sort();
    names.into_iter().take(3).map(|(_, name)| name).collect()
}
