//! Frames that every SDK can take.

use serde_json::{Value, json};
use zapbus_event::{
    Data, Event, Kind, Raw,
    dialect::Options,
    sample,
    shape::{Body, Content, Media, MediaContent, MediaKind, MediaState},
};

use super::{event, live, parts, posted, written};

const MAX_FRAME: usize = 1_000_000;

fn image(base64: usize, caption: usize, thumbnail: usize) -> Event {
    let Data::MessageReceived(mut received) = sample(Kind::MessageReceived) else { panic!() };
    let mut media = Media::new(MediaKind::Image, "image/jpeg", MediaState::Inline);
    media.base64 = Some("A".repeat(base64));
    media.thumbnail_base64 = Some("B".repeat(thumbnail));
    media.url = Some("https://media.example/f.jpg".to_owned());
    let caption = Some("c".repeat(caption));
    received.content = Content::new(Body::Image(MediaContent { media, caption }));
    event(&Data::MessageReceived(received))
}

fn frame(event: &Event) -> Value {
    let parts = parts(event, &live());
    assert!(parts[0].body.len() <= MAX_FRAME, "{}", parts[0].body.len());
    serde_json::from_slice(&parts[0].body).unwrap()
}

#[test]
fn what_fits_is_whole() {
    let data = &frame(&image(900_000, 10, 10_000))["data"];
    assert_eq!(data["base64"].as_str().unwrap().len(), 900_000);
    assert!(data.get("truncated").is_none());
}

#[test]
fn files_go_first() {
    let data = &frame(&image(999_990, 10, 20))["data"];
    assert!(data.get("base64").is_none());
    let message = &data["event"]["message"]["image_message"];
    assert!(message.get("jpeg_thumbnail").is_none());
    assert_eq!(message["caption"], "cccccccccc");
    assert_eq!(data["media_url"], "https://media.example/f.jpg");
    assert_eq!(data["truncated"], true);
}

#[test]
fn what_says_which_event_it_is_stays_to_the_end() {
    let big = image(10, 1_100_000, 10);
    let data = &frame(&big)["data"];
    assert_eq!(data["truncated"], true);
    assert_eq!(data["type"], "Message");
    assert_eq!(data["event"]["info"]["id"], "3EB0SAMPLE0000000001");
    assert_eq!(data["event"]["info"]["chat"], "5511999990001@s.whatsapp.net");
    assert!(data["event"].get("message").is_none());
    // What is posted has no such limit.
    assert!(parts(&big, &posted())[0].body.len() > 1_100_000);
}

#[test]
fn an_upstreams_element_gives_way_too() {
    let mut event = event(&sample(Kind::MessageReceived));
    event.raw = Raw::Bytes(format!("\"{}\"", "r".repeat(1_100_000)).into());
    let options = Options { include_raw: true, ..live() };
    let body = written(&event, &options);
    assert_eq!(body["data"].get("raw"), None);
    assert_eq!(body["data"]["truncated"], json!(true));
    let whole = written(&event, &Options { live: false, ..options });
    assert_eq!(whole["data"]["raw"].as_str().unwrap().len(), 1_100_000);
}
