//! Connections that are kept, and what is done when one has gone.

use super::*;

#[tokio::test]
async fn connections_are_used_again() {
    let receiver = Receiver::start([]).await;
    let opening = at_home();
    let channel =
        |path: &str| Channel::open(&config(&receiver.url(path), json!({})), &opening).unwrap();
    // Two destinations at one host share them.
    let (a, b) = (channel("/a"), channel("/b"));
    for round in 0..5 {
        send(&a, &format!("evt_a{round}")).await;
        send(&b, &format!("evt_b{round}")).await;
    }
    assert_eq!(receiver.received().len(), 10);
    assert_eq!(receiver.connections(), 1);
    // At the same time, each has its own; both stay.
    tokio::join!(send(&a, "evt_c"), send(&b, "evt_d"));
    tokio::join!(send(&a, "evt_e"), send(&b, "evt_f"));
    assert_eq!(receiver.connections(), 2);
    // Other identities do not share.
    let other = config(&receiver.url("/"), json!({"ca_pem": Authority::new().pem}));
    send(&Channel::open(&other, &opening).unwrap(), "evt_g").await;
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn an_idle_connection_is_given_up_when_the_receiver_says_so() {
    let reply = Reply::with("200 OK", "keep-alive: timeout=1\r\n", "");
    let receiver = Receiver::start([reply]).await;
    let channel = open(&receiver.url("/"), json!({}));
    send(&channel, "evt_1").await;
    receiver.closed(1).await;
    assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_the_receiver_closes_is_not_used_again() {
    let reply = Reply::with("200 OK", "connection: close\r\n", "");
    let receiver = Receiver::start([reply]).await;
    let channel = open(&receiver.url("/"), json!({}));
    send(&channel, "evt_1").await;
    receiver.closed(1).await;
    send(&channel, "evt_2").await;
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn a_request_on_a_closed_connection_is_repeated_as_the_same_attempt() {
    let hang_ups: [fn(String) -> Reply; 2] = [Reply::WriteAndClose, Reply::WriteAndReset];
    for hang_up in hang_ups {
        // While idle: after an answer that promised more.
        let promise = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned();
        let receiver = Receiver::start([hang_up(promise)]).await;
        let channel = open(&receiver.url("/"), json!({}));
        assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
        receiver.closed(1).await;
        assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted);
        assert_eq!(ids(&receiver), ["evt_1", "evt_2"]);

        // At the moment when the next request arrives.
        let receiver = Receiver::start([Reply::status("200 OK"), hang_up(String::new())]).await;
        let channel = open(&receiver.url("/"), json!({}));
        assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
        let report = send(&channel, "evt_2").await;
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
        assert_eq!(send(&channel, "evt_3").await.outcome, Outcome::Accepted);
        assert_eq!(ids(&receiver), ["evt_1", "evt_2", "evt_2", "evt_3"]);
        let signatures: Vec<String> = receiver.received()[1..3]
            .iter()
            .map(|request| request.header("webhook-signature").to_owned())
            .collect();
        assert_eq!(signatures[0], signatures[1], "the same attempt");
        assert_eq!(receiver.connections(), 2);

        // Once, not for ever.
        let script = [Reply::status("200 OK"), hang_up(String::new()), hang_up(String::new())];
        let receiver = Receiver::start(script).await;
        let channel = open(&receiver.url("/"), json!({}));
        send(&channel, "evt_1").await;
        assert_destination(&send(&channel, "evt_2").await);
        assert_eq!(ids(&receiver), ["evt_1", "evt_2", "evt_2"]);
    }
}

#[tokio::test]
async fn nothing_is_repeated_after_a_byte_of_the_answer() {
    // With FIN: a RST may overtake the byte, and then nobody has received it.
    let script = [Reply::status("200 OK"), Reply::WriteAndClose("H".to_owned())];
    let receiver = Receiver::start(script).await;
    let channel = open(&receiver.url("/"), json!({}));
    send(&channel, "evt_1").await;
    assert_destination(&send(&channel, "evt_2").await);
    assert_eq!(ids(&receiver), ["evt_1", "evt_2"]);
}

#[tokio::test]
async fn a_time_out_on_a_used_connection_is_not_repeated() {
    let receiver = Receiver::start([Reply::status("200 OK"), Reply::Silence]).await;
    let channel = open(&receiver.url("/"), json!({"timeout_s": 0.2}));
    send(&channel, "evt_1").await;
    assert_destination(&send(&channel, "evt_2").await);
    assert_eq!(ids(&receiver), ["evt_1", "evt_2"]);
    assert_eq!(send(&channel, "evt_3").await.outcome, Outcome::Accepted);
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn http2_without_tls() {
    let receiver = Receiver::start_http2(None, []).await;
    let channel = open(&receiver.url("/hook?a"), json!({"http2": "prior_knowledge"}));
    tokio::join!(send(&channel, "evt_1"), send(&channel, "evt_2"), send(&channel, "evt_3"));
    let report = send(&channel, "evt_4").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    assert_eq!(receiver.connections(), 1);
    let request = receiver.received().remove(0);
    assert_eq!(request.target, receiver.url("/hook?a"));
    assert!(!request.headers.contains_key("host"));

    receiver.next(Reply::status("503 Service Unavailable"));
    assert_eq!(send(&channel, "evt_5").await.outcome, retry(Scope::Destination));
}

#[tokio::test]
async fn http2_comes_back_after_its_peer() {
    let mut receiver = Receiver::start_http2(None, []).await;
    let channel = open(&receiver.url("/"), json!({"http2": "prior_knowledge", "timeout_s": 0.3}));
    assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
    receiver.stop().await;
    receiver.resume().await;
    // The connection is dead: the same attempt goes on with a fresh one.
    let report = send(&channel, "evt_2").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    assert_eq!(receiver.connections(), 2);
    // One that hangs is not used by others either.
    receiver.next(Reply::Silence);
    assert_destination(&send(&channel, "evt_3").await);
    assert_eq!(send(&channel, "evt_4").await.outcome, Outcome::Accepted);
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn order_holds_while_a_receiver_closes_connections_all_the_time() {
    // Every third request finds its connection closed.
    let script = (0..60).map(|turn| match turn % 3 {
        2 => Reply::WriteAndClose(String::new()),
        _ => Reply::status("200 OK"),
    });
    let receiver = Receiver::start(script).await;
    let channel = open(&receiver.url("/"), json!({}));
    let mut sent = Vec::new();
    for number in 0..30 {
        let id = format!("evt_{number:02}");
        let report = send(&channel, &id).await;
        assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
        assert_eq!(report.status, Some(StatusCode::OK.as_u16()));
        sent.push(id);
    }
    let mut arrived = ids(&receiver);
    assert!(arrived.len() > sent.len(), "some were repeated");
    arrived.dedup();
    assert_eq!(arrived, sent);
}
