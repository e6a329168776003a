//! What becomes of an answer, or of none.

use super::*;

#[tokio::test]
async fn every_answer_has_its_outcome() {
    let soon = httpdate(now().as_secs() + 100);
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let after = |after, scope| Outcome::Retry { after, scope };
    let table = [
        (Reply::with("200 OK", "", "thanks"), Outcome::Accepted),
        (Reply::status("204 No Content"), Outcome::Accepted),
        (Reply::status("500 Internal Server Error"), retry(Scope::Event)),
        (
            Reply::with("503 Service Unavailable", "retry-after: 7\r\n", ""),
            after(seconds(7), Scope::Destination),
        ),
        (
            Reply::with("429 Too Many Requests", "retry-after: 86400\r\n", ""),
            after(seconds(3600), Scope::Destination),
        ),
        (Reply::status("410 Gone"), Outcome::Gone),
        (Reply::status("404 Not Found"), retry(Scope::Destination)),
        (Reply::status("400 Bad Request"), retry(Scope::Event)),
        // The receiver answers before the body is complete.
        (
            Reply::Write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into()),
            Outcome::Accepted,
        ),
        (
            Reply::Write("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".into()),
            Outcome::Accepted,
        ),
    ];
    let receiver = Receiver::start(table.iter().map(|(reply, _)| reply.clone())).await;
    let channel = open(&receiver.url("/"), json!({}));
    for (reply, outcome) in table {
        let report = send(&channel, "evt_1").await;
        assert_eq!(report.outcome, outcome, "{reply:?}: {report:?}");
        assert_eq!(report.error.is_none(), outcome == Outcome::Accepted, "{report:?}");
    }
    assert_eq!(receiver.connections(), 1, "all of them leave the connection in order");

    receiver.next(Reply::with("503 Service Unavailable", &format!("retry-after: {soon}\r\n"), ""));
    let Outcome::Retry { after: Some(after), .. } = send(&channel, "evt_1").await.outcome else {
        panic!("a date counts")
    };
    assert!((95..=100).contains(&after.as_secs()), "{after:?}");
}

fn httpdate(seconds: i64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
    httpdate::fmt_http_date(time)
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start([]).await;
    for status in
        ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        // Also not to an address that the guard would refuse.
        for location in [elsewhere.url("/"), "http://169.254.169.254/".to_owned()] {
            let reply = Reply::with(status, &format!("location: {location}\r\n"), "");
            let receiver = Receiver::start([reply]).await;
            let report = send(&open(&receiver.url("/"), json!({})), "evt_1").await;
            assert_eq!(report.outcome, retry(Scope::Event));
            assert!(report.error.unwrap().contains("redirects are not followed"));
            assert_eq!(receiver.received().len(), 1);
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn what_is_no_http_is_an_error_and_no_panic() {
    let many = "x-a: b\r\n".repeat(200);
    let long = format!("x-a: {}\r\n", "b".repeat(300_000));
    for text in [
        "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
        "\0\0\0\0\u{1}\u{2}\u{3}".to_owned(),
        "HTTP/1.1 abc OK\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(),
        "HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        "HTTP/1.1 500 No\r\ncontent-length: 10\r\n\r\nabc".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n".to_owned(),
        "HTTP/1.1 200".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{many}\r\n"),
        format!("HTTP/1.1 200 OK\r\n{long}\r\n"),
    ] {
        let receiver = Receiver::start([Reply::WriteAndClose(text.clone())]).await;
        let channel = open(&receiver.url("/"), json!({}));
        let report = send(&channel, "evt_1").await;
        let start = text.get(..80).unwrap_or(&text);
        assert_ne!(report.outcome, Outcome::Accepted, "{start:?}");
        assert_destination(&report);
        assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted, "{start:?}");
        assert_eq!(ids(&receiver), ["evt_1", "evt_2"], "a fresh connection is not repeated on");
    }
}

#[tokio::test]
async fn an_error_that_breaks_off_is_one_of_the_destination() {
    let head = "HTTP/1.1 500 No\r\ncontent-length: 10\r\n\r\nabc".to_owned();
    let receiver = Receiver::start([Reply::WriteAndReset(head)]).await;
    let report = send(&open(&receiver.url("/"), json!({})), "evt_1").await;
    assert_destination(&report);
    assert_eq!(report.status, Some(500));
    assert!(report.error.unwrap().starts_with("the answer broke off after 500"));
    assert_eq!(receiver.received().len(), 1);
}

#[tokio::test]
async fn what_was_accepted_stays_so_whatever_becomes_of_the_rest_of_the_answer() {
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}");
    for reply in [
        // Its `content-length` is wrong.
        Reply::WriteAndClose(head("content-length: 10\r\n\r\nabc")),
        Reply::WriteAndReset(head("content-length: 10\r\n\r\n")),
        Reply::WriteAndClose(head("transfer-encoding: chunked\r\n\r\nzz\r\n")),
        // It holds its answer open.
        Reply::Write(head("content-length: 10\r\n\r\nabc")),
        Reply::Drip(head("content-length: 60000\r\n\r\n")),
        Reply::Drip(head("transfer-encoding: chunked\r\n\r\n")),
    ] {
        // Once within the time-out, once beyond it.
        for (timeout_s, most) in [(10.0, 5), (0.2, 1)] {
            let receiver = Receiver::start([reply.clone()]).await;
            let channel = open(&receiver.url("/"), json!({"timeout_s": timeout_s}));
            let report = send(&channel, "evt_1").await;
            assert_eq!(report.outcome, Outcome::Accepted, "{reply:?}: {report:?}");
            assert_eq!((report.status, report.error), (Some(200), None), "{reply:?}");
            assert!(report.latency < Duration::from_secs(most), "{reply:?}: nobody waits for it");
            // The connection is not used again, so that the receiver notices.
            assert_eq!(send(&channel, "evt_2").await.outcome, Outcome::Accepted, "{reply:?}");
            assert_eq!(ids(&receiver), ["evt_1", "evt_2"], "{reply:?}");
            assert_eq!(receiver.connections(), 2, "{reply:?}");
            receiver.closed(1).await;
        }
    }
}

