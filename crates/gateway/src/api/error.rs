//! What the API answers when it does not do what was asked: RFC 9457 problem details with a
//! stable `code`.

use std::{borrow::Cow, collections::BTreeMap};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::{IntoResponses, PartialSchema, ToSchema, openapi};
use zapbus_event::{Kind, UnknownKind};
use zapbus_store::{AppendError, StoreError};

use super::body::MAX_BODY;

/// Seconds after which a caller that got 503 should try again.
const RETRY_AFTER_S: u16 = 1;

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// Where, as a path into the body (`channel.url`, `[3].data`) or the name of a parameter.
    #[schema(example = "channel.url")]
    pub path: String,
    /// What is wrong with it and what was expected.
    #[schema(example = "expected an absolute http or https URL")]
    pub message: String,
}

impl Fault {
    /// A fault at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// What an id or a name in a request stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An account.
    Account,
    /// An instance.
    Instance,
    /// A destination.
    Destination,
    /// A delivery.
    Delivery,
    /// An event.
    Event,
    /// A run of a destination.
    Run,
    /// A credential.
    Credential,
    /// A backup.
    Backup,
    /// A named subscriber.
    Subscriber,
    /// The file of an event.
    File,
    /// A path of the API.
    Route,
}

impl What {
    /// Its name in messages.
    fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Instance => "instance",
            Self::Destination => "destination",
            Self::Delivery => "delivery",
            Self::Event => "event",
            Self::Run => "run",
            Self::Credential => "credential",
            Self::Backup => "backup",
            Self::Subscriber => "subscriber",
            Self::File => "file",
            Self::Route => "route",
        }
    }

    /// The problem's stable code.
    fn code(self) -> &'static str {
        match self {
            Self::Account => "account_not_found",
            Self::Instance => "instance_not_found",
            Self::Destination => "destination_not_found",
            Self::Delivery => "delivery_not_found",
            Self::Event => "event_not_found",
            Self::Run => "run_not_found",
            Self::Credential => "credential_not_found",
            Self::Backup => "backup_not_found",
            Self::Subscriber => "subscriber_not_found",
            Self::File => "file_not_found",
            Self::Route => "route_not_found",
        }
    }
}

