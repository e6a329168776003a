//! Named subscribers and tickets.

use std::collections::HashMap;

use tokio_postgres::Row;
use zapbus_event::{AccountId, InstanceId, SubscriberId, Timestamp};

use super::{
    Engine,
    pool::{Param, Session},
    row::{self, Fixed, fixed, limit, text, time},
};
use crate::{
    StoreError,
    encoding::{filter_of, filter_text},
    fault::{Fault, Result},
    subscriber::{Advance, Progress, SUBSCRIBERS, Subscriber, SubscriberQuery},
};

const SUBSCRIBER: &str = "SELECT id, account, instance, owner, name, dialect, filter, progress, \
                          created_at, used_at FROM subscriber";

/// How often others may come in between before somebody else has to try again.
const TRIES: usize = 20;

fn subscriber(row: &Row) -> Result<Subscriber> {
    Ok(Subscriber {
        id: SubscriberId::from_bytes(fixed(row, 0)?),
        account: row::maybe_fixed(row, 1)?.map(AccountId::from_bytes),
        instance: row::maybe_fixed(row, 2)?.map(InstanceId::from_bytes),
        owner: row.try_get(3)?,
        name: row.try_get(4)?,
        dialect: row.try_get(5)?,
        filter: filter_of(row.try_get(6)?)?,
        progress: serde_json::from_slice(row.try_get(7)?)?,
        created_at: time(row, 8)?,
        used_at: time(row, 9)?,
    })
}

fn key(id: Option<[u8; 16]>) -> Option<Fixed<16>> {
    id.map(Fixed)
}

/// A condition that goes through an index, whether there is a value or not.
fn same(column: &str, parameter: usize, is_set: bool) -> String {
    if is_set {
        format!("{column} = ${parameter}")
    } else {
        format!("{column} IS NULL AND ${parameter}::bytea IS NULL")
    }
}

async fn open(session: &Session, new: &Subscriber) -> Result<Subscriber> {
    let id = Fixed(new.id.to_bytes());
    let account = key(new.account.map(AccountId::to_bytes));
    let instance = key(new.instance.map(InstanceId::to_bytes));
    let made = session
        .one(
            "INSERT INTO subscriber AS known (id, account, instance, owner, name, dialect, \
             filter, progress, created_at, used_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) ON CONFLICT (id) \
             DO UPDATE SET used_at = greatest(known.used_at, excluded.used_at) \
             RETURNING created_at = used_at",
            &[
                &id,
                &account,
                &instance,
                &text(&new.owner),
                &text(&new.name),
                &new.dialect,
                &filter_text(&new.filter)?,
                &serde_json::to_vec(&new.progress)?,
                &new.used_at.as_millis(),
            ],
        )
        .await?;
    if made.try_get(0)? {
        session
            .execute(
                &format!(
                    "DELETE FROM subscriber WHERE id IN (SELECT id FROM subscriber \
                     WHERE {} AND {} ORDER BY used_at DESC OFFSET $3)",
                    same("account", 1, account.is_some()),
                    same("instance", 2, instance.is_some()),
                ),
                &[&account, &instance, &limit(SUBSCRIBERS)],
            )
            .await?;
    }
    let found = session.first(&format!("{SUBSCRIBER} WHERE id = $1"), &[&id]).await?;
    found.map_or_else(|| Ok(new.clone()), |row| subscriber(&row))
}

/// A subscriber as somebody has read it.
struct Seen {
    version: i64,
    progress: Progress,
}

async fn see(session: &Session, ids: &[SubscriberId]) -> Result<HashMap<SubscriberId, Seen>> {
    let keys: Vec<Fixed<16>> = ids.iter().map(|id| Fixed(id.to_bytes())).collect();
    let rows = session
        .query("SELECT id, version, progress FROM subscriber WHERE id = ANY ($1)", &[&keys])
        .await?;
    let read = |row: &Row| -> Result<(SubscriberId, Seen)> {
        let progress = serde_json::from_slice(row.try_get(2)?)?;
        let id = SubscriberId::from_bytes(fixed(row, 0)?);
        Ok((id, Seen { version: row.try_get(1)?, progress }))
    };
    rows.iter().map(read).collect()
}

