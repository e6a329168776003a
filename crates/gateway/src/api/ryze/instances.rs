//! Instances: made with everything that belongs to them, listed, deleted.

use std::collections::HashMap;

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::{Value, json};
use zapbus_event::{AccountId, InstanceId};
use zapbus_store::{Instance, InstanceStatus, RESERVED_INSTANCE};

use super::{
    access::Access,
    answer::{Failure, done},
    body::{Members, Path, Query, Unread},
    hook::{self, Spelling},
    row,
    session::status_name,
    settings,
    websocket::{Row, Wanted},
};
use crate::{
    api::{
        auth::Caller,
        native::{
            complete,
            instances::{add_within, remove, token_fault},
        },
        token,
    },
    app::App,
    ingest::Ignored,
};

/// Instances read from the store at one time.
const READ: usize = 1_000;

/// Characters of a name.
const MOST_NAME: usize = 64;

/// How a body that makes an instance calls the members of its webhook.
const OF_INSTANCE: Spelling = Spelling {
    label: None,
    enabled: "webhookEnabled",
    url: "webhookURL",
    authorization: "webhookAuthorization",
    by_events: "webhookByEvents",
    events: "webhookEvents",
    media: "webhookMediaBase64",
};

/// The same of its WebSocket.
pub(super) const SOCKET: [&str; 3] =
    ["websocketEnabled", "websocketEvents", "websocketMediaBase64"];

/// What else a body may ask for that an event bus does not have: beginnings of names.
const ELSEWHERE: [&str; 3] = ["proxy", "s3", "chatwoot"];

pub(super) fn checked_name(body: &Members) -> Result<String, Failure> {
    let name = body.text("name")?.unwrap_or_default();
    if name.is_empty() {
        return Err(Failure::bad("name is required"));
    }
    let fits = name.len() <= MOST_NAME
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && name != RESERVED_INSTANCE;
    if !fits {
        return Err(Failure::bad(format!(
            "Invalid instance name: expected 1 to {MOST_NAME} of A-Z, a-z, 0-9, `.`, `_` and `-`"
        )));
    }
    Ok(name.to_owned())
}

/// Makes an instance. What is wrong with its webhook or its WebSocket does not stand in the way: it
/// is told in the answer and in the log, and they are not set.
pub(super) async fn create(
    State(app): State<App>,
    access: Access,
    body: Unread,
) -> Result<Response, Failure> {
    access.need_account()?;
    let body = body.read()?;
    let name = checked_name(&body)?;
    let own = body.text("token")?.filter(|token| !token.is_empty());
    if let Some(fault) = token_fault(own) {
        return Err(Failure::bad(format!("{}: {}", fault.path, fault.message)));
    }
    let ignored = settings::read(&body, Ignored::default())?;
    let account = access.caller.acting_account(&app).await?;
    let mut warnings = Vec::new();
    let mut settings = ignored.settings();
    match socket_of(&app, &body) {
        Ok(Some(row)) => settings["ryze"]["websocket"] = row,
        Ok(None) => {}
        Err(failure) => warnings.push(format!("websocket: {}", failure.message())),
    }
    let hook = match body.truth(OF_INSTANCE.enabled) {
        // Off is what it is without a row.
        Ok(Some(false)) => Ok(None),
        Ok(None) if !body.says_something(OF_INSTANCE.url) => Ok(None),
        Ok(_) => hook::Wanted::read(&app, &body, &OF_INSTANCE).map(Some),
        Err(failure) => Err(failure),
    };
    let now = (app.clock)();
    let instance = Instance {
        id: InstanceId::new(now, token::random()?),
        account,
        name,
        token: match own {
            Some(token) => token.to_owned(),
            None => token::generate()?,
        },
        source: None,
        route: None,
        settings,
        created_at: now,
        deleted_at: None,
    };
    let set = make(&app, &access.caller, &instance, hook).await?;
    if let Err(failure) = &set {
        warnings.push(format!("webhook: {}", failure.message()));
    }
    warnings.extend(not_offered(&body));
    if !warnings.is_empty() {
        let found = warnings.len();
        tracing::warn!(event = "ryze.partly_made", instance = %instance.id, found, "an instance was made, but not everything of it as it was asked for; the answer says what");
    }
    let webhook = set.ok().flatten();
    let status = app.store.instance_status(instance.id).await?;
    let mut item = item(&instance, status, webhook.unwrap_or_else(row::none))?;
    item["token"] = instance.token.clone().into();
    let mut members = vec![("instance", item), ("data", json!({ "token": instance.token }))];
    if !warnings.is_empty() {
        members.push(("warnings", warnings.into()));
    }
    Ok(done(StatusCode::CREATED, "Instance created", members))
}

/// Makes the instance, then its webhook, to the end of it even if the client hangs up: else one of
/// them would be there without the other. Gives the webhook, or why there is none.
async fn make(
    app: &App,
    caller: &Caller,
    instance: &Instance,
    hook: Result<Option<hook::Wanted>, Failure>,
) -> Result<Result<Option<Value>, Failure>, Failure> {
    let (app, caller, instance) = (app.clone(), *caller, instance.clone());
    let done = complete(async move {
        let most = app.config.ryze.max_instances as usize;
        let most = (most > 0).then_some(most);
        add_within(&app, &instance, &caller.actor(), None, most).await?;
        Ok(match hook {
            Ok(Some(wanted)) => hook::set(&app, &caller, &instance, wanted).await.map(Some),
            Ok(None) => Ok(None),
            Err(failure) => Err(failure),
        })
    });
    Ok(done.await?)
}

