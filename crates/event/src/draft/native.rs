//! Native ingest: one event object, posted by a caller of ours.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Data, Draft, Kind, OrderedBy, Raw, Source, SourceKind, Timestamp, UnknownKind,
    bounds::{MAX_FACET, MAX_KEY, is_facet, is_key},
    fault::{Fault, broken_member, read},
    nearest::{nearest, shortened},
    nesting,
};

/// The members of a posted event.
const MEMBERS: [&str; 8] =
    ["type", "data", "occurred_at", "id", "dedup_key", "ordering_key", "history", "raw"];

/// What an event has beside them when it comes as another gateway delivers it.
const DELIVERED: [&str; 8] = [
    "client_id",
    "instance",
    "occurred_at_estimated",
    "raw_base64",
    "received_at",
    "seq",
    "source",
    "v",
];

/// What a key begins with whose rest a caller gave as `dedup_key`. No source has such keys.
pub(crate) const GIVEN: &str = "d|";

/// What a key begins with whose rest a caller gave as `id`.
pub(crate) const ID: &str = "id|";

/// What a key begins with that stands for a request.
pub(crate) const REQUEST: &str = "k|";

/// A posted event that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NativeError {
    /// Not JSON.
    #[error("not JSON: {}{}{message}", .path, if .path.is_empty() { "" } else { ": " })]
    Json {
        /// The member in which it breaks off; empty for the whole.
        path: String,
        /// What was expected.
        message: String,
    },
    /// A type outside the catalog.
    #[error(transparent)]
    UnknownType(#[from] UnknownKind),
    /// JSON of another shape than an event has.
    #[error("{path}: {message}")]
    Invalid {
        /// The member at fault, for example `data.content.kind`.
        path: String,
        /// What was expected.
        message: String,
    },
}

impl Draft {
    /// Reads one posted event: `{"type","data","occurred_at"?,"id"?,"dedup_key"?,
    /// "ordering_key"?,"history"?,"raw"?}`. `data` is checked against its type and kept as posted.
    ///
    /// `id` becomes the client id and the deduplication key `id|<id>`; `dedup_key` becomes the key
    /// `d|<dedup_key>` and comes first; `ordering_key` takes the place of the partition; `raw` is
    /// the upstream's element, without which `data` is.
    ///
    /// An event as the native dialect writes it is taken too, so that a webhook can lead from one
    /// gateway to another. What only its own gateway can say (`seq`, `received_at`, …) is passed
    /// over.
    ///
    /// # Errors
    /// Says which member is at fault and what was expected. The gateway's own `destination.*`
    /// are refused.
    pub fn native(body: &[u8]) -> Result<Self, NativeError> {
        let members = members(body)?;
        let kind = kind(members.of("type"))?;
        let posted = members
            .of("data")
            .ok_or_else(|| invalid("data", format!("missing: the payload of {kind}")))?;
        let data = Data::parse(kind, posted.get().as_bytes())
            .map_err(|error| Fault { path: error.path, message: error.message }.under("data"))
            .map_err(|fault| invalid(&fault.path, fault.message))?;
        check_nesting("data", posted.get())?;
        check_indexed(&data)?;

        let source = Source {
            kind: SourceKind::Native,
            event: kind.to_string(),
            version: None,
            delivery_id: None,
            index: 0,
        };
        let bytes = Bytes::copy_from_slice(posted.get().as_bytes());
        let mut draft = Self::assembled(&data, bytes, source);
        draft.occurred_at = members.value::<Timestamp>("occurred_at")?;
        draft.history = members.value("history")?.unwrap_or(false);
        draft.keys.extend(members.key("dedup_key")?.map(|key| format!("{GIVEN}{key}")));
        draft.client_id = members.key("id")?;
        draft.keys.extend(draft.client_id.iter().map(|id| format!("{ID}{id}")));
        if let Some(partition) = members.partition()? {
            draft.partition = partition;
        }
        if let Some(raw) = members.raw()? {
            draft.raw = Raw::Bytes(raw);
        }
        Ok(draft)
    }
}

/// The members of the event object as text; `null` counts as absent.
struct Members<'a>([Option<&'a RawValue>; MEMBERS.len() + DELIVERED.len()]);

impl<'a> Members<'a> {
    fn index(name: &str) -> Option<usize> {
        MEMBERS.iter().chain(&DELIVERED).position(|member| *member == name)
    }

