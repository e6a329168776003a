//! Evolution API: the bodies its webhooks, brokers and sockets carry, for events of any source.
//!
//! What came from an Evolution API goes out as it came: `event`, `data`, `date_time` and `sender`
//! are the upstream's, the rest of the envelope is ours. Everything else is rendered from the
//! canonical event in the shape that Baileys gives it there.

mod around;
mod content;
mod message;
mod names;
mod session;
mod upstream;

pub use names::{Name, NameError, Names, segment, subscription_form};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json, value::RawValue};

use self::upstream::Passed;
use super::{Fallback, Part, RenderError, native};
use crate::{Data, Event};

/// What is known beside the event.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The name of the event's instance.
    pub instance_name: &'a str,
    /// The number's own address, once it has been connected.
    pub sender: Option<&'a str>,
    /// Where this server is reached.
    pub server_url: Option<&'a str>,
    /// The instance's token, if destinations are to see it; `null` on the wire otherwise.
    pub apikey: Option<&'a str>,
    /// For what kind of destination.
    pub form: Form<'a>,
}

/// The envelope differs from one kind of destination to the next, in members and their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form<'a> {
    /// Webhooks and Pusher.
    Webhook {
        /// The webhook's URL as configured, or the id of the Pusher app.
        destination: &'a str,
    },
    /// A webhook that gets the events of all instances.
    Everyone {
        /// The URL of the instance's own webhook, if it has one: that is what the body names.
        own: Option<&'a str>,
        /// The URL as configured; the body names it with the event's segment behind it.
        base: &'a str,
    },
    /// RabbitMQ, and sockets of either kind.
    #[default]
    Queue,
    /// Amazon SQS.
    Sqs {
        /// The server's name.
        server: &'a str,
    },
}

/// What a destination asks of its rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Options {
    /// The names it subscribes to.
    pub names: Names,
    /// What becomes of an event for which there is no name.
    pub fallback: Fallback,
    /// Add the upstream's element, where the native envelope is sent.
    pub include_raw: bool,
    /// Put the keys that decrypt media into the message.
    pub media_key: bool,
    /// Put a file that is there into the message, as `base64`.
    pub base64: bool,
    /// Write what Evolution API Lite writes: no `send.message.update`, no `participantsData`, no
    /// members beside the envelope's.
    pub lite: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            names: Names::ALL,
            fallback: Fallback::Skip,
            include_raw: false,
            media_key: true,
            base64: false,
            lite: false,
        }
    }
}

/// What only this dialect lets a destination or subscription choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Choice {
    /// The names it subscribes to.
    pub names: Names,
    /// Write what Evolution API Lite writes ([`Options::lite`]).
    pub lite: bool,
    /// Show the instance's token, as `apikey`.
    pub show_key: bool,
}

/// Without the `apikey`, which is for the options to show.
impl<'a> From<&super::Context<'a>> for Context<'a> {
    fn from(context: &super::Context<'a>) -> Self {
        Self {
            instance_name: context.instance_name,
            sender: context.own_address,
            server_url: Some(context.server_url).filter(|url| !url.is_empty()),
            apikey: None,
            form: context.form,
        }
    }
}

impl From<&super::Options> for Options {
    fn from(options: &super::Options) -> Self {
        Self {
            names: options.evolution.names,
            fallback: options.fallback,
            include_raw: options.include_raw,
            media_key: options.media_key,
            base64: options.inline_media,
            lite: options.evolution.lite,
        }
    }
}

/// One message before its envelope.
struct Told {
    name: String,
    data: Payload,
    /// Members of the root before the envelope's.
    before: Vec<(&'static str, Payload)>,
    /// The upstream's own `date_time` and `sender`, as far as it gave them.
    upstream: Option<(Option<Payload>, Option<Payload>)>,
}

impl Told {
    fn new(name: Name, data: Value) -> Self {
        Self::named(name.wire().to_owned(), Payload::Told(data))
    }

