//! The suite that every channel passes, over a peer that does as it is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use zapbus_channel::{Channel, Config, Message, Outcome, Report, Scope};
use zapbus_event::Timestamp;

/// What a peer does with the next message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    Accept,
    /// Says that it does not want this message.
    Refuse,
    /// Says that it gets too much.
    Throttle,
    /// Takes it and says nothing.
    Hang,
    /// Hangs up in the middle of its answer.
    BreakOff,
    /// Says that the credentials are wrong.
    Deny,
    /// Answers with much more than anybody wants to read.
    Flood,
}

/// A channel with a peer of its own. The config's credentials hold the text `hunter2`.
pub(crate) trait Rig {
    async fn start() -> Self;
    fn config(&self) -> Config;
    fn open(&self) -> Channel;
    fn next(&self, behaviour: Behaviour);
    /// The ids of the messages that have come in, in order.
    fn ids(&self) -> Vec<String>;
    async fn stop(&mut self);
    async fn resume(&mut self);
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_millis(since.as_millis().try_into().unwrap())
}

pub(crate) fn message(id: &str) -> Message {
    Message {
        id: id.to_owned(),
        event_name: "message.received".to_owned(),
        segment: None,
        instance_name: "shop".into(),
        body: Bytes::from(format!(r#"{{"id":"{id}","type":"message.received"}}"#)),
        ordering_key: "chat".to_owned(),
        timestamp: now(),
        hops: 1,
        replay: None,
        traceparent: None,
        headers: Vec::new(),
        headers_win: false,
        warrant: None,
    }
}

pub(crate) async fn send(channel: &Channel, id: &str) -> Report {
    let [report] = channel.send(&[message(id)]).await.try_into().unwrap();
    report
}

/// Fails for the destination's sake, with words, and not with its secrets.
pub(crate) fn assert_destination(report: &Report) {
    assert!(
        matches!(report.outcome, Outcome::Retry { scope: Scope::Destination, .. }),
        "{report:?}"
    );
    assert!(!report.error.as_ref().unwrap().is_empty());
    assert!(!format!("{report:?}").contains("hunter2"), "{report:?}");
}

pub(crate) async fn accepts<R: Rig>() {
    let rig = R::start().await;
    let channel = rig.open();
    let report = send(&channel, "evt_1").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    assert_eq!(report.error, None);
    assert_eq!(rig.ids(), ["evt_1"]);
}

pub(crate) async fn reports_in_the_order_of_the_batch<R: Rig>() {
    let rig = R::start().await;
    let channel = rig.open();
    rig.next(Behaviour::Accept);
    rig.next(Behaviour::Refuse);
    let batch = ["evt_1", "evt_2", "evt_3"].map(message);
    let reports = channel.send(&batch).await;
    let accepted: Vec<bool> =
        reports.iter().map(|report| report.outcome == Outcome::Accepted).collect();
    assert_eq!(accepted, [true, false, true], "{reports:?}");
    assert_eq!(rig.ids(), ["evt_1", "evt_2", "evt_3"]);
    assert_eq!(channel.batch_limit(), 1);
    assert!(channel.keeps_order_in_batch());
    assert!(channel.send(&[]).await.is_empty());
}

pub(crate) async fn refuses<R: Rig>() {
    let rig = R::start().await;
    let channel = rig.open();
    rig.next(Behaviour::Refuse);
    let report = send(&channel, "evt_1").await;
    assert!(
        matches!(report.outcome, Outcome::Refused | Outcome::Retry { scope: Scope::Event, .. }),
        "{report:?}"
    );
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
}

pub(crate) async fn throttles<R: Rig>() {
    let rig = R::start().await;
    let channel = rig.open();
    rig.next(Behaviour::Throttle);
    assert_destination(&send(&channel, "evt_1").await);
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
}

pub(crate) async fn times_out<R: Rig>() {
    let rig = R::start().await;
    let channel = rig.open();
    rig.next(Behaviour::Hang);
    let report = send(&channel, "evt_1").await;
    assert_destination(&report);
    assert!(report.latency < Duration::from_secs(5), "{report:?}");
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
}

pub(crate) async fn loses_the_connection_in_an_answer<R: Rig>() {
    let rig = R::start().await;
    let channel = rig.open();
    rig.next(Behaviour::BreakOff);
    assert_destination(&send(&channel, "evt_1").await);
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
}

pub(crate) async fn comes_back_after_its_peer<R: Rig>() {
    let mut rig = R::start().await;
    let channel = rig.open();
    assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
    rig.stop().await;
    assert_destination(&send(&channel, "evt_2").await);
    rig.resume().await;
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
    assert_eq!(rig.ids(), ["evt_1", "evt_2"]);
}

pub(crate) async fn has_wrong_credentials<R: Rig>() {
    let rig = R::start().await;
    let channel = rig.open();
    rig.next(Behaviour::Deny);
    assert_destination(&send(&channel, "evt_1").await);
}

pub(crate) async fn reads_no_more_than_it_wants<R: Rig>() {
    let rig = R::start().await;
    let channel = rig.open();
    rig.next(Behaviour::Flood);
    let report = send(&channel, "evt_1").await;
    assert!(report.excerpt.len() <= 4096);
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
}

pub(crate) async fn shows_no_secrets<R: Rig>() {
    let rig = R::start().await;
    let config = rig.config();
    let stored = serde_json::to_value(&config).unwrap();
    assert!(stored.to_string().contains("hunter2"), "the test needs a secret");
    assert_eq!(Config::read(stored).unwrap(), config);
    let shown = serde_json::to_string(&config.masked()).unwrap();
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{:?}", rig.open()).contains("hunter2"));
}

/// The tests of the suite for one rig.
macro_rules! suite {
    ($name:ident, $rig:ty) => {
        mod $name {
            $crate::rig::suite! {@tests $rig:
                accepts,
                reports_in_the_order_of_the_batch,
                refuses,
                throttles,
                times_out,
                loses_the_connection_in_an_answer,
                comes_back_after_its_peer,
                has_wrong_credentials,
                reads_no_more_than_it_wants,
                shows_no_secrets,
            }
        }
    };
    (@tests $rig:ty: $($test:ident,)*) => {
        $(#[tokio::test]
        async fn $test() {
            $crate::rig::$test::<$rig>().await;
        })*
    };
}
pub(crate) use suite;
