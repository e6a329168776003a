//! Instances.

use std::{collections::HashMap, sync::Arc};

use serde_json::json;
use tokio_postgres::Row;
use zapbus_event::{AccountId, Draft, InstanceId, InstanceState};

use super::{
    Engine, Shared, Tx,
    accounts::{keep_answer, or_exists, or_taken},
    credentials::free_token,
    pool::{Param, Session},
    row::{Fixed, fixed, instance_id, limit, maybe_time, text, time},
    state,
};
use crate::{
    Change, StoreError,
    directory::{self, Directory, Entry},
    fault::{Fault, Result},
    journal::NewEvent,
    prepared::sha256,
    registry::{Actor, Instance, InstancePatch, InstanceStatus, RESERVED_INSTANCE, Remember},
    seal::{Place, Sealer, seal, unseal},
    unreadable,
};

const INSTANCE: &str = "SELECT id, account, name, token, source, route, settings, created_at, deleted_at FROM instance";
const ENTRY: &str = "SELECT id, account, deleted_at IS NOT NULL, settings FROM instance";

fn place<'a>(id: &'a [u8], column: &'static str) -> Place<'a> {
    Place { table: "instance", id, column }
}

fn instance(row: &Row, sealer: &Sealer) -> Result<Instance> {
    let id: [u8; 16] = fixed(row, 0)?;
    let token = sealer.open(place(&id, "token"), row.try_get(3)?)?;
    let token = String::from_utf8(token)
        .map_err(|error| Fault::malformed(format!("token of an instance: {error}")))?;
    let source: Option<&[u8]> = row.try_get(4)?;
    let source = source.map(|sealed| unseal(sealer, place(&id, "source"), sealed)).transpose()?;
    without_secrets(row).map(|bare| Instance { token, source, ..bare })
}

fn without_secrets(row: &Row) -> Result<Instance> {
    let id = instance_id(row, 0)?;
    Ok(Instance {
        id,
        account: AccountId::from_bytes(fixed(row, 1)?),
        name: row.try_get(2)?,
        token: String::new(),
        source: None,
        route: row.try_get(5)?,
        settings: directory::read_settings(id, row.try_get::<_, &str>(6)?.as_bytes()),
        created_at: time(row, 7)?,
        deleted_at: maybe_time(row, 8)?,
    })
}

fn entry(row: &Row) -> Result<(InstanceId, Entry)> {
    let id = instance_id(row, 0)?;
    let settings = directory::read_settings(id, row.try_get::<_, &str>(3)?.as_bytes());
    let entry = Entry {
        account: AccountId::from_bytes(fixed(row, 1)?),
        deleted: row.try_get(2)?,
        retention: directory::retention(&settings),
    };
    Ok((id, entry))
}

/// All instances, for memory.
pub(super) async fn directory(session: &Session) -> Result<Directory> {
    let rows = session.query(ENTRY, &[]).await?;
    Ok(Directory::of(rows.iter().map(entry).collect::<Result<Vec<_>>>()?))
}

/// One that another node may have changed.
pub(super) async fn refresh(shared: &Arc<Shared>, session: &Session, id: InstanceId) -> Result<()> {
    let found = session.first(&format!("{ENTRY} WHERE id = $1"), &[&Fixed(id.to_bytes())]).await?;
    match found.map(|row| entry(&row)).transpose()? {
        Some((id, entry)) => shared.directory_mut().insert(id, entry),
        None => shared.directory_mut().remove(id),
    }
    Ok(())
}

/// Whether an account that may have `most` instances has a place for another. Its row is locked:
/// whoever else asks waits for what this one does.
async fn admit(tx: &Tx, account: AccountId, most: Option<usize>) -> Result<()> {
    let Some(most) = most else { return Ok(()) };
    let row = tx
        .session
        .one(
            "SELECT count(*) FROM instance \
             WHERE account = $1 AND name <> $2 AND deleted_at IS NULL",
            &[&Fixed(account.to_bytes()), &RESERVED_INSTANCE],
        )
        .await?;
    let has: i64 = row.try_get(0)?;
    match usize::try_from(has).is_ok_and(|has| has < most) {
        true => Ok(()),
        false => Err(StoreError::TooManyInstances { most }.into()),
    }
}

