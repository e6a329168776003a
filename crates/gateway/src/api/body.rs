//! Reading requests: every fault with its path, unknown members with the name that was meant.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody},
    extract::{FromRequest, FromRequestParts, Request},
};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::error::{ApiError, Fault, What};
use crate::app::App;

/// Bytes a request body may have where nothing else is said.
pub const MAX_BODY: usize = 1 << 20;

/// A JSON body, read into `T`, with the bytes it was read from.
///
/// The content type is not asked for: whoever posts JSON with `curl -d` means JSON.
#[derive(Debug)]
pub struct Json<T> {
    /// What was read.
    pub value: T,
    /// The bytes as they came.
    pub bytes: Bytes,
}

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let bytes = app.bodies.read(request, MAX_BODY, "The body").await?.bytes;
        let value = parse(&bytes)?;
        Ok(Self { value, bytes })
    }
}

/// Like [`Json`], for bodies that may be left out: no bytes read as `{}`.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let bytes = app.bodies.read(request, MAX_BODY, "The body").await?.bytes;
        parse(if bytes.trim_ascii().is_empty() { b"{}" } else { &bytes }).map(Self)
    }
}

/// What stands in the path. What cannot stand there (bytes that are no text) names nothing.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        match axum::extract::Path::from_request_parts(parts, app).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(_) => Err(ApiError::NotFound(What::Route)),
        }
    }
}

/// The parameters of the query string, read into `T`.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, ApiError> {
        let pairs = url::form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes());
        let pairs = serde::de::value::MapDeserializer::new(
            pairs.map(|(name, value)| (name.into_owned(), Text(value.into_owned()))),
        );
        let mut track = serde_path_to_error::Track::new();
        T::deserialize(serde_path_to_error::Deserializer::new(pairs, &mut track)).map(Self).map_err(
            |error: serde::de::value::Error| {
                let path = track.path().to_string();
                ApiError::InvalidQuery(vec![fault(&path, &error.to_string())])
            },
        )
    }
}

/// A value of the query string: text that also reads as a number or a truth value.
struct Text(String);

impl<'de> serde::de::IntoDeserializer<'de, serde::de::value::Error> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $expected:literal),+ $(,)?) => {
        $(fn $method<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match self.0.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(serde::de::Error::custom(concat!("expected ", $expected))),
            }
        })+
    };
}

impl<'de> serde::Deserializer<'de> for Text {
    type Error = serde::de::value::Error;

    parsed! {
        deserialize_bool visit_bool "true or false",
        deserialize_u16 visit_u16 "a whole number up to 65535",
        deserialize_u32 visit_u32 "a whole number",
        deserialize_u64 visit_u64 "a whole number",
        deserialize_i64 visit_i64 "a whole number",
        deserialize_f64 visit_f64 "a number",
    }

    fn deserialize_any<V: serde::de::Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: serde::de::Visitor<'de>>(
        self,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: serde::de::Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: serde::de::Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(serde::de::value::StringDeserializer::new(self.0))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u128 f32 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// Bytes up to which a body is a small one. Small and large ones have rooms of their own: a few
/// large ones do not keep out the many small ones that events are.
const SMALL: usize = 64 << 10;

/// Room for small bodies.
const ROOM_FOR_SMALL: usize = 32 << 20;

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Without a byte.
    pub idle: Duration,
    /// From the first byte waited for to the last.
    pub total: Duration,
}

/// Reads bodies: however many callers send at one time, and however slowly, what was sent does
/// not take more memory than there is room for, nor for longer than our patience.
#[derive(Debug, Clone)]
pub struct Bodies {
    known: Rooms,
    strangers: Rooms,
    patience: Patience,
    giving_up: CancellationToken,
}

/// A body that was read, with the room it takes.
#[derive(Debug)]
pub struct Read {
    /// Its bytes.
    pub bytes: Bytes,
    /// Given back when the bytes have become something else.
    pub room: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Room for so many bytes of large bodies together: of callers that have shown who they are,
    /// and of those that can only do so with the body.
    pub fn new(known: usize, strangers: usize, patience: Patience) -> Self {
        let (known, strangers) = (Rooms::new(known), Rooms::new(strangers));
        Self { known, strangers, patience, giving_up: CancellationToken::new() }
    }

    /// Waits no longer for bodies, those being read included: the gateway is going down.
    pub fn give_up(&self) {
        self.giving_up.cancel();
    }

    /// A body of so many bytes would be refused now, if a known caller sent it.
    pub fn lacks_room_for(&self, bytes: usize) -> bool {
        self.known.lack(bytes)
    }

    /// Reads the whole body of a known caller, unless it has more than `limit` bytes.
    pub async fn read(
        &self,
        request: Request,
        limit: usize,
        what: &'static str,
    ) -> Result<Read, ApiError> {
        self.read_into(&self.known, request, limit, what).await
    }

