//! Messages.

use super::{ana, bia, group, moment, own};
use crate::{
    Data, Timestamp,
    data::{
        Conversation, DeletionReason, DeletionScope, Flag, HistoryCounts, HistoryMessage,
        HistorySync, MessageDeleted, MessageEdited, MessageFlagged, MessageReaction,
        MessageReceived, MessageSent, MessageStatus, MessageUndecryptable, MessageVote,
        OptionVotes, Origin, Pricing, Status, SyncType, UndecryptableReason, VoteTarget,
    },
    shape::{Content, MessageRef, Quoted},
};

fn message(id: &str, from_me: bool) -> MessageRef {
    MessageRef { id: id.to_owned(), chat: ana().id, from_me: Some(from_me), participant: None }
}

pub(super) fn received() -> Data {
    let mut content = Content::text("Olá, quero saber o preço");
    content.quoted = Some(Quoted {
        message: message("3EB0SAMPLE0000000002", true),
        body: Some("Como podemos ajudar?".to_owned()),
    });
    Data::MessageReceived(MessageReceived {
        message: message("3EB0SAMPLE0000000001", false),
        chat: ana(),
        sender: ana(),
        content,
        edited: false,
        business_opaque: None,
        ephemeral_expires_s: None,
    })
}

pub(super) fn sent() -> Data {
    Data::MessageSent(MessageSent {
        message: message("3EB0SAMPLE0000000002", true),
        chat: ana(),
        sender: own(),
        content: Content::text("Como podemos ajudar?"),
        edited: false,
        business_opaque: None,
        ephemeral_expires_s: None,
        origin: Origin::Api,
        client_ref: Some("pedido-123".to_owned()),
        status: Status::Pending,
    })
}

pub(super) fn edited() -> Data {
    Data::MessageEdited(MessageEdited {
        message: message("3EB0SAMPLE0000000001", false),
        chat: ana(),
        sender: ana(),
        content: Content::text("Olá, quero saber o preço do frete"),
        edit_message_id: Some("3EB0SAMPLE0000000003".to_owned()),
        origin: None,
        previous: Some(Box::new(Content::text("Olá, quero saber o preço"))),
    })
}

pub(super) fn deleted() -> Data {
    Data::MessageDeleted(MessageDeleted {
        message: message("3EB0SAMPLE0000000001", false),
        chat: ana(),
        sender: ana(),
        scope: DeletionScope::Everyone,
        deleted_by: ana(),
        carrier_message_id: Some("3EB0SAMPLE0000000004".to_owned()),
        reason: Some(DeletionReason::Sender),
    })
}

pub(super) fn reaction() -> Data {
    Data::MessageReaction(MessageReaction {
        message: message("3EB0SAMPLE0000000005", false),
        chat: ana(),
        sender: ana(),
        target: message("3EB0SAMPLE0000000002", true),
        emoji: Some("👍".to_owned()),
        removed: false,
        reaction_id: Some("3EB0SAMPLE0000000005".to_owned()),
    })
}

pub(super) fn vote() -> Data {
    Data::MessageVote(MessageVote {
        message: message("3EB0SAMPLE0000000006", false),
        chat: ana(),
        sender: ana(),
        target: message("3EB0SAMPLE0000000007", true),
        target_kind: VoteTarget::Poll,
        selected: vec!["Terça".to_owned()],
        aggregate: Some(vec![OptionVotes { option: "Terça".to_owned(), voters: vec![ana().id] }]),
        decrypt_failed: false,
    })
}

pub(super) fn status() -> Data {
    Data::MessageStatus(MessageStatus {
        message: message("3EB0SAMPLE0000000002", true),
        chat: ana(),
        sender: own(),
        status: Status::Delivered,
        rank: Status::Delivered.rank(),
        recipient: ana(),
        recipient_chat: None,
        errors: Vec::new(),
        conversation: Some(Conversation {
            id: "conversation-0001".to_owned(),
            category: Some("service".to_owned()),
            expires_at: Timestamp::from_secs(1_767_312_000),
        }),
        pricing: Some(Pricing {
            billable: Some(false),
            model: Some("PMP".to_owned()),
            category: Some("service".to_owned()),
            kind: Some("free_customer_service".to_owned()),
        }),
        client_ref: Some("pedido-123".to_owned()),
    })
}

pub(super) fn undecryptable() -> Data {
    Data::MessageUndecryptable(MessageUndecryptable {
        message: message("3EB0SAMPLE0000000008", false),
        chat: ana(),
        sender: ana(),
        reason: UndecryptableReason::NoSession,
        recoverable: true,
    })
}

pub(super) fn flagged() -> Data {
    Data::MessageFlagged(MessageFlagged {
        message: MessageRef {
            id: "3EB0SAMPLE0000000009".to_owned(),
            chat: group().id,
            from_me: Some(false),
            participant: Some(bia().id),
        },
        chat: group(),
        sender: bia(),
        flag: Flag::Pin,
        value: true,
        expires_s: Some(604_800),
    })
}

pub(super) fn history() -> Data {
    Data::HistorySync(HistorySync {
        sync_type: SyncType::Recent,
        chunk: Some(1),
        progress_pct: Some(40),
        counts: HistoryCounts { chats: 1, contacts: 1, messages: 1 },
        items_ref: None,
        chats: vec![ana()],
        contacts: vec![ana()],
        messages: vec![HistoryMessage {
            message: message("3EB0SAMPLE0000000001", false),
            chat: ana(),
            sender: ana(),
            content: Content::text("Olá, quero saber o preço"),
            occurred_at: Some(moment()),
            status: Some(Status::Read),
        }],
    })
}
