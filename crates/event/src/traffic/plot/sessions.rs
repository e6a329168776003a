//! The instance itself: connection, pairing, history, account.

use crate::{
    Data,
    data::{
        Account, AccountUpdated, ConnectionLoss, ErrorStage, EventUnknown, HistoryCounts,
        HistoryMessage, HistorySync, InstanceAction, InstanceBanned, InstanceConnected,
        InstanceConnecting, InstanceDisconnected, InstanceError, InstanceLifecycle,
        InstanceLoggedOut, InstancePairCode, InstancePaired, InstanceQr, InstanceSync,
        LogoutReason, PairCodeState, QrFetch, Status, SyncPhase, SyncType, SystemStarted, Template,
        TemplateAspect, TemplateUpdated, UnknownReason,
    },
    shape::{Content, Json, MessageRef},
    traffic::{story::Story, words},
};

fn account_of(story: &Story<'_>) -> Account {
    let address = story.own();
    let name = address.name.clone();
    Account {
        address,
        business_name: name.clone(),
        name,
        picture_url: None,
        platform: Some("android".to_owned()),
    }
}

fn connect(story: &mut Story<'_>, resumed: bool) {
    story.emit(Data::InstanceConnecting(InstanceConnecting { attempt: Some(1) }));
    story.pause(0.3, 2.0);
    let account = Some(account_of(story));
    story.emit(Data::InstanceConnected(InstanceConnected { account, resumed }));
    story.pause(0.2, 1.0);
    let messages = story.random.below(20) as u64;
    story.emit(Data::InstanceSync(InstanceSync {
        phase: SyncPhase::OfflineCompleted,
        counts: [("messages".to_owned(), messages)].into(),
    }));
}

pub(super) fn opening(story: &mut Story<'_>) {
    connect(story, true);
}

pub(super) fn reconnect(story: &mut Story<'_>) {
    let reason = *story.random.pick(&[ConnectionLoss::Network, ConnectionLoss::ServerClose]);
    story.emit(Data::InstanceDisconnected(InstanceDisconnected {
        reason,
        code: None,
        will_reconnect: Some(true),
    }));
    story.pause(1.0, 4.0);
    connect(story, true);
}

/// The device was unlinked: QR codes, a pairing code, linked again, the past is loaded.
pub(super) fn relink(story: &mut Story<'_>) {
    story.emit(Data::InstanceLoggedOut(InstanceLoggedOut {
        reason: LogoutReason::Unlinked,
        code: Some(401),
        message: None,
    }));
    for attempt in 1..=2 {
        story.pause(1.0, 3.0);
        let code = format!("2@{}", story.random.hex(32));
        story.emit(Data::InstanceQr(InstanceQr {
            code: Some(code),
            image_data_url: None,
            expires_in_s: Some(20),
            attempt: Some(attempt),
            exhausted: false,
            fetch: QrFetch::Inline,
        }));
    }
    story.pause(1.0, 3.0);
    let code = story.random.hex(8);
    story.emit(Data::InstancePairCode(InstancePairCode {
        code: Some(code),
        expires_in_s: Some(180),
        state: PairCodeState::Issued,
        error: None,
    }));
    story.pause(2.0, 6.0);
    let account = Some(account_of(story));
    story.emit(Data::InstancePaired(InstancePaired { account }));
    story.pause(0.3, 1.0);
    connect(story, false);
    history(story);
}

/// A few chunks of the past.
pub(super) fn history(story: &mut Story<'_>) {
    for chunk in 1..=3_u8 {
        story.pause(0.5, 2.0);
        let person = story.person();
        let messages: Vec<_> = (0..2 + story.random.below(4))
            .map(|_| HistoryMessage {
                message: MessageRef {
                    id: story.message_id(),
                    chat: person.id.clone(),
                    from_me: Some(false),
                    participant: None,
                },
                chat: person.clone(),
                sender: person.clone(),
                content: Content::text(words::opener(story.random)),
                occurred_at: None,
                status: Some(Status::Read),
            })
            .collect();
        story.emit(Data::HistorySync(HistorySync {
            sync_type: SyncType::Recent,
            chunk: Some(u64::from(chunk)),
            progress_pct: Some(chunk * 33),
            counts: HistoryCounts { chats: 1, contacts: 1, messages: messages.len() as u64 },
            items_ref: None,
            chats: vec![person.clone()],
            contacts: vec![person],
            messages,
        }));
    }
}

pub(super) fn ban(story: &mut Story<'_>) {
    story.emit(Data::InstanceBanned(InstanceBanned {
        code: Some(101),
        expires_in_s: Some(3_600),
        reason: Some("sent to too many people".to_owned()),
        appeal_url: None,
        permanent: Some(false),
    }));
    story.pause(5.0, 20.0);
    connect(story, true);
}

pub(super) fn trouble(story: &mut Story<'_>) {
    story.emit(Data::InstanceError(InstanceError {
        stage: ErrorStage::UpstreamApi,
        code: Some("131000".to_owned()),
        title: Some("Something went wrong".to_owned()),
        message: Some("The request could not be processed.".to_owned()),
        fatal: false,
    }));
}

pub(super) fn account(story: &mut Story<'_>) {
    let event = *story.random.pick(&["FLAGGED", "UNFLAGGED", "UPGRADE", "DOWNGRADE"]);
    let details = [("event", event), ("current_limit", "TIER_1K")];
    story.emit(Data::AccountUpdated(AccountUpdated {
        topic: "phone_number_quality_update".to_owned(),
        event: Some(event.to_owned()),
        details: Json::of(&serde_json::Map::from_iter(
            details.map(|(name, value)| (name.to_owned(), value.into())),
        )),
    }));
}

pub(super) fn template(story: &mut Story<'_>) {
    let id = format!("6000000000{:05}", story.random.below(100_000));
    let (aspect, old, new) = match story.random.chance(0.7) {
        true => (TemplateAspect::Status, "PENDING", *story.random.pick(&["APPROVED", "REJECTED"])),
        false => (TemplateAspect::Quality, "GREEN", *story.random.pick(&["YELLOW", "RED"])),
    };
    story.emit(Data::TemplateUpdated(TemplateUpdated {
        template: Template {
            id,
            name: Some("oferta_da_semana".to_owned()),
            language: Some("pt_BR".to_owned()),
        },
        aspect,
        old: Some(Json::string(old)),
        new: Json::string(new),
        reason: None,
    }));
}

/// The upstream's process starts again and loads the instance.
pub(super) fn process(story: &mut Story<'_>) {
    let lifecycle = |action| Data::InstanceLifecycle(InstanceLifecycle { action });
    story.emit(lifecycle(InstanceAction::Unloaded));
    story.pause(1.0, 3.0);
    story.emit(Data::SystemStarted(SystemStarted {
        version: Some("2.4.1".to_owned()),
        server_url: None,
    }));
    story.pause(0.2, 1.0);
    story.emit(lifecycle(InstanceAction::Loaded));
    story.pause(0.2, 1.0);
    connect(story, true);
}

pub(super) fn unknown(story: &mut Story<'_>) {
    story.emit(Data::EventUnknown(EventUnknown {
        upstream_event: "brand_new_field".to_owned(),
        reason: UnknownReason::UnmappedName,
        body_ref: None,
    }));
}
