//! What only SQS destinations do, against a service that does as it is told.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use zapbus_channel::{
    Channel, Config, Opening, Outcome, Report, Scope, Warrant,
    egress::{Allow, Guard},
};

use crate::{
    receiver::{Received, Receiver, Reply},
    rig::{Behaviour, Rig, assert_destination, message, send},
};

/// A message as it was sent.
#[derive(Debug, Clone)]
struct Sent {
    queue: String,
    body: String,
    group: Option<String>,
    deduplication: Option<String>,
    attributes: HashMap<String, String>,
}

impl Sent {
    fn id(&self) -> String {
        self.attributes["id"].clone()
    }
}

/// What is wrong with the next message, or with the request that it is in.
#[derive(Debug, Clone)]
enum Answer {
    Take,
    /// This message: code, and whether it is the sender's fault.
    Fail(&'static str, bool),
    /// The whole request: status, code, further headers.
    Error(u16, &'static str, &'static str),
    Reply(Reply),
}

#[derive(Default)]
struct State {
    queues: HashMap<String, Value>,
    sent: Vec<Sent>,
    script: VecDeque<Answer>,
    calls: Vec<String>,
    /// Bytes that new queues take.
    limit: Option<u32>,
}

/// SQS on 127.0.0.1, as far as senders need it.
struct Service {
    receiver: Receiver,
    state: Arc<Mutex<State>>,
}

impl Service {
    async fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let answering = Arc::clone(&state);
        let receiver =
            Receiver::start_answering(move |request| answering.lock().unwrap().answer(request))
                .await;
        Self { receiver, state }
    }

    fn next(&self, answer: Answer) {
        self.state.lock().unwrap().script.push_back(answer);
    }

    fn sent(&self) -> Vec<Sent> {
        self.state.lock().unwrap().sent.clone()
    }

    /// Queues take this many bytes from now on.
    fn set_limit(&self, bytes: u32) {
        let mut state = self.state.lock().unwrap();
        state.limit = Some(bytes);
        for attributes in state.queues.values_mut() {
            attributes["MaximumMessageSize"] = json!(bytes.to_string());
        }
    }

    fn calls(&self, action: &str) -> usize {
        self.state.lock().unwrap().calls.iter().filter(|call| *call == action).count()
    }
}

fn ok(body: &Value) -> Reply {
    Reply::with("200 OK", "content-type: application/x-amz-json-1.0\r\n", &body.to_string())
}

fn error(status: u16, code: &str, headers: &str) -> Reply {
    let body =
        json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": "words of the service"});
    let headers = format!("content-type: application/x-amz-json-1.0\r\n{headers}");
    Reply::with(&format!("{status} Something"), &headers, &body.to_string())
}

impl State {
    fn answer(&mut self, request: &Received) -> Reply {
        let credential = "Credential=AKIAEXAMPLE/";
        let authorization = request.header("authorization");
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 "), "{authorization}");
        assert!(authorization.contains(credential), "{authorization}");
        assert!(authorization.contains("/sa-east-1/sqs/aws4_request"), "{authorization}");
        let action = request.header("x-amz-target").strip_prefix("AmazonSQS.").unwrap().to_owned();
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        self.calls.push(action.clone());
        let name = |field: &str| {
            let text = body[field].as_str().unwrap();
            text.rsplit('/').next().unwrap().to_owned()
        };
        let url = |name: &str| json!({"QueueUrl": format!("http://sqs.example/1/{name}")});
        match action.as_str() {
            "GetQueueUrl" => {
                let name = name("QueueName");
                match self.queues.contains_key(&name) {
                    true => ok(&url(&name)),
                    false => error(400, "QueueDoesNotExist", ""),
                }
            }
            "CreateQueue" => {
                let name = name("QueueName");
                let mut attributes = body["Attributes"].clone();
                if attributes.is_null() {
                    attributes = json!({});
                }
                assert_eq!(name.ends_with(".fifo"), attributes["FifoQueue"] == "true");
                attributes["MaximumMessageSize"] = json!(self.limit.unwrap_or(262_144).to_string());
                self.queues.insert(name.clone(), attributes);
                ok(&url(&name))
            }
            "GetQueueAttributes" => match self.queues.get(&name("QueueUrl")) {
                Some(attributes) => ok(&json!({"Attributes": attributes})),
                None => error(400, "QueueDoesNotExist", ""),
            },
            "SendMessageBatch" => self.send(&name("QueueUrl"), &body),
            other => panic!("{other}"),
        }
    }

