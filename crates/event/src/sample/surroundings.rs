//! What surrounds messages: presence, chats, contacts, groups, channels, calls, labels.

use super::{ana, bia, group, moment, own};
use crate::{
    Data,
    data::{
        CallDirection, CallState, CallUpdated, ChannelMessage, ChatDeleted, ChatRemoval,
        ChatUpdated, ContactUpdated, GroupLifecycle, GroupMetadata, GroupParticipants,
        GroupUpdated, Label, LabelAction, LabelAssociation, LabelTarget, LabelUpdated,
        LifecycleAction, NewsletterAction, NewsletterUpdated, Participant, ParticipantAction,
        PresenceChat, PresenceState, PresenceUser, ReactionCount, Toggled, TypingState,
    },
    shape::Address,
};

pub(super) fn presence_user() -> Data {
    Data::PresenceUser(PresenceUser {
        user: ana(),
        state: PresenceState::Offline,
        last_seen: Some(moment()),
    })
}

pub(super) fn presence_chat() -> Data {
    Data::PresenceChat(PresenceChat { chat: ana(), participant: ana(), state: TypingState::Typing })
}

pub(super) fn chat_updated() -> Data {
    let mut updated = ChatUpdated::new(ana());
    updated.changed.push("archived".to_owned());
    updated.archived = Some(true);
    Data::ChatUpdated(updated)
}

pub(super) fn chat_deleted() -> Data {
    Data::ChatDeleted(ChatDeleted {
        chat: ana(),
        mode: ChatRemoval::Clear,
        delete_media: Some(true),
        keep_starred: Some(true),
    })
}

pub(super) fn contact_updated() -> Data {
    let mut updated = ContactUpdated::new(Address::phone("5511999990003"), "number");
    updated.old_number = Some(ana());
    Data::ContactUpdated(Box::new(updated))
}

pub(super) fn group_updated() -> Data {
    let mut updated = GroupUpdated::new(group());
    updated.actor = Some(ana());
    updated.changed.push("name".to_owned());
    updated.name = Some("Clientes 2026".to_owned());
    Data::GroupUpdated(Box::new(updated))
}

pub(super) fn group_participants() -> Data {
    Data::GroupParticipants(GroupParticipants {
        group: group(),
        actor: Some(ana()),
        action: ParticipantAction::Add,
        participants: vec![Participant {
            address: bia(),
            role: Some("member".to_owned()),
            error: None,
        }],
        method: Some("invite_link".to_owned()),
        self_affected: false,
    })
}

pub(super) fn group_lifecycle() -> Data {
    Data::GroupLifecycle(GroupLifecycle {
        group: group(),
        actor: Some(own()),
        action: LifecycleAction::Created,
        metadata: Some(GroupMetadata {
            name: Some("Clientes".to_owned()),
            owner: Some(own()),
            size: Some(3),
            ..GroupMetadata::default()
        }),
        reason: None,
    })
}

pub(super) fn newsletter_updated() -> Data {
    Data::NewsletterUpdated(NewsletterUpdated {
        newsletter: Address::parse("120363000000000002@newsletter").named("Ofertas"),
        action: NewsletterAction::Live,
        messages: vec![ChannelMessage {
            server_id: "101".to_owned(),
            reactions: vec![ReactionCount { emoji: "👍".to_owned(), count: 12 }],
        }],
    })
}

pub(super) fn call_updated() -> Data {
    let mut updated =
        CallUpdated::new("CALLSAMPLE0001", CallState::Offer, CallDirection::In, ana());
    updated.to = Some(own());
    updated.chat = Some(ana());
    Data::CallUpdated(Box::new(updated))
}

pub(super) fn label_updated() -> Data {
    Data::LabelUpdated(LabelUpdated {
        label: Label {
            id: "5".to_owned(),
            name: Some("Novo pedido".to_owned()),
            color: Some(3),
            color_hex: None,
            predefined_id: None,
        },
        action: LabelAction::Upserted,
    })
}

pub(super) fn label_association() -> Data {
    Data::LabelAssociation(LabelAssociation {
        label_id: "5".to_owned(),
        action: Toggled::Added,
        target: LabelTarget::Chat,
        chat: ana(),
        message: None,
    })
}
