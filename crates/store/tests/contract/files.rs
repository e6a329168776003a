//! The data folder: opening it, copying it, what it refuses. SQLite's alone.

use std::os::unix::fs::PermissionsExt;

use zapbus_event::Position;
use zapbus_store::{
    Activity, Append, Destination, Key, Limit, NewEvent, OpenError, Options, Reader, Start, State,
    Store,
};

use crate::engine::*;

#[tokio::test]
async fn the_first_start_makes_a_key_that_only_the_owner_reads() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("made/for/us");
    let plan = Store::plan(&data).unwrap();
    assert_eq!((plan.from, plan.names.len()), (0, plan.to as usize));
    assert!(!data.exists(), "a plan touches nothing");
    let opened = Store::open(Options::new(&data)).await.unwrap();
    assert!(opened.first_start);
    assert_eq!(opened.migrated, plan.names);
    let mode = std::fs::metadata(data.join("encryption.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    opened.store.close().await;
    let again = Store::open(Options::new(&data)).await.unwrap();
    assert!(!again.first_start);
    assert!(again.migrated.is_empty());
    assert!(Store::plan(&data).unwrap().names.is_empty());
}

/// Killed while it wrote the key: there is none yet, and nothing was encrypted with it.
#[tokio::test]
async fn half_a_key_is_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("encryption.key.new"), "AAECAwQ").unwrap();
    let opened = Store::open(Options::new(&data)).await.unwrap();
    assert!(opened.first_start);
    opened.store.close().await;
    assert!(!data.join("encryption.key.new").exists());
    Store::open(Options::new(&data)).await.unwrap().store.close().await;
}

#[tokio::test]
async fn a_folder_in_use_names_its_user() {
    let engine = Engine::start().await;
    let refused = Store::open(engine.options()).await.unwrap_err();
    let OpenError::Locked { holder, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*holder, Some(std::process::id()));
    assert!(refused.to_string().contains("ZAPBUS_DATA_DIR"));
}

#[tokio::test]
async fn closing_frees_the_folder_and_leaves_one_file() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.say_many(instance, 100).await;
    engine.stop().await;
    let log = engine.data_dir().join("zapbus.db-wal");
    assert!(std::fs::metadata(log).map_or(0, |found| found.len()) == 0);
    engine.reopen().await;
    assert_eq!(engine.read_all(Reader::All, Position::START).await.len(), 101);
}

#[tokio::test]
async fn a_dropped_store_is_closed_too() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let said = engine.say(instance, "x").await;
    let options = engine.options();
    drop(std::mem::replace(&mut engine, Engine::start().await));
    // Its folder went with the fixture; opening anew is possible, so the lock is free.
    let store = Store::open(options).await.unwrap().store;
    assert!(store.event(said.id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let mut engine = Engine::start().await;
    engine.stop().await;
    let path = engine.data_dir().join("zapbus.db");
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let refused = Store::open(engine.options()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 99, .. }), "{refused}");
    assert!(matches!(Store::plan(engine.data_dir()), Err(OpenError::Newer { found: 99, .. })));
}

#[tokio::test]
async fn another_key_is_refused_and_the_needed_one_named() {
    let key = Key::generate().unwrap();
    let mut engine = Engine::with(|options| options.keys = vec![key.clone()]).await;
    engine.stop().await;
    let wrong = Key::generate().unwrap();
    let mut options = engine.options();
    options.keys = vec![wrong.clone()];
    let refused = Store::open(options.clone()).await.unwrap_err();
    let OpenError::WrongKey { needed, given, .. } = &refused else { panic!("{refused}") };
    assert_eq!((needed, given), (&key.id(), &wrong.id()));
    // No key at all: none is made for a store that needs one.
    options.keys = Vec::new();
    let refused = Store::open(options).await.unwrap_err();
    assert!(matches!(&refused, OpenError::WrongKey { given, .. } if given == "none"), "{refused}");
}

#[tokio::test]
async fn a_damaged_file_is_said_to_be_damaged() {
    let mut engine = Engine::start().await;
    engine.stop().await;
    std::fs::write(engine.data_dir().join("zapbus.db"), b"this is no database at all").unwrap();
    let refused = Store::open(engine.options()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, b"in the way").unwrap();
    let refused = Store::open(Options::new(file.join("data"))).await.unwrap_err();
    assert!(matches!(refused, OpenError::Folder { .. }), "{refused}");
}

