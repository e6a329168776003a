//! The past of a phone that was connected: chunks of old chats.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    account,
    content::{Message, content},
    phone::{ApiError, Phone},
    status::state,
};
use crate::{
    Data,
    data::{ErrorStage, HistoryCounts, HistoryMessage, HistorySync, Status, SyncType},
    shape::{Address, MessageRef},
    source::{
        compound::{List, Object, each, read, read_member},
        delivery::{Key, Misfit, Understood},
        scalar::{Int, Text, filled, instant},
    },
};

/// The largest chunk whose items are listed in `data`; of larger ones `data` has the counts and
/// `raw` the items.
const LISTED_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct Chunk<'a> {
    metadata: Object<Place>,
    #[serde(borrow)]
    threads: Option<&'a RawValue>,
    #[serde(borrow)]
    errors: List<ApiError<'a>>,
}

#[derive(Deserialize)]
struct Place {
    phase: Int,
    chunk_order: Int,
    progress: Int,
}

#[derive(Deserialize)]
struct Thread<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow)]
    status: Text<'a>,
}

/// An element of `history`.
pub(super) fn chunk(phone: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let chunk: Chunk<'_> = serde_json::from_str(raw.get())?;
    let threads = match (chunk.threads, chunk.errors.items.first()) {
        (Some(threads), _) => threads,
        // The owner chose not to share it.
        (None, Some(error)) => return Ok(account::failed(ErrorStage::Sync, error)),
        (None, None) => return Err(Misfit::SHAPE),
    };
    let place = chunk.metadata.0.as_ref();
    let mut sync = HistorySync {
        sync_type: match place.map(|place| place.phase) {
            Some(Int(Some(0))) => SyncType::Initial,
            Some(Int(Some(1))) => SyncType::Recent,
            Some(Int(Some(2))) => SyncType::Full,
            _ => SyncType::Unknown,
        },
        chunk: place.and_then(|place| place.chunk_order.positive()),
        progress_pct: place
            .and_then(|place| place.progress.positive())
            .and_then(|progress| u8::try_from(progress.min(100)).ok()),
        counts: HistoryCounts { chats: 0, contacts: 0, messages: 0 },
        items_ref: None,
        chats: Vec::new(),
        contacts: Vec::new(),
        messages: Vec::new(),
    };
    let is_listed = raw.get().len() <= LISTED_BYTES;
    let is_list = each(threads, |raw| {
        sync.counts.chats += 1;
        let Some(thread) = read::<Thread<'_>>(raw) else { return };
        let chat = phone.person(filled(&thread.id), None).filter(|_| is_listed);
        if let Some(messages) = thread.messages {
            each(messages, |raw| {
                sync.counts.messages += 1;
                let known = chat.as_ref().and_then(|chat| past_message(phone, chat, raw));
                sync.messages.extend(known);
            });
        }
        sync.chats.extend(chat);
    });
    if !is_list {
        return Err(Misfit::SHAPE);
    }
    let data = Data::HistorySync(sync);
    Ok(Understood { data, occurred_at: None, key: Key::Place, history: true, aliases: Vec::new() })
}

/// One message of a chunk; what cannot be read is counted and stands in `raw`.
fn past_message(phone: &Phone<'_>, chat: &Address, raw: &RawValue) -> Option<HistoryMessage> {
    let message: Message<'_> = read(raw)?;
    let from_me = filled(&message.from).is_some_and(|from| phone.is_own(from));
    let context: Option<Context<'_>> = read_member(message.history_context);
    let status = context.as_ref().and_then(|context| filled(&context.status)).and_then(past_state);
    Some(HistoryMessage {
        message: MessageRef {
            id: filled(&message.id)?.to_owned(),
            chat: chat.id.clone(),
            from_me: Some(from_me),
            participant: None,
        },
        chat: chat.clone(),
        sender: if from_me { phone.own.clone() } else { chat.clone() },
        content: content(phone, &message, chat),
        occurred_at: instant(message.timestamp),
        status,
    })
}

fn past_state(name: &str) -> Option<Status> {
    match name.to_lowercase().as_str() {
        "pending" => Some(Status::Pending),
        "error" => Some(Status::Failed),
        other => state(other),
    }
}
