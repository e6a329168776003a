//! Files as they are delivered: as links, or in the body where that is asked for.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::Response;
use serde_json::{Value, json};

use super::{
    files::picture,
    products::{EVOLUTION, WUZAPI, connect},
};
use crate::{
    api::{expect_problem, text},
    server::{Gateway, Receiver, eventually, expect_json},
};

/// A picture message of wuzapi with this file in it.
fn message(id: &str, mime: &str, file: &[u8]) -> super::products::Post {
    let post = WUZAPI.post("message-image.json");
    let mut body: Value = serde_json::from_slice(&post.body).unwrap();
    body["base64"] = json!(STANDARD.encode(file));
    body["event"]["Info"]["ID"] = json!(id);
    body["event"]["Message"]["imageMessage"]["mimetype"] = json!(mime);
    post.with_body(&body)
}

async fn next(receiver: &Receiver, count: usize) -> Value {
    let got = receiver.wait_for(count).await;
    serde_json::from_slice(&got[count - 1].body).unwrap()
}

async fn fetch(gateway: &Gateway, url: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = gateway.client.get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn a_file_that_came_with_its_event_is_delivered_as_a_link() {
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    let id = connect(&gateway, WUZAPI, "shop").await;
    let only = json!({ "events": ["message.*"] });
    gateway.create_webhook("shop", &receiver.url("/hook"), only).await;
    // In the row, and in a file.
    for (count, length) in [(1, 1_000), (2, 200_000)] {
        let file = picture(u8::try_from(count).unwrap(), length);
        let post = message(&format!("3EB0{count}"), "image/jpeg", &file);
        expect_json(post.send(&gateway, &id).await, 200).await;
        let event = next(&receiver, count).await;
        let media = &event["data"]["content"]["media"];
        assert_eq!(media["state"], "url");
        assert_eq!(media["base64"], Value::Null);
        assert!(media["url_expires_at"].is_string(), "{media}");
        let url = text(media, "url");
        let place = format!("{}/media/{}/file.jpg?expires=", gateway.url, text(&event, "id"));
        assert!(url.starts_with(&place), "{url}");

        let whole = fetch(&gateway, &url, &[]).await;
        assert_eq!(whole.status(), 200);
        let header = |name: &str| whole.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "image/jpeg");
        assert!(header("content-disposition").starts_with("inline"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("content-length"), length.to_string());
        assert!(header("content-security-policy").contains("sandbox"));
        let tag = header("etag");
        assert!(whole.bytes().await.unwrap() == file, "{length}");

        let part = fetch(&gateway, &url, &[("range", "bytes=10-19")]).await;
        assert_eq!(part.status(), 206);
        let range = part.headers()["content-range"].to_str().unwrap().to_owned();
        assert_eq!(range, format!("bytes 10-19/{length}"));
        assert_eq!(part.bytes().await.unwrap(), file[10..20]);
        let end = fetch(&gateway, &url, &[("range", "bytes=-5"), ("if-range", &tag)]).await;
        assert_eq!(end.bytes().await.unwrap(), file[length - 5..]);
        let changed = [("range", "bytes=-5"), ("if-range", "\"other\"")];
        assert_eq!(fetch(&gateway, &url, &changed).await.status(), 200);
        let beyond = fetch(&gateway, &url, &[("range", "bytes=9999999-")]).await;
        expect_problem(beyond, 416, "range_beyond").await;
        assert_eq!(fetch(&gateway, &url, &[("if-none-match", &tag)]).await.status(), 304);
        let head = gateway.client.head(&url).send().await.unwrap();
        assert_eq!(head.headers()["content-length"], length.to_string().as_str());
    }
}

#[tokio::test]
async fn only_our_own_links_lead_anywhere_and_they_end() {
    let gateway = Gateway::start(|config| config.media.link_ttl_s = 3_600).await;
    let receiver = Receiver::start().await;
    let id = connect(&gateway, WUZAPI, "shop").await;
    let only = json!({ "events": ["message.*"] });
    gateway.create_webhook("shop", &receiver.url("/hook"), only).await;
    expect_json(message("A", "text/html", b"<script>").send(&gateway, &id).await, 200).await;
    let event = next(&receiver, 1).await;
    let url = text(&event["data"]["content"]["media"], "url");

    // Whatever it claims to be, nothing of it runs.
    let page = fetch(&gateway, &url, &[]).await;
    assert_eq!(page.headers()["content-type"], "application/octet-stream");
    let disposition = page.headers()["content-disposition"].to_str().unwrap();
    assert!(disposition.starts_with("attachment"), "{disposition}");

    let (place, query) = url.split_once('?').unwrap();
    let (expires, signature) = query.split_once('&').unwrap();
    let later = expires.replace(char::is_numeric, "9");
    let other = place.replace(&text(&event, "id"), "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    for forged in [
        format!("{place}?{later}&{signature}"),
        format!("{place}?{expires}&signature=00"),
        format!("{place}?{expires}&signature={}", "0".repeat(64)),
        format!("{place}?{expires}&signature=x"),
        format!("{other}?{query}"),
        format!("{}/media/x/y?{query}", gateway.url),
    ] {
        expect_problem(fetch(&gateway, &forged, &[]).await, 403, "forbidden").await;
    }
    expect_problem(fetch(&gateway, place, &[]).await, 400, "invalid_query").await;
    let renamed = place.replace("/file.bin", "/anything");
    assert_eq!(fetch(&gateway, &format!("{renamed}?{query}"), &[]).await.status(), 200);

    gateway.clock.advance(Duration::from_secs(3_600 + 120));
    let ended = expect_problem(fetch(&gateway, &url, &[]).await, 403, "forbidden").await;
    assert!(text(&ended, "detail").contains("has ended"), "{ended}");
    // What is sent again has a new one.
    let path = format!("/v1/deliveries?event_id={}", text(&event, "id"));
    let delivery = eventually("it is in the log", async || {
        gateway.read(&path).await["data"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let retried = gateway.post(&format!("/v1/deliveries/{delivery}/retry"), &json!({})).await;
    assert!(retried.status().is_success());
    let again = next(&receiver, 2).await;
    let url = text(&again["data"]["content"]["media"], "url");
    assert_eq!(fetch(&gateway, &url, &[]).await.bytes().await.unwrap(), "<script>");
}

#[tokio::test]
async fn a_file_is_in_the_body_where_that_is_asked_for() {
    let gateway = Gateway::start(|config| config.media.max_inline_bytes = 100_000).await;
    let receiver = Receiver::start().await;
    let id = connect(&gateway, WUZAPI, "shop").await;
    let more = json!({ "events": ["message.*"], "inline_media": true });
    let made = gateway.create_webhook("shop", &receiver.url("/hook"), more).await;
    assert_eq!(made["inline_media"], true);
    for (count, length, inline) in [(1, 90_000, true), (2, 110_000, false)] {
        let file = picture(u8::try_from(count).unwrap(), length);
        let post = message(&format!("3EB0{count}"), "image/jpeg", &file);
        expect_json(post.send(&gateway, &id).await, 200).await;
        let media = next(&receiver, count).await["data"]["content"]["media"].clone();
        let base64 = inline.then(|| STANDARD.encode(&file));
        assert!(media["base64"].as_str() == base64.as_deref(), "{length}");
        assert_eq!(media["state"], if inline { "inline" } else { "url" });
        let fetched = fetch(&gateway, &text(&media, "url"), &[]).await;
        assert!(fetched.bytes().await.unwrap() == file);
    }
}

#[tokio::test]
async fn every_dialect_says_where_the_file_is() {
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, WUZAPI, "shop").await;
    let mut receivers = Vec::new();
    for dialect in ["vzaps", "evolution", "ryze"] {
        let receiver = Receiver::start().await;
        let more = json!({ "dialect": dialect, "label": dialect, "events": ["message.*"] });
        gateway.create_webhook("shop", &receiver.url("/hook"), more).await;
        receivers.push((dialect, receiver));
    }
    let file = picture(9, 100_000);
    expect_json(message("A", "image/png", &file).send(&gateway, &id).await, 200).await;
    for (dialect, receiver) in receivers {
        let body = next(&receiver, 1).await;
        let media = match dialect {
            "vzaps" => &body["data"]["event"]["media_url"],
            "evolution" => &body["data"]["message"]["mediaUrl"],
            _ => &body["data"]["message"]["media"]["s3Url"],
        };
        let url = media.as_str().or_else(|| find(&body, "/media/"));
        let url = url.unwrap_or_else(|| panic!("{dialect}: {body}"));
        assert!(fetch(&gateway, url, &[]).await.bytes().await.unwrap() == file, "{dialect}");
        // Only VZaps has the file in the body without being asked.
        let has_file = body.to_string().contains(&STANDARD.encode(&file));
        assert_eq!(has_file, dialect == "vzaps", "{dialect}");
    }
}

/// The text somewhere in a document that has this in it.
fn find<'a>(value: &'a Value, part: &str) -> Option<&'a str> {
    match value {
        Value::String(text) => Some(text.as_str()).filter(|text| text.contains(part)),
        Value::Array(items) => items.iter().find_map(|item| find(item, part)),
        Value::Object(members) => members.values().find_map(|member| find(member, part)),
        _ => None,
    }
}

/// A file that Evolution posted goes to an Evolution webhook as that asks for it.
#[tokio::test]
async fn evolution_gets_a_file_of_evolution_as_it_asks_for_it() {
    let gateway = Gateway::start(|config| config.media.max_inline_bytes = 150_000).await;
    let id = connect(&gateway, EVOLUTION, "shop").await;
    let mut receivers = Vec::new();
    for inline in [true, false] {
        let receiver = Receiver::start().await;
        let more = json!({
            "dialect": "evolution", "label": format!("inline {inline}"), "inline_media": inline,
            "events": ["message.*"],
        });
        gateway.create_webhook("shop", &receiver.url("/hook"), more).await;
        receivers.push((inline, receiver));
    }
    for (count, length) in [(1, 1_000), (2, 100_000), (3, 200_000)] {
        let file = picture(u8::try_from(count).unwrap(), length);
        let post = EVOLUTION.post("messages-upsert-image.json");
        let mut body: Value = serde_json::from_slice(&post.body).unwrap();
        body["data"]["key"]["id"] = json!(format!("3EB0{count}"));
        let message = body["data"]["message"].as_object_mut().unwrap();
        message.shift_remove("mediaUrl");
        message.insert("base64".to_owned(), json!(STANDARD.encode(&file)));
        expect_json(post.with_body(&body).send(&gateway, &id).await, 200).await;
        for (inline, receiver) in &receivers {
            let got = next(receiver, count).await;
            if *inline && length <= 150_000 {
                assert!(got["data"] == body["data"], "as it came");
                continue;
            }
            let mut rest = got["data"].clone();
            let message = rest["message"].as_object_mut().unwrap();
            let link = message.shift_remove("mediaUrl").unwrap();
            let fetched = fetch(&gateway, link.as_str().unwrap(), &[]).await;
            assert!(fetched.bytes().await.unwrap() == file, "{inline} {length}");
            let mut expected = body["data"].clone();
            expected["message"].as_object_mut().unwrap().shift_remove("base64");
            assert!(rest == expected, "{rest}");
        }
    }
}

/// What goes through an Evolution bridge to an Evolution webhook is what Evolution posted.
#[tokio::test]
async fn evolution_gets_back_what_evolution_posted() {
    let gateway = Gateway::start(|_| {}).await;
    for (index, (file, _)) in EVOLUTION.expected().into_iter().enumerate() {
        let posted = EVOLUTION.post(&file);
        let body: Value = serde_json::from_slice(&posted.body).unwrap();
        let receiver = Receiver::start().await;
        let name = format!("shop {index}");
        let id = connect(&gateway, EVOLUTION, &name).await;
        let more = json!({ "dialect": "evolution", "fallback": "skip" });
        gateway.create_webhook(&id, &receiver.url("/hook"), more).await;
        expect_json(posted.send(&gateway, &id).await, 200).await;
        if file == "unknown-event.json" {
            continue;
        }
        let got = next(&receiver, 1).await;
        for member in ["event", "data", "date_time", "sender"] {
            assert_eq!(got[member], body[member], "{file}: {member}");
        }
        // And these are ours.
        assert_eq!(got["instance"], name, "{file}");
        assert_eq!(got["server_url"], gateway.url, "{file}");
        assert_eq!(got["destination"], receiver.url("/hook"), "{file}");
    }
}
