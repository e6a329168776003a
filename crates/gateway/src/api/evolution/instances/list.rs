//! `GET /instance/fetchInstances`

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use zapbus_event::InstanceId;
use zapbus_store::{Instance, RESERVED_INSTANCE, Role};

use crate::{
    api::{
        body::Query,
        error::ApiError,
        evolution::{
            access::Access,
            answer::Failure,
            brokers::{self, Broker},
            session::state_name,
            settings::{self, About},
            sockets::websocket_row,
        },
    },
    app::App,
};

/// Instances read at a time.
const PAGE: usize = 500;

/// Which of them; unknown parameters mean nothing, as upstream has it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::api::evolution) struct Which {
    instance_name: Option<String>,
    instance_id: Option<String>,
    number: Option<String>,
}

impl Which {
    /// Empty parameters say nothing.
    fn cleaned(self) -> Self {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            instance_name: said(self.instance_name),
            instance_id: said(self.instance_id),
            number: said(self.number),
        }
    }
}

/// Lists the instances that the key reaches.
pub(in crate::api::evolution) async fn fetch(
    State(app): State<App>,
    access: Access,
    query: Result<Query<Which>, ApiError>,
) -> Result<Json<Vec<Value>>, Failure> {
    let Query(which) = query?;
    let which = which.cleaned();
    let named = which.instance_name.as_deref().or(which.instance_id.as_deref());
    let found = match named {
        Some(named) => vec![one(&app, &access, named).await?],
        None => all(&app, &access).await?,
    };
    let mut rows = Vec::with_capacity(found.len());
    for instance in found {
        let row = row(&app, &access, &instance).await?;
        if which.number.as_deref().is_none_or(|number| row["number"] == *number) {
            rows.push(row);
        }
    }
    Ok(Json(rows))
}

async fn one(app: &App, access: &Access, named: &str) -> Result<Instance, Failure> {
    match access.instance(app, named).await {
        Ok(known) => Ok(known.instance.clone()),
        Err(failure) if failure.is_not_found() && access.caller.role != Role::Instance => {
            Err(Failure::not_found(format!("Instance \"{named}\" not found")))
        }
        Err(failure) => Err(failure),
    }
}

async fn all(app: &App, access: &Access) -> Result<Vec<Instance>, Failure> {
    if let Some(own) = access.caller.instance {
        return Ok(app.store.instance(own).await?.into_iter().collect());
    }
    let mut found = Vec::new();
    let mut after: Option<InstanceId> = None;
    loop {
        let page = app.store.instances(Some(access.account), after, PAGE).await?;
        after = page.last().map(|instance| instance.id);
        let is_last = page.len() < PAGE;
        found.extend(page.into_iter().filter(|instance| {
            instance.deleted_at.is_none() && instance.name != RESERVED_INSTANCE
        }));
        if is_last {
            return Ok(found);
        }
    }
}

async fn row(app: &App, access: &Access, instance: &Instance) -> Result<Value, Failure> {
    let state = app.store.instance_status(instance.id).await?.state;
    let about: About = settings::read(instance, "about").unwrap_or_default();
    let number = about.number.clone().or_else(|| state.phone.clone());
    let is_own = access.caller.role == Role::Instance;
    let shows_token = is_own || app.config.evolution.expose_api_key != Some(false);
    let is_down = state_name(state.connection) == "close" && state.since.is_some();
    let mut row = json!({
        "id": instance.id.to_uuid(),
        "name": instance.name,
        "connectionStatus": state_name(state.connection),
        "ownerJid": state.address,
        "profileName": state.name,
        "profilePicUrl": state.picture_url,
        "integration": about.integration.as_deref().unwrap_or("WHATSAPP-BAILEYS"),
        "number": number,
        "businessId": about.business_id,
        "token": shows_token.then_some(instance.token.as_str()),
        "clientName": "zapbus",
        "disconnectionReasonCode": null,
        "disconnectionObject": null,
        "disconnectionAt": state.since.filter(|_| is_down),
        "createdAt": instance.created_at,
        "updatedAt": state.since.unwrap_or(instance.created_at).max(instance.created_at),
        "Chatwoot": null,
        "Proxy": null,
        "Rabbitmq": brokers::row(app, Broker::Rabbitmq, instance).await?,
        "Nats": null,
        "Sqs": brokers::row(app, Broker::Sqs, instance).await?,
        "Websocket": websocket_row(instance),
        "Setting": null,
    });
    row["_count"] = json!({ "Message": 0, "Contact": 0, "Chat": 0 });
    Ok(row)
}
