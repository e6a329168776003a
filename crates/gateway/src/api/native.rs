//! The native API under `/v1`: one file per resource.

mod accounts;
mod audit;
mod backups;
mod cluster;
mod credentials;
pub(super) mod deliveries;
pub(super) mod destinations;
mod erasures;
mod event_types;
pub(super) mod events;
mod health;
pub(super) mod ingest;
pub(super) mod instances;
mod redecode;
mod runs;
mod shards;
pub(super) mod source;
mod statistics;
mod stream;
mod subscribers;
mod tickets;

use std::future::Future;

pub use health::Recent;
pub(super) use ingest::hops;

use utoipa_axum::{router::OpenApiRouter, routes};

use super::error::{ApiError, Fault};
use crate::app::App;

/// Every route under `/v1`.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(accounts::list_accounts, accounts::create_account))
        .routes(routes!(accounts::show_account, accounts::change_account, accounts::delete_account))
        .routes(routes!(credentials::list_credentials, credentials::create_credential))
        .routes(routes!(credentials::revoke_credential))
        .routes(routes!(credentials::expire_credential))
        .routes(routes!(credentials::rotate_credential))
        .routes(routes!(instances::list_instances, instances::create_instance))
        .routes(routes!(
            instances::show_instance,
            instances::change_instance,
            instances::delete_instance
        ))
        .routes(routes!(source::show_source, source::set_source))
        .routes(routes!(source::show_account_source, source::set_account_source))
        .routes(routes!(events::list_instance_events, ingest::post_events))
        .routes(routes!(events::list_events))
        .routes(routes!(events::show_event))
        .routes(routes!(stream::stream_instance))
        .routes(routes!(stream::stream_all))
        .routes(routes!(tickets::create_ticket))
        .routes(routes!(subscribers::list_subscribers))
        .routes(routes!(subscribers::show_subscriber, subscribers::delete_subscriber))
        .routes(routes!(subscribers::retry_subscriber))
        .routes(routes!(event_types::list_event_types))
        .routes(routes!(
            destinations::list_instance_destinations,
            destinations::create_instance_destination
        ))
        .routes(routes!(destinations::list_destinations, destinations::create_destination))
        .routes(routes!(
            destinations::show_destination,
            destinations::change_destination,
            destinations::delete_destination
        ))
        .routes(routes!(destinations::operations::test_destination))
        .routes(routes!(destinations::operations::pause_destination))
        .routes(routes!(destinations::operations::resume_destination))
        .routes(routes!(destinations::operations::rotate_destination_secret))
        .routes(routes!(statistics::show_destination_statistics))
        .routes(routes!(statistics::show_instance_statistics))
        .routes(routes!(runs::replay_destination))
        .routes(routes!(runs::list_runs))
        .routes(routes!(runs::show_run))
        .routes(routes!(runs::change_run))
        .routes(routes!(deliveries::search::list_deliveries))
        .routes(routes!(deliveries::detail::show_delivery))
        .routes(routes!(deliveries::detail::retry_delivery))
        .routes(routes!(deliveries::bulk::retry_deliveries))
        .routes(routes!(erasures::erase))
        .routes(routes!(redecode::redecode))
        .routes(routes!(audit::list_audit))
        .routes(routes!(backups::list_backups, backups::take_backup))
        .routes(routes!(backups::show_backup))
        .routes(routes!(backups::rekey))
        .routes(routes!(cluster::show_cluster))
        .routes(routes!(health::show_health))
}

/// Runs a change to its end even if the caller hangs up: what the store has committed must
/// reach the directory and the lanes.
pub(super) async fn complete<T: Send + 'static>(
    change: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(change).await.map_err(ApiError::internal)?
}

/// Characters a name may have at most.
const MAX_NAME: usize = 120;

/// What is wrong with the name of an account or an instance, if anything is.
pub(in crate::api) fn name_fault(path: &str, name: &str) -> Option<Fault> {
    let length = name.chars().count();
    let fits = (1..=MAX_NAME).contains(&length)
        && name.trim() == name
        && !name.chars().any(|c| c.is_control() || c == '/');
    (!fits).then(|| {
        Fault::new(
            path,
            format!(
                "expected 1 to {MAX_NAME} characters without control characters or `/`, not \
                 beginning or ending with a space"
            ),
        )
    })
}

/// Everything that is wrong, or nothing.
fn refuse_if_any(faults: Vec<Fault>) -> Result<(), ApiError> {
    if faults.is_empty() { Ok(()) } else { Err(ApiError::Invalid(faults)) }
}
