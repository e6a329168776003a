//! The last hour and day.

use std::time::Duration;

use zapbus_store::{Attempt, DeadReason, Row, Start, State, Statistics, Subject};

use crate::engine::*;

/// A delivered row whose attempt took so many milliseconds, or a failed one.
fn attempted(engine: &Engine, seq: zapbus_event::Position, latency_ms: u32, state: State) -> Row {
    let failed = !matches!(state, State::Delivered);
    Row {
        attempt: Some(Attempt {
            at: engine.now(),
            number: 1,
            code: Some(if failed { 500 } else { 200 }),
            latency_ms,
            error: failed.then(|| "500".to_owned()),
            excerpt: bytes::Bytes::new(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        }),
        ..row(seq, state)
    }
}

async fn of(engine: &Engine, subject: Subject) -> Statistics {
    engine.store().statistics(subject).await.unwrap()
}

#[tokio::test]
async fn figures_cover_an_hour_and_a_day_and_outlive_a_restart() {
    let mut engine = Engine::start().await;
    let shop = engine.instance("shop").await;
    let lane = engine.lane(shop, Start::Now).await;
    let subject = Subject::Destination(lane.destination);
    let none = of(&engine, subject).await;
    assert_eq!((none.hour.figures.success_rate(), none.last_event_at), (None, None));

    let early = engine.say(shop, "early").await;
    engine.settle(lane, None, vec![attempted(&engine, early.seq, 40, State::Delivered)]).await;
    engine.store().write_statistics().await.unwrap();
    engine.advance(2 * HOUR);
    let mut last = early.received_at;
    for n in 1..=100 {
        let said = engine.say(shop, "x").await;
        let state = match n {
            98 => State::Retrying { due: engine.now() + HOUR },
            99 => State::Dead { reason: DeadReason::Refused },
            _ => State::Delivered,
        };
        engine.settle(lane, None, vec![attempted(&engine, said.seq, n, state)]).await;
        if matches!(state, State::Delivered) {
            last = engine.now();
        }
        if n % 30 == 0 {
            // Added to what is there, in the same slot and in others.
            engine.store().write_statistics().await.unwrap();
            engine.advance(Duration::from_secs(150));
        }
    }
    let check = |found: &Statistics| {
        let (hour, day) = (&found.hour.figures, &found.day.figures);
        assert_eq!((hour.accepted, hour.failed, hour.dead), (98, 2, 1));
        assert_eq!((day.accepted, day.failed, day.dead), (99, 2, 1));
        assert_eq!(hour.success_rate(), Some(0.98));
        let p50 = hour.latencies.quantile(0.5).unwrap();
        let p99 = hour.latencies.quantile(0.99).unwrap();
        assert!((50..=56).contains(&p50), "{p50}");
        assert!((99..=111).contains(&p99), "{p99}");
        assert_eq!(found.last_event_at, Some(last));
    };
    let before = of(&engine, subject).await;
    check(&before);
    engine.reopen().await;
    assert_eq!(of(&engine, subject).await, before, "a clean stop loses nothing");

    let whole = of(&engine, Subject::Instance(shop)).await;
    assert_eq!(whole.hour.figures.events, 100);
    assert_eq!(whole.day.figures.events, 101);
    assert_eq!(whole.day.figures.accepted, 99);
    assert!(whole.hour.from <= engine.now() - HOUR);
    assert!(whole.hour.from > engine.now() - HOUR - 6 * MINUTE);

    engine.advance(DAY + HOUR);
    let later = of(&engine, subject).await;
    assert_eq!(later.day.figures.accepted, 0);
    assert_eq!(later.last_event_at, Some(last), "the log remembers");
}

#[tokio::test]
async fn an_instance_has_the_figures_of_its_own_destinations_only() {
    let engine = Engine::start().await;
    let (shop, other) = (engine.instance("shop").await, engine.instance("other").await);
    let lanes = [
        engine.lane(shop, Start::Now).await,
        engine.lane(shop, Start::Now).await,
        engine.lane(other, Start::Now).await,
    ];
    let said = engine.say(shop, "x").await;
    let elsewhere = engine.say(other, "x").await;
    for (lane, seq) in lanes.iter().zip([said.seq, said.seq, elsewhere.seq]) {
        engine.settle(*lane, None, vec![attempted(&engine, seq, 5, State::Delivered)]).await;
    }
    for written in [false, true] {
        if written {
            engine.store().write_statistics().await.unwrap();
        }
        let found = of(&engine, Subject::Instance(shop)).await;
        assert_eq!(found.hour.figures.accepted, 2, "written: {written}");
        assert_eq!(found.hour.figures.events, 1);
        assert_eq!(found.last_event_at, Some(said.received_at));
    }
    // A row without an attempt counts for nothing.
    let waiting = row(said.seq, State::Waiting);
    engine.settle(lanes[0], None, vec![waiting]).await;
    engine.store().delete_destination(lanes[0].destination, &actor()).await.unwrap();
    engine.store().write_statistics().await.unwrap();
    let found = of(&engine, Subject::Instance(shop)).await;
    assert_eq!(found.hour.figures.accepted, 1, "a deleted destination is not counted");
}
