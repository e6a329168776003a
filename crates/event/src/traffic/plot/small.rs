//! What is over within seconds.

use std::time::Duration;

use crate::{
    Data,
    data::{
        ChatDeleted, ChatRemoval, ChatUpdated, ContactPreference, ContactUpdated, DeletionReason,
        DeletionScope, Flag, Label, LabelAction, LabelAssociation, LabelTarget, LabelUpdated,
        MessageDeleted, MessageFlagged, MessageUndecryptable, Picture, PresenceState, PresenceUser,
        Toggled, TypingState, UndecryptableReason,
    },
    shape::{Content, MessageRef},
    traffic::{content, story::Story, words},
};

/// A message comes and nobody answers yet.
pub(super) fn greeting(story: &mut Story<'_>) {
    let person = story.person();
    let content = content::of_person(words::opener(story.random), story.random);
    story.receive(&person, &person, content);
}

pub(super) fn presence(story: &mut Story<'_>) {
    let user = story.person();
    let state = *story.random.pick(&[PresenceState::Online, PresenceState::Offline]);
    story.emit(Data::PresenceUser(PresenceUser { user, state, last_seen: None }));
}

/// Somebody begins to write and thinks better of it.
pub(super) fn typing(story: &mut Story<'_>) {
    let person = story.person();
    story.typing(&person, &person, TypingState::Typing);
    story.pause(2.0, 6.0);
    story.typing(&person, &person, TypingState::Paused);
}

pub(super) fn chat(story: &mut Story<'_>) {
    let mut updated = ChatUpdated::new(story.person());
    let changed = match story.random.below(4) {
        0 => {
            updated.archived = Some(story.random.chance(0.7));
            "archived"
        }
        1 => {
            updated.pinned = Some(true);
            "pinned"
        }
        2 => {
            updated.ephemeral_expires_s = Some(604_800);
            "ephemeral_expires_s"
        }
        _ => {
            updated.unread_count = Some(1 + story.random.below(9) as u32);
            "unread_count"
        }
    };
    updated.changed.push(changed.to_owned());
    story.emit(Data::ChatUpdated(updated));
}

pub(super) fn chat_deleted(story: &mut Story<'_>) {
    let person = story.person();
    let sender = person.clone();
    let (message, deleted_by) = (past_message(story, &person.id), story.own());
    story.emit(Data::MessageDeleted(MessageDeleted {
        message,
        chat: person.clone(),
        deleted_by,
        sender,
        scope: DeletionScope::Me,
        carrier_message_id: None,
        reason: Some(DeletionReason::Unknown),
    }));
    story.pause(1.0, 4.0);
    let mode = *story.random.pick(&[ChatRemoval::Clear, ChatRemoval::Delete]);
    story.emit(Data::ChatDeleted(ChatDeleted {
        chat: person,
        mode,
        delete_media: Some(true),
        keep_starred: Some(true),
    }));
}

/// A message from before the traffic began.
fn past_message(story: &mut Story<'_>, chat: &str) -> MessageRef {
    MessageRef {
        id: story.message_id(),
        chat: chat.to_owned(),
        from_me: Some(false),
        participant: None,
    }
}

pub(super) fn contact(story: &mut Story<'_>) {
    let person = story.person();
    let name = person.name.clone();
    let updated = match story.random.below(4) {
        0 => {
            let mut updated = ContactUpdated::new(person, "picture");
            let id = Some(story.random.hex(10).to_lowercase());
            updated.picture = Some(Picture { id, url: None, removed: false });
            updated
        }
        1 => {
            let mut updated = ContactUpdated::new(person, "about");
            updated.about = Some("Disponível".to_owned());
            updated
        }
        2 => {
            let mut updated = ContactUpdated::new(person, "preferences");
            updated.preferences.push(ContactPreference {
                category: "marketing_messages".to_owned(),
                value: (*story.random.pick(&["stop", "resume"])).to_owned(),
                details: None,
            });
            updated
        }
        _ => {
            let mut updated = ContactUpdated::new(person, "name");
            updated.push_name = name;
            updated
        }
    };
    story.emit(Data::ContactUpdated(Box::new(updated)));
}

/// A short message of ours and a reaction to it.
pub(super) fn reaction(story: &mut Story<'_>) {
    let person = story.person();
    let text = Content::text(words::answer(story.random));
    let ours = story.send(&person, text);
    let mut by = ours.clone();
    by.sender = person;
    by.message.from_me = Some(false);
    super::shop::react(story, &ours, &by);
}

pub(super) fn flag(story: &mut Story<'_>) {
    let person = story.person();
    let flag = *story.random.pick(&[Flag::Star, Flag::Pin, Flag::Keep]);
    let (message, value) = (past_message(story, &person.id), story.random.chance(0.8));
    story.emit(Data::MessageFlagged(MessageFlagged {
        message,
        chat: person.clone(),
        sender: person,
        flag,
        value,
        expires_s: matches!(flag, Flag::Pin).then_some(604_800),
    }));
}

/// A message that cannot be read at first; mostly it comes again.
pub(super) fn undecryptable(story: &mut Story<'_>) {
    let person = story.person();
    let text = Content::text(words::opener(story.random));
    let at = story.now;
    story.pause(2.0, 8.0);
    let said = story.receive_silently(&person, &person, text);
    story.events.push((
        at,
        Data::MessageUndecryptable(MessageUndecryptable {
            message: said.message,
            chat: person.clone(),
            sender: person,
            reason: UndecryptableReason::NoSession,
            recoverable: true,
        }),
    ));
}

/// A label is made or renamed and put on a chat.
pub(super) fn label(story: &mut Story<'_>) {
    const LABELS: [&str; 5] =
        ["Novo cliente", "Novo pedido", "Pagamento pendente", "Pago", "Pedido concluído"];
    let index = story.random.below(LABELS.len());
    let id = (index + 1).to_string();
    story.emit(Data::LabelUpdated(LabelUpdated {
        label: Label {
            id: id.clone(),
            name: Some(LABELS[index].to_owned()),
            color: Some(index as u32),
            color_hex: None,
            predefined_id: None,
        },
        action: LabelAction::Upserted,
    }));
    story.now += Duration::from_millis(300);
    let chat = story.person();
    let action = if story.random.chance(0.8) { Toggled::Added } else { Toggled::Removed };
    story.emit(Data::LabelAssociation(LabelAssociation {
        label_id: id,
        action,
        target: LabelTarget::Chat,
        chat,
        message: None,
    }));
}