#[tokio::test]
async fn a_backup_opens_and_equals() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 3_000).await;
    let due = State::Retrying { due: engine.now() };
    engine.settle(lane, Some(said[10].seq), vec![row(said[5].seq, due)]).await;
    let blob = format!("{{\"media\":\"{}\"}}", "QUJD".repeat(30_000));
    let large = engine.append(instance, draft(zapbus_event::Kind::MessageReceived, &blob)).await;

    let to = engine.beside("backup");
    let told = std::sync::Mutex::new(Vec::new());
    let progress = |copied, total| told.lock().unwrap().push((copied, total));
    let (report, during) = tokio::join!(
        engine.store().backup(&to, &progress),
        engine.say(instance, "written while it is copied")
    );
    let report = report.unwrap();
    assert_eq!(report.blobs, 1);
    assert_eq!(report.keys.len(), 1);
    let told = told.into_inner().unwrap();
    assert!(told.iter().all(|(copied, total)| copied <= total));
    assert!(!to.join("encryption.key").exists(), "the key is not in it");
    assert!(engine.store().backup(&to, &|_, _| {}).await.is_err(), "nothing is overwritten");

    let mut options = engine.options();
    options.data_dir = to;
    let text = std::fs::read_to_string(engine.data_dir().join("encryption.key")).unwrap();
    options.keys = vec![Key::parse(&text).unwrap()];
    let copy = Store::open(options).await.unwrap().store;
    for original in engine.read_all(Reader::All, Position::START).await {
        if original.seq < during.seq {
            let copied = copy.event_at(original.seq).await.unwrap().unwrap();
            assert_eq!(copied, original);
        }
    }
    let whole = copy.event(large.id).await.unwrap().unwrap();
    let (data, _) = copy.restore_raw(&whole).await.unwrap();
    assert_eq!(data, blob.as_bytes());
    assert_eq!(copy.lane(lane).await.unwrap().unwrap().cursor, said[10].seq);
    assert_eq!(copy.due(lane, engine.now(), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_backup_may_be_a_single_file() {
    let engine = Engine::start().await;
    let to = engine.beside("copy.db");
    let report = engine.store().backup(&to, &|_, _| {}).await.unwrap();
    assert_eq!(
        (report.database, report.bytes),
        (to.clone(), std::fs::metadata(&to).unwrap().len())
    );
}

#[tokio::test]
async fn sizes_are_told() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    engine.say_many(instance, 1_000).await;
    let sizes = engine.store().sizes().await.unwrap();
    assert!(sizes.wal + sizes.database > 100_000, "{sizes:?}");
    assert!(sizes.free > 0);
}

/// Paths below a folder, and it, that somebody but their owner may use.
fn open_to_others(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut look = vec![folder.to_owned()];
    while let Some(path) = look.pop() {
        let known = std::fs::metadata(&path).unwrap();
        if known.is_dir() {
            look.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let wanted = if known.is_dir() { 0o700 } else { 0o600 };
        if known.permissions().mode() & 0o777 != wanted {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn nobody_else_reads_what_is_kept() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let media = format!("{{\"media\":\"{}\"}}", "QUJD".repeat(30_000));
    engine.append(instance, draft(zapbus_event::Kind::MessageReceived, &media)).await;
    assert!(engine.data_dir().join("zapbus.db-wal").exists());
    assert_eq!(open_to_others(engine.data_dir()), Vec::<std::path::PathBuf>::new());
    let folder = engine.beside("backups/today");
    engine.store().backup(&folder, &|_, _| {}).await.unwrap();
    assert_eq!(open_to_others(&folder), Vec::<std::path::PathBuf>::new());
    let file = engine.beside("copy.db");
    engine.store().backup(&file, &|_, _| {}).await.unwrap();
    assert_eq!(open_to_others(&file), Vec::<std::path::PathBuf>::new());

    // One that an older version, or an operator, has left open.
    engine.stop().await;
    let loosen = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    loosen(engine.data_dir(), 0o755);
    loosen(&engine.data_dir().join("zapbus.db"), 0o644);
    loosen(&engine.data_dir().join("zapbus.lock"), 0o644);
    engine.reopen().await;
    engine.say(instance, "x").await;
    assert_eq!(open_to_others(engine.data_dir()), Vec::<std::path::PathBuf>::new());
}

/// Options that open a backup of the engine.
fn options_of_copy(engine: &Engine, to: &std::path::Path) -> Options {
    let mut options = engine.options();
    options.data_dir = to.to_owned();
    let text = std::fs::read_to_string(engine.data_dir().join("encryption.key")).unwrap();
    options.keys = vec![Key::parse(&text).unwrap()];
    options
}

#[tokio::test]
async fn a_restored_store_starts_a_generation_and_sends_nothing() {
    let engine = Engine::start().await;
    let account = engine.account().await.id;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let disabled = Destination {
        activity: Activity::Disabled { reason: "gone".to_owned(), since: engine.now() },
        ..new_destination(account, None, "disabled")
    };
    let store = engine.store();
    store.create_destination(disabled.clone(), Start::Now, &actor(), None).await.unwrap();
    let kept = engine.say(instance, "before the copy").await;
    engine.advance(HOUR);
    let to = engine.beside("backup");
    store.backup(&to, &|_, _| {}).await.unwrap();
    let old_head = *store.head().borrow();
    engine.advance(HOUR);
    let lost = engine.say(instance, "after the copy").await;
    engine.advance(HOUR);

    // The store itself goes on as it was.
    let of = Reader::Instance(instance);
    assert!(!store.gap_after(of, lost.seq).await.unwrap());
    assert_eq!(
        store.destination(lane.destination).await.unwrap().unwrap().activity,
        Activity::Active
    );

    let options = options_of_copy(&engine, &to);
    let opened = Store::open(options.clone()).await.unwrap();
    assert!(opened.restored);
    let copy = opened.store;
    let head = *copy.head().borrow();
    assert_eq!(head.0, old_head.0 + (1 << 32));
    let paused = copy.destination(lane.destination).await.unwrap().unwrap().activity;
    let Activity::Paused { reason, .. } = paused else { panic!("{paused:?}") };
    assert!(reason.starts_with("restored from a backup"), "{reason}");
    assert!(!copy.destination_head(lane.destination).await.unwrap().unwrap().0.active);
    let known = copy.destination(disabled.id).await.unwrap().unwrap();
    assert_eq!(known.activity, disabled.activity, "what did not deliver stays as it was");

    let events = vec![NewEvent { instance, draft: message("of the new generation") }];
    let new = copy.append(Append { events, body: None }).await.unwrap()[0];
    assert_eq!(new.seq.0, head.0 + 1);
    // Who has read on in the old store hears of it, by position and by id.
    for (after, gap) in [
        (Position::START, false),
        (kept.seq, false),
        (old_head, false),
        (lost.seq, true),
        (Position(old_head.0 + 1_000_000), true),
        (head, false),
        (new.seq, false),
    ] {
        assert_eq!(copy.gap_after(of, after).await.unwrap(), gap, "{after}");
    }
    let after = copy.resolve_after(lost.id).await.unwrap();
    assert!(copy.gap_after(of, after).await.unwrap());
    let page = copy.read_after(of, after, Limit::default()).await.unwrap();
    assert_eq!(positions(&page.events), [new.seq.0]);
    assert_eq!(copy.resolve_after(kept.id).await.unwrap(), kept.seq);
    assert_eq!(copy.resolve_after(new.id).await.unwrap(), new.seq);
    copy.close().await;

    // Once.
    let again = Store::open(options).await.unwrap();
    assert!(!again.restored);
    assert_eq!(*again.store.head().borrow(), new.seq);
    assert!(again.store.gap_after(of, lost.seq).await.unwrap());
}

#[tokio::test]
async fn a_restored_store_may_be_live_at_once() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let to = engine.beside("backup");
    engine.store().backup(&to, &|_, _| {}).await.unwrap();
    let mut options = options_of_copy(&engine, &to);
    options.live = true;
    let opened = Store::open(options).await.unwrap();
    assert!(opened.restored);
    let activity = opened.store.destination(lane.destination).await.unwrap().unwrap().activity;
    assert_eq!(activity, Activity::Active);
}
