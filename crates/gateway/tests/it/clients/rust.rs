//! `zapbus-client` against a real gateway.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::Mutex;
use zapbus_client::{
    Client, Delivery, Error, Item, NewEvent, Published, Subscription, model,
    resources::ListDeliveries,
    vzaps::{self, Watch},
};

use crate::{
    binary::Served,
    receiver::{PATIENCE, Receiver},
    server::{ADMIN_TOKEN, Gateway, eventually},
};

fn client(url: &str) -> Client {
    Client::builder(url).token(ADMIN_TOKEN).build().unwrap()
}

fn message(id: &str, chat: &str) -> NewEvent {
    let chat = json!({ "id": chat, "kind": "user" });
    let mut event = NewEvent::new(
        "message.received",
        json!({
            "message": { "id": id, "chat": chat["id"], "from_me": false },
            "chat": chat, "sender": chat, "content": { "kind": "text", "body": id },
        }),
    );
    event.id = Some(id.to_owned());
    event
}

fn messages(name: &str, count: usize) -> Vec<NewEvent> {
    (0..count)
        .map(|n| message(&format!("{name}{n}"), &format!("{}@s.whatsapp.net", n % 3)))
        .collect()
}

async fn publish(client: &Client, name: &str, count: usize) -> Vec<String> {
    let published = client.publish("shop", messages(name, count)).await.unwrap();
    published.iter().map(|it| it.id().unwrap().to_owned()).collect()
}

