//! Accounts, instances, destinations, credentials.

use serde_json::json;
use zapbus_event::{Connection, InstanceId, Kind, Position};
use zapbus_store::{
    Activity, AppendError, Destination, DestinationScope, InstancePatch, Key, Quota,
    RESERVED_INSTANCE, Reader, Start, State, Store, StoreError,
};

use crate::{
    engine::*,
    records::{account, sha},
};

fn born() -> zapbus_event::Draft {
    draft(Kind::InstanceLifecycle, r#"{"action":"created"}"#)
}

#[tokio::test]
async fn the_default_account_and_its_reserved_instance_are_there_from_the_first_start() {
    let mut engine = Engine::start().await;
    let before = engine.account().await.id;
    engine.reopen().await;
    assert_eq!(engine.account().await.id, before);
    let reserved = engine.store().instances_named(RESERVED_INSTANCE).await.unwrap();
    assert_eq!(reserved.len(), 1);
    assert_eq!(reserved[0].account, before);
    engine.say(reserved[0].id, "of no number").await;
    let store = engine.store();
    assert!(store.mark_instance_deleted(reserved[0].id, born(), &actor()).await.is_err());
    assert!(store.delete_account(before, &actor()).await.is_err());
}

#[tokio::test]
async fn accounts_are_made_renamed_and_deleted() {
    let engine = Engine::start().await;
    let store = engine.store();
    let new = account("acme");
    store.create_account(new.clone(), &actor(), None).await.unwrap();
    let taken = store.create_account(account("acme"), &actor(), None).await;
    assert!(matches!(taken, Err(StoreError::Exists { what: "account", .. })));
    let found = store.account(new.id).await.unwrap().unwrap();
    assert_eq!(found.source, new.source);
    store.rename_account(new.id, "acme2", &actor()).await.unwrap();
    store.rename_account(new.id, "acme2", &actor()).await.unwrap();
    assert!(store.rename_account(new.id, "default", &actor()).await.is_err());
    store.set_account_source(new.id, None, &actor()).await.unwrap();
    let found = store.account_by_name("acme2").await.unwrap().unwrap();
    assert_eq!((found.id, found.source), (new.id, None));
    assert_eq!(store.accounts().await.unwrap().len(), 2);

    let instance = engine.instance_of(new.id, "shop").await;
    assert!(matches!(
        store.delete_account(new.id, &actor()).await,
        Err(StoreError::Refused { .. })
    ));
    store.mark_instance_deleted(instance, born(), &actor()).await.unwrap();
    store.drop_instance(instance).await.unwrap();
    store.delete_account(new.id, &actor()).await.unwrap();
    assert!(store.account(new.id).await.unwrap().is_none());
    assert_eq!(store.instances_named(RESERVED_INSTANCE).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_instance_is_born_with_an_event_and_found_every_way() {
    let mut engine = Engine::start().await;
    let mut new = new_instance(engine.account().await.id, "shop");
    new.route = Some("cloud-api:123".to_owned());
    new.source = Some(json!({ "type": "cloud-api", "app_secret": "very secret" }));
    new.settings = json!({ "color": "green" });
    let store = engine.store();
    store.create_instance(new.clone(), born(), &actor(), None).await.unwrap();
    let first = engine.read_all(Reader::Instance(new.id), Position::START).await;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].kind, Kind::InstanceLifecycle);

    engine.reopen().await;
    let store = engine.store();
    let account = engine.account().await.id;
    for found in [
        store.instance(new.id).await.unwrap(),
        store.instances_named("shop").await.unwrap().pop(),
        store.instance_by_route(Some(account), "cloud-api:123").await.unwrap(),
        store.instance_by_route(None, "cloud-api:123").await.unwrap(),
        store.instance_by_token_hash(sha(&new.token)).await.unwrap(),
        store
            .instances(Some(account), None, 10)
            .await
            .unwrap()
            .into_iter()
            .find(|it| it.id == new.id),
    ] {
        let found = found.unwrap();
        assert_eq!(
            (found.id, found.token, found.source),
            (new.id, new.token.clone(), new.source.clone())
        );
        assert_eq!(found.settings, new.settings);
    }
    assert!(!engine.holds(b"very secret").await);
    assert!(!engine.holds(new.token.as_bytes()).await);

    let patch = InstancePatch {
        name: Some("store".to_owned()),
        token: Some("another".to_owned()),
        source: Some(None),
        route: Some(None),
        ..InstancePatch::default()
    };
    let changed = store.update_instance(new.id, patch, &actor()).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.token.as_str()), ("store", "another"));
    assert_eq!((changed.source, changed.route, changed.settings), (None, None, new.settings));
    assert!(store.instance_by_token_hash(sha(&new.token)).await.unwrap().is_none());
    assert!(store.instance_by_token_hash(sha("another")).await.unwrap().is_some());
}

