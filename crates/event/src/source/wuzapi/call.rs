//! Calls.

use super::Posted;
use crate::{
    Data,
    data::{CallDirection, CallState, CallUpdated},
    shape::Address,
    source::{
        delivery::{Key, Misfit, Understood},
        people::{aliases, is_same, person},
    },
};

/// `CallOffer` and what follows it.
pub(super) fn updated(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let (state, signal) = match posted.name {
        "CallOffer" => (CallState::Offer, None),
        "CallOfferNotice" => (CallState::Notice, None),
        "CallPreAccept" => (CallState::Ringing, None),
        "CallAccept" => (CallState::Accepted, None),
        "CallReject" => (CallState::Rejected, None),
        "CallTerminate" => (CallState::Terminated, None),
        "CallRelayLatency" => (CallState::Signal, Some("latency")),
        _ => (CallState::Signal, Some("transport")),
    };
    let id = event.text("CallID").ok_or(Misfit::SHAPE)?;
    let other = posted.address("From")?;
    let creator = event.text("CallCreator");
    let creator = creator.map(|who| person(&who, &[event.text("CallCreatorAlt")]));
    let learned = aliases(creator.iter());
    // Whoever answers is not who called.
    let (from, direction) = match creator {
        Some(creator) if is_same(&creator, &other) => (creator, CallDirection::In),
        Some(creator) if state != CallState::Notice => (creator, CallDirection::Out),
        Some(creator) => (creator, CallDirection::In),
        None => (other.clone(), CallDirection::In),
    };
    let mut updated = CallUpdated::new(&id, state, direction, from);
    let group = event.text("GroupJID").map(|group| Address::group(&group));
    updated.chat = Some(group.clone().unwrap_or(other));
    updated.is_group = group.is_some() || event.text("Type").as_deref() == Some("group");
    updated.group = group;
    updated.is_video = event.text("Media").as_deref() == Some("video");
    updated.reason = event.text("Reason");
    updated.signal = signal.map(str::to_owned);
    Ok(Understood {
        data: Data::CallUpdated(Box::new(updated)),
        occurred_at: posted.at(),
        key: Key::Composed(format!("c|{id}|{}", posted.name)),
        history: false,
        aliases: learned,
    })
}
