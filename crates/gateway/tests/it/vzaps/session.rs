//! The session as its events told of it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, data, expect_failure, start};

#[tokio::test]
async fn what_events_said_is_what_is_known() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({})).await;
    let id = made["id"].as_str().unwrap();
    let session = |path: &str| format!("/instances/{id}/session/{path}");
    let say = |kind: &'static str, value: Value| {
        let gateway = &gateway;
        async move { gateway.post_event("shop", &json!({ "type": kind, "data": value })).await }
    };
    let status = client.read(&session("status")).await;
    assert_eq!(data(&status), &json!({ "connected": false }));
    let waiting = client.read(&session("qr")).await;
    assert_eq!(data(&waiting)["qr_code"], "");
    assert_eq!(data(&waiting)["pairing_status"], "waiting");
    let answer = client.get(&session("paircode/5511999990000")).await;
    expect_failure(answer, 409, "no_pair_code").await;

    say("instance.qr", json!({ "code": "2@abc", "expires_in_s": 20, "fetch": "inline" })).await;
    let qr = client.read(&session("qr")).await;
    let picture = data(&qr)["qr_code"].as_str().unwrap();
    assert!(picture.starts_with("data:image/svg+xml;base64,"), "{picture}");
    assert_eq!(data(&qr)["QRCode"], picture);
    assert_eq!(data(&qr)["pairing_status"], "qr_ready");
    let png = "data:image/png;base64,iVBORw0KGgo=";
    say(
        "instance.qr",
        json!({ "code": "2@abd", "image_data_url": png, "expires_in_s": 20, "fetch": "inline" }),
    )
    .await;
    assert_eq!(data(&client.read(&session("qr")).await)["qr_code"], png);
    gateway.clock.advance(Duration::from_secs(21));
    assert_eq!(data(&client.read(&session("qr")).await)["qr_code"], "");

    say("instance.pair_code", json!({ "code": "ABCD1234", "state": "issued" })).await;
    let code = client.read(&session("paircode/5511999990000")).await;
    assert_eq!(data(&code)["LinkingCode"], "ABCD1234");
    let item = client.read(&format!("/instances/{id}")).await;
    assert_eq!(item["status"], "connecting");

    let account = json!({
        "address": { "id": "5511999990000@s.whatsapp.net", "kind": "user", "phone": "5511999990000" },
        "name": "Loja", "business_name": "Loja Exemplo",
    });
    say("instance.connected", json!({ "account": account })).await;
    assert_eq!(
        data(&client.read(&session("status")).await),
        &json!({
            "connected": true,
            "phone": "5511999990000",
            "whatsapp_jid": "5511999990000@s.whatsapp.net",
            "push_name": "Loja",
            "business_name": "Loja Exemplo",
        })
    );
    let refused = client.send(Method::POST, &session("disconnect"), &json!({})).await;
    expect_failure(refused, 501, "not_offered").await;

    say("instance.logged_out", json!({ "reason": "unlinked" })).await;
    let ended = client.post(&session("disconnect"), &json!({})).await;
    assert_eq!(data(&ended)["connected"], false);
    assert_eq!(client.read(&format!("/instances/{id}")).await["status"], "disconnected");
    gateway.stop().await;
}
