//! Groups and channels.

use super::shop;
use crate::{
    Data,
    data::{
        ChannelMessage, GroupLifecycle, GroupMetadata, GroupParticipants, GroupUpdated,
        LifecycleAction, MessageVote, NewsletterAction, NewsletterUpdated, OptionVotes,
        Participant, ParticipantAction, ReactionCount, VoteTarget,
    },
    shape::{Body, Content},
    traffic::{content, story::Story, words},
};

/// Several members talk; sometimes we say something too.
pub(super) fn talk(story: &mut Story<'_>) {
    let group = story.group();
    let mut last = None;
    for _ in 0..2 + story.random.below(6) {
        let text = words::chatter(story.random);
        if story.random.chance(0.2) {
            let said = story.send_to(&group, Content::text(text));
            last = Some(said);
        } else {
            let member = group.anyone(story.random);
            let mut said = content::of_person(text, story.random);
            if let Some(before) = &last
                && story.random.chance(0.3)
            {
                said = content::answering(said, before);
            }
            let said = story.receive(&group.address, &member, said);
            if let Some(before) = &last
                && story.random.chance(0.25)
            {
                shop::react(story, before, &said);
            }
            last = Some(said);
        }
        story.pause(1.0, 18.0);
    }
}

/// A question to the group and the votes.
pub(super) fn poll(story: &mut Story<'_>) {
    let group = story.group();
    let poll = content::poll();
    let asked = story.send_to(&group, Content::new(Body::Poll(poll.clone())));
    let mut votes: Vec<OptionVotes> = poll
        .options
        .iter()
        .map(|option| OptionVotes { option: option.clone(), voters: Vec::new() })
        .collect();
    for nth in 0..group.size().min(5) {
        story.pause(2.0, 15.0);
        let member = group.member(nth);
        let chosen = story.random.below(poll.options.len());
        votes[chosen].voters.push(member.id.clone());
        let mut message = asked.message.clone();
        message.id = story.message_id();
        message.from_me = Some(false);
        message.participant = Some(member.id.clone());
        story.emit(Data::MessageVote(MessageVote {
            message,
            chat: group.address.clone(),
            sender: member,
            target: asked.message.clone(),
            target_kind: VoteTarget::Poll,
            selected: vec![poll.options[chosen].clone()],
            aggregate: Some(votes.clone()),
            decrypt_failed: false,
        }));
    }
}

pub(super) fn change(story: &mut Story<'_>) {
    let group = story.group();
    let mut updated = GroupUpdated::new(group.address.clone());
    updated.actor = Some(group.member(0));
    match story.random.below(3) {
        0 => {
            let name = group.address.name.as_deref().unwrap_or("Grupo");
            updated.name = Some(format!("{name} {}", 2024 + story.random.below(5)));
            updated.changed.push("name".to_owned());
        }
        1 => {
            updated.description = Some("Combinados e avisos.".to_owned());
            updated.changed.push("description".to_owned());
        }
        _ => {
            updated.announce_only = Some(story.random.chance(0.5));
            updated.changed.push("announce_only".to_owned());
        }
    }
    story.emit(Data::GroupUpdated(Box::new(updated)));
}

pub(super) fn members(story: &mut Story<'_>) {
    let group = story.group();
    let action = *story.random.pick(&[
        ParticipantAction::Add,
        ParticipantAction::Add,
        ParticipantAction::Remove,
        ParticipantAction::Promote,
        ParticipantAction::Demote,
        ParticipantAction::RequestCreated,
    ]);
    let address = story.person();
    let role = match action {
        ParticipantAction::Promote => "admin",
        _ => "member",
    };
    story.emit(Data::GroupParticipants(GroupParticipants {
        group: group.address.clone(),
        actor: Some(group.member(0)),
        action,
        participants: vec![Participant { address, role: Some(role.to_owned()), error: None }],
        method: matches!(action, ParticipantAction::Add).then(|| "invite_link".to_owned()),
        self_affected: false,
    }));
}

/// A group is made, people are told, an invitation goes out, an event is set; a while later we
/// leave it.
pub(super) fn life(story: &mut Story<'_>) {
    let group = story.group();
    let owner = story.own();
    let step = |story: &mut Story<'_>, action| {
        story.emit(Data::GroupLifecycle(GroupLifecycle {
            group: group.address.clone(),
            actor: Some(owner.clone()),
            action,
            metadata: Some(GroupMetadata {
                name: group.address.name.clone(),
                owner: Some(owner.clone()),
                size: Some(group.size() as u32),
                ..GroupMetadata::default()
            }),
            reason: None,
        }));
    };
    step(story, LifecycleAction::Created);
    story.pause(0.5, 2.0);
    let member = group.member(0);
    let notice = content::notice();
    story.receive_silently(&group.address, &member, notice);
    story.pause(1.0, 5.0);
    let (guest, invite) = (story.person(), content::invite(&group.address.id, story.random));
    story.send(&guest, invite);
    story.pause(1.0, 5.0);
    story.send_to(&group, content::calendar_event());
    story.pause(20.0, 60.0);
    step(story, LifecycleAction::Left);
}

pub(super) fn channel(story: &mut Story<'_>) {
    let newsletter = story.cast.channel(story.random);
    let action = *story.random.pick(&[
        NewsletterAction::Live,
        NewsletterAction::Live,
        NewsletterAction::Joined,
        NewsletterAction::Muted,
    ]);
    let messages = match action {
        NewsletterAction::Live => vec![ChannelMessage {
            server_id: (100 + story.random.below(900)).to_string(),
            reactions: vec![ReactionCount {
                emoji: words::emoji(story.random).to_owned(),
                count: 1 + story.random.below(500) as u64,
            }],
        }],
        _ => Vec::new(),
    };
    story.emit(Data::NewsletterUpdated(NewsletterUpdated { newsletter, action, messages }));
}
