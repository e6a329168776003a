use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn refused(url: &str) -> Option<String> {
    let guard = Guard::new(Allow::default());
    guard.check_literal(&Url::parse(url).unwrap()).err().map(|refusal| refusal.line)
}

#[test]
fn every_range_and_every_way_to_write_it_is_refused() {
    let table = [
        // Ways to write an IPv4 address.
        ("http://127.0.0.1/", "127.0.0.1/32"),
        ("http://127.1/", "127.0.0.1/32"),
        ("http://127.0.1/", "127.0.0.1/32"),
        ("http://2130706433/", "127.0.0.1/32"),
        ("http://0x7f000001/", "127.0.0.1/32"),
        ("http://0x7f.1/", "127.0.0.1/32"),
        ("http://0177.0.0.1/", "127.0.0.1/32"),
        ("http://017700000001/", "127.0.0.1/32"),
        ("http://127.0.0.1./", "127.0.0.1/32"),
        ("http://127.255.255.254/", "127.255.255.254/32"),
        ("http://%31%32%37.0.0.1/", "127.0.0.1/32"),
        ("http://①②⑦.⓪.⓪.①/", "127.0.0.1/32"),
        ("http://0/", "0.0.0.0/32"),
        // Ranges of IPv4.
        ("http://0.1.2.3/", "0.1.2.3/32"),
        ("http://10.0.0.5/", "10.0.0.5/32"),
        ("http://100.64.0.1/", "100.64.0.1/32"),
        ("http://100.127.255.255/", "100.127.255.255/32"),
        ("http://100.100.100.200/", "100.100.100.200/32"),
        ("http://168.63.129.16/", "168.63.129.16/32"),
        ("http://169.254.0.1/", "169.254.0.1/32"),
        ("http://169.254.169.254/latest/meta-data/", "169.254.169.254/32"),
        ("http://172.16.0.1/", "172.16.0.1/32"),
        ("http://172.31.255.255/", "172.31.255.255/32"),
        ("http://192.0.0.1/", "192.0.0.1/32"),
        ("http://192.0.0.192/", "192.0.0.192/32"),
        ("http://192.0.2.1/", "192.0.2.1/32"),
        ("http://192.88.99.1/", "192.88.99.1/32"),
        ("http://192.168.1.1/", "192.168.1.1/32"),
        ("http://198.18.0.1/", "198.18.0.1/32"),
        ("http://198.19.255.255/", "198.19.255.255/32"),
        ("http://198.51.100.1/", "198.51.100.1/32"),
        ("http://203.0.113.1/", "203.0.113.1/32"),
        ("http://224.0.0.1/", "224.0.0.1/32"),
        ("http://239.255.255.255/", "239.255.255.255/32"),
        ("http://240.0.0.1/", "240.0.0.1/32"),
        ("http://255.255.255.255/", "255.255.255.255/32"),
        // Ranges of IPv6.
        ("http://[::]/", "::/128"),
        ("http://[::1]/", "::1/128"),
        ("http://[0:0:0:0:0:0:0:1]/", "::1/128"),
        ("http://[fc00::1]/", "fc00::1/128"),
        ("http://[fd12:3456::1]/", "fd12:3456::1/128"),
        ("http://[fd00:ec2::254]/", "fd00:ec2::254/128"),
        ("http://[fe80::1]/", "fe80::1/128"),
        ("http://[fec0::1]/", "fec0::1/128"),
        ("http://[ff02::1]/", "ff02::1/128"),
        ("http://[2001:db8::1]/", "2001:db8::1/128"),
        ("http://[3fff::1]/", "3fff::1/128"),
        ("http://[2001:2::1]/", "2001:2::1/128"),
        ("http://[2001:20::1]/", "2001:20::1/128"),
        ("http://[100::1]/", "100::1/128"),
        ("http://[5f00::1]/", "5f00::1/128"),
        ("http://[4000::1]/", "4000::1/128"),
        // IPv4 inside IPv6, public or not.
        ("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1/128"),
        ("http://[::ffff:7f00:1]/", "::ffff:127.0.0.1/128"),
        ("http://[::ffff:8.8.8.8]/", "::ffff:8.8.8.8/128"),
        ("http://[::ffff:0:7f00:1]/", "::ffff:0:7f00:1/128"),
        ("http://[::127.0.0.1]/", "::127.0.0.1/128"),
        ("http://[::a00:5]/", "::10.0.0.5/128"),
        ("http://[64:ff9b::7f00:1]/", "64:ff9b::7f00:1/128"),
        ("http://[64:ff9b:1::a00:5]/", "64:ff9b:1::a00:5/128"),
        ("http://[2002:7f00:1::]/", "2002:7f00:1::/128"),
        ("http://[2001::7f00:1]/", "2001::7f00:1/128"),
    ];
    for (url, line) in table {
        let found = refused(url);
        // Rust prints `::a.b.c.d` in its own way; what counts is the address.
        let found: Option<IpNet> = found.map(|line| line.parse().unwrap());
        assert_eq!(found, Some(line.parse().unwrap()), "{url}");
    }
}

