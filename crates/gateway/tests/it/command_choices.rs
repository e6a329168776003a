//! What the API does, the command line does too.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    command_line::{asked, zapbus},
    server::{Gateway, Receiver, text_message},
};

/// The command for each operation of the API; none where there is nothing for a person to do.
const COMMANDS: &[(&str, &str)] = &[
    ("change_account", "account update"),
    ("change_destination", "destination update"),
    ("change_instance", "instance update"),
    ("change_run", "replay pause"),
    ("create_account", "account create"),
    ("create_credential", "credential create"),
    ("create_destination", "destination create"),
    ("create_instance", "instance create"),
    ("create_instance_destination", "destination create"),
    ("create_ticket", "ticket"),
    ("delete_account", "account delete"),
    ("delete_destination", "destination delete"),
    ("delete_instance", "instance delete"),
    ("delete_subscriber", "subscriber delete"),
    ("erase", "erase chat"),
    ("expire_credential", "credential expire"),
    ("list_accounts", "account list"),
    ("list_audit", "audit"),
    ("list_backups", "backup list"),
    ("list_credentials", "credential list"),
    ("list_deliveries", "deliveries"),
    ("list_destinations", "destination list"),
    ("list_event_types", "event types"),
    ("list_events", "event list"),
    ("list_instance_destinations", "destination list"),
    ("list_instance_events", "event list"),
    ("list_instances", "instance list"),
    ("list_runs", "replay list"),
    ("list_subscribers", "subscriber list"),
    ("pause_destination", "destination pause"),
    ("post_events", "event post"),
    ("redecode", "redecode"),
    ("rekey", "rekey"),
    ("replay_destination", "replay"),
    ("resume_destination", "destination resume"),
    ("retry_deliveries", "deliveries retry"),
    ("retry_delivery", "deliveries retry"),
    ("retry_subscriber", "subscriber retry"),
    ("revoke_credential", "credential revoke"),
    ("rotate_credential", "credential rotate"),
    ("rotate_destination_secret", "destination rotate-secret"),
    ("set_account_source", "account source set"),
    ("set_source", "instance source set"),
    ("show_account", "account show"),
    ("show_account_source", "account source show"),
    ("show_backup", "backup show"),
    ("show_cluster", "cluster"),
    ("show_delivery", "deliveries show"),
    ("show_destination", "destination show"),
    ("show_destination_statistics", "destination statistics"),
    ("show_event", "event show"),
    ("show_health", "doctor"),
    ("show_instance", "instance show"),
    ("show_instance_statistics", "instance statistics"),
    ("show_run", "replay show"),
    ("show_source", "instance source show"),
    ("show_subscriber", "subscriber show"),
    ("stream_all", "tail"),
    ("stream_instance", "tail"),
    ("take_backup", "backup"),
    ("test_destination", "destination test"),
];

#[test]
fn every_operation_has_a_command() {
    let document = serde_json::to_value(zapbus_gateway::api::document()).unwrap();
    let commands: BTreeMap<_, _> = COMMANDS.iter().copied().collect();
    let description = zapbus_gateway::cli::description();
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        // Upstreams and links are no commands.
        if !path.starts_with("/v1/") {
            continue;
        }
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let words = commands.get(id);
            let words = words.unwrap_or_else(|| panic!("{method} {path} ({id}) has no command"));
            let mut command = &description;
            for word in words.split(' ') {
                command = command
                    .find_subcommand(word)
                    .unwrap_or_else(|| panic!("{id}: there is no command `zapbus {words}`"));
            }
            operations += 1;
        }
    }
    assert_eq!(operations, COMMANDS.len(), "a command is listed for an operation that is gone");
}

