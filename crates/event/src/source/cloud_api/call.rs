//! Calls.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::phone::{ApiError, Phone, errors};
use crate::{
    Data,
    data::{CallDirection, CallState, CallUpdated},
    shape::Address,
    source::{
        compound::List,
        delivery::{Key, Misfit, Understood},
        scalar::{Int, Text, Time, filled, instant},
    },
};

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    event: Text<'a>,
    #[serde(borrow)]
    from: Text<'a>,
    #[serde(borrow)]
    from_user_id: Text<'a>,
    #[serde(borrow)]
    to: Text<'a>,
    #[serde(borrow)]
    to_user_id: Text<'a>,
    timestamp: Time,
    #[serde(borrow)]
    direction: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
    duration: Int,
    #[serde(borrow)]
    errors: List<ApiError<'a>>,
}

#[derive(Deserialize)]
struct CallStatus<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
    timestamp: Time,
    #[serde(borrow)]
    recipient_id: Text<'a>,
    #[serde(borrow)]
    recipient_user_id: Text<'a>,
}

/// An element of `calls`: it begins or ends.
pub(super) fn event(phone: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let call: Call<'_> = serde_json::from_str(raw.get())?;
    let direction = match filled(&call.direction) {
        Some("USER_INITIATED") => CallDirection::In,
        Some("BUSINESS_INITIATED") => CallDirection::Out,
        Some(_) => return Err(Misfit::NAME),
        None if filled(&call.from).is_some_and(|from| phone.is_own(from)) => CallDirection::Out,
        None => CallDirection::In,
    };
    let state = match (&*call.event, direction) {
        ("connect", CallDirection::In) => CallState::Offer,
        ("connect", CallDirection::Out) => CallState::Accepted,
        ("terminate", _) => CallState::Terminated,
        _ => return Err(Misfit::NAME),
    };
    let id = filled(&call.id).ok_or(Misfit::SHAPE)?;
    let caller = (filled(&call.from), filled(&call.from_user_id));
    let called = (filled(&call.to), filled(&call.to_user_id));
    let (other, own) = match direction {
        CallDirection::In => (phone.person(caller.0, caller.1), phone.own.clone()),
        CallDirection::Out => (phone.person(called.0, called.1), phone.own.clone()),
    };
    let other = other.ok_or(Misfit::SHAPE)?;
    let mut updated = between(id, state, direction, other, own);
    updated.duration_s = call.duration.positive();
    updated.reason = reason(&call);
    Ok(Understood {
        data: Data::CallUpdated(Box::new(updated)),
        occurred_at: instant(call.timestamp),
        key: Key::Composed(format!("c|{id}|{}", &*call.event)),
        history: false,
        aliases: Vec::new(),
    })
}

/// An element of `statuses` under the field `calls`: what becomes of a call of ours.
pub(super) fn status(phone: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let status: CallStatus<'_> = serde_json::from_str(raw.get())?;
    let state = match &*status.status {
        "RINGING" => CallState::Ringing,
        "ACCEPTED" => CallState::Accepted,
        "REJECTED" => CallState::Rejected,
        _ => return Err(Misfit::NAME),
    };
    let id = filled(&status.id).ok_or(Misfit::SHAPE)?;
    let other = phone
        .person(filled(&status.recipient_id), filled(&status.recipient_user_id))
        .ok_or(Misfit::SHAPE)?;
    let updated = between(id, state, CallDirection::Out, other, phone.own.clone());
    Ok(Understood {
        data: Data::CallUpdated(Box::new(updated)),
        occurred_at: instant(status.timestamp),
        key: Key::Composed(format!("c|{id}|{}", &*status.status)),
        history: false,
        aliases: Vec::new(),
    })
}

fn between(
    call_id: &str,
    state: CallState,
    direction: CallDirection,
    other: Address,
    own: Address,
) -> CallUpdated {
    let chat = other.clone();
    let (from, to) = match direction {
        CallDirection::In => (other, own),
        CallDirection::Out => (own, other),
    };
    let mut updated = CallUpdated::new(call_id, state, direction, from);
    updated.to = Some(to);
    updated.chat = Some(chat);
    updated
}

/// `COMPLETED`, `FAILED` or the failure itself. The member is text for some events, and for
/// others a list.
fn reason(call: &Call<'_>) -> Option<String> {
    let failure = errors(&call.errors).into_iter().find_map(|error| error.title.or(error.message));
    failure.or_else(|| filled(&call.status).map(str::to_lowercase))
}
