//! The same for VZaps's realtime events.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use zapbus_client::{
    Error,
    vzaps::{Client, EventSubscription, Watch},
};

use crate::server::{PATIENCE, Server, Step};

fn event(id: &str, kind: &str) -> Step {
    Step::Say(json!({
        "id": id, "type": kind, "instance_id": "VZ1", "created_at": "2026-01-01T00:00:00.000Z",
        "data": { "type": kind },
    }))
}

fn client(server: &Server) -> Client {
    Client::builder("client-token", "client-secret")
        .base_url(server.url())
        .realtime_url(server.url().replace("http", "ws"))
        .build()
        .unwrap()
}

fn watch() -> Watch {
    Watch::new("VZ1", "instance-token")
        .events(["Message", "All"])
        .retry_delay(Duration::from_millis(1))
}

async fn ended(subscription: &EventSubscription) -> Result<(), Error> {
    tokio::time::timeout(PATIENCE, subscription.wait_closed()).await.expect("it ends")
}

#[tokio::test]
async fn acks_follow_the_handlers_and_failures_are_told() {
    let script = vec![
        event("evt_1", "Message"),
        event("evt_2", "Message"),
        event("evt_3", "Weather"),
        event("evt_4", "Message"),
        Step::Hear("ack"),
        Step::Hear("ack"),
        Step::Close(1001),
    ];
    let server = Server::start([script]).await;
    let subscription = client(&server).events().subscribe(watch());
    let (seen, told) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let lives = Arc::new(Mutex::new(Vec::new()));
    let order = seen.clone();
    subscription.on("Message", move |event| {
        order.lock().unwrap().push(event.id.clone());
        async move {
            match event.id.as_str() {
                "evt_2" => Err("not now".into()),
                "evt_4" => panic!("oh"),
                _ => Ok(()),
            }
        }
    });
    let order = seen.clone();
    subscription.on("All", move |event| {
        order.lock().unwrap().push(format!("All {}", event.kind));
        async { Ok(()) }
    });
    let errors = told.clone();
    subscription.on_error(move |trouble| errors.lock().unwrap().push(trouble.to_string()));
    let (opens, closes) = (lives.clone(), lives.clone());
    subscription.on_open(move || opens.lock().unwrap().push("open"));
    subscription.on_close(move || closes.lock().unwrap().push("close"));
    subscription.open();
    server.until("it comes back", |log| log.urls.len() == 2).await;
    subscription.close().await;
    ended(&subscription).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(*seen, ["evt_1", "All Message", "evt_2", "All Weather", "evt_4"]);
    assert_eq!(server.told("ack"), ["evt_1", "evt_3"]);
    let told = told.lock().unwrap();
    assert!(told[0].contains("evt_2: not now") && told[1].contains("panicked"), "{told:?}");
    assert_eq!(lives.lock().unwrap()[..2], ["open", "close"]);
    let log = server.log.lock().unwrap();
    // The one that failed is not passed over, and no credential is in the URL.
    assert_eq!(log.urls[1], "/events/ws?instance_id=VZ1&events=Message%2CAll&last_event_id=evt_1");
    assert_eq!(log.tokens, ["Bearer jwt1", "Bearer jwt1"]);
}

#[tokio::test]
async fn an_access_token_that_is_refused_is_exchanged_once() {
    let script = [
        vec![Step::Refuse(401)],
        vec![Step::Close(1008)],
        vec![Step::Refuse(401)],
        vec![Step::Refuse(401)],
    ];
    let server = Server::start(script).await;
    let subscription = client(&server).events().subscribe(watch());
    subscription.open();
    let error = ended(&subscription).await.unwrap_err();
    assert!(error.is_authentication(), "{error}");
    let log = server.log.lock().unwrap();
    let tokens: Vec<&str> = log.tokens.iter().map(|token| &token[7..]).collect();
    assert_eq!(tokens, ["jwt1", "jwt2", "jwt2", "jwt3"]);
}

#[tokio::test]
async fn a_limit_on_attempts_holds_from_the_first_one_on() {
    let server = Server::start([]).await;
    let client = client(&server);
    drop(server);
    let subscription = client.events().subscribe(watch().max_retries(2));
    let told = Arc::new(Mutex::new(0));
    let count = told.clone();
    subscription.on_error(move |_| *count.lock().unwrap() += 1);
    subscription.open();
    assert!(matches!(ended(&subscription).await, Err(Error::GaveUp { attempts: 3, .. })));
    assert_eq!(*told.lock().unwrap(), 3);
}

#[tokio::test]
async fn frames_that_are_no_events_are_told_and_do_no_harm() {
    let script = vec![
        Step::Babble("hello"),
        Step::Say(json!({ "type": "Message" })),
        Step::Say(Value::Null),
        event("evt_1", "Message"),
        Step::Hold,
    ];
    let server = Server::start([script]).await;
    let subscription = client(&server).events().subscribe(watch());
    let told = Arc::new(Mutex::new(0));
    let count = told.clone();
    subscription.on_error(move |_| *count.lock().unwrap() += 1);
    subscription.open();
    server.until("the event is acknowledged", |log| !log.said.is_empty()).await;
    assert_eq!((server.told("ack"), *told.lock().unwrap()), (vec!["evt_1".to_owned()], 3));
    // Asked for by a handler, the end does not wait for that handler.
    subscription.close().await;
}