#[test]
fn public_addresses_and_names_pass() {
    for url in [
        "https://1.1.1.1/",
        "https://93.184.216.34/",
        "https://100.63.255.255/",
        "https://172.32.0.1/",
        "https://11.0.0.1/",
        "https://223.255.255.255/",
        "https://[2606:4700:4700::1111]/",
        "https://[2a00:1450:4001:80e::200e]/",
        "https://example.com/",
        // A name, for the moment: it is checked when it is resolved.
        "http://localhost/",
    ] {
        assert_eq!(refused(url), None, "{url}");
    }
}

#[test]
fn loopback_is_allowed_when_the_operator_is_at_home() {
    let guard = Guard::new(Allow::default().with_loopback(true));
    for (url, allowed) in [
        ("http://127.0.0.1:9/", true),
        ("http://[::1]/", true),
        ("http://[::ffff:127.0.0.1]/", false),
        ("http://10.0.0.1/", false),
    ] {
        assert_eq!(guard.check_literal(&Url::parse(url).unwrap()).is_ok(), allowed, "{url}");
    }
}

#[test]
fn a_refusal_names_the_line_that_would_allow_it() {
    let guard = Guard::new(Allow::default());
    let refusal = guard.check_literal(&Url::parse("http://10.0.0.5/").unwrap()).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "refused to connect to 10.0.0.5: it is a private address; to allow it, the operator \
         of this gateway adds it to the allow-list: ZAPBUS_EGRESS_ALLOW=10.0.0.5/32"
    );
}

struct Fixed(Vec<IpAddr>);

impl Resolver for Fixed {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

#[tokio::test]
async fn one_bad_address_refuses_the_name_and_stays_untold() {
    let both = || Fixed(vec!["1.1.1.1".parse().unwrap(), "10.9.8.7".parse().unwrap()]);
    let host = Host::parse("db.example.com").unwrap();
    let error = Guard::with_resolver(Allow::default(), both()).check(&host).await.unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("ZAPBUS_EGRESS_ALLOW=db.example.com"), "{text}");
    assert!(!text.contains("10.9.8.7"), "{text}");
    for list in ["10.0.0.0/8", "db.example.com", "*.example.com"] {
        let guard = Guard::with_resolver(list.parse().unwrap(), both());
        assert!(guard.check(&host).await.is_ok(), "{list}");
    }
}

#[tokio::test]
async fn a_name_without_addresses_is_an_error() {
    let guard = Guard::with_resolver(Allow::default(), Fixed(Vec::new()));
    let error = guard.check(&Host::parse("example.com").unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Resolve { .. }), "{error}");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,80}") {
        let _ = text.parse::<Allow>();
        if let Ok(url) = Url::parse(&format!("http://{text}/")) {
            let _ = Guard::new(Allow::default()).check_literal(&url);
        }
    }

    #[test]
    fn an_embedded_address_is_never_public(address in any::<u32>()) {
        for prefix in ["::ffff:", "64:ff9b::", "::"] {
            let text = format!("{prefix}{}", Ipv4Addr::from(address));
            prop_assert!(range(text.parse().unwrap()).is_some(), "{}", text);
        }
    }
}
