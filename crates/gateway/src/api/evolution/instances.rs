//! Instances: made, listed, deleted.

mod list;

pub(super) use list::fetch;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::{Map, Value, json};
use zapbus_event::InstanceId;
use zapbus_store::{Instance, Start, StoreError};

use super::{
    access::Access,
    answer::Failure,
    blocks::Blocks,
    body::{Members, Path},
    session::{code, done, state_name},
    settings::{self, About},
    webhook::to_its_end,
};
use crate::{
    api::{
        error::ApiError,
        native::{
            instances::{add, remove},
            name_fault,
        },
        token,
    },
    app::App,
};

/// The values of `integration`; the first is meant when there is none.
const INTEGRATIONS: [&str; 3] = ["WHATSAPP-BAILEYS", "WHATSAPP-BUSINESS", "EVOLUTION"];

/// What is asked of an instance that is made.
struct Wanted {
    instance: Instance,
    about: About,
    blocks: Blocks,
    /// A QR code is asked for.
    qr: bool,
}

impl Wanted {
    async fn read(app: &App, access: &Access, body: &Members) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        let mut text = |names: &[&str]| {
            let read = body.text(names).unwrap_or_else(|fault| {
                faults.push(fault);
                None
            });
            read.filter(|text| !text.is_empty())
        };
        let name = text(&["instanceName"]);
        let integration = text(&["integration"]);
        let token = text(&["token"]);
        let number = text(&["number"]);
        let business_id = text(&["businessId"]);
        let qr = body.truth(&["qrcode"]).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        if name.is_none() {
            faults.push(body.requires("instanceName"));
        }
        super::block::refuse_if_any(faults)?;
        let name = name.unwrap_or_default();
        if let Some(fault) = name_fault("instanceName", &name) {
            return Err(Failure::bad(format!("instanceName: {}", fault.message)));
        }
        let integration = match integration.as_deref() {
            None => INTEGRATIONS[0],
            Some(given) => *INTEGRATIONS
                .iter()
                .find(|known| **known == given)
                .ok_or_else(|| Failure::bad("Invalid integration"))?,
        };
        if app.directory.instance_named(access.account, &name).await?.is_some() {
            return Err(taken(&name));
        }
        let blocks = Blocks::read(app, access.account, body).await?;
        let now = (app.clock)();
        let about = About { integration: Some(integration.to_owned()), number, business_id };
        let kept = serde_json::to_value(&about).map_err(ApiError::internal)?;
        let settings = settings::with(&json!({}), "about", kept);
        let instance = Instance {
            id: InstanceId::new(now, token::random()?),
            account: access.account,
            name,
            token: match token {
                Some(token) => checked_token(token)?,
                None => new_token()?,
            },
            source: None,
            route: None,
            settings: blocks.settings(settings, now),
            created_at: now,
            deleted_at: None,
        };
        Ok(Self { instance, about, blocks, qr: qr == Some(true) })
    }
}

fn taken(name: &str) -> Failure {
    Failure::forbidden(format!("This name \"{name}\" is already in use."))
}

fn checked_token(token: String) -> Result<String, Failure> {
    let fits = token.len() <= 256 && token.bytes().all(|byte| byte.is_ascii_graphic());
    match fits {
        true => Ok(token),
        false => Err(Failure::bad("token: expected 1 to 256 visible ASCII characters")),
    }
}

/// A token as Evolution makes it: a random UUID, in capitals.
fn new_token() -> Result<String, Failure> {
    let random = token::random()?;
    // RFC 9562 §5.4: version 4, variant 10.
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let text = format!("{bits:032X}");
    let groups = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    Ok(groups.join("-"))
}

/// Makes an instance with the channels that the body names. All of it, or nothing.
pub(super) async fn create(
    State(app): State<App>,
    access: Access,
    body: Members,
) -> Result<Response, Failure> {
    access.need_account()?;
    let wanted = Wanted::read(&app, &access, &body).await?;
    let answer = to_its_end(async move {
        let _one_at_a_time = app.evolution.changing.lock().await;
        let actor = access.caller.actor();
        match add(&app, &wanted.instance, &actor, None).await {
            Ok(()) => {}
            Err(StoreError::Exists { .. }) => return Err(taken(&wanted.instance.name)),
            Err(StoreError::TokenTaken) => {
                return Err(Failure::bad("The token belongs to another instance already"));
            }
            Err(error) => return Err(error.into()),
        }
        match make_rest(&app, &access, &wanted).await {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                remove(&app, &wanted.instance, &actor).await?;
                Err(failure)
            }
        }
    })
    .await?;
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn make_rest(app: &App, access: &Access, wanted: &Wanted) -> Result<Value, Failure> {
    let Wanted { instance, about, blocks, qr } = wanted;
    // From the first event on, which says that the instance was made.
    let channels = blocks.put(app, &access.caller, instance, Start::Beginning).await?;
    let state = app.store.instance_status(instance.id).await?.state;
    let is_business = about.integration.as_deref() == Some(INTEGRATIONS[1]);
    let webhook_wa =
        is_business.then(|| format!("{}/sources/cloud-api/{}", app.public_url, instance.id));
    let mut answer = Map::new();
    let mut put = |name: &str, value: Value| answer.insert(name.to_owned(), value);
    put(
        "instance",
        json!({
            "instanceName": instance.name,
            "instanceId": instance.id.to_uuid(),
            "integration": about.integration,
            "webhookWaBusiness": webhook_wa,
            "accessTokenWaBusiness": "",
            "status": state_name(state.connection),
        }),
    );
    put("hash", instance.token.as_str().into());
    for (name, value) in channels {
        put(name, value);
    }
    put("settings", session_settings());
    if *qr && about.integration.as_deref() == Some(INTEGRATIONS[0]) {
        put("qrcode", code(&state, (app.clock)()));
    }
    Ok(Value::Object(answer))
}

/// What a session would do by itself. There is none here, so all of it is off.
fn session_settings() -> Value {
    json!({
        "rejectCall": false,
        "msgCall": "",
        "groupsIgnore": false,
        "alwaysOnline": false,
        "readMessages": false,
        "readStatus": false,
        "syncFullHistory": false,
        "wavoipToken": "",
    })
}

/// Deletes an instance. What is waiting for its channels is still delivered.
pub(super) async fn delete(
    State(app): State<App>,
    access: Access,
    Path(instance): Path<String>,
) -> Result<Json<Value>, Failure> {
    let known = access.instance(&app, &instance).await?;
    let actor = access.caller.actor();
    to_its_end(async move { Ok(remove(&app, &known.instance, &actor).await?) }).await?;
    Ok(done("Instance deleted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_a_random_uuid_in_capitals() {
        let (one, two) = (new_token().unwrap(), new_token().unwrap());
        assert_ne!(one, two);
        for token in [one, two] {
            let groups: Vec<_> = token.split('-').collect();
            assert_eq!(groups.iter().map(|it| it.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            assert!(groups[2].starts_with('4'), "{token}");
            assert!(groups[3].starts_with(['8', '9', 'A', 'B']), "{token}");
            let fits = |c: char| c == '-' || c.is_ascii_digit() || ('A'..='F').contains(&c);
            assert!(token.chars().all(fits), "{token}");
        }
    }

    #[test]
    fn a_token_of_ones_own_may_be_short_and_must_be_visible() {
        assert!(checked_token("x".to_owned()).is_ok());
        assert!(checked_token("a b".to_owned()).is_err());
        assert!(checked_token("x".repeat(257)).is_err());
    }
}
