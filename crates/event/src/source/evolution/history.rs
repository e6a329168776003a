//! Lists of the past: `messages.set`, `chats.set`, `contacts.set`, and the count of a whole one.

use serde_json::value::RawValue;

use super::{Envelope, message};
use crate::{
    Data,
    data::{HistoryCounts, HistorySync, SyncType},
    dialect::evolution::Name,
    shape::Address,
    source::{
        compound::each,
        delivery::{Misfit, Understood},
        members::Members,
    },
};

/// The largest list whose items are listed in `data`; of larger ones `data` has the counts and
/// `raw` the items.
const LISTED_BYTES: usize = 64 * 1024;

pub(super) fn set(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let data = envelope.data().ok_or(Misfit::SHAPE)?;
    let mut sync = HistorySync {
        sync_type: SyncType::Unknown,
        chunk: None,
        progress_pct: progress(&envelope.members),
        counts: HistoryCounts::default(),
        items_ref: None,
        chats: Vec::new(),
        contacts: Vec::new(),
        messages: Vec::new(),
    };
    if envelope.name == Name::MessagingHistorySet {
        let count = Members::of(data).ok_or(Misfit::SHAPE)?;
        sync.counts = HistoryCounts {
            chats: count.count("chatCount").unwrap_or(0),
            contacts: count.count("contactCount").unwrap_or(0),
            messages: count.count("messageCount").unwrap_or(0),
        };
        sync.progress_pct = progress(&count);
        return Ok(past(envelope, sync));
    }
    let is_listed = data.get().len() <= LISTED_BYTES;
    let is_list = each(data, |raw| add(envelope, &mut sync, raw, is_listed));
    if !is_list {
        return Err(Misfit::SHAPE);
    }
    Ok(past(envelope, sync))
}

fn add(envelope: &Envelope<'_>, sync: &mut HistorySync, raw: &RawValue, is_listed: bool) {
    match envelope.name {
        Name::MessagesSet => {
            sync.counts.messages += 1;
            sync.messages.extend(is_listed.then(|| message::past(envelope, raw)).flatten());
        }
        Name::ChatsSet => {
            sync.counts.chats += 1;
            sync.chats.extend(is_listed.then(|| address(raw, &["name", "pushName"])).flatten());
        }
        _ => {
            sync.counts.contacts += 1;
            let names = ["pushName", "name", "notify"];
            sync.contacts.extend(is_listed.then(|| address(raw, &names)).flatten());
        }
    }
}

fn past(envelope: &Envelope<'_>, mut sync: HistorySync) -> Understood {
    // An empty list is of its kind too.
    sync.sync_type = match envelope.name {
        Name::MessagesSet => SyncType::Messages,
        Name::ChatsSet => SyncType::Chats,
        Name::ContactsSet => SyncType::Contacts,
        _ => SyncType::Unknown,
    };
    Understood { history: true, ..envelope.understood(Data::HistorySync(sync)) }
}

fn progress(members: &Members<'_>) -> Option<u8> {
    let progress: u64 = members.count("progress")?;
    u8::try_from(progress.min(100)).ok()
}

fn address(raw: &RawValue, names: &[&str]) -> Option<Address> {
    let posted = Members::of(raw)?;
    let mut address = Address::parse(&posted.text_of(&["remoteJid", "id"])?);
    address.name = posted.text_of(names);
    Some(address)
}