#[tokio::test]
async fn settings_of_several_are_merged_and_none_undoes_another() {
    let engine = Engine::start().await;
    let (store, account) = (engine.store(), engine.account().await.id);
    let new = zapbus_store::Instance {
        settings: json!({ "kept": 1, "gone": 2, "deep": { "old": true, "kept": [1] } }),
        ..new_instance(account, "shop")
    };
    store.create_instance(new.clone(), born(), &actor(), None).await.unwrap();
    let patch = |value| InstancePatch { merge_settings: Some(value), ..InstancePatch::default() };
    let changed =
        patch(json!({ "gone": null, "deep": { "old": null, "new": "x" }, "nothing": null }));
    let after = store.update_instance(new.id, changed, &actor()).await.unwrap();
    assert_eq!(after.settings, json!({ "kept": 1, "deep": { "kept": [1], "new": "x" } }));

    let changes = (0..8).map(|n| {
        let patch = patch(json!({ format!("of {n}"): n }));
        async move { store.update_instance(new.id, patch, &actor()).await.unwrap() }
    });
    futures_util::future::join_all(changes).await;
    let after = store.instance(new.id).await.unwrap().unwrap().settings;
    assert!((0..8).all(|n| after[format!("of {n}")] == n), "{after}");
    assert_eq!(after["kept"], 1);
}

