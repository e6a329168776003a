//! Sizes at which a careless query shows.

use std::time::{Duration, Instant};

use serde_json::json;
use zapbus_event::{DestinationId, Position};
use zapbus_store::{Activity, Destination, Start};

use crate::engine::*;

/// 100,000 destinations made 1,000 to a commit: the handle makes them one by one, but nothing says
/// one after another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_destinations_are_read_in_a_moment() {
    let mut engine = Engine::start().await;
    let account = engine.account().await.id;
    let instance = engine.instance("shop").await;
    let filters = [filter(&["*"]), filter(&["message.*"]), filter(&["call.updated:offer"])];
    let count = u32::try_from(engine.many(100_000)).unwrap();
    let started = Instant::now();
    let mut making = tokio::task::JoinSet::new();
    for n in 0..count {
        let destination = Destination {
            id: DestinationId::new(engine.now(), n.into()),
            account,
            instance: Some(instance),
            label: n.to_string(),
            filter: filters[n as usize % 3].clone(),
            exclude_ephemeral: false,
            activity: Activity::Active,
            spec: json!({ "channel": { "url": format!("https://example.org/hooks/{n}") } }),
            created_at: engine.now(),
            updated_at: engine.now(),
        };
        let store = engine.store().clone();
        making.spawn(async move {
            store.create_destination(destination, Start::Now, &actor(), None).await.unwrap()
        });
        if making.len() >= 256 {
            making.join_next().await;
        }
    }
    while making.join_next().await.is_some() {}
    let made = started.elapsed();

    let started = Instant::now();
    engine.reopen().await;
    let opened = started.elapsed();
    let started = Instant::now();
    let mut heads = Vec::new();
    let mut after = None;
    loop {
        let page = engine.store().destination_heads(after, 10_000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.0.id);
        heads.extend(page);
    }
    let read = started.elapsed();
    println!("{count} destinations: made in {made:?}, opened in {opened:?}, read in {read:?}");
    assert_eq!(heads.len(), count as usize);
    assert!(heads.iter().all(|(_, cursor, _)| *cursor > Position::START));
    // Unoptimised and beside other tests; the release figure is a tenth of this.
    assert!(read < Duration::from_secs(5), "{read:?}");
}
