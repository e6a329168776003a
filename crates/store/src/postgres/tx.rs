//! A transaction that changes the registry, the log or what is kept.

use std::{collections::BTreeMap, sync::Arc};

use zapbus_event::{AuditId, DestinationId, InstanceId, Timestamp};

use super::{
    Busy, Shared,
    append::{self, Columns},
    follow,
    pool::Session,
    pruning::{Noted, Noting},
    row::Fixed,
    state,
};
use crate::{
    Actor, Change, ShardId, StoreError,
    directory::Directory,
    fault::{Fault, Result},
    journal::NewEvent,
    prepared::{Prepared, prepare_own},
};

type DirectoryChange = Box<dyn FnOnce(&mut Directory) + Send + Sync>;

type MemoryChange = Box<dyn FnOnce(&Shared) + Send + Sync>;

/// Numbers of changes in the table; they mean the same for ever.
pub(super) mod what {
    pub(in crate::postgres) const ACCOUNT: i32 = 0;
    pub(in crate::postgres) const INSTANCE: i32 = 1;
    pub(in crate::postgres) const DESTINATION: i32 = 2;
    pub(in crate::postgres) const CREDENTIAL: i32 = 3;
    pub(in crate::postgres) const ERASED: i32 = 4;
}

/// A transaction. What is not finished never was.
pub(crate) struct Tx {
    pub(crate) session: Session,
    pub(crate) shared: Arc<Shared>,
    /// The time of everything in it but events.
    pub(crate) now: Timestamp,
    own: Vec<Prepared>,
    told: Vec<(i32, [u8; 16])>,
    directory: Vec<DirectoryChange>,
    forgotten: Vec<DestinationId>,
    closing: Option<InstanceId>,
    done: Vec<MemoryChange>,
    /// Of events that went.
    pub(super) noted: Noted,
    _busy: Busy,
}

impl Tx {
    pub(super) async fn begin(shared: &Arc<Shared>) -> Result<Self> {
        let busy = Busy::new(shared);
        let session = shared.pool.session().await.inspect_err(|fault| shared.note_fault(fault))?;
        session.batch("BEGIN").await.inspect_err(|fault| shared.note_fault(fault))?;
        session.risk();
        Ok(Self {
            session,
            shared: Arc::clone(shared),
            now: shared.now(),
            own: Vec::new(),
            told: Vec::new(),
            directory: Vec::new(),
            forgotten: Vec::new(),
            closing: None,
            done: Vec::new(),
            noted: Noted::default(),
            _busy: busy,
        })
    }

    /// Other nodes are told of a change.
    pub(super) fn tell(&mut self, change: Change) {
        let told = match change {
            Change::Account(id) => (what::ACCOUNT, id.to_bytes()),
            Change::Instance(id) => (what::INSTANCE, id.to_bytes()),
            Change::Erased(id) => (what::ERASED, id.to_bytes()),
            Change::Destination(id) => (what::DESTINATION, id.to_bytes()),
            Change::Credential(id) => (what::CREDENTIAL, id.to_bytes()),
            Change::Everything => return,
        };
        // Once is enough.
        if !self.told.contains(&told) {
            self.told.push(told);
            if let Change::Destination(id) = change {
                self.forgotten.push(id);
            }
        }
    }

    /// What this node's directory becomes with the commit.
    pub(super) fn directory(
        &mut self,
        change: impl FnOnce(&mut Directory) + Send + Sync + 'static,
    ) {
        self.directory.push(Box::new(change));
    }

    /// What happens to this node's memory with the commit.
    pub(super) fn when_done(&mut self, work: impl FnOnce(&Shared) + Send + Sync + 'static) {
        self.done.push(Box::new(work));
    }

    /// An event of the gateway's own, appended with the commit.
    pub(super) fn append_own(&mut self, event: NewEvent) {
        self.own.push(prepare_own(event));
    }

    /// Marks an instance as deleted once its own events are appended: they are its last.
    pub(super) fn close_instance(&mut self, instance: InstanceId) {
        self.closing = Some(instance);
    }

    /// The id of the next line of the audit log: lines of one millisecond keep their order.
    pub(super) async fn audit_id(&self) -> Result<AuditId> {
        let row = self.session.one("SELECT nextval('audit_n')", &[]).await?;
        let number: i64 = row.try_get(0)?;
        Ok(AuditId::new(self.now, u128::from(number.unsigned_abs())))
    }