/// Why a request was not done. The public text is here; what only the operator may know goes
/// to the log when the answer is written.
#[derive(Debug, Clone)]
pub enum ApiError {
    /// No token, or one that nobody has (any more).
    Unauthenticated {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The token does not reach that far.
    Forbidden {
        /// What would.
        needs: &'static str,
    },
    /// There is no such thing, or it belongs to somebody else.
    NotFound(What),
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// Several accounts have an instance of that name.
    AmbiguousInstance {
        /// The name.
        name: String,
    },
    /// A unique name is taken.
    Exists {
        /// What has it.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The body is no JSON.
    Malformed(Vec<Fault>),
    /// The query string is not what the route reads.
    InvalidQuery(Vec<Fault>),
    /// The body is JSON, but not what the route reads (an unknown member, a wrong type), or asks
    /// for something impossible.
    Invalid(Vec<Fault>),
    /// An event type outside the catalog.
    UnknownEventType {
        /// Where it stands.
        path: String,
        /// The name and its neighbours.
        unknown: UnknownKind,
    },
    /// More bytes than are taken.
    TooLarge {
        /// What is limited.
        what: &'static str,
        /// To how many bytes.
        limit: usize,
    },
    /// More events in one request than are taken.
    TooManyEvents {
        /// How many are.
        limit: usize,
    },
    /// The client stopped sending, or sent a broken body.
    BrokenBody,
    /// The client sends too slowly.
    SlowBody,
    /// The gateway is going down.
    Draining,
    /// An `Idempotency-Key` came again with another request.
    IdempotencyKeyReused,
    /// The event is no longer stored.
    EventExpired,
    /// The event has passed too many gateways.
    TooManyHops {
        /// How many.
        hops: u8,
    },
    /// The signature of a source's request is missing or wrong.
    WrongSignature {
        /// Which of the two, and of what.
        reason: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The thing is reserved, or managed elsewhere.
    Conflict {
        /// The stable code.
        code: &'static str,
        /// Why.
        reason: String,
    },
    /// A range that begins behind the end of a file.
    RangeBeyond {
        /// Bytes of the file.
        length: u64,
    },
    /// A stream was asked for in a way that is none.
    UpgradeRequired,
    /// As many live connections as there may be.
    TooManyConnections {
        /// Of the account; else of the whole node.
        of_account: bool,
    },
    /// Too much is waiting for the disk.
    Busy,
    /// The store cannot do it at the moment.
    Unavailable {
        /// Why, for the operator.
        reason: String,
    },
    /// A fault of ours.
    Internal {
        /// Which, for the operator.
        cause: String,
    },
}

impl ApiError {
    /// One fault of a body that reads well.
    pub fn invalid(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Fault::new(path, message)])
    }

    /// One fault of a query string.
    pub fn query(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidQuery(vec![Fault::new(path, message)])
    }

    /// A fault of ours.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        Self::Internal { cause: cause.to_string() }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::InvalidQuery(_) | Self::BrokenBody => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthenticated { .. } | Self::WrongSignature { .. } => StatusCode::UNAUTHORIZED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::AmbiguousInstance { .. }
            | Self::Exists { .. }
            | Self::EventExpired
            | Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::TooLarge { .. } | Self::TooManyEvents { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Invalid(_) | Self::UnknownEventType { .. } | Self::IdempotencyKeyReused => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::TooManyHops { .. } => StatusCode::LOOP_DETECTED,
            Self::RangeBeyond { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::TooManyConnections { of_account: true } => StatusCode::TOO_MANY_REQUESTS,
            Self::Busy
            | Self::Draining
            | Self::TooManyConnections { of_account: false }
            | Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated { .. } => "unauthenticated",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound(what) => what.code(),
            Self::MethodNotAllowed => "method_not_allowed",
            Self::AmbiguousInstance { .. } => "ambiguous_instance",
            Self::Exists { .. } => "already_exists",
            Self::Malformed(_) => "malformed_body",
            Self::InvalidQuery(_) => "invalid_query",
            Self::Invalid(_) => "invalid",
            Self::UnknownEventType { .. } => "unknown_event_type",
            Self::TooLarge { .. } => "too_large",
            Self::TooManyEvents { .. } => "too_many_events",
            Self::BrokenBody => "broken_body",
            Self::SlowBody => "slow_body",
            Self::Draining => "draining",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::EventExpired => "event_expired",
            Self::TooManyHops { .. } => "too_many_hops",
            Self::WrongSignature { .. } => "wrong_signature",
            Self::Conflict { code, .. } => code,
            Self::RangeBeyond { .. } => "range_beyond",
            Self::UpgradeRequired => "upgrade_required",
            Self::TooManyConnections { .. } => "too_many_connections",
            Self::Busy => "busy",
            Self::Unavailable { .. } => "unavailable",
            Self::Internal { .. } => "internal",
        }
    }

    /// The same for every problem of one code.
    fn title(&self) -> &'static str {
        match self {
            Self::Unauthenticated { .. } => "The token is missing or not valid",
            Self::Forbidden { .. } => "The token does not reach that far",
            Self::NotFound(_) => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::AmbiguousInstance { .. } => "Several accounts have an instance of that name",
            Self::Exists { .. } => "The name is taken",
            Self::Malformed(_) => "The body cannot be read",
            Self::InvalidQuery(_) => "The query cannot be read",
            Self::Invalid(_) => "The request is not valid",
            Self::UnknownEventType { .. } => "Unknown event type",
            Self::TooLarge { .. } => "Too large",
            Self::TooManyEvents { .. } => "Too many events",
            Self::BrokenBody => "The body ended early",
            Self::SlowBody => "The body came too slowly",
            Self::Draining => "The gateway is shutting down",
            Self::IdempotencyKeyReused => "The Idempotency-Key was used for another request",
            Self::EventExpired => "The event is no longer stored",
            Self::TooManyHops { .. } => "The event goes in circles",
            Self::WrongSignature { .. } => "The signature is missing or wrong",
            Self::Conflict { .. } => "Not possible in this state",
            Self::RangeBeyond { .. } => "The file ends before that",
            Self::UpgradeRequired => "This is a stream",
            Self::TooManyConnections { .. } => "Too many live connections",
            Self::Busy => "Too busy",
            Self::Unavailable { .. } => "The store is not available at the moment",
            Self::Internal { .. } => "A fault of the gateway",
        }
    }