async fn delivery(subscription: &mut Subscription) -> Delivery {
    let item = tokio::time::timeout(PATIENCE, subscription.next()).await;
    match item.expect("something comes").expect("it goes on").unwrap() {
        Item::Delivery(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn resources_pages_and_publishing() {
    let gateway = Gateway::start(|_| {}).await;
    let client = client(&gateway.url);
    let body = model::CreateInstance { name: "shop".to_owned(), ..Default::default() };
    let made = client.instances().idempotency_key("once").create(&body).await.unwrap();
    let again = client.instances().idempotency_key("once").create(&body).await.unwrap();
    assert_eq!((&made.id, made.token.is_some()), (&again.id, true));
    let taken = client.instances().create(&body).await.unwrap_err();
    assert_eq!((taken.status(), taken.code()), (Some(409), Some("already_exists")));
    for number in 0..4 {
        let body = model::CreateInstance { name: format!("n{number}"), ..Default::default() };
        client.instances().create(&body).await.unwrap();
    }
    let mut pages = client.instances().list().limit(2);
    let mut sizes = Vec::new();
    while let Some(page) = pages.next_page().await.unwrap() {
        sizes.push(page.data.len());
    }
    assert_eq!(sizes, [2, 2, 1]);

    // More than fit into one request, one of them twice, one of them wrong.
    let mut events = messages("m", 1_200);
    events.push(message("m7", "1@s.whatsapp.net"));
    events.push(NewEvent::new("no.such.type", json!({})));
    let published = client.publish("shop", events).await.unwrap();
    assert_eq!(published.len(), 1_202);
    assert!(
        matches!(&published[1_200], Published::Stored { duplicate: true, id, .. } if Some(id.as_str()) == published[7].id())
    );
    assert!(
        matches!(&published[1_201], Published::Refused(problem) if problem.status == 400 || problem.status == 422),
        "{:?}",
        published[1_201]
    );
    let query = zapbus_client::resources::ListInstanceEvents {
        types: Some("message.*".to_owned()),
        ..Default::default()
    };
    let listed = client.events().list("shop", &query).limit(500).all().await.unwrap();
    assert_eq!(listed.len(), 1_200);
    assert!(
        listed
            .iter()
            .zip(&published)
            .all(|(event, published)| Some(event.id.as_str()) == published.id())
    );
    let one = client.events().get(&listed[0].id).await.unwrap();
    assert_eq!((one.kind.as_str(), one.instance.name.as_str()), ("message.received", "shop"));
    client.instances().delete("n0").await.unwrap();
    let gone = client.instances().get("n0").await.unwrap_err();
    assert_eq!(gone.code(), Some("instance_not_found"));
}

#[tokio::test]
async fn destinations_and_their_deliveries() {
    let gateway = Gateway::start(|_| {}).await;
    let client = client(&gateway.url);
    gateway.create_instance("shop").await;
    let receiver = Receiver::start().await;
    let channel = model::ChannelConfig::Webhook(model::WebhookChannel {
        url: receiver.url("/hook"),
        ..Default::default()
    });
    let body = model::CreateDestination { channel, ..Default::default() };
    let destination = client.destinations().create_for("shop", &body).await.unwrap();
    let Some(model::ChannelConfig::Webhook(webhook)) = &destination.channel else {
        panic!("{destination:?}")
    };
    let secret = webhook.secret.clone().unwrap();
    let [id] = publish(&client, "m", 1).await.try_into().unwrap();
    let [request] = receiver.wait_for(1).await.try_into().unwrap();
    let verifier = zapbus_client::WebhookVerifier::new([secret]).unwrap();
    let event: zapbus_client::Event = verifier.unwrap(&request.body, &request.headers).unwrap();
    assert_eq!(event.id, id);
    eventually("it is in the log", async || {
        let query = ListDeliveries { event_id: Some(id.clone()), ..Default::default() };
        let found = client.deliveries().list(&query).all().await.unwrap();
        found.iter().any(|delivery| delivery.status == "delivered").then_some(())
    })
    .await;
    client.destinations().delete(&destination.id).await.unwrap();
}

#[tokio::test]
async fn a_named_subscription_goes_on_where_it_was() {
    let gateway = Gateway::start(|_| {}).await;
    let client = client(&gateway.url);
    gateway.create_instance("shop").await;
    let open = || client.subscribe("shop").named("crm").types(["message.*"]).open();
    let mut subscription = open().await.unwrap();
    let ids = publish(&client, "a", 4).await;
    let mut held = Vec::new();
    for id in &ids {
        let delivery = delivery(&mut subscription).await;
        assert_eq!(delivery.id(), Some(id.as_str()));
        assert_eq!(delivery.event().unwrap().data["content"]["kind"], "text");
        held.push(delivery);
    }
    // Three are done, in any order; what was dropped comes again.
    drop(held.remove(1));
    for delivery in held {
        delivery.ack().unwrap();
    }
    subscription.close().await;
    let away = publish(&client, "b", 2).await;
    let mut subscription = open().await.unwrap();
    for id in [&ids[1], &away[0], &away[1]] {
        let delivery = delivery(&mut subscription).await;
        assert_eq!(delivery.id(), Some(id.as_str()));
        delivery.ack().unwrap();
    }
    assert!(subscription.lag().unwrap() < Duration::from_secs(60));
    subscription.close().await;
}

#[tokio::test]
async fn what_is_handed_back_comes_again_and_what_is_rejected_does_not() {
    let gateway = Gateway::start(|_| {}).await;
    let client = client(&gateway.url);
    gateway.create_instance("shop").await;
    // By itself nothing comes again here.
    let wanted = client.subscribe("shop").named("crm").types(["message.*"]);
    let mut subscription = wanted.ack_wait(Duration::from_secs(3_600)).open().await.unwrap();
    let ids = publish(&client, "a", 2).await;
    delivery(&mut subscription).await.nack(Some(Duration::from_millis(20))).unwrap();
    delivery(&mut subscription).await.reject().unwrap();
    let again = delivery(&mut subscription).await;
    assert_eq!((again.id(), again.is_again()), (Some(ids[0].as_str()), true));
    again.ack().unwrap();
    eventually("one is dead", async || {
        let all = client.realtime().subscribers(&Default::default()).all().await.unwrap();
        let shown = client.realtime().subscriber(&all[0].id).await.unwrap();
        let dead = shown.dead.iter().any(|dead| dead.event_id.as_ref() == Some(&ids[1]));
        (dead && shown.unacked == 0).then_some(())
    })
    .await;
    subscription.close().await;
}

#[tokio::test]
async fn a_wrong_token_and_an_unknown_instance_are_said_at_once() {
    let gateway = Gateway::start(|_| {}).await;
    let wrong = Client::builder(&gateway.url).token("wrong").build().unwrap();
    let refused = wrong.subscribe("shop").open().await.unwrap_err();
    assert!(refused.is_authentication(), "{refused}");
    let refused = client(&gateway.url).subscribe("shop").open().await.unwrap_err();
    assert_eq!(refused.code(), Some("instance_not_found"));
}

#[tokio::test]
async fn subscriptions_outlive_a_gateway_that_is_killed_again_and_again() {
    const KILLS: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    // One port for all its lives.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut served = start(folder.path(), &address.to_string()).await;
    let client = client(&served.url);
    let body = model::CreateInstance { name: "shop".to_owned(), ..Default::default() };
    let made = client.instances().create(&body).await.unwrap();

    let quick = |subscribe: zapbus_client::Subscribe| {
        subscribe
            .types(["message.*"])
            .retry_pauses(Duration::from_millis(10), Duration::from_millis(200))
    };
    let mut readers = Vec::new();
    for subscribe in
        [client.subscribe("shop").named("crm"), client.subscribe("shop"), client.subscribe_all()]
    {
        let mut subscription = quick(subscribe).open().await.unwrap();
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let kept = seen.clone();
        let reader = tokio::spawn(async move {
            while let Some(item) = subscription.next().await {
                if let Some(delivery) = item.unwrap().delivery() {
                    kept.lock().await.insert(delivery.id().unwrap().to_owned());
                    delivery.ack().unwrap();
                }
            }
        });
        readers.push((reader, seen));
    }
    let realtime = vzaps::Client::builder(CLIENT_TOKEN, CLIENT_SECRET)
        .base_url(&served.url)
        .realtime_url(served.url.replace("http", "ws"))
        .build()
        .unwrap();
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let (kept, is_open) = (seen.clone(), Arc::new(tokio::sync::Notify::new()));
    let opened = is_open.clone();
    let watch = Watch::new(&made.id, made.token.unwrap())
        .events(["Message"])
        .retry_delay(Duration::from_millis(10));
    let subscription = realtime.events().subscribe(watch);
    subscription.on_open(move || opened.notify_one());
    subscription.on("Message", move |event| {
        let kept = kept.clone();
        async move {
            kept.lock().await.insert(event.id);
            Ok(())
        }
    });
    subscription.open();
    tokio::time::timeout(PATIENCE, is_open.notified()).await.unwrap();

    let mut stored = Vec::new();
    let mut number = 0;
    for _ in 0..=KILLS {
        for _ in 0..15 {
            number += 1;
            let event = message(&format!("m{number}"), &format!("{}@s.whatsapp.net", number % 5));
            let published = client.publish("shop", [event]).await.unwrap();
            stored.push(published[0].id().unwrap().to_owned());
        }
        if stored.len() < 15 * (KILLS + 1) {
            served.kill().await;
            served = start(folder.path(), &address.to_string()).await;
        }
    }
    for (who, seen) in readers.iter().map(|(_, seen)| seen).chain([&seen]).enumerate() {
        eventually(&format!("{who} misses nothing"), async || {
            let seen = seen.lock().await;
            stored.iter().all(|id| seen.contains(id)).then_some(())
        })
        .await;
    }
    subscription.close().await;
    for (reader, _) in readers {
        assert!(!reader.is_finished());
        reader.abort();
    }
    served.kill().await;
}

const CLIENT_TOKEN: &str = "client-of-the-tests";
const CLIENT_SECRET: &str = "secret-of-the-client-of-the-tests";

async fn start(folder: &std::path::Path, address: &str) -> Served {
    Served::start_at(folder, address, |command| {
        command
            .env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("ZAPBUS_BOOTSTRAP_CLIENT_TOKEN", CLIENT_TOKEN)
            .env("ZAPBUS_BOOTSTRAP_CLIENT_SECRET", CLIENT_SECRET)
            .env("ZAPBUS_REALTIME_MAX_DELIVERIES", "1000");
    })
    .await
}

#[tokio::test]
async fn errors_are_said_in_the_words_of_the_gateway() {
    let gateway = Gateway::start(|_| {}).await;
    let error = client(&gateway.url).instances().create(&model::CreateInstance::default()).await;
    let Err(Error::Refused(problem)) = error else { panic!("{error:?}") };
    assert_eq!(problem.faults[0].path, "name");
}
