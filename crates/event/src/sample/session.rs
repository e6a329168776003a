//! The life of an instance, its account, and the gateway's own events.

use super::{ana, moment, own};
use crate::{
    Data, DestinationId, Position,
    data::{
        Account, AccountUpdated, BotSession, BotState, ConnectionLoss, DestinationChange,
        DestinationGap, ErrorStage, EventUnknown, InstanceAction, InstanceBanned,
        InstanceConnected, InstanceConnecting, InstanceDisconnected, InstanceError,
        InstanceLifecycle, InstanceLoggedOut, InstancePairCode, InstancePaired, InstanceQr,
        InstanceSync, LogoutReason, PairCodeState, QrFetch, SyncPhase, SystemStarted, Template,
        TemplateAspect, TemplateUpdated, UnknownReason,
    },
    shape::Json,
};

fn account() -> Account {
    Account {
        address: own(),
        name: Some("Loja Exemplo".to_owned()),
        picture_url: None,
        platform: Some("android".to_owned()),
        business_name: Some("Loja Exemplo".to_owned()),
    }
}

pub(super) fn connecting() -> Data {
    Data::InstanceConnecting(InstanceConnecting { attempt: Some(1) })
}

pub(super) fn connected() -> Data {
    Data::InstanceConnected(InstanceConnected { account: Some(account()), resumed: false })
}

pub(super) fn disconnected() -> Data {
    Data::InstanceDisconnected(InstanceDisconnected {
        reason: ConnectionLoss::Network,
        code: None,
        will_reconnect: Some(true),
    })
}

pub(super) fn logged_out() -> Data {
    Data::InstanceLoggedOut(InstanceLoggedOut {
        reason: LogoutReason::Unlinked,
        code: Some(401),
        message: None,
    })
}

pub(super) fn banned() -> Data {
    Data::InstanceBanned(InstanceBanned {
        code: Some(101),
        expires_in_s: Some(86_400),
        reason: Some("sent to too many people".to_owned()),
        appeal_url: None,
        permanent: Some(false),
    })
}

pub(super) fn qr() -> Data {
    Data::InstanceQr(InstanceQr {
        code: Some("2@sample-qr-code".to_owned()),
        image_data_url: None,
        expires_in_s: Some(20),
        attempt: Some(1),
        exhausted: false,
        fetch: QrFetch::Inline,
    })
}

pub(super) fn pair_code() -> Data {
    Data::InstancePairCode(InstancePairCode {
        code: Some("ABCD1234".to_owned()),
        expires_in_s: Some(180),
        state: PairCodeState::Issued,
        error: None,
    })
}

pub(super) fn paired() -> Data {
    Data::InstancePaired(InstancePaired { account: Some(account()) })
}

pub(super) fn error() -> Data {
    Data::InstanceError(InstanceError {
        stage: ErrorStage::UpstreamApi,
        code: Some("131000".to_owned()),
        title: Some("Something went wrong".to_owned()),
        message: Some("The request could not be processed.".to_owned()),
        fatal: false,
    })
}

pub(super) fn sync() -> Data {
    Data::InstanceSync(InstanceSync {
        phase: SyncPhase::OfflineCompleted,
        counts: [("messages".to_owned(), 12)].into(),
    })
}

pub(super) fn lifecycle() -> Data {
    Data::InstanceLifecycle(InstanceLifecycle { action: InstanceAction::Created })
}

pub(super) fn account_updated() -> Data {
    let details = [
        ("display_phone_number", "5511999990000"),
        ("event", "FLAGGED"),
        ("current_limit", "TIER_1K"),
    ];
    Data::AccountUpdated(AccountUpdated {
        topic: "phone_number_quality_update".to_owned(),
        event: Some("FLAGGED".to_owned()),
        details: Json::of(&serde_json::Map::from_iter(
            details.map(|(name, value)| (name.to_owned(), value.into())),
        )),
    })
}

pub(super) fn template_updated() -> Data {
    Data::TemplateUpdated(TemplateUpdated {
        template: Template {
            id: "600000000000001".to_owned(),
            name: Some("boas_vindas".to_owned()),
            language: Some("pt_BR".to_owned()),
        },
        aspect: TemplateAspect::Status,
        old: None,
        new: Json::string("APPROVED"),
        reason: None,
    })
}

pub(super) fn bot() -> Data {
    Data::BotSession(BotSession {
        bot: "atendimento".to_owned(),
        chat: Some(ana()),
        state: BotState::Started,
        session_id: Some("session-0001".to_owned()),
        variables: None,
    })
}

pub(super) fn started() -> Data {
    Data::SystemStarted(SystemStarted { version: Some("0.1.0".to_owned()), server_url: None })
}

pub(super) fn unknown() -> Data {
    Data::EventUnknown(EventUnknown {
        upstream_event: "brand_new_field".to_owned(),
        reason: UnknownReason::UnmappedName,
        body_ref: None,
    })
}

pub(super) fn destination(reason: Option<&str>) -> DestinationChange {
    DestinationChange {
        destination: DestinationId::new(moment(), 1),
        label: "crm".to_owned(),
        reason: reason.map(str::to_owned),
        since: Some(moment()),
        until: None,
    }
}

pub(super) fn gap() -> Data {
    Data::DestinationGap(DestinationGap {
        destination: DestinationId::new(moment(), 1),
        label: "crm".to_owned(),
        reason: Some("the journal was full".to_owned()),
        from: Position(1_001),
        to: Position(2_000),
        count: 950,
    })
}
