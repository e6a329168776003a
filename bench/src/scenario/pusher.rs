//! Pusher: what the channel adds to signed requests over a plain client, as Pusher's own libraries make
//! them, both in batches of ten, in the same minute. Against a server in this process that says yes to
//! everything.

use std::{sync::Arc, time::Duration};

use axum::{Router, body::Bytes, routing::post};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use md5::{Digest, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::task::JoinSet;

use super::channels::{BODY, WINDOWS, by_channel, compare, drive, http_client, serve};
use crate::{Failure, bench::Bench};

const PATH: &str = "/apps/1234/batch_events";
const SECRET: &str = "secret";
/// Events of one request.
const BATCH: u64 = 10;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut tasks = JoinSet::new();
    let yes = || post(async |_: Bytes| "{}");
    let routes = Router::new().route(PATH, yes()).route("/apps/1234/events", yes());
    let port = runtime.block_on(serve(routes, &mut tasks))?;
    let messages = bench.size.burst / 2;
    let config = json!({
        "type": "pusher", "app_id": "1234", "key": "key", "secret": SECRET, "host": "127.0.0.1",
        "port": port, "tls": false,
    });
    for window in WINDOWS {
        let what = format!("{window} unconfirmed");
        compare(bench, "pusher", &what, messages, || {
            let direct = runtime.block_on(direct(port, messages, window))?;
            let channel = runtime.block_on(by_channel(&config, messages, window))?;
            Ok((direct, channel))
        })?;
    }
    runtime.block_on(tasks.shutdown());
    Ok(())
}

async fn direct(port: u16, messages: u64, window: u64) -> Result<Duration, Failure> {
    let client = http_client();
    let data: Arc<str> = "x".repeat(BODY).into();
    drive(messages / BATCH, window.div_ceil(BATCH), move |number| {
        let (client, data) = (client.clone(), Arc::clone(&data));
        async move {
            let event = json!({ "name": "message.received", "channel": "bench", "data": &*data });
            let events: Vec<&Value> = (0..BATCH).map(|_| &event).collect();
            let body = serde_json::to_vec(&json!({ "batch": events }))?;
            let query = format!(
                "auth_key=key&auth_timestamp={number}&auth_version=1.0&body_md5={}",
                hex::encode(Md5::digest(&body))
            );
            let mut mac: Hmac<Sha256> = Hmac::new_from_slice(SECRET.as_bytes())?;
            mac.update(format!("POST\n{PATH}\n{query}").as_bytes());
            let signature = hex::encode(mac.finalize().into_bytes());
            let uri = format!("http://127.0.0.1:{port}{PATH}?{query}&auth_signature={signature}");
            let request = axum::http::Request::post(uri)
                .header("content-type", "application/json")
                .body(Full::new(Bytes::from(body)))?;
            let answer = client.request(request).await?;
            let status = answer.status();
            // Read to its end, so that the connection is used again.
            answer.into_body().collect().await?;
            if status.is_success() { Ok(()) } else { Err(format!("answered {status}").into()) }
        }
    })
    .await
}
