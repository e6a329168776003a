//! Putting backups back. About SQLite files only: a server puts its own back.

use std::path::{Path, PathBuf};

use zapbus_event::Position;
use zapbus_store::{
    Activity, InstancePatch, Key, OpenError, Options, Reader, Restore, Restored, Start, Store,
};

use crate::engine::*;

/// A store with a few events, a blob and a destination, and a backup of it.
struct Scene {
    engine: Engine,
    lane: zapbus_store::LaneId,
    key: Key,
    backup: PathBuf,
}

impl Scene {
    async fn set() -> Self {
        let key = Key::generate().unwrap();
        let given = key.clone();
        let engine = Engine::with(move |options| options.keys = vec![given]).await;
        let instance = engine.instance("shop").await;
        let lane = engine.lane(instance, Start::Now).await;
        let source = Some(Some(serde_json::json!({ "app_secret": "hush" })));
        let patch = InstancePatch { source, ..InstancePatch::default() };
        engine.store().update_instance(instance, patch, &actor()).await.unwrap();
        engine.say_many(instance, 50).await;
        let media = format!("{{\"media\":\"{}\"}}", "QUJD".repeat(30_000));
        engine.append(instance, draft(zapbus_event::Kind::MessageReceived, &media)).await;
        let backup = engine.beside("backup");
        engine.store().backup(&backup, &|_, _| {}).await.unwrap();
        Self { engine, lane, key, backup }
    }

    fn plan(&self, to: &str) -> Restore {
        Restore {
            from: self.backup.clone(),
            data_dir: self.engine.beside(to),
            keys: vec![self.key.clone()],
            kept_key: None,
            without_secrets: false,
            live: false,
            now: self.engine.now(),
        }
    }

    async fn open(&self, folder: &Path, keys: Vec<Key>) -> zapbus_store::Opened {
        let options = Options { data_dir: folder.to_owned(), keys, ..self.engine.options() };
        Store::open(options).await.unwrap()
    }
}

fn restore(plan: &Restore) -> Result<Restored, OpenError> {
    Store::restore(plan, &mut |_, _| true)
}

