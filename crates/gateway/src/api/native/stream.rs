//! Events as they happen: a WebSocket, or server-sent events.

use std::time::Duration;

use axum::{
    Extension,
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use zapbus_event::{
    AccountId, Dialect, Filter, InstanceId,
    dialect::{Fallback, Options},
};
use zapbus_store::{Reader, Role};

use super::{
    events::{places_of_stream, types_of},
    tickets,
};
use crate::{
    api::{
        auth::{Caller, bearer, is_near},
        body::{Path, Query},
        error::{ApiError, Fault, Streaming},
        origins,
    },
    app::App,
    realtime::{
        Acks, Full, MOST_UNACKED, Opening, Start, SubscriberKey, Wants, Window,
        native::{NativeEvents, NativeSocket},
    },
    server::proxy::Peer,
};

/// Seconds for which an acknowledgement may be waited for.
const ACK_WAIT: std::ops::RangeInclusive<f64> = 0.1..=3_600.0;

/// What to send, from where on, and how it is acknowledged.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamQuery {
    /// Events after this: an event id, an RFC 3339 time, a cursor or, of one instance, a position.
    /// From now on when left out. A subscriber that is known goes on where it stands.
    after: Option<String>,
    /// Which types, separated by commas: `message.*,call.updated:offer`. All when left out.
    types: Option<String>,
    /// In which dialect; `native` when left out.
    #[param(value_type = Option<String>)]
    dialect: Option<String>,
    /// With the untouched upstream element.
    #[serde(default)]
    include_raw: bool,
    /// Without events that say something only for a moment (presence).
    #[serde(default)]
    exclude_ephemeral: bool,
    /// What becomes of events that the dialect has no name for; they are left out if not said
    /// otherwise.
    #[param(inline)]
    fallback: Option<FallbackName>,
    /// With the keys that decrypt media, where the dialect has a place for them.
    #[serde(default)]
    media_key: bool,
    /// With the files of messages as base64, where they came with their event and are not over
    /// `media.max_inline_bytes`. A link is there in any case.
    #[serde(default)]
    inline_media: bool,
    /// A name of 1 to 120 characters: the gateway keeps the cursor under it. With another filter or
    /// dialect it is another subscriber.
    subscriber: Option<String>,
    /// `auto` (what is written to the connection is done) or `explicit` (each event waits for
    /// `{"type":"ack","id":"…"}`, on a WebSocket only); `auto` when left out.
    #[param(inline)]
    ack: Option<Ack>,
    /// Events that may wait for an acknowledgement at once: 1 to 4096; 256 when left out.
    #[param(minimum = 1, maximum = 4096)]
    max_unacked: Option<u32>,
    /// Seconds after which an event that was not acknowledged comes again; 30 when left out.
    ack_wait: Option<f64>,
    /// A token, for browsers, which cannot send headers here. A ticket is better: URLs are logged in
    /// many places.
    token: Option<String>,
    /// A ticket from `POST /v1/tickets`.
    ticket: Option<String>,
}

/// Who says that an event is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Ack {
    /// The gateway, when it is written.
    Auto,
    /// The client.
    Explicit,
}

/// What becomes of events without a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum FallbackName {
    /// They are left out.
    Skip,
    /// The dialect's extension.
    Extended,
    /// The native envelope.
    Native,
}

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Streams the events of one instance: as a WebSocket, or with `Accept: text/event-stream` as
/// server-sent events.
#[utoipa::path(
    get, path = "/v1/instances/{instance}/stream", tag = "realtime",
    params(
        ("instance" = String, Path, description = "Id in any form, or name."),
        StreamQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Of server-sent events: comes before `after`."),
    ),
    responses(
        (status = 101, description = "A WebSocket: a JSON document per frame."),
        (status = 200, description = "Server-sent events.", content_type = "text/event-stream"),
        Streaming
    )
)]
pub(super) async fn stream_instance(
    State(app): State<App>,
    headers: HeaderMap,
    peer: Option<Extension<Peer>>,
    Path(instance): Path<String>,
    Query(query): Query<StreamQuery>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let asked = Asked::read(&app, &headers, query, upgrade)?;
    let caller = asked.caller(&app, &headers, peer).await?;
    let known = caller.instance(&app, &instance).await?;
    let (account, id) = (known.instance.account, known.instance.id);
    asked.answer(&app, &caller, Reader::Instance(id), Some(account), Some(id)).await
}

