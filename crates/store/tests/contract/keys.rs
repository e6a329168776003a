//! Changing keys.

use zapbus_store::{Key, OpenError, Start, Store};

use crate::engine::*;

#[tokio::test]
async fn rekeying_makes_the_old_key_needless() {
    let old = Key::generate().unwrap();
    let given = old.clone();
    let mut engine = Engine::with(move |options| options.keys = vec![given]).await;
    let mut lanes = Vec::new();
    // More than one step of them.
    for n in 0..230 {
        let instance = engine.instance(&format!("shop-{n}")).await;
        lanes.push(engine.lane(instance, Start::Now).await);
    }
    engine.stop().await;
    let new = Key::generate().unwrap();
    let mut options = engine.options();
    options.keys = vec![new.clone(), old.clone()];
    let store = Store::open(options.clone()).await.unwrap().store;
    assert_eq!(store.key_ids().await.unwrap(), [new.id(), old.id()]);
    let rekeyed = store.rekey(&actor()).await.unwrap();
    assert_eq!((rekeyed.unreadable, rekeyed.keys.as_slice()), (0, &[new.id()][..]));
    assert!(rekeyed.rewritten >= 460, "{rekeyed:?}");
    assert_eq!(store.rekey(&actor()).await.unwrap().rewritten, 0);
    store.close().await;

    options.keys = vec![old];
    let refused = Store::open(options.clone()).await.unwrap_err();
    assert!(matches!(&refused, OpenError::WrongKey { needed, .. } if *needed == new.id()));
    options.keys = vec![new];
    let store = Store::open(options).await.unwrap().store;
    for lane in lanes {
        assert!(store.destination(lane.destination).await.unwrap().is_some());
    }
    assert!(!store.instances_named("shop-229").await.unwrap()[0].token.is_empty());
}
