//! From one machine to many: a data folder copied into a database.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The engine that is copied from.
const POSTGRES: bool = false;

#[path = "contract/engine.rs"]
#[expect(dead_code, reason = "what the contract needs besides")]
mod engine;
#[path = "contract/server.rs"]
#[expect(dead_code, reason = "what tests of several nodes need besides")]
mod server;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bytes::Bytes;
use engine::*;
use serde_json::json;
use server::Server;
use zapbus_event::{Alias, CredentialId, EventId, InstanceId, Kind, Position, Raw, SubscriberId};
use zapbus_store::{
    Activity, Append, Copied, CopiedTable, CopyError, CopyOptions, Credential, DeadReason,
    Delivery, DeliveryQuery, Fetch, Health, Key, LIVE, LaneId, Limit, NewEvent, OpenError,
    OpenEvent, Options, Postgres, Progress, Reader, Remember, Role, RunState, Settlement, ShardId,
    Start, State, Store, Subject, Subscriber, Urgency,
};

/// A database to copy into.
struct To {
    server: &'static Server,
    name: String,
}

impl Drop for To {
    fn drop(&mut self) {
        self.server.forget(&self.name);
    }
}

impl To {
    async fn new() -> Self {
        let server = server::shared().await;
        Self { server, name: server.database(false).await }
    }

    fn postgres(&self) -> Postgres {
        let url = self.server.url(&self.name);
        Postgres { shards: 4, database_clock: false, ahead: 0, ..Postgres::new(url) }
    }

    fn copy_of(&self, source: &Engine) -> CopyOptions {
        CopyOptions {
            from: source.data_dir().to_owned(),
            to: self.postgres(),
            keys: vec![Key::parse(server::KEY).unwrap()],
            live: true,
            now: source.now(),
        }
    }

    /// Opens it with the time of the source.
    async fn open(&self, source: &Engine) -> Result<zapbus_store::Opened, OpenError> {
        let mut options = Options::new("unused");
        options.keys = vec![Key::parse(server::KEY).unwrap()];
        options.clock = source.options().clock;
        options.postgres = Some(self.postgres());
        Store::open(options).await
    }

    async fn run(&self, statements: &str) {
        self.server.connect(&self.name).await.batch_execute(statements).await.unwrap();
    }
}

async fn copy(options: &CopyOptions) -> Result<Copied, CopyError> {
    Store::copy(options, &mut |_| true).await
}

/// What is in a store, in words that mean the same on both engines.
struct Contents {
    shops: Vec<InstanceId>,
    own: LaneId,
    global: LaneId,
    replay: LaneId,
    media: zapbus_event::EventId,
    body: [u8; 32],
}

fn sha(of: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(of).into()
}

const BODY: &[u8] = b"{\"entry\": \"nobody understood\"}";
const SECRET: [u8; 32] = [7; 32];