    /// What happened, what was expected, what to do.
    pub(in crate::api) fn detail(&self) -> Cow<'_, str> {
        match self {
            Self::Unauthenticated { reason } => format!(
                "{reason}. Send a valid admin, account or instance token as \
                 `Authorization: Bearer <token>`."
            )
            .into(),
            Self::Forbidden { needs } => format!("This needs {needs}.").into(),
            Self::NotFound(What::Route) => {
                "There is nothing at this path. The API is described at /docs.".into()
            }
            Self::NotFound(what) => format!("There is no such {}.", what.name()).into(),
            Self::MethodNotAllowed => {
                "This path does not take that method. The API is described at /docs.".into()
            }
            Self::AmbiguousInstance { name } => format!(
                "Several accounts have an instance named {name:?}. Give its id, or name the \
                 account in the header `zapbus-account`."
            )
            .into(),
            Self::Exists { what, name } => {
                format!("There is {what} {name:?} already. Choose another name.").into()
            }
            Self::Malformed(faults) | Self::InvalidQuery(faults) | Self::Invalid(faults) => {
                described(faults).into()
            }
            Self::UnknownEventType { path, unknown } => {
                if path.is_empty() {
                    format!("{unknown}.").into()
                } else {
                    format!("{path}: {unknown}.").into()
                }
            }
            Self::TooLarge { what, limit } => {
                format!("{what} may have at most {limit} bytes.").into()
            }
            Self::TooManyEvents { limit } => format!(
                "One request may bring at most {limit} events; nothing was stored. Send several."
            )
            .into(),
            Self::BrokenBody => "The body could not be read to its end. Send it again.".into(),
            Self::SlowBody => "The body did not arrive in time; nothing of it was stored. Send it \
                               again, without pauses."
                .into(),
            Self::Draining => "This gateway is shutting down. Send to another one, or again soon: \
                               nothing of this request was stored."
                .into(),
            Self::IdempotencyKeyReused => {
                "The same Idempotency-Key, or the event's own id, came with another request \
                 before. Nothing was stored; use a new key for a new request."
                    .into()
            }
            Self::EventExpired => {
                "The event is past its retention, so it cannot be sent again.".into()
            }
            Self::TooManyHops { hops } => format!(
                "The event has passed {hops} gateways (header `zapbus-hops`). A destination \
                 probably points back to an ingest URL: break the circle."
            )
            .into(),
            Self::WrongSignature { reason, expected } => format!("{reason}. {expected}").into(),
            Self::Conflict { reason, .. } => reason.as_str().into(),
            Self::RangeBeyond { length } => {
                format!("The file has {length} bytes; ask for a range that begins in it.").into()
            }
            Self::UpgradeRequired => "Open a WebSocket here, or ask for server-sent events with \
                                      `Accept: text/event-stream`. Pages of events are at \
                                      `/events`."
                .into(),
            Self::TooManyConnections { of_account: true } => {
                "The account has as many live connections as it may have. Close some, or ask the \
                 operator to raise `realtime.max_connections_per_account`."
                    .into()
            }
            Self::TooManyConnections { of_account: false } => {
                "This gateway has as many live connections as it may have. Connect to another \
                 one, or try again after `Retry-After`."
                    .into()
            }
            Self::Busy => "More is waiting for the disk than the gateway takes. Nothing was \
                           stored; try again after `Retry-After`."
                .into(),
            Self::Unavailable { .. } => "The gateway's database does not answer, or does not take \
                                         what is written, at the moment. Send the request again \
                                         after `Retry-After`."
                .into(),
            Self::Internal { .. } => {
                "The gateway failed; its log says more. Trying again may help.".into()
            }
        }
    }

    /// The faults of the request, if that is what it was.
    fn faults(&self) -> Vec<Fault> {
        match self {
            Self::Malformed(faults) | Self::InvalidQuery(faults) | Self::Invalid(faults) => {
                faults.clone()
            }
            Self::UnknownEventType { path, unknown } => {
                vec![Fault::new(path.clone(), unknown.to_string())]
            }
            _ => Vec::new(),
        }
    }

    /// As it goes to the caller.
    pub fn problem(&self) -> Problem {
        let code = self.code();
        Problem {
            kind: format!("urn:zapbus:problem:{code}"),
            title: self.title(),
            status: self.status().as_u16(),
            detail: self.detail().into_owned(),
            code,
            errors: self.faults(),
        }
    }

    /// Tells the operator, if it is for the operator.
    fn log(&self) {
        match self {
            Self::Internal { cause } => {
                tracing::error!(event = "api.failed", cause, "a request failed");
            }
            Self::Unavailable { reason } => {
                tracing::warn!(event = "api.unavailable", reason, "a request was put off");
            }
            Self::Busy => tracing::debug!(event = "api.busy", "a request was put off"),
            Self::TooManyHops { hops } => {
                tracing::warn!(event = "ingest.loop", hops, "an event goes in circles");
            }
            _ => {}
        }
    }
}

