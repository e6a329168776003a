use super::*;

#[test]
fn a_uri_keeps_only_what_is_understood() {
    let table = [
        ("amqp://me:p%40@h:5672/v", None, "amqp://me:p%40@h:5672/v"),
        ("amqp://h/v?connection_timeout=3&heartbeat=5", None, "amqp://h/v?heartbeat=5"),
        ("amqp://h/v?frame_max=9", Some(8_192), "amqp://h/v?frame_max=8192"),
        ("nonsense", Some(8_192), "nonsense"),
    ];
    for (uri, frame_max, expected) in table {
        assert_eq!(cleaned(uri, frame_max), expected, "{uri}");
    }
}

#[test]
fn what_is_not_configured_says_what_is_to_be_done() {
    let brokers = of_instances(&Rabbitmq::default(), &Sqs::default(), &Pusher::default());
    let said = brokers.rabbitmq.unwrap_err().to_string();
    assert!(said.contains("RABBITMQ_URI") && said.contains("RabbitMQ"), "{said}");
    assert_eq!(brokers.sqs.unwrap_err(), NO_SQS);
    assert_eq!(brokers.pusher, Ok(None), "an instance brings its own app");
    let region = Some("sa-east-1".to_owned());
    let global = Sqs { region, global: true, ..Sqs::default() };
    let off = Pusher { enabled: false, ..Pusher::default() };
    let uri = Some(Secret::new("amqp://h"));
    let brokers = of_instances(&Rabbitmq { uri, ..Rabbitmq::default() }, &global, &off);
    assert!(brokers.rabbitmq.is_ok());
    assert_eq!((brokers.sqs.unwrap_err(), brokers.pusher.unwrap_err()), (GLOBAL_SQS, NO_PUSHER));
}

#[test]
fn global_channels_are_those_that_are_asked_for_whole() {
    let events = vec!["CALL".to_owned()];
    let uri = Some(Secret::new("amqp://h"));
    let rabbitmq = Rabbitmq { uri, global: true, events: events.clone(), ..Rabbitmq::default() };
    let sqs = Sqs {
        region: Some("sa-east-1".to_owned()),
        access_key_id: Some("AKIA".to_owned()),
        secret_access_key: Some(Secret::new("hush")),
        global: true,
        single_queue: true,
        ..Sqs::default()
    };
    let pusher = Pusher { global: true, events, ..Pusher::default() };
    assert_eq!(check(&rabbitmq, &sqs, &Pusher::default()), []);
    let found = of_all(&rabbitmq, &sqs, &pusher);
    let kinds: Vec<&str> = found.iter().map(|(channel, _)| channel.kind()).collect();
    assert_eq!(kinds, ["rabbitmq"], "no events of SQS, and no app of Pusher");
}

#[test]
fn what_is_wrong_is_found_by_key_and_repeats_no_secret() {
    let rabbitmq = Rabbitmq {
        uri: Some(Secret::new("http://me:hush@h")),
        exchange: "amq.topic".to_owned(),
        names: NamesOf::Documentation,
        global: true,
        events: vec!["NOPE".to_owned()],
        ..Rabbitmq::default()
    };
    let sqs = Sqs {
        region: Some("nowhere at all".to_owned()),
        endpoint: Some("here".to_owned()),
        access_key_id: Some("AKIA".to_owned()),
        ..Sqs::default()
    };
    let pusher = Pusher { global: true, port: Some(6001), ..Pusher::default() };
    let found = check(&rabbitmq, &sqs, &pusher);
    let keys: Vec<&str> = found.iter().map(|(key, _)| *key).collect();
    let expected = [
        "rabbitmq.uri",
        "rabbitmq.exchange",
        "rabbitmq.global",
        "rabbitmq.events",
        "sqs.region",
        "sqs.secret_access_key",
        "sqs.endpoint",
        "pusher.app_id",
        "pusher.key",
        "pusher.secret",
        "pusher.port",
    ];
    assert_eq!(keys, expected);
    assert!(!format!("{found:?}").contains("hush"));
}
