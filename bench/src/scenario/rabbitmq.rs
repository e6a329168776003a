//! RabbitMQ: what the channel adds to its client library, both with confirms, in the same minute.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use lapin::{
    BasicProperties, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};
use tokio::task::JoinSet;
use zapbus_channel::{Channel, Config, Message, Opening, Outcome, egress::Guard};
use zapbus_event::Timestamp;

use crate::{Failure, bench::Bench};

/// Messages that wait for their confirm at one time.
const WINDOWS: [u64; 2] = [64, 256];
const EXCHANGE: &str = "zapbus-bench";
const BODY: usize = 1024;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let Some(uri) = bench.amqp_uri.clone() else {
        crate::note("rabbitmq: skipped, no broker is given (--amqp-uri amqp://127.0.0.1)");
        return Ok(());
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let messages = bench.size.burst / 2;
    for window in WINDOWS {
        for pass in 1..=bench.size.passes {
            let before = bench.weather()?;
            let direct = runtime.block_on(direct(&uri, messages, window))?;
            let channel = runtime.block_on(by_channel(&uri, messages, window))?;
            let per_s = |took: Duration| messages as f64 / took.as_secs_f64();
            bench.record(
                "rabbitmq",
                format!("{window} unconfirmed, pass {pass}"),
                vec![
                    ("direct_per_s", per_s(direct)),
                    ("channel_per_s", per_s(channel)),
                    ("share_percent", per_s(channel) / per_s(direct) * 100.0),
                ],
                before,
            )?;
        }
    }
    Ok(())
}

/// A queue that takes everything, empty.
async fn prepare(uri: &str) -> Result<lapin::Channel, Failure> {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let line = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let none = FieldTable::default;
    line.exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, options, none()).await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    line.queue_declare(EXCHANGE.into(), options, none()).await?;
    let bind = QueueBindOptions::default();
    line.queue_bind(EXCHANGE.into(), EXCHANGE.into(), "#".into(), bind, none()).await?;
    line.queue_purge(EXCHANGE.into(), QueuePurgeOptions::default()).await?;
    line.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(line)
}

/// Runs `send` for each number, `window` at a time.
async fn drive<F>(
    messages: u64,
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
                if number >= messages {
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

async fn direct(uri: &str, messages: u64, window: u64) -> Result<Duration, Failure> {
    let line = Arc::new(prepare(uri).await?);
    let body = vec![b'x'; BODY];
    drive(messages, window, move |number| {
        let (line, body) = (Arc::clone(&line), body.clone());
        async move {
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(number.to_string().into());
            let key = "bench.message.received".into();
            let confirm = line.basic_publish(EXCHANGE.into(), key, options, &body, properties);
            match confirm.await?.await? {
                Confirmation::Ack(None) => Ok(()),
                other => Err(format!("not confirmed: {other:?}").into()),
            }
        }
    })
    .await
}

async fn by_channel(uri: &str, messages: u64, window: u64) -> Result<Duration, Failure> {
    drop(prepare(uri).await?);
    let config = serde_json::json!({ "type": "rabbitmq", "uri": uri, "exchange": EXCHANGE });
    let config = Config::read(config)?;
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