    fn send(&mut self, queue: &str, body: &Value) -> Reply {
        if !self.queues.contains_key(queue) {
            return error(400, "QueueDoesNotExist", "");
        }
        let entries = body["Entries"].as_array().unwrap();
        assert!((1..=10).contains(&entries.len()), "{} entries", entries.len());
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let text = |field: &str| entry[field].as_str().map(str::to_owned);
            let id = text("Id").unwrap();
            match self.script.pop_front().unwrap_or(Answer::Take) {
                Answer::Take => {
                    let attributes = entry["MessageAttributes"].as_object().unwrap();
                    let value = |value: &Value| {
                        assert_eq!(value["DataType"], "String");
                        value["StringValue"].as_str().unwrap().to_owned()
                    };
                    self.sent.push(Sent {
                        queue: queue.to_owned(),
                        body: text("MessageBody").unwrap(),
                        group: text("MessageGroupId"),
                        deduplication: text("MessageDeduplicationId"),
                        attributes: attributes
                            .iter()
                            .map(|(name, it)| (name.clone(), value(it)))
                            .collect(),
                    });
                    successful.push(json!({"Id": id, "MessageId": "m", "MD5OfMessageBody": "x"}));
                }
                Answer::Fail(code, is_sender) => failed.push(
                    json!({"Id": id, "Code": code, "SenderFault": is_sender, "Message": "words"}),
                ),
                Answer::Error(status, code, headers) => return error(status, code, headers),
                Answer::Reply(reply) => return reply,
            }
        }
        ok(&json!({"Successful": successful, "Failed": failed}))
    }
}

pub(crate) struct SqsRig {
    service: Service,
    opening: Opening,
}

impl Rig for SqsRig {
    async fn start() -> Self {
        Self { service: Service::start().await, opening: at_home() }
    }

    fn config(&self) -> Config {
        config(&self.service, json!({"timeout_s": 0.8}))
    }

    fn open(&self) -> Channel {
        Channel::open(&self.config(), &self.opening).unwrap()
    }

    fn next(&self, behaviour: Behaviour) {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n";
        let begun = "HTTP/1.1 200 OK\r\ncontent-le";
        self.service.next(match behaviour {
            Behaviour::Accept => Answer::Take,
            Behaviour::Refuse => Answer::Fail("InvalidMessageContents", true),
            Behaviour::Throttle => Answer::Error(400, "ThrottlingException", ""),
            Behaviour::Hang => Answer::Reply(Reply::Silence),
            Behaviour::BreakOff => Answer::Reply(Reply::WriteAndReset(begun.to_owned())),
            Behaviour::Deny => Answer::Error(403, "InvalidClientTokenId", ""),
            Behaviour::Flood => {
                Answer::Reply(Reply::Flood(format!("{head}{}", "x".repeat(100_000))))
            }
        });
    }

    fn ids(&self) -> Vec<String> {
        // What was refused has come in too.
        let requests = self.service.receiver.received();
        let batches = requests.iter().filter(|it| it.header("x-amz-target").ends_with("Batch"));
        let entries = batches.flat_map(|request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            body["Entries"].as_array().unwrap().clone()
        });
        let id = |entry: Value| entry["MessageAttributes"]["id"]["StringValue"].clone();
        entries.map(|entry| id(entry).as_str().unwrap().to_owned()).collect()
    }

    async fn stop(&mut self) {
        self.service.receiver.stop().await;
    }

    async fn resume(&mut self) {
        self.service.receiver.resume().await;
    }
}

/// Loopback is allowed.
fn at_home() -> Opening {
    Opening::new(Arc::new(Guard::new(Allow::default().with_loopback(true))))
}

