//! The disk is full, read-only, or fails.

use crate::rig::{ALL, EIO, ENOSPC, EROFS, Knob, LOG, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_full() {
    let rig = Rig::start().await;
    rig.control.set(Knob::WriteFiles, ALL);
    rig.control.set(Knob::WriteErrno, ENOSPC);
    rig.expect_refusals("free some space").await;
    rig.expect_recovery().await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn little_of_the_disk_is_free() {
    let rig = Rig::start().await;
    // Deliveries go on: what was taken arrives although nothing more is.
    rig.control.set(Knob::FreeBytes, (10 << 20) + 1);
    rig.expect_refusals("only 10 MiB of disk are free").await;
    rig.expect_recovery().await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disk_turns_read_only() {
    let rig = Rig::start().await;
    rig.control.set(Knob::WriteFiles, ALL);
    rig.control.set(Knob::OpenErrno, EROFS);
    rig.control.set(Knob::WriteErrno, EROFS);
    rig.expect_refusals("see that the disk is there, sound and writable").await;
    rig.expect_recovery().await;
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_fail() {
    let rig = Rig::start().await;
    rig.control.set(Knob::WriteFiles, ALL);
    rig.control.set(Knob::WriteErrno, EIO);
    rig.expect_refusals("see that the disk is there, sound and writable").await;
    rig.expect_recovery().await;
    rig.finish().await;
}

/// The process dies in the middle of a write, and of the next start's, and so on.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_write_is_torn() {
    let mut rig = Rig::start().await;
    for write in [1, 2, 5, 17, 60] {
        rig.control.set(Knob::TornFiles, LOG);
        rig.control.set(Knob::TornLeft, write);
        rig.gateway.ended().await;
        assert_eq!(rig.control.get(Knob::TornLeft), 0);
        rig.start_again().await;
        rig.load.goes_on(20).await;
    }
    let acknowledged = rig.load.stop().await;
    rig.end_killed(&acknowledged, 6).await;
}
