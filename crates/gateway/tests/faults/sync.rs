//! A sync fails, once or for a while, with or without what was written; or it takes seconds.

use std::time::Duration;

use crate::{
    load::Shape,
    rig::{ALL, DATABASE, EIO, Knob, LOG, Rig},
};

/// Linux says it once: the next sync of the same file succeeds, and the pages may be gone.
async fn one_sync_fails(files: i64, loses: bool) {
    let rig = Rig::start().await;
    for _ in 0..5 {
        let hits = rig.control.get(Knob::Hits);
        rig.control.set(Knob::SyncLoses, i64::from(loses));
        rig.load.goes_on(20).await;
        rig.control.set(Knob::SyncFiles, files);
        rig.control.set(Knob::SyncErrno, EIO);
        rig.control.set(Knob::SyncLeft, 1);
        let mut waited = 0;
        while rig.control.get(Knob::Hits) == hits {
            tokio::time::sleep(Duration::from_millis(10)).await;
            waited += 1;
            assert!(waited < 6_000, "no sync for a minute");
        }
        rig.expect_recovery().await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sync_of_the_log_fails() {
    one_sync_fails(LOG, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sync_of_the_log_fails_and_its_pages_are_gone() {
    one_sync_fails(LOG, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sync_of_the_database_fails_and_its_pages_are_gone() {
    // Enough for the log to be moved into the database every few seconds, in parts, while commits
    // go on.
    let large = Shape { writers: 4, text: 20_000, ..Shape::default() };
    let rig = Rig::start_with(large, Vec::new()).await;
    rig.control.set(Knob::SyncLoses, 1);
    for _ in 0..3 {
        rig.load.goes_on(20).await;
        let hits = rig.control.get(Knob::Hits);
        rig.control.set(Knob::SyncFiles, DATABASE);
        rig.control.set(Knob::SyncErrno, EIO);
        rig.control.set(Knob::SyncLeft, 1);
        while rig.control.get(Knob::Hits) == hits {
            rig.load.goes_on(1).await;
        }
        rig.load.goes_on(100).await;
    }
    rig.control.heal();
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_sync_succeeds_for_a_while() {
    let rig = Rig::start().await;
    rig.control.set(Knob::SyncFiles, ALL);
    rig.control.set(Knob::SyncErrno, EIO);
    rig.control.set(Knob::SyncLeft, -1);
    rig.expect_refusals("see that the disk is there, sound and writable").await;
    rig.expect_recovery().await;
    rig.finish().await;
}

/// Nobody is refused: they wait, and what gathers meanwhile shares the next sync.
#[tokio::test(flavor = "multi_thread")]
async fn syncs_take_seconds() {
    let rig = Rig::start().await;
    rig.control.set(Knob::SyncDelayMs, 2_000);
    rig.load.goes_on(8).await;
    assert_eq!(rig.load.refusals(), 0, "{}", rig.load.refusal());
    rig.expect_recovery().await;
    rig.finish().await;
}