async fn create(
    tx: &mut Tx,
    new: &Instance,
    lifecycle: &Draft,
    actor: &Actor,
    remember: Option<&Remember>,
    most: Option<usize>,
) -> Result<()> {
    let lock = if most.is_some() { "NO KEY UPDATE" } else { "SHARE" };
    let known = tx
        .session
        .first(
            &format!("SELECT 1 FROM account WHERE id = $1 FOR {lock}"),
            &[&Fixed(new.account.to_bytes())],
        )
        .await?;
    if known.is_none() {
        return Err(Fault::not_found("account"));
    }
    free(tx, new.account, "name", &new.name, None).await?;
    admit(tx, new.account, most).await?;
    if let Some(route) = &new.route {
        free(tx, new.account, "route", route, None).await?;
    }
    let id = new.id.to_bytes();
    let token_hash = sha256(new.token.as_bytes());
    free_token(tx, token_hash, id).await?;
    let sealer = &tx.shared.sealer;
    let source = new.source.as_ref();
    let source = source.map(|source| seal(sealer, place(&id, "source"), source)).transpose()?;
    let made = tx
        .session
        .execute(
            "INSERT INTO instance (id, account, name, token, token_hash, source, route, settings, \
             created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                &Fixed(id),
                &Fixed(new.account.to_bytes()),
                &text(&new.name),
                &sealer.seal(place(&id, "token"), new.token.as_bytes())?,
                &Fixed(token_hash),
                &source,
                &new.route.as_deref().map(text),
                &new.settings.to_string(),
                &new.created_at.as_millis(),
            ],
        )
        .await;
    or_exists(made, "instance", &new.name)?;
    let entry = Entry {
        account: new.account,
        deleted: false,
        retention: directory::retention(&new.settings),
    };
    let instance = new.id;
    tx.directory(move |directory| directory.insert(instance, entry));
    tx.tell(Change::Instance(instance));
    tx.append_own(NewEvent { instance, draft: lifecycle.clone() });
    let detail = json!({ "name": new.name });
    let target = instance.to_string();
    tx.write_audit(Some(new.account), actor, "instance.create", &target, &detail).await?;
    keep_answer(tx, remember).await
}

/// Whether a name or route is free, or its holder is `own`.
async fn free(
    tx: &Tx,
    account: AccountId,
    column: &str,
    value: &str,
    own: Option<InstanceId>,
) -> Result<()> {
    let taken = tx
        .session
        .first(
            &format!(
                "SELECT id FROM instance \
                 WHERE account = $1 AND {column} = $2 AND deleted_at IS NULL"
            ),
            &[&Fixed(account.to_bytes()), &text(value)],
        )
        .await?;
    match taken.map(|row| instance_id(&row, 0)).transpose()? {
        Some(id) if Some(id) != own => Err(match column {
            "route" => StoreError::RouteTaken { route: value.to_owned() }.into(),
            _ => Fault::exists("instance", value),
        }),
        _ => Ok(()),
    }
}

/// Account and name of one that is not being deleted, locked.
async fn owner(tx: &Tx, id: InstanceId) -> Result<(AccountId, String)> {
    let found = tx
        .session
        .first(
            "SELECT account, name FROM instance WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
            &[&Fixed(id.to_bytes())],
        )
        .await?;
    let row = found.ok_or_else(|| Fault::not_found("instance"))?;
    Ok((AccountId::from_bytes(fixed(&row, 0)?), row.try_get(1)?))
}

async fn update(
    tx: &mut Tx,
    id: InstanceId,
    patch: &InstancePatch,
    actor: &Actor,
) -> Result<Instance> {
    let key = id.to_bytes();
    let (account, old_name) = owner(tx, id).await?;
    let shared = Arc::clone(&tx.shared);
    let sealer = &shared.sealer;
    let mut changed = Vec::new();
    if let Some(name) = &patch.name {
        if old_name == RESERVED_INSTANCE {
            return Err(Fault::refused("the reserved instance keeps its name"));
        }
        free(tx, account, "name", name, Some(id)).await?;
        let done = tx
            .session
            .execute("UPDATE instance SET name = $2 WHERE id = $1", &[&Fixed(key), &text(name)])
            .await;
        or_exists(done, "instance", name)?;
        changed.push("name");
    }
    if let Some(token) = &patch.token {
        let sealed = sealer.seal(place(&key, "token"), token.as_bytes())?;
        let hash = sha256(token.as_bytes());
        free_token(tx, hash, key).await?;
        tx.session
            .execute(
                "UPDATE instance SET token = $2, token_hash = $3 WHERE id = $1",
                &[&Fixed(key), &sealed, &Fixed(hash)],
            )
            .await?;
        changed.push("token");
    }
    if let Some(source) = &patch.source {
        let sealed = source
            .as_ref()
            .map(|source| seal(sealer, place(&key, "source"), source))
            .transpose()?;
        tx.session
            .execute("UPDATE instance SET source = $2 WHERE id = $1", &[&Fixed(key), &sealed])
            .await?;
        changed.push("source");
    }
    if let Some(route) = &patch.route {
        if let Some(route) = route {
            free(tx, account, "route", route, Some(id)).await?;
        }
        let done = tx
            .session
            .execute(
                "UPDATE instance SET route = $2 WHERE id = $1",
                &[&Fixed(key), &route.as_deref().map(text)],
            )
            .await;
        or_taken(done, || StoreError::RouteTaken { route: route.clone().unwrap_or_default() })?;
        changed.push("route");
    }
    let mut stored = serde_json::Value::Null;
    if patch.merge_settings.is_some() {
        // Its row is locked since we know whose it is.
        let row = tx.session.one(&format!("{INSTANCE} WHERE id = $1"), &[&Fixed(key)]).await?;
        stored = instance(&row, sealer)?.settings;
    }
    if let Some(settings) = &patch.settings_of(|| stored) {
        tx.session
            .execute(
                "UPDATE instance SET settings = $2 WHERE id = $1",
                &[&Fixed(key), &settings.to_string()],
            )
            .await?;
        let retention = directory::retention(settings);
        tx.directory(move |directory| {
            directory.change(id, |entry| entry.retention = retention);
        });
        changed.push("settings");
    }
    tx.tell(Change::Instance(id));
    let detail = json!({ "changed": changed });
    tx.write_audit(Some(account), actor, "instance.update", &id.to_string(), &detail).await?;
    let row = tx.session.one(&format!("{INSTANCE} WHERE id = $1"), &[&Fixed(key)]).await?;
    instance(&row, sealer)
}

