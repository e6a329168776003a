//! Credentials, the audit log, remembered answers, settings.

use serde_json::json;
use zapbus_event::{AccountId, CredentialId};
use zapbus_store::{Account, Credential, Remember, Role, StoreError};

use crate::engine::*;

pub(crate) fn account(name: &str) -> Account {
    let at = zapbus_event::Timestamp::from_millis(BEGIN);
    Account {
        id: AccountId::new(at, unique().into()),
        name: name.to_owned(),
        source: Some(json!({ "app_secret": "very secret" })),
        created_at: at,
    }
}

pub(crate) fn sha(text: &str) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).into()
}

#[tokio::test]
async fn secrets_of_credentials_overlap_while_they_rotate() {
    let engine = Engine::start().await;
    let store = engine.store();
    let account = engine.account().await.id;
    let credential = Credential {
        id: CredentialId::new(engine.now(), 1),
        role: Role::Account,
        account: Some(account),
        instance: None,
        name: "ci".to_owned(),
        public_id: Some("client".to_owned()),
        created_at: engine.now(),
        expires_at: None,
    };
    let id = credential.id;
    store.create_credential(credential.clone(), sha("one"), &actor(), None).await.unwrap();
    let twin = Credential { id: CredentialId::new(engine.now(), 2), ..credential.clone() };
    assert!(store.create_credential(twin.clone(), sha("x"), &actor(), None).await.is_err());
    let thief = Credential { public_id: None, ..twin };
    assert!(store.create_credential(thief, sha("one"), &actor(), None).await.is_err());
    assert_eq!(store.credentials(Some(account)).await.unwrap().len(), 1);

    store.rotate_credential(id, sha("two"), engine.now() + HOUR, &actor()).await.unwrap();
    let valid = async |secret: &str| {
        store.credential_by_hash(sha(secret), engine.now()).await.unwrap().is_some()
    };
    assert!(valid("one").await && valid("two").await && !valid("three").await);
    let (_, hashes) = store.credential_by_public_id("client").await.unwrap().unwrap();
    assert_eq!(hashes.len(), 2);
    engine.advance(2 * HOUR);
    assert!(!valid("one").await && valid("two").await);
    let (_, hashes) = store.credential_by_public_id("client").await.unwrap().unwrap();
    assert_eq!(hashes, [sha("two")]);
    store.expire_credential(id, engine.now() + HOUR, &actor()).await.unwrap();
    assert!(valid("two").await);
    engine.advance(2 * HOUR);
    assert!(!valid("two").await);
    assert!(store.credential_by_public_id("client").await.unwrap().is_none());
    store.revoke_credential(id, &actor()).await.unwrap();
    assert!(store.credentials(None).await.unwrap().is_empty());
    assert!(store.revoke_credential(id, &actor()).await.is_err());
}

#[tokio::test]
async fn an_answer_is_remembered_for_a_day_and_made_once() {
    let engine = Engine::start().await;
    let store = engine.store();
    let remember = Remember {
        caller: "crd_1".to_owned(),
        key: "key".to_owned(),
        request: sha("body"),
        answer: json!({ "token": "very secret" }),
    };
    store.create_account(account("a"), &actor(), Some(remember.clone())).await.unwrap();
    let again = store.create_account(account("b"), &actor(), Some(remember.clone())).await;
    assert!(matches!(again, Err(StoreError::Exists { what: "idempotency key", .. })));
    assert!(store.account_by_name("b").await.unwrap().is_none(), "it was not made");
    let kept = store.remembered("crd_1", "key", engine.now()).await.unwrap().unwrap();
    assert_eq!((kept.request, kept.answer), (remember.request, remember.answer.clone()));
    assert!(store.remembered("crd_2", "key", engine.now()).await.unwrap().is_none());
    assert!(!engine.holds(b"very secret").await);
    engine.advance(DAY + HOUR);
    assert!(store.remembered("crd_1", "key", engine.now()).await.unwrap().is_none());
    store.create_account(account("c"), &actor(), Some(remember)).await.unwrap();
}

#[tokio::test]
async fn every_change_writes_its_line() {
    let engine = Engine::start().await;
    let store = engine.store();
    let new = account("acme");
    store.create_account(new.clone(), &actor(), None).await.unwrap();
    engine.instance_of(new.id, "shop").await;
    store.rename_account(new.id, "acme2", &actor()).await.unwrap();
    let lines = store.audit(Some(new.id), None, 10).await.unwrap();
    let actions: Vec<&str> = lines.iter().map(|line| line.action.as_str()).collect();
    assert_eq!(actions.len(), 3);
    for action in ["account.create", "instance.create", "account.rename"] {
        assert!(actions.contains(&action), "{action}");
    }
    assert!(lines.iter().all(|line| line.actor == "test"));
    let next = store.audit(Some(new.id), Some(lines[0].id), 10).await.unwrap();
    assert_eq!(next.len(), 2);
}

#[tokio::test]
async fn small_facts_are_kept() {
    let mut engine = Engine::start().await;
    assert!(engine.store().setting("admin").await.unwrap().is_none());
    engine.store().set_setting("admin", json!({ "hash": "x" })).await.unwrap();
    engine.store().set_setting("admin", json!({ "hash": "y" })).await.unwrap();
    engine.reopen().await;
    assert_eq!(engine.store().setting("admin").await.unwrap(), Some(json!({ "hash": "y" })));
}
