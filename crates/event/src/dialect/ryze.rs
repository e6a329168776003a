//! `RyzeAPI`: the bodies that its webhooks and sockets carry.
//!
//! Its documentation and what runs live disagree on where members of `message.exchange` stand, so
//! both places are filled. The one that cannot be both, `message.content`, is an option.

mod events;
mod message;
mod names;

pub use names::{Name, NameError, Names};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};

use super::{Fallback, Part, RenderError, native};
use crate::{Data, Event, Timestamp, shape::Address, shape::AddressKind};

/// What is known beside the event.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The name of the event's instance.
    pub instance_name: &'a str,
    /// Where this server is reached.
    pub base_url: &'a str,
    /// The instance's token, which consumers of several instances tell them apart by.
    pub token: &'a str,
}

/// The shape of `message.content`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageContent {
    /// The text itself: what runs live.
    #[default]
    Text,
    /// An object with `text`: what the documentation says.
    Object,
}

/// What a destination or subscription asks of its rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// The names it subscribes to.
    pub names: Names,
    /// What becomes of an event for which there is no name.
    pub fallback: Fallback,
    /// Add the upstream's element, where the native envelope is sent.
    pub include_raw: bool,
    /// The shape of `message.content`.
    pub content: MessageContent,
    /// Leave the instance's token empty.
    pub blank_token: bool,
    /// Put a file that is there into the message.
    pub media_base64: bool,
    /// Add the event's id and time to the envelope.
    pub extended_envelope: bool,
}

/// What only this dialect lets a destination or subscription choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Choice {
    /// The names it subscribes to.
    pub names: Names,
    /// The shape of `message.content`.
    pub content: MessageContent,
    /// Leave the instance's token empty.
    pub blank_token: bool,
    /// Add the event's id and time to the envelope.
    pub extended_envelope: bool,
}

impl<'a> From<&super::Context<'a>> for Context<'a> {
    fn from(context: &super::Context<'a>) -> Self {
        Self {
            instance_name: context.instance_name,
            base_url: context.server_url,
            token: context.instance_token,
        }
    }
}

impl From<&super::Options> for Options {
    fn from(options: &super::Options) -> Self {
        let Choice { names, content, blank_token, extended_envelope } = options.ryze;
        Self {
            names,
            fallback: options.fallback,
            include_raw: options.include_raw,
            content,
            blank_token,
            media_base64: options.inline_media,
            extended_envelope,
        }
    }
}

/// Writes an event as the messages to send, in order; none when there is no name for it and the
/// options say to skip it, or when its name is not subscribed to. Several changes of a group in
/// one event are one message each.
///
/// # Errors
/// Only when the stored payload is not what its type demands.
pub fn encode(
    event: &Event,
    context: &Context<'_>,
    options: &Options,
) -> Result<Vec<Part>, RenderError> {
    let failed = |message: String| RenderError { event: event.id.to_string(), message };
    let data = Data::parse(event.kind, &event.data).map_err(|error| failed(error.to_string()))?;
    let scene = Scene { event, context, options };
    let told = told(&scene, &data);
    let mut parts: Vec<Part> = told
        .iter()
        .filter(|(name, _)| options.names.contains(*name))
        .map(|(name, data)| part(&scene, name.as_str(), data))
        .collect();
    if told.is_empty() {
        let (name, data) = match options.fallback {
            Fallback::Skip => return Ok(parts),
            // Its own name is a documented one, for another shape.
            Fallback::Extended if Name::find(event.kind.as_str()).is_some() => return Ok(parts),
            Fallback::Extended => (event.kind.as_str(), event.data.to_vec()),
            Fallback::Native => {
                let instance_name = context.instance_name;
                let context = super::Context { instance_name, ..super::Context::default() };
                let include_raw = options.include_raw;
                let options = super::Options { include_raw, ..super::Options::default() };
                (names::NATIVE, native::envelope(event, &context, &options))
            }
        };
        if options.names.want(name) {
            let data: &RawValue =
                serde_json::from_slice(&data).map_err(|error| failed(error.to_string()))?;
            parts.push(part(&scene, name, data));
        }
    }
    Ok(parts)
}

