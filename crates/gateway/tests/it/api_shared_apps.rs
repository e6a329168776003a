//! Meta's webhook where accounts share an app, or the URL.

use serde_json::json;

use crate::{
    api::expect_problem,
    api_cloud_api::{BATCH, TEXT, post, reserved, tenant, types},
    server::{Gateway, expect_json},
};

const URL: &str = "/sources/cloud-api";

/// A change of the whole business account, each time another one.
fn template(name: &str) -> String {
    json!({ "object": "whatsapp_business_account", "entry": [{
        "id": "900000000000001",
        "time": 1_767_225_617,
        "changes": [{ "field": "message_template_status_update", "value": {
            "event": "APPROVED",
            "message_template_id": 1,
            "message_template_name": name,
            "message_template_language": "en",
            "reason": "NONE",
        }}],
    }]})
    .to_string()
}

#[tokio::test]
async fn a_business_account_is_remembered_over_a_restart() {
    let gateway = Gateway::start(|_| {}).await;
    let first = tenant(&gateway, "first", "shared", None).await;
    let second = tenant(&gateway, "second", "shared", Some("900000000000101")).await;
    expect_json(post(&gateway, URL, "shared", TEXT).await, 200).await;
    expect_json(post(&gateway, URL, "shared", &template("before")).await, 200).await;
    assert_eq!(reserved(&gateway, &second).await, ["template.updated"]);

    let gateway = gateway.restart().await;
    expect_json(post(&gateway, URL, "shared", &template("after")).await, 200).await;
    expect_json(post(&gateway, URL, "shared", &template("again")).await, 200).await;
    assert_eq!(reserved(&gateway, &second).await.len(), 3);
    assert_eq!(reserved(&gateway, &first).await, Vec::<String>::new());
    gateway.stop().await;
}

#[tokio::test]
async fn a_business_account_follows_its_number_to_another_account() {
    let gateway = Gateway::start(|_| {}).await;
    let first = tenant(&gateway, "first", "shared", Some("900000000000109")).await;
    let second = tenant(&gateway, "second", "shared", Some("900000000000101")).await;
    expect_json(post(&gateway, URL, "shared", TEXT).await, 200).await;
    // One of the same business account, seen later, is the other account's.
    gateway.clock.advance(std::time::Duration::from_secs(1));
    let moved = TEXT.replace("900000000000101", "900000000000109").replace("wamid.", "wamid.X");
    expect_json(post(&gateway, URL, "shared", &moved).await, 200).await;
    let gateway = gateway.restart().await;
    expect_json(post(&gateway, URL, "shared", &template("after")).await, 200).await;
    assert_eq!(reserved(&gateway, &first).await, ["template.updated"]);
    assert_eq!(reserved(&gateway, &second).await, Vec::<String>::new());
    gateway.stop().await;
}

#[tokio::test]
async fn strangers_cannot_keep_out_those_we_know() {
    let gateway = Gateway::start(|_| {}).await;
    for index in 0..30 {
        let number = (index == 29).then_some("900000000000101");
        tenant(&gateway, &format!("t{index}"), &format!("secret-{index}"), number).await;
    }
    // A post that names nobody may be anybody's.
    let unknown = BATCH.replace("9000000000", "7000000000");
    expect_json(post(&gateway, URL, "secret-17", &unknown).await, 200).await;
    let large = format!("{unknown}{}", " ".repeat(2 << 20));
    let mut refused = None;
    for _ in 0..100 {
        let answer = post(&gateway, URL, "nobody's", &large).await;
        match answer.status().as_u16() {
            401 => {}
            _ => {
                refused = Some(answer);
                break;
            }
        }
    }
    let refused = refused.expect("there is an end to what a stranger may cost");
    assert!(refused.headers().contains_key("retry-after"));
    expect_problem(refused, 503, "busy").await;
    expect_json(post(&gateway, URL, "secret-29", TEXT).await, 200).await;
    assert_eq!(types(&gateway, "of t29").await, ["message.received"]);
    gateway.stop().await;
}