/// `path: message` of the first fault, and how many there are besides.
fn described(faults: &[Fault]) -> String {
    let Some(first) = faults.first() else {
        return "The request is not valid.".to_owned();
    };
    let mut text = if first.path.is_empty() {
        first.message.clone()
    } else {
        format!("{}: {}", first.path, first.message)
    };
    if faults.len() > 1 {
        text.push_str(&format!(" (and {} more, see `errors`)", faults.len() - 1));
    }
    text
}

/// What is wrong, as RFC 9457 has it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem; the same for every problem of one `code`.
    #[serde(rename = "type")]
    #[schema(example = "urn:zapbus:problem:invalid")]
    pub kind: String,
    /// The kind of problem in words.
    #[schema(value_type = String, example = "The request is not valid")]
    pub title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    pub status: u16,
    /// What happened, what was expected, what to do.
    #[schema(example = "channel.url: expected an absolute http or https URL")]
    pub detail: String,
    /// Stable name of the problem, for programs.
    #[schema(value_type = String, example = "invalid")]
    pub code: &'static str,
    /// Every fault found, with where it stands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<Fault>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let status = self.status();
        let body = serde_json::to_vec(&self.problem()).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                if let Self::RangeBeyond { length } = self
                    && let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}"))
                {
                    headers.insert(header::CONTENT_RANGE, value);
                }
            }
            StatusCode::UPGRADE_REQUIRED => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            }
            StatusCode::UNAUTHORIZED if !matches!(self, Self::WrongSignature { .. }) => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"zapbus\""),
                );
            }
            _ => {}
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { reason } => Self::Unavailable { reason },
            StoreError::NotFound { what } => Self::NotFound(match what {
                "account" => What::Account,
                "destination" => What::Destination,
                "delivery" => What::Delivery,
                "event" => What::Event,
                "run" => What::Run,
                "credential" => What::Credential,
                _ => What::Instance,
            }),
            StoreError::Exists { what, name } => Self::Exists { what, name },
            StoreError::TokenTaken => Self::Conflict {
                code: "token_taken",
                reason: "This token or secret is in use already. Choose another, or leave it out \
                         to have one made."
                    .to_owned(),
            },
            StoreError::RouteTaken { .. } => Self::Conflict {
                code: "phone_number_id_taken",
                reason: "Another instance of this account has that phone_number_id. Change its \
                         source first, or delete it."
                    .to_owned(),
            },
            error @ StoreError::ChangedMeanwhile => Self::Conflict {
                code: "changed_meanwhile",
                reason: format!("{error}. Send the request again."),
            },
            error @ StoreError::TooManyInstances { .. } => Self::Conflict {
                code: "too_many_instances",
                reason: format!("{error}. Delete one that is not needed any more."),
            },
            StoreError::EventExpired => Self::EventExpired,
            error @ StoreError::TooMany { on, .. } => Self::Conflict {
                code: if on { "too_many_enabled" } else { "too_many_destinations" },
                reason: error.to_string(),
            },
            StoreError::Refused { reason } => Self::Conflict { code: "refused", reason },
            StoreError::Sealed { what } => Self::Conflict {
                code: "sealed",
                reason: format!(
                    "{what} cannot be decrypted with the encryption keys this gateway was given."
                ),
            },
            // Whoever asks again finds the node that has it by now.
            error @ StoreError::LeaseLost { .. } => Self::Unavailable { reason: error.to_string() },
            error => Self::internal(error),
        }
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Busy { .. } => Self::Busy,
            AppendError::Unavailable { reason } => Self::Unavailable { reason },
            AppendError::UnknownInstance { .. } => Self::NotFound(What::Instance),
            AppendError::Data { reason } => Self::invalid("", reason),
        }
    }
}

