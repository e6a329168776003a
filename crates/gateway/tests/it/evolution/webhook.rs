//! Setting and reading an instance's webhook, in every form.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, members, start};
use crate::server::{Receiver, text_message};

const HOOK: &str = "http://127.0.0.1:9/hook";

/// A row without what differs from one to the next.
fn plain(row: &Value) -> Value {
    let mut row = row.clone();
    for name in ["id", "createdAt", "updatedAt", "instanceId"] {
        assert!(row[name].is_string(), "{name}: {row}");
        row.as_object_mut().unwrap().shift_remove(name);
    }
    row
}

#[tokio::test]
async fn every_form_of_a_body_sets_the_same_webhook() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    let nested = json!({ "webhook": {
        "enabled": true, "url": HOOK, "byEvents": true, "base64": true,
        "events": ["MESSAGES_UPSERT", "CALL"],
    } });
    let forms = [
        nested.clone(),
        // With the names of rows, as clients read them.
        json!({ "webhook": {
            "enabled": true, "url": HOOK, "webhookByEvents": true, "webhookBase64": true,
            "events": ["MESSAGES_UPSERT", "CALL"],
        } }),
        // The first version's.
        json!({
            "url": HOOK, "webhook_by_events": true, "webhook_base64": true,
            "events": ["MESSAGES_UPSERT", "CALL"],
        }),
        // That of the description.
        json!({
            "enabled": true, "url": HOOK, "webhookByEvents": true, "webhookBase64": true,
            "events": ["MESSAGES_UPSERT", "CALL"],
        }),
        // Names in other forms, and values as texts.
        json!({ "webhook": {
            "enabled": "true", "url": HOOK, "byEvents": "true", "base64": 1,
            "events": "messages.upsert,call",
        } }),
    ];
    let mut rows = Vec::new();
    for (index, form) in forms.iter().enumerate() {
        let name = format!("shop {index}");
        client.create(&name, json!({})).await;
        let path = |verb: &str| format!("/webhook/{verb}/shop%20{index}");
        assert_eq!(client.get(&path("find")).await, Value::Null, "before it was ever set");
        let set = client.post(&path("set"), form).await;
        assert_eq!(client.get(&path("find")).await, set);
        assert_eq!(
            members(&set),
            [
                "id",
                "url",
                "headers",
                "enabled",
                "events",
                "webhookByEvents",
                "webhookBase64",
                "createdAt",
                "updatedAt",
                "instanceId"
            ]
        );
        rows.push(plain(&set));
    }
    let expected = json!({
        "url": HOOK, "headers": null, "enabled": true, "events": ["MESSAGES_UPSERT", "CALL"],
        "webhookByEvents": true, "webhookBase64": true,
    });
    for (row, form) in rows.iter().zip(&forms) {
        assert_eq!(*row, expected, "{form}");
    }
    // As a form, as some nodes of workflow tools send it.
    let form = "webhook%5Benabled%5D=true&webhook%5Burl%5D=http%3A%2F%2F127.0.0.1%3A9%2Fhook\
                &webhook%5Bevents%5D%5B%5D=CALL";
    let sent = gateway
        .client
        .post(format!("{}/webhook/set/shop%200", gateway.url))
        .header("apikey", super::KEY)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .unwrap();
    assert_eq!(crate::server::expect_json(sent, 201).await["events"], json!(["CALL"]));
    gateway.stop().await;
}

