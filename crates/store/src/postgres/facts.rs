//! What a database server promises, and who it is.

use super::{
    fault::{Fault, Result},
    pool::{self, Session},
    row,
    schema::OLDEST_SERVER,
};
use crate::{OpenError, options::Postgres, upkeep::ServerFacts};

/// See [`crate::Store::server_facts`].
pub(crate) async fn server_facts(options: &Postgres) -> Result<ServerFacts, OpenError> {
    let address = pool::address(options)?;
    let wrong =
        |fault: Fault| OpenError::Server { shown: address.shown.clone(), reason: fault.reason() };
    let pool = pool::Pool::new(&address.anywhere(), 2)?;
    let session = pool.session().await.map_err(wrong)?;
    facts(&session).await.map_err(wrong)
}

async fn facts(session: &Session) -> Result<ServerFacts> {
    // Whether anybody sees other servers is a privilege; how they count is not.
    let row = session
        .one(
            "SELECT current_setting('server_version'), current_setting('server_version_num')::int, \
             current_setting('synchronous_commit'), current_setting('fsync')::bool, \
             current_setting('full_page_writes')::bool, \
             current_setting('synchronous_standby_names'), \
             (SELECT CASE WHEN count(*) > 0 AND count(sync_state) = 0 THEN NULL ELSE \
                 count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) END \
              FROM pg_stat_replication), \
             current_setting('transaction_read_only')::bool, \
             current_setting('max_connections')::bigint, \
             current_setting('max_locks_per_transaction')::bigint, \
             (WITH RECURSIVE part AS (SELECT to_regclass('delivery')::oid AS oid \
                 UNION ALL SELECT i.inhrelid FROM pg_inherits i JOIN part p ON i.inhparent = p.oid) \
              SELECT count(part.oid) + (SELECT count(*) FROM pg_index x \
                 WHERE x.indrelid IN (SELECT oid FROM part)) FROM part)",
            &[],
        )
        .await?;
    let number: i32 = row.try_get(1)?;
    let standbys: Option<i64> = row.try_get(6)?;
    Ok(ServerFacts {
        version: row.try_get(0)?,
        supported: number / 10_000 >= OLDEST_SERVER,
        synchronous_commit: row.try_get(2)?,
        fsync: row.try_get(3)?,
        full_page_writes: row.try_get(4)?,
        synchronous_standby_names: row.try_get(5)?,
        synchronous_standbys: standbys.map(row::count),
        read_only: row.try_get(7)?,
        max_connections: row::count(row.try_get(8)?),
        max_locks_per_transaction: row::count(row.try_get(9)?),
        locks_of_a_look: row::count(row.try_get(10)?),
    })
}
