//! Keys of Go structs in snake case, by the two replacements that VZaps's own keys come from.
//!
//! First `(.)([A-Z][a-z]+)` becomes `$1_$2`, then `([a-z0-9])([A-Z])` becomes `$1_$2`, then all is
//! lowered. That is why `MessageIDs` is `message_i_ds` on its wire.

use serde_json::{Map, Value};

/// A key in snake case.
pub(super) fn snake(key: &str) -> String {
    let mut letters = before_words(&key.chars().collect::<Vec<_>>());
    letters = before_capitals(&letters);
    letters.into_iter().flat_map(char::to_lowercase).collect()
}

/// The first replacement.
fn before_words(letters: &[char]) -> Vec<char> {
    let mut out = Vec::with_capacity(letters.len() + 4);
    let mut rest = letters;
    while let [first, others @ ..] = rest {
        out.push(*first);
        let lower = match others {
            [capital, tail @ ..] if capital.is_ascii_uppercase() => {
                tail.iter().take_while(|letter| letter.is_ascii_lowercase()).count()
            }
            _ => 0,
        };
        if lower == 0 {
            rest = others;
            continue;
        }
        let (word, tail) = others.split_at(lower + 1);
        out.push('_');
        out.extend_from_slice(word);
        rest = tail;
    }
    out
}

/// The second replacement.
fn before_capitals(letters: &[char]) -> Vec<char> {
    let mut out = Vec::with_capacity(letters.len() + 4);
    let mut rest = letters;
    while let [first, others @ ..] = rest {
        out.push(*first);
        rest = others;
        if let [capital, tail @ ..] = others
            && (first.is_ascii_lowercase() || first.is_ascii_digit())
            && capital.is_ascii_uppercase()
        {
            out.extend(['_', *capital]);
            rest = tail;
        }
    }
    out
}

/// The same value with every key in snake case.
pub(super) fn snaked(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(key, value)| (snake(&key), snaked(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.into_iter().map(snaked).collect(),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_seen_on_the_wire() {
        for (key, expected) in [
            ("MessageIDs", "message_i_ds"),
            ("IsFromMe", "is_from_me"),
            ("fileEncSHA256", "file_enc_sha256"),
            ("fileSHA256", "file_sha256"),
            ("ServerID", "server_id"),
            ("imageMessage", "image_message"),
            ("URL", "url"),
            ("directPath", "direct_path"),
            ("SenderAlt", "sender_alt"),
            ("conversation", "conversation"),
            ("stanzaID", "stanza_id"),
            ("JPEGThumbnail", "jpeg_thumbnail"),
            ("ID", "id"),
            ("", ""),
        ] {
            assert_eq!(snake(key), expected, "{key}");
        }
    }
}