/// Streams the events of all instances of the account. With the admin token: of all accounts, or of
/// that of the header `zapbus-account`.
#[utoipa::path(
    get, path = "/v1/stream", tag = "realtime",
    params(
        StreamQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "Of server-sent events: comes before `after`."),
    ),
    responses(
        (status = 101, description = "A WebSocket: a JSON document per frame."),
        (status = 200, description = "Server-sent events.", content_type = "text/event-stream"),
        Streaming
    )
)]
pub(super) async fn stream_all(
    State(app): State<App>,
    headers: HeaderMap,
    peer: Option<Extension<Peer>>,
    Query(query): Query<StreamQuery>,
    upgrade: Upgrade,
) -> Result<Response, ApiError> {
    let asked = Asked::read(&app, &headers, query, upgrade)?;
    let caller = asked.caller(&app, &headers, peer).await?;
    let reader = match (caller.instance, caller.account) {
        (Some(own), _) => Reader::Instance(own),
        (None, Some(account)) => Reader::Account(account),
        (None, None) => Reader::All,
    };
    asked.answer(&app, &caller, reader, caller.account, caller.instance).await
}

/// A request for a stream, read and checked.
struct Asked {
    /// None: server-sent events.
    upgrade: Option<WebSocketUpgrade>,
    wants: Wants,
    dialect: Dialect,
    options: Options,
    acks: Acks,
    window: Window,
    after: Option<String>,
    last_event_id: Option<String>,
    subscriber: Option<String>,
    token: Option<String>,
    ticket: Option<String>,
    /// Of which web page, if it is one that asks.
    origin: Option<String>,
}

impl Asked {
    fn read(
        app: &App,
        headers: &HeaderMap,
        query: StreamQuery,
        upgrade: Upgrade,
    ) -> Result<Self, ApiError> {
        let text = |name: header::HeaderName| headers.get(name).and_then(|it| it.to_str().ok());
        let upgrade = upgrade.ok();
        let wants_events = text(header::ACCEPT).is_some_and(|it| it.contains("text/event-stream"));
        if upgrade.is_none() && !wants_events {
            return Err(ApiError::UpgradeRequired);
        }
        let dialect = query.dialect.as_deref().unwrap_or_default();
        let dialect = match dialect {
            "" => Dialect::default(),
            name => name.parse().map_err(|error: zapbus_event::DialectError| {
                ApiError::query("dialect", error.to_string())
            })?,
        };
        if query.ack == Some(Ack::Explicit) && upgrade.is_none() {
            return Err(ApiError::query(
                "ack",
                "server-sent events go one way: acknowledge on a WebSocket, or go on from \
                 Last-Event-ID",
            ));
        }
        if let Some(name) = &query.subscriber
            && let Some(Fault { message, .. }) = super::name_fault("subscriber", name)
        {
            return Err(ApiError::query("subscriber", message));
        }
        let last_event_id = headers.get("last-event-id").filter(|_| upgrade.is_none());
        Ok(Self {
            window: window(app, &query)?,
            wants: Wants {
                filter: types_of(query.types.as_deref())?.unwrap_or_else(Filter::default),
                exclude_ephemeral: query.exclude_ephemeral,
            },
            dialect,
            options: Options {
                include_raw: query.include_raw,
                fallback: match query.fallback {
                    None | Some(FallbackName::Skip) => Fallback::Skip,
                    Some(FallbackName::Extended) => Fallback::Extended,
                    Some(FallbackName::Native) => Fallback::Native,
                },
                media_key: query.media_key,
                inline_media: query.inline_media,
                live: true,
                ..Options::default()
            },
            acks: match query.ack {
                Some(Ack::Explicit) => Acks::Explicit,
                None | Some(Ack::Auto) => Acks::Auto,
            },
            last_event_id: last_event_id.and_then(|it| it.to_str().ok()).map(str::to_owned),
            after: query.after,
            subscriber: query.subscriber,
            token: query.token,
            ticket: query.ticket,
            origin: text(header::ORIGIN).map(str::to_owned),
            upgrade,
        })
    }

