//! The API of VZaps and its realtime events: of Zapbus, or of any other server that speaks it.
//!
//! ```no_run
//! use zapbus_client::vzaps::{Client, Watch};
//!
//! # async fn example() -> Result<(), zapbus_client::Error> {
//! let client = Client::builder("your-client-token", "your-client-secret")
//!     .base_url("https://bus.example.com")
//!     .realtime_url("wss://bus.example.com")
//!     .build()?;
//! let subscription = client.events().subscribe(
//!     Watch::new("VZ…", "instance-token").events(["Message", "ReadReceipt"]),
//! );
//! subscription.on("Message", |event| async move {
//!     println!("{}: {}", event.id, event.data);
//!     Ok(())
//! });
//! subscription.open();
//! subscription.wait_closed().await?;
//! # Ok(())
//! # }
//! ```

mod client;
mod feed;
mod rest;
mod subscription;

pub use self::{
    client::{Client, ClientBuilder, Request},
    feed::{Events, Feed, Happening, RealtimeEvent, Watch},
    rest::{
        Envelope, Instances, Log, LogPage, SessionStatus, Sessions, SetWebhook, WebhookSettings,
        Webhooks,
    },
    subscription::{EventSubscription, HandlerError, Trouble},
};
