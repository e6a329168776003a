//! What a channel adds to its client library: the same messages by both, each until it is confirmed, in
//! the same minute.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinSet};
use zapbus_channel::{Channel, Config, Message, Opening, Outcome, egress::Guard};
use zapbus_event::Timestamp;

use crate::{Failure, bench::Bench};

/// Messages that wait for their confirm at one time.
pub(super) const WINDOWS: [u64; 2] = [64, 256];
pub(super) const BODY: usize = 1024;

/// How long both took, as often as the size says.
pub(super) fn compare(
    bench: &mut Bench,
    scenario: &'static str,
    what: &str,
    messages: u64,
    mut measure: impl FnMut() -> Result<(Duration, Duration), Failure>,
) -> Result<(), Failure> {
    for pass in 1..=bench.size.passes {
        let before = bench.weather()?;
        let (direct, channel) = measure()?;
        let per_s = |took: Duration| messages as f64 / took.as_secs_f64();
        bench.record(
            scenario,
            format!("{what}, pass {pass}"),
            vec![
                ("direct_per_s", per_s(direct)),
                ("channel_per_s", per_s(channel)),
                ("share_percent", per_s(channel) / per_s(direct) * 100.0),
            ],
            before,
        )?;
    }
    Ok(())
}

/// Runs `send` for each number, `window` at a time.
pub(super) async fn drive<F>(
    count: u64,
    window: u64,
    send: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Result<Duration, Failure>
where
    F: Future<Output = Result<(), Failure>> + Send,
{
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..window {
        let (next, send) = (Arc::clone(&next), send.clone());
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<(), Failure>(());
                }
                send(number).await?;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(started.elapsed())
}

/// The same by the channel of this config.
pub(super) async fn by_channel(
    config: &Value,
    messages: u64,
    window: u64,
) -> Result<Duration, Failure> {
    let config = Config::read(config.clone())?;
    let channel = Channel::open(&config, &Opening::new(Arc::new(Guard::trusted())))?;
    let channel = Arc::new(channel);
    let body = Bytes::from(vec![b'x'; BODY]);
    drive(messages, window, move |number| {
        let (channel, body) = (Arc::clone(&channel), body.clone());
        async move {
            let message = Message {
                id: number.to_string(),
                event_name: "message.received".to_owned(),
                segment: None,
                instance_name: "bench".into(),
                body,
                headers: Vec::new(),
                headers_win: false,
                ordering_key: number.to_string(),
                timestamp: Timestamp::from_millis(0),
                hops: 1,
                replay: None,
                traceparent: None,
                warrant: None,
            };
            let reports = channel.send(&[message]).await;
            match reports.first() {
                Some(report) if report.outcome == Outcome::Accepted => Ok(()),
                other => Err(format!("not confirmed: {other:?}").into()),
            }
        }
    })
    .await
}

/// A client over plain HTTP that keeps its connections.
pub(super) fn http_client() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// A server in this process, for peers that nobody has at hand; ends with the tasks. Its port.
pub(super) async fn serve(routes: axum::Router, tasks: &mut JoinSet<()>) -> Result<u16, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        stream.set_nodelay(true).ok();
    });
    tasks.spawn(async move {
        axum::serve(listener, routes).await.ok();
    });
    Ok(port)
}
