//! Names that are made of an event: `{instance}.{event}`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use crate::{Message, fault::nearest};

/// What may stand in braces.
const PLACEHOLDERS: [&str; 3] = ["instance", "event", "event_words"];

/// A text with places for what differs from event to event:
///
/// - `{instance}`: the name of the event's instance
/// - `{event}`: the event's name in the destination's dialect
/// - `{event_words}`: the same in lower case, with `_` for whatever is neither letter nor digit
///
/// A brace that is meant is doubled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Instance,
    Event,
    EventWords,
}

/// A template that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner.
    #[error("has a single brace; write {{{{ or }}}} for one that is meant")]
    Brace,
    /// A name in braces that means nothing.
    #[error(
        "has an unknown placeholder {{{name}}}; expected {{instance}}, {{event}} or {{event_words}}{hint}"
    )]
    Unknown {
        /// What stands in the braces.
        name: String,
        /// Which one was meant, if that can be guessed.
        hint: String,
    },
}

impl Template {
    /// The text it was read from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether there is nothing in it at all.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The name for a message.
    pub fn render(&self, message: &Message) -> String {
        let mut name = String::with_capacity(self.text.len() + 32);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Instance => name.push_str(&message.instance_name),
                Piece::Event => name.push_str(&message.event_name),
                Piece::EventWords => name.extend(message.event_name.chars().map(|letter| {
                    if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' }
                })),
            }
        }
        name
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            let after = &rest[at + 1..];
            if let Some(doubled) = after.strip_prefix(brace) {
                plain.push_str(brace);
                rest = doubled;
                continue;
            }
            let end = after.find('}').filter(|_| brace == "{").ok_or(TemplateError::Brace)?;
            let name = &after[..end];
            let piece = match name {
                "instance" => Piece::Instance,
                "event" => Piece::Event,
                "event_words" => Piece::EventWords,
                _ => {
                    let hint = nearest(name, PLACEHOLDERS)
                        .map_or_else(String::new, |name| format!("; did you mean {{{name}}}?"));
                    return Err(TemplateError::Unknown { name: name.to_owned(), hint });
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
            rest = &after[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A name as a peer takes it: what does not fit becomes `_`, and what is too long is cut and gets
/// eight digits of its own hash, so that different names stay different.
pub(crate) fn fitted(name: &str, fits: impl Fn(char) -> bool, limit: usize) -> String {
    const DIGITS: usize = 8;
    let mut fitted: String =
        name.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect();
    if fitted.len() > limit {
        let mut end = limit.saturating_sub(DIGITS);
        while !fitted.is_char_boundary(end) {
            end -= 1;
        }
        fitted.truncate(end);
        let hash = hex::encode(Sha256::digest(name.as_bytes()));
        fitted.push_str(&hash[..DIGITS]);
    }
    fitted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::message;

    #[test]
    fn names_are_made_of_the_event() {
        let table = [
            ("{instance}.{event}", "shop.messages.upsert-X"),
            ("{instance}_{event_words}.fifo", "shop_messages_upsert_x.fifo"),
            ("zapbus", "zapbus"),
            ("", ""),
            ("{{{instance}}}", "{shop}"),
            ("a}}b", "a}b"),
        ];
        let mut message = message("shop");
        message.event_name = "messages.upsert-X".to_owned();
        for (text, expected) in table {
            let template: Template = text.parse().unwrap();
            assert_eq!(template.render(&message), expected, "{text}");
            assert_eq!(template.as_str(), text);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let table = [
            ("{instanze}", "did you mean {instance}?"),
            ("{}", "unknown placeholder {}"),
            ("{event", "single brace"),
            ("event}", "single brace"),
            ("{{event}", "single brace"),
        ];
        for (text, part) in table {
            let error = text.parse::<Template>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn names_are_fitted() {
        let fits = |letter: char| letter.is_ascii_alphanumeric();
        assert_eq!(fitted("Loja São Paulo", fits, 80), "Loja_S_o_Paulo");
        let (one, other) = ("a".repeat(81), "a".repeat(82));
        let (one, other) = (fitted(&one, fits, 80), fitted(&other, fits, 80));
        assert_eq!((one.len(), other.len()), (80, 80));
        assert_eq!(one[..72], other[..72]);
        assert_ne!(one, other);
        assert_eq!(fitted(&"é".repeat(20), |_| true, 21).len(), 20);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z{}é]{0,12}") {
            if let Ok(template) = text.parse::<Template>() {
                template.render(&message("shop"));
            }
        }

        #[test]
        fn doubled_braces_are_themselves(text in "[a-z{}]{0,12}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            let template: Template = doubled.parse().unwrap();
            prop_assert_eq!(template.render(&message("shop")), text);
        }
    }
}