macro_rules! problem_sets {
    ($($(#[$doc:meta])* $name:ident: $($status:literal)+;)+) => {
        $($(#[$doc])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, openapi::RefOr<openapi::Response>> {
                references(&[$($status),+])
            }
        })+
    };
}

problem_sets! {
    /// The problems every route can answer, for the description of the API.
    Common: 400 401 403 500 503;
    /// [`Common`], and those of routes that name something.
    Named: 400 401 403 404 409 500 503;
    /// [`Named`], and those of routes that read a body.
    Changing: 400 401 403 404 408 409 413 422 500 503;
    /// [`Changing`], and that of events that go in circles.
    Ingesting: 400 401 403 404 408 409 413 422 500 503 508;
    /// [`Named`], and those of streams.
    Streaming: 400 401 403 404 409 426 429 500 503;
    /// Those of a link to a file.
    Fetching: 400 403 404 416 500 503;
    /// Those of a source's handshake.
    Greeting: 403 404 409 500 503;
    /// Those of a source.
    Receiving: 400 401 404 408 409 413 422 500 503 508;
}

fn references(statuses: &[u16]) -> BTreeMap<String, openapi::RefOr<openapi::Response>> {
    let refers = |status: &u16| {
        let name = format!("Problem{status}");
        (status.to_string(), openapi::Ref::from_response_name(name).into())
    };
    statuses.iter().map(refers).collect()
}

/// One documented answer for each status, with an example of each of its codes.
pub fn documented() -> BTreeMap<String, openapi::RefOr<openapi::Response>> {
    let mut by_status: BTreeMap<u16, Vec<ApiError>> = BTreeMap::new();
    for error in examples() {
        by_status.entry(error.status().as_u16()).or_default().push(error);
    }
    by_status.into_iter().map(|(status, errors)| document(status, &errors)).collect()
}

fn document(status: u16, errors: &[ApiError]) -> (String, openapi::RefOr<openapi::Response>) {
    let codes: Vec<String> = errors.iter().map(|error| format!("`{}`", error.code())).collect();
    let examples = errors.iter().map(|error| {
        let value = serde_json::to_value(error.problem()).unwrap_or_default();
        let example = openapi::example::ExampleBuilder::new()
            .summary(error.title())
            .value(Some(value))
            .build();
        (error.code(), example)
    });
    let content = openapi::ContentBuilder::new()
        .schema(Some(openapi::Ref::from_schema_name(Problem::name())))
        .examples_from_iter(examples)
        .build();
    let mut response = openapi::ResponseBuilder::new()
        .description(codes.join(", "))
        .content("application/problem+json", content);
    if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS]
        .map(|it| it.as_u16())
        .contains(&status)
    {
        response = response.header(
            "Retry-After",
            openapi::HeaderBuilder::new()
                .description(Some("Seconds to wait before trying again."))
                .schema(Some(u32::schema()))
                .build(),
        );
    }
    (format!("Problem{status}"), response.build().into())
}

