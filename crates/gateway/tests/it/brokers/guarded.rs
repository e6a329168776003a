//! Brokers that an account names pass the egress guard, whichever channel leads to them.

use serde_json::{Value, json};

use super::{broker::Broker, create};
use crate::server::{Gateway, Receiver, expect_json};

/// A gateway that lets nobody reach its own machine.
async fn gateway() -> Gateway {
    let gateway = Gateway::start(|config| config.egress.allow = vec!["192.0.2.1".into()]).await;
    gateway.create_instance("shop").await;
    gateway
}

#[tokio::test]
async fn an_internal_address_is_refused_when_it_is_set() {
    let gateway = gateway().await;
    for (channel, path, line) in [
        (
            json!({ "type": "rabbitmq", "uri": "amqp://user:hunter2@10.0.0.5/events" }),
            "channel.uri",
            "ZAPBUS_EGRESS_ALLOW=10.0.0.5/32",
        ),
        (
            json!({ "type": "rabbitmq", "uri": "amqps://user:hunter2@[::ffff:127.0.0.1]" }),
            "channel.uri",
            "ZAPBUS_EGRESS_ALLOW=",
        ),
        (
            json!({
                "type": "sqs", "region": "sa-east-1", "endpoint": "http://169.254.169.254",
                "access_key_id": "AKIAEXAMPLE", "secret_access_key": "hunter2",
            }),
            "channel.endpoint",
            "ZAPBUS_EGRESS_ALLOW=169.254.169.254/32",
        ),
        (
            json!({
                "type": "pusher", "app_id": "1", "key": "k", "secret": "hunter2", "host": "127.0.0.1",
            }),
            "channel.host",
            "ZAPBUS_EGRESS_ALLOW=127.0.0.1/32",
        ),
        (
            // What the machine itself is allowed to do is for its operator.
            json!({ "type": "sqs", "region": "sa-east-1" }),
            "channel.access_key_id",
            "credentials of the machine",
        ),
    ] {
        let body = json!({ "channel": channel });
        let refused = gateway.post("/v1/instances/shop/destinations", &body).await;
        let refused = expect_json(refused, 422).await.to_string();
        assert!(refused.contains(path) && refused.contains(line), "{channel}: {refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_when_it_is_connected_to() {
    let gateway = gateway().await;
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    let port = receiver.url("").rsplit(':').next().unwrap().to_owned();
    let number: u16 = port.parse().unwrap();
    let channels: [Value; 3] = [
        json!({ "type": "rabbitmq", "uri": broker.uri().replace("127.0.0.1", "localhost") }),
        json!({
            "type": "sqs", "region": "sa-east-1", "endpoint": format!("http://localhost:{port}"),
            "access_key_id": "AKIAEXAMPLE", "secret_access_key": "hunter2",
        }),
        json!({
            "type": "pusher", "app_id": "1", "key": "k", "secret": "hunter2", "host": "localhost",
            "port": number, "tls": false,
        }),
    ];
    for (number, channel) in channels.iter().enumerate() {
        let made = create(&gateway, channel, &json!({ "label": number.to_string() })).await;
        let test = format!("/v1/destinations/{}/test", made["id"].as_str().unwrap());
        let tested = expect_json(gateway.post(&test, &json!({})).await, 200).await;
        assert_eq!(tested["ok"], false, "{channel}: {tested}");
        let said = tested.to_string();
        assert!(said.contains("ZAPBUS_EGRESS_ALLOW=localhost"), "{channel}: {said}");
    }
    assert_eq!(broker.connections(), 0);
    assert!(receiver.received().is_empty());
    gateway.stop().await;
}