    /// [`Self::read`] for a body that says itself whose it is, by a signature or a secret in it:
    /// strangers may fill the room for these, and no other.
    pub async fn read_of_stranger(
        &self,
        request: Request,
        limit: usize,
        what: &'static str,
    ) -> Result<Read, ApiError> {
        self.read_into(&self.strangers, request, limit, what).await
    }

    async fn read_into(
        &self,
        rooms: &Rooms,
        request: Request,
        limit: usize,
        what: &'static str,
    ) -> Result<Read, ApiError> {
        let mut body = request.into_body();
        // A length that is announced is refused before a byte of it is read.
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > limit {
            return Err(ApiError::TooLarge { what, limit });
        }
        if rooms.lack(announced) {
            return Err(ApiError::Busy);
        }
        let mut held = Held { rooms, large: false, permit: None };
        let end = Instant::now() + self.patience.total;
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(chunk) = self.chunk(&mut body, end).await? {
            let length = first.len() + rest.len() + chunk.len();
            if length > limit {
                return Err(ApiError::TooLarge { what, limit });
            }
            held.grow(length)?;
            if first.is_empty() && rest.is_empty() {
                first = chunk;
                continue;
            }
            if rest.is_empty() {
                rest.extend_from_slice(&first);
                first.clear();
            }
            rest.extend_from_slice(&chunk);
        }
        let bytes = if rest.is_empty() { first } else { rest.freeze() };
        Ok(Read { bytes, room: held.permit })
    }

    /// The next bytes of a body.
    async fn chunk(&self, body: &mut Body, end: Instant) -> Result<Option<Bytes>, ApiError> {
        loop {
            let patience = end.min(Instant::now() + self.patience.idle);
            let frame = tokio::select! {
                biased;
                frame = timeout_at(patience, body.frame()) => frame,
                () = self.giving_up.cancelled() => return Err(ApiError::Draining),
            };
            match frame {
                Err(_) => return Err(ApiError::SlowBody),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(ApiError::BrokenBody),
                // Trailers are nothing that we read.
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    Ok(_) | Err(_) => {}
                },
            }
        }
    }
}

/// The node's room for bodies that are being read or decoded.
#[derive(Debug, Clone)]
struct Rooms {
    small: Room,
    large: Room,
}

impl Rooms {
    fn new(large: usize) -> Self {
        Self { small: Room::new(ROOM_FOR_SMALL), large: Room::new(large) }
    }

    /// A body of so many bytes would find no room.
    fn lack(&self, bytes: usize) -> bool {
        if bytes > SMALL { self.large.lacks(bytes) } else { self.small.lacks(bytes) }
    }
}

/// Room for so many bytes.
#[derive(Debug, Clone)]
struct Room {
    /// One permit for each KiB.
    free: Arc<Semaphore>,
}

impl Room {
    fn new(bytes: usize) -> Self {
        Self { free: Arc::new(Semaphore::new((bytes >> 10).min(Semaphore::MAX_PERMITS))) }
    }

    fn lacks(&self, bytes: usize) -> bool {
        self.free.available_permits() < bytes.div_ceil(1 << 10)
    }

    fn take(&self, kib: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        self.free.clone().try_acquire_many_owned(kib).map_err(|_| ApiError::Busy)
    }
}

/// The room that one body takes, growing with it: what is only announced takes none.
struct Held<'a> {
    rooms: &'a Rooms,
    /// It takes room for large ones.
    large: bool,
    permit: Option<OwnedSemaphorePermit>,
}

impl Held<'_> {
    /// Takes room for a body of so many bytes in all; there being none is the caller's 503.
    fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        if bytes > SMALL && !self.large {
            // What it took of the other room is given back once there is room here.
            self.permit = Some(self.rooms.large.take(bytes.div_ceil(1 << 10))?);
            self.large = true;
            return Ok(());
        }
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = bytes.div_ceil(1 << 10).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let room = if self.large { &self.rooms.large } else { &self.rooms.small };
        let more = room.take(more)?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

/// Reads JSON into `T`; what cannot be read says where and why. What is no JSON is malformed;
/// JSON of another shape is invalid.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    parse_at("", bytes)
}

/// [`parse`] for JSON that stands at `base` inside a body.
pub fn parse_at<T: DeserializeOwned>(base: &str, bytes: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = joined(base, &error.path().to_string());
        let faults = vec![fault(&path, &bare(error.inner()))];
        match error.inner().classify() {
            Category::Data => ApiError::Invalid(faults),
            Category::Io | Category::Syntax | Category::Eof => ApiError::Malformed(faults),
        }
    })?;
    deserializer
        .end()
        .map_err(|error| ApiError::Malformed(vec![fault(base, &error.to_string())]))?;
    Ok(value)
}

