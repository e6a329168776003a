//! The ways to a receiver: TLS, proxies, and addresses that are checked.

use super::*;

#[tokio::test]
async fn tls_takes_what_both_speak() {
    let authority = Authority::new();
    let names = Names::default();
    let opening = names.opening("127.0.0.0/8");
    for (alpn, http2, expected) in [
        (&["h2", "http/1.1"][..], "auto", Ok(true)),
        (&["http/1.1"], "auto", Ok(false)),
        (&[], "auto", Ok(false)),
        (&["h2", "http/1.1"], "never", Ok(false)),
        (&["h2"], "prior_knowledge", Ok(true)),
        (&["http/1.1"], "prior_knowledge", Err(())),
    ] {
        let server = authority.server("hook.example", alpn, false);
        let receiver = Receiver::start_tls(server).await;
        let url = format!("https://hook.example:{}/", receiver.address.port());
        let config = config(&url, json!({"http2": http2, "ca_pem": authority.pem}));
        let channel = Channel::open(&config, &opening).unwrap();
        let (first, _) = tokio::join!(send(&channel, "evt_1"), send(&channel, "evt_2"));
        match expected {
            Ok(two) => {
                assert_eq!(first.outcome, Outcome::Accepted, "{alpn:?} {http2} {first:?}");
                send(&channel, "evt_3").await;
                let request = receiver.received().remove(0);
                assert_eq!(request.headers.contains_key("host"), !two, "{alpn:?} {http2}");
                if two {
                    assert_eq!(receiver.connections(), 1, "{alpn:?} {http2}");
                }
            }
            Err(()) => assert_destination(&first),
        }
    }
}