async fn mark_deleted(tx: &mut Tx, id: InstanceId, lifecycle: &Draft, actor: &Actor) -> Result<()> {
    let (account, name) = owner(tx, id).await?;
    if name == RESERVED_INSTANCE {
        return Err(Fault::refused("the reserved instance stays as long as its account"));
    }
    tx.append_own(NewEvent { instance: id, draft: lifecycle.clone() });
    tx.close_instance(id);
    tx.directory(move |directory| directory.change(id, |entry| entry.deleted = true));
    tx.tell(Change::Instance(id));
    let detail = json!({ "name": name });
    tx.write_audit(Some(account), actor, "instance.delete", &id.to_string(), &detail).await
}

/// The last step of dropping an instance: its own rows, once its events and destinations are gone.
pub(super) async fn forget(tx: &mut Tx, id: InstanceId) -> Result<()> {
    let key = Fixed(id.to_bytes());
    tx.session
        .execute(
            "DELETE FROM credential_secret WHERE credential IN \
             (SELECT id FROM credential WHERE instance = $1)",
            &[&key],
        )
        .await?;
    for table in ["credential", "address_alias", "instance_state", "subscriber"] {
        let query = format!("DELETE FROM {table} WHERE instance = $1");
        tx.session.execute(&query, &[&key]).await?;
    }
    tx.session.execute("DELETE FROM instance WHERE id = $1", &[&key]).await?;
    tx.shared.aliases().forget();
    tx.directory(move |directory| directory.remove(id));
    tx.tell(Change::Instance(id));
    Ok(())
}

/// What their events say of several, in their order; of one that there is not, nothing.
async fn statuses(
    shared: &Shared,
    session: &Session,
    ids: &[InstanceId],
) -> Result<Vec<InstanceStatus>> {
    let keys: Vec<Fixed<16>> = ids.iter().map(|id| Fixed(id.to_bytes())).collect();
    let rows = session
        .query(
            "SELECT i.id, s.state, s.stale_from IS NOT NULL, \
             greatest(s.last_event_at, (SELECT j.received_at FROM journal j \
                 WHERE j.instance = i.id ORDER BY j.seq DESC LIMIT 1)) \
             FROM unnest($1::bytea[]) i (id) LEFT JOIN instance_state s ON s.instance = i.id",
            &[&keys],
        )
        .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let id = instance_id(row, 0)?;
        let state = match (row.try_get::<_, Option<&str>>(1)?, row.try_get(2)?) {
            (None, _) => InstanceState::default(),
            (Some(stored), false) => state::read(id, stored),
            (Some(_), true) => state::fold(shared, session, id).await?,
        };
        found.insert(id, InstanceStatus { state, last_event_at: maybe_time(row, 3)? });
    }
    Ok(ids.iter().map(|id| found.remove(id).unwrap_or_default()).collect())
}