/// What serde says, without line and column where the path says it better.
fn bare(error: &serde_json::Error) -> String {
    let mut message = error.to_string();
    let at = format!(" at line {} column {}", error.line(), error.column());
    if error.is_data() && message.ends_with(&at) {
        message.truncate(message.len() - at.len());
    }
    message
}

/// Reads a JSON value that was taken out of a body at `base` into `T`.
pub fn convert<T: DeserializeOwned>(base: &str, value: serde_json::Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = joined(base, &error.path().to_string());
        ApiError::Invalid(vec![fault(&path, &error.inner().to_string())])
    })
}

/// `base` and what stands below it.
pub fn joined(base: &str, path: &str) -> String {
    match (base, path) {
        ("", ".") => String::new(),
        ("", path) => path.to_owned(),
        (base, "." | "") => base.to_owned(),
        (base, path) if path.starts_with('[') => format!("{base}{path}"),
        (base, path) => format!("{base}.{path}"),
    }
}

/// What serde says, with the nearest right name where a name was wrong.
pub fn fault(path: &str, message: &str) -> Fault {
    let path = if path == "." { "" } else { path };
    let message = match nearest(message) {
        Some(name) => format!("{message}; did you mean `{name}`?"),
        None => message.to_owned(),
    };
    Fault::new(path, message)
}

/// The name that was meant, from a message like "unknown field `urk`, expected `url` or `label`".
fn nearest(message: &str) -> Option<&str> {
    let rest = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("unknown variant `"))?;
    let (given, expected) = rest.split_once('`')?;
    let given: String = given.chars().take(64).collect();
    expected
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|name| (strsim::damerau_levenshtein(&given, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(default)]
        _inner: Vec<Inner>,
        #[serde(default)]
        _label: Option<String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "max_in_flight")]
        _max_in_flight: u32,
    }

    fn check(body: &str, path: &str, message: &str) {
        let faults = match parse::<Outer>(body.as_bytes()) {
            Err(ApiError::Malformed(faults) | ApiError::Invalid(faults)) => faults,
            other => panic!("{body}: {other:?}"),
        };
        assert_eq!(faults[0].path, path, "{body}");
        assert!(faults[0].message.contains(message), "{body}: {}", faults[0].message);
    }

    #[test]
    fn a_fault_says_where_it_is_and_what_was_meant() {
        check(r#"{"_inner":[{"max_in_flight":"x"}]}"#, "_inner[0].max_in_flight", "u32");
        check(r#"{"_labl":"x"}"#, "_labl", "did you mean `_label`?");
        check(r#"{"_inner":[{"max_inflight":1}]}"#, "_inner[0].max_inflight", "max_in_flight");
        check(r#"{"_inner":"#, "_inner", "EOF");
        check(r#"{} {}"#, "", "trailing");
    }

    #[test]
    fn large_bodies_share_the_room_there_is() {
        let rooms = Rooms::new(1 << 20);
        let body = || Held { rooms: &rooms, large: false, permit: None };
        let (mut first, mut second) = (body(), body());
        for bytes in [SMALL, 100 << 10, 600 << 10] {
            first.grow(bytes).unwrap();
        }
        assert!(!rooms.small.lacks(ROOM_FOR_SMALL), "a body takes room once");
        assert!(matches!(second.grow(600 << 10), Err(ApiError::Busy)));
        second.grow(SMALL).unwrap();
        second.grow(424 << 10).unwrap();
        assert!(rooms.lack(SMALL + 1) && !rooms.lack(SMALL));
        drop(first);
        second.grow(600 << 10).unwrap();
        drop(second);
        assert!(!rooms.large.lacks(1 << 20), "all of it is given back");
    }

    #[test]
    fn small_bodies_are_counted_too() {
        let rooms = Rooms::new(1 << 20);
        let body = |bytes| {
            let mut held = Held { rooms: &rooms, large: false, permit: None };
            held.grow(bytes).map(|()| held)
        };
        let held: Vec<_> = (0..ROOM_FOR_SMALL / SMALL).map(|_| body(SMALL).unwrap()).collect();
        assert!(matches!(body(1), Err(ApiError::Busy)));
        let large = body(SMALL + 1).unwrap();
        drop(held);
        body(1).unwrap();
        drop(large);
    }

    #[test]
    fn a_name_nothing_like_any_gets_no_guess() {
        assert_eq!(nearest("unknown field `zzzzzzzz`, expected `url` or `label`"), None);
        assert_eq!(nearest("unknown field `urk`, expected `url` or `label`"), Some("url"));
        assert_eq!(nearest("missing field `url`"), None);
    }
}