#[tokio::test]
async fn what_a_set_does_not_say() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    let set = async |webhook: Value| {
        client.post("/webhook/set/shop", &json!({ "webhook": webhook })).await
    };
    let headers = json!({ "Authorization": "Bearer mine", "X-Number": 7, "jwt_key": "hush" });
    let all = set(json!({
        "enabled": true, "url": HOOK, "byEvents": true, "base64": true, "headers": headers,
        "events": [],
    }))
    .await;
    // An empty list is all of them; so is none.
    let events = all["events"].as_array().unwrap();
    assert!(events.len() > 30 && events.contains(&json!("GROUP_UPDATE")), "{all}");
    assert_eq!(
        all["headers"],
        json!({ "Authorization": "Bearer mine", "X-Number": "7", "jwt_key": "hush" })
    );
    let again = set(json!({ "enabled": true, "url": HOOK })).await;
    assert_eq!(again["events"], all["events"]);
    for kept in ["headers", "webhookByEvents", "webhookBase64", "id", "createdAt"] {
        assert_eq!(again[kept], all[kept], "{kept}");
    }
    // Switched off, it shows no events, and needs no URL.
    for body in [
        json!({ "enabled": false, "url": HOOK, "events": ["CALL"] }),
        json!({ "enabled": false, "url": "" }),
        json!({ "enabled": false }),
    ] {
        let off = set(body).await;
        assert_eq!((&off["enabled"], &off["events"]), (&json!(false), &json!([])));
        assert_eq!(off["url"], HOOK, "it is still known");
    }
    // Both spellings of the name that upstream itself spells in two ways, and names of old.
    let on = set(json!({
        "enabled": true, "url": HOOK, "headers": {},
        "events": ["GROUPS_UPDATE", "NEW_JWT_TOKEN", "INSTANCE_CREATE", "SEND_MESSAGE_UPDATE"],
    }))
    .await;
    assert_eq!(on["events"], json!(["INSTANCE_CREATE", "SEND_MESSAGE_UPDATE", "GROUP_UPDATE"]));
    assert_eq!(on["headers"], Value::Null);
    // A webhook that was never set may be switched off.
    client.create("other", json!({})).await;
    let off = json!({ "webhook": { "enabled": false, "url": "" } });
    let row = client.post("/webhook/set/other", &off).await;
    assert_eq!((&row["enabled"], &row["url"]), (&json!(false), &json!("")));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_in_full_and_changes_nothing() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    let good = json!({ "webhook": { "enabled": true, "url": HOOK, "events": ["CALL"] } });
    let row = client.post("/webhook/set/shop", &good).await;
    let on = |more: Value| {
        let mut webhook = json!({ "enabled": true, "url": "http://127.0.0.1:9/other" });
        crate::server::merge(&mut webhook, more);
        json!({ "webhook": webhook })
    };
    for (body, said) in [
        (json!({}), json!([["instance requires property \"webhook\""]])),
        (json!({ "other": 1 }), json!([["instance requires property \"webhook\""]])),
        (json!({ "webhook": 7 }), json!([["webhook is not of a type(s) object"]])),
        (json!({ "webhook": {} }), json!([["webhook requires property \"enabled\""]])),
        (json!({ "webhook": { "enabled": true } }), json!([["webhook requires property \"url\""]])),
        (json!({ "events": [] }), json!([["instance requires property \"url\""]])),
        (
            on(json!({ "byEvents": "perhaps", "base64": [], "headers": [] })),
            json!([[
                "webhook.byEvents is not of a type(s) boolean",
                "webhook.base64 is not of a type(s) boolean",
                "webhook.headers is not of a type(s) object"
            ]]),
        ),
        (on(json!({ "events": 7 })), json!([["webhook.events is not of a type(s) array"]])),
        (on(json!({ "events": [7] })), json!([["webhook.events[0] is not of a type(s) string"]])),
        (
            on(json!({ "headers": { "X": {} } })),
            json!([["webhook.headers.X is not of a type(s) string"]]),
        ),
    ] {
        let found = client.refused(Method::POST, "/webhook/set/shop", Some(&body), 400).await;
        assert_eq!(found, said, "{body}");
    }
    let body = on(json!({ "events": ["CALL", "STARLINK"] }));
    let found = client.refused(Method::POST, "/webhook/set/shop", Some(&body), 400).await;
    let text = found[0][0].as_str().unwrap();
    let start = "webhook.events[1] is not one of enum values: APPLICATION_STARTUP,";
    assert!(text.starts_with(start), "{found}");
    for url in ["nowhere", "", "ftp://example.com/x", "/relative", "http://10.0.0.1/x"] {
        let body = on(json!({ "url": url }));
        let found = client.refused(Method::POST, "/webhook/set/shop", Some(&body), 400).await;
        assert_eq!(found[0], "Invalid \"url\" property", "{url}");
        assert!(found[1].as_str().is_some_and(|why| why.len() > 10), "{url}: {found}");
    }
    for headers in [json!({ "Host": "x" }), json!({ "a b": "x" }), json!({ "webhook-id": "1" })] {
        let body = on(json!({ "headers": headers }));
        let found = client.refused(Method::POST, "/webhook/set/shop", Some(&body), 400).await;
        assert!(found[0].as_str().unwrap().starts_with("headers."), "{found}");
    }
    let url = format!("{}/webhook/set/shop", gateway.url);
    let broken = gateway.client.post(url).header("apikey", super::KEY).body("{").send().await;
    assert!(super::message(broken.unwrap(), 400).await[0].is_string());
    assert_eq!(client.get("/webhook/find/shop").await, row);
    gateway.stop().await;
}

#[tokio::test]
async fn what_happens_while_it_is_off_is_not_sent_later() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    let set = async |enabled: bool| {
        let webhook = json!({ "enabled": enabled, "url": receiver.url("/hook"), "events": ["MESSAGES_UPSERT"] });
        client.post("/webhook/set/shop", &json!({ "webhook": webhook })).await;
    };
    set(true).await;
    gateway.post_event("shop", &text_message("5511999990001", "one", "1")).await;
    receiver.wait_for(1).await;
    set(false).await;
    gateway.post_event("shop", &text_message("5511999990001", "unheard", "2")).await;
    set(true).await;
    gateway.post_event("shop", &text_message("5511999990001", "two", "3")).await;
    let got = receiver.wait_for(2).await;
    let id = |index: usize| got[index].json()["data"]["key"]["id"].clone();
    assert_eq!((id(0), id(1)), (json!("one"), json!("two")));
    receiver.stays_at(2).await;
    gateway.stop().await;
}

#[tokio::test]
async fn it_is_a_destination_of_our_own_api_too() {
    let gateway = start().await;
    let client = Client::of(&gateway);
    client.create("shop", json!({ "webhook": { "url": HOOK, "events": ["CALL"] } })).await;
    let page = gateway.read("/v1/instances/shop/destinations").await;
    let destination = &page["data"][0];
    assert_eq!(destination["label"], "evolution/webhook");
    assert_eq!(
        (&destination["dialect"], &destination["retry"]["preset"]),
        (&json!("evolution"), &json!("evolution"))
    );
    assert!(
        destination["events"]
            .as_array()
            .unwrap()
            .iter()
            .all(|it| { it.as_str().unwrap().starts_with("call.updated") })
    );
    gateway.stop().await;
}
