//! The life of the instance, of its chatbots and of the upstream itself.

use super::Envelope;
use crate::{
    Data,
    data::{
        Account, BotSession, BotState, ConnectionLoss, InstanceAction, InstanceBanned,
        InstanceConnected, InstanceConnecting, InstanceDisconnected, InstanceLifecycle,
        InstanceLoggedOut, InstancePairCode, InstanceQr, LogoutReason, PairCodeState, QrFetch,
        SystemStarted,
    },
    dialect::evolution::Name,
    shape::{Address, AddressKind, Json},
    source::delivery::{Misfit, Understood},
};

/// Everything that is one event of `data` as a whole.
pub(super) fn changed(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let data = match envelope.name {
        Name::ConnectionUpdate => connection(envelope)?,
        Name::StatusInstance => {
            let posted = envelope.object()?;
            let understood =
                envelope.understood(disconnected(posted.int("disconnectionReasonCode")));
            return Ok(Understood { occurred_at: posted.time("disconnectionAt"), ..understood });
        }
        Name::LogoutInstance => logged_out(None),
        Name::InstanceCreate => lifecycle(InstanceAction::Created),
        Name::InstanceDelete => lifecycle(InstanceAction::Deleted),
        Name::RemoveInstance => lifecycle(InstanceAction::Unloaded),
        Name::TypebotStart | Name::TypebotChangeStatus => bot(envelope)?,
        Name::ApplicationStartup => {
            let posted = envelope.object().unwrap_or_default();
            Data::SystemStarted(SystemStarted {
                version: posted.text("version"),
                server_url: envelope.members.text("server_url"),
            })
        }
        _ => return Err(Misfit::NAME),
    };
    Ok(envelope.understood(data))
}

fn lifecycle(action: InstanceAction) -> Data {
    Data::InstanceLifecycle(InstanceLifecycle { action })
}

fn connection(envelope: &Envelope<'_>) -> Result<Data, Misfit> {
    let posted = envelope.object()?;
    let code = posted.int("statusReason");
    Ok(match (posted.text("state").ok_or(Misfit::SHAPE)?.as_str(), code) {
        ("connecting", _) => Data::InstanceConnecting(InstanceConnecting { attempt: None }),
        ("open", _) => {
            let address = match posted.text("wuid") {
                Some(wuid) => Some(Address::parse(&wuid)),
                None => Some(envelope.own.clone()).filter(|own| own.kind != AddressKind::Unknown),
            };
            let account = address.map(|address| Account {
                address,
                name: posted.text("profileName"),
                picture_url: posted.text("profilePictureUrl"),
                platform: None,
                business_name: None,
            });
            Data::InstanceConnected(InstanceConnected { account, resumed: false })
        }
        ("close", Some(401 | 403)) => logged_out(code),
        ("close", Some(402)) => Data::InstanceBanned(InstanceBanned {
            code,
            expires_in_s: None,
            reason: None,
            appeal_url: None,
            permanent: None,
        }),
        ("close", _) => disconnected(code),
        ("refused", _) => Data::InstanceDisconnected(InstanceDisconnected {
            reason: ConnectionLoss::Refused,
            code,
            will_reconnect: Some(false),
        }),
        _ => return Err(Misfit::NAME),
    })
}

/// The numbers are those of Baileys' `DisconnectReason`; after some of them Evolution gives up.
fn disconnected(code: Option<i64>) -> Data {
    let reason = match code {
        Some(408) => ConnectionLoss::Network,
        Some(428 | 503 | 515) => ConnectionLoss::ServerClose,
        Some(440) => ConnectionLoss::Replaced,
        _ => ConnectionLoss::Unknown,
    };
    let will_reconnect = code.map(|code| !matches!(code, 401 | 402 | 403 | 406));
    Data::InstanceDisconnected(InstanceDisconnected { reason, code, will_reconnect })
}

fn logged_out(code: Option<i64>) -> Data {
    let reason = match code {
        Some(401) => LogoutReason::Unlinked,
        // WhatsApp Web's own name for it.
        Some(403) => LogoutReason::Locked,
        _ => LogoutReason::Unknown,
    };
    Data::InstanceLoggedOut(InstanceLoggedOut { reason, code, message: None })
}

/// `qrcode.updated`: a QR code, a pairing code, both, or the end of them.
pub(super) fn qr(envelope: &Envelope<'_>) -> Result<Vec<Understood>, Misfit> {
    let posted = envelope.object()?;
    let Some(shown) = posted.object("qrcode") else {
        // The limit was reached.
        posted.raw("statusCode").or(posted.raw("message")).ok_or(Misfit::SHAPE)?;
        return Ok(vec![envelope.understood(qr_code(None, None, None, true))]);
    };
    let (code, image) = (shown.text("code"), shown.text("base64"));
    let mut found = Vec::new();
    if code.is_some() || image.is_some() {
        let attempt = shown.count("count");
        found.push(envelope.understood(qr_code(code, image, attempt, false)));
    }
    if let Some(code) = shown.text("pairingCode") {
        found.push(envelope.understood(Data::InstancePairCode(InstancePairCode {
            code: Some(code),
            expires_in_s: None,
            state: PairCodeState::Issued,
            error: None,
        })));
    }
    if found.is_empty() { Err(Misfit::SHAPE) } else { Ok(found) }
}

fn qr_code(
    code: Option<String>,
    image_data_url: Option<String>,
    attempt: Option<u32>,
    exhausted: bool,
) -> Data {
    let fetch = QrFetch::Inline;
    Data::InstanceQr(InstanceQr {
        code,
        image_data_url,
        expires_in_s: None,
        attempt,
        exhausted,
        fetch,
    })
}

fn bot(envelope: &Envelope<'_>) -> Result<Data, Misfit> {
    let posted = envelope.object()?;
    let state = match (envelope.name, posted.text("status").as_deref()) {
        (Name::TypebotStart, _) => BotState::Started,
        (_, Some("opened")) => BotState::Opened,
        (_, Some("paused")) => BotState::Paused,
        (_, Some("closed")) => BotState::Closed,
        (_, Some(_)) => BotState::Unknown,
        (_, None) => return Err(Misfit::SHAPE),
    };
    let session = posted.object("session");
    Ok(Data::BotSession(BotSession {
        bot: posted.text("typebot").unwrap_or_else(|| "typebot".to_owned()),
        chat: posted.text("remoteJid").map(|chat| Address::parse(&chat)),
        state,
        session_id: posted.text("sessionId").or_else(|| session?.text_of(&["sessionId", "id"])),
        variables: posted
            .raw("variables")
            .filter(|variables| crate::nesting::is_bounded(variables.get().as_bytes()))
            .map(Json::from),
    }))
}