/// What is to be set for the WebSocket, as it stands in the settings.
fn socket_of(app: &App, body: &Members) -> Result<Option<Value>, Failure> {
    let wanted = Wanted::read(&app.config.ryze, body, SOCKET)?;
    let row = wanted.map(|wanted| wanted.over(None)).filter(|row| row.enabled);
    Ok(row.map(|row| row.stored()).transpose()?)
}

/// What is asked for in vain.
fn not_offered(body: &Members) -> Vec<String> {
    let is_elsewhere = |name: &str| {
        settings::OF_SESSIONS.contains(&name)
            || ELSEWHERE.iter().any(|beginning| name.starts_with(beginning))
    };
    let asked = body.names().filter(|name| is_elsewhere(name) && body.says_something(name));
    asked
        .map(|name| format!("{name}: Zapbus delivers events and holds no session; passed over"))
        .collect()
}

/// An instance as clients see it. Nobody is shown its token here.
fn item(instance: &Instance, status: InstanceStatus, webhook: Value) -> Result<Value, Failure> {
    let state = status.state;
    let status = status_name(state.connection);
    let websocket = Row::of(instance)?.map_or_else(
        || json!({ "enabled": false, "events": [], "mediaBase64": false }),
        |row| row.shown(),
    );
    Ok(json!({
        "name": instance.name,
        "status": status,
        "connection": {
            "state": status,
            "numberJid": state.address.unwrap_or_default(),
            "presenceStatus": "",
            "displayStatus": status,
        },
        "profile": {
            "name": state.name.unwrap_or_default(),
            "pictureUrl": state.picture_url.unwrap_or_default(),
            "isBusiness": state.business_name.is_some(),
            "businessName": state.business_name.unwrap_or_default(),
        },
        "webhook": webhook,
        "websocket": websocket,
        "chatwoot": { "enabled": false },
        "proxy": { "enabled": false },
        "settings": settings::shown(instance),
        "s3": { "enabled": false },
    }))
}

/// Lists the instances that the token reaches: all, or those of these names.
pub(super) async fn list(
    State(app): State<App>,
    access: Access,
    query: Query,
) -> Result<Response, Failure> {
    access.need_allowance()?;
    let account = access.caller.acting_account(&app).await?;
    let mut found = match access.caller.instance {
        Some(own) => app.store.instance(own).await?.into_iter().collect(),
        None => instances(&app, account).await?,
    };
    let names = query.get("instanceName").unwrap_or_default().split(',').map(str::trim);
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    if !names.is_empty() {
        found.retain(|instance| names.contains(&instance.name.as_str()));
        if found.is_empty() && names.len() == 1 {
            return Err(Failure::no_instance());
        }
    }
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let items = items(&app, account, &found, access.caller.instance).await?;
    let message = match items.len() {
        1 => "1 Instance found".to_owned(),
        many => format!("{many} Instances found"),
    };
    Ok(done(StatusCode::OK, message, [("instances", items.into())]))
}

/// Instances of an account as clients see them, asked for all at once; `own` is the only one that
/// the caller reaches.
async fn items(
    app: &App,
    account: AccountId,
    instances: &[Instance],
    own: Option<InstanceId>,
) -> Result<Vec<Value>, Failure> {
    let ids = instances.iter().map(|instance| instance.id).collect();
    let statuses = app.store.instance_statuses(ids).await?;
    let webhooks = match (own, instances) {
        (Some(_), [only]) => row::find(app, only, row::DEFAULT).await?.into_iter().collect(),
        _ => app.store.destinations_labelled(account, &row::label_of(row::DEFAULT)).await?,
    };
    let webhooks: HashMap<_, _> = webhooks.iter().map(|it| (it.instance, it)).collect();
    let items = instances.iter().zip(statuses).map(|(instance, status)| {
        let webhook = match webhooks.get(&Some(instance.id)) {
            Some(destination) => row::shown(destination)?,
            None => row::none(),
        };
        item(instance, status, webhook)
    });
    items.collect()
}

/// Every instance of an account that is somebody's.
async fn instances(app: &App, account: AccountId) -> Result<Vec<Instance>, Failure> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let read = app.store.instances(Some(account), after, READ).await?;
        after = read.last().map(|instance| instance.id);
        let is_last = read.len() < READ;
        found.extend(read.into_iter().filter(|instance| {
            instance.deleted_at.is_none() && instance.name != RESERVED_INSTANCE
        }));
        if is_last {
            return Ok(found);
        }
    }
}

/// Deletes an instance. What is waiting for its webhooks is still delivered.
pub(super) async fn delete(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Response, Failure> {
    access.need_account()?;
    let known = access.instance(&app, &instance).await?;
    let (here, actor) = (app.clone(), access.caller.actor());
    let gone = known.clone();
    let removed = complete(async move { remove(&here, &gone.instance, &actor).await }).await;
    if let Err(error) = removed {
        let reason = error.problem().detail;
        return Err(Failure::while_doing(error, format!("Failed to delete instance: {reason}")));
    }
    let shown = json!({ "name": known.instance.name, "status": "deleted" });
    Ok(done(StatusCode::OK, "Instance deleted", [("instance", shown)]))
}
