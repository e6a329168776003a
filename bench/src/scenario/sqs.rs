//! Amazon SQS: what the channel adds to AWS's client library, both in batches of ten, in the same
//! minute. Against a server in this process that says yes to everything, or any other.

use std::{sync::Arc, time::Duration};

use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    types::SendMessageBatchRequestEntry,
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use axum::{Router, body::Bytes, http::HeaderMap, response::IntoResponse, routing::post};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::channels::{BODY, WINDOWS, by_channel, compare, drive, http_client, serve};
use crate::{Failure, bench::Bench};

const QUEUE: &str = "zapbus-bench";
/// Messages of one request.
const BATCH: u64 = 10;

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut tasks = JoinSet::new();
    let endpoint = match &bench.sqs_endpoint {
        Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
        None => {
            let routes = Router::new().route("/{*path}", post(answer)).route("/", post(answer));
            let port = runtime.block_on(serve(routes, &mut tasks))?;
            format!("http://127.0.0.1:{port}")
        }
    };
    let messages = bench.size.burst / 2;
    let config = json!({
        "type": "sqs", "region": "us-east-1", "endpoint": endpoint, "queue": QUEUE,
        "access_key_id": "AKIAEXAMPLE", "secret_access_key": "secret",
    });
    for window in WINDOWS {
        let what = format!("{window} unconfirmed");
        compare(bench, "sqs", &what, messages, || {
            let direct = runtime.block_on(direct(&endpoint, messages, window))?;
            let channel = runtime.block_on(by_channel(&config, messages, window))?;
            Ok((direct, channel))
        })?;
    }
    // Its connections are the runtime's.
    runtime.block_on(tasks.shutdown());
    Ok(())
}

/// As SQS, as far as senders need it.
async fn answer(headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let action = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let answer = match action.unwrap_or_default() {
        "AmazonSQS.SendMessageBatch" => {
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let entries = body["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
            let taken = |entry: &Value| json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "x" });
            let taken: Vec<Value> = entries.iter().map(taken).collect();
            json!({ "Successful": taken, "Failed": [] })
        }
        "AmazonSQS.GetQueueAttributes" => {
            json!({ "Attributes": { "MaximumMessageSize": "262144" } })
        }
        _ => json!({ "QueueUrl": format!("http://127.0.0.1/1/{QUEUE}") }),
    };
    ([("content-type", "application/x-amz-json-1.0")], answer.to_string())
}

async fn direct(endpoint: &str, messages: u64, window: u64) -> Result<Duration, Failure> {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("AKIAEXAMPLE", "secret", None, None, "bench"))
        .retry_config(RetryConfig::disabled())
        .http_client(Plain(http_client()))
        .build();
    let client = Client::from_conf(config);
    let url = client.create_queue().queue_name(QUEUE).send().await?.queue_url;
    let url: Arc<str> = url.ok_or("SQS did not say where the queue is")?.into();
    let body: Arc<str> = "x".repeat(BODY).into();
    drive(messages / BATCH, window.div_ceil(BATCH), move |_| {
        let (client, url, body) = (client.clone(), Arc::clone(&url), Arc::clone(&body));
        async move {
            let entries: Result<Vec<_>, _> = (0..BATCH)
                .map(|n| {
                    let entry = SendMessageBatchRequestEntry::builder();
                    entry.id(n.to_string()).message_body(&*body).build()
                })
                .collect();
            let request = client.send_message_batch().queue_url(&*url);
            let answer = request.set_entries(Some(entries?)).send().await?;
            match answer.successful().len() as u64 {
                BATCH => Ok(()),
                taken => Err(format!("{taken} of {BATCH} were taken").into()),
            }
        }
    })
    .await
}

/// What AWS's library sends its requests over: a plain client, as anybody would take one.
#[derive(Debug, Clone)]
struct Plain(legacy::Client<legacy::connect::HttpConnector, Full<Bytes>>);

impl HttpConnector for Plain {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let broken = |error: Failure| ConnectorError::io(error);
            let request = request.try_into_http1x().map_err(|error| broken(error.into()))?;
            let request = request.map(|body| {
                Full::new(body.bytes().map(Bytes::copy_from_slice).unwrap_or_default())
            });
            let answer = client.request(request).await.map_err(|error| broken(error.into()))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| broken(error.into()))?.to_bytes();
            let answer = axum::http::Response::from_parts(head, SdkBody::from(body));
            HttpResponse::try_from(answer).map_err(|error| broken(error.into()))
        })
    }
}

impl HttpClient for Plain {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