#[tokio::test]
async fn the_last_place_for_a_destination_goes_to_one_of_several() {
    let engine = Engine::start().await;
    let (store, account) = (engine.store(), engine.account().await.id);
    let [shop, other] = ["shop", "other"].map(|name| new_instance(account, name));
    for instance in [&shop, &other] {
        store.create_instance(instance.clone(), born(), &actor(), None).await.unwrap();
    }
    let quota = |on, all| {
        let (labels, off) = ("hook/".to_owned(), "off".to_owned());
        Some(Quota { labels, on, all, off, seen: None })
    };
    let make = |instance, label: &str| new_destination(account, Some(instance), label);
    // Those of other kinds and instances take no place.
    for (instance, label) in [(shop.id, "plain"), (other.id, "hook/a"), (other.id, "hook/b")] {
        let made = store
            .create_destination_within(
                make(instance, label),
                Start::Now,
                &actor(),
                None,
                quota(3, 9),
            )
            .await;
        assert!(made.is_ok(), "{label}: {made:?}");
    }
    let tries = (0..8).map(|n| {
        let new = make(shop.id, &format!("hook/{n}"));
        async move {
            store
                .create_destination_within(new.clone(), Start::Now, &actor(), None, quota(3, 9))
                .await
                .map(|_| new)
        }
    });
    let tried = futures_util::future::join_all(tries).await;
    let made: Vec<_> = tried.iter().filter_map(|it| it.as_ref().ok()).collect();
    assert_eq!(made.len(), 3, "{tried:?}");
    for refused in tried.iter().filter_map(|it| it.as_ref().err()) {
        assert!(matches!(refused, StoreError::TooMany { on: true, most: 3 }), "{refused:?}");
    }

    // Off, it leaves its place to another, which then has it.
    let off = Activity::Paused { reason: "off".to_owned(), since: engine.now() };
    let first = Destination { activity: off, ..made[0].clone() };
    let update = |new: Destination, quota| async move {
        store.update_destination_within(new, &[], false, &actor(), quota).await
    };
    update(first.clone(), quota(3, 9)).await.unwrap();
    let fourth = make(shop.id, "hook/fourth");
    let create = |new: Destination, quota| async move {
        store.create_destination_within(new, Start::Now, &actor(), None, quota).await
    };
    create(fourth, quota(3, 9)).await.unwrap();
    let on = Destination { activity: Activity::Active, ..first };
    let refused = update(on.clone(), quota(3, 9)).await;
    assert!(matches!(refused, Err(StoreError::TooMany { on: true, most: 3 })), "{refused:?}");
    let found = store.destination(on.id).await.unwrap().unwrap();
    assert!(matches!(found.activity, Activity::Paused { .. }), "nothing was half done");
    // Paused for another reason, it keeps its place.
    let reason = "a person".to_owned();
    let paused = Activity::Paused { reason, since: engine.now() };
    update(Destination { activity: paused, ..made[1].clone() }, quota(3, 9)).await.unwrap();
    assert!(update(on.clone(), quota(3, 9)).await.is_err());
    assert!(update(on.clone(), quota(4, 9)).await.is_ok());
    // Another node was faster: what follows from how it was does not hold any more.
    let late = Quota { seen: Some(Activity::Active), ..quota(9, 9).unwrap() };
    let off = Activity::Paused { reason: "off".to_owned(), since: engine.now() };
    update(Destination { activity: off, ..on.clone() }, Some(late.clone())).await.unwrap();
    let refused = update(on.clone(), Some(late)).await;
    assert!(matches!(refused, Err(StoreError::ChangedMeanwhile)), "{refused:?}");
    update(on.clone(), quota(9, 9)).await.unwrap();
    // Whoever has a place keeps it, however few there are by now.
    update(on.clone(), quota(1, 1)).await.unwrap();
    let off = Activity::Paused { reason: "off".to_owned(), since: engine.now() };
    update(Destination { activity: off, ..on.clone() }, quota(1, 1)).await.unwrap();
    assert!(update(on, quota(1, 1)).await.is_err(), "this one would take a place");
    let refused = create(make(shop.id, "hook/more"), quota(9, 4)).await;
    assert!(matches!(refused, Err(StoreError::TooMany { on: false, most: 4 })), "{refused:?}");
}

#[tokio::test]
async fn the_last_place_for_an_instance_goes_to_one_of_several() {
    let engine = Engine::start().await;
    let store = engine.store();
    let account = account("acme");
    store.create_account(account.clone(), &actor(), None).await.unwrap();
    let create = |name: String, most| {
        let new = new_instance(account.id, &name);
        async move {
            let made =
                store.create_instance_within(new.clone(), born(), &actor(), None, most).await;
            made.map(|()| new.id)
        }
    };
    let tries = (0..8).map(|n| create(format!("shop {n}"), Some(3)));
    let tried = futures_util::future::join_all(tries).await;
    let made: Vec<_> = tried.iter().filter_map(|it| it.as_ref().ok()).collect();
    assert_eq!(made.len(), 3, "{tried:?}");
    for refused in tried.iter().filter_map(|it| it.as_ref().err()) {
        assert!(matches!(refused, StoreError::TooManyInstances { most: 3 }), "{refused:?}");
    }
    // Those being deleted leave their place.
    store.mark_instance_deleted(*made[0], born(), &actor()).await.unwrap();
    create("another".to_owned(), Some(3)).await.unwrap();
    create("any number".to_owned(), None).await.unwrap();
}