/// An example of every problem that callers can do something about.
fn examples() -> Vec<ApiError> {
    let conflict = |code, reason: &str| ApiError::Conflict { code, reason: reason.to_owned() };
    let unknown = match "message.recieved".parse::<Kind>() {
        Err(unknown) => Some(ApiError::UnknownEventType { path: "type".to_owned(), unknown }),
        Ok(_) => None,
    };
    let mut examples = vec![
        ApiError::Malformed(vec![Fault::new("", "EOF while parsing an object")]),
        ApiError::query("limit", "expected a number from 1 to 1000"),
        ApiError::Unauthenticated { reason: "The token is not known" },
        ApiError::WrongSignature {
            reason: "The signature does not fit the body",
            expected: super::sources::cloud_api::EXPECTED,
        },
        ApiError::Forbidden { needs: "an account or admin token" },
        ApiError::NotFound(What::Account),
        ApiError::NotFound(What::Instance),
        ApiError::NotFound(What::Destination),
        ApiError::NotFound(What::Delivery),
        ApiError::NotFound(What::Event),
        ApiError::NotFound(What::Run),
        ApiError::NotFound(What::Credential),
        ApiError::NotFound(What::Backup),
        ApiError::NotFound(What::Subscriber),
        ApiError::NotFound(What::File),
        ApiError::NotFound(What::Route),
        ApiError::MethodNotAllowed,
        ApiError::SlowBody,
        ApiError::BrokenBody,
        ApiError::AmbiguousInstance { name: "shop".to_owned() },
        ApiError::Exists { what: "instance", name: "shop".to_owned() },
        ApiError::EventExpired,
        conflict("reserved_instance", "`_account` goes with its account."),
        conflict("reserved_account", "The account `default` keeps its name."),
        conflict("phone_number_id_taken", "Another instance has that phone_number_id."),
        conflict("too_many_sources", "1000 Meta apps have an app-level source already."),
        conflict("token_taken", "This token or secret is in use already. Choose another."),
        conflict("run_ended", "This replay has ended; start a new one."),
        conflict("destination_deleted", "The destination of this delivery was deleted."),
        conflict("refused", "The account still has instances."),
        conflict("managed_by_environment", "This destination comes from the environment."),
        conflict("cannot_be_sent", "The dialect cannot write an event of that type."),
        conflict("no_channel", "Set the destination's `channel` first."),
        conflict("backup_running", "Another backup is being taken."),
        conflict("no_space", "The backup does not fit on the disk."),
        conflict("switched_off", "It was switched off through RyzeAPI's API: set it again there."),
        conflict("not_signed", "A destination of this channel signs nothing."),
        conflict("sealed", "source cannot be decrypted with the encryption keys given."),
        ApiError::TooLarge { what: "The body", limit: MAX_BODY },
        ApiError::TooManyEvents { limit: 10_000 },
        ApiError::invalid("channel.url", "expected an absolute http or https URL"),
        ApiError::IdempotencyKeyReused,
        ApiError::RangeBeyond { length: 1_024 },
        ApiError::UpgradeRequired,
        ApiError::TooManyConnections { of_account: true },
        ApiError::TooManyConnections { of_account: false },
        ApiError::Busy,
        ApiError::Draining,
        ApiError::Internal { cause: String::new() },
        ApiError::Unavailable { reason: String::new() },
        ApiError::TooManyHops { hops: 5 },
    ];
    examples.extend(unknown);
    examples
}
