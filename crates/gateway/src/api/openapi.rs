//! The API's description, made from the code, and a page to browse it.

use axum::{
    Router,
    extract::{Path, State},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use bytes::Bytes;
use http::{StatusCode, header};
use std::sync::Arc;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, RefOr, Required,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};
use utoipa_swagger_ui::Config;

use super::{
    auth::ACCOUNT_HEADER,
    error::{Fault, Problem, documented},
};
use crate::app::App;

/// What is said once for all routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Zapbus",
        description = "A durable event bus for WhatsApp. Events of many numbers come in, are made \
                       durable once, and go out to everyone who asked for them.\n\n\
                       Errors are RFC 9457 problem details (`application/problem+json`) with a \
                       stable `code`. A path that is there may answer 405 to a method it does not \
                       take. Lists come in pages: `{\"data\": […], \"next\": …}`, where \
                       `next` is what `after` takes. An answer may gain members at any time.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem, Fault)),
    modifiers(&Token),
    security(("token" = [])),
    tags(
        (name = "accounts", description = "Tenants."),
        (name = "credentials", description = "Tokens of an account."),
        (name = "instances", description = "WhatsApp numbers and sessions."),
        (name = "sources", description = "Where events enter."),
        (name = "events", description = "Storing events and reading the journal."),
        (name = "realtime", description = "Events as they happen, over a connection that stays open."),
        (name = "destinations", description = "Push targets, and replays to them."),
        (name = "deliveries", description = "The delivery log, and sending again."),
        (name = "media", description = "Files of messages, at signed links."),
        (name = "operations", description = "Audit, erasure, backups, health."),
    )
)]
struct Frame;

/// The one way to say who asks.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "The admin token, a credential of an account, or the token of an instance.",
            ))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The description without its routes.
pub(super) fn frame() -> openapi::OpenApi {
    let mut frame = Frame::openapi();
    frame.info.version = env!("CARGO_PKG_VERSION").to_owned();
    frame.info.contact = None;
    frame.components.get_or_insert_default().responses = documented();
    frame
}

/// The whole description.
pub fn document() -> openapi::OpenApi {
    let mut document = super::routes().into_openapi();
    for (path, item) in &mut document.paths.paths {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        // Whoever names an account by its path or id needs no header to do so.
        if path.starts_with("/v1/") && !path.starts_with("/v1/accounts") {
            operations.into_iter().flatten().for_each(take_account);
        }
    }
    document
}

/// Every request with the admin token may say which account it means.
fn take_account(operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    let is_there = |parameter: &RefOr<Parameter>| match parameter {
        RefOr::T(parameter) => parameter.name == ACCOUNT_HEADER,
        RefOr::Ref(_) => false,
    };
    if parameters.iter().any(is_there) {
        return;
    }
    let parameter = ParameterBuilder::new()
        .name(ACCOUNT_HEADER)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("With the admin token: the account to act in, by id or name."))
        .schema(Some(openapi::ObjectBuilder::new().schema_type(openapi::Type::String)))
        .build();
    parameters.push(parameter.into());
}

/// `/openapi.json` and `/docs`.
pub(super) fn router() -> Router<App> {
    let text: Bytes = document().to_json().unwrap_or_default().into();
    let config = Arc::new(Config::from("/openapi.json"));
    Router::new()
        .route(
            "/openapi.json",
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], text) }),
        )
        .route("/docs", get(|| async { Redirect::to("/docs/") }))
        .route("/docs/", get(show_docs).with_state(config.clone()))
        .route("/docs/{*file}", get(show_docs).with_state(config))
}

/// A file of the page; all of them are part of the binary.
async fn show_docs(
    file: Option<Path<String>>,
    State(config): State<Arc<Config<'static>>>,
) -> Response {
    let file = file.as_ref().map_or("", |Path(file)| file.as_str());
    match utoipa_swagger_ui::serve(file, config) {
        Ok(Some(file)) => ([(header::CONTENT_TYPE, file.content_type)], file.bytes).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => super::error::ApiError::internal(error).into_response(),
    }
}
