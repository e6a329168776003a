//! What upstreams posted, as it goes out.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};
use zapbus_event::{
    Data, Event, Kind, Raw, SourceKind,
    dialect::Options,
    sample,
    shape::{Body, Content, Media, MediaContent, MediaKind, MediaState},
    source::{Decoded, cloud_api, evolution, waha, wuzapi},
};

use super::{event, live, parts, written};

/// What each fixture of an upstream becomes.
fn everything(folder: &str, decode: impl Fn(&[u8]) -> Decoded) -> serde_json::Map<String, Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("expected.json"))
        .collect();
    files.sort();
    let mut all = serde_json::Map::new();
    for path in files {
        let decoded = decode(&fs::read(&path).unwrap());
        let bodies = decoded.events.into_iter().map(|routed| {
            let draft = routed.draft;
            let data = Data::parse(draft.kind, &draft.data).unwrap();
            let at = draft.occurred_at.unwrap_or(event(&data).occurred_at);
            let event =
                Event { occurred_at: at, source: draft.source, raw: draft.raw, ..event(&data) };
            let bodies = parts(&event, &live()).into_iter();
            bodies
                .map(|part| serde_json::from_slice::<Value>(&part.body).unwrap()["data"].clone())
                .collect::<Value>()
        });
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        all.insert(name, bodies.collect());
    }
    all
}

#[test]
fn everything_that_meta_posts() {
    insta::assert_json_snapshot!(everything("cloud-api", cloud_api::decode));
}

#[test]
fn everything_that_evolution_posts() {
    insta::assert_json_snapshot!(everything("evolution", |body| evolution::decode(body, None)));
}

#[test]
fn everything_that_wuzapi_posts() {
    insta::assert_json_snapshot!(everything("wuzapi", |body| wuzapi::decode(body, None)));
}

#[test]
fn everything_that_waha_posts() {
    insta::assert_json_snapshot!(everything("waha", waha::decode));
}

const WUZAPI: &str = r#"{
  "type": "Message",
  "event": {
    "Info": {
      "Chat": "5511999990001@s.whatsapp.net", "Sender": "5511999990001@s.whatsapp.net",
      "IsFromMe": false, "IsGroup": false, "SenderAlt": "", "ID": "3EB0WUZFIX00004",
      "ServerID": 0, "Type": "media", "PushName": "Ana Exemplo",
      "Timestamp": "2026-01-01T09:00:04-03:00", "MediaType": "image", "VerifiedName": null
    },
    "Message": {"imageMessage": {"URL": "https://mmg.example.invalid/f.enc",
      "mimetype": "image/jpeg", "fileSHA256": "3Zf0", "fileEncSHA256": "9aB1",
      "mediaKey": "a2V5", "directPath": "/v/f.enc"}},
    "IsEdit": false,
    "RawMessage": {"imageMessage": {"mimetype": "image/jpeg"}}
  },
  "userID": "1"
}"#;

fn from(kind: SourceKind, raw: &'static str) -> Event {
    let Data::MessageReceived(mut received) = sample(Kind::MessageReceived) else { panic!() };
    let mut media = Media::new(MediaKind::Image, "image/jpeg", MediaState::EncryptedUrl);
    media.url = Some("https://mmg.example.invalid/f.enc".to_owned());
    received.content = Content::new(Body::Image(MediaContent { media, caption: None }));
    let mut event = event(&Data::MessageReceived(received));
    event.source.kind = kind;
    event.raw = Raw::Bytes(Bytes::from_static(raw.as_bytes()));
    event
}

#[test]
fn an_event_of_the_same_family_is_passed_on_with_its_keys_rewritten() {
    insta::assert_json_snapshot!(written(&from(SourceKind::Wuzapi, WUZAPI), &live())["data"]);
}

#[test]
fn what_decrypts_a_file_is_found_in_any_upstreams_element() {
    let evolution = r#"{"data":{"message":{"imageMessage":{"mediaKey":"a2V5","directPath":"/v/f",
        "fileEncSha256":"9aB1","url":"https://mmg.example.invalid/f.enc"}}}}"#;
    for (kind, raw) in [(SourceKind::Evolution, evolution), (SourceKind::Wuzapi, WUZAPI)] {
        let event = from(kind, raw);
        let image = |options| {
            written(&event, &options)["data"]["event"]["message"]["image_message"].clone()
        };
        assert_eq!(image(live())["media_key"], "a2V5", "{kind:?}");
        assert_eq!(image(live())["file_enc_sha256"], "9aB1", "{kind:?}");
        let without = image(Options { media_key: false, ..live() });
        assert_eq!((without.get("media_key"), without.get("direct_path")), (None, None));
        assert_eq!(without["mimetype"], "image/jpeg");
    }
}

#[test]
fn an_element_of_no_known_shape_is_no_reason_to_fail() {
    for raw in ["", "7", "{", r#"{"mediaKey":7}"#, r#"{"event":{"Info":7,"Message":{}}}"#] {
        for kind in [SourceKind::Wuzapi, SourceKind::Evolution, SourceKind::Waha] {
            let body = written(&from(kind, raw), &live());
            assert_eq!(body["data"]["event"]["info"]["id"], json!("3EB0SAMPLE0000000001"));
        }
    }
}
