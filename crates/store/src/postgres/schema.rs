//! Opening: schema, shards, keys, the default account.

use std::time::{Duration, Instant};

use zapbus_event::{AccountId, InstanceId, Kind, Timestamp};

use super::{
    fault::{Fault, Result},
    pool::{self, Session},
};
use crate::{
    OpenError, Options,
    kinds::Kinds,
    options::{Key, Postgres},
    registry::{Activity, DEFAULT_ACCOUNT, RESERVED_INSTANCE},
    seal::{Place, Sealer},
    upkeep::MigrationPlan,
};

/// Every step of the schema, oldest first. Published ones never change, and each leaves nodes of the
/// version before it working: what they need is taken away one version later.
const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_initial", include_str!("../../migrations/postgres/0001_initial.sql")),
    ("0002_statistics", include_str!("../../migrations/postgres/0002_statistics.sql")),
    ("0003_node_key", include_str!("../../migrations/postgres/0003_node_key.sql")),
    ("0004_node_lag", include_str!("../../migrations/postgres/0004_node_lag.sql")),
    ("0005_subscribers", include_str!("../../migrations/postgres/0005_subscribers.sql")),
    ("0006_known_end", include_str!("../../migrations/postgres/0006_known_end.sql")),
    ("0007_media", include_str!("../../migrations/postgres/0007_media.sql")),
];

/// Versions below lack what we use.
pub(super) const OLDEST_SERVER: i32 = 15;
/// The lock of whoever changes the schema. In the same place for every version of us.
const LOCK: &str = "SELECT pg_try_advisory_lock(2053206390, 0)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(2053206390, 0)";
/// With fewer, a question that looks into every day of a month may find no room for its locks when some
/// nodes ask at a time.
const LOCKS: i64 = 256;
/// How long others are waited for, and how often they are asked.
const OTHERS: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(100);
const PROOF: &[u8] = b"zapbus";
/// How far positions jump with a new generation.
pub(super) const JUMP: i64 = 1 << 32;
/// The mark in `meta` of a copy whose destinations stand still until somebody resumes them, and of
/// one that delivers at once.
pub(crate) const COPY: i64 = 1;
pub(crate) const LIVE_COPY: i64 = 2;
/// Why destinations of a restored store stand still.
const REASON: &str = "restored or copied: resume when this is the store that should deliver";

/// What a node needs to begin.
pub(super) struct Prepared {
    pub(super) shards: u16,
    pub(super) kinds: Kinds,
    pub(super) sealer: Sealer,
    pub(super) first_start: bool,
    pub(super) migrated: Vec<String>,
}

async fn version(session: &Session) -> Result<usize> {
    let there = session.one("SELECT to_regclass('zapbus_migration') IS NOT NULL", &[]).await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let row = session.one("SELECT coalesce(max(version), 0) FROM zapbus_migration", &[]).await?;
    let version: i32 = row.try_get(0)?;
    usize::try_from(version).map_err(|_| Fault::malformed(format!("schema version {version}")))
}

fn refuse_newer(found: usize) -> Result<(), OpenError> {
    if found <= MIGRATIONS.len() {
        return Ok(());
    }
    Err(OpenError::Newer {
        found: u32::try_from(found).unwrap_or(u32::MAX),
        known: MIGRATIONS.len() as u32,
    })
}

/// What opening would do to the schema. Touches nothing.
pub(crate) async fn plan(options: &Postgres) -> Result<MigrationPlan, OpenError> {
    let address = pool::address(options)?;
    let wrong =
        |fault: Fault| OpenError::Server { shown: address.shown.clone(), reason: fault.reason() };
    let pool = pool::Pool::new(&address.anywhere(), 2)?;
    let session = pool.session().await.map_err(wrong)?;
    let from = version(&session).await.map_err(wrong)?;
    refuse_newer(from)?;
    Ok(MigrationPlan {
        from: u32::try_from(from).unwrap_or(u32::MAX),
        to: MIGRATIONS.len() as u32,
        names: MIGRATIONS[from..].iter().map(|(name, _)| (*name).to_owned()).collect(),
    })
}

/// Brings the schema up to date without becoming a node.
pub(crate) async fn migrate_only(options: &Options) -> Result<Vec<String>, OpenError> {
    let postgres = options.postgres.clone().unwrap_or_default();
    let address = pool::address(&postgres)?;
    let pool = pool::Pool::new(&address, 2)?;
    let session = pool.session().await.map_err(|fault| OpenError::Server {
        shown: address.shown.clone(),
        reason: fault.reason(),
    })?;
    Ok(prepare(&session, options, &postgres, &address.shown).await?.migrated)
}