async fn advance(
    session: &Session,
    advances: &[(SubscriberId, Advance)],
    now: Timestamp,
) -> Result<Vec<Option<Progress>>> {
    let mut merged: HashMap<SubscriberId, Progress> = HashMap::new();
    let mut left: Vec<usize> = (0..advances.len()).collect();
    for _ in 0..TRIES {
        let ids: Vec<SubscriberId> = left.iter().map(|at| advances[*at].0).collect();
        let mut seen = see(session, &ids).await?;
        let (mut keys, mut versions, mut written) = (Vec::new(), Vec::new(), Vec::new());
        for at in &left {
            let (id, news) = &advances[*at];
            let Some(Seen { version, progress: before }) = seen.remove(id) else { continue };
            let mut after = before.clone();
            after.merge(news);
            if after != before {
                keys.push(Fixed(id.to_bytes()));
                versions.push(version);
                written.push(serde_json::to_vec(&after)?);
            }
            merged.insert(*id, after);
        }
        if keys.is_empty() {
            left.clear();
            break;
        }
        let done = session
            .query(
                "UPDATE subscriber s SET progress = n.progress, version = s.version + 1, \
                 used_at = $4 FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) \
                 AS n(id, version, progress) WHERE s.id = n.id AND s.version = n.version \
                 RETURNING s.id",
                &[&keys, &versions, &written, &now.as_millis()],
            )
            .await?;
        let mut done: Vec<[u8; 16]> =
            done.iter().map(|row| fixed(row, 0)).collect::<Result<_>>()?;
        done.sort_unstable();
        // Somebody else wrote in between: look at what he wrote.
        left.retain(|at| {
            let id = advances[*at].0.to_bytes();
            keys.iter().any(|key| key.0 == id) && done.binary_search(&id).is_err()
        });
        if left.is_empty() {
            break;
        }
    }
    if !left.is_empty() {
        return Err(Fault::Contended("subscribers that many write at once".to_owned()));
    }
    Ok(advances.iter().map(|(id, _)| merged.get(id).cloned()).collect())
}

impl Engine {
    pub(crate) async fn open_subscriber(&self, new: &Subscriber) -> Result<Subscriber, StoreError> {
        let session = self.session().await?;
        Ok(open(&session, new).await?)
    }

    pub(crate) async fn advance_subscribers(
        &self,
        advances: &[(SubscriberId, Advance)],
    ) -> Result<Vec<Option<Progress>>, StoreError> {
        let session = self.session().await?;
        Ok(advance(&session, advances, self.shared.now()).await?)
    }

    pub(crate) async fn subscribers(
        &self,
        query: SubscriberQuery,
    ) -> Result<Vec<Subscriber>, StoreError> {
        let session = self.session().await?;
        let after = Fixed(query.after.map_or([0; 16], SubscriberId::to_bytes));
        let rows = limit(query.limit);
        let account = key(query.account.map(AccountId::to_bytes));
        let instance = key(query.instance.map(InstanceId::to_bytes));
        let mut params: Vec<Param<'_>> = vec![&after, &rows];
        let mut conditions = String::new();
        for (column, value) in [("account", &account), ("instance", &instance)] {
            if value.is_some() {
                params.push(value);
                conditions.push_str(&format!(" AND {column} = ${}", params.len()));
            }
        }
        let rows = session
            .query(&format!("{SUBSCRIBER} WHERE id > $1{conditions} ORDER BY id LIMIT $2"), &params)
            .await?;
        Ok(rows.iter().map(subscriber).collect::<Result<_>>()?)
    }

    pub(crate) async fn subscriber(
        &self,
        id: SubscriberId,
    ) -> Result<Option<Subscriber>, StoreError> {
        let session = self.session().await?;
        let id = Fixed(id.to_bytes());
        let found = session.first(&format!("{SUBSCRIBER} WHERE id = $1"), &[&id]).await?;
        Ok(found.map(|row| subscriber(&row)).transpose()?)
    }

    pub(crate) async fn delete_subscriber(&self, id: SubscriberId) -> Result<bool, StoreError> {
        let session = self.session().await?;
        let id = Fixed(id.to_bytes());
        Ok(session.execute("DELETE FROM subscriber WHERE id = $1", &[&id]).await? > 0)
    }

    pub(crate) async fn keep_ticket(
        &self,
        hash: [u8; 32],
        pass: &[u8],
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let session = self.session().await?;
        session
            .execute(
                "INSERT INTO ticket (hash, pass, expires_at) VALUES ($1, $2, $3)",
                &[&Fixed(hash), &pass, &expires_at.as_millis()],
            )
            .await?;
        Ok(())
    }

    pub(crate) async fn take_ticket(
        &self,
        hash: [u8; 32],
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let session = self.session().await?;
        let taken = session
            .first("DELETE FROM ticket WHERE hash = $1 RETURNING pass, expires_at", &[&Fixed(hash)])
            .await?;
        let read = |row: Row| -> Result<Option<Vec<u8>>> {
            let expires_at: i64 = row.try_get(1)?;
            Ok((expires_at > now.as_millis()).then_some(row.try_get(0)?))
        };
        Ok(taken.map(read).transpose()?.flatten())
    }
}
