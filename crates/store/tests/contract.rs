//! Every rule of the store, asked through its handle. `contract_postgres.rs` is the same suite on the
//! other engine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The engine that this suite asks.
const POSTGRES: bool = false;

#[path = "contract/binaries.rs"]
mod binaries;
#[path = "contract/dedup.rs"]
mod dedup;
#[path = "contract/deliveries.rs"]
mod deliveries;
#[path = "contract/engine.rs"]
mod engine;
#[path = "contract/erasure.rs"]
mod erasure;
#[path = "contract/failures.rs"]
mod failures;
#[path = "contract/fetching.rs"]
mod fetching;
#[path = "contract/files.rs"]
mod files;
#[path = "contract/journal.rs"]
mod journal;
#[path = "contract/keys.rs"]
mod keys;
#[path = "contract/lag.rs"]
mod lag;
#[path = "contract/lanes.rs"]
mod lanes;
#[path = "contract/model.rs"]
mod model;
#[path = "contract/pruning.rs"]
mod pruning;
#[path = "contract/pruning_model.rs"]
mod pruning_model;
#[path = "contract/records.rs"]
mod records;
#[path = "contract/registry.rs"]
mod registry;
#[path = "contract/restoring.rs"]
mod restoring;
#[path = "contract/retention.rs"]
mod retention;
#[path = "contract/runs.rs"]
mod runs;
#[path = "contract/scale.rs"]
mod scale;
#[path = "contract/server.rs"]
#[expect(dead_code, reason = "what tests of several nodes need besides")]
mod server;
#[path = "contract/statistics.rs"]
mod statistics;
#[path = "contract/subscribers.rs"]
mod subscribers;