impl Engine {
    async fn list_instances(
        &self,
        condition: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Instance>, StoreError> {
        let session = self.session().await?;
        let rows = session.query(&format!("{INSTANCE} WHERE {condition}"), params).await?;
        let mut found = Vec::new();
        for row in &rows {
            // One unreadable secret must not hide everybody else.
            found.push(instance(row, &self.shared.sealer).or_else(|fault| match fault {
                Fault::Store(error) => {
                    unreadable::secrets_of_instance(&error);
                    without_secrets(row)
                }
                other => Err(other),
            })?);
        }
        Ok(found)
    }

    async fn one_instance(
        &self,
        condition: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Instance>, StoreError> {
        let session = self.session().await?;
        let found = session.first(&format!("{INSTANCE} WHERE {condition}"), params).await?;
        Ok(found.map(|row| instance(&row, &self.shared.sealer)).transpose()?)
    }

    pub(crate) async fn instance(&self, id: InstanceId) -> Result<Option<Instance>, StoreError> {
        self.one_instance("id = $1", &[&Fixed(id.to_bytes())]).await
    }

    pub(crate) async fn instances(
        &self,
        account: Option<AccountId>,
        after: Option<InstanceId>,
        rows: usize,
    ) -> Result<Vec<Instance>, StoreError> {
        let after = Fixed(after.map_or([0; 16], InstanceId::to_bytes));
        let of = if account.is_some() { "account = $3" } else { "$3::bytea IS NULL" };
        self.list_instances(
            &format!("{of} AND id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2"),
            &[&after, &limit(rows), &account.map(|account| Fixed(account.to_bytes()))],
        )
        .await
    }

    pub(crate) async fn instances_named(&self, name: &str) -> Result<Vec<Instance>, StoreError> {
        self.list_instances("name = $1 AND deleted_at IS NULL ORDER BY id", &[&text(name)]).await
    }

    pub(crate) async fn instance_by_route(
        &self,
        account: Option<AccountId>,
        route: &str,
    ) -> Result<Option<Instance>, StoreError> {
        let of = if account.is_some() { "account = $2" } else { "$2::bytea IS NULL" };
        self.one_instance(
            &format!("route = $1 AND {of} AND deleted_at IS NULL ORDER BY id LIMIT 1"),
            &[&text(route), &account.map(|account| Fixed(account.to_bytes()))],
        )
        .await
    }

    pub(crate) async fn instance_by_token_hash(
        &self,
        hash: [u8; 32],
    ) -> Result<Option<Instance>, StoreError> {
        self.one_instance(
            "token_hash = $1 AND deleted_at IS NULL ORDER BY id LIMIT 1",
            &[&Fixed(hash)],
        )
        .await
    }

    pub(crate) async fn deleted_instances(&self) -> Result<Vec<Instance>, StoreError> {
        self.list_instances("deleted_at IS NOT NULL ORDER BY deleted_at", &[]).await
    }

    pub(crate) async fn instance_status(
        &self,
        id: InstanceId,
    ) -> Result<InstanceStatus, StoreError> {
        // One that another node has made just now is not in memory yet.
        let known = self.shared.directory().get(id).is_some();
        if !known && self.instance(id).await?.is_none() {
            return Err(StoreError::NotFound { what: "instance" });
        }
        let session = self.session().await?;
        let state = state::fold(&self.shared, &session, id).await?;
        let row = session
            .one(
                "SELECT greatest((SELECT last_event_at FROM instance_state WHERE instance = $1), \
                 (SELECT received_at FROM journal WHERE instance = $1 ORDER BY seq DESC LIMIT 1))",
                &[&Fixed(id.to_bytes())],
            )
            .await?;
        Ok(InstanceStatus { state, last_event_at: maybe_time(&row, 0)? })
    }

    pub(crate) async fn instance_statuses(
        &self,
        ids: &[InstanceId],
    ) -> Result<Vec<InstanceStatus>, StoreError> {
        let session = self.session().await?;
        Ok(statuses(&self.shared, &session, ids).await?)
    }

    pub(crate) async fn create_instance(
        &self,
        new: &Instance,
        lifecycle: &Draft,
        actor: &Actor,
        remember: Option<&Remember>,
        most: Option<usize>,
    ) -> Result<(), StoreError> {
        let _one_at_a_time = match most {
            Some(_) => Some(self.shared.counting.lock().await),
            None => None,
        };
        let mut tx = self.begin().await?;
        let done = create(&mut tx, new, lifecycle, actor, remember, most).await;
        tx.finish(done).await
    }

    pub(crate) async fn update_instance(
        &self,
        id: InstanceId,
        patch: &InstancePatch,
        actor: &Actor,
    ) -> Result<Instance, StoreError> {
        let mut tx = self.begin().await?;
        let done = update(&mut tx, id, patch, actor).await;
        tx.finish(done).await
    }

    pub(crate) async fn mark_instance_deleted(
        &self,
        id: InstanceId,
        lifecycle: &Draft,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let done = mark_deleted(&mut tx, id, lifecycle, actor).await;
        tx.finish(done).await
    }
}
