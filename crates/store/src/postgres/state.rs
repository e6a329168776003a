//! What an instance's events say of it. An append only notes that there is something to take in:
//! whoever looks next, or a moment later the node that appended, does it.

use std::sync::Arc;

use zapbus_event::{Connection, InstanceId, InstanceState};

use super::{
    Shared,
    pool::Session,
    row::{self, EVENT, Fixed},
};
use crate::{fault::Result, unreadable};

/// Events read at a time.
const PAGE: i64 = 200;
/// Another node may be doing the same.
const TRIES: usize = 20;

/// A state as it is stored. It is only derived from events: what cannot be read must not keep new
/// ones out.
pub(super) fn read(instance: InstanceId, stored: &str) -> InstanceState {
    serde_json::from_str(stored).unwrap_or_else(|error| {
        unreadable::state(instance, &error);
        InstanceState::default()
    })
}

/// The state as of now.
pub(super) async fn fold(
    shared: &Shared,
    session: &Session,
    instance: InstanceId,
) -> Result<InstanceState> {
    let key = Fixed(instance.to_bytes());
    for _ in 0..TRIES {
        let found = session
            .first(
                "SELECT state, stale_from, stale_to FROM instance_state WHERE instance = $1",
                &[&key],
            )
            .await?;
        let Some(found) = found else {
            return Ok(InstanceState::default());
        };
        let mut state = read(instance, found.try_get(0)?);
        let (from, to): (Option<i64>, Option<i64>) = (found.try_get(1)?, found.try_get(2)?);
        let (Some(from), Some(to)) = (from, to) else {
            return Ok(state);
        };
        let mut at = from - 1;
        loop {
            let rows = session
                .query(
                    &format!(
                        "SELECT {EVENT} FROM journal j WHERE j.instance = $1 AND j.seq > $2 \
                         AND j.seq <= $3 ORDER BY j.seq LIMIT $4"
                    ),
                    &[&key, &at, &to, &PAGE],
                )
                .await?;
            for row in &rows {
                at = row.try_get(0)?;
                state.apply(&*row::event(row, 0, &shared.kinds)?);
            }
            if (rows.len() as i64) < PAGE {
                break;
            }
        }
        let written = session
            .execute(
                "UPDATE instance_state SET state = $2, stale_from = NULL, stale_to = NULL \
                 WHERE instance = $1 AND stale_from = $3 AND stale_to = $4",
                &[&key, &row::text(&serde_json::to_string(&state)?), &from, &to],
            )
            .await?;
        if written == 1 {
            if state.connection != Connection::Unknown {
                shared.settled_states().insert(instance);
            }
            return Ok(state);
        }
    }
    Ok(InstanceState::default())
}

/// Takes in what was just appended, when nobody waits for it.
pub(super) fn fold_soon(shared: &Arc<Shared>, mut instances: Vec<InstanceId>) {
    instances.sort_unstable();
    instances.dedup();
    if instances.is_empty() || shared.is_closed() {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let Ok(session) = shared.pool.session().await else { return };
        for instance in instances {
            if let Err(fault) = fold(&shared, &session, instance).await {
                let reason = fault.reason();
                tracing::debug!(event = "instance.state_later", reason, "taken in later");
                return;
            }
        }
    });
}
