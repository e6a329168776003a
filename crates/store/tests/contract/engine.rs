//! A store to test with a clock of its own, and short words for what tests do often. The only
//! place that knows which engine it is.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use tempfile::TempDir;
use zapbus_event::{
    AccountId, DestinationId, Draft, Event, Filter, InstanceId, Kind, Position, Raw, Source,
    SourceKind, Timestamp,
};
use zapbus_store::{
    Account, Activity, Actor, Append, AppendError, Appended, Attempt, Budget, Destination,
    Instance, Key, LIVE, LaneId, Limit, NewEvent, Options, Postgres, Pruned, Reader,
    RetentionPolicy, Row, Settlement, ShardId, Start, State, Store, Urgency,
};

use crate::{
    POSTGRES,
    server::{self, Server},
};

/// When tests begin.
pub(crate) const BEGIN: i64 = 1_767_225_600_000;
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A number nobody else in this process has.
pub(crate) fn unique() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) struct Engine {
    folder: TempDir,
    clock: Arc<AtomicI64>,
    options: Options,
    store: Option<Store>,
    /// On which server, and which of its databases.
    database: Option<(&'static Server, String)>,
}

/// Options of a store on PostgreSQL with times of its own. One shard: positions of all instances are
/// in one order then, as tests expect.
pub(crate) fn postgres_options(url: &str) -> Options {
    let mut options = Options::new("unused");
    options.min_free_bytes = 0;
    options.keys = vec![Key::parse(server::KEY).unwrap()];
    let postgres = Postgres { shards: 1, database_clock: false, ahead: 0, ..Postgres::new(url) };
    options.postgres = Some(Postgres { connections: 6, ..postgres });
    options
}

/// How the store is opened that others are copies of.
pub(crate) fn template_options(url: &str) -> Options {
    Options { clock: Arc::new(|| Timestamp::from_millis(BEGIN)), ..postgres_options(url) }
}

impl Engine {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With other options than the usual.
    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(BEGIN));
        let mut options = if POSTGRES {
            postgres_options("postgres://127.0.0.1/none")
        } else {
            Options::new(folder.path().join("data"))
        };
        let usual = options.keys.clone();
        options.min_free_bytes = 0;
        options.clock = {
            let clock = Arc::clone(&clock);
            Arc::new(move || Timestamp::from_millis(clock.load(Ordering::Relaxed)))
        };
        change(&mut options);
        let mut database = None;
        if let Some(postgres) = &mut options.postgres {
            let server = server::shared().await;
            // What the others are copies of was made with the usual key.
            let name = server.database(options.keys == usual && postgres.shards == 1).await;
            postgres.url = server.url(&name);
            database = Some((server, name));
        }
        let store = Store::open(options.clone()).await.unwrap().store;
        Self { folder, clock, options, store: Some(store), database }
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub(crate) fn options(&self) -> Options {
        self.options.clone()
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// True, and says so, when a test is about what only SQLite has.
    pub(crate) fn skips(&self, about: &str) -> bool {
        if POSTGRES {
            server::say(&format!("skipped: it is about {about}, which PostgreSQL has not"));
        }
        POSTGRES
    }

    /// How many of something large: each takes a call of its own on a server.
    pub(crate) fn many(&self, on_sqlite: usize) -> usize {
        if POSTGRES { on_sqlite / 10 } else { on_sqlite }
    }

    /// Whether some row, or in a data folder some file, holds these bytes.
    pub(crate) async fn holds(&self, bytes: &[u8]) -> bool {
        let Some((server, name)) = &self.database else {
            return some_file_has(self.data_dir(), bytes);
        };
        let client = server.connect(name).await;
        let tables = client
            .query(
                "SELECT c.relname::text FROM pg_class c WHERE c.relkind = 'r' \
                 AND c.relnamespace = 'public'::regnamespace",
                &[],
            )
            .await
            .unwrap();
        let text = String::from_utf8_lossy(bytes).into_owned();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        for table in tables {
            let table: String = table.get(0);
            let query = format!(
                "SELECT EXISTS (SELECT 1 FROM {table} x WHERE strpos(x::text, $1) > 0 \
                 OR strpos(x::text, $2) > 0)"
            );
            if client.query_one(&query, &[&text, &hex]).await.unwrap().get(0) {
                return true;
            }
        }
        false
    }

    /// Binaries that are kept outside of the journal.
    pub(crate) async fn binaries(&self) -> usize {
        let Some((server, name)) = &self.database else {
            return std::fs::read_dir(self.data_dir().join("blobs"))
                .unwrap()
                .map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap().count())
                .sum();
        };
        let client = server.connect(name).await;
        let row = client.query_one("SELECT count(*) FROM blob", &[]).await.unwrap();
        usize::try_from(row.get::<_, i64>(0)).unwrap()
    }

    /// Changes a database behind the store's back.
    pub(crate) async fn tamper(&self, statements: &str) {
        match &self.database {
            Some((server, name)) => {
                server.connect(name).await.batch_execute(statements).await.unwrap();
            }
            None => {
                let path = self.data_dir().join("zapbus.db");
                rusqlite::Connection::open(path).unwrap().execute_batch(statements).unwrap();
            }
        }
    }

    /// A path beside the data folder.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn reopen(&mut self) {
        self.reopen_with(|_| {}).await;
    }

    /// With other options, this time.
    pub(crate) async fn reopen_with(&mut self, change: impl FnOnce(&mut Options)) {
        self.stop().await;
        let mut options = self.options.clone();
        change(&mut options);
        self.store = Some(Store::open(options).await.unwrap().store);
    }

    /// Closes it for good and leaves the folder.
    pub(crate) async fn stop(&mut self) {
        if let Some(store) = self.store.take() {
            store.close().await;
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.clock.load(Ordering::Relaxed))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) fn set_back(&self, by: Duration) {
        self.clock.fetch_sub(i64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub(crate) async fn account(&self) -> Account {
        self.store().account_by_name("default").await.unwrap().unwrap()
    }

    pub(crate) async fn instance(&self, name: &str) -> InstanceId {
        let account = self.account().await.id;
        self.instance_of(account, name).await
    }

    pub(crate) async fn instance_of(&self, account: AccountId, name: &str) -> InstanceId {
        let instance = new_instance(account, name);
        let id = instance.id;
        let draft = draft(Kind::InstanceLifecycle, r#"{"action":"created"}"#);
        self.store().create_instance(instance, draft, &actor(), None).await.unwrap();
        id
    }

    /// A destination that wants everything, and its live lane.
    pub(crate) async fn lane(&self, instance: InstanceId, start: Start) -> LaneId {
        let account = self.account().await.id;
        let destination = new_destination(account, Some(instance), &format!("d{}", unique()));
        let lane = LaneId { destination: destination.id, run: LIVE };
        self.store().create_destination(destination, start, &actor(), None).await.unwrap();
        lane
    }

    /// Appends one message without a key.
    pub(crate) async fn say(&self, instance: InstanceId, text: &str) -> Appended {
        self.append(instance, message(text)).await
    }

    pub(crate) async fn append(&self, instance: InstanceId, draft: Draft) -> Appended {
        self.try_append(instance, draft).await.unwrap()
    }

    pub(crate) async fn try_append(
        &self,
        instance: InstanceId,
        draft: Draft,
    ) -> Result<Appended, AppendError> {
        let events = vec![NewEvent { instance, draft }];
        Ok(self.store().append(Append { events, body: None }).await?[0])
    }

    /// Appends many messages in few commits.
    pub(crate) async fn say_many(&self, instance: InstanceId, count: usize) -> Vec<Appended> {
        let mut all = Vec::with_capacity(count);
        for start in (0..count).step_by(500) {
            let events = (start..count.min(start + 500))
                .map(|n| NewEvent { instance, draft: message(&format!("message {n}")) })
                .collect();
            all.extend(self.store().append(Append { events, body: None }).await.unwrap());
        }
        all
    }

    /// Everything after a position, page by page.
    pub(crate) async fn read_all(&self, of: Reader, after: Position) -> Vec<Arc<Event>> {
        let mut found = Vec::new();
        let mut at = after;
        loop {
            let limit = Limit { events: 100, bytes: 1 << 20 };
            let page = self.store().read_after(of, at, limit).await.unwrap();
            found.extend(page.events);
            assert!(page.upto > at || page.at_head, "a page must move on");
            at = page.upto;
            if page.at_head {
                return found;
            }
        }
    }

    pub(crate) async fn settle(&self, lane: LaneId, cursor: Option<Position>, rows: Vec<Row>) {
        let shard = ShardId::default();
        let settlement =
            Settlement { lane, epoch: None, shard, cursor, health: None, rows, events: Vec::new() };
        self.store().settle(vec![settlement], Urgency::Now).await.unwrap();
    }

    /// Prunes until nothing is left to do.
    pub(crate) async fn prune(&self, policy: &RetentionPolicy) -> Pruned {
        let mut total = Pruned::default();
        for _ in 0..100_000 {
            let step = self.store().prune(policy, Budget::default()).await.unwrap();
            total.events += step.events;
            total.deliveries += step.deliveries;
            total.others += step.others;
            total.gaps += step.gaps;
            if !step.more {
                return total;
            }
        }
        panic!("pruning does not end");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some((server, name)) = &self.database {
            server.forget(name);
        }
    }
}

pub(crate) fn actor() -> Actor {
    Actor("test".to_owned())
}

pub(crate) fn new_instance(account: AccountId, name: &str) -> Instance {
    let at = Timestamp::from_millis(BEGIN);
    let id = InstanceId::new(at, unique().into());
    Instance {
        id,
        account,
        name: name.to_owned(),
        token: format!("token of {name}, {id}"),
        source: None,
        route: None,
        settings: json!({}),
        created_at: at,
        deleted_at: None,
    }
}

pub(crate) fn new_destination(
    account: AccountId,
    instance: Option<InstanceId>,
    label: &str,
) -> Destination {
    let at = Timestamp::from_millis(BEGIN);
    Destination {
        id: DestinationId::new(at, unique().into()),
        account,
        instance,
        label: label.to_owned(),
        filter: filter(&["*"]),
        exclude_ephemeral: false,
        activity: Activity::Active,
        spec: json!({ "channel": { "type": "webhook", "secret": "whsec_test" } }),
        created_at: at,
        updated_at: at,
    }
}

pub(crate) fn filter(patterns: &[&str]) -> Filter {
    Filter::parse(patterns).unwrap()
}

pub(crate) fn draft(kind: Kind, data: &str) -> Draft {
    Draft {
        kind,
        facet: None,
        data: Bytes::copy_from_slice(data.as_bytes()),
        raw: Raw::Data,
        occurred_at: None,
        source: Source {
            kind: SourceKind::Native,
            event: kind.to_string(),
            version: None,
            delivery_id: None,
            index: 0,
        },
        keys: Vec::new(),
        partition: "_instance".to_owned(),
        history: false,
        ephemeral: false,
        client_id: None,
        hops: 0,
        aliases: Vec::new(),
    }
}

/// A text message in one chat.
pub(crate) fn message(text: &str) -> Draft {
    let data = json!({ "content": { "kind": "text", "body": text } }).to_string();
    Draft {
        facet: Some("text".to_owned()),
        partition: "5511999999999@s.whatsapp.net".to_owned(),
        ..draft(Kind::MessageReceived, &data)
    }
}

pub(crate) fn keyed(text: &str, keys: &[&str]) -> Draft {
    Draft { keys: keys.iter().map(|key| (*key).to_owned()).collect(), ..message(text) }
}

pub(crate) fn typing() -> Draft {
    Draft { ephemeral: true, ..draft(Kind::PresenceChat, r#"{"state":"typing"}"#) }
}

pub(crate) fn row(seq: Position, state: State) -> Row {
    Row { seq, state, attempts: 1, parts_done: 0, key: 7, manual: false, attempt: None }
}

pub(crate) fn attempt(number: u32, code: u16, at: Timestamp) -> Attempt {
    Attempt {
        at,
        number,
        code: Some(code),
        latency_ms: 12,
        error: (code >= 300).then(|| format!("answered {code}")),
        excerpt: Bytes::from(vec![b'x'; 5_000]),
        request_headers: vec![("a".to_owned(), "b".to_owned())],
        response_headers: vec![("c".to_owned(), "d".to_owned())],
    }
}

/// A delivery accepted at once.
pub(crate) fn delivered(seq: Position, at: Timestamp) -> Row {
    Row { attempt: Some(attempt(1, 200, at)), ..row(seq, State::Delivered) }
}

pub(crate) fn positions(events: &[Arc<Event>]) -> Vec<u64> {
    events.iter().map(|event| event.seq.0).collect()
}

/// Whether some file below a folder holds these bytes.
pub(crate) fn some_file_has(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return some_file_has(&path, bytes);
        }
        let contents = std::fs::read(&path).unwrap();
        contents.windows(bytes.len()).any(|window| window == bytes)
    })
}