    /// Who asks: by header, by ticket or, for browsers, by a token in the query.
    async fn caller(
        &self,
        app: &App,
        headers: &HeaderMap,
        peer: Option<Extension<Peer>>,
    ) -> Result<Caller, ApiError> {
        if headers.contains_key(header::AUTHORIZATION) {
            return Caller::of_token(app, bearer(headers)?, headers).await;
        }
        if let Some(ticket) = &self.ticket {
            return tickets::redeem(app, ticket).await;
        }
        let Some(token) = &self.token else {
            // Says what is missing.
            return Caller::identify(app, headers).await;
        };
        let caller = Caller::of_token(app, token, headers).await?;
        if caller.role == Role::Admin && !is_near(app, peer.map(|Extension(peer)| peer)) {
            return Err(ApiError::Unauthenticated {
                reason: "The admin token is not taken from a URL: URLs are logged in many places",
            });
        }
        Ok(caller)
    }

    async fn start(&self, app: &App, caller: &Caller, reader: Reader) -> Result<Start, ApiError> {
        let text = self.last_event_id.as_deref().or(self.after.as_deref());
        let Some(text) = text else { return Ok(Start::Now) };
        let (places, exact) = places_of_stream(app, caller, reader, text).await?;
        Ok(match self.last_event_id {
            Some(_) => Start::Again(places),
            None => Start::After { places, exact },
        })
    }

    async fn answer(
        self,
        app: &App,
        caller: &Caller,
        reader: Reader,
        account: Option<AccountId>,
        instance: Option<InstanceId>,
    ) -> Result<Response, ApiError> {
        if !origins::admits(app, account, self.origin.as_deref()).await? {
            return Err(ApiError::Forbidden {
                needs: "an origin that the account's `origins` name, or `realtime.origins`",
            });
        }
        let start = self.start(app, caller, reader).await?;
        let slot = app
            .realtime
            .admit(account)
            .map_err(|full| ApiError::TooManyConnections { of_account: full == Full::Account })?;
        let opening = Opening {
            standing: caller.standing(instance),
            account,
            reader,
            wants: self.wants,
            dialect: self.dialect,
            options: self.options,
            start,
            subscriber: self.subscriber.map(|name| SubscriberKey { owner: caller.actor().0, name }),
            acks: self.acks,
            window: self.window,
        };
        let ready = app.realtime.open(slot, opening).await?;
        Ok(match self.upgrade {
            Some(upgrade) => app
                .realtime
                .upgrade(upgrade)
                .on_upgrade(move |socket| ready.serve(socket, NativeSocket)),
            None => {
                let mut response = ready.stream(NativeEvents).into_response();
                for (name, value) in [
                    (header::CONTENT_TYPE, "text/event-stream"),
                    (header::CACHE_CONTROL, "no-store"),
                    // nginx keeps back what it does not know to be a stream.
                    (header::HeaderName::from_static("x-accel-buffering"), "no"),
                ] {
                    response.headers_mut().insert(name, HeaderValue::from_static(value));
                }
                response
            }
        })
    }
}

fn window(app: &App, query: &StreamQuery) -> Result<Window, ApiError> {
    let mut window = app.realtime.config().window();
    match query.max_unacked {
        None => {}
        Some(most @ 1..=MOST_UNACKED) => window.max_unacked = most,
        Some(_) => {
            let message = format!("expected a number from 1 to {MOST_UNACKED}");
            return Err(ApiError::query("max_unacked", message));
        }
    }
    match query.ack_wait {
        None => {}
        Some(seconds) if ACK_WAIT.contains(&seconds) => {
            window.ack_wait = Duration::from_secs_f64(seconds);
        }
        Some(_) => {
            let (least, most) = (ACK_WAIT.start(), ACK_WAIT.end());
            let message = format!("expected {least} to {most} seconds");
            return Err(ApiError::query("ack_wait", message));
        }
    }
    Ok(window)
}
