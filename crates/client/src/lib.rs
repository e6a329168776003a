//! Zapbus from Rust: ask its API, subscribe to events, verify webhooks.
//!
//! ```no_run
//! use zapbus_client::{Client, Item};
//!
//! # async fn example() -> Result<(), zapbus_client::Error> {
//! let client = Client::builder("http://127.0.0.1:8080").token("zb_…").build()?;
//! let mut subscription =
//!     client.subscribe("shop").named("crm").types(["message.*"]).open().await?;
//! while let Some(item) = subscription.next().await {
//!     match item? {
//!         Item::Delivery(delivery) => {
//!             println!("{}: {}", delivery.kind(), delivery.event()?.data);
//!             delivery.ack()?;
//!         }
//!         other => eprintln!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Client`]: the API, one type for each of its resources, as its description has them.
//! - [`Client::subscribe`]: live events, each acknowledged; [`Subscribe::consume`] hands them to a
//!   function.
//! - [`Client::publish`]: events of your own, in batches that may be repeated.
//! - [`WebhookVerifier`]: for those who receive webhooks.
//! - [`vzaps`]: the API and the realtime events of VZaps, of Zapbus or of any other server.

mod backoff;
mod bearer;
mod client;
mod error;
mod event;
pub mod model;
mod open_enum;
mod page;
mod publish;
pub mod resources;
mod stream;
mod transport;
pub mod vzaps;
mod webhook;

pub use self::{
    bearer::Lease,
    client::{Client, ClientBuilder},
    error::{Error, Fault, Problem},
    event::{Event, NewEvent},
    page::{Page, Pages},
    publish::Published,
    stream::{
        Consumer, Consuming, Dead, Delivery, Failed, Gap, Glance, Item, Order, Received, State,
        Subscribe, Subscription,
    },
    webhook::{Headers, Signed, VerifyError, WebhookVerifier},
};
