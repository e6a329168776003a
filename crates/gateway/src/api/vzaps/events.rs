//! `GET /events/ws`: the events of an instance as they happen, each acknowledged on its own.
//!
//! What a client has acknowledged is kept under its client token: it is sent what it has not,
//! whatever cursor it shows, as some SDKs repeat their first one for ever and others move it past an
//! event whose handler has failed.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::Value;
use zapbus_event::{
    Dialect, Event, EventId, Filter,
    dialect::{Options, Part, vzaps::names},
};
use zapbus_store::{Reader, Role};

use super::{
    access::{Access, Given},
    answer::Failure,
    subscription::Webhook,
};
use crate::{
    api::{auth::is_near, error::ApiError, native::events::places_after},
    app::App,
    directory::Known,
    realtime::{
        Acks, Dead, Full, Gap, Opened, Opening, Protocol, Said, Start, SubscriberKey, Wants, Window,
    },
    server::proxy::Peer,
};

/// How long an acknowledgement is waited for.
const ACK_WAIT: Duration = Duration::from_secs(60);

/// The library of the PHP SDK gives up after five seconds without a frame.
const PHP_AGENT: &str = "websocket-client-php";
const PHP_PING: Duration = Duration::from_secs(4);
const PING: Duration = Duration::from_secs(25);

/// The name of these connections in metrics.
const PROTOCOL: &str = "vzaps";

/// The name under which the gateway keeps what a client has acknowledged.
const SUBSCRIBER: &str = "vzaps";

/// What the query says. Browsers put everything there, other SDKs their credentials into headers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    instance_id: Option<String>,
    /// One parameter with commas, or several.
    events: Vec<String>,
    access_token: Option<String>,
    client_token: Option<String>,
    instance_token: Option<String>,
    last_event_id: Option<String>,
    /// `replay=all`, our own: everything after the cursor, acknowledged or not.
    replays_all: bool,
}

impl Query {
    fn read(query: &str) -> Self {
        let mut read = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            let text = Some(value.to_owned());
            match &*name {
                "instance_id" => read.instance_id = text,
                "access_token" => read.access_token = text,
                "client_token" => read.client_token = text,
                "instance_token" => read.instance_token = text,
                "last_event_id" => read.last_event_id = text,
                "replay" => read.replays_all = value == "all",
                "events" => {
                    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                    read.events.extend(names.map(str::to_owned));
                }
                _ => {}
            }
        }
        read
    }

    /// The credentials: a header's wins over the query's.
    fn given(&self, headers: &HeaderMap) -> Result<Given, Failure> {
        let given = Given::of_headers(headers)?;
        Ok(Given {
            bearer: given.bearer.or_else(|| self.access_token.clone()),
            client_token: given.client_token.or_else(|| self.client_token.clone()),
            instance_token: given.instance_token.or_else(|| self.instance_token.clone()),
        })
    }
}

/// What a query says is not empty, and each name of an event is one.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_query(query: &str) {
    let read = Query::read(query);
    let Query { instance_id, access_token, client_token, instance_token, last_event_id, .. } =
        &read;
    for text in [instance_id, access_token, client_token, instance_token, last_event_id] {
        assert!(text.as_deref().is_none_or(|text| !text.is_empty() && text.trim() == text));
    }
    assert!(read.events.iter().all(|name| !name.is_empty() && !name.contains(',')));
    let known = names::known_among(&read.events);
    assert!(known.len() <= read.events.len());
    drop(names::filter(&known));
    drop(read.given(&HeaderMap::new()));
}

