//! `GET /ws/{instance}`: events as they happen, to everybody who is connected.
//!
//! Without our own parameters it is as `RyzeAPI` documents it, but that nobody is cut off for being
//! slow: whoever does not read gets the rest from the journal. What is set for the instance's
//! WebSocket is looked up for each event, so that a change counts from the next one on.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use zapbus_event::{
    Dialect, Event, Filter, InstanceId,
    dialect::{Fallback, Options, Part, ryze::Names},
};
use zapbus_store::Reader;

use super::{
    access::Access,
    answer::Failure,
    body::{Path, Query},
    options::live,
    websocket::Row,
};
use crate::{
    api::{
        error::ApiError,
        native::{events::places_after, name_fault},
        origins,
    },
    app::App,
    directory::{Directory, Known},
    realtime::{
        Acks, Dead, Full, Gap, Opened, Opening, Protocol, Said, Start, SubscriberKey, Wants,
    },
};

/// Bytes of a client's frame. There is nothing that it could say.
const MOST: usize = 4 << 10;

/// Opens the connection; what is refused is refused before it.
pub(super) async fn open(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
    query: Query,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let known = access.instance(&app, &instance).await?;
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    if !origins::admits(&app, Some(known.instance.account), origin).await? {
        return Err(Failure::new(StatusCode::FORBIDDEN, "Origin not allowed"));
    }
    let row = Row::of(&known.instance)?.filter(|row| row.enabled).ok_or_else(|| {
        Failure::bad(format!(
            "WebSocket is not enabled for this instance. Configure it first using POST \
             /api/events/websocket/{}",
            known.instance.name
        ))
    })?;
    let asked = Asked::read(&query)?;
    let (account, id) = (known.instance.account, known.instance.id);
    let reader = Reader::Instance(id);
    let start = match asked.after {
        None => Start::Now,
        Some(after) => {
            let found = places_after(&app, &access.caller, reader, Some(after)).await;
            let (places, exact) = found.map_err(|error| match error.status() {
                StatusCode::BAD_REQUEST => Failure::bad("last_event_id: expected an event's id"),
                _ => error.into(),
            })?;
            Start::After { places, exact }
        }
    };
    let Ok(upgrade) = upgrade else {
        return Err(ApiError::UpgradeRequired.into());
    };
    let slot = app
        .realtime
        .admit(Some(account))
        .map_err(|full| ApiError::TooManyConnections { of_account: full == Full::Account })?;
    let owner = access.caller.actor().0;
    let opening = Opening {
        standing: access.standing(id),
        account: Some(account),
        reader,
        // Whatever is subscribed to at the moment: a subscriber stays one when that changes.
        wants: Wants { filter: everything()?, exclude_ephemeral: false },
        dialect: Dialect::Ryze,
        options: asked.options(&row),
        start,
        subscriber: asked.subscriber.map(|name| SubscriberKey { owner, name: name.to_owned() }),
        acks: Acks::Auto,
        window: app.realtime.config().window(),
    };
    let ready = app.realtime.open(slot, opening).await?;
    let frames = Frames {
        instance: id,
        extended: asked.extended,
        seen: None,
        ping_every: app.config.ryze.ping_every(),
        pong_within: app.config.ryze.pong_after_ping(),
    };
    Ok(app.realtime.upgrade(upgrade).on_upgrade(move |socket| ready.serve(socket, frames)))
}

/// All that has a name here.
fn everything() -> Result<Filter, ApiError> {
    let all = Names::ALL.filter(Fallback::Skip);
    all.ok_or_else(|| ApiError::internal("names without events"))
}

/// What goes beyond `RyzeAPI`.
struct Asked<'a> {
    /// `last_event_id`: what was seen last.
    after: Option<&'a str>,
    /// `subscriber`: a name under which the gateway keeps the cursor.
    subscriber: Option<&'a str>,
    /// `envelope=extended`: with `id` and `timestamp` beside `event`.
    extended: bool,
}

impl<'a> Asked<'a> {
    fn read(query: &'a Query) -> Result<Self, Failure> {
        let given = |name| query.get(name).filter(|value| !value.is_empty());
        let subscriber = given("subscriber");
        if let Some(fault) = subscriber.and_then(|name| name_fault("subscriber", name)) {
            return Err(Failure::bad(format!("{}: {}", fault.path, fault.message)));
        }
        let extended = match given("envelope") {
            None => false,
            Some("extended") => true,
            Some(_) => return Err(Failure::bad("envelope: expected `extended`, or nothing")),
        };
        Ok(Self { after: given("last_event_id"), subscriber, extended })
    }

    fn options(&self, row: &Row) -> Options {
        options(row, self.extended)
    }
}

fn options(row: &Row, extended: bool) -> Options {
    let mut choice = row.choice;
    choice.extended_envelope |= extended;
    live(choice, row.inline_media)
}

/// Reads a client's message: what it says does not matter, only how long it is.
pub(super) fn read(message: &str) -> Said {
    if message.len() > MOST { Said::TooLong } else { Said::Nothing }
}

/// Nothing but events goes out, and nothing that comes in means anything.
struct Frames {
    instance: InstanceId,
    extended: bool,
    /// What the options were made from.
    seen: Option<Arc<Known>>,
    ping_every: Duration,
    pong_within: Duration,
}

impl Protocol for Frames {
    fn name(&self) -> &'static str {
        "ryze"
    }

    fn opened(&self, _: &Opened<'_>) -> Option<Bytes> {
        None
    }

    async fn options(&mut self, directory: &Directory) -> Option<Options> {
        // A store that cannot say changes nothing.
        let known = directory.instance(self.instance).await.ok()??;
        if self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &known)) {
            return None;
        }
        let row = Row::of(&known.instance);
        self.seen = Some(known);
        // Switched off, it is for those who come: these stay as they are.
        let row = row.ok()?.filter(|row| row.enabled)?;
        Some(options(&row, self.extended))
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
        Some(self.ping_every)
    }

    fn pong_within(&self) -> Option<Duration> {
        Some(self.pong_within)
    }
}