/// What all renderings of one event look at.
struct Scene<'a> {
    event: &'a Event,
    context: &'a Context<'a>,
    options: &'a Options,
}

impl Scene<'_> {
    fn timestamp(&self) -> Value {
        self.event.occurred_at.to_string().into()
    }
}

type Told = (Name, Map<String, Value>);

fn told(scene: &Scene<'_>, data: &Data) -> Vec<Told> {
    let named = |name: Name| move |data: Map<String, Value>| (name, data);
    match data {
        Data::MessageReceived(_)
        | Data::MessageSent(_)
        | Data::MessageEdited(_)
        | Data::MessageDeleted(_)
        | Data::MessageReaction(_)
        | Data::MessageVote(_) => {
            message::exchange(scene, data).map(named(Name::MessageExchange)).into_iter().collect()
        }
        Data::MessageStatus(status) => {
            message::status(scene, status).map(named(Name::MessageStatus)).into_iter().collect()
        }
        Data::CallUpdated(call) => {
            events::call(scene, call).map(named(Name::CallUpdate)).into_iter().collect()
        }
        Data::GroupUpdated(group) => {
            events::group_changes(scene, group).into_iter().map(named(Name::GroupFlow)).collect()
        }
        Data::GroupParticipants(members) => {
            vec![named(Name::GroupFlow)(events::participants(scene, members))]
        }
        Data::GroupLifecycle(group) => {
            events::group_lifecycle(scene, group).map(named(Name::GroupFlow)).into_iter().collect()
        }
        Data::LabelUpdated(label) => {
            vec![named(Name::LabelUpdate)(events::label(scene, label))]
        }
        Data::LabelAssociation(label) => {
            vec![named(Name::LabelUpdate)(events::label_association(scene, label))]
        }
        _ => events::instance(scene, data).map(named(Name::InstanceState)).into_iter().collect(),
    }
}

/// `{event, data, instanceData{baseUrl, instance, token}}`, in this order.
fn part<T: Serialize + ?Sized>(scene: &Scene<'_>, name: &str, data: &T) -> Part {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Envelope<'a, T: ?Sized> {
        event: &'a str,
        data: &'a T,
        instance_data: InstanceData<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        timestamp: Option<Timestamp>,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct InstanceData<'a> {
        base_url: &'a str,
        instance: &'a str,
        token: &'a str,
    }

    let Scene { event, context, options } = scene;
    let envelope = Envelope {
        event: name,
        data,
        instance_data: InstanceData {
            base_url: context.base_url,
            instance: context.instance_name,
            token: if options.blank_token { "" } else { context.token },
        },
        id: options.extended_envelope.then(|| event.id.to_string()),
        timestamp: options.extended_envelope.then_some(event.received_at),
    };
    // No map here has keys that are not text, the one thing that can fail.
    let body = serde_json::to_vec(&envelope).unwrap_or_default();
    Part { name: name.to_owned(), body: body.into() }
}

/// Adds a member if there is something to say.
fn put<T: Into<Value>>(object: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        object.insert(name.to_owned(), value.into());
    }
}

/// A JSON object with members in this order.
fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A person: the address by phone number as far as that is known, the privacy id, the name.
fn person(address: &Address) -> Map<String, Value> {
    let mut person = object([("jid", jid(address).into())]);
    put(&mut person, "lid", address.lid.clone());
    put(&mut person, "name", address.name.clone());
    person
}

/// An address, by phone number if that is known.
fn jid(address: &Address) -> String {
    address.ordering_id().into_owned()
}

/// A chat: a person's members, and what sort it is.
fn chat(address: &Address) -> Map<String, Value> {
    let mut chat = person(address);
    chat.insert("type".to_owned(), chat_type(address).into());
    chat
}

fn chat_type(address: &Address) -> &'static str {
    match address.kind {
        AddressKind::Group => "group",
        AddressKind::Newsletter => "newsletter",
        _ => "private",
    }
}

/// A chat where its name does not matter.
fn bare_chat(address: &Address) -> Value {
    json!({ "jid": jid(address), "type": chat_type(address) })
}
