//! A stand-in for Meta's Graph API: it says where a file lies, and hands it out, to whoever has the
//! token.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::{
    api::text,
    api_cloud_api::{post, put},
    receiver::{Received, Receiver, Reply},
    server::{Gateway, expect_json},
};

const TOKEN: &str = "EAAG-of-the-number";

/// A message with a picture: its id is in the path that is asked for.
const IMAGE: &str = include_str!("../../../../event/fixtures/cloud-api/message-image.json");

pub(super) struct Graph {
    receiver: Receiver,
    file: Vec<u8>,
    place: Arc<Mutex<String>>,
}

impl Graph {
    pub(super) async fn start(file: Vec<u8>) -> Self {
        let receiver = Receiver::start().await;
        let place = Arc::new(Mutex::new(receiver.url("")));
        let graph = Self { receiver, file, place };
        graph.recover();
        graph
    }

    /// Answers as Meta does.
    pub(super) fn recover(&self) {
        let (file, place) = (self.file.clone(), Arc::clone(&self.place));
        self.answer(move |request| {
            if !has_token(request) {
                return Reply::status(401);
            }
            match request.path.strip_prefix("/v23.0/") {
                Some(id) => {
                    let url = format!("{}/files/{id}", place.lock().unwrap());
                    let said = json!({
                        "messaging_product": "whatsapp", "url": url, "mime_type": "image/jpeg",
                        "id": id,
                    });
                    Reply::ok().body(said.to_string())
                }
                None => Reply::ok().header("content-type", "image/jpeg").body(file.clone()),
            }
        });
    }

    pub(super) fn answer(&self, script: impl Fn(&Received) -> Reply + Send + Sync + 'static) {
        self.receiver.script(script);
    }

    pub(super) fn url(&self) -> String {
        self.receiver.url("/v23.0")
    }

    /// What was asked for, and whether with the token.
    pub(super) fn asked(&self) -> Vec<(&'static str, bool)> {
        let known = |path: &str| match path {
            "/v23.0/800000000000003" => "/v23.0/800000000000003",
            "/files/800000000000003" => "/files/800000000000003",
            other => panic!("asked for {other}"),
        };
        let received = self.receiver.received();
        received.iter().map(|request| (known(&request.path), has_token(request))).collect()
    }

    /// An instance whose source has the token: its id.
    pub(super) async fn connect(&self, gateway: &Gateway, name: &str) -> String {
        let made = gateway.create_instance(name).await;
        let id = text(&made, "id");
        let source = json!({
            "type": "cloud-api", "app_secret": "app-secret", "verify_token": "verify-me",
            "phone_number_id": "900000000000101", "access_token": TOKEN,
        });
        let path = format!("/v1/instances/{id}/source");
        expect_json(put(gateway, &path, &source).await, 200).await;
        id
    }

    /// Posts the message with the picture.
    pub(super) async fn post(&self, gateway: &Gateway, id: &str) -> Value {
        let path = format!("/sources/cloud-api/{id}");
        expect_json(post(gateway, &path, "app-secret", IMAGE).await, 200).await
    }
}

fn has_token(request: &Received) -> bool {
    request.header("authorization") == Some(&format!("Bearer {TOKEN}"))
}
