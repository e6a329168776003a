//! Reading the journal: pages, places to start, filters, the catalog, erasing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    api::{expect_fault, expect_problem, text},
    server::{Gateway, expect_json, text_message},
};

async fn ids(gateway: &Gateway, path: &str) -> Vec<String> {
    let page = gateway.read(path).await;
    page["data"].as_array().unwrap().iter().map(|event| text(event, "id")).collect()
}

#[tokio::test]
async fn a_reader_starts_after_an_id_a_position_a_time_or_a_page() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut posted = Vec::new();
    for index in 0..4 {
        gateway.clock.advance(std::time::Duration::from_secs(10));
        posted
            .push(gateway.post_event("shop", &text_message("1", &format!("m{index}"), "x")).await);
    }
    let expected: Vec<String> = posted[2..].iter().map(|result| text(result, "id")).collect();
    let list = "/v1/instances/shop/events?after=";
    let second = gateway.read(&format!("/v1/events/{}", text(&posted[1], "id"))).await;
    let third = gateway.read(&format!("/v1/events/{}", text(&posted[2], "id"))).await;
    for after in [text(&posted[1], "id"), posted[1]["seq"].to_string(), text(&third, "received_at")]
    {
        assert_eq!(ids(&gateway, &format!("{list}{after}")).await, expected, "after {after}");
    }
    assert_eq!(second["seq"], posted[1]["seq"]);
    // A page's end is a place to go on later.
    let page = gateway.read("/v1/instances/shop/events").await;
    assert_eq!(page["next"], Value::Null);
    let late = gateway.post_event("shop", &text_message("1", "late", "x")).await;
    let rest = ids(&gateway, &format!("{list}{}", text(&page, "cursor"))).await;
    assert_eq!(rest, [text(&late, "id")]);
    // Beyond the end there is nothing, and nothing breaks.
    for after in [u64::MAX.to_string(), format!("pos_{}", u64::MAX)] {
        assert_eq!(ids(&gateway, &format!("{list}{after}")).await, Vec::<String>::new());
    }
    let wrong = gateway.get(&format!("{list}yesterday")).await;
    expect_fault(wrong, 400, "invalid_query", "after", "RFC 3339").await;
}

#[tokio::test]
async fn a_filter_finds_few_among_many() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut batch: Vec<Value> =
        (0..1_500).map(|n| text_message("1", &format!("m{n}"), "x")).collect();
    batch.push(json!({ "type": "instance.connecting", "data": {} }));
    let answer = gateway.post("/v1/instances/shop/events", &json!(batch)).await;
    expect_json(answer, 200).await;
    let page = gateway.read("/v1/instances/shop/events?types=instance.connecting,call.*").await;
    assert_eq!(page["data"].as_array().unwrap().len(), 1, "{}", page["next"]);
    let page = gateway.read("/v1/events?types=message.received:text&limit=1000").await;
    assert_eq!(page["data"].as_array().unwrap().len(), 1_000);
    let next = text(&page, "next");
    let rest = gateway.read(&format!("/v1/events?types=message.*&limit=1000&after={next}")).await;
    assert_eq!(rest["data"].as_array().unwrap().len(), 500);
    let wrong = gateway.get("/v1/events?types=mesage.received").await;
    expect_fault(wrong, 400, "invalid_query", "types[0]", "message.received").await;
}

#[tokio::test]
async fn raw_is_given_where_it_is_asked_for() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let event = text_message("1", "m", "x");
    gateway.post_event("shop", &event).await;
    let list = "/v1/instances/shop/events?types=message.*";
    let plain = gateway.read(list).await;
    assert!(plain["data"][0].get("raw").is_none());
    let whole = gateway.read(&format!("{list}&include_raw=true")).await;
    assert_eq!(whole["data"][0]["raw"], event["data"]);
    let wrong = gateway.get(&format!("{list}&include_raw=yes")).await;
    expect_fault(wrong, 400, "invalid_query", "include_raw", "true or false").await;
    for id in ["evt_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"] {
        let unknown = gateway.get(&format!("/v1/events/{id}")).await;
        expect_problem(unknown, 404, "event_not_found").await;
    }
}

#[tokio::test]
async fn the_catalog_has_a_schema_and_a_sample_of_every_type() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let catalog = gateway.read("/v1/event-types").await;
    let types = catalog["data"].as_array().unwrap();
    assert_eq!(types.len(), zapbus_event::Kind::ALL.len());
    for entry in types {
        let name = text(entry, "type");
        assert!(!text(entry, "summary").is_empty(), "{name}");
        assert!(entry["schema"].is_object(), "{name}");
        let sample = &entry["samples"]["native"][0]["body"];
        assert_eq!(sample["type"], entry["type"], "{name}");
        if entry["operational"] == false {
            // What the catalog shows can be posted.
            let event = json!({ "type": name, "data": sample["data"] });
            gateway.post_event("shop", &event).await;
        }
    }
}

