//! What every channel must do, and what each of them must do besides.
//!
//! [`suite!`] makes the tests that all channels share; a new channel brings a [`rig::Rig`] and
//! one line here.

#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]

mod broker;
mod proxy;
mod pusher;
mod rabbitmq;
mod receiver;
mod rig;
mod sqs;
mod webhook;

rig::suite!(webhook_contract, crate::webhook::WebhookRig);
rig::suite!(rabbitmq_contract, crate::rabbitmq::RabbitmqRig);
rig::suite!(sqs_contract, crate::sqs::SqsRig);
rig::suite!(pusher_contract, crate::pusher::PusherRig);