fn config(service: &Service, more: Value) -> Config {
    let mut config = json!({
        "type": "sqs", "region": "sa-east-1", "endpoint": service.receiver.url(""), "timeout_s": 5,
        "access_key_id": "AKIAEXAMPLE", "secret_access_key": "hunter2",
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Config::read(config).unwrap()
}

fn open(service: &Service, more: Value) -> Channel {
    Channel::open(&config(service, more), &at_home()).unwrap()
}

fn words(report: &Report) -> &str {
    report.error.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn a_message_is_what_the_documents_say() {
    let service = Service::start().await;
    let channel = open(&service, json!({}));
    let message = message("evt_1.2");
    let report = channel.send(std::slice::from_ref(&message)).await.remove(0);
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    let [sent] = service.sent().try_into().unwrap();
    assert_eq!(sent.queue, "shop-message_received");
    assert_eq!(sent.body.as_bytes(), message.body);
    assert_eq!((&sent.group, &sent.deduplication), (&None, &None));
    let expected =
        [("event", "message.received"), ("instance", "shop"), ("id", "evt_1.2"), ("hops", "1")];
    assert_eq!(sent.attributes, expected.map(|(name, it)| (name.into(), it.into())).into());
    // The queue was created, and is known from now on.
    send(&channel, "evt_2").await;
    for (action, calls) in
        [("GetQueueUrl", 1), ("CreateQueue", 1), ("GetQueueAttributes", 1), ("SendMessageBatch", 2)]
    {
        assert_eq!(service.calls(action), calls, "{action}");
    }
}

#[tokio::test]
async fn a_fifo_queue_has_groups_and_knows_repeats() {
    let service = Service::start().await;
    let channel = open(&service, json!({"preset": "evolution_instance"}));
    let mut message = message("evt_1");
    message.event_name = "messages.upsert".to_owned();
    message.ordering_key = "5511999990001@s.whatsapp.net".to_owned();
    assert_eq!(channel.send(&[message]).await[0].outcome, Outcome::Accepted);
    let [sent] = service.sent().try_into().unwrap();
    assert_eq!(sent.queue, "shop_messages_upsert.fifo");
    assert_eq!(sent.group.as_deref(), Some("5511999990001@s.whatsapp.net"));
    assert_eq!(sent.deduplication.as_deref(), Some("evt_1"));
}

#[tokio::test]
async fn what_is_sent_at_the_same_time_goes_together_and_fails_by_itself() {
    let service = Service::start().await;
    let channel = Arc::new(open(&service, json!({})));
    assert_eq!(send(&channel, "evt_first").await.outcome, Outcome::Accepted);
    service.next(Answer::Take);
    service.next(Answer::Fail("InvalidMessageContents", true));
    service.next(Answer::Fail("InternalError", false));
    let mut sends = JoinSet::new();
    for number in 0..100 {
        let channel = Arc::clone(&channel);
        sends.spawn(async move { send(&channel, &format!("evt_{number}")).await });
    }
    let mut outcomes = HashMap::new();
    while let Some(report) = sends.join_next().await {
        *outcomes.entry(format!("{:?}", report.unwrap().outcome)).or_insert(0) += 1;
    }
    assert_eq!(outcomes["Accepted"], 98, "{outcomes:?}");
    assert_eq!(outcomes["Refused"], 1, "{outcomes:?}");
    assert!(service.calls("SendMessageBatch") < 50, "{}", service.calls("SendMessageBatch"));
    let mut ids: Vec<String> = service.sent().iter().map(Sent::id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 99, "98 and the first, each once");
}

#[tokio::test]
async fn every_answer_has_its_outcome() {
    let service = Service::start().await;
    let channel = open(&service, json!({}));
    let retry =
        |after: Option<u64>, scope| Outcome::Retry { after: after.map(Duration::from_secs), scope };
    for (answer, outcome, part) in [
        (
            Answer::Error(400, "ThrottlingException", "retry-after: 3\r\n"),
            retry(Some(3), Scope::Destination),
            "ThrottlingException: words of the service",
        ),
        (Answer::Error(403, "AccessDenied", ""), retry(None, Scope::Destination), "AccessDenied"),
        (Answer::Error(500, "InternalError", ""), retry(None, Scope::Destination), "InternalError"),
        (Answer::Error(400, "InvalidMessageContents", ""), Outcome::Refused, "Contents"),
        (Answer::Fail("KmsThrottled", true), retry(None, Scope::Destination), "KmsThrottled"),
        (Answer::Fail("Whatever", true), retry(None, Scope::Event), "Whatever: words"),
        (
            Answer::Reply(Reply::with("502 Bad Gateway", "", "<html>")),
            retry(None, Scope::Destination),
            "502",
        ),
    ] {
        service.next(answer.clone());
        let report = send(&channel, "evt_1").await;
        assert_eq!(report.outcome, outcome, "{answer:?}: {report:?}");
        assert!(words(&report).contains(part), "{answer:?}: {report:?}");
        assert!(!format!("{report:?}").contains("hunter2"));
        assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted, "after {answer:?}");
    }
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_created_again() {
    let service = Service::start().await;
    let channel = open(&service, json!({}));
    assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
    service.state.lock().unwrap().queues.clear();
    assert_destination(&send(&channel, "evt_2").await);
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);

    let careful = open(&service, json!({"create": false, "queue": "missing"}));
    let report = send(&careful, "evt_3").await;
    assert_destination(&report);
    assert!(words(&report).contains("there is no queue `missing`"), "{report:?}");
    assert_eq!(service.calls("CreateQueue"), 2);
}

#[tokio::test]
async fn what_is_larger_than_the_queue_takes_is_refused() {
    let service = Service::start().await;
    service.state.lock().unwrap().limit = Some(2000);
    let channel = open(&service, json!({}));
    let mut large = message("evt_1");
    large.body = format!("{{\"text\":\"{}\"}}", "x".repeat(2000)).into();
    let report = channel.send(&[large]).await.remove(0);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(words(&report).contains("the queue takes 2000"), "{report:?}");
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
    assert_eq!(service.sent().len(), 1);
}

#[tokio::test]
async fn what_a_queue_takes_is_asked_for_again() {
    let service = Service::start().await;
    service.state.lock().unwrap().limit = Some(2000);
    let channel = open(&service, json!({}));
    let mut large = message("evt_1");
    large.body = format!("{{\"text\":\"{}\"}}", "x".repeat(2000)).into();
    let large = std::slice::from_ref(&large);
    assert_eq!(channel.send(large).await[0].outcome, Outcome::Refused);
    assert_eq!(service.calls("GetQueueAttributes"), 1, "it was asked for just now");
    service.set_limit(5000);
    assert_eq!(channel.send(large).await[0].outcome, Outcome::Accepted);
    assert_eq!(service.calls("GetQueueAttributes"), 2);

    // Lowered again: the service says so, and the next answer names the sizes.
    service.set_limit(2000);
    service.next(Answer::Error(400, "InvalidParameterValue", ""));
    let report = channel.send(large).await.remove(0);
    assert_eq!(report.outcome, Outcome::Retry { after: None, scope: Scope::Event });
    let report = channel.send(large).await.remove(0);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(words(&report).contains("the queue takes 2000"), "{report:?}");
}

#[tokio::test]
async fn what_is_known_of_a_batch_outlives_the_time() {
    let service = Service::start().await;
    let channel = Arc::new(open(&service, json!({"timeout_s": 1})));
    assert_eq!(send(&channel, "evt_first").await.outcome, Outcome::Accepted);
    // All of them at once, then each by itself: the third of these gets no answer.
    service.next(Answer::Error(400, "InvalidAttributeValue", ""));
    service.next(Answer::Take);
    service.next(Answer::Take);
    service.next(Answer::Reply(Reply::Silence));
    let mut sends = JoinSet::new();
    for number in 0..5 {
        let channel = Arc::clone(&channel);
        sends.spawn(async move { send(&channel, &format!("evt_{number}")).await });
    }
    let (mut accepted, mut late) = (0, 0);
    while let Some(report) = sends.join_next().await {
        let report = report.unwrap();
        if report.outcome == Outcome::Accepted {
            accepted += 1;
        } else {
            assert_destination(&report);
            assert!(words(&report).contains("within 1 s"), "{report:?}");
            late += 1;
        }
    }
    assert_eq!((accepted, late), (2, 3));
    assert_eq!(service.sent().len(), 3, "the first, and those two");
}

#[tokio::test]
async fn a_lane_that_wakes_up_again_looks_up_nothing() {
    let service = Service::start().await;
    let opening = at_home();
    for number in 0..3 {
        // As a lane does that has come to rest in between.
        let channel = Channel::open(&config(&service, json!({})), &opening).unwrap();
        let report = send(&channel, &format!("evt_{number}")).await;
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    }
    for action in ["GetQueueUrl", "CreateQueue", "GetQueueAttributes"] {
        assert_eq!(service.calls(action), 1, "{action}");
    }
    // Who has other credentials finds out by themselves.
    let other = json!({"secret_access_key": "hunter3"});
    let other = Channel::open(&config(&service, other), &opening).unwrap();
    send(&other, "evt_4").await;
    assert_eq!(service.calls("GetQueueUrl"), 2);
}

#[tokio::test]
async fn characters_that_sqs_rejects_arrive_as_the_same_text() {
    let service = Service::start().await;
    let channel = open(&service, json!({}));
    let mut message = message("evt_1");
    message.body = "{\"text\":\"a\u{FFFF}b\"}".into();
    assert_eq!(channel.send(&[message]).await[0].outcome, Outcome::Accepted);
    let body = service.sent().remove(0).body;
    assert_eq!(body, "{\"text\":\"a\\uffffb\"}");
}

#[tokio::test]
async fn nothing_goes_without_the_right_to_send() {
    let service = Service::start().await;
    let channel = open(&service, json!({}));
    let mut message = message("evt_1");
    message.warrant = Some(Warrant::new(|| false));
    assert_eq!(channel.send(&[message]).await[0].outcome, Outcome::Withheld);
    assert!(service.receiver.received().is_empty());
}

#[tokio::test]
async fn the_guard_is_asked_at_every_connection() {
    let service = Service::start().await;
    let guard = Arc::new(Guard::new(Allow::default()));
    let channel =
        Channel::open(&config(&service, json!({})), &Opening::new(Arc::clone(&guard))).unwrap();
    let report = send(&channel, "evt_1").await;
    assert_destination(&report);
    assert!(words(&report).contains("ZAPBUS_EGRESS_ALLOW=127.0.0.1/32"), "{report:?}");
    assert_eq!(service.receiver.connections(), 0);
    let faults = config(&service, json!({})).validate(&guard).unwrap_err();
    assert_eq!(faults[0].path, "endpoint");
}

/// Where the process below finds the service.
const ENDPOINT: &str = "SQS_ENDPOINT_OF_THE_TEST";

#[tokio::test]
#[ignore = "the next test runs it in a process whose environment has credentials"]
async fn with_the_credentials_of_the_environment() {
    let endpoint = std::env::var(ENDPOINT).unwrap();
    let config = Config::read(json!({
        "type": "sqs", "region": "sa-east-1", "endpoint": endpoint, "timeout_s": 20,
    }))
    .unwrap();
    // An account's own destination gets none of them.
    assert!(Channel::open(&config, &at_home()).is_err());
    let opening = Opening::new(Arc::new(Guard::trusted()));
    for id in ["evt_1", "evt_2"] {
        // As a lane that has come to rest in between.
        let channel = Channel::open(&config, &opening).unwrap();
        let report = send(&channel, id).await;
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    }
}

#[tokio::test]
async fn the_operators_own_destinations_use_the_credentials_of_the_machine() {
    let service = Service::start().await;
    // What a container has: credentials at an address of the machine itself, which no account's
    // destination may reach.
    let credentials = json!({
        "AccessKeyId": "AKIAEXAMPLE", "SecretAccessKey": "hunter2", "Token": "t",
        "Expiration": "2099-01-01T00:00:00Z",
    });
    let container = Receiver::start_answering(move |_| {
        Reply::with("200 OK", "content-type: application/json\r\n", &credentials.to_string())
    })
    .await;
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", "sqs::with_the_credentials_of_the_environment", "--ignored"])
        .env_clear()
        .env(ENDPOINT, service.receiver.url(""))
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.url("/credentials"))
        .env("AWS_CONFIG_FILE", "/nowhere")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(service.sent().len(), 2);
    assert_eq!(container.received().len(), 1, "they are kept while the lane rests");
}
