use super::super::{Config, Flags, Loaded};
use super::*;

/// What is understood of these variables, with no file.
fn load(variables: &[(&str, &str)]) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zapbus.toml");
    std::fs::write(&path, "").unwrap();
    let mut environment = Environment::default();
    for (name, value) in variables {
        environment.set(name, value);
    }
    Config::load(&Flags { config: Some(path), settings: Vec::new() }, &environment)
}

fn notes(loaded: &Loaded) -> String {
    loaded.notes.iter().map(|note| note.0.clone() + "\n").collect()
}

#[test]
fn every_variable_has_a_key() {
    let loaded = load(&[
        ("SERVER_NAME", "evo"),
        ("AUTHENTICATION_API_KEY", "a-key-of-the-operator"),
        ("AUTHENTICATION_EXPOSE_IN_FETCH_INSTANCES", "true"),
        ("WEBHOOK_GLOBAL_ENABLED", "true"),
        ("WEBHOOK_GLOBAL_URL", "https://example.com/hook"),
        ("WEBHOOK_GLOBAL_WEBHOOK_BY_EVENTS", "true"),
        ("WEBHOOK_EVENTS_MESSAGES_UPSERT", "true"),
        ("WEBHOOK_EVENTS_CALL", "false"),
        ("WEBHOOK_EVENTS_GROUPS_UPDATE", "true"),
        ("WEBHOOK_EVENTS_GROUP_UPDATE", "true"),
        ("WEBHOOK_EVENTS_REMOVE_INSTANCE", "true"),
        ("WEBHOOK_EVENTS_ERRORS", "true"),
        ("WEBHOOK_EVENTS_ERRORS_WEBHOOK", "https://example.com/errors"),
        ("WEBHOOK_REQUEST_TIMEOUT_MS", "60000"),
        ("WEBHOOK_RETRY_MAX_ATTEMPTS", "3"),
        ("WEBHOOK_RETRY_INITIAL_DELAY_SECONDS", "2"),
        ("WEBHOOK_RETRY_USE_EXPONENTIAL_BACKOFF", "false"),
        ("WEBHOOK_RETRY_MAX_DELAY_SECONDS", "100"),
        ("WEBHOOK_RETRY_JITTER_FACTOR", "0.5"),
        ("WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES", "400, 404"),
        ("WEBSOCKET_ENABLED", "false"),
        ("WEBSOCKET_GLOBAL_EVENTS", "true"),
        ("WEBSOCKET_ALLOWED_HOSTS", "127.0.0.1,::1"),
    ]);
    assert_eq!(loaded.mistakes, []);
    let said = notes(&loaded);
    assert!(said.starts_with("evolution.websocket.allow_anonymous_from (WEBSOCKET_"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let evolution = loaded.config.evolution;
    assert_eq!(evolution.server_name, "evo");
    assert_eq!(evolution.api_key.unwrap().expose(), "a-key-of-the-operator");
    assert_eq!(evolution.expose_api_key, Some(true));
    let webhook = evolution.webhook;
    assert!(webhook.enabled && webhook.by_events && !webhook.exponential);
    assert_eq!(webhook.url.as_deref(), Some("https://example.com/hook"));
    assert_eq!(webhook.events, ["REMOVE_INSTANCE", "MESSAGES_UPSERT", "GROUP_UPDATE"]);
    assert_eq!(webhook.errors_url.as_deref(), Some("https://example.com/errors"));
    assert_eq!((webhook.timeout_ms, webhook.max_attempts), (60_000, 3));
    assert_eq!(webhook.final_statuses, [400, 404]);
    assert!((webhook.initial_delay_s - 2.0).abs() < 1e-9 && (webhook.jitter - 0.5).abs() < 1e-9);
    assert!((webhook.max_delay_s - 100.0).abs() < 1e-9);
    let websocket = evolution.websocket;
    assert!(!websocket.enabled && websocket.global_events);
    assert_eq!(websocket.allow_anonymous_from, ["127.0.0.1", "::1"]);
    let origin = |key: &str| {
        loaded.settings.iter().find(|setting| setting.key == key).unwrap().origin.to_string()
    };
    assert_eq!(origin("evolution.webhook.url"), "WEBHOOK_GLOBAL_URL");
    assert_eq!(origin("evolution.webhook.events"), "WEBHOOK_EVENTS_*");
    let shown = format!("{:?}", loaded.settings);
    assert!(!shown.contains("a-key-of-the-operator"), "{shown}");
}

#[test]
fn our_own_names_win_and_read_lists_of_numbers_and_optional_truths() {
    let loaded = load(&[
        ("WEBHOOK_GLOBAL_URL", "https://example.com/theirs"),
        ("ZAPBUS_EVOLUTION_WEBHOOK_URL", "https://example.com/ours"),
        ("ZAPBUS_EVOLUTION_WEBHOOK_FINAL_STATUSES", "409,410"),
        ("ZAPBUS_EVOLUTION_EXPOSE_API_KEY", "false"),
        ("ZAPBUS_EVOLUTION_WEBHOOK_EVENTS", "CALL,MESSAGES_UPSERT"),
    ]);
    assert_eq!(loaded.mistakes, []);
    let evolution = loaded.config.evolution;
    assert_eq!(evolution.webhook.url.as_deref(), Some("https://example.com/ours"));
    assert_eq!(evolution.webhook.final_statuses, [409, 410]);
    assert_eq!(evolution.webhook.events, ["CALL", "MESSAGES_UPSERT"]);
    assert_eq!(evolution.expose_api_key, Some(false));
}

#[test]
fn what_upstream_reads_as_the_default_is_the_default_here_and_said() {
    let loaded = load(&[
        ("WEBHOOK_REQUEST_TIMEOUT_MS", "0"),
        ("WEBHOOK_RETRY_MAX_ATTEMPTS", "many"),
        ("WEBHOOK_GLOBAL_WEBHOOK_BY_EVENTS", "True"),
        ("WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES", ""),
        ("WEBHOOK_RETRY_USE_EXPONENTIAL_BACKOFF", "no"),
    ]);
    assert_eq!(loaded.mistakes, []);
    let webhook = &loaded.config.evolution.webhook;
    assert_eq!((webhook.timeout_ms, webhook.max_attempts), (30_000, 10));
    assert!(!webhook.by_events && webhook.exponential);
    assert_eq!(webhook.final_statuses, [0_u16; 0], "an empty list means none");
    let said = notes(&loaded);
    for name in
        ["WEBHOOK_REQUEST_TIMEOUT_MS", "WEBHOOK_RETRY_MAX_ATTEMPTS", "WEBHOOK_GLOBAL_WEBHOOK_BY"]
    {
        assert!(said.contains(name), "{name}: {said}");
    }
}

#[test]
fn what_posts_nothing_is_said() {
    let said = notes(&load(&[("WEBHOOK_GLOBAL_ENABLED", "true")]));
    assert!(said.contains("without WEBHOOK_GLOBAL_URL") && said.contains("no WEBHOOK_EVENTS_"));
    let loaded = load(&[
        ("WEBHOOK_GLOBAL_ENABLED", "true"),
        ("WEBHOOK_GLOBAL_URL", "https://example.com"),
        ("WEBHOOK_EVENTS_STARLINK", "true"),
        ("WEBHOOK_EVENTS_ERRORS", "true"),
    ]);
    let said = notes(&loaded);
    assert!(said.contains("WEBHOOK_EVENTS_STARLINK is ignored: there is no such event"), "{said}");
    assert!(said.contains("without WEBHOOK_EVENTS_ERRORS_WEBHOOK"), "{said}");
    assert_eq!(loaded.mistakes, []);
}

#[test]
fn what_is_ignored_is_said_where_evolution_is_meant() {
    let strange = [("DATABASE_URL", "x"), ("KAFKA_ENABLED", "true"), ("LANGUAGE", "en")];
    assert_eq!(notes(&load(&strange)), "", "somebody else's");
    let mut evolutions = strange.to_vec();
    evolutions.extend([
        ("AUTHENTICATION_API_KEY", "429683C4C977415CAAFCCE10F7D57E11"),
        ("DATABASE_PROVIDER", "postgresql"),
        ("SERVER_PORT", "8080"),
        ("TELEMETRY_ENABLED", ""),
    ]);
    let said = notes(&load(&evolutions));
    assert!(said.contains("KAFKA_ENABLED is ignored: there is no Kafka channel"), "{said}");
    assert!(said.contains("DATABASE_PROVIDER and 1 more DATABASE_* are ignored"), "{said}");
    assert!(said.contains("SERVER_PORT is ignored: the port is set by listen"), "{said}");
    assert!(said.contains("stands in Evolution's documentation"), "{said}");
    assert!(!said.contains("TELEMETRY") && !said.contains("LANGUAGE"), "{said}");
}

#[test]
fn brokers_are_read_where_they_are_switched_on() {
    let loaded = load(&[
        ("RABBITMQ_ENABLED", "true"),
        ("RABBITMQ_URI", "amqp://me:hush@rabbit:5672/default"),
        ("RABBITMQ_EXCHANGE_NAME", "evolution"),
        ("RABBITMQ_PREFIX_KEY", "acme"),
        ("RABBITMQ_FRAME_MAX", "16384"),
        ("RABBITMQ_GLOBAL_ENABLED", "true"),
        ("RABBITMQ_EVENTS_GROUPS_UPDATE", "true"),
        ("RABBITMQ_EVENTS_LOGOUT_INSTANCE", "true"),
        ("RABBITMQ_EVENTS_CALL", "false"),
        ("SQS_ENABLED", "true"),
        ("SQS_REGION", "sa-east-1"),
        ("SQS_ACCESS_KEY_ID", "AKIA"),
        ("SQS_SECRET_ACCESS_KEY", "hush"),
        ("SQS_BASE_URL", "http://localhost:4566"),
        ("SQS_GLOBAL_ENABLED", "true"),
        ("SQS_GLOBAL_FORCE_SINGLE_QUEUE", "true"),
        ("SQS_GLOBAL_PREFIX_NAME", "all"),
        ("SQS_GLOBAL_MESSAGES_UPSERT", "true"),
        ("SQS_EVENTS_CALL", "true"),
        ("PUSHER_ENABLED", "true"),
        ("PUSHER_GLOBAL_ENABLED", "true"),
        ("PUSHER_GLOBAL_APP_ID", "1234"),
        ("PUSHER_GLOBAL_KEY", "k"),
        ("PUSHER_GLOBAL_SECRET", "hush"),
        ("PUSHER_GLOBAL_CLUSTER", "sa1"),
        ("PUSHER_GLOBAL_USE_TLS", "false"),
        ("PUSHER_EVENTS_QRCODE_UPDATED", "true"),
    ]);
    assert_eq!((&loaded.mistakes[..], notes(&loaded).as_str()), (&[][..], ""));
    let evolution = &loaded.config.evolution;
    let rabbitmq = &evolution.rabbitmq;
    assert!(rabbitmq.enabled && rabbitmq.global);
    assert_eq!(rabbitmq.events, ["LOGOUT_INSTANCE", "GROUP_UPDATE"]);
    assert_eq!(
        (rabbitmq.exchange.as_str(), rabbitmq.prefix.as_deref()),
        ("evolution", Some("acme"))
    );
    assert_eq!(rabbitmq.frame_max, Some(16_384));
    let sqs = &evolution.sqs;
    assert!(sqs.global && sqs.single_queue);
    assert_eq!(
        (sqs.prefix.as_str(), sqs.endpoint.as_deref()),
        ("all", Some("http://localhost:4566"))
    );
    assert_eq!(sqs.events, ["MESSAGES_UPSERT", "CALL"]);
    let pusher = &evolution.pusher;
    assert!(pusher.global && !pusher.tls);
    assert_eq!((pusher.app_id.as_deref(), pusher.cluster.as_deref()), (Some("1234"), Some("sa1")));
    let kinds: Vec<&str> =
        evolution.global_brokers().iter().map(|(channel, _)| channel.kind()).collect();
    assert_eq!(kinds, ["rabbitmq", "sqs", "pusher"]);
    assert!(!format!("{:?}", loaded.settings).contains("hush"));
}

#[test]
fn what_brokers_lack_is_said() {
    let said = notes(&load(&[("RABBITMQ_URI", "amqp://h"), ("SQS_ENABLED", "true")]));
    assert!(said.contains("RABBITMQ_URI is ignored: RABBITMQ_ENABLED is not true"), "{said}");
    assert!(said.contains("SQS_ENABLED is true without SQS_REGION"), "{said}");
    let loaded = load(&[
        ("RABBITMQ_ENABLED", "true"),
        ("RABBITMQ_GLOBAL_ENABLED", "true"),
        ("PUSHER_ENABLED", "true"),
        ("PUSHER_GLOBAL_ENABLED", "true"),
        ("PUSHER_GLOBAL_APP_ID", "1"),
        ("PUSHER_EVENTS_STARLINK", "true"),
    ]);
    let said = notes(&loaded);
    for part in [
        "RABBITMQ_GLOBAL_ENABLED is true without RABBITMQ_URI",
        "RABBITMQ_GLOBAL_ENABLED is true, and no RABBITMQ_EVENTS_… is",
        "PUSHER_GLOBAL_ENABLED is true without PUSHER_GLOBAL_KEY",
        "PUSHER_EVENTS_STARLINK is ignored: there is no such event",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(loaded.mistakes, []);
    assert!(loaded.config.evolution.global_brokers().is_empty());
    // Switched off is switched off, whatever else is there.
    let off = [("RABBITMQ_ENABLED", "false"), ("RABBITMQ_URI", "amqp://h")];
    assert!(!load(&off).config.evolution.rabbitmq.enabled);
}

#[test]
fn files_go_where_evolution_was_told_to_put_them() {
    let told = [
        ("S3_ENABLED", "true"),
        ("S3_ENDPOINT", "minio"),
        ("S3_BUCKET", "evolution"),
        ("S3_ACCESS_KEY", "AKIAEXAMPLE"),
        ("S3_SECRET_KEY", "not-a-real-one"),
        ("S3_USE_SSL", "false"),
    ];
    let loaded = load(&told);
    assert_eq!((&loaded.mistakes[..], notes(&loaded).as_str()), (&[][..], ""));
    let s3 = &loaded.config.media.s3;
    assert_eq!(s3.endpoint.as_deref(), Some("http://minio:9000"));
    assert_eq!((s3.bucket.as_deref(), s3.path_style), (Some("evolution"), Some(true)));
    assert!(!format!("{:?} {:?}", loaded.settings, loaded.config).contains("not-a-real-one"));
    let amazon = [("S3_ENDPOINT", "s3.eu-west-1.amazonaws.com"), ("S3_PORT", "443")];
    let loaded = load(&[&told[..1], &told[2..5], &amazon[..], &[("S3_USE_SSL", "true")]].concat());
    let s3 = &loaded.config.media.s3;
    assert_eq!(s3.endpoint.as_deref(), Some("https://s3.eu-west-1.amazonaws.com"));
    assert_eq!(s3.path_style, Some(false));
    // Not switched on, it says nothing.
    assert_eq!(load(&told[1..]).config.media.s3.bucket, None);
}
