//! Live subscriptions: events as they happen, each acknowledged, over connections that come and go.

mod consume;
mod delivery;
pub(crate) mod engine;
pub(crate) mod ledger;
mod native;
mod open;
pub(crate) mod shared;
mod socket;
mod subscription;

pub(crate) use self::delivery::Seen;
pub use self::{
    consume::{Consumer, Consuming, Failed, Order},
    delivery::{Delivery, Received},
    open::Subscribe,
    shared::State,
    subscription::{Dead, Gap, Glance, Item, Subscription},
};