    fn of(&self, name: &str) -> Option<&'a RawValue> {
        self.0[Self::index(name)?].filter(|raw| raw.get() != "null")
    }

    fn value<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, NativeError> {
        let Some(raw) = self.of(name) else {
            return Ok(None);
        };
        read(raw.get().as_bytes()).map(Some).map_err(|fault: Fault| invalid(name, fault.message))
    }

    fn key(&self, name: &str) -> Result<Option<String>, NativeError> {
        self.value::<String>(name)?.map(|text| checked(name, text)).transpose()
    }

    /// The ordering key, which a delivered event has behind the id of its instance.
    fn partition(&self) -> Result<Option<String>, NativeError> {
        #[derive(Deserialize)]
        struct Instance<'a> {
            #[serde(borrow)]
            id: Cow<'a, str>,
        }
        let name = "ordering_key";
        let Some(key) = self.value::<String>(name)? else {
            return Ok(None);
        };
        let instance = self.value::<Instance<'_>>("instance").ok().flatten();
        let bare = instance.and_then(|instance| key.strip_prefix(&*instance.id)?.strip_prefix('/'));
        checked(name, bare.map(str::to_owned).unwrap_or(key)).map(Some)
    }

    /// The upstream's element, if it is another than the payload.
    fn raw(&self) -> Result<Option<Bytes>, NativeError> {
        let Some(raw) = self.of("raw") else {
            let text = self.value::<Cow<'_, str>>("raw_base64")?;
            let bytes = text.map(|text| STANDARD.decode(&*text)).transpose();
            let bytes = bytes.map_err(|_| invalid("raw_base64", "expected base64".to_owned()))?;
            return Ok(bytes.map(Bytes::from));
        };
        let text = raw.get();
        check_nesting("raw", text)?;
        let is_data = self.of("data").is_some_and(|data| data.get() == text);
        Ok((!is_data).then(|| Bytes::copy_from_slice(text.as_bytes())))
    }
}

fn checked(name: &str, key: String) -> Result<String, NativeError> {
    if is_key(&key) { Ok(key) } else { Err(invalid(name, unfit_key())) }
}

fn check_nesting(name: &str, json: &str) -> Result<(), NativeError> {
    match nesting::is_bounded(json.as_bytes()) {
        true => Ok(()),
        false => Err(invalid(name, format!("nested deeper than {}", nesting::MAX))),
    }
}

fn members(body: &[u8]) -> Result<Members<'_>, NativeError> {
    let pairs = match serde_json::from_slice(body) {
        Ok(Pairs(pairs)) => pairs,
        Err(_) => pairs(body)?,
    };
    let mut members = Members([None; MEMBERS.len() + DELIVERED.len()]);
    for (name, value) in pairs {
        let Some(index) = Members::index(&name) else {
            return Err(invalid(&shortened(&name), unknown_member(&name)));
        };
        if members.0[index].replace(value).is_some() {
            return Err(invalid(&name, "given twice".to_owned()));
        }
    }
    Ok(members)
}

/// The members of the event object, read step by step to tell what is wrong with it.
fn pairs(body: &[u8]) -> Result<Vec<(Cow<'_, str>, &RawValue)>, NativeError> {
    let whole: &RawValue = serde_json::from_slice(body).map_err(|error| NativeError::Json {
        path: broken_member(body),
        message: error.to_string(),
    })?;
    if !whole.get().starts_with('{') {
        return Err(invalid(".", "expected one event: an object with type and data".to_owned()));
    }
    let pairs: Pairs<'_> = read(whole.get().as_bytes())
        .map_err(|fault: Fault| NativeError::Json { path: fault.path, message: fault.message })?;
    Ok(pairs.0)
}

fn kind(given: Option<&RawValue>) -> Result<Kind, NativeError> {
    let expected = "an event type, for example message.received";
    let raw = given.ok_or_else(|| invalid("type", format!("missing: {expected}")))?;
    let name: Cow<'_, str> = read(raw.get().as_bytes())
        .map_err(|_: Fault| invalid("type", format!("expected {expected}")))?;
    let kind: Kind = name.parse()?;
    if kind.is_operational() {
        return Err(invalid("type", format!("{kind} is the gateway's own and cannot be posted")));
    }
    Ok(kind)
}

/// The values of a payload that are kept apart from it.
fn check_indexed(data: &Data) -> Result<(), NativeError> {
    if !is_key(&data.partition()) {
        let member = match data.kind().ordered_by() {
            OrderedBy::Chat => "data.chat.id",
            OrderedBy::Group => "data.group.id",
            OrderedBy::Call => "data.call_id",
            OrderedBy::User if data.kind() == Kind::PresenceUser => "data.user.id",
            OrderedBy::User => "data.contact.id",
            OrderedBy::Newsletter => "data.newsletter.id",
            OrderedBy::Instance | OrderedBy::Destination => "data",
        };
        return Err(invalid(member, unfit_key()));
    }
    match (data.kind().facet_field(), data.facet()) {
        (Some(field), Some(facet)) if !is_facet(facet) => Err(invalid(
            &format!("data.{field}"),
            format!("expected 1 to {MAX_FACET} characters without spaces"),
        )),
        _ => Ok(()),
    }
}

fn unfit_key() -> String {
    format!("expected 1 to {MAX_KEY} characters, none of them control characters")
}

fn unknown_member(name: &str) -> String {
    let nearest = nearest(name, MEMBERS)[0];
    format!("no member of an event; did you mean {nearest}? There are {}", MEMBERS.join(", "))
}

fn invalid(path: &str, message: String) -> NativeError {
    NativeError::Invalid { path: path.to_owned(), message }
}

/// An object's members in order.
struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an event: an object with type and data")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::with_capacity(MEMBERS.len());
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}
