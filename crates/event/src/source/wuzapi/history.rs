//! Chunks of the past.

use serde_json::value::RawValue;

use super::Posted;
use crate::{
    Data,
    data::{HistoryCounts, HistoryMessage, HistorySync, Status, SyncType},
    shape::{Address, AddressKind},
    source::{
        compound::each,
        delivery::{Key, Misfit, Understood},
        members::Members,
        placed::Placed,
        web_message::{self, Deed, File},
    },
};

/// The largest chunk whose items are listed in `data`; of larger ones `data` has the counts and
/// `raw` the items.
const LISTED_BYTES: usize = 64 * 1024;

/// `HistorySync`. It has neither id nor time: the same chunk again is news.
pub(super) fn chunk(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let data = posted.event.object("Data").ok_or(Misfit::SHAPE)?;
    let mut sync = HistorySync {
        sync_type: match data.text("syncType").as_deref() {
            Some("0" | "INITIAL_BOOTSTRAP") => SyncType::Initial,
            Some("1" | "INITIAL_STATUS_V3") => SyncType::Status,
            Some("2" | "FULL") => SyncType::Full,
            Some("3" | "RECENT") => SyncType::Recent,
            Some("4" | "PUSH_NAME") => SyncType::PushName,
            Some("5" | "NON_BLOCKING_DATA") => SyncType::NonBlocking,
            Some("6" | "ON_DEMAND") => SyncType::OnDemand,
            _ => SyncType::Unknown,
        },
        chunk: data.count("chunkOrder"),
        progress_pct: data
            .count::<u64>("progress")
            .and_then(|progress| u8::try_from(progress.min(100)).ok()),
        counts: HistoryCounts::default(),
        items_ref: None,
        chats: Vec::new(),
        contacts: Vec::new(),
        messages: Vec::new(),
    };
    let is_listed = posted.words.len() <= LISTED_BYTES;
    if let Some(chats) = data.raw("conversations") {
        each(chats, |raw| conversation(&mut sync, raw, is_listed));
    }
    if let Some(names) = data.raw("pushnames") {
        each(names, |raw| {
            sync.counts.contacts += 1;
            sync.contacts.extend(is_listed.then(|| contact(raw)).flatten());
        });
    }
    Ok(Understood {
        data: Data::HistorySync(sync),
        occurred_at: None,
        key: Key::Never,
        history: true,
        aliases: Vec::new(),
    })
}

fn contact(raw: &RawValue) -> Option<Address> {
    let entry = Members::of(raw)?;
    let mut contact = Address::parse(&entry.text("ID")?);
    contact.name = entry.text("pushname");
    Some(contact)
}

fn conversation(sync: &mut HistorySync, raw: &RawValue, is_listed: bool) {
    sync.counts.chats += 1;
    let Some(posted) = Members::of(raw) else { return };
    let chat = posted.text("ID").filter(|_| is_listed).map(|id| {
        let mut chat = Address::parse(&id);
        chat.name = posted.text("name");
        chat
    });
    if let Some(messages) = posted.raw("messages") {
        each(messages, |raw| {
            sync.counts.messages += 1;
            sync.messages.extend(chat.as_ref().and_then(|chat| message(chat, raw)));
        });
    }
    sync.chats.extend(chat);
}

/// A `WebMessageInfo`; what only does something to another message is counted.
fn message(chat: &Address, raw: &RawValue) -> Option<HistoryMessage> {
    let posted = Members::of(raw)?.object("message")?;
    let key = posted.object("key")?;
    let from_me = key.is_set("fromMe");
    let in_group = chat.kind == AddressKind::Group;
    let participant = posted.text("participant").or_else(|| key.text("participant"));
    let participant = participant.filter(|_| in_group).map(|who| Address::parse(&who));
    let placed = Placed { id: key.text("ID")?, chat: chat.clone(), from_me, participant };
    let own = Address::bare("unknown".to_owned(), AddressKind::Unknown);
    let message = posted.object("message")?;
    let Deed::Said(mut content) = web_message::deed(&message, None, &File::default()) else {
        return None;
    };
    placed.complete(&mut content, &own);
    Some(HistoryMessage {
        message: placed.message(),
        sender: placed.sender(&own, posted.text("pushName")),
        chat: placed.chat,
        content: *content,
        occurred_at: posted.time("messageTimestamp"),
        status: posted.text("status").and_then(|status| state(&status)),
    })
}

/// `WebMessageInfo.Status`.
fn state(status: &str) -> Option<Status> {
    Some(match status {
        "0" | "ERROR" => Status::Failed,
        "1" | "PENDING" => Status::Pending,
        "2" | "SERVER_ACK" => Status::Sent,
        "3" | "DELIVERY_ACK" => Status::Delivered,
        "4" | "READ" => Status::Read,
        "5" | "PLAYED" => Status::Played,
        _ => return None,
    })
}