#[tokio::test]
async fn the_time_out_covers_the_whole_answer() {
    let silent = Reply::Silence;
    let dripping_head = Reply::Drip("HTTP/1.1 200 OK\r\nx-slow: ".to_owned());
    let dripping_body = Reply::Drip("HTTP/1.1 500 No\r\ncontent-length: 60000\r\n\r\n".to_owned());
    for (reply, status, error) in [
        (silent, None, "no answer within 0.2 s"),
        (dripping_head, None, "no answer within 0.2 s"),
        (dripping_body, Some(500), "the answer did not end within 0.2 s"),
    ] {
        let receiver = Receiver::start([reply]).await;
        let report = send(&open(&receiver.url("/"), json!({"timeout_s": 0.2})), "evt_1").await;
        assert_destination(&report);
        assert_eq!(report.status, status);
        assert!(report.error.as_ref().unwrap().starts_with(error), "{report:?}");
        // We hang up, so that the receiver notices.
        receiver.closed(1).await;
    }
}

#[tokio::test]
async fn the_default_time_out_is_the_openings() {
    let receiver = Receiver::start([Reply::Silence]).await;
    let config = json!({"type": "webhook", "url": receiver.url("/")});
    let config = Config::read(config).unwrap().with_defaults();
    let opening = at_home().with_timeout(Duration::from_millis(100));
    let channel = Channel::open(&config, &opening).unwrap();
    let report = send(&channel, "evt_1").await;
    assert!(report.error.unwrap().starts_with("no answer within 0.1 s"));
}

#[tokio::test]
async fn a_huge_body_is_read_only_in_part() {
    let body = "0123456789".repeat(20_000);
    let accepted = Reply::with("200 OK", "", &body);
    let failed = Reply::with("500 Internal Server Error", "", &body);
    let drained = Reply::with("500 Internal Server Error", "", &body[..60_000]);
    let receiver = Receiver::start([accepted, failed, drained]).await;
    let channel = open(&receiver.url("/"), json!({}));
    let report = send(&channel, "evt_1").await;
    assert_eq!((report.outcome, report.excerpt.len()), (Outcome::Accepted, 256));
    let report = send(&channel, "evt_2").await;
    assert_eq!((report.outcome, report.excerpt.len()), (retry(Scope::Event), 4096));
    assert_eq!(report.excerpt, &body.as_bytes()[..4096]);
    // What is short enough is read to its end, and the connection used again.
    assert_eq!(send(&channel, "evt_3").await.excerpt.len(), 4096);
    send(&channel, "evt_4").await;
    let connections: Vec<usize> =
        receiver.received().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 1, 2, 2]);
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let mut receiver = Receiver::start([]).await;
    receiver.stop().await;
    let report = send(&open(&receiver.url("/"), json!({})), "evt_1").await;
    assert_destination(&report);
    let error = report.error.unwrap();
    assert!(
        error.contains(&format!("could not connect to 127.0.0.1:{}", receiver.address.port())),
        "{error}"
    );
    assert!(error.contains("refused"), "{error}");
}