#[tokio::test]
async fn what_is_erased_leaves_no_trace() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    for (chat, id) in [("5511999990001", "a"), ("5511999990001", "b"), ("5511999990002", "c")] {
        gateway.post_event("shop", &text_message(chat, id, "secret words")).await;
    }
    let erase =
        async |body: Value| expect_json(gateway.post("/v1/erasures", &body).await, 200).await;
    let erased = erase(
        json!({ "type": "chat", "instance": "shop", "chat": "5511999990001@s.whatsapp.net" }),
    )
    .await;
    assert_eq!(erased["events"], 2);
    let left = gateway.read("/v1/events?types=message.*").await;
    assert_eq!(left["data"].as_array().unwrap().len(), 1);
    let erased =
        erase(json!({ "type": "person", "address": "5511999990002@s.whatsapp.net" })).await;
    assert_eq!(erased["events"], 1);
    gateway.post_event("shop", &text_message("1", "d", "x")).await;
    let left = gateway.read("/v1/instances/shop/events?limit=1000").await["data"].clone();
    let dry = json!({ "type": "instance", "instance": "shop", "dry_run": true });
    let counted = erase(dry).await;
    assert_eq!(counted["dry_run"], true);
    assert_eq!(counted["events"], left.as_array().unwrap().len());
    assert_eq!(gateway.read("/v1/instances/shop/events?limit=1000").await["data"], left);
    let erased = erase(json!({ "type": "instance", "instance": "shop" })).await;
    assert_eq!((&erased["dry_run"], &erased["events"]), (&json!(false), &counted["events"]));
    assert!(erased["events"].as_u64().unwrap() >= 1);
    let left = gateway.read("/v1/instances/shop/events?types=message.*").await;
    assert_eq!(left["data"], json!([]));

    for (body, at) in [
        (json!({ "type": "chat", "instance": "shop" }), "chat"),
        (json!({ "type": "person", "address": "x", "chat": "y" }), "chat"),
        (json!({ "type": "instance" }), "instance"),
        (json!({ "type": "chats" }), "type"),
    ] {
        let answer = gateway.post("/v1/erasures", &body).await;
        expect_fault(answer, 422, "invalid", at, "").await;
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let gateway = Gateway::start(|_| {}).await;
    expect_problem(gateway.get("/v1/nothing").await, 404, "route_not_found").await;
    let put = gateway.request(Method::PUT, "/v1/instances").send().await.unwrap();
    assert!(put.headers().contains_key("allow"));
    expect_problem(put, 405, "method_not_allowed").await;
    // Bytes that are no text name nothing.
    for path in ["/v1/instances/%ff", "/v1/destinations/%ff/runs/1/pause", "/sources/cloud-api/%ff"]
    {
        let post = gateway.request(Method::POST, path).send().await.unwrap();
        assert!([404, 405].contains(&post.status().as_u16()), "{path}");
    }
    expect_problem(gateway.get("/v1/instances/%ff").await, 404, "route_not_found").await;
}

#[tokio::test]
async fn a_page_is_cut_where_its_bytes_end() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let base64 = "QUJD".repeat(700_000);
    for index in 0..6 {
        let mut event = text_message("1", &format!("m{index}"), "x");
        event["data"]["content"]["extra"] = json!(format!("{base64}{index}AAA"));
        gateway.post_event("shop", &event).await;
    }
    let (mut seen, mut pages) = (Vec::new(), 0);
    let mut path = "/v1/instances/shop/events?types=message.*&limit=100".to_owned();
    loop {
        let text = gateway.get(&path).await.text().await.unwrap();
        assert!(text.len() < 12 << 20, "{} bytes", text.len());
        let page: Value = serde_json::from_str(&text).unwrap();
        let events = page["data"].as_array().unwrap();
        seen.extend(events.iter().map(|event| self::text(event, "client_id")));
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/instances/shop/events?types=message.*&limit=100&after={next}");
    }
    assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4", "m5"]);
    assert!(pages >= 2);
    gateway.stop().await;
}

#[tokio::test]
async fn a_person_is_erased_by_phone_number_as_people_write_it() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    for (chat, id) in [("15550001111", "a"), ("15550002222", "b")] {
        gateway.post_event("shop", &text_message(chat, id, "x")).await;
    }
    let erase = async |address: &str| {
        gateway.post("/v1/erasures", &json!({ "type": "person", "address": address })).await
    };
    let erased = expect_json(erase("+1 555 000 1111").await, 200).await;
    assert_eq!(erased["events"], 1);
    expect_fault(erase("Ana Souza").await, 422, "invalid", "address", "phone number").await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_id_of_somebody_elses_event_tells_no_more_than_an_unknown_one() {
    let gateway = Gateway::start(|_| {}).await;
    let account = expect_json(gateway.post("/v1/accounts", &json!({ "name": "b" })).await, 201);
    let account = text(&account.await, "id");
    let path = format!("/v1/accounts/{account}/credentials");
    let token = expect_json(gateway.post(&path, &json!({ "name": "x" })).await, 201).await;
    let caller = crate::api::Caller::new(&gateway, text(&token, "secret"));
    let mine = caller.made("/v1/instances", &json!({ "name": "mine" }), 201).await;
    let theirs = gateway.create_instance("theirs").await;
    let event = |instance: &Value, id: &str| zapbus_store::NewEvent {
        instance: text(instance, "id").parse().unwrap(),
        draft: zapbus_event::Draft::native(text_message("1", id, "x").to_string().as_bytes())
            .unwrap(),
    };
    let events = vec![event(&mine, "m"), event(&theirs, "t")];
    let append = zapbus_store::Append { events, body: None };
    let stored = gateway.app.store.append(append).await.unwrap();
    let after = async |id: &str| {
        let page = caller.get(&format!("/v1/events?types=message.*&after={id}")).await;
        expect_json(page, 200).await["data"].as_array().unwrap().len()
    };
    let unknown = zapbus_event::EventId::new(stored[1].id.timestamp(), 7).to_string();
    // In shards of their own the two may have been stored a moment apart.
    let expected = after(&unknown).await;
    assert!(expected == 1 || crate::engine::is_postgres());
    assert_eq!(after(&stored[1].id.to_string()).await, expected, "as if it were unknown");
    assert_eq!(after(&stored[0].id.to_string()).await, 0, "its own is exact");
    gateway.stop().await;
}
