//! Who may connect to `/events/ws`, from where, and for how long.

use reqwest::Method;
use serde_json::json;

use super::{
    CLIENT_TOKEN, Client, credential,
    realtime::{Shop, shop},
    start, start_with,
};
use crate::{
    api::text,
    server::{Gateway, text_message},
    socket::Socket,
};

/// As the library of the PHP SDK says: who does so is pinged, and looked at again, every four
/// seconds.
const PHP: (&str, &str) = ("user-agent", "websocket-client-php/1.6");

async fn connect(
    url: &str,
    path: &str,
    mut headers: Vec<(&'static str, String)>,
) -> Result<Socket, (u16, String)> {
    headers.push((PHP.0, PHP.1.to_owned()));
    let refused = |(status, body): (u16, serde_json::Value)| {
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    };
    Socket::connect(url, path, &headers).await.map_err(refused)
}

async fn is_open(gateway: &Gateway, socket: &mut Socket, id: &str) {
    let event = text_message("5511999990001", id, id);
    let said = gateway.post_event("shop", &event).await;
    assert_eq!(socket.document().await["id"], said["id"], "{id}");
}

#[tokio::test]
async fn the_operators_token_is_not_taken_from_a_url_that_others_reach() {
    let gateway = start_with(|config| config.listen = "0.0.0.0:0".parse().unwrap()).await;
    let made = gateway.create_instance("shop").await;
    let url = gateway.url.replace("0.0.0.0", "127.0.0.1");
    let admin = gateway.token();
    let (id, token) = (text(&made, "id"), text(&made, "token"));
    let path = format!("/events/ws?instance_id={id}&instance_token={token}");
    let in_url = format!("{path}&access_token={admin}");
    let refused = connect(&url, &in_url, Vec::new()).await.err().unwrap();
    assert_eq!(refused, (401, "unauthorized".to_owned()));
    // Where it belongs it is taken, whatever the URL says.
    let bearer = vec![("authorization", format!("Bearer {admin}"))];
    for path in [&path, &in_url] {
        assert!(connect(&url, path, bearer.clone()).await.is_ok(), "{path}");
    }
    // The same at the other doors that take a token from a URL.
    let refused = async |path: &str| Socket::connect(&url, path, &[]).await.err().unwrap().0;
    assert_eq!(refused(&format!("/ws/shop?token={admin}")).await, 401);
    assert_eq!(refused(&format!("/shop?apikey={admin}")).await, 400);
    assert_eq!(refused(&format!("/?apikey={admin}")).await, 400);
    let socket_io = format!("/socket.io/?EIO=4&transport=websocket&apikey={admin}");
    assert_eq!(refused(&socket_io).await, 403);
    gateway.stop().await;

    // On this machine a URL is seen by nobody else.
    let gateway = start().await;
    let made = gateway.create_instance("shop").await;
    let (id, token, admin) = (text(&made, "id"), text(&made, "token"), gateway.token());
    let path = format!("/events/ws?instance_id={id}&instance_token={token}&access_token={admin}");
    let mut socket = connect(&gateway.url, &path, Vec::new()).await.ok().unwrap();
    is_open(&gateway, &mut socket, "one").await;
    gateway.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_kept_out_where_that_is_asked_for() {
    let gateway = start_with(|config| {
        config.realtime.origins = vec!["https://app.example.com".to_owned()];
    })
    .await;
    let shop = shop(&gateway).await;
    let path = shop.query("&events=Message");
    let from = |origin: &str| vec![("origin", origin.to_owned())];
    let refused = connect(&gateway.url, &path, from("https://evil.example.com")).await.err();
    assert_eq!(refused, Some((403, "forbidden".to_owned())));
    for headers in [from("https://app.example.com"), Vec::new()] {
        assert!(connect(&gateway.url, &path, headers).await.is_ok());
    }
    gateway.stop().await;
}

/// Every way in ends with the credential that led there.
#[tokio::test]
async fn whoever_has_lost_its_credential_is_let_go() {
    let gateway = start().await;
    let made = credential(&gateway, "default").await;
    let (client_token, secret) = (text(&made, "client_token"), text(&made, "secret"));
    let client = Client::with(&gateway, &client_token, &secret).await;
    let Shop { id, token, .. } = shop(&gateway).await;
    let path = format!("/events/ws?instance_id={id}&instance_token={token}&events=Message");
    let jwt = &client.jwt;
    let mut sockets = Vec::new();
    for (name, path) in [
        ("an access token", format!("{path}&access_token={jwt}")),
        ("a client token", format!("{path}&client_token={client_token}")),
        ("a token of our own", format!("{path}&access_token={secret}")),
    ] {
        let opened = connect(&gateway.url, &path, Vec::new()).await;
        let socket = opened.unwrap_or_else(|refused| panic!("{name}: {refused:?}"));
        sockets.push((name, path, socket));
    }
    let other = format!("{path}&client_token={CLIENT_TOKEN}");
    let mut stays = connect(&gateway.url, &other, Vec::new()).await.ok().unwrap();
    is_open(&gateway, &mut stays, "one").await;
    for (name, _, socket) in &mut sockets {
        assert_eq!(socket.document().await["type"], "Message", "{name}");
    }

    let revoke = format!("/v1/accounts/default/credentials/{}", text(&made, "id"));
    let revoked = gateway.request(Method::DELETE, &revoke).send().await.unwrap();
    assert_eq!(revoked.status(), 204);
    for (name, path, mut socket) in sockets {
        let (code, reason) = socket.closed().await;
        assert_eq!((code, reason.as_str()), (1008, "the token is not valid any more"), "{name}");
        let refused = connect(&gateway.url, &path, Vec::new()).await.err();
        assert_eq!(refused, Some((401, "unauthorized".to_owned())), "{name}");
    }
    is_open(&gateway, &mut stays, "still there").await;

    // And with the instance's token, which its holder may have lost too.
    let rotate = gateway.request(Method::PATCH, &format!("/v1/instances/{id}"));
    let rotated = rotate.json(&json!({ "rotate_token": true })).send().await.unwrap();
    assert_eq!(rotated.status(), 200);
    assert_eq!(stays.closed().await.0, 1008);
    gateway.stop().await;
}
