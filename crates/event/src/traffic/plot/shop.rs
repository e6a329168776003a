//! A shop and its customers.

use crate::{
    Data,
    data::{
        BotSession, BotState, ChatUpdated, DeletionReason, DeletionScope, MessageDeleted,
        MessageEdited, MessageReaction,
    },
    shape::{Body, Content, Interactive, InteractiveKind},
    traffic::{
        content,
        story::{Said, Story},
        words,
    },
};

/// Somebody asks, the shop answers, to and fro a few times.
pub(super) fn conversation(story: &mut Story<'_>) {
    let person = story.person();
    let opener = words::opener(story.random);
    let said = content::of_person(opener, story.random);
    let mut last = story.receive(&person, &person, said);
    for _ in 0..1 + story.random.below(4) {
        read(story, &last);
        story.pause(1.0, 15.0);
        let mut answer = Content::text(words::answer(story.random));
        if story.random.chance(0.3) {
            answer = content::answering(answer, &last);
        }
        let ours = story.send(&person, answer);
        if story.random.chance(0.08) {
            edit(story, &ours);
        }
        story.pause(2.0, 25.0);
        let mut reply = content::of_person(words::follow_up(story.random), story.random);
        if story.random.chance(0.25) {
            reply = content::answering(reply, &ours);
        }
        last = story.receive(&person, &person, reply);
        if story.random.chance(0.12) {
            react(story, &ours, &last);
        }
        if story.random.chance(0.06) {
            edit(story, &last);
        }
        if story.random.chance(0.05) {
            revoke(story, &last);
        }
    }
}

/// The chat on our side counts as read.
fn read(story: &mut Story<'_>, last: &Said) {
    if story.random.chance(0.4) {
        let mut updated = ChatUpdated::new(last.chat.clone());
        updated.changed.push("unread_count".to_owned());
        updated.unread_count = Some(0);
        updated.read = Some(true);
        story.emit(Data::ChatUpdated(updated));
    }
}

fn edit(story: &mut Story<'_>, said: &Said) {
    story.aside(|story| {
        story.pause(2.0, 12.0);
        let previous = said.text.clone().map(|text| Box::new(Content::text(text)));
        let edited = MessageEdited {
            message: said.message.clone(),
            chat: said.chat.clone(),
            sender: said.sender.clone(),
            content: Content::text(words::answer(story.random)),
            edit_message_id: Some(story.message_id()),
            origin: None,
            previous,
        };
        story.emit(Data::MessageEdited(edited));
    });
}

fn revoke(story: &mut Story<'_>, said: &Said) {
    story.aside(|story| {
        story.pause(3.0, 20.0);
        let deleted = MessageDeleted {
            message: said.message.clone(),
            chat: said.chat.clone(),
            sender: said.sender.clone(),
            scope: DeletionScope::Everyone,
            deleted_by: said.sender.clone(),
            carrier_message_id: Some(story.message_id()),
            reason: Some(DeletionReason::Sender),
        };
        story.emit(Data::MessageDeleted(deleted));
    });
}

/// Whoever said `by` reacts to `to`, and sometimes takes it back.
pub(super) fn react(story: &mut Story<'_>, to: &Said, by: &Said) {
    story.aside(|story| {
        story.pause(1.0, 10.0);
        let takes_back = story.random.chance(0.2);
        let emoji = Some(words::emoji(story.random).to_owned());
        for (emoji, removed) in [(emoji, false), (None, true)] {
            if removed && !takes_back {
                return;
            }
            let mut message = by.message.clone();
            message.id = story.message_id();
            story.emit(Data::MessageReaction(MessageReaction {
                reaction_id: Some(message.id.clone()),
                message,
                chat: to.chat.clone(),
                sender: by.sender.clone(),
                target: to.message.clone(),
                emoji,
                removed,
            }));
            story.pause(1.0, 5.0);
        }
    });
}

/// A product is shown, an order comes, how to receive it is asked and chosen.
pub(super) fn order(story: &mut Story<'_>) {
    let person = story.person();
    if story.random.chance(0.5) {
        let product = content::product(story.random);
        story.send(&person, product);
        story.pause(3.0, 20.0);
    }
    let order = content::order(story.random);
    story.receive_silently(&person, &person, order);
    story.pause(0.5, 3.0);
    let choices = content::choices(story.random);
    let asked = story.send(&person, Content::new(Body::Interactive(choices.clone())));
    story.pause(3.0, 25.0);
    let chosen = content::answering(content::choice(&choices, story.random), &asked);
    let reply = story.receive_silently(&person, &person, chosen);
    story.pause(1.0, 6.0);
    let thanks = content::answering(Content::text(words::answer(story.random)), &reply);
    story.send(&person, thanks);
}

/// A chatbot takes the conversation and hands it over.
pub(super) fn chatbot(story: &mut Story<'_>) {
    let person = story.person();
    let opener = Content::text(words::opener(story.random));
    story.receive(&person, &person, opener);
    let session = format!("session-{}", story.random.hex(8).to_lowercase());
    let state = |story: &mut Story<'_>, state| {
        story.emit(Data::BotSession(BotSession {
            bot: "atendimento".to_owned(),
            chat: Some(person.clone()),
            state,
            session_id: Some(session.clone()),
            variables: None,
        }));
    };
    state(story, BotState::Started);
    story.pause(0.2, 0.6);
    let choices = content::choices(story.random);
    let asked = story.send(&person, Content::new(Body::Interactive(choices.clone())));
    story.pause(3.0, 15.0);
    let chosen = content::answering(content::choice(&choices, story.random), &asked);
    story.receive_silently(&person, &person, chosen);
    story.pause(0.2, 0.6);
    state(story, BotState::Paused);
    story.pause(5.0, 20.0);
    let answer = Content::text(words::answer(story.random));
    story.send(&person, answer);
    story.pause(5.0, 20.0);
    state(story, BotState::Closed);
}

/// One template to many people within seconds, and the storm of receipts and replies after it.
pub(super) fn campaign(story: &mut Story<'_>, crowd: usize) {
    let template = Interactive {
        sub_kind: InteractiveKind::Template,
        header: Some("Semana de ofertas".to_owned()),
        body: Some(format!("Hoje {} com 20% de desconto.", words::item(story.random))),
        footer: Some("Responda SAIR para não receber mais".to_owned()),
        options: Vec::new(),
    };
    for _ in 0..crowd {
        let person = story.person();
        let sent = story.send(&person, Content::new(Body::Interactive(template.clone())));
        story.aside(|story| {
            if story.random.chance(0.45) {
                story.pause(2.0, 25.0);
                let text = match story.random.chance(0.1) {
                    true => "SAIR".to_owned(),
                    false => words::follow_up(story.random),
                };
                let reply = content::answering(Content::text(text), &sent);
                story.receive(&person, &person, reply);
            }
        });
        story.pause(0.02, 0.15);
    }
}