#[tokio::test]
async fn what_is_said_of_several_instances_is_what_is_said_of_each() {
    let engine = Engine::start().await;
    let (first, quiet, second) =
        (engine.instance("a").await, engine.instance("b").await, engine.instance("c").await);
    engine.say_many(second, 2).await;
    engine.say_many(first, 1).await;
    let store = engine.store();
    let ids = vec![second, quiet, first];
    let several = store.instance_statuses(ids.clone()).await.unwrap();
    assert_eq!(several.len(), 3);
    for (id, found) in ids.into_iter().zip(several) {
        let alone = store.instance_status(id).await.unwrap();
        assert_eq!(found.last_event_at, alone.last_event_at);
        assert_eq!(found.state.connection, alone.state.connection);
    }
    let nobody = InstanceId::from_bytes([7; 16]);
    let found = store.instance_statuses(vec![nobody]).await.unwrap();
    assert!(found[0].last_event_at.is_none());
}

#[tokio::test]
async fn a_token_stands_for_one_instance_or_credential_only() {
    let engine = Engine::start().await;
    let store = engine.store();
    let mine = engine.account().await.id;
    let other = account("other");
    store.create_account(other.clone(), &actor(), None).await.unwrap();
    let with = |account, name: &str, token: &str| zapbus_store::Instance {
        token: token.to_owned(),
        ..new_instance(account, name)
    };
    let first = with(mine, "shop", "t1");
    store.create_instance(first.clone(), born(), &actor(), None).await.unwrap();
    let head = *store.head().borrow();
    let taken = store.create_instance(with(other.id, "thief", "t1"), born(), &actor(), None).await;
    assert!(matches!(taken, Err(StoreError::TokenTaken)), "{taken:?}");
    assert_eq!(*store.head().borrow(), head, "what was refused leaves no event");

    let second = with(other.id, "thief", "t2");
    store.create_instance(second.clone(), born(), &actor(), None).await.unwrap();
    let token = |token: &str| InstancePatch { token: Some(token.to_owned()), ..Default::default() };
    let taken = store.update_instance(second.id, token("t1"), &actor()).await;
    assert!(matches!(taken, Err(StoreError::TokenTaken)), "{taken:?}");
    let kept = store.instance_by_token_hash(sha("t2")).await.unwrap().unwrap();
    assert_eq!(kept.id, second.id, "the refused change changed nothing");
    store.update_instance(second.id, token("t2"), &actor()).await.expect("its own");

    let key = |public_id: &str| zapbus_store::Credential {
        id: zapbus_event::CredentialId::new(engine.now(), unique().into()),
        role: zapbus_store::Role::Account,
        account: Some(other.id),
        instance: None,
        name: "ci".to_owned(),
        public_id: Some(public_id.to_owned()),
        created_at: engine.now(),
        expires_at: None,
    };
    let taken = store.create_credential(key("a"), sha("t1"), &actor(), None).await;
    assert!(matches!(taken, Err(StoreError::TokenTaken)), "{taken:?}");
    let credential = key("b");
    store.create_credential(credential.clone(), sha("c1"), &actor(), None).await.unwrap();
    let taken = store.rotate_credential(credential.id, sha("t2"), engine.now(), &actor()).await;
    assert!(matches!(taken, Err(StoreError::TokenTaken)), "{taken:?}");
    assert!(store.credential_by_hash(sha("c1"), engine.now()).await.unwrap().is_some());
    let taken = store.update_instance(first.id, token("c1"), &actor()).await;
    assert!(matches!(taken, Err(StoreError::TokenTaken)), "{taken:?}");
    let taken = store.create_instance(with(mine, "third", "c1"), born(), &actor(), None).await;
    assert!(matches!(taken, Err(StoreError::TokenTaken)), "{taken:?}");

    store.mark_instance_deleted(first.id, born(), &actor()).await.unwrap();
    store.create_instance(with(other.id, "next", "t1"), born(), &actor(), None).await.unwrap();
}