#[tokio::test]
async fn tls_trusts_only_whom_it_should() {
    let authority = Authority::new();
    let names = Names::default();
    let opening = names.opening("127.0.0.0/8");
    let receiver = Receiver::start_tls(authority.server("hook.example", &[], false)).await;
    let port = receiver.address.port();
    for (host, more, accepted) in [
        ("hook.example", json!({"ca_pem": authority.pem}), true),
        ("hook.example.", json!({"ca_pem": authority.pem}), true),
        ("hook.example", json!({}), false),
        ("hook.example", json!({"ca_pem": Authority::new().pem}), false),
        ("other.example", json!({"ca_pem": authority.pem}), false),
        ("127.0.0.1", json!({"ca_pem": authority.pem}), false),
    ] {
        let config = config(&format!("https://{host}:{port}/"), more);
        let channel = Channel::open(&config, &opening).unwrap();
        let report = send(&channel, "evt_1").await;
        assert_eq!(report.outcome == Outcome::Accepted, accepted, "{host}: {report:?}");
        if !accepted {
            assert_destination(&report);
            // A machine without authorities says that instead.
            let error = report.error.unwrap();
            assert!(
                error.ends_with("from one in `ca_pem`") || error.contains("ca-certificates"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_asks() {
    let authority = Authority::new();
    let opening = Names::default().opening("127.0.0.0/8");
    let receiver = Receiver::start_tls(authority.server("hook.example", &[], true)).await;
    let url = format!("https://hook.example:{}/", receiver.address.port());
    let (cert_pem, key_pem) = authority.issue("client.example");
    let certificate = json!({"cert_pem": cert_pem, "key_pem": key_pem});
    let more = json!({"ca_pem": authority.pem, "client_certificate": certificate});
    let channel = Channel::open(&config(&url, more), &opening).unwrap();
    let report = send(&channel, "evt_1").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    let shown = receiver.received().remove(0).client_certificate.unwrap();
    assert!(shown.windows(14).any(|window| window == b"client.example"));

    // Who has none does not get in, not even over the connection of who has.
    let channel = Channel::open(&config(&url, json!({"ca_pem": authority.pem})), &opening).unwrap();
    assert_destination(&send(&channel, "evt_2").await);
    assert_eq!(receiver.received().len(), 1);

    // A key that belongs to another certificate is a fault.
    let (_, other_key) = authority.issue("client.example");
    let wrong = json!({"client_certificate": {"cert_pem": cert_pem, "key_pem": other_key}});
    let faults = config(&url, wrong).validate(opening.guard()).unwrap_err();
    assert_eq!(faults[0].path, "client_certificate.key_pem");
}

#[tokio::test]
async fn a_proxy_gets_the_checked_address_and_the_target_its_name() {
    let names = Names::default();
    let opening = names.opening("127.0.0.0/8");
    // http: absolute-form.
    let forwarding = Receiver::start([]).await;
    let proxy = format!("http://me:hunter2@{}", forwarding.address);
    let more = json!({"proxy": proxy});
    let channel =
        Channel::open(&config("http://hook.example/hook?a", more.clone()), &opening).unwrap();
    for id in ["evt_1", "evt_2"] {
        assert_eq!(send(&channel, id).await.outcome, Outcome::Accepted);
    }
    let request = forwarding.received().remove(0);
    assert_eq!(request.target, "http://127.0.0.1:80/hook?a");
    assert_eq!(request.header("host"), "hook.example");
    assert_eq!(request.header("proxy-authorization"), "Basic bWU6aHVudGVyMg==");
    assert_eq!(forwarding.connections(), 1);
    forwarding.next(Reply::status("407 Proxy Authentication Required"));
    assert_destination(&send(&channel, "evt_3").await);

    // https: CONNECT, with the name in SNI.
    let authority = Authority::new();
    let receiver = Receiver::start_tls(authority.server("hook.example", &[], false)).await;
    let tunnel = TunnelProxy::start_http().await;
    let url = format!("https://hook.example:{}/", receiver.address.port());
    let more =
        json!({"proxy": format!("http://me:hunter2@{}", tunnel.address), "ca_pem": authority.pem});
    let channel = Channel::open(&config(&url, more), &opening).unwrap();
    let report = send(&channel, "evt_4").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    assert_eq!(
        receiver.received()[0].header("host"),
        url.trim_start_matches("https://").trim_end_matches('/')
    );
    let asked = tunnel.asked().remove(0);
    assert!(asked.starts_with(&format!("connect {} http/1.1\r\n", receiver.address)), "{asked}");
    assert!(asked.contains("proxy-authorization: basic bwu6ahvudgvymg=="), "{asked}");

    // SOCKS5.
    let receiver = Receiver::start([]).await;
    let tunnel = TunnelProxy::start_socks5().await;
    let url = format!("http://hook.example:{}/", receiver.address.port());
    let more = json!({"proxy": format!("socks5://me:hunter2@{}", tunnel.address)});
    let channel = Channel::open(&config(&url, more), &opening).unwrap();
    let report = send(&channel, "evt_5").await;
    assert_eq!(report.outcome, Outcome::Accepted, "{report:?}");
    assert_eq!(tunnel.asked(), [format!("me:hunter2 {}", receiver.address)]);
    assert_eq!(receiver.received()[0].target, "/");
}

#[tokio::test]
async fn a_proxy_does_not_help_around_the_guard() {
    let proxy = Receiver::start([]).await;
    let names = Names::default();
    let more = json!({"proxy": format!("http://{}", proxy.address)});
    // The target is refused.
    names.answers.lock().unwrap().push_back("10.0.0.5");
    let target = config("http://db.example/", more.clone());
    let channel = Channel::open(&target, &names.opening("127.0.0.0/8")).unwrap();
    let report = send(&channel, "evt_1").await;
    assert_destination(&report);
    assert!(report.error.unwrap().ends_with("ZAPBUS_EGRESS_ALLOW=db.example"));
    // The proxy itself is refused.
    let target = config("http://1.1.1.1/", more);
    let channel = Channel::open(&target, &names.opening("")).unwrap();
    let report = send(&channel, "evt_2").await;
    assert_destination(&report);
    assert!(report.error.unwrap().ends_with("ZAPBUS_EGRESS_ALLOW=127.0.0.1/32"));
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn only_the_checked_address_is_connected_to() {
    let receiver = Receiver::start([Reply::with("200 OK", "connection: close\r\n", "")]).await;
    // An address that the second answer of the name server leads to.
    let port = receiver.address.port();
    let inside = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let names = Names::default();
    names.answers.lock().unwrap().extend(["127.0.0.1", "127.0.0.2"]);
    let opening = names.opening("127.0.0.1");
    let config = config(&format!("http://rebind.example:{port}/"), json!({}));
    let channel = Channel::open(&config, &opening).unwrap();
    assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
    assert_eq!(names.asked.lock().unwrap().len(), 1, "checked and connected by one answer");
    let report = send(&channel, "evt_2").await;
    assert_destination(&report);
    assert!(report.error.unwrap().ends_with("ZAPBUS_EGRESS_ALLOW=rebind.example"));
    assert_eq!(receiver.received().len(), 1);
    // Nobody is waiting at the other address.
    let accepted =
        std::future::poll_fn(|cx| std::task::Poll::Ready(inside.poll_accept(cx).is_ready()));
    assert!(!accepted.await);
}

#[tokio::test]
async fn a_change_of_the_rules_closes_connections() {
    let receiver = Receiver::start([]).await;
    let guard = Arc::new(Guard::new("127.0.0.1".parse().unwrap()));
    let opening = Opening::new(Arc::clone(&guard));
    let config = config(&receiver.url("/"), json!({}));
    let channel = Channel::open(&config, &opening).unwrap();
    assert_eq!(send(&channel, "evt_1").await.outcome, Outcome::Accepted);
    guard.replace(Allow::default());
    let report = send(&channel, "evt_2").await;
    assert_destination(&report);
    assert!(report.error.unwrap().ends_with("ZAPBUS_EGRESS_ALLOW=127.0.0.1/32"));
    guard.replace("127.0.0.0/8".parse().unwrap());
    assert_eq!(send(&channel, "evt_3").await.outcome, Outcome::Accepted);
    assert_eq!(receiver.connections(), 2);

    // The operator's own targets are not guarded, and share nothing with the guarded ones.
    guard.replace(Allow::default());
    let trusted = opening.clone().with_guard(Arc::new(Guard::trusted()));
    let own = Channel::open(&config, &trusted).unwrap();
    assert_eq!(send(&own, "evt_4").await.outcome, Outcome::Accepted);
    assert_destination(&send(&channel, "evt_5").await);
}

/// A name server that does not answer.
struct Mute;

impl Resolver for Mute {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn connecting_has_a_time_out_of_its_own() {
    let more = json!({"connect_timeout_s": 0.1, "timeout_s": 60});
    let mute = Opening::new(Arc::new(Guard::with_resolver(Allow::default(), Mute)));
    let channel = Channel::open(&config("http://hook.example/", more.clone()), &mute).unwrap();
    let report = send(&channel, "evt_1").await;
    assert_destination(&report);
    assert!(report.error.as_ref().unwrap().contains("within 0.1 s"), "{report:?}");

    // Somebody takes the connection and does not shake hands.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let ca_pem = Authority::new().pem;
    let mut more = more;
    more["ca_pem"] = json!(ca_pem);
    let report = send(&open(&url, more), "evt_2").await;
    assert_destination(&report);
    assert!(report.error.as_ref().unwrap().contains("within 0.1 s"), "{report:?}");
}
