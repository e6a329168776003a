//! The life of the instance and of its account.

use std::collections::BTreeMap;

use super::Posted;
use crate::{
    Data,
    data::{
        Account, AccountUpdated, ConnectionLoss, ErrorStage, InstanceBanned, InstanceConnected,
        InstanceDisconnected, InstanceError, InstanceLoggedOut, InstancePaired, InstanceQr,
        InstanceSync, LogoutReason, QrFetch, SyncPhase,
    },
    nesting,
    shape::Json,
    source::{
        delivery::{Misfit, Understood},
        people::{aliases, person},
    },
};

const NANOSECONDS: u64 = 1_000_000_000;

/// Everything that concerns the instance as a whole.
pub(super) fn changed(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let data = match posted.name {
        "Connected" => Data::InstanceConnected(InstanceConnected { account: None, resumed: false }),
        "Disconnected" => lost(ConnectionLoss::ServerClose),
        "StreamReplaced" => lost(ConnectionLoss::Replaced),
        // Older versions write it in two words.
        "LoggedOut" | "Logged Out" => {
            let code = event.int("Reason");
            let reason = match code {
                Some(401) => LogoutReason::Unlinked,
                // WhatsApp Web's own name for it.
                Some(403) => LogoutReason::Locked,
                _ => LogoutReason::Unknown,
            };
            Data::InstanceLoggedOut(InstanceLoggedOut { reason, code, message: None })
        }
        "TemporaryBan" => Data::InstanceBanned(InstanceBanned {
            code: event.int("Code"),
            expires_in_s: event.count::<u64>("Expire").map(|expire| expire / NANOSECONDS),
            reason: event.int("Code").and_then(ban_reason).map(str::to_owned),
            appeal_url: None,
            permanent: Some(false),
        }),
        "QR" => {
            let codes = event.texts("Codes");
            let code = posted.root.text("code").or_else(|| codes.into_iter().next());
            let image = posted.root.text("qrCodeBase64");
            if code.is_none() && image.is_none() {
                return Err(Misfit::SHAPE);
            }
            qr(code, image, false)
        }
        "QRTimeout" => qr(None, None, true),
        "PairSuccess" => return paired(posted),
        "PairError" => failed(posted, ErrorStage::Pairing, "pair_error", true),
        "QRScannedWithoutMultidevice" => {
            failed(posted, ErrorStage::Pairing, "qr_scanned_no_multidevice", false)
        }
        "ClientOutdated" => failed(posted, ErrorStage::Protocol, "client_outdated", true),
        "ConnectFailure" => failed(posted, ErrorStage::Connection, "connect_failure", false),
        "StreamError" => failed(posted, ErrorStage::Protocol, "stream_error", false),
        "CATRefreshError" => failed(posted, ErrorStage::Session, "cat_refresh_error", false),
        "OfflineSyncPreview" => sync(
            posted,
            SyncPhase::OfflinePreview,
            &["Total", "AppDataChanges", "Messages", "Notifications", "Receipts"],
        ),
        "OfflineSyncCompleted" => sync(posted, SyncPhase::OfflineCompleted, &["Count"]),
        "AppStateSyncComplete" => sync(posted, SyncPhase::AppStateCompleted, &[]),
        "KeepAliveTimeout" => sync(posted, SyncPhase::KeepaliveTimeout, &["ErrorCount"]),
        "KeepAliveRestored" => sync(posted, SyncPhase::KeepaliveRestored, &[]),
        "PushNameSetting" => account(posted, "push_name")?,
        "PrivacySettings" => account(posted, "privacy")?,
        "Blocklist" => account(posted, "blocklist")?,
        _ => return Err(Misfit::NAME),
    };
    Ok(posted.understood(data))
}

fn qr(code: Option<String>, image_data_url: Option<String>, exhausted: bool) -> Data {
    Data::InstanceQr(InstanceQr {
        code,
        image_data_url,
        expires_in_s: None,
        attempt: None,
        exhausted,
        fetch: QrFetch::Inline,
    })
}

fn lost(reason: ConnectionLoss) -> Data {
    let will_reconnect = Some(reason != ConnectionLoss::Replaced);
    Data::InstanceDisconnected(InstanceDisconnected { reason, code: None, will_reconnect })
}

/// whatsmeow's `TempBanReason`.
fn ban_reason(code: i64) -> Option<&'static str> {
    Some(match code {
        101 => "sent too many messages to people who do not have this number in their address book",
        102 => "blocked by too many people",
        103 => "created too many groups with people who do not have this number",
        104 => "sent the same message to too many people",
        106 => "sent too many messages to a broadcast list",
        _ => return None,
    })
}

/// `PairSuccess`, which shows both forms of the number's own address.
fn paired(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let address = person(&event.text("ID").ok_or(Misfit::SHAPE)?, &[event.text("LID")]);
    let learned = aliases([&address]);
    let account = Account {
        address,
        name: None,
        picture_url: None,
        platform: event.text("Platform"),
        business_name: event.text("BusinessName"),
    };
    let data = Data::InstancePaired(InstancePaired { account: Some(account) });
    Ok(Understood { aliases: learned, ..posted.understood(data) })
}

fn failed(posted: &Posted<'_>, stage: ErrorStage, code: &str, fatal: bool) -> Data {
    let event = &posted.event;
    // A number of the protocol; ours is the name.
    let number = event.text_of(&["Reason", "Code"]);
    let message = event.text_of(&["Message", "Error"]);
    Data::InstanceError(InstanceError {
        stage,
        code: Some(code.to_owned()),
        title: number,
        message,
        fatal,
    })
}

fn sync(posted: &Posted<'_>, phase: SyncPhase, counted: &[&str]) -> Data {
    let counts: BTreeMap<String, u64> = counted
        .iter()
        .filter_map(|name| Some((name.to_lowercase(), posted.event.count(name)?)))
        .collect();
    Data::InstanceSync(InstanceSync { phase, counts })
}

fn account(posted: &Posted<'_>, topic: &str) -> Result<Data, Misfit> {
    if !nesting::is_bounded(posted.words.as_bytes()) {
        return Err(Misfit::SHAPE);
    }
    Ok(Data::AccountUpdated(AccountUpdated {
        topic: topic.to_owned(),
        event: posted.event.text("Action"),
        details: Json::parse(posted.words).ok_or(Misfit::SHAPE)?,
    }))
}
