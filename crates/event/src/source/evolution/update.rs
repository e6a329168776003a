//! Delivery states and votes: `messages.update`.

use serde_json::value::RawValue;

use super::{
    Envelope,
    message::{place_of, status},
};
use crate::{
    Data,
    data::{MessageStatus, MessageVote, OptionVotes, VoteTarget},
    shape::{Address, AddressKind},
    source::{
        delivery::{Key, Misfit, Understood},
        members::Members,
        placed::Placed,
        web_message,
    },
};

/// One element of `messages.update`.
pub(super) fn updated(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let key = posted.object("key").unwrap_or_else(|| posted.clone());
    let placed = place_of(&key).ok_or(Misfit::SHAPE)?;
    let (data, key) = match posted.raw("pollUpdates") {
        Some(votes) => vote(envelope, &placed, votes, raw)?,
        None => state(envelope, &placed, &posted)?,
    };
    Ok(Understood { data, occurred_at: None, key, history: false, aliases: placed.aliases() })
}

fn state(
    envelope: &Envelope<'_>,
    placed: &Placed,
    posted: &Members<'_>,
) -> Result<(Data, Key), Misfit> {
    let name = posted.text("status").ok_or(Misfit::SHAPE)?;
    let status = status(&name).ok_or(Misfit::NAME)?;
    let is_group = placed.chat.kind == AddressKind::Group;
    // Who reads a message of someone else is this account.
    let recipient = match &placed.participant {
        Some(participant) => participant.clone(),
        None if placed.from_me || is_group => placed.chat.clone(),
        None => envelope.own.clone(),
    };
    let sender = match placed.from_me {
        true => envelope.own.clone(),
        false => placed.participant.clone().unwrap_or_else(|| placed.chat.clone()),
    };
    let mut message = placed.message();
    if placed.from_me {
        message.participant = None;
    }
    let data = Data::MessageStatus(MessageStatus {
        message,
        sender,
        status,
        rank: status.rank(),
        recipient,
        recipient_chat: is_group.then(|| placed.chat.clone()),
        chat: placed.chat.clone(),
        errors: Vec::new(),
        conversation: None,
        pricing: None,
        client_ref: None,
    });
    let (from_me, id) = (placed.from_me, &placed.id);
    let key = placed.keys(|chat, who| format!("s|{chat}|{from_me}|{id}|{name}|{who}"));
    Ok((data, key))
}

/// All votes of a poll so far, or one vote as Baileys reports it.
fn vote(
    envelope: &Envelope<'_>,
    placed: &Placed,
    votes: &RawValue,
    raw: &RawValue,
) -> Result<(Data, Key), Misfit> {
    let listed = super::one_or_each(votes);
    let mut aggregate = Vec::new();
    let mut single = None;
    for element in listed {
        let element = Members::of(element).ok_or(Misfit::SHAPE)?;
        if let Some(option) = element.text("name") {
            let voters = element.texts("voters");
            let voters = voters.iter().map(|voter| Address::parse(voter).id).collect();
            aggregate.push(OptionVotes { option, voters });
        } else {
            let vote = element.object("vote");
            let key = element.object("pollUpdateMessageKey").and_then(|key| place_of(&key));
            single = Some((vote.and_then(|vote| web_message::selected_options(&vote)), key));
        }
    }
    let target = placed.message();
    let (sender, selected, decrypt_failed) = match single {
        Some((selected, voted)) => {
            let sender = voted
                .map_or_else(|| placed.chat.clone(), |voted| voted.sender(&envelope.own, None));
            (sender, selected.clone().unwrap_or_default(), selected.is_none())
        }
        None => {
            let (sender, selected) = only_voter(&aggregate, &placed.chat);
            (sender, selected, false)
        }
    };
    let data = Data::MessageVote(MessageVote {
        message: target.clone(),
        target,
        target_kind: VoteTarget::Poll,
        selected,
        aggregate: (!aggregate.is_empty()).then_some(aggregate),
        decrypt_failed,
        chat: placed.chat.clone(),
        sender,
    });
    // The same count may come back when somebody changes their mind twice.
    Ok((data, envelope.key(raw.get())))
}

/// A count does not say whose vote changed it. With one voter there is no doubt; otherwise the
/// chat stands for its members.
fn only_voter(aggregate: &[OptionVotes], chat: &Address) -> (Address, Vec<String>) {
    let mut voters = aggregate.iter().flat_map(|option| &option.voters);
    let Some(voter) = voters.next() else { return (chat.clone(), Vec::new()) };
    if voters.any(|other| other != voter) {
        return (chat.clone(), Vec::new());
    }
    let chosen = aggregate.iter().filter(|option| !option.voters.is_empty());
    (Address::parse(voter), chosen.map(|option| option.option.clone()).collect())
}
