//! The Rust half of the Python package `zapbus`: everything that talks to a gateway.
//!
//! Python's half turns what is here into classes with types. Nothing here blocks while it holds
//! Python's lock, and no thread of here runs on once the interpreter ends.

mod bridge;
mod delivery;
mod errors;
mod native;
mod realtime;
mod webhook;

/// See the crate.
#[pyo3::pymodule]
mod _core {
    #[pymodule_export]
    use crate::{
        bridge::{Task, shutdown},
        delivery::Delivery,
        native::{Glance, NativeClient, Stream},
        realtime::{Feed, VZapsClient},
        webhook::Verifier,
    };
}
