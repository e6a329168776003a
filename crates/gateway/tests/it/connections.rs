//! The listener: TLS and its certificates, proxies, limits, browsers of other origins.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{Extension, Json, Router, routing::get};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls};
use zapbus_gateway::server::{Front, Server, proxy::Peer};

use crate::server::{Gateway, eventually, text_message};

/// Writes a new certificate and its key, and returns the certificate.
fn write_certificate(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

async fn connect_tls(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn address_of(gateway: &Gateway) -> SocketAddr {
    gateway.url.rsplit('/').next().unwrap().parse().unwrap()
}

/// Sends bytes and returns everything until the end of the connection.
async fn exchange(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    bytes: &[u8],
) -> String {
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // An abrupt end is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn tls_takes_new_certificates_and_keeps_old_ones_when_new_ones_are_bad() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_certificate(folder.path());
    let gateway = Gateway::start(|config| {
        config.tls.cert = Some(folder.path().join("cert.pem"));
        config.tls.key = Some(folder.path().join("key.pem"));
    })
    .await;
    assert!(gateway.app.public_url.starts_with("https://"));
    let address = address_of(&gateway);
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut stream = connect_tls(address, &first, b"http/1.1").await.unwrap();
    let answer = exchange(&mut stream, request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let stream = connect_tls(address, &first, b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    let second = write_certificate(folder.path());
    eventually("the new certificate is used", async || {
        connect_tls(address, &second, b"http/1.1").await.ok().map(drop)
    })
    .await;
    assert!(connect_tls(address, &first, b"http/1.1").await.is_err());

    std::fs::write(folder.path().join("cert.pem"), "no certificate").unwrap();
    // Longer than the gateway waits between two looks.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    connect_tls(address, &second, b"http/1.1").await.expect("the old one is still in use");

    let third = write_certificate(folder.path());
    eventually("it recovers", async || {
        connect_tls(address, &third, b"http/1.1").await.ok().map(drop)
    })
    .await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_at_the_start() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_certificate(folder.path());
    write_certificate(other.path());
    let mut command = crate::binary::command(folder.path());
    command
        .arg("check-config")
        .env("ZAPBUS_TLS_CERT", folder.path().join("cert.pem"))
        .env("ZAPBUS_TLS_KEY", other.path().join("key.pem"));
    let said = crate::binary::run(command).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stdout.contains("do not go together"), "{said:?}");
}

#[tokio::test]
async fn a_trusted_proxy_says_who_asks() {
    let gateway = Gateway::start(|_| {}).await;
    let told = async |trusted: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = get(async |Extension(peer): Extension<Peer>| {
            Json(json!({ "address": peer.address.to_string(), "https": peer.https }))
        });
        let front = Front {
            router: Router::new().route("/", echo),
            trusted_proxies: trusted.parse().into_iter().collect(),
            readiness: gateway.app.readiness.clone(),
            refuses: true,
            telemetry: gateway.app.telemetry.clone(),
        };
        let server = Server::start(listener, front, &gateway.config.http, None);
        let request = gateway
            .client
            .get(format!("http://{address}/"))
            .header("x-forwarded-for", "6.6.6.6, 203.0.113.7")
            .header("x-forwarded-proto", "https");
        let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        server.close();
        server.closed(Instant::now() + Duration::from_secs(5)).await;
        answer
    };
    assert_eq!(told("127.0.0.0/8").await, json!({ "address": "203.0.113.7", "https": true }));
    assert_eq!(told("10.0.0.0/8").await, json!({ "address": "127.0.0.1", "https": false }));
    gateway.stop().await;
}

#[tokio::test]
async fn slow_silent_and_oversized_requests_are_cut_off() {
    let gateway = Gateway::start(|config| {
        config.http.header_timeout_s = 1;
        config.http.max_header_bytes = 8_192;
    })
    .await;
    let address = address_of(&gateway);
    for start in [&b""[..], b"PRI", b"GET /healthz HTTP/1.1\r\nhost: a\r\n"] {
        let begun = SystemTime::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(10), exchange(&mut stream, start));
        let answer = answer.await.expect("it is closed");
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(begun.elapsed().unwrap() >= Duration::from_millis(900), "not before its time");
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "a".repeat(10_000));
    let answer = exchange(&mut stream, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let gateway = Gateway::start(|config| config.http.max_connections = 1).await;
    let address = address_of(&gateway);
    let request = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let first = TcpStream::connect(address).await.unwrap();
    // Connected, but nobody takes it while the first is there.
    let mut second = TcpStream::connect(address).await.unwrap();
    second.write_all(request).await.unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(300), second.read(&mut byte)).await;
    assert!(early.is_err(), "the second is not served yet");
    drop(first);
    let answer = tokio::time::timeout(Duration::from_secs(10), exchange(&mut second, b""));
    assert!(answer.await.unwrap().starts_with("HTTP/1.1 200"));
    gateway.stop().await;
}

#[tokio::test]
async fn http_2_works_without_tls() {
    let gateway = Gateway::start(|_| {}).await;
    let client: hyper_util::client::legacy::Client<_, String> =
        hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
            .http2_only(true)
            .build_http();
    let answer = client.get(format!("{}/healthz", gateway.url).parse().unwrap()).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    gateway.stop().await;
}

#[tokio::test]
async fn only_the_configured_origins_may_call() {
    let gateway = Gateway::start(|config| {
        config.cors.origins = vec!["https://app.example.com".to_owned()];
    })
    .await;
    let preflight = async |origin: &str| {
        let request = gateway
            .client
            .request(reqwest::Method::OPTIONS, format!("{}/v1/instances", gateway.url))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type");
        let answer = request.send().await.unwrap();
        let header =
            |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        (header("access-control-allow-origin"), header("access-control-allow-headers"))
    };
    let (origin, headers) = preflight("https://app.example.com").await;
    assert_eq!(origin.as_deref(), Some("https://app.example.com"));
    assert_eq!(headers.as_deref(), Some("authorization,content-type"));
    assert_eq!(preflight("https://evil.example.com").await.0, None);
    let gateway = gateway.restart_with(|config| config.cors.origins.clear()).await;
    let request = gateway
        .client
        .get(format!("{}/healthz", gateway.url))
        .header("origin", "https://app.example.com");
    let answer = request.send().await.unwrap();
    assert!(answer.headers().get("access-control-allow-origin").is_none());
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_that_takes_nothing_is_given_up() {
    let gateway = Gateway::start(|config| config.http.answer_idle_s = 1).await;
    gateway.create_instance("shop").await;
    for n in 0..8 {
        let event = text_message("1", &n.to_string(), &"x".repeat(1 << 20));
        gateway.post_event("shop", &event).await;
    }
    let open = async || {
        let metrics = gateway.client.get(format!("{}/metrics", gateway.url)).send().await.unwrap();
        let text = metrics.text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with("zapbus_http_connections "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let before = open().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(address_of(&gateway)).await.unwrap();
    let ask = format!(
        "GET /v1/instances/shop/events?limit=1000 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n",
        gateway.token()
    );
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    assert_eq!(open().await, before + 1);
    eventually("it is given up", async || (open().await <= before).then_some(())).await;
    let mut rest = Vec::new();
    // An abrupt end is an end too.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 7 << 20, "{} bytes", rest.len());
    // Whoever reads gets it all.
    let page = gateway.read("/v1/instances/shop/events?types=message.*&limit=1000").await;
    assert!(page["data"].as_array().unwrap().len() >= 7);
    gateway.stop().await;
}
