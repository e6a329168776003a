//! What surrounds messages: presence, chats, labels, calls, and the session itself.

use serde_json::value::RawValue;

use super::Envelope;
use crate::{
    Data,
    data::{
        Account, CallDirection, CallState, CallUpdated, ChatUpdated, ConnectionLoss, ErrorStage,
        InstanceConnected, InstanceConnecting, InstanceDisconnected, InstanceError, InstanceQr,
        InstanceSync, Label, LabelAction, LabelAssociation, LabelTarget, LabelUpdated,
        PresenceChat, PresenceState, PresenceUser, QrFetch, SyncPhase, Toggled, TypingState,
    },
    shape::{Address, AddressKind},
    source::{
        delivery::{Key, Misfit, Understood},
        members::Members,
        people::is_same,
    },
};

/// One participant of `presence.update`. Presence is news each time.
pub(super) fn presence(
    envelope: &Envelope<'_>,
    chat: &str,
    raw: &RawValue,
) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let participant = posted.text("participant").ok_or(Misfit::SHAPE)?;
    let state = posted.text("lastKnownPresence").ok_or(Misfit::SHAPE)?;
    let who = Address::parse(&participant);
    let typing = |who, state| {
        Data::PresenceChat(PresenceChat { chat: Address::parse(chat), participant: who, state })
    };
    let user = |user, state| {
        let last_seen = posted.time("lastSeen");
        Data::PresenceUser(PresenceUser { user, state, last_seen })
    };
    let data = match state.as_str() {
        "online" => user(who, PresenceState::Online),
        "offline" => user(who, PresenceState::Offline),
        "typing" => typing(who, TypingState::Typing),
        "recording" => typing(who, TypingState::Recording),
        "paused" => typing(who, TypingState::Paused),
        _ => return Err(Misfit::NAME),
    };
    Ok(Understood { key: Key::Never, ..envelope.understood(data) })
}

/// `chat.archive`.
pub(super) fn archived(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let id = envelope.payload.text("id").ok_or(Misfit::SHAPE)?;
    let mut updated = ChatUpdated::new(Address::parse(&id));
    updated.archived = Some(envelope.payload.flag("archived").ok_or(Misfit::SHAPE)?);
    updated.changed.push("archived".to_owned());
    Ok(envelope.understood(Data::ChatUpdated(updated)))
}

/// `call.received`, `call.accepted`, `call.rejected`.
pub(super) fn call(envelope: &Envelope<'_>, state: CallState) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let id = payload.text("id").ok_or(Misfit::SHAPE)?;
    let from = Address::parse(&payload.text("from").ok_or(Misfit::SHAPE)?);
    let direction = match is_same(&from, &envelope.own) {
        true => CallDirection::Out,
        false => CallDirection::In,
    };
    let mut updated = CallUpdated::new(&id, state, direction, from);
    updated.chat = Some(updated.from.clone());
    updated.is_video = payload.is_set("isVideo");
    updated.is_group = payload.is_set("isGroup");
    let data = Data::CallUpdated(Box::new(updated));
    let key = Key::Composed(format!("c|{id}|{}", state.as_str()));
    Ok(Understood { key, ..envelope.understood(data) })
}

/// `label.upsert`, `label.deleted`.
pub(super) fn label(envelope: &Envelope<'_>, action: LabelAction) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let label = Label {
        id: payload.text("id").ok_or(Misfit::SHAPE)?,
        name: payload.text("name"),
        color: payload.count("color"),
        color_hex: payload.text("colorHex"),
        predefined_id: None,
    };
    Ok(envelope.understood(Data::LabelUpdated(LabelUpdated { label, action })))
}

/// `label.chat.added`, `label.chat.deleted`.
pub(super) fn labeled(envelope: &Envelope<'_>, action: Toggled) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let label = payload.object("label").and_then(|label| label.text("id"));
    let data = Data::LabelAssociation(LabelAssociation {
        label_id: payload.text("labelId").or(label).ok_or(Misfit::SHAPE)?,
        action,
        target: LabelTarget::Chat,
        chat: Address::parse(&payload.text("chatId").ok_or(Misfit::SHAPE)?),
        message: None,
    });
    Ok(envelope.understood(data))
}

/// `session.status`.
pub(super) fn status(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let data = match envelope.payload.text("status").ok_or(Misfit::SHAPE)?.as_str() {
        "STARTING" => Data::InstanceConnecting(InstanceConnecting { attempt: None }),
        "SCAN_QR_CODE" => Data::InstanceQr(InstanceQr {
            code: None,
            image_data_url: None,
            expires_in_s: None,
            attempt: None,
            exhausted: false,
            fetch: QrFetch::Upstream,
        }),
        "WORKING" => {
            let own = Some(envelope.own.clone()).filter(|own| own.kind != AddressKind::Unknown);
            let account = own.map(|mut address| Account {
                name: address.name.take(),
                address,
                picture_url: None,
                platform: None,
                business_name: None,
            });
            Data::InstanceConnected(InstanceConnected { account, resumed: false })
        }
        "STOPPED" => Data::InstanceDisconnected(InstanceDisconnected {
            reason: ConnectionLoss::Stopped,
            code: None,
            will_reconnect: Some(false),
        }),
        "FAILED" => Data::InstanceError(InstanceError {
            stage: ErrorStage::Session,
            code: Some("FAILED".to_owned()),
            title: None,
            message: envelope.payload.text_of(&["error", "message"]),
            fatal: true,
        }),
        _ => return Err(Misfit::NAME),
    };
    Ok(envelope.understood(data))
}

/// `state.change`: what the engine thinks of its connection, which is not the session's status.
pub(super) fn engine_state(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let state = envelope.payload.text_of(&["state", "connection"]);
    let phase = match state.as_deref() {
        Some("TIMEOUT") => SyncPhase::KeepaliveTimeout,
        Some("CONNECTED" | "open") => SyncPhase::KeepaliveRestored,
        _ => SyncPhase::Dirty,
    };
    let counts = std::collections::BTreeMap::new();
    Ok(envelope.understood(Data::InstanceSync(InstanceSync { phase, counts })))
}