#[tokio::test]
async fn a_restored_folder_holds_everything_and_sends_nothing() {
    let scene = Scene::set().await;
    let plan = scene.plan("elsewhere/data");
    let mut told = Vec::new();
    let restored = Store::restore(&plan, &mut |done, total| {
        told.push((done, total));
        true
    })
    .unwrap();
    assert_eq!((restored.blobs, restored.keys.as_slice()), (1, &[scene.key.id()][..]));
    assert!(told.iter().all(|(done, total)| done <= total));
    assert_eq!(told.last().map(|(done, total)| done == total), Some(true));

    let opened = scene.open(&plan.data_dir, plan.keys.clone()).await;
    assert_eq!((opened.restored, opened.paused), (true, 1));
    let copy = opened.store;
    let original = scene.engine.read_all(Reader::All, Position::START).await;
    for event in &original {
        let copied = copy.event_at(event.seq).await.unwrap().unwrap();
        assert_eq!(copied.id, event.id);
        let whole = |store: Store| async move { store.restore_raw(event).await.unwrap() };
        assert_eq!(whole(copy.clone()).await, whole(scene.engine.store().clone()).await);
    }
    let destination = copy.destination(scene.lane.destination).await.unwrap().unwrap();
    assert!(matches!(destination.activity, Activity::Paused { .. }));
    assert!(copy.head().borrow().0 > 1 << 32);
    let entries: Vec<_> = std::fs::read_dir(&plan.data_dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(entries, [] as [&str; 0]);
}

#[tokio::test]
async fn a_live_restore_pauses_nobody() {
    let scene = Scene::set().await;
    let plan = Restore { live: true, ..scene.plan("live") };
    restore(&plan).unwrap();
    let opened = scene.open(&plan.data_dir, plan.keys.clone()).await;
    assert_eq!((opened.restored, opened.paused), (true, 0));
    let destination = opened.store.destination(scene.lane.destination).await.unwrap().unwrap();
    assert_eq!(destination.activity, Activity::Active);
}

#[tokio::test]
async fn nothing_is_overwritten_and_nothing_is_left_behind() {
    let scene = Scene::set().await;
    let other = Key::generate().unwrap();

    // A folder that is not empty.
    let plan = scene.plan("taken");
    std::fs::create_dir_all(&plan.data_dir).unwrap();
    std::fs::write(plan.data_dir.join("notes.txt"), "mine").unwrap();
    let refused = restore(&plan).unwrap_err();
    assert!(matches!(&refused, OpenError::NotEmpty { found, .. } if found == "notes.txt"));

    // The wrong key: which one it needs, and no trace.
    let plan = Restore { keys: vec![other.clone()], ..scene.plan("wrong-key") };
    let refused = restore(&plan).unwrap_err();
    let OpenError::WrongKey { needed, given, .. } = &refused else { panic!("{refused}") };
    assert_eq!((needed, given), (&scene.key.id(), &other.id()));
    assert!(!plan.data_dir.exists());
    let refused = restore(&Restore { keys: Vec::new(), ..scene.plan("no-key") }).unwrap_err();
    assert!(matches!(&refused, OpenError::WrongKey { given, .. } if given == "none"), "{refused}");

    // Called off.
    let plan = scene.plan("called-off");
    let refused = Store::restore(&plan, &mut |_, _| false).unwrap_err();
    assert!(matches!(refused, OpenError::CalledOff), "{refused}");
    assert!(!plan.data_dir.exists());

    // A folder in use.
    let plan = Restore { from: scene.engine.data_dir().to_owned(), ..scene.plan("in-use") };
    let refused = restore(&plan).unwrap_err();
    assert!(refused.to_string().contains("zapbus backup"), "{refused}");

    // A damaged blob.
    let blob = walk(&scene.backup.join("blobs")).remove(0);
    let good = std::fs::read(&blob).unwrap();
    let mut bad = good.clone();
    bad[7] ^= 1;
    std::fs::write(&blob, &bad).unwrap();
    let plan = scene.plan("bad-blob");
    let refused = restore(&plan).unwrap_err();
    assert!(refused.to_string().contains("contents have changed"), "{refused}");
    assert!(!plan.data_dir.exists());
    std::fs::remove_file(&blob).unwrap();
    assert!(matches!(restore(&plan).unwrap_err(), OpenError::Backup { .. }));
    std::fs::write(&blob, &good).unwrap();

    // A damaged database, a cut one, and none at all.
    let database = scene.backup.join("zapbus.db");
    let good = std::fs::read(&database).unwrap();
    for bad in [&good[..good.len() / 2], &vec![7; 10_000][..], &[]] {
        std::fs::write(&database, bad).unwrap();
        let refused = restore(&plan).unwrap_err();
        assert!(matches!(refused, OpenError::Backup { .. }), "{refused}");
        assert!(!plan.data_dir.exists());
    }
    std::fs::remove_file(&database).unwrap();
    assert!(matches!(restore(&plan).unwrap_err(), OpenError::Backup { .. }));

    // What a killed restore left behind is no obstacle.
    std::fs::write(&database, &good).unwrap();
    for left in [".restoring", "blobs/aa"] {
        std::fs::create_dir_all(plan.data_dir.join(left)).unwrap();
    }
    std::fs::write(plan.data_dir.join(".restoring/zapbus.db"), "half").unwrap();
    restore(&plan).unwrap();
    assert!(!plan.data_dir.join("blobs/aa").exists());
    assert!(matches!(restore(&plan).unwrap_err(), OpenError::NotEmpty { .. }));
}

#[tokio::test]
async fn the_key_may_be_kept_in_the_new_folder() {
    let scene = Scene::set().await;
    let kept_key = Some(scene.key.clone());
    let plan = Restore { keys: Vec::new(), kept_key, ..scene.plan("kept") };
    restore(&plan).unwrap();
    let store = scene.open(&plan.data_dir, Vec::new()).await.store;
    assert!(store.destination(scene.lane.destination).await.unwrap().is_some());

    // One that lies there already is used, and never replaced.
    let lies_there = scene.plan("lies-there");
    std::fs::create_dir_all(&lies_there.data_dir).unwrap();
    let file = lies_there.data_dir.join("encryption.key");
    std::fs::write(&file, scene.key.expose()).unwrap();
    let refused = restore(&Restore { kept_key: plan.kept_key.clone(), ..lies_there.clone() });
    assert!(matches!(refused.unwrap_err(), OpenError::NotEmpty { .. }));
    restore(&Restore { keys: Vec::new(), ..lies_there }).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), scene.key.expose());
}

#[tokio::test]
async fn without_its_secrets_a_store_says_what_it_lacks() {
    let scene = Scene::set().await;
    let plan = Restore {
        keys: Vec::new(),
        without_secrets: true,
        live: true,
        ..scene.plan("without-secrets")
    };
    let restored = restore(&plan).unwrap();
    let dropped = restored.dropped.unwrap();
    assert_eq!((dropped.destinations, dropped.sources), (1, 1));
    assert_eq!(restored.keys, [scene.key.id()]);

    let copy = scene.open(&plan.data_dir, Vec::new()).await.store;
    let destination = copy.destination(scene.lane.destination).await.unwrap().unwrap();
    let Activity::Paused { reason, .. } = &destination.activity else { panic!("not paused") };
    assert!(reason.contains("without its secrets"), "{reason}");
    assert_eq!(destination.spec, serde_json::Value::Null);
    let shop = |store: Store| async move {
        store.instances_named("shop").await.unwrap().into_iter().next().unwrap()
    };
    let (old, new) = (shop(scene.engine.store().clone()).await, shop(copy.clone()).await);
    assert!(old.source.is_some() && new.source.is_none());
    assert!(!new.token.is_empty() && new.token != old.token);
    let count = scene.engine.read_all(Reader::All, Position::START).await.len();
    let page = copy
        .read_after(Reader::All, Position::START, zapbus_store::Limit::default())
        .await
        .unwrap();
    assert_eq!(page.events.len(), count, "events are not encrypted by us");
    assert!(!copy.key_ids().await.unwrap().contains(&scene.key.id()));
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}