/// Brings everything up to date. Nodes that start at the same time do it one after the other.
pub(super) async fn prepare(
    session: &Session,
    options: &Options,
    postgres: &Postgres,
    shown: &str,
) -> Result<Prepared, OpenError> {
    let wrong =
        |fault: Fault| OpenError::Server { shown: shown.to_owned(), reason: fault.reason() };
    check_server(session).await.map_err(wrong)?;
    warn_of_few_locks(session).await.map_err(wrong)?;
    lock(session).await.map_err(wrong)?;
    let done = under_lock(session, options, postgres, shown).await;
    let unlocked = unlock(session).await;
    let prepared = done?;
    unlocked.map_err(wrong)?;
    Ok(prepared)
}

/// Nobody else changes the schema, or begins to copy into it, until [`unlock`]. Whoever froze with the
/// lock is waited for only for so long.
pub(crate) async fn lock(session: &Session) -> Result<()> {
    let until = Instant::now() + OTHERS;
    session.batch("SET statement_timeout = 0").await?;
    while !session.one(LOCK, &[]).await?.try_get::<_, bool>(0)? {
        if Instant::now() > until {
            return Err(Fault::Contended(format!(
                "another node has been changing its schema for {OTHERS:?}: see what it is doing, \
                 and start this one again"
            )));
        }
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}

pub(crate) async fn unlock(session: &Session) -> Result<()> {
    session.batch(&format!("{UNLOCK}; RESET statement_timeout")).await
}

/// Takes the steps that are missing, each in a transaction of its own. A step that has to wait for
/// somebody makes everybody behind it wait too, so it gives up soon and tries again.
async fn migrate(session: &Session, from: usize) -> Result<()> {
    for (index, (name, step)) in MIGRATIONS.iter().enumerate().skip(from) {
        let version = index + 1;
        let step = format!(
            "BEGIN;\nSET LOCAL lock_timeout = '500ms';\n\
             CREATE TABLE IF NOT EXISTS zapbus_migration (version int PRIMARY KEY, \
             name text NOT NULL, at timestamptz NOT NULL DEFAULT now());\n{step}\n\
             INSERT INTO zapbus_migration (version, name) VALUES ({version}, '{name}');\nCOMMIT;"
        );
        let until = Instant::now() + OTHERS;
        loop {
            match session.long_batch(&step).await {
                Ok(()) => break,
                Err(Fault::Contended(_)) if Instant::now() < until => {
                    session.batch("ROLLBACK").await?;
                    session.keep();
                    tokio::time::sleep(AGAIN).await;
                }
                Err(fault) => {
                    // Or whoever goes on would hear of the transaction and not of the reason.
                    let _ = session.batch("ROLLBACK").await;
                    return Err(fault);
                }
            }
        }
    }
    Ok(())
}

/// Whether a copy was begun in it and is not whole.
pub(crate) async fn is_unfinished(session: &Session) -> Result<bool> {
    let row = session.one("SELECT to_regclass('copying') IS NOT NULL", &[]).await?;
    Ok(row.try_get(0)?)
}

async fn under_lock(
    session: &Session,
    options: &Options,
    postgres: &Postgres,
    shown: &str,
) -> Result<Prepared, OpenError> {
    let wrong =
        |fault: Fault| OpenError::Server { shown: shown.to_owned(), reason: fault.reason() };
    if is_unfinished(session).await.map_err(wrong)? {
        return Err(OpenError::Unfinished { shown: shown.to_owned() });
    }
    let bare = make(session, postgres, &options.keys, shown).await?;
    let now = (options.clock)();
    make_partitions(session, now, ahead(postgres)).await.map_err(wrong)?;
    let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    let numbers = kind_numbers(session, &names).await.map_err(wrong)?;
    let kinds = Kinds::of(numbers.into_iter().map(i64::from)).map_err(wrong)?;
    make_default_account(session, &bare.sealer, now).await.map_err(wrong)?;
    Ok(Prepared {
        shards: bare.shards,
        kinds,
        sealer: bare.sealer,
        first_start: bare.from == 0,
        migrated: MIGRATIONS[bare.from..].iter().map(|(name, _)| (*name).to_owned()).collect(),
    })
}

/// A store with nothing in it.
pub(crate) struct Bare {
    pub(crate) shards: u16,
    pub(crate) sealer: Sealer,
    /// The version that was found.
    from: usize,
}

/// Schema, shards and keys. The caller has the [`lock`].
pub(crate) async fn make(
    session: &Session,
    postgres: &Postgres,
    keys: &[Key],
    shown: &str,
) -> Result<Bare, OpenError> {
    let wrong =
        |fault: Fault| OpenError::Server { shown: shown.to_owned(), reason: fault.reason() };
    let from = version(session).await.map_err(wrong)?;
    refuse_newer(from)?;
    if keys.is_empty() {
        return Err(OpenError::KeyNeeded);
    }
    migrate(session, from).await.map_err(wrong)?;
    let shards = shards(session, postgres.shards.max(1)).await.map_err(wrong)?;
    let sealer = check_keys(session, keys, shown).await?;
    Ok(Bare { shards, sealer, from })
}

/// Whether there is a server that will do.
pub(crate) async fn check_server(session: &Session) -> Result<()> {
    let server = session.one("SHOW server_version_num", &[]).await?;
    let number: String = server.try_get(0)?;
    let major = number.parse::<i32>().unwrap_or_default() / 10_000;
    if major < OLDEST_SERVER {
        return Err(Fault::Broken(format!(
            "it is PostgreSQL {major}, and Zapbus needs {OLDEST_SERVER} or later"
        )));
    }
    let durable = session.one("SHOW synchronous_commit", &[]).await?;
    if durable.try_get::<_, &str>(0)? == "off" {
        return Err(Fault::Broken(
            "synchronous_commit is off: it confirms what a crash of it loses. Set it to on for the \
             database and the user of Zapbus"
                .to_owned(),
        ));
    }
    Ok(())
}

async fn warn_of_few_locks(session: &Session) -> Result<()> {
    let row =
        session.one("SELECT current_setting('max_locks_per_transaction')::bigint", &[]).await?;
    let found: i64 = row.try_get(0)?;
    if found < LOCKS {
        tracing::warn!(
            event = "database.few_locks",
            max_locks_per_transaction = found,
            wanted = LOCKS,
            "the database may run out of locks when many days are kept"
        );
    }
    Ok(())
}

/// The number of shards: as it was made.
async fn shards(session: &Session, wanted: u16) -> Result<u16> {
    session
        .execute(
            "INSERT INTO meta (name, value) VALUES ('shards', $1) ON CONFLICT (name) DO NOTHING",
            &[&i64::from(wanted)],
        )
        .await?;
    let row = session.one("SELECT value FROM meta WHERE name = 'shards'", &[]).await?;
    let stored: i64 = row.try_get(0)?;
    let shards = u16::try_from(stored)
        .ok()
        .filter(|shards| *shards > 0)
        .ok_or_else(|| Fault::malformed(format!("{stored} shards")))?;
    for table in ["shard", "lease"] {
        session
            .execute(
                &format!(
                    "INSERT INTO {table} (shard) SELECT generate_series(0, $1::int - 1) \
                     ON CONFLICT (shard) DO NOTHING"
                ),
                &[&i32::from(shards)],
            )
            .await?;
    }
    Ok(shards)
}

/// Makes the partition for the deduplication keys of a week.
pub(crate) async fn make_week(session: &Session, week: i64) -> Result<()> {
    session
        .long_batch(&format!(
            "SELECT zapbus_partition('dedup', 'dedup_{week}', {week}::bigint * 604800000, \
             ({week}::bigint + 1) * 604800000)"
        ))
        .await
}

/// Makes the partitions for this time, and those of so many days and hours after it (`None`: not
/// even the hour of the time itself).
pub(crate) async fn make_partitions(
    session: &Session,
    at: Timestamp,
    (days, hours): (i32, Option<i32>),
) -> Result<()> {
    let (at, hours) = (at.as_millis(), hours.unwrap_or(-1));
    session
        .long_batch(&format!(
            "SET statement_timeout = '60s'; SELECT zapbus_partitions({at}, {days}, {hours}); \
             RESET statement_timeout"
        ))
        .await
}

/// How far ahead they are made.
pub(super) fn ahead(postgres: &Postgres) -> (i32, Option<i32>) {
    let days = i32::from(postgres.ahead);
    (days, (days > 0).then_some(days))
}

async fn check_keys(session: &Session, keys: &[Key], shown: &str) -> Result<Sealer, OpenError> {
    let wrong =
        |fault: Fault| OpenError::Server { shown: shown.to_owned(), reason: fault.reason() };
    let rows = session.query("SELECT id, proof FROM encryption_key", &[]).await.map_err(wrong)?;
    let missing = |id: &[u8]| OpenError::WrongKey {
        path: shown.into(),
        needed: hex::encode(id),
        given: keys.iter().map(Key::id).collect::<Vec<_>>().join(", "),
    };
    let mut used = Vec::new();
    for row in &rows {
        let (id, proof): (Vec<u8>, Vec<u8>) = (row.get(0), row.get(1));
        let key = keys.iter().find(|key| key.tag() == id[..]).ok_or_else(|| missing(&id))?;
        let place = Place { table: "encryption_key", id: &id, column: "proof" };
        let opened = Sealer::new(std::slice::from_ref(key))?.open(place, &proof);
        opened.map_err(|_| missing(&id))?;
        used.push(id);
    }
    let sealer = Sealer::new(keys)?;
    if let Some(first) = keys.first().map(Key::tag)
        && !used.iter().any(|id| id[..] == first)
    {
        let place = Place { table: "encryption_key", id: &first, column: "proof" };
        let proof = sealer.seal(place, PROOF).map_err(|error| wrong(error.into()))?;
        session
            .execute(
                "INSERT INTO encryption_key (id, proof) VALUES ($1, $2)",
                &[&&first[..], &proof],
            )
            .await
            .map_err(wrong)?;
    }
    Ok(sealer)
}

/// The numbers of event types by their names; new ones get theirs.
pub(crate) async fn kind_numbers(session: &Session, names: &[&str]) -> Result<Vec<i32>> {
    session
        .execute(
            "INSERT INTO kind (name) SELECT u.name FROM unnest($1::text[]) WITH ORDINALITY \
             AS u(name, n) WHERE NOT EXISTS (SELECT 1 FROM kind k WHERE k.name = u.name) \
             ORDER BY u.n",
            &[&names],
        )
        .await?;
    let rows = session
        .query(
            "SELECT k.number FROM unnest($1::text[]) WITH ORDINALITY AS u(name, n) \
             JOIN kind k ON k.name = u.name ORDER BY u.n",
            &[&names],
        )
        .await?;
    if rows.len() != names.len() {
        return Err(Fault::malformed("event types without a number"));
    }
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

async fn make_default_account(session: &Session, sealer: &Sealer, now: Timestamp) -> Result<()> {
    if session.first("SELECT 1 FROM account LIMIT 1", &[]).await?.is_some() {
        return Ok(());
    }
    let account = AccountId::new(now, crate::prepared::random()?);
    session.batch("BEGIN").await?;
    session.risk();
    session
        .execute(
            "INSERT INTO account (id, name, created_at) VALUES ($1, $2, $3)",
            &[&&account.to_bytes()[..], &DEFAULT_ACCOUNT, &now.as_millis()],
        )
        .await?;
    insert_reserved_instance(session, sealer, account, now).await?;
    session.batch("COMMIT").await?;
    session.keep();
    Ok(())
}

/// Makes an account's instance for events that belong to no number.
pub(super) async fn insert_reserved_instance(
    session: &Session,
    sealer: &Sealer,
    account: AccountId,
    now: Timestamp,
) -> Result<InstanceId> {
    let id = InstanceId::new(now, crate::prepared::random()?);
    let token = format!("{:032x}", crate::prepared::random()?);
    let key = id.to_bytes();
    let place = Place { table: "instance", id: &key, column: "token" };
    session
        .execute(
            "INSERT INTO instance (id, account, name, token, token_hash, settings, created_at) \
             VALUES ($1, $2, $3, $4, $5, '{}', $6)",
            &[
                &&key[..],
                &&account.to_bytes()[..],
                &RESERVED_INSTANCE,
                &sealer.seal(place, token.as_bytes())?,
                &&crate::prepared::sha256(token.as_bytes())[..],
                &now.as_millis(),
            ],
        )
        .await?;
    Ok(id)
}

/// Starts a new generation if this is a copy that was marked as one (`meta` has `copied`) and is
/// opened for the first time: positions jump, and unless it is to be `live` nothing is sent. Whether
/// it was one, and how many destinations were paused.
pub(super) async fn begin_generation(
    session: &Session,
    live: bool,
    now: Timestamp,
) -> Result<(bool, u64)> {
    session.batch("BEGIN").await?;
    session.risk();
    let marked =
        session.first("DELETE FROM meta WHERE name = 'copied' RETURNING value", &[]).await?;
    let mark: Option<i64> = marked.map(|row| row.try_get(0)).transpose()?;
    let mut count = 0;
    if let Some(mark) = mark {
        session
            .execute(
                "WITH old AS (SELECT s.shard, h.seq, greatest(h.at, $2) AS at, h.at AS last \
                 FROM shard s, zapbus_head(s.shard) h), \
                 noted AS (INSERT INTO generation (shard, number, old_head, first, \
                 last_received_at, began_at) SELECT old.shard, m.value + 1, old.seq, \
                 old.seq + $1 + 1, old.last, old.at FROM old, meta m WHERE m.name = 'generation') \
                 UPDATE shard s SET floor = old.seq + $1, floor_at = old.at FROM old \
                 WHERE old.shard = s.shard",
                &[&JUMP, &now.as_millis()],
            )
            .await?;
        session.execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'", &[]).await?;
        if !live && mark != LIVE_COPY {
            let paused = Activity::Paused { reason: REASON.to_owned(), since: now };
            count = session
                .execute(
                    "UPDATE destination SET activity = $1, active = false, updated_at = $2 \
                     WHERE active AND deleted_at IS NULL",
                    &[&serde_json::to_string(&paused)?, &now.as_millis()],
                )
                .await?;
        }
    }
    session.batch("COMMIT").await?;
    session.keep();
    Ok((mark.is_some(), count))
}
