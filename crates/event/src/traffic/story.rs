//! One thing that happens, with everything that follows from it, laid out in time.

use std::time::Duration;

use super::{
    cast::{self, Cast, Group},
    random::Random,
};
use crate::{
    Data,
    data::{
        Conversation, MessageReceived, MessageSent, MessageStatus, Origin, PresenceChat, Pricing,
        Status, TypingState,
    },
    shape::{Address, Body, Content, MessageRef, UpstreamError},
};

/// A story while it is being told: its own clock, and what it has put down so far.
pub(super) struct Story<'a> {
    pub(super) random: &'a mut Random,
    pub(super) cast: &'a Cast,
    pub(super) instance: usize,
    /// When the teller is, from the beginning of the traffic.
    pub(super) now: Duration,
    /// What happens when, not sorted.
    pub(super) events: Vec<(Duration, Data)>,
}

/// A message that was said.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) message: MessageRef,
    pub(super) chat: Address,
    pub(super) sender: Address,
    pub(super) text: Option<String>,
}

impl<'a> Story<'a> {
    pub(super) fn new(
        random: &'a mut Random,
        cast: &'a Cast,
        instance: usize,
        now: Duration,
    ) -> Self {
        Self { random, cast, instance, now, events: Vec::new() }
    }

    /// Lets between so and so many seconds pass, mostly few.
    pub(super) fn pause(&mut self, from: f64, to: f64) {
        self.now += Duration::from_millis((self.random.skewed(from, to) * 1_000.0) as u64);
    }

    /// It happens now.
    pub(super) fn emit(&mut self, data: Data) {
        self.events.push((self.now, data));
    }

    /// What it is about to tell happens beside the story: its clock comes back afterwards.
    pub(super) fn aside(&mut self, tell: impl FnOnce(&mut Self)) {
        let now = self.now;
        tell(self);
        self.now = now;
    }

    pub(super) fn own(&self) -> Address {
        cast::own(self.instance)
    }

    pub(super) fn person(&mut self) -> Address {
        self.cast.person(self.instance, self.random)
    }

    pub(super) fn group(&mut self) -> Group<'a> {
        self.cast.group(self.instance, self.random)
    }

    /// An id as WhatsApp's clients make them.
    pub(super) fn message_id(&mut self) -> String {
        format!("3EB0{}", self.random.hex(18))
    }

    fn reference(&mut self, chat: &Address, sender: &Address, from_me: bool) -> MessageRef {
        MessageRef {
            id: self.message_id(),
            chat: chat.id.clone(),
            from_me: Some(from_me),
            participant: chat.id.ends_with("@g.us").then(|| sender.id.clone()),
        }
    }

    /// Somebody begins to write.
    pub(super) fn typing(&mut self, chat: &Address, who: &Address, state: TypingState) {
        self.emit(Data::PresenceChat(PresenceChat {
            chat: chat.clone(),
            participant: who.clone(),
            state,
        }));
    }

    /// Somebody writes to us: they are seen typing, then the message is there.
    pub(super) fn receive(&mut self, chat: &Address, sender: &Address, content: Content) -> Said {
        let state = match content.body {
            Body::Audio(_) => TypingState::Recording,
            _ => TypingState::Typing,
        };
        self.typing(chat, sender, state);
        self.pause(0.8, 6.0);
        self.receive_silently(chat, sender, content)
    }

    /// The message alone.
    pub(super) fn receive_silently(
        &mut self,
        chat: &Address,
        sender: &Address,
        content: Content,
    ) -> Said {
        let message = self.reference(chat, sender, false);
        let said = Said {
            message: message.clone(),
            chat: chat.clone(),
            sender: sender.clone(),
            text: text_of(&content),
        };
        self.emit(Data::MessageReceived(MessageReceived {
            message,
            chat: chat.clone(),
            sender: sender.clone(),
            content,
            edited: false,
            business_opaque: None,
            ephemeral_expires_s: None,
        }));
        said
    }

    /// We write to a person; the receipts follow beside the story.
    pub(super) fn send(&mut self, to: &Address, content: Content) -> Said {
        let said = self.send_unnoticed(to, content);
        self.aside(|story| {
            story.pause(0.2, 1.5);
            story.receipt(&said, to, Status::Sent);
            if story.random.chance(0.03) {
                story.pause(0.3, 2.0);
                story.receipt(&said, to, Status::Failed);
                return;
            }
            story.pause(0.3, 4.0);
            story.receipt(&said, to, Status::Delivered);
            if story.random.chance(0.85) {
                story.pause(1.0, 40.0);
                story.receipt(&said, to, Status::Read);
            }
        });
        said
    }

    /// We write to a group; each member has receipts of their own.
    pub(super) fn send_to(&mut self, group: &Group<'_>, content: Content) -> Said {
        let said = self.send_unnoticed(&group.address, content);
        for nth in 0..group.size().min(4) {
            let member = group.member(nth);
            self.aside(|story| {
                story.pause(0.5, 8.0);
                story.receipt(&said, &member, Status::Delivered);
                if story.random.chance(0.6) {
                    story.pause(2.0, 60.0);
                    story.receipt(&said, &member, Status::Read);
                }
            });
        }
        said
    }

    fn send_unnoticed(&mut self, chat: &Address, content: Content) -> Said {
        let sender = self.own();
        let message = self.reference(chat, &sender, true);
        let origin = if self.random.chance(0.7) { Origin::Api } else { Origin::Device };
        let client_ref = match origin {
            Origin::Api => Some(format!("ref-{}", self.random.hex(8).to_lowercase())),
            _ => None,
        };
        let said = Said {
            message: message.clone(),
            chat: chat.clone(),
            sender: sender.clone(),
            text: text_of(&content),
        };
        self.emit(Data::MessageSent(MessageSent {
            message,
            chat: chat.clone(),
            sender,
            content,
            edited: false,
            business_opaque: None,
            ephemeral_expires_s: None,
            origin,
            client_ref,
            status: Status::Pending,
        }));
        said
    }

    fn receipt(&mut self, said: &Said, recipient: &Address, status: Status) {
        let errors = match status {
            Status::Failed => vec![UpstreamError {
                code: Some(131_026),
                title: Some("Message undeliverable".to_owned()),
                message: Some("The recipient cannot receive this message.".to_owned()),
                details: None,
            }],
            _ => Vec::new(),
        };
        let in_group = said.message.participant.is_some();
        let billed = matches!(status, Status::Sent) && !in_group;
        let conversation = billed.then(|| Conversation {
            id: self.random.hex(24).to_lowercase(),
            category: Some("service".to_owned()),
            expires_at: None,
        });
        let pricing = billed.then(|| Pricing {
            billable: Some(false),
            model: Some("PMP".to_owned()),
            category: Some("service".to_owned()),
            kind: Some("free_customer_service".to_owned()),
        });
        self.emit(Data::MessageStatus(MessageStatus {
            message: said.message.clone(),
            chat: said.chat.clone(),
            sender: said.sender.clone(),
            status,
            rank: status.rank(),
            recipient: recipient.clone(),
            recipient_chat: in_group.then(|| said.chat.clone()),
            errors,
            conversation,
            pricing,
            client_ref: None,
        }));
    }
}

fn text_of(content: &Content) -> Option<String> {
    match &content.body {
        Body::Text(text) => Some(text.body.clone()),
        Body::Image(media) | Body::Video(media) | Body::Document(media) => media.caption.clone(),
        _ => None,
    }
}