/// Something in every table.
async fn fill(source: &Engine, events: usize) -> Contents {
    let store = source.store();
    let account = source.account().await.id;
    let mut shops = Vec::new();
    for n in 0..6 {
        shops.push(source.instance(&format!("shop {n}")).await);
    }
    let gone = source.instance("gone").await;
    store.mark_instance_deleted(gone, message("gone"), &actor()).await.unwrap();
    let own = source.lane(shops[0], Start::Now).await;
    let global = new_destination(account, None, "all of them");
    let global = {
        let lane = LaneId { destination: global.id, run: LIVE };
        store.create_destination(global, Start::Now, &actor(), None).await.unwrap();
        lane
    };
    let deleted = source.lane(shops[1], Start::Now).await;
    store.delete_destination(deleted.destination, &actor()).await.unwrap();

    let aliased = {
        let mut draft = keyed("known by two names", &["first"]);
        draft.aliases = vec![Alias {
            lid: "123@lid".to_owned(),
            phone: "5511999999999@s.whatsapp.net".to_owned(),
        }];
        draft
    };
    source.append(shops[0], aliased).await;
    let media = {
        let long = "QUJD".repeat(30_000);
        let mut draft = draft(Kind::MessageReceived, &format!(r#"{{"media":"{long}"}}"#));
        draft.raw = Raw::Bytes(Bytes::from(format!("[\"{long}\", \"short\"]")));
        source.append(shops[1], draft).await.id
    };
    let whole = Append {
        events: vec![NewEvent { instance: shops[2], draft: message("part of a body") }],
        body: Some(Bytes::from_static(BODY)),
    };
    store.append(whole).await.unwrap();
    // On several days, with several keys, of both classes.
    for n in 0..events {
        let shop = shops[n % shops.len()];
        let draft = if n % 10 == 0 { typing() } else { keyed("x", &[&format!("key {n}")]) };
        if n % 500 == 0 && n > 0 {
            source.advance(6 * HOUR);
        }
        if events > 1_000 {
            let batch = (0..50)
                .map(|m| NewEvent { instance: shop, draft: keyed("many", &[&format!("{n}/{m}")]) });
            if n % 50 == 0 {
                store.append(Append { events: batch.collect(), body: None }).await.unwrap();
            }
        } else {
            source.append(shop, draft).await;
        }
    }
    let held = source.append(shops[0], message("to be retried")).await;
    let dead = source.append(shops[0], message("dead")).await;
    let all = source.read_all(Reader::All, Position::START).await;
    let seen: Vec<Position> =
        all.iter().filter(|event| event.instance == shops[0]).map(|event| event.seq).collect();
    let mut rows: Vec<_> = seen[..3].iter().map(|seq| delivered(*seq, source.now())).collect();
    let failed = |seq, state| zapbus_store::Row {
        attempt: Some(attempt(1, 503, source.now())),
        ..row(seq, state)
    };
    rows.push(failed(held.seq, State::Retrying { due: source.now() + HOUR }));
    rows.push(failed(dead.seq, State::Dead { reason: DeadReason::Refused }));
    source.settle(own, Some(seen[2]), rows).await;
    let rows = all.iter().rev().take(20).map(|event| delivered(event.seq, source.now())).collect();
    let middle = all[all.len() / 2].seq;
    let probing = Health::Probing { since: source.now(), probes: 3, next: source.now() + MINUTE };
    let settlement = Settlement {
        lane: global,
        epoch: None,
        shard: ShardId::default(),
        cursor: Some(middle),
        health: Some(probing),
        rows,
        events: Vec::new(),
    };
    store.settle(vec![settlement], Urgency::Now).await.unwrap();
    let run = store
        .create_run(global.destination, Start::Beginning, filter(&["message.*"]), &actor())
        .await
        .unwrap();
    store.set_run_state(run.lane, RunState::Paused, &actor()).await.unwrap();

    let credential = Credential {
        id: CredentialId::new(source.now(), unique().into()),
        role: Role::Account,
        account: Some(account),
        instance: None,
        name: "a \u{0} credential".to_owned(),
        public_id: Some("client".to_owned()),
        created_at: source.now(),
        expires_at: None,
    };
    let remember = Remember {
        caller: "somebody".to_owned(),
        key: "once".to_owned(),
        request: [1; 32],
        answer: json!({ "secret": "answered" }),
    };
    store.create_credential(credential, SECRET, &actor(), Some(remember)).await.unwrap();
    store
        .set_account_source(account, Some(json!({ "app_secret": "of the app" })), &actor())
        .await
        .unwrap();
    store.set_setting("colour", json!("green")).await.unwrap();
    let event = EventId::from_bytes([7; 16]);
    let fetch = Fetch { event, instance: shops[0], seq: seen[0], attempts: 0 };
    store.want_files(vec![fetch]).await.unwrap();
    for (n, instance) in [(1, Some(shops[0])), (2, None)] {
        let open = OpenEvent {
            shard: ShardId::default(),
            seq: seen[1],
            deliveries: 2,
            sent_at: source.now(),
            parked: n == 2,
            round: 0,
        };
        let sent = [(ShardId::default(), seen[2])].into();
        let subscriber = Subscriber {
            id: SubscriberId::from_bytes([n; 16]),
            account: Some(account),
            instance,
            owner: "admin".to_owned(),
            name: "crm".to_owned(),
            dialect: "native".to_owned(),
            filter: filter(&["message.*"]),
            progress: Progress { sent, open: vec![open] },
            created_at: source.now(),
            used_at: source.now(),
        };
        store.open_subscriber(subscriber).await.unwrap();
    }
    store.write_statistics().await.unwrap();
    Contents { shops, own, global, replay: run.lane, media, body: sha(BODY) }
}

/// Every line of the log, whatever shard it is in.
async fn log(store: &Store) -> BTreeMap<(String, u64), (String, u32)> {
    let mut lines = BTreeMap::new();
    let mut after = None;
    loop {
        let page = store.search(DeliveryQuery::default(), after, 7).await.unwrap();
        for Delivery { id, state, attempts, .. } in page.deliveries {
            let lane = format!("{} {}", id.lane.destination, id.lane.run);
            lines.insert((lane, id.seq.0), (format!("{state:?}"), attempts));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return lines,
        }
    }
}

async fn events_of(store: &Store, instance: InstanceId) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = Position::START;
    loop {
        let limit = Limit { events: 100, bytes: 1 << 20 };
        let page = store.read_after(Reader::Instance(instance), at, limit).await.unwrap();
        for event in &page.events {
            let (data, raw) = store.restore_raw(event).await.unwrap();
            found.push(format!("{event:?} {} {}", sha(&data)[0], sha(&raw)[0]));
        }
        at = page.upto;
        if page.at_head {
            return found;
        }
    }
}

async fn compare(source: &Engine, from: &Store, to: &Store, contents: &Contents) {
    for shop in &contents.shops {
        assert_eq!(events_of(from, *shop).await, events_of(to, *shop).await);
        let (before, after) = (from.instance(*shop).await, to.instance(*shop).await);
        let (before, after) = (before.unwrap().unwrap(), after.unwrap().unwrap());
        assert_eq!((before.token, before.name), (after.token, after.name));
        let status = |store: Store| async move { store.instance_status(*shop).await.unwrap() };
        let (before, after) = (status(from.clone()).await, status(to.clone()).await);
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }
    let event = to.event(contents.media).await.unwrap().unwrap();
    assert!(to.restored(&event).await.unwrap().unwrap().data.len() > 100_000);
    assert_eq!(to.body(contents.body).await.unwrap().as_deref(), Some(BODY));
    let names = to.aliases(contents.shops[0], "123@lid").await.unwrap();
    assert_eq!(names, ["5511999999999@s.whatsapp.net"]);
    assert_eq!(log(from).await, log(to).await);

    let before = from.lane(contents.own).await.unwrap().unwrap();
    let after = to.lane(contents.own).await.unwrap().unwrap();
    assert_eq!((before.cursor, &before.beyond), (after.cursor, &after.beyond));
    assert_eq!(before.next_due, after.next_due);
    let until = source.now() + DAY;
    let due = |rows: Vec<zapbus_store::DueRow>| {
        rows.into_iter()
            .map(|row| (row.seq, row.due, row.event.map(|event| event.id)))
            .collect::<Vec<_>>()
    };
    let before = due(from.due(contents.own, until, 10).await.unwrap());
    assert_eq!(before, due(to.due(contents.own, until, 10).await.unwrap()));
    assert_eq!(before.len(), 1);
    // The one cursor of a global destination is one in each shard, and what is beyond it is in its own.
    let before = from.lane(contents.global).await.unwrap().unwrap();
    let (mut beyond, mut health) = (Vec::new(), None);
    for shard in 0..4 {
        let after = to.lane_in(contents.global, ShardId(shard)).await.unwrap().unwrap();
        assert_eq!(after.cursor, before.cursor);
        beyond.extend(after.beyond);
        health = Some(after.health);
        let runs = to.runs_in(contents.global.destination, ShardId(shard)).await.unwrap();
        let run = from.runs(contents.global.destination).await.unwrap().remove(0);
        assert_eq!(runs[0].lane, contents.replay);
        assert_eq!((runs[0].from, runs[0].to, runs[0].state), (run.from, run.to, run.state));
    }
    beyond.sort_unstable();
    assert_eq!(beyond, before.beyond);
    assert_eq!(health, Some(before.health));

    // A subscriber goes on in the shard of its instance; one of an account in all of them.
    for (n, instance) in [(1, Some(contents.shops[0])), (2, None)] {
        let id = SubscriberId::from_bytes([n; 16]);
        let before = from.subscriber(id).await.unwrap().unwrap();
        let after = to.subscriber(id).await.unwrap().unwrap();
        let (sent, open) = (before.progress.sent[&ShardId(0)], before.progress.open[0]);
        let shards: Vec<ShardId> = match instance {
            Some(instance) => vec![to.shard_of(instance)],
            None => (0..4).map(ShardId).collect(),
        };
        assert_eq!(after.progress.sent, shards.iter().map(|shard| (*shard, sent)).collect());
        let expected: Vec<_> =
            shards.iter().map(|shard| OpenEvent { shard: *shard, ..open }).collect();
        assert_eq!(after.progress.open, expected);
        assert_eq!(Subscriber { progress: before.progress.clone(), ..after }, before);
    }

    let credential = to.credential_by_hash(SECRET, source.now()).await.unwrap().unwrap();
    assert_eq!(credential.public_id.as_deref(), Some("client"));
    let account = to.account_by_name("default").await.unwrap().unwrap();
    assert_eq!(account.source, Some(json!({ "app_secret": "of the app" })));
    let spec = |store: Store| async move {
        store.destination(contents.own.destination).await.unwrap().unwrap().spec
    };
    assert_eq!(spec(from.clone()).await, spec(to.clone()).await);
    assert_eq!(to.setting("colour").await.unwrap(), Some(json!("green")));
    let remembered = to.remembered("somebody", "once", source.now()).await.unwrap().unwrap();
    assert_eq!(remembered.answer, json!({ "secret": "answered" }));
    let figures = |store: Store| async move {
        store.statistics(Subject::Destination(contents.own.destination)).await.unwrap()
    };
    assert_eq!(figures(from.clone()).await, figures(to.clone()).await);
    let lines = |store: Store| async move { store.audit(None, None, 1_000).await.unwrap() };
    let (before, after) = (lines(from.clone()).await, lines(to.clone()).await);
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
    assert!(before.len() > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_in_the_copy_and_goes_on_from_there() {
    let (mut source, to) = (Engine::start().await, To::new().await);
    let contents = fill(&source, 600).await;
    source.stop().await;
    let copied = copy(&to.copy_of(&source)).await.unwrap();
    assert!(!copied.resumed);
    let rows = |name: &str| copied.tables.iter().find(|table| table.name == name).unwrap().rows;
    assert!(rows("journal") > 600 && rows("dedup") > 500 && rows("delivery") == 25);
    // Only a bucket has strays.
    let filled = |table: &CopiedTable| table.rows > 0 || table.name == "stray";
    assert!(copied.tables.iter().all(filled), "{copied:?}");

    // Nobody goes on with the source by mistake.
    let refused = Store::open(source.options()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Copied { .. }), "{refused}");
    assert!(refused.to_string().contains(&to.postgres().check().unwrap()), "{refused}");
    source.reopen_with(|options| options.take_back = true).await;
    // Once is enough.
    source.reopen().await;
    let opened = to.open(&source).await.unwrap();
    assert!(opened.restored && opened.paused == 0 && !opened.first_start);
    let store = opened.store;
    compare(&source, source.store(), &store, &contents).await;

    // Positions go on beyond any that the source may give out, and keys are known.
    let head = *source.store().head().borrow();
    for shop in &contents.shops {
        let said = NewEvent { instance: *shop, draft: message("new") };
        let said = store.append(Append { events: vec![said], body: None }).await.unwrap()[0];
        assert!(said.seq.0 > head.0 + (1 << 31));
        assert!(!store.gap_after(Reader::Instance(*shop), head).await.unwrap());
    }
    let again = NewEvent { instance: contents.shops[0], draft: keyed("x", &["first"]) };
    assert!(store.append(Append { events: vec![again], body: None }).await.unwrap()[0].duplicate);
    let account = store.account_by_name("default").await.unwrap().unwrap().id;
    let new = new_destination(account, Some(contents.shops[0]), "new");
    let lane = LaneId { destination: new.id, run: LIVE };
    store.create_destination(new, Start::Beginning, &actor(), None).await.unwrap();
    assert!(store.lane(lane).await.unwrap().is_some());
    store.close().await;
    // It is nobody's target any more.
    let again = copy(&to.copy_of(&source)).await;
    assert!(matches!(again, Err(CopyError::Running { .. })), "{again:?}");
    source.stop().await;
    let again = copy(&to.copy_of(&source)).await;
    assert!(matches!(again, Err(CopyError::Occupied { .. })), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_stops_anywhere_goes_on_and_serves_nobody_before() {
    let (mut source, to) = (Engine::start().await, To::new().await);
    let contents = fill(&source, 16_000).await;
    source.stop().await;
    let options = to.copy_of(&source);
    // Called off at every other step, and killed in between.
    let (mut rounds, mut resumed) = (0, 0);
    let copied = loop {
        rounds += 1;
        assert!(rounds < 200, "it gets on");
        let done = if rounds % 2 == 0 {
            let mut left = 4;
            let progress = &mut |_| {
                left -= 1;
                left > 0
            };
            Store::copy(&options, progress).await
        } else {
            let options = options.clone();
            let killed = tokio::spawn(async move { copy(&options).await });
            let abort = killed.abort_handle();
            tokio::time::sleep(Duration::from_millis(20 * rounds)).await;
            abort.abort();
            match killed.await {
                Ok(done) => done,
                Err(_) => Err(CopyError::CalledOff),
            }
        };
        match done {
            Ok(copied) => break copied,
            // The source's lock is let go of when its reader has noticed.
            Err(CopyError::CalledOff | CopyError::Running { .. }) => resumed += 1,
            Err(other) => panic!("{other}"),
        }
        let refused = to.open(&source).await;
        match refused {
            Err(OpenError::Unfinished { .. }) => {}
            // It was stopped before it had begun: that is an empty database.
            other => assert!(rounds == 1, "{other:?}"),
        }
        if rounds == 1 && resumed == 1 {
            // Whatever opened it made a store of it.
            to.run("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
        }
    };
    println!("copied in {rounds} rounds");
    assert!(copied.resumed && rounds > 5);
    source.reopen_with(|options| options.take_back = true).await;
    let store = to.open(&source).await.unwrap().store;
    compare(&source, source.store(), &store, &contents).await;
    store.close().await;
}

#[tokio::test]
async fn nothing_is_copied_that_moves_or_into_something_else() {
    let (mut source, to) = (Engine::start().await, To::new().await);
    fill(&source, 20).await;
    let options = to.copy_of(&source);
    let running = copy(&options).await.unwrap_err();
    assert!(matches!(running, CopyError::Running { holder: Some(_), .. }), "{running}");
    source.stop().await;
    let keyless = CopyOptions { keys: Vec::new(), ..options.clone() };
    let refused = copy(&keyless).await.unwrap_err();
    assert!(matches!(refused, CopyError::Open(OpenError::KeyNeeded)), "{refused}");
    let nowhere = CopyOptions { from: PathBuf::from("/nowhere/at/all"), ..options.clone() };
    let refused = copy(&nowhere).await.unwrap_err();
    assert!(refused.to_string().contains("no store in it"), "{refused}");

    // Begun, and then another source, or the same one after it ran.
    let mut left = 6;
    let mut a_few = |_| {
        left -= 1;
        left > 0
    };
    let begun = Store::copy(&options, &mut a_few).await;
    assert!(matches!(begun, Err(CopyError::CalledOff)));
    source.reopen().await;
    let shop = source.instance("one more").await;
    source.say(shop, "it ran").await;
    source.stop().await;
    let other = copy(&options).await.unwrap_err();
    assert!(matches!(other, CopyError::Occupied { .. }), "{other}");
    assert!(other.to_string().contains("has run since"), "{other}");
}

#[tokio::test]
async fn what_differs_in_the_end_is_found() {
    let (mut source, to) = (Engine::start().await, To::new().await);
    fill(&source, 20).await;
    source.stop().await;
    let options = to.copy_of(&source);
    let mut before_it_is_checked =
        |it: zapbus_store::CopyProgress| !(it.checking && it.table == "journal");
    let stopped = Store::copy(&options, &mut before_it_is_checked).await;
    assert!(matches!(stopped, Err(CopyError::CalledOff)));
    to.run("UPDATE journal SET data = data || '\\x20' WHERE seq = 5").await;
    let differs = copy(&options).await.unwrap_err();
    assert!(matches!(differs, CopyError::Differs { table: "journal", .. }), "{differs}");
    let refused = to.open(&source).await.unwrap_err();
    assert!(matches!(refused, OpenError::Unfinished { .. }), "{refused}");
}

#[tokio::test]
async fn secrets_are_encrypted_anew_where_the_key_differs() {
    let (mut source, to) = (Engine::start().await, To::new().await);
    let contents = fill(&source, 20).await;
    source.stop().await;
    // The source's own key is in its folder, and not among those given: it is found there.
    let own = std::fs::read_to_string(source.data_dir().join("encryption.key")).unwrap();
    let own = Key::parse(&own).unwrap();
    copy(&CopyOptions { live: false, ..to.copy_of(&source) }).await.unwrap();
    let opened = to.open(&source).await.unwrap();
    assert_eq!(opened.paused, 2);
    let store = opened.store;
    let destination = store.destination(contents.own.destination).await.unwrap().unwrap();
    assert!(matches!(destination.activity, Activity::Paused { .. }));
    assert!(destination.spec["channel"]["secret"].is_string());
    assert_eq!(store.key_ids().await.unwrap(), [Key::parse(server::KEY).unwrap().id()]);
    store.close().await;

    // Without it nothing goes over.
    std::fs::remove_file(source.data_dir().join("encryption.key")).unwrap();
    let other = To::new().await;
    let refused = copy(&other.copy_of(&source)).await.unwrap_err();
    assert!(matches!(refused, CopyError::Open(OpenError::WrongKey { .. })), "{refused}");
    assert!(refused.to_string().contains(&own.id()), "{refused}");
    let mut with_it = other.copy_of(&source);
    with_it.keys.push(own);
    copy(&with_it).await.unwrap();
}
