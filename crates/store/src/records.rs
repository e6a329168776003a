//! The registry's part of the handle. Every change writes its line of the audit log in its commit.

mod accounts;
mod credentials;
mod destinations;
mod instances;
mod notes;