    fn named(name: String, data: Payload) -> Self {
        Self { name, data, before: Vec::new(), upstream: None }
    }
}

/// The value of `data`.
#[derive(Serialize)]
#[serde(untagged)]
enum Payload {
    Told(Value),
    /// Every digit as it came.
    Verbatim(Box<RawValue>),
}

/// Writes an event as the messages to send, in order; none when there is no name for it and the
/// options say to skip it, or when its names are not subscribed to.
///
/// # Errors
/// Only when the stored payload is not what its type demands.
pub fn encode(
    event: &Event,
    context: &Context<'_>,
    options: &Options,
) -> Result<Vec<Part>, RenderError> {
    let told = match upstream::passed(event, options)? {
        Passed::Whole(told) => vec![*told],
        Passed::Sibling => Vec::new(),
        Passed::Not => {
            let data = Data::parse(event.kind, &event.data)
                .map_err(|error| failed(event, &error.to_string()))?;
            let scene = Scene { event, context, options };
            let mut told = told(&scene, &data);
            if told.is_empty() {
                told.extend(fallback(&scene)?);
            }
            told
        }
    };
    let wanted = told.into_iter().filter(|told| options.names.want(&told.name));
    Ok(wanted.map(|told| part(event, context, told)).collect())
}

fn failed(event: &Event, message: &str) -> RenderError {
    RenderError { event: event.id.to_string(), message: message.to_owned() }
}

/// An event in Evolution's words; none when it has no words for it.
fn told(scene: &Scene<'_>, data: &Data) -> Vec<Told> {
    match data {
        Data::MessageReceived(_)
        | Data::MessageSent(_)
        | Data::MessageEdited(_)
        | Data::MessageDeleted(_)
        | Data::MessageReaction(_)
        | Data::MessageVote(_)
        | Data::MessageStatus(_) => message::told(scene, data).into_iter().collect(),
        Data::HistorySync(sync) => message::history(scene, sync),
        Data::PresenceUser(_)
        | Data::PresenceChat(_)
        | Data::ChatUpdated(_)
        | Data::ChatDeleted(_)
        | Data::ContactUpdated(_)
        | Data::GroupUpdated(_)
        | Data::GroupParticipants(_)
        | Data::GroupLifecycle(_)
        | Data::CallUpdated(_)
        | Data::LabelUpdated(_)
        | Data::LabelAssociation(_) => around::told(scene, data).into_iter().collect(),
        Data::InstanceConnecting(_)
        | Data::InstanceConnected(_)
        | Data::InstanceDisconnected(_)
        | Data::InstanceLoggedOut(_)
        | Data::InstanceBanned(_)
        | Data::InstanceQr(_)
        | Data::InstancePairCode(_)
        | Data::InstanceLifecycle(_)
        | Data::BotSession(_)
        | Data::SystemStarted(_) => session::told(scene, data),
        Data::MessageUndecryptable(_)
        | Data::MessageFlagged(_)
        | Data::NewsletterUpdated(_)
        | Data::InstancePaired(_)
        | Data::InstanceError(_)
        | Data::InstanceSync(_)
        | Data::AccountUpdated(_)
        | Data::TemplateUpdated(_)
        | Data::EventUnknown(_)
        | Data::DestinationFlowing(_)
        | Data::DestinationProbing(_)
        | Data::DestinationPaused(_)
        | Data::DestinationDisabled(_)
        | Data::DestinationGap(_) => Vec::new(),
    }
}

/// What all renderings of one event look at.
struct Scene<'a> {
    event: &'a Event,
    context: &'a Context<'a>,
    options: &'a Options,
}

impl Scene<'_> {
    /// The instance's id in Evolution's form.
    fn instance_id(&self) -> String {
        self.event.instance.to_uuid()
    }
}

fn fallback(scene: &Scene<'_>) -> Result<Option<Told>, RenderError> {
    let event = scene.event;
    let (name, data) = match scene.options.fallback {
        Fallback::Skip => return Ok(None),
        Fallback::Extended => (event.kind.as_str(), event.data.to_vec()),
        Fallback::Native => {
            let instance_name = scene.context.instance_name;
            let context = super::Context { instance_name, ..super::Context::default() };
            let include_raw = scene.options.include_raw;
            let options = super::Options { include_raw, ..super::Options::default() };
            (names::NATIVE, native::envelope(event, &context, &options))
        }
    };
    let data = serde_json::from_slice(&data).map_err(|error| failed(event, &error.to_string()))?;
    Ok(Some(Told::named(name.to_owned(), Payload::Verbatim(data))))
}

/// The envelope, each member in its place.
fn part(event: &Event, context: &Context<'_>, told: Told) -> Part {
    let (date_time, sender) = told.upstream.unwrap_or_else(|| {
        let at = Payload::Told(event.received_at.to_string().into());
        (Some(at), context.sender.map(|sender| Payload::Told(sender.into())))
    });
    let is_webhook = matches!(context.form, Form::Webhook { .. } | Form::Everyone { .. });
    let mut out = Writer(vec![b'{']);
    for (name, value) in &told.before {
        out.member(name, value);
    }
    out.member("event", &told.name);
    out.member("instance", context.instance_name);
    if let Form::Sqs { .. } = context.form {
        out.member("dataType", "json");
    }
    out.member("data", &told.data);
    match context.form {
        Form::Webhook { destination } => out.member("destination", destination),
        Form::Everyone { own: Some(own), .. } => out.member("destination", own),
        Form::Everyone { own: None, base } => {
            let (path, query) = match base.split_once('?') {
                Some((path, query)) => (path, format!("?{query}")),
                None => (base, String::new()),
            };
            let path = path.trim_end_matches('/');
            out.member("destination", &format!("{path}/{}{query}", segment(&told.name)));
        }
        Form::Sqs { server } => out.member("server", server),
        Form::Queue => {}
    }
    if !is_webhook {
        out.some("server_url", context.server_url);
    }
    out.some("date_time", date_time);
    out.some("sender", sender);
    if is_webhook {
        out.some("server_url", context.server_url);
    }
    out.member("apikey", &context.apikey);
    out.0.push(b'}');
    Part { name: told.name, body: out.0.into() }
}

struct Writer(Vec<u8>);

impl Writer {
    fn member<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        // Writing to a vector cannot fail, and neither can text, values and raw text.
        let _ = serde_json::to_writer(&mut self.0, name);
        self.0.push(b':');
        let _ = serde_json::to_writer(&mut self.0, value);
    }

    fn some<T: Serialize>(&mut self, name: &str, value: Option<T>) {
        if let Some(value) = value {
            self.member(name, &value);
        }
    }
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

/// A list with this one element.
fn list_of(element: Map<String, Value>) -> Value {
    json!([element])
}
