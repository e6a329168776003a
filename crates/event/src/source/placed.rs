//! A message with its place, and what its deed becomes: common to all products that hand on what a
//! WhatsApp client of theirs sees.

use super::{
    delivery::Key,
    people::{aliases, is_same, keys},
    web_message::{Deed, Target},
};
use crate::{
    Alias, Data,
    data::{
        DeletionReason, DeletionScope, MessageDeleted, MessageEdited, MessageReaction,
        MessageReceived, MessageSent, MessageVote, Origin, Status,
    },
    shape::{Address, AddressKind, Content, MessageRef},
};

/// Which message, in which chat, by whom.
pub(super) struct Placed {
    pub(super) id: String,
    pub(super) chat: Address,
    pub(super) from_me: bool,
    /// In a group, who sent it.
    pub(super) participant: Option<Address>,
}

/// From whose point of view the keys inside a message are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// That of this account.
    Account,
    /// That of the message's sender, as it is on the wire.
    Sender,
}

/// How a message of this account came about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    pub(super) origin: Origin,
    pub(super) status: Status,
}

impl Placed {
    pub(super) fn message(&self) -> MessageRef {
        MessageRef {
            id: self.id.clone(),
            chat: self.chat.id.clone(),
            from_me: Some(self.from_me),
            participant: self.participant.as_ref().map(|who| who.id.clone()),
        }
    }

    pub(super) fn sender(&self, own: &Address, name: Option<String>) -> Address {
        let mut sender = match &self.participant {
            Some(participant) => participant.clone(),
            None if self.from_me => own.clone(),
            None => self.chat.clone(),
        };
        sender.name = name;
        sender
    }

    /// Keys composed of chat and participant, in each form of their addresses.
    pub(super) fn keys(&self, compose: impl Fn(&str, &str) -> String) -> Key {
        Key::Forms(keys(&self.chat, self.participant.as_ref(), compose))
    }

    /// Keys of a message, or of something that a message did.
    pub(super) fn message_keys(&self, variant: &str) -> Key {
        let (from_me, id) = (self.from_me, &self.id);
        self.keys(|chat, participant| format!("m|{chat}|{from_me}|{id}|{participant}|{variant}"))
    }

    pub(super) fn aliases(&self) -> Vec<Alias> {
        aliases([&self.chat].into_iter().chain(&self.participant))
    }

    fn is_group(&self) -> bool {
        self.chat.kind == AddressKind::Group
    }

    /// The event that a deed is, and what tells it from others of the same message in keys.
    pub(super) fn done(
        &self,
        deed: Deed,
        sender: Address,
        own: &Address,
        how: Own,
        view: View,
    ) -> (Data, String) {
        let chat = self.chat.clone();
        match deed {
            Deed::Said(mut content) => {
                self.complete(&mut content, own);
                (self.said(sender, *content, how), "new".to_owned())
            }
            Deed::Reaction { target, emoji } => {
                let data = Data::MessageReaction(MessageReaction {
                    message: self.message(),
                    target: self.reference(target, own, view),
                    removed: emoji.is_none(),
                    emoji,
                    reaction_id: Some(self.id.clone()),
                    chat,
                    sender,
                });
                (data, format!("react:{}", self.id))
            }
            Deed::Vote { target, target_kind, selected } => {
                let data = Data::MessageVote(MessageVote {
                    message: self.message(),
                    target: self.reference(target, own, view),
                    target_kind,
                    decrypt_failed: selected.is_none(),
                    selected: selected.unwrap_or_default(),
                    aggregate: None,
                    chat,
                    sender,
                });
                (data, "new".to_owned())
            }
            Deed::Edit { target, mut content } => {
                self.complete(&mut content, own);
                let data = Data::MessageEdited(MessageEdited {
                    // Nobody edits a message of someone else.
                    message: MessageRef { id: target.id, ..self.message() },
                    content: *content,
                    edit_message_id: Some(self.id.clone()),
                    origin: self.from_me.then_some(how.origin),
                    previous: None,
                    chat,
                    sender,
                });
                (data, format!("edit:{}", self.id))
            }
            Deed::Revoke { target } => {
                (self.revoked(target, sender, own), format!("revoke:{}", self.id))
            }
        }
    }

    fn said(&self, sender: Address, content: Content, how: Own) -> Data {
        let (message, chat) = (self.message(), self.chat.clone());
        let ephemeral_expires_s = content.ephemeral_expires_s;
        if !self.from_me {
            return Data::MessageReceived(MessageReceived {
                message,
                chat,
                sender,
                content,
                edited: false,
                business_opaque: None,
                ephemeral_expires_s,
            });
        }
        Data::MessageSent(MessageSent {
            message,
            chat,
            sender,
            content,
            edited: false,
            business_opaque: None,
            ephemeral_expires_s,
            origin: how.origin,
            client_ref: None,
            status: how.status,
        })
    }

    /// Whoever revokes a message sent it, unless an administrator of a group names someone else.
    fn revoked(&self, target: Target, deleted_by: Address, own: &Address) -> Data {
        let other = target.participant.filter(|who| self.is_group() && !is_same(who, &deleted_by));
        let (sender, from_me, reason) = match other {
            Some(other) => {
                let from_me = is_same(&other, own);
                (other, from_me, DeletionReason::Admin)
            }
            None => (deleted_by.clone(), self.from_me, DeletionReason::Sender),
        };
        Data::MessageDeleted(MessageDeleted {
            message: MessageRef {
                id: target.id,
                chat: self.chat.id.clone(),
                from_me: Some(from_me),
                participant: (self.is_group() && !from_me).then(|| sender.id.clone()),
            },
            scope: DeletionScope::Everyone,
            deleted_by,
            carrier_message_id: Some(self.id.clone()),
            reason: Some(reason),
            chat: self.chat.clone(),
            sender,
        })
    }

    /// The message that this one speaks of.
    fn reference(&self, target: Target, own: &Address, view: View) -> MessageRef {
        let in_group = self.is_group();
        let from_me = match (view, target.from_me, &target.participant) {
            (View::Account, from_me, _) => from_me,
            (View::Sender, _, Some(who)) if in_group => Some(is_same(who, own)),
            (View::Sender, Some(from_me), _) if !in_group => Some(from_me == self.from_me),
            // In a group the sender's own is this account's only if both are the same.
            (View::Sender, from_me, _) => {
                from_me.and_then(|from_me| from_me.then_some(self.from_me))
            }
        };
        MessageRef {
            id: target.id,
            chat: self.chat.id.clone(),
            from_me,
            participant: target.participant.filter(|_| in_group).map(|who| who.id),
        }
    }

    /// Completes the reference to the message that is answered.
    pub(super) fn complete(&self, content: &mut Content, own: &Address) {
        let Some(quoted) = &mut content.quoted else { return };
        let message = &mut quoted.message;
        if message.chat.is_empty() {
            message.chat.clone_from(&self.chat.id);
        }
        if let Some(participant) = &message.participant {
            message.from_me = Some(is_same(&Address::parse(participant), own));
            // Whoever writes in a chat of two needs no naming.
            if !self.is_group() && message.chat == self.chat.id {
                message.participant = None;
            }
        }
    }
}