#[tokio::test]
async fn what_can_be_chosen_of_a_destination_is_a_flag() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let receiver = Receiver::start().await;
    let url = receiver.url("/hook");
    let create = [
        "destination",
        "create",
        "--instance",
        "shop",
        "--label",
        "crm",
        "--webhook",
        &url,
        "--header",
        "x-team: crm",
        "--authorization",
        "Bearer hush",
        "--events",
        "message.*",
        "--dialect",
        "ryze",
        "--ryze-names",
        "message.exchange",
        "--ryze-blank-token",
        "--inline-media",
        "--rate-limit-per-s",
        "50",
        "--retry-max-attempts",
        "3",
        "--exclude-ephemeral",
    ];
    let made = asked(&gateway, &create).await;
    assert_eq!(made["retry"], json!({ "preset": "ryze", "max_attempts": 3 }), "{made}");
    assert_eq!((&made["inline_media"], &made["ryze"]["blank_token"]), (&json!(true), &json!(true)));
    assert_eq!(
        (&made["rate_limit_per_s"], &made["exclude_ephemeral"]),
        (&json!(50.0), &json!(true))
    );
    let id = made["id"].as_str().unwrap();
    gateway.post_event("shop", &text_message("5511999990001", "one", "Olá")).await;
    let got = &receiver.wait_for(1).await[0];
    assert_eq!(
        (got.header("x-team"), got.header("authorization")),
        (Some("crm"), Some("Bearer hush"))
    );
    assert_eq!(got.json()["instanceData"]["token"], "");

    let update = [
        "destination",
        "update",
        id,
        "--header",
        "x-team:",
        "--header",
        "x-new: 1",
        "--inline-media=false",
        "--rate-limit-per-s",
        "none",
        "--retry-timeout-s",
        "2.5",
    ];
    let changed = asked(&gateway, &update).await;
    assert_eq!(changed["channel"]["headers"].as_object().unwrap().len(), 1, "{changed}");
    assert_eq!(changed["rate_limit_per_s"], Value::Null);
    let retry = json!({ "preset": "ryze", "max_attempts": 3, "timeout_s": 2.5 });
    assert_eq!((&changed["retry"], &changed["inline_media"]), (&retry, &json!(false)));
    assert_eq!(changed["ryze"], made["ryze"], "what is not given stays");

    let channel = json!({ "type": "webhook", "url": url, "by_events": true }).to_string();
    let create = ["destination", "create", "--channel", &channel, "--label", "all"];
    assert_eq!(asked(&gateway, &create).await["channel"]["by_events"], true);
    for (arguments, says) in [
        (&["destination", "create", "--label", "x"][..], "--webhook or --channel"),
        (&["destination", "create", "--channel", "7"], "expected a JSON object"),
        (&["destination", "create", "--webhook", &url, "--channel", "{}"], "cannot be used with"),
        (&["destination", "update", id], "nothing to change"),
        (&["destination", "update", id, "--rate-limit-per-s", "fast"], "or none"),
    ] {
        let said = zapbus(&gateway, arguments).await;
        assert!(said.code == 2 && said.stderr.contains(says), "{arguments:?}: {said:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn credentials_are_shown_expired_and_revoked() {
    let gateway = Gateway::start(|_| {}).await;
    let made = asked(&gateway, &["credential", "create", "n8n"]).await;
    let id = made["id"].as_str().unwrap();
    let shown = asked(&gateway, &["credential", "show", id]).await;
    assert_eq!((&shown["name"], shown.get("secret")), (&json!("n8n"), None));
    let nobody = "crd_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    assert_eq!(zapbus(&gateway, &["credential", "show", nobody]).await.code, 3);
    let later = "2099-01-01T00:00:00.000Z";
    let expired = asked(&gateway, &["credential", "expire", id, "--at", later]).await;
    assert_eq!(expired["expires_at"], later);
    asked(&gateway, &["credential", "expire", id, "--yes"]).await;
    let secret = made["secret"].as_str().unwrap();
    let refused = gateway.client.get(format!("{}/v1/instances", gateway.url)).bearer_auth(secret);
    assert_eq!(refused.send().await.unwrap().status(), 401);
    assert_eq!(zapbus(&gateway, &["credential", "revoke", id]).await.code, 0);
    assert_eq!(zapbus(&gateway, &["credential", "show", id]).await.code, 3);
    let audit = asked(&gateway, &["audit", "--limit", "3"]).await;
    let actions: Vec<_> = audit.as_array().unwrap().iter().map(|it| &it["action"]).collect();
    assert_eq!(actions.len(), 3);
    assert_eq!(*actions[0], json!("credential.revoke"), "{audit}");
    gateway.stop().await;
}

#[tokio::test]
async fn events_are_posted_listed_and_shown() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, body: &Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, body.to_string()).unwrap();
        path.display().to_string()
    };
    let one = path("one.json", &text_message("5511999990001", "one", "Olá"));
    let posted = asked(&gateway, &["event", "post", "shop", &one]).await;
    let id = posted[0]["id"].as_str().unwrap();
    let shown = asked(&gateway, &["event", "show", id]).await;
    assert_eq!(shown["type"], "message.received");
    let mixed = json!([text_message("5511999990001", "two", "Olá"), { "type": "nonsense" }]);
    let mixed = path("mixed.json", &mixed);
    let said = zapbus(&gateway, &["event", "post", "shop", &mixed]).await;
    assert!(said.code == 5 && said.stderr.contains("1 of 2"), "{said:?}");
    let types = ["event", "list", "--instance", "shop", "--types", "message.*"];
    let listed = asked(&gateway, &types).await;
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let said = zapbus(&gateway, &[&types[..], &["--limit", "1"]].concat()).await;
    assert!(said.code == 0 && said.stderr.contains("There are more: --after"), "{said:?}");
    let all = zapbus(&gateway, &["event", "list", "--limit", "0", "--ndjson"]).await;
    assert!(all.stdout.lines().count() >= 3, "{all:?}");
    assert!(asked(&gateway, &["event", "types"]).await.as_array().unwrap().len() > 30);
    let statistics = asked(&gateway, &["instance", "statistics", "shop"]).await;
    assert!(statistics["last_hour"]["events"].as_u64().is_some(), "{statistics}");
    gateway.stop().await;
}

#[tokio::test]
async fn to_resume_all_is_not_to_switch_on_what_was_switched_off() {
    let gateway = Gateway::start(|_| {}).await;
    let client = asked(&gateway, &["credential", "create", "panel"]).await;
    gateway.create_instance("shop").await;
    let receiver = Receiver::start().await;
    let set = async |body: Value| {
        let url = format!("{}/api/events/webhook/shop", gateway.url);
        let secret = client["secret"].as_str().unwrap();
        let answer = gateway.client.post(url).header("token", secret).json(&body).send().await;
        assert_eq!(answer.unwrap().status(), 200);
    };
    set(json!({ "url": receiver.url("/") })).await;
    set(json!({ "enabled": false })).await;
    let paused = gateway.create_webhook("shop", &receiver.url("/own"), json!({})).await;
    let id = paused["id"].as_str().unwrap();
    asked(&gateway, &["destination", "pause", id]).await;
    let resumed = asked(&gateway, &["resume", "--all"]).await;
    assert_eq!(resumed, json!({ "resumed": 1, "failed": 0 }));
    gateway.stop().await;
}