    /// Commits, or if it failed takes everything back.
    pub(crate) async fn finish<T>(mut self, done: Result<T>) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let value = match done {
            Ok(value) => value,
            Err(fault) => {
                let answered = !matches!(fault, Fault::Broken(_));
                if answered && self.session.batch("ROLLBACK").await.is_ok() {
                    self.session.keep();
                }
                shared.note_fault(&fault);
                return Err(fault.into());
            }
        };
        match self.commit().await {
            Ok(()) => Ok(value),
            Err(fault) => {
                if matches!(fault, Fault::WentBack) {
                    // Whoever repeats it finds that put right.
                    let _ = follow::go_beyond(&shared).await;
                }
                shared.note_fault(&fault);
                Err(fault.into())
            }
        }
    }

    async fn commit(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        if !self.told.is_empty() {
            let (what, ids): (Vec<i32>, Vec<Fixed<16>>) =
                self.told.drain(..).map(|(what, id)| (what, Fixed(id))).unzip();
            self.session
                .execute(
                    "INSERT INTO change (what, id) SELECT * FROM unnest($1::int[], $2::bytea[])",
                    &[&what, &ids],
                )
                .await?;
        }
        let own = std::mem::take(&mut self.own);
        let mut shards: BTreeMap<ShardId, Vec<Prepared>> = BTreeMap::new();
        for prepared in own {
            shards.entry(shared.shard_of(prepared.instance)).or_default().push(prepared);
        }
        for shard in shards.keys() {
            follow::ensure_partitions(&shared, *shard).await?;
        }
        let mut calls = Vec::new();
        for (shard, prepared) in &shards {
            let mut columns = Columns::new(&shared, *shard);
            for prepared in prepared {
                columns.push(&shared, prepared, None)?;
            }
            calls.push(columns);
        }
        let clock = (!shared.database_clock).then(|| self.now.as_millis());
        let noted = std::mem::take(&mut self.noted).columns(clock);
        let rows = if calls.is_empty() && noted.is_none() {
            self.session.batch("COMMIT").await?;
            Vec::new()
        } else {
            // The journal's lock, and rows that appends need, are taken and given back in one
            // message.
            let statement = self.session.prepare(append::CALL).await?;
            let close =
                self.session.prepare("UPDATE instance SET deleted_at = $2 WHERE id = $1").await?;
            let (closing, now) =
                (self.closing.map(|id| Fixed(id.to_bytes())), self.now.as_millis());
            let note = Noting::prepare(&self.session).await?;
            let mut together = Vec::with_capacity(calls.len() + 3);
            together.extend(noted.as_ref().map(|noted| noted.shards(&note)));
            together.extend(calls.iter().map(|call| (&statement, call.params())));
            together.extend(noted.as_ref().map(|noted| noted.instances(&note)));
            if let Some(closing) = &closing {
                together.push((&close, vec![closing, &now]));
            }
            let mut rows = self.session.together(&together, false).await?;
            rows.split_off(usize::from(noted.is_some()))
        };
        self.session.keep();
        // What follows may need a connection too.
        self.session.give_back();
        drop(calls);
        if !self.directory.is_empty() {
            let mut directory = shared.directory_mut();
            self.directory.drain(..).for_each(|change| change(&mut directory));
        }
        self.done.drain(..).for_each(|work| work(&shared));
        if !self.forgotten.is_empty() {
            let mut known = shared.destinations();
            for id in self.forgotten.drain(..) {
                known.remove(&id);
            }
        }
        shared.metrics.commits.add(1);
        for ((shard, prepared), rows) in shards.into_iter().zip(&rows) {
            let placed = append::placed(rows)?;
            let concerned = prepared.iter().map(|prepared| prepared.instance).collect();
            let events: Vec<_> = prepared
                .into_iter()
                .zip(&placed.appended)
                .filter(|(_, placed)| !placed.duplicate)
                .map(|(prepared, placed)| {
                    Arc::new(crate::encoding::event_of(
                        prepared,
                        placed.id,
                        placed.seq,
                        placed.received_at,
                    ))
                })
                .collect();
            shared.metrics.events.add(events.len() as u64);
            follow::advance(&shared, shard, placed.before, events).await;
            state::fold_soon(&shared, concerned);
        }
        Ok(())
    }

    /// Writes a line of the audit log.
    pub(super) async fn write_audit(
        &mut self,
        account: Option<zapbus_event::AccountId>,
        actor: &Actor,
        action: &str,
        target: &str,
        detail: &serde_json::Value,
    ) -> Result<()> {
        let audit = crate::Audit {
            id: self.audit_id().await?,
            at: self.now,
            account,
            actor: actor.0.clone(),
            action: action.to_owned(),
            target: target.to_owned(),
            detail: detail.clone(),
        };
        super::accounts::insert_audit(&self.session, &audit).await
    }
}
