//! The target: a database that becomes a store when the last row is there, and not before.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use zapbus_event::Timestamp;

use super::{
    CopiedTable, CopyError, CopyOptions, CopyProgress, Progress,
    mapping::{Mapping, Periods},
    source::{Facts, Source},
    tables::{TABLES, Table},
    wire::sum_query,
};
use crate::{
    OpenError,
    fault::{Fault, Result},
    postgres::{
        pool::{self, Pool, Session},
        schema,
    },
};

/// Held by the one copy that is under way.
const LOCK: &str = "SELECT pg_try_advisory_lock(2053206392, 0)";
/// How long it is waited for.
const OTHERS: Duration = Duration::from_secs(5);
/// What a batch may take.
const BATCH: Duration = Duration::from_secs(300);
const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;

/// A database that is being copied into.
pub(super) struct Target {
    session: Session,
    /// Where it is, without secrets.
    pub(super) shown: String,
    mapping: Arc<Mapping>,
    made: Periods,
    pub(super) resumed: bool,
    _pool: Pool,
}

/// How far a table is.
#[derive(Debug, Default)]
struct State {
    rows: u64,
    sum: u128,
    checked: bool,
}

impl Target {
    /// Makes the schema, and notes that what is in it is not whole.
    pub(super) async fn open(options: &CopyOptions, source: &Source) -> Result<Self, CopyError> {
        if options.keys.is_empty() {
            return Err(OpenError::KeyNeeded.into());
        }
        let address = pool::address(&options.to)?;
        let shown = address.shown.clone();
        let wrong =
            |fault: Fault| OpenError::Server { shown: shown.clone(), reason: fault.reason() };
        let pool = Pool::new(&address, 2)?;
        let session = pool.session().await.map_err(wrong)?;
        schema::check_server(&session).await.map_err(wrong)?;
        let occupied =
            |reason: &str| CopyError::Occupied { shown: shown.clone(), reason: reason.to_owned() };
        if !is_alone(&session).await.map_err(wrong)? {
            return Err(occupied("another copy into it is under way"));
        }
        let fingerprint = source.fingerprint().map_err(wrong)?;
        schema::lock(&session).await.map_err(wrong)?;
        let begun = begin(&session, options, &fingerprint, &shown).await;
        schema::unlock(&session).await.map_err(wrong)?;
        let (bare, resumed) = begun?;
        // Nobody waits for us, and much of this takes longer than a request.
        session
            .batch(
                "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                 SET enable_seqscan = on",
            )
            .await
            .map_err(wrong)?;
        let names: Vec<&str> = source.facts.kinds.iter().map(|(_, name)| name.as_str()).collect();
        let numbers = schema::kind_numbers(&session, &names).await.map_err(wrong)?;
        let kinds = source.facts.kinds.iter().map(|(number, _)| *number).zip(numbers).collect();
        let mapping = Arc::new(Mapping {
            shards: bare.shards,
            kinds,
            opens: source.sealer()?,
            seals: bare.sealer,
            blobs: source.blobs(),
        });
        Ok(Self { session, shown, mapping, made: Periods::default(), resumed, _pool: pool })
    }

    fn interrupted(&self, fault: &Fault) -> CopyError {
        CopyError::Interrupted { shown: self.shown.clone(), reason: fault.reason() }
    }

    /// Copies what is not there yet.
    pub(super) async fn copy(
        &mut self,
        table: &'static Table,
        source: &Source,
        progress: Progress<'_>,
    ) -> Result<CopiedTable, CopyError> {
        let total = rows_of(&source.facts, table);
        let mut state = self.state(table.name).await.map_err(|fault| self.interrupted(&fault))?;
        let mut tell = |done: u64| {
            let told = CopyProgress { table: table.name, done, total, checking: false };
            if progress(told) { Ok(()) } else { Err(CopyError::CalledOff) }
        };
        tell(state.rows)?;
        if state.rows < total {
            let mut batches = source.read(table, &self.mapping, state.rows);
            while let Some(batch) = batches.recv().await {
                let batch = batch.map_err(|fault| super::of_source(&source.path, &fault))?;
                state.rows += batch.rows.count;
                state.sum += batch.rows.sum;
                let written = self.write(table, batch.rows.finish(), &batch.periods, &state);
                let written = match tokio::time::timeout(BATCH, written).await {
                    Ok(written) => written,
                    Err(_) => Err(Fault::Broken("the database does not answer".to_owned())),
                };
                written.map_err(|fault| self.interrupted(&fault))?;
                tell(state.rows)?;
            }
        }
        if state.rows != total {
            let reason = format!("{total} rows were there, and {} were read", state.rows);
            return Err(CopyError::Differs { table: table.name, reason });
        }
        Ok(CopiedTable { name: table.name, rows: state.rows, checksum: state.sum })
    }

