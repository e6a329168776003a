//! What every channel must do, and what each of them must do besides.
//!
//! [`suite!`] makes the tests that all channels share; a new channel brings a [`rig::Rig`] and
//! one line here.

#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]

mod proxy;
mod receiver;
mod rig;
mod webhook;

rig::suite!(webhook_contract, crate::webhook::WebhookRig);
