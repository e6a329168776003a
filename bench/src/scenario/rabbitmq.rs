//! RabbitMQ: what the channel adds to its client library, both with confirms, in the same minute.

use std::{sync::Arc, time::Duration};

use lapin::{
    BasicProperties, Confirmation, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};
use serde_json::json;

use super::channels::{BODY, WINDOWS, by_channel, compare, drive};
use crate::{Failure, bench::Bench};

const EXCHANGE: &str = "zapbus-bench";

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let Some(uri) = bench.amqp_uri.clone() else {
        crate::note("rabbitmq: skipped, no broker is given (--amqp-uri amqp://127.0.0.1)");
        return Ok(());
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let messages = bench.size.burst / 2;
    let config = json!({ "type": "rabbitmq", "uri": uri, "exchange": EXCHANGE });
    for window in WINDOWS {
        let what = format!("{window} unconfirmed");
        compare(bench, "rabbitmq", &what, messages, || {
            let direct = runtime.block_on(direct(&uri, messages, window))?;
            let channel = runtime.block_on(async {
                drop(prepare(&uri).await?);
                by_channel(&config, messages, window).await
            })?;
            Ok((direct, channel))
        })?;
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
