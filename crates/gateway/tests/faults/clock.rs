//! The clock of the computer jumps.

use std::time::Duration;

use serde_json::json;

use crate::{
    load::{Shape, Target, receiver::Reply},
    rig::{Knob, Rig},
};

const HOUR_MS: i64 = 3_600_000;

/// Retries and probes go on at their pace although the clock went elsewhere in between.
async fn jump(by_ms: i64) {
    // An outage is in the middle of being probed when the clock jumps.
    let patient = json!({ "retry": { "waits_s": [1], "max_attempts": 50 } });
    let poor = Target::with("poor", "key", patient, |_, _| Reply::status(500)).await;
    let rig = Rig::start_with(Shape { writers: 4, ..Shape::default() }, vec![poor]).await;
    rig.load.goes_on(100).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;

    rig.control.set(Knob::ClockMs, by_ms);
    rig.load.goes_on(100).await;
    rig.targets[2].script(|_, _| Reply::ok());
    rig.load.goes_on(100).await;
    assert_eq!(rig.load.refusals(), 0, "{}", rig.load.refusal());
    let (status, said) = rig.api.readiness().await;
    assert_eq!(status, 200, "{said}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_jumps_a_day_ahead() {
    jump(24 * HOUR_MS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_back_an_hour() {
    jump(-HOUR_MS).await;
}