/// Opens the connection; what is refused is refused before it.
pub(super) async fn open(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let query = Query::read(uri.query().unwrap_or_default());
    let instance = query
        .instance_id
        .as_deref()
        .ok_or_else(|| Failure::bad("invalid", "instance_id: expected an instance's id."))?;
    let given = query.given(&headers)?;
    if given.instance_token.is_none() {
        return Err(Failure::unauthorized("The instance's token is needed: instance_token."));
    }
    let access = Access::of(&app, given, &headers).await?;
    let in_query = !headers.contains_key(header::AUTHORIZATION);
    let peer = peer.map(|Extension(peer)| peer);
    if in_query && access.caller.role == Role::Admin && !is_near(&app, peer) {
        return Err(Failure::unauthorized(
            "The admin token is not taken from a URL: send it as Authorization: Bearer <token>.",
        ));
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    if !app.realtime.config().admits(origin) {
        let message = "Pages of this origin may not connect: the operator names those that may in \
                       realtime.origins.";
        return Err(Failure::new(StatusCode::FORBIDDEN, "forbidden", message));
    }
    let known = access.instance(&app, instance).await?;
    let filter = filter(&app, &known, &query.events).await?;
    let reader = Reader::Instance(known.instance.id);
    let start = start(&app, &access, &known, query.last_event_id.as_deref()).await;
    let Ok(upgrade) = upgrade else {
        return Err(ApiError::UpgradeRequired.into());
    };
    let account = Some(known.instance.account);
    let slot = app.realtime.admit(account).map_err(|full| {
        let error = ApiError::TooManyConnections { of_account: full == Full::Account };
        Failure::from(error).with_status(StatusCode::TOO_MANY_REQUESTS)
    })?;
    let subscriber = SubscriberKey { owner: access.client.clone(), name: SUBSCRIBER.to_owned() };
    let opening = Opening {
        standing: access.standing(known.instance.id),
        account,
        reader,
        wants: Wants { filter, exclude_ephemeral: false },
        dialect: Dialect::Vzaps,
        options: Options { live: true, media_key: true, ..Options::default() },
        start,
        subscriber: Some(subscriber).filter(|_| !query.replays_all),
        acks: if query.replays_all { Acks::Auto } else { Acks::Trial },
        window: Window { ack_wait: ACK_WAIT, ..app.realtime.config().window() },
    };
    let ready = app.realtime.open(slot, opening).await?;
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let is_php = agent.is_some_and(|agent| agent.contains(PHP_AGENT));
    // Some clients answer pings without a mask.
    let upgrade = app.realtime.upgrade(upgrade).accept_unmasked_frames(true);
    Ok(upgrade.on_upgrade(move |socket| ready.serve(socket, Frames { is_php })))
}

/// Behind the cursor that the client shows. One that is none is no reason to fail: whoever is known
/// goes on where it stands, everybody else from now on. It is counted, as is one of an event that
/// is not stored, or not in this instance.
async fn start(app: &App, access: &Access, known: &Known, cursor: Option<&str>) -> Start {
    let Some(cursor) = cursor else {
        return Start::Now;
    };
    let Ok(id) = cursor.parse::<EventId>() else {
        app.telemetry.unknown_cursor(PROTOCOL);
        return Start::Now;
    };
    let instance = known.instance.id;
    let found = app.store.event(id).await;
    if found.is_ok_and(|event| event.is_none_or(|event| event.instance != instance)) {
        app.telemetry.unknown_cursor(PROTOCOL);
    }
    match places_after(app, &access.caller, Reader::Instance(instance), Some(cursor)).await {
        Ok((places, exact)) => Start::After { places, exact },
        Err(_) => Start::Now,
    }
}

/// What is asked for, or else what the instance subscribes to; everything if that is nothing.
async fn filter(app: &App, known: &Known, events: &[String]) -> Result<Filter, Failure> {
    if events.is_empty() {
        let webhook = Webhook::of(app, &known.instance).await?;
        return Ok(match &webhook.destination {
            Some(destination) => destination.filter.clone(),
            None if webhook.subscribe.is_empty() => Filter::default(),
            None => names::filter(&webhook.subscribe),
        });
    }
    let known = names::known_among(events);
    if known.is_empty() {
        let message = format!("events: {} names no event of VZaps.", events.join(","));
        return Err(Failure::bad("unknown_event", message));
    }
    Ok(names::filter(&known))
}

/// Nothing but events goes out: every other frame confuses one SDK or another.
struct Frames {
    is_php: bool,
}

impl Protocol for Frames {
    fn name(&self) -> &'static str {
        PROTOCOL
    }

    fn opened(&self, _: &Opened<'_>) -> Option<Bytes> {
        None
    }

    fn event(&mut self, _: &Arc<Event>, parts: &[Part], frames: &mut Vec<Bytes>) {
        frames.extend(parts.iter().map(|part| part.body.clone()));
    }

    fn gap(&self, _: &Gap<'_>) -> Option<Bytes> {
        None
    }

    fn dead(&self, _: &Dead) -> Option<Bytes> {
        None
    }

    fn read(&mut self, message: &str) -> Said {
        read(message)
    }

    fn ping_every(&self) -> Option<Duration> {
        Some(if self.is_php { PHP_PING } else { PING })
    }
}

/// `{"type":"ack","event_id":…}`, where Java and .NET say `id`.
pub(super) fn read(message: &str) -> Said {
    let Ok(Value::Object(message)) = serde_json::from_str(message) else {
        return Said::Nonsense(None);
    };
    if message.get("type").and_then(Value::as_str) != Some("ack") {
        return Said::Nothing;
    }
    let id = ["event_id", "id", "eventId"]
        .iter()
        .filter_map(|name| message.get(*name)?.as_str())
        .find(|id| !id.is_empty());
    // Ids that are none are of events that nobody was sent.
    Said::Acks(id.and_then(|id| id.parse().ok()).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_read_as_every_sdk_sends_them() {
        let id: EventId = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        for name in ["event_id", "id", "eventId"] {
            let message = format!(r#"{{"type":"ack","{name}":"{id}"}}"#);
            assert_eq!(read(&message), Said::Acks(vec![id]), "{name}");
        }
        for message in [
            r#"{"type":"ack","event_id":""}"#,
            r#"{"type":"ack","event_id":7}"#,
            r#"{"type":"ack","event_id":"evt_nobody"}"#,
            r#"{"type":"ack"}"#,
        ] {
            assert_eq!(read(message), Said::Acks(Vec::new()), "{message}");
        }
        for message in [r#"{"type":"ping"}"#, "{}", r#"{"type":7}"#] {
            assert_eq!(read(message), Said::Nothing, "{message}");
        }
        for message in ["", "[]", "{", "7"] {
            assert_eq!(read(message), Said::Nonsense(None), "{message}");
        }
    }

    #[test]
    fn a_query_is_read_as_every_sdk_writes_it() {
        let comma = Query::read("instance_id=VZ1&events=Message%2CReadReceipt&access_token=a.b.c");
        let repeated =
            Query::read("events=message&instance_id=VZ1&events=readreceipt&access_token=a.b.c");
        assert_eq!(comma.events, ["Message", "ReadReceipt"]);
        assert_eq!(repeated.events, ["message", "readreceipt"]);
        assert_eq!(comma.access_token.as_deref(), Some("a.b.c"));
        assert_eq!(Query::read("instance_id=&last_event_id="), Query::default());
        assert!(Query::read("replay=all").replays_all);
    }
}
