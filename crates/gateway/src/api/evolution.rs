//! Evolution API, as far as an event bus can answer.

mod access;
mod answer;
pub mod config;
pub(crate) mod socket;

pub use config::Config;