#[tokio::test]
async fn of_many_who_want_one_token_at_one_time_one_gets_it() {
    let engine = Engine::start().await;
    let store = engine.store();
    let account = engine.account().await.id;
    let create = |n: u32| {
        let token = "wanted".to_owned();
        let new = zapbus_store::Instance { token, ..new_instance(account, &format!("shop {n}")) };
        async move { store.create_instance(new, born(), &actor(), None).await }
    };
    let done = futures_util::future::join_all((0..4).map(create)).await;
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
    // On a busy machine one may be put off instead: it has not got the token either.
    let refused = done.iter().filter(|done| {
        matches!(done, Err(StoreError::TokenTaken | StoreError::Unavailable { .. }))
    });
    assert_eq!(refused.count(), 3, "{done:?}");
}

#[tokio::test]
async fn names_and_routes_are_unique_in_an_account_only() {
    let engine = Engine::start().await;
    let store = engine.store();
    let other = account("other");
    store.create_account(other.clone(), &actor(), None).await.unwrap();
    let mine = engine.account().await.id;
    let mut first = new_instance(mine, "shop");
    first.route = Some("r".to_owned());
    store.create_instance(first.clone(), born(), &actor(), None).await.unwrap();
    let head = *store.head().borrow();
    let same_name = store.create_instance(new_instance(mine, "shop"), born(), &actor(), None).await;
    assert!(matches!(same_name, Err(StoreError::Exists { what: "instance", .. })));
    let mut second = new_instance(mine, "shop 2");
    second.route = Some("r".to_owned());
    let same_route = store.create_instance(second, born(), &actor(), None).await;
    assert!(matches!(same_route, Err(StoreError::RouteTaken { .. })), "{same_route:?}");
    assert_eq!(*store.head().borrow(), head, "what was refused leaves no event");
    engine.instance_of(other.id, "shop").await;
    assert_eq!(store.instances_named("shop").await.unwrap().len(), 2);

    store.mark_instance_deleted(first.id, born(), &actor()).await.unwrap();
    engine.instance("shop").await;
}

#[tokio::test]
async fn a_deleted_instance_takes_no_events_and_then_is_gone() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 600).await;
    let due = State::Retrying { due: engine.now() };
    engine.settle(lane, None, said.iter().map(|said| row(said.seq, due)).collect()).await;
    let gone = draft(Kind::InstanceLifecycle, r#"{"action":"deleted"}"#);
    assert!(engine.store().drop_instance(instance).await.is_err(), "not marked yet");
    engine.store().mark_instance_deleted(instance, gone, &actor()).await.unwrap();
    let refused = engine.try_append(instance, message("too late")).await;
    assert!(matches!(refused, Err(AppendError::UnknownInstance { index: 0 })));
    let events = engine.read_all(Reader::Instance(instance), Position::START).await;
    assert_eq!(events.last().unwrap().kind, Kind::InstanceLifecycle);
    engine.reopen().await;
    let refused = engine.try_append(instance, message("too late")).await;
    assert!(matches!(refused, Err(AppendError::UnknownInstance { index: 0 })));

    let store = engine.store();
    assert_eq!(store.deleted_instances().await.unwrap().len(), 1);
    assert!(store.instances(None, None, 10).await.unwrap().iter().all(|it| it.id != instance));
    store.drop_instance(instance).await.unwrap();
    assert!(store.deleted_instances().await.unwrap().is_empty());
    assert!(store.instance(instance).await.unwrap().is_none());
    assert!(engine.read_all(Reader::Instance(instance), Position::START).await.is_empty());
    assert!(store.destination(lane.destination).await.unwrap().is_none());
    assert!(store.lanes_due().await.unwrap().is_empty());
    engine.reopen().await;
    assert!(engine.read_all(Reader::Instance(instance), Position::START).await.is_empty());
}

