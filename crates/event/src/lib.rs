//! The vocabulary of Zapbus: canonical events, what upstreams say, what dialects write.
//!
//! Pure: no I/O, no async, no clock of its own, and nothing here can fail on an upstream's bytes.
//!
//! A source ([`source`]) decodes an upstream's body to [`Draft`]s. A draft has a [`Kind`] and a
//! payload, which [`Data`] gives as one strongly typed shape per type ([`data`], [`shape`]). The
//! journal turns drafts to [`Event`]s. A [`Filter`] says who wants an event, and a [`Dialect`]
//! writes it in the words of whoever gets it. [`traffic`] makes up what upstreams might report.
//!
//! ```
//! use zapbus_event::{Draft, Filter};
//!
//! let posted = br#"{"type":"instance.lifecycle","data":{"action":"created"},"id":"first"}"#;
//! let draft = Draft::native(posted)?;
//! assert_eq!(draft.keys, ["id|first"]);
//!
//! let filter = Filter::parse(&["message.*", "instance.lifecycle:created"])?;
//! assert!(filter.matches(draft.kind, draft.facet.as_deref()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bounds;
mod closed;
mod draft;
mod event;
mod fault;
mod filter;
mod ids;
mod instance_state;
mod kind;
mod nearest;
mod nesting;
mod sample;
mod schema;
mod strict;
mod time;

pub mod data;
pub mod dialect;
pub mod shape;
pub mod source;
pub mod traffic;

pub use data::{Data, DataError};
pub use dialect::{Dialect, DialectError};
pub use draft::NativeError;
pub use event::{Alias, Draft, Event, Position, Raw, Source, SourceKind};
pub use filter::{Filter, FilterError};
pub use ids::{
    AccountId, AuditId, CredentialId, DestinationId, EventId, IdError, InstanceId, SubscriberId,
};
pub use instance_state::{Connection, InstanceState, PairCode, Qr};
pub use kind::{Kind, OrderedBy, UnknownKind};
pub use sample::sample;
pub use schema::json_schema;
pub use time::{Timestamp, TimestampError};
