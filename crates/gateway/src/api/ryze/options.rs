//! What a client chooses of its events: which, and in which form.

use zapbus_event::dialect::{
    Options,
    ryze::{Choice, MessageContent, Name, Names},
};

use super::{
    Config,
    answer::Failure,
    body::{Members, expected},
};

/// The list `events` of a body, or of a part of it; an empty one means all.
pub(super) fn names_of(config: &Config, body: &Members, member: &str) -> Result<Names, Failure> {
    let given = body.list(member)?;
    let is_known = |name: &&str| Name::ALL.iter().any(|known| known.as_str() == *name);
    let unknown = given.iter().copied().find(|name| !is_known(name));
    let known: Vec<&str> = given.into_iter().filter(is_known).collect();
    match unknown {
        // Who asks for nothing but what nobody knows must not get everything.
        Some(unknown) if !config.lenient_events || known.is_empty() => {
            let unknown: String = unknown.chars().take(64).collect();
            Err(Failure::bad(format!("Invalid event: {unknown}")))
        }
        _ => Names::parse(&known).map_err(|error| Failure::bad(error.to_string())),
    }
}

/// The names as they were given; none if none were.
pub(super) fn listed(names: Names) -> Vec<&'static str> {
    if names == Names::ALL { Vec::new() } else { names.list() }
}

/// What goes beyond `RyzeAPI`. A client that knows nothing of it takes nothing back: what is left
/// out stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Own {
    blank_token: Option<bool>,
    extended_envelope: Option<bool>,
    content: Option<MessageContent>,
}

const BLANK_TOKEN: &str = "blankToken";
const EXTENDED_ENVELOPE: &str = "extendedEnvelope";
const CONTENT: &str = "messageContent";

impl Own {
    pub(super) fn of(body: &Members) -> Result<Self, Failure> {
        Ok(Self {
            blank_token: body.truth(BLANK_TOKEN)?,
            extended_envelope: body.truth(EXTENDED_ENVELOPE)?,
            content: match body.text(CONTENT)? {
                None => None,
                Some("text") => Some(MessageContent::Text),
                Some("object") => Some(MessageContent::Object),
                Some(_) => return Err(expected(CONTENT, "text or object")),
            },
        })
    }

    /// `choice` with what is said.
    pub(super) fn put_in(self, choice: Choice) -> Choice {
        Choice {
            blank_token: self.blank_token.unwrap_or(choice.blank_token),
            extended_envelope: self.extended_envelope.unwrap_or(choice.extended_envelope),
            content: self.content.unwrap_or(choice.content),
            ..choice
        }
    }

    /// Adds to an answer what is not as `RyzeAPI` has it.
    pub(super) fn show(choice: &Choice, answer: &mut serde_json::Value) {
        if choice.blank_token {
            answer[BLANK_TOKEN] = true.into();
        }
        if choice.extended_envelope {
            answer[EXTENDED_ENVELOPE] = true.into();
        }
        if choice.content != MessageContent::default() {
            answer[CONTENT] = "object".into();
        }
    }
}

/// How a live connection is written to.
pub(super) fn live(choice: Choice, inline_media: bool) -> Options {
    Options { ryze: choice, inline_media, live: true, ..Options::default() }
}