    async fn state(&self, table: &str) -> Result<State> {
        let found = self
            .session
            .first("SELECT rows, sum::text, checked FROM copying_table WHERE name = $1", &[&table])
            .await?;
        let Some(row) = found else { return Ok(State::default()) };
        let (rows, sum): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        Ok(State {
            rows: u64::try_from(rows).unwrap_or_default(),
            sum: sum.parse().map_err(|_| Fault::malformed("how far a copy is"))?,
            checked: row.try_get(2)?,
        })
    }

    /// A batch, and that it is there, in one transaction.
    async fn write(
        &mut self,
        table: &Table,
        stream: Vec<u8>,
        periods: &Periods,
        state: &State,
    ) -> Result<()> {
        self.make_partitions(periods).await?;
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let copy =
            format!("COPY {} ({}) FROM STDIN WITH (FORMAT binary)", table.name, columns.join(", "));
        self.session.batch("BEGIN").await?;
        self.session.risk();
        self.session.copy_in(&copy, stream).await?;
        self.session
            .execute(
                "INSERT INTO copying_table (name, rows, sum) VALUES ($1, $2, $3::text::numeric) \
                 ON CONFLICT (name) DO UPDATE SET rows = excluded.rows, sum = excluded.sum",
                &[&table.name, &(state.rows as i64), &state.sum.to_string()],
            )
            .await?;
        self.session.batch("COMMIT").await?;
        self.session.keep();
        Ok(())
    }

    async fn make_partitions(&mut self, needed: &Periods) -> Result<()> {
        let new = |needed: &BTreeSet<i64>, made: &mut BTreeSet<i64>| -> Vec<i64> {
            let new: Vec<i64> = needed.difference(made).copied().collect();
            made.extend(&new);
            new
        };
        for day in new(&needed.days, &mut self.made.days) {
            let at = Timestamp::from_millis(day * DAY_MS);
            schema::make_partitions(&self.session, at, (0, None)).await?;
        }
        for hour in new(&needed.hours, &mut self.made.hours) {
            let at = Timestamp::from_millis(hour * HOUR_MS);
            schema::make_partitions(&self.session, at, (0, Some(0))).await?;
        }
        for week in new(&needed.weeks, &mut self.made.weeks) {
            schema::make_week(&self.session, week).await?;
        }
        self.session.batch("SET statement_timeout = 0").await
    }

    /// Compares what is there with what was sent.
    pub(super) async fn check(
        &self,
        table: &'static Table,
        sent: &CopiedTable,
        progress: Progress<'_>,
    ) -> Result<(), CopyError> {
        let wrong = |fault: Fault| self.interrupted(&fault);
        if self.state(table.name).await.map_err(wrong)?.checked {
            return Ok(());
        }
        let told =
            CopyProgress { table: table.name, done: sent.rows, total: sent.rows, checking: true };
        if !progress(told) {
            return Err(CopyError::CalledOff);
        }
        let (rows, sum) = self.sum(table).await.map_err(wrong)?;
        if rows != sent.rows || sum != sent.checksum {
            let reason = format!(
                "{} rows with the checksum {} were sent, {rows} with {sum} are there",
                sent.rows, sent.checksum
            );
            return Err(CopyError::Differs { table: table.name, reason });
        }
        let checked = "INSERT INTO copying_table (name, rows, sum, checked) \
                       VALUES ($1, 0, 0, true) ON CONFLICT (name) DO UPDATE SET checked = true";
        self.session.execute(checked, &[&table.name]).await.map_err(wrong)?;
        Ok(())
    }

    async fn sum(&self, table: &Table) -> Result<(u64, u128)> {
        let row = self.session.long_one(&sum_query(table.name, table.columns)).await?;
        let (rows, sum): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        let sum = sum.parse().map_err(|_| Fault::malformed("a checksum"))?;
        Ok((u64::try_from(rows).unwrap_or_default(), sum))
    }