#[tokio::test]
async fn the_state_of_an_instance_follows_its_events() {
    let mut engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let status = engine.store().instance_status(instance).await.unwrap();
    assert_eq!(status.state.connection, Connection::Unknown);
    engine.append(instance, draft(Kind::InstanceQr, r#"{"code":"2@abc","expires_in_s":20}"#)).await;
    engine.reopen().await;
    let status = engine.store().instance_status(instance).await.unwrap();
    assert_eq!(status.state.qr.unwrap().code.as_deref(), Some("2@abc"));
    engine.append(instance, draft(Kind::InstanceConnected, r#"{"account":{"name":"Shop"}}"#)).await;
    engine.say(instance, "hello").await;
    let logged_out = draft(Kind::InstanceLoggedOut, r#"{"reason":"unlinked"}"#);
    engine.advance(HOUR);
    engine.append(instance, logged_out).await;
    let status = engine.store().instance_status(instance).await.unwrap();
    assert_eq!(status.state.connection, Connection::LoggedOut);
    assert_eq!(status.state.name.as_deref(), Some("Shop"));
    assert_eq!(status.last_event_at, Some(engine.now()));
    engine.advance(40 * DAY);
    engine.prune(&zapbus_store::RetentionPolicy::default()).await;
    let later = engine.store().instance_status(instance).await.unwrap();
    assert_eq!((later.state, later.last_event_at), (status.state, status.last_event_at));
}

#[tokio::test]
async fn a_number_that_talks_is_connected() {
    let engine = Engine::start().await;
    let instance = engine.instance("cloud").await;
    engine.say(instance, "hello").await;
    let status = engine.store().instance_status(instance).await.unwrap();
    assert_eq!(status.state.connection, Connection::Connected);
}

#[tokio::test]
async fn destinations_are_listed_changed_and_deleted() {
    let mut engine = Engine::start().await;
    let account = engine.account().await.id;
    let instance = engine.instance("shop").await;
    let mine = new_destination(account, Some(instance), "default");
    let global = new_destination(account, None, "default");
    for new in [&mine, &global] {
        engine.store().create_destination(new.clone(), Start::Now, &actor(), None).await.unwrap();
    }
    let twin = new_destination(account, Some(instance), "default");
    let taken = engine.store().create_destination(twin, Start::Now, &actor(), None).await;
    assert!(matches!(taken, Err(StoreError::Exists { what: "destination", .. })));
    let lost = new_destination(account, Some(new_instance(account, "x").id), "l");
    assert!(engine.store().create_destination(lost, Start::Now, &actor(), None).await.is_err());

    engine.reopen().await;
    let store = engine.store();
    assert!(!engine.holds(b"whsec_test").await);
    for (scope, expected) in [
        (DestinationScope::All, vec![mine.id, global.id]),
        (DestinationScope::Instance(instance), vec![mine.id]),
        (DestinationScope::Global, vec![global.id]),
    ] {
        let found = store.destinations(Some(account), scope, None, 10).await.unwrap();
        let ids: Vec<_> = found.iter().map(|found| found.id).collect();
        assert_eq!(ids, expected, "{scope:?}");
        assert_eq!(found[0].spec, mine.spec);
    }
    let page = store.destinations(None, DestinationScope::All, Some(mine.id), 10).await.unwrap();
    assert_eq!(page.len(), 1);
    let found = store.destination_by_label(account, Some(instance), "default").await.unwrap();
    assert_eq!(found.unwrap().id, mine.id);

    let mut changed = mine.clone();
    changed.filter = filter(&["call.updated:offer"]);
    changed.activity =
        Activity::Paused { reason: "a person said so".to_owned(), since: engine.now() };
    let said = engine.say_many(instance, 3).await;
    let store = engine.store();
    store.update_destination(changed.clone(), Some(said[1].seq), false, &actor()).await.unwrap();
    let (head, cursor, _) = store.destination_head(mine.id).await.unwrap().unwrap();
    assert_eq!((head.filter, head.active, cursor), (changed.filter, false, said[1].seq));
    store.set_activity(mine.id, &Activity::Active, &actor()).await.unwrap();
    let heads = store.destination_heads(None, 10).await.unwrap();
    assert_eq!(heads.len(), 2);
    assert!(heads.iter().all(|(head, ..)| head.active));

    store.delete_destination(mine.id, &actor()).await.unwrap();
    assert!(store.delete_destination(mine.id, &actor()).await.is_err());
    let again = new_destination(account, Some(instance), "default");
    let cursor = store.create_destination(again, Start::Now, &actor(), None).await.unwrap();
    assert_eq!(cursor, said[2].seq, "a new one at its own start");
}

#[tokio::test]
async fn switching_off_calls_off_the_rows() {
    let engine = Engine::start().await;
    let instance = engine.instance("shop").await;
    let lane = engine.lane(instance, Start::Now).await;
    let said = engine.say_many(instance, 700).await;
    let due = State::Retrying { due: engine.now() };
    engine.settle(lane, None, said.iter().map(|said| row(said.seq, due)).collect()).await;
    let destination = engine.store().destination(lane.destination).await.unwrap().unwrap();
    engine.store().update_destination(destination, None, true, &actor()).await.unwrap();
    let stats = engine.store().lane_stats(lane).await.unwrap();
    assert_eq!(stats.retrying, 0);
}

#[tokio::test]
async fn a_document_that_cannot_be_decrypted_is_that_objects_error_alone() {
    let mut engine = Engine::with(|options| options.keys = vec![Key::generate().unwrap()]).await;
    let account = engine.account().await.id;
    let instance = engine.instance("shop").await;
    let broken = engine.lane(instance, Start::Now).await.destination;
    let whole = engine.lane(instance, Start::Now).await.destination;
    engine.stop().await;
    // What a bad disk or a meddling hand would leave behind.
    damage_first_spec(&engine).await;
    engine.reopen().await;
    let store = engine.store();
    assert!(matches!(store.destination(broken).await, Err(StoreError::Sealed { .. })));
    assert!(store.destination(whole).await.unwrap().is_some());
    let listed = store.destinations(Some(account), DestinationScope::All, None, 10).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(
        matches!(&listed[0].activity, Activity::Paused { reason, .. } if reason.contains("decrypted"))
    );
    assert_eq!(listed[0].spec, serde_json::Value::Null);
    assert_eq!(listed[1].activity, Activity::Active);
    assert!(
        store.lane(zapbus_store::LaneId { destination: broken, run: 0 }).await.unwrap().is_some()
    );
}

async fn damage_first_spec(engine: &Engine) {
    let last = if crate::POSTGRES {
        "set_byte(spec, length(spec) - 1, get_byte(spec, length(spec) - 1) # 1)"
    } else {
        "CAST(substr(spec, 1, length(spec) - 1) || x'00' AS BLOB)"
    };
    let first = "(SELECT min(n) FROM destination_spec)";
    engine.tamper(&format!("UPDATE destination_spec SET spec = {last} WHERE n = {first}")).await;
}

#[tokio::test]
async fn a_new_key_encrypts_and_the_old_one_still_decrypts() {
    let (old, new) = (Key::generate().unwrap(), Key::generate().unwrap());
    let mut engine = Engine::with(|options| options.keys = vec![old.clone()]).await;
    let first = engine.instance("a").await;
    engine.stop().await;
    let mut options = engine.options();
    options.keys = vec![new.clone(), old.clone()];
    let store = Store::open(options.clone()).await.unwrap().store;
    let token = store.instance(first).await.unwrap().unwrap().token;
    assert!(token.starts_with("token of a"), "{token}");
    let derived = store.derive_key("jwt");
    assert_ne!(derived, store.derive_key("links"));
    store.close().await;
    options.keys = vec![new];
    let refused = Store::open(options).await.unwrap_err();
    assert!(refused.to_string().contains(&old.id()), "{refused}");
}
