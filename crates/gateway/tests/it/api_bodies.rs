//! Bodies that are large or slow: what they may take, and for how long.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::{Gateway, Receiver, Reply, eventually, expect_json, text_message};

const PATH: &str = "/v1/instances/shop/events";

/// A request that has sent its head and these bytes of its body, and now waits.
async fn begin(gateway: &Gateway, head: &str, bytes: usize) -> TcpStream {
    let address = gateway.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let token = gateway.token();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n{head}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b' '; bytes]).await.unwrap();
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
    // An abrupt end is an end too.
    let _ = read.await.expect("it is answered");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A valid event of about so many bytes.
fn large_event(id: &str, bytes: usize) -> Value {
    text_message("5511999990001", id, &"x".repeat(bytes))
}

async fn readiness(gateway: &Gateway) -> Option<String> {
    let response = gateway.client.get(format!("{}/readyz", gateway.url)).send().await.unwrap();
    let answer: Value = response.json().await.unwrap();
    answer["reason"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_body_that_stands_still_is_answered_408() {
    let gateway = Gateway::start(|config| config.http.body_idle_s = 1).await;
    gateway.create_instance("shop").await;
    let stream = begin(&gateway, "content-length: 1000", 10).await;
    let answer = answer(stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"code\":\"slow_body\""), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_that_trickles_has_an_end_too() {
    let gateway = Gateway::start(|config| config.http.body_timeout_s = 2).await;
    gateway.create_instance("shop").await;
    let stream = begin(&gateway, "content-length: 1000", 1).await;
    let (mut read, mut write) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut start = [0; 12];
    let answered = tokio::time::timeout(Duration::from_secs(10), read.read_exact(&mut start));
    answered.await.expect("it is answered").unwrap();
    assert_eq!(&start, b"HTTP/1.1 408");
    trickle.abort();
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_only_announced_takes_no_room() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut waiting = Vec::new();
    for head in ["transfer-encoding: chunked", "content-length: 16000000"] {
        for _ in 0..16 {
            waiting.push(begin(&gateway, head, 0).await);
        }
    }
    let posted = gateway.post(PATH, &large_event("m1", 1 << 20)).await;
    expect_json(posted, 200).await;
    drop(waiting);
    gateway.stop().await;
}

#[tokio::test]
async fn readiness_sees_that_there_is_no_room_and_that_it_is_back() {
    let gateway = Gateway::start(|config| config.http.body_idle_s = 6).await;
    gateway.create_instance("shop").await;
    assert_eq!(readiness(&gateway).await, None);
    let head = "content-length: 16777216";
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(begin(&gateway, head, 16_777_215).await);
    }
    eventually("it is busy", async || {
        (readiness(&gateway).await.as_deref() == Some("busy")).then_some(())
    })
    .await;
    eventually("it is ready again", async || readiness(&gateway).await.is_none().then_some(()))
        .await;
    drop(waiting);
    gateway.stop().await;
}

#[tokio::test]
async fn strangers_do_not_take_the_room_of_others() {
    let gateway = Gateway::start(|config| config.http.body_idle_s = 20).await;
    gateway.create_instance("shop").await;
    let stranger = async |bytes: usize| {
        let address = gateway.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /sources/cloud-api HTTP/1.1\r\nhost: {address}\r\nx-hub-signature-256: sha256={}\r\n\
             content-length: 3000000\r\n\r\n",
            "0".repeat(64)
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // Refused on the way, it cannot be written to its end.
        let _ = stream.write_all(&vec![b' '; bytes]).await;
        stream
    };
    // Nobody has an app here: nothing is read at all.
    let answered = answer(stranger(0).await).await;
    assert!(answered.starts_with("HTTP/1.1 404"), "{answered}");

    let app = json!({ "type": "cloud-api", "app_secret": "app-secret", "verify_token": "v" });
    let put = gateway.request(reqwest::Method::PUT, "/v1/source").json(&app);
    expect_json(put.send().await.unwrap(), 200).await;
    // More than their room, and than what is left of the others' room for an event.
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(stranger(2_999_999).await);
    }
    let refused = async || {
        let metrics = format!("{}/metrics", gateway.url);
        let text = gateway.client.get(metrics).send().await.unwrap().text().await.unwrap();
        let busy = text.lines().any(|line| {
            line.contains("route=\"/sources/cloud-api\"") && line.contains("status=\"503\"")
        });
        busy.then_some(())
    };
    eventually("their room is full", refused).await;
    assert_eq!(readiness(&gateway).await, None);
    expect_json(gateway.post(PATH, &large_event("m1", 1 << 20)).await, 200).await;
    drop(waiting);
    gateway.stop().await;
}

#[tokio::test]
async fn readiness_sees_that_too_much_waits_for_the_disk() {
    // Room for one append at a time.
    let gateway = Gateway::start(|config| config.store.queue_bytes = 1).await;
    gateway.create_instance("shop").await;
    let done = std::sync::atomic::AtomicBool::new(false);
    let posts = futures_util::future::join_all((0..16).map(|caller| {
        let (gateway, done) = (&gateway, &done);
        async move {
            for n in 0.. {
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                let event = large_event(&format!("{caller}-{n}"), 10_000);
                assert!([200, 503].contains(&gateway.post(PATH, &event).await.status().as_u16()));
            }
        }
    }));
    let watch = async {
        eventually("it is busy", async || {
            (readiness(&gateway).await.as_deref() == Some("busy")).then_some(())
        })
        .await;
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(posts, watch);
    assert_eq!(readiness(&gateway).await, None);
    gateway.stop().await;
}

#[tokio::test]
async fn an_array_of_too_many_events_is_refused_before_it_takes_memory() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let body = format!("[{}1]", "1,".repeat(8_000_000));
    let answer = gateway.request(reqwest::Method::POST, PATH).body(body).send().await.unwrap();
    let problem = expect_json(answer, 413).await;
    assert_eq!(problem["code"], "too_many_events");
    gateway.stop().await;
}

#[tokio::test]
async fn a_slow_request_does_not_take_the_time_that_sends_have_to_finish() {
    let gateway = Gateway::start(|config| config.shutdown.deadline_s = 30).await;
    let receiver = Receiver::scripted(|_| Reply::ok().after(Duration::from_millis(1_500))).await;
    gateway.create_instance("shop").await;
    gateway.create_webhook("shop", &receiver.url("/"), json!({ "events": ["message.*"] })).await;
    gateway.post_event("shop", &text_message("5511999990001", "m1", "hello")).await;
    receiver.wait_for(1).await;
    let slow = begin(&gateway, "content-length: 1000", 10).await;
    let mut gateway = gateway;
    let begun = std::time::Instant::now();
    let stopping = gateway.begin_stop();
    let answer = answer(slow).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("draining"), "{answer}");
    stopping.await.unwrap().unwrap();
    // Long before the deadline.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // What was being sent when it began was settled: it is not sent again.
    let gateway = gateway.restart_stopped().await;
    receiver.stays_at(1).await;
    gateway.stop().await;
}