    /// What is no row of a table: where positions and numbers go on. From here on it is a store.
    pub(super) async fn finish(self, source: &Source, live: bool) -> Result<(), CopyError> {
        let done = finish(&self.session, &source.facts, live).await;
        done.map_err(|fault| self.interrupted(&fault))
    }
}

/// Whether no other copy is under way. The server may not have noticed yet that one was killed.
async fn is_alone(session: &Session) -> Result<bool> {
    let until = Instant::now() + OTHERS;
    loop {
        if session.one(LOCK, &[]).await?.try_get(0)? {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn rows_of(facts: &Facts, table: &Table) -> u64 {
    let at = TABLES.iter().position(|known| known.name == table.name);
    at.and_then(|at| facts.rows.get(at)).copied().unwrap_or_default()
}

/// Makes an empty store, or finds the one that was begun (then it is true). The caller has the lock of the schema.
async fn begin(
    session: &Session,
    options: &CopyOptions,
    fingerprint: &str,
    shown: &str,
) -> Result<(schema::Bare, bool), CopyError> {
    let occupied =
        |reason: &str| CopyError::Occupied { shown: shown.to_owned(), reason: reason.to_owned() };
    let wrong =
        |fault: Fault| OpenError::Server { shown: shown.to_owned(), reason: fault.reason() };
    let resumed = schema::is_unfinished(session).await.map_err(wrong)?;
    if resumed {
        let row = session.one("SELECT source FROM copying", &[]).await.map_err(wrong)?;
        let begun: String = row.try_get(0).map_err(|error| wrong(error.into()))?;
        if begun != fingerprint {
            return Err(occupied(
                "a copy into it was begun from another store, or this one has run since",
            ));
        }
    } else if is_occupied(session).await.map_err(wrong)? {
        return Err(occupied("it holds a store already"));
    }
    let bare = schema::make(session, &options.to, &options.keys, shown).await?;
    if !resumed {
        // Hexadecimal digits.
        let note = format!(
            "BEGIN; CREATE TABLE copying (source text NOT NULL); \
             CREATE TABLE copying_table (name text PRIMARY KEY, rows bigint NOT NULL, \
             sum numeric NOT NULL, checked boolean NOT NULL DEFAULT false); \
             INSERT INTO copying (source) VALUES ('{fingerprint}'); COMMIT"
        );
        session.long_batch(&note).await.map_err(wrong)?;
    }
    Ok((bare, resumed))
}

/// Whether somebody has opened it as a store.
async fn is_occupied(session: &Session) -> Result<bool> {
    let there = session.one("SELECT to_regclass('account') IS NOT NULL", &[]).await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(false);
    }
    Ok(session.first("SELECT 1 FROM account LIMIT 1", &[]).await?.is_some())
}

async fn finish(session: &Session, facts: &Facts, live: bool) -> Result<()> {
    // The planner has not seen any of it yet.
    session.long_batch("ANALYZE").await?;
    session.batch("BEGIN").await?;
    session.risk();
    session
        .execute(
            "UPDATE shard SET floor = $1, floor_at = $2, pruned_upto = $3",
            &[&facts.head, &facts.received_at, &facts.pruned_upto],
        )
        .await?;
    for [number, old_head, first, last_received_at, began_at] in &facts.generations {
        session
            .execute(
                "INSERT INTO generation (shard, number, old_head, first, last_received_at, \
                 began_at) SELECT shard, $1, $2, $3, $4, $5 FROM shard",
                &[number, old_head, first, last_received_at, began_at],
            )
            .await?;
    }
    session
        .execute("UPDATE meta SET value = $1 WHERE name = 'generation'", &[&facts.generation])
        .await?;
    // Begins in both: no number is given out twice.
    session
        .query(
            "SELECT setval(pg_get_serial_sequence('destination', 'n'), greatest($1::bigint, 1)), \
             setval('delivery_n', greatest($2::bigint, 1))",
            &[&facts.destinations, &facts.lines],
        )
        .await?;
    let mark = if live { schema::LIVE_COPY } else { schema::COPY };
    session.execute("INSERT INTO meta (name, value) VALUES ('copied', $1)", &[&mark]).await?;
    session.batch("DROP TABLE copying, copying_table; COMMIT").await?;
    session.keep();
    Ok(())
}
