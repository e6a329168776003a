//! Forms, and files that come with a message.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::products::{EVOLUTION, Post, SECRET, WAHA, WUZAPI, connect};
use crate::{
    api::expect_problem,
    server::{Gateway, expect_json},
};

/// Bytes of a picture, different ones for each seed.
pub(crate) fn picture(seed: u8, length: usize) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// A multipart body with a message and its file, signed as wuzapi does: over the JSON of the
/// fields.
fn multipart(file: &[u8]) -> Post {
    let mut message: Value =
        serde_json::from_slice(&WUZAPI.post("message-image.json").body).unwrap();
    for name in ["base64", "mimeType", "fileName"] {
        message.as_object_mut().unwrap().shift_remove(name);
    }
    let text = message.to_string();
    let mut body = Vec::new();
    for (name, value) in [("jsonData", text.as_str()), ("userID", "1"), ("instanceName", "a<b")] {
        let part = format!(
            "--BOUNDARY\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(
        b"--BOUNDARY\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n",
    );
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--BOUNDARY--\r\n");
    let signed = json!({ "instanceName": "a<b", "jsonData": text, "userID": "1" }).to_string();
    let signed = signed.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    WUZAPI
        .post("message-image.json")
        .with_bytes(&body)
        .with_content_type("multipart/form-data; boundary=BOUNDARY")
        .unsigned()
        .with_header("x-hmac-signature", &WUZAPI.sign(SECRET, signed.as_bytes()))
}

/// The media of the only message of an instance.
async fn media(gateway: &Gateway, id: &str) -> Value {
    let page = gateway.read(&format!("/v1/instances/{id}/events?types=message.*")).await;
    let events = page["data"].as_array().unwrap();
    assert_eq!(events.len(), 1, "{page}");
    events[0]["data"]["content"]["media"].clone()
}

#[tokio::test]
async fn a_file_beside_the_fields_is_the_file_of_the_message() {
    let gateway = Gateway::start(|_| {}).await;
    // In the row, and in a file.
    for length in [100, 300_000] {
        let id = connect(&gateway, WUZAPI, &format!("of {length}")).await;
        let file = picture(1, length);
        let post = multipart(&file);
        assert_eq!(expect_json(post.send(&gateway, &id).await, 200).await["stored"], 1);
        assert_eq!(expect_json(post.send(&gateway, &id).await, 200).await["stored"], 0);
        let media = media(&gateway, &id).await;
        assert_eq!(media["kind"], "image");
        assert_eq!(media["file_name"], "a.jpg");
        assert_eq!(media["state"], "inline", "{media}");
        assert_eq!(media["base64"], STANDARD.encode(&file));
    }
    let forged = multipart(b"x").with_bytes(b"--BOUNDARY\r\n--BOUNDARY--");
    expect_problem(forged.send(&gateway, "of 100").await, 401, "wrong_signature").await;
}

#[tokio::test]
async fn a_file_may_be_larger_than_an_event() {
    let gateway = Gateway::start(|_| {}).await;
    let file = STANDARD.encode(picture(2, 5 << 20));
    for (product, body) in [
        (EVOLUTION, {
            let mut body: Value =
                serde_json::from_slice(&EVOLUTION.post("messages-upsert-image.json").body).unwrap();
            body["data"]["message"]["base64"] = json!(file);
            body
        }),
        (WUZAPI, {
            let mut body: Value =
                serde_json::from_slice(&WUZAPI.post("message-image.json").body).unwrap();
            body["base64"] = json!(file);
            body
        }),
        (WAHA, {
            let mut body: Value =
                serde_json::from_slice(&WAHA.post("message-image.json").body).unwrap();
            body["payload"]["media"]["data"] = json!(file);
            body
        }),
    ] {
        let id = connect(&gateway, product, product.name).await;
        let post = product.post(&product.expected()[0].0);
        let answer = expect_json(post.with_body(&body).send(&gateway, &id).await, 200).await;
        assert_eq!(answer["stored"], 1, "{}", product.name);
        let media = media(&gateway, &id).await;
        assert_eq!(media["state"], "inline", "{}", product.name);
        assert!(media["base64"] == file.as_str(), "{}", product.name);
    }
}
