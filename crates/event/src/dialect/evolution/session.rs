//! The life of the instance, of its chatbots and of the server.

use serde_json::{Value, json};

use super::{Name, Scene, Told, object, put};
use crate::{
    Data,
    data::{
        BotSession, BotState, ConnectionLoss, InstanceAction, InstanceConnected,
        InstanceDisconnected, PairCodeState,
    },
};

/// What Baileys says where the code of an end is not known: closed by the other side.
const CLOSED: i64 = 428;

pub(super) fn told(scene: &Scene<'_>, data: &Data) -> Vec<Told> {
    let name = scene.context.instance_name;
    let one = match data {
        Data::InstanceConnecting(_) => connection(name, "connecting", 200),
        Data::InstanceConnected(connected) => open(name, connected),
        Data::InstanceDisconnected(lost) => {
            // Upstream says so when it does not connect again by itself.
            let is_final = lost.will_reconnect != Some(true);
            let closed = is_final.then(|| closed(scene, lost));
            return closed.into_iter().chain([disconnected(name, lost)]).collect();
        }
        Data::InstanceLoggedOut(out) => {
            return vec![
                Told::new(Name::LogoutInstance, Value::Null),
                connection(name, "close", out.code.unwrap_or(401)),
            ];
        }
        Data::InstanceBanned(_) => connection(name, "close", 402),
        Data::InstanceQr(qr) if qr.exhausted => {
            let message = "QR code limit reached, please login again";
            Told::new(Name::QrcodeUpdated, json!({ "message": message, "statusCode": 500 }))
        }
        Data::InstanceQr(qr) if qr.code.is_some() || qr.image_data_url.is_some() => {
            qrcode(name, None, qr.code.as_deref(), qr.image_data_url.as_deref(), qr.attempt)
        }
        Data::InstancePairCode(pair)
            if pair.state == PairCodeState::Issued && pair.code.is_some() =>
        {
            qrcode(name, pair.code.as_deref(), None, None, None)
        }
        Data::InstanceLifecycle(life) => {
            let row = || json!({ "instanceName": name, "instanceId": scene.instance_id() });
            match life.action {
                InstanceAction::Created => Told::new(Name::InstanceCreate, row()),
                // The instance leaves upstream's memory as well.
                InstanceAction::Deleted => {
                    return vec![
                        Told::new(Name::InstanceDelete, row()),
                        Told::new(Name::RemoveInstance, Value::Null),
                    ];
                }
                InstanceAction::Unloaded => Told::new(Name::RemoveInstance, Value::Null),
                InstanceAction::Loaded => return Vec::new(),
            }
        }
        Data::BotSession(session) => bot(session),
        Data::SystemStarted(started) => {
            let mut data = object([("message", "Application startup".into())]);
            put(&mut data, "version", started.version.clone());
            put(&mut data, "serverUrl", started.server_url.clone());
            Told::new(Name::ApplicationStartup, data.into())
        }
        _ => return Vec::new(),
    };
    vec![one]
}

fn connection(instance: &str, state: &str, reason: i64) -> Told {
    let data = json!({ "instance": instance, "state": state, "statusReason": reason });
    Told::new(Name::ConnectionUpdate, data)
}

fn open(instance: &str, connected: &InstanceConnected) -> Told {
    let account = connected.account.as_ref();
    let mut data = object([("instance", instance.into())]);
    put(&mut data, "wuid", account.map(|account| account.address.id.clone()));
    let name = account.and_then(|account| account.name.clone().or(account.business_name.clone()));
    data.insert("profileName".to_owned(), name.into());
    let picture = account.and_then(|account| account.picture_url.clone());
    data.insert("profilePictureUrl".to_owned(), picture.into());
    data.insert("state".to_owned(), "open".into());
    data.insert("statusReason".to_owned(), 200.into());
    Told::new(Name::ConnectionUpdate, data.into())
}

fn closed(scene: &Scene<'_>, lost: &InstanceDisconnected) -> Told {
    let data = json!({
        "instance": scene.context.instance_name,
        "status": "closed",
        "disconnectionAt": scene.event.occurred_at.to_string(),
        "disconnectionReasonCode": lost.code,
        "disconnectionObject": json!({ "reason": lost.reason.as_str() }).to_string(),
    });
    Told::new(Name::StatusInstance, data)
}

fn disconnected(instance: &str, lost: &InstanceDisconnected) -> Told {
    let (state, reason) = match lost.reason {
        ConnectionLoss::Refused => ("refused", 500),
        ConnectionLoss::Network => ("close", 408),
        ConnectionLoss::Replaced => ("close", 440),
        ConnectionLoss::ServerClose | ConnectionLoss::Stopped | ConnectionLoss::Unknown => {
            ("close", CLOSED)
        }
    };
    // Consumers take these for the end of the credentials, which this is not.
    let code = lost.code.filter(|code| !matches!(code, 401..=403));
    connection(instance, state, code.unwrap_or(reason))
}

fn qrcode(
    instance: &str,
    pairing_code: Option<&str>,
    code: Option<&str>,
    image: Option<&str>,
    count: Option<u32>,
) -> Told {
    let mut shown = object([
        ("instance", instance.into()),
        ("pairingCode", pairing_code.into()),
        ("code", code.into()),
        ("base64", image.into()),
    ]);
    put(&mut shown, "count", count);
    Told::new(Name::QrcodeUpdated, json!({ "qrcode": shown }))
}

fn bot(session: &BotSession) -> Told {
    let chat = session.chat.as_ref().map(|chat| chat.id.clone());
    let state = match session.state {
        BotState::Started => {
            let variables: Option<Value> = session
                .variables
                .as_ref()
                .and_then(|variables| serde_json::from_str(variables.get()).ok());
            let data = json!({
                "remoteJid": chat,
                "url": null,
                "typebot": session.bot,
                "variables": variables.unwrap_or_else(|| json!([])),
                "sessionId": session.session_id,
            });
            return Told::new(Name::TypebotStart, data);
        }
        state => state.as_str(),
    };
    let mut data = object([
        ("remoteJid", chat.into()),
        ("status", state.into()),
        ("typebot", session.bot.clone().into()),
    ]);
    let id = session.session_id.as_ref();
    put(&mut data, "session", id.map(|id| json!({ "id": id })));
    Told::new(Name::TypebotChangeStatus, data.into())
}
