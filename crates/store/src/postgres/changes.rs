//! What other nodes did, as far as this one remembers anything of it.
//!
//! The table of changes is the truth; a notification (on a connection of its own, several appends
//! to one) only says that it is time to look.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use tokio_postgres::{AsyncMessage, Row};
use zapbus_event::{AccountId, CredentialId, DestinationId, InstanceId};

use super::{
    Shared, instances, lock,
    pool::{Address, Session},
    row::fixed,
    tx::what,
};
use crate::{
    Change,
    fault::{Fault, Result},
};

/// Who has not looked for so long may have missed changes that are gone from the table.
const KEPT: Duration = Duration::from_secs(300);
/// How long they are kept there.
pub(super) const KEPT_IN_TABLE: &str = "10 minutes";
/// So many appends as come within this time share a notification.
const GATHER: Duration = Duration::from_millis(5);
const AGAIN: Duration = Duration::from_secs(1);
const CHANNEL: &str = "zapbus";
/// The channel on which nodes say that shards are free.
pub(super) const FREED: &str = "zapbus_freed";

/// Up to where changes were seen.
pub(super) struct Seen {
    /// Every transaction before this one was over.
    xmin: u64,
    /// What later ones changed and was taken in: as long as an older transaction goes on, each look
    /// finds it again.
    applied: HashSet<(u64, Told)>,
    at: Instant,
}

/// What was changed, and its id.
type Told = (i32, [u8; 16]);

fn transaction(row: &Row, column: usize) -> Result<u64> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|_| Fault::malformed(format!("{text} is no transaction's id")))
}

pub(super) async fn seen(session: &Session) -> Result<Seen> {
    let row = session.one("SELECT pg_snapshot_xmin(pg_current_snapshot())::text", &[]).await?;
    Ok(Seen { xmin: transaction(&row, 0)?, applied: HashSet::new(), at: Instant::now() })
}

/// Takes in what has changed. True when something had.
pub(super) async fn take_in(
    shared: &Arc<Shared>,
    session: &Session,
    seen: &mut Seen,
) -> Result<bool> {
    if seen.at.elapsed() > KEPT {
        let begun = self::seen(session).await?;
        let directory = instances::directory(session).await?;
        *shared.directory_mut() = directory;
        shared.destinations().clear();
        shared.settled_states().clear();
        let _ = shared.changes.send(Change::Everything);
        *seen = begun;
        return Ok(true);
    }
    let rows = session
        .query(
            "SELECT pg_snapshot_xmin(pg_current_snapshot())::text, c.xid::text, c.what, c.id \
             FROM (SELECT 1) one LEFT JOIN change c ON c.xid >= $1::text::xid8 ORDER BY c.xid",
            &[&seen.xmin.to_string()],
        )
        .await?;
    let mut xmin = seen.xmin;
    let mut there = HashSet::new();
    let mut told = HashSet::new();
    for row in &rows {
        xmin = transaction(row, 0)?;
        let Some(what) = row.try_get::<_, Option<i32>>(2)? else { continue };
        let found = (transaction(row, 1)?, (what, fixed(row, 3)?));
        there.insert(found);
        if !seen.applied.contains(&found) && told.insert(found.1) {
            apply(shared, session, what, found.1.1).await?;
        }
    }
    // Not before: what could not be taken in is found again.
    *seen = Seen { xmin, applied: there, at: Instant::now() };
    Ok(!told.is_empty())
}

async fn apply(shared: &Arc<Shared>, session: &Session, what: i32, id: [u8; 16]) -> Result<()> {
    let change = match what {
        what::ACCOUNT => Change::Account(AccountId::from_bytes(id)),
        what::INSTANCE => {
            let instance = InstanceId::from_bytes(id);
            instances::refresh(shared, session, instance).await?;
            shared.settled_states().remove(&instance);
            shared.aliases().forget();
            Change::Instance(instance)
        }
        what::ERASED => {
            let instance = InstanceId::from_bytes(id);
            let shard = shared.shard_of(instance);
            shared.shard(shard).followed.start_over().await;
            shared.settled_states().remove(&instance);
            shared.aliases().forget();
            Change::Erased(instance)
        }
        what::DESTINATION => {
            let id = DestinationId::from_bytes(id);
            shared.destinations().remove(&id);
            Change::Destination(id)
        }
        what::CREDENTIAL => Change::Credential(CredentialId::from_bytes(id)),
        // A newer node's.
        _ => Change::Everything,
    };
    // Nobody may be listening.
    let _ = shared.changes.send(change);
    Ok(())
}

/// Listens to the other nodes and tells them, for as long as the store is open.
pub(super) async fn listen(shared: Arc<Shared>, address: Address) {
    loop {
        if let Err(fault) = listen_once(&shared, &address).await {
            let reason = fault.reason();
            tracing::debug!(event = "listen.lost", reason, "no notifications for now");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen_once(shared: &Arc<Shared>, address: &Address) -> Result<()> {
    let (client, mut connection) = address.config.connect(address.tls.clone()).await?;
    let own = shared.node.to_string();
    let mut messages =
        futures_util::stream::poll_fn(move |context| connection.poll_message(context));
    let receiving = {
        let (shared, own) = (Arc::clone(shared), own.clone());
        async move {
            while let Some(message) = messages.next().await {
                match message? {
                    AsyncMessage::Notification(told) if told.payload() != own => {
                        if told.channel() == FREED {
                            shared.beat.notify_one();
                        }
                        shared.look.notify_one();
                    }
                    _ => {}
                }
            }
            Err(Fault::Broken("the connection was closed".to_owned()))
        }
    };
    let telling = async {
        client.batch_execute(&format!("LISTEN {CHANNEL}; LISTEN {FREED}")).await?;
        loop {
            shared.tell.notified().await;
            tokio::time::sleep(GATHER).await;
            let told = std::mem::take(&mut *lock(&shared.told));
            // Alone there is nobody to tell.
            if !told.is_empty() && shared.holdings.has_company() {
                client.execute("SELECT pg_notify($1, $2)", &[&CHANNEL, &own]).await?;
            }
        }
    };
    tokio::select! {
        ended = receiving => ended,
        ended = telling => ended,
    }
}
