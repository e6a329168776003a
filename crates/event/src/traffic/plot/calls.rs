//! Calls.

use crate::{
    Data,
    data::{CallDirection, CallState, CallUpdated},
    shape::{Address, Content},
    traffic::{story::Story, words},
};

struct Call {
    id: String,
    from: Address,
    to: Address,
    direction: CallDirection,
    is_video: bool,
}

impl Call {
    fn incoming(story: &mut Story<'_>) -> Self {
        let id = format!("CALL{}", story.random.hex(16));
        let is_video = story.random.chance(0.25);
        let (from, to) = (story.person(), story.own());
        Self { id, from, to, direction: CallDirection::In, is_video }
    }

    fn at(&self, state: CallState) -> CallUpdated {
        let mut updated =
            CallUpdated::new(self.id.clone(), state, self.direction, self.from.clone());
        updated.to = Some(self.to.clone());
        updated.chat = Some(match self.direction {
            CallDirection::In => self.from.clone(),
            CallDirection::Out => self.to.clone(),
        });
        updated.is_video = self.is_video;
        updated
    }
}

fn emit(story: &mut Story<'_>, updated: CallUpdated) {
    story.emit(Data::CallUpdated(Box::new(updated)));
}

/// It rings, is taken or refused, and ends.
pub(super) fn call(story: &mut Story<'_>) {
    let mut call = Call::incoming(story);
    if story.random.chance(0.3) {
        std::mem::swap(&mut call.from, &mut call.to);
        call.direction = CallDirection::Out;
    }
    emit(story, call.at(CallState::Offer));
    story.pause(0.3, 1.5);
    emit(story, call.at(CallState::Ringing));
    story.pause(2.0, 12.0);
    if story.random.chance(0.25) {
        let mut refused = call.at(CallState::Rejected);
        refused.reason = Some("busy".to_owned());
        emit(story, refused);
        return;
    }
    emit(story, call.at(CallState::Accepted));
    let answered = story.now;
    for _ in 0..1 + story.random.below(3) {
        story.pause(2.0, 20.0);
        let mut signal = call.at(CallState::Signal);
        signal.signal = Some("latency".to_owned());
        emit(story, signal);
    }
    story.pause(1.0, 60.0);
    let mut ended = call.at(CallState::Terminated);
    ended.duration_s = Some((story.now - answered).as_secs());
    emit(story, ended);
}

/// Nobody takes it; often a message follows.
pub(super) fn missed(story: &mut Story<'_>) {
    let call = Call::incoming(story);
    emit(story, call.at(CallState::Offer));
    story.pause(5.0, 15.0);
    emit(story, call.at(CallState::Missed));
    if story.random.chance(0.4) {
        story.pause(1.0, 5.0);
        let text = Content::text(words::opener(story.random));
        story.receive(&call.from, &call.from, text);
    }
}
