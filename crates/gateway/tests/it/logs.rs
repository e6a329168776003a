//! Every line that our crates can log has a name of its own, and is described.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::{
    binary::Served,
    engine::{Database, is_postgres},
    server::{ADMIN_TOKEN, Receiver, Reply, expect_json, text_message},
    socket::Socket,
};

/// One call of a macro that logs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    level: String,
    fields: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The arguments of a call whose opening bracket was just passed, split at its commas.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    let mut found = vec![String::new()];
    for c in text.chars() {
        let last = found.last_mut().unwrap();
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            last.push(c);
            continue;
        }
        match c {
            ')' if depth == 0 => break,
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '"' => quoted = true,
            _ => {}
        }
        last.push(c);
    }
    let trimmed = found.iter().map(|argument| argument.trim().to_owned());
    trimmed.filter(|argument| !argument.is_empty()).collect()
}

/// Every line of every crate, by its name.
fn logged() -> BTreeMap<String, Line> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let source = entry.unwrap().path().join("src");
        if source.is_dir() {
            sources(&source, &mut files);
        }
    }
    let mut found = BTreeMap::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for level in ["error", "warn", "info", "debug", "trace"] {
            let call = format!("tracing::{level}!(");
            for (at, _) in text.match_indices(&call) {
                let arguments = arguments(&text[at + call.len()..]);
                let place = format!("{}: {arguments:?}", path.display());
                let name = arguments[0].strip_prefix("event = \"").unwrap_or_else(|| {
                    panic!("the event's name comes first: {place}");
                });
                let name = name.strip_suffix('"').expect(&place);
                let form = |c: char| c.is_ascii_lowercase() || c == '_' || c == '.';
                assert!(name.chars().all(form) && name.matches('.').count() == 1, "{place}");
                let fields = arguments[1..]
                    .iter()
                    .filter(|argument| !argument.starts_with('"'))
                    .map(|argument| {
                        let key = argument.split('=').next().unwrap().trim();
                        let key = key.trim_start_matches(['%', '?']);
                        key.to_owned()
                    })
                    .collect();
                let line = Line { level: level.to_owned(), fields };
                let before = found.insert(name.to_owned(), line);
                assert!(before.is_none(), "two lines have one name: {place}");
            }
        }
        // Nothing is logged past the names that are looked for here.
        for other in ["use tracing::", "use log::"] {
            let used = text.lines().any(|line| line.trim_start().starts_with(other));
            assert!(!used, "{}: {other}", path.display());
        }
    }
    found
}

#[test]
fn every_line_is_described_and_nothing_else() {
    let text = std::fs::read_to_string(root().join("docs/operations/logs.md")).unwrap();
    let described: BTreeMap<String, Line> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [name, level, fields, meaning] = cells[..] else { panic!("{line}") };
            assert!(meaning.len() > 15 && meaning.ends_with('.'), "{line}");
            let fields = fields.split(", ").filter(|field| *field != "–");
            let fields = fields.map(|field| field.trim_matches('`').to_owned()).collect();
            (name.trim_matches('`').to_owned(), Line { level: level.to_owned(), fields })
        })
        .collect();
    let logged = logged();
    for (name, line) in &logged {
        assert_eq!(described.get(name), Some(line), "{name} in docs/operations/logs.md");
    }
    for name in described.keys() {
        assert!(logged.contains_key(name), "{name} is described and never logged");
    }
    let names: Vec<&String> = described.keys().collect();
    assert!(names.is_sorted());
}

#[test]
fn no_line_has_a_field_that_could_hold_a_secret_or_a_message() {
    for (name, line) in logged() {
        for field in &line.fields {
            let words =
                ["token", "secret", "password", "key", "body", "text", "header", "url", "query"];
            let speaks = words.iter().find(|word| field.contains(**word));
            assert!(speaks.is_none(), "{name}: {field}");
        }
    }
}

/// A gateway that logs at this level, with the database that it is on, if it is on one.
async fn talkative(folder: &Path, level: &str) -> (Served, Option<Database>) {
    let database = if is_postgres() { Some(Database::make(true).await) } else { None };
    let served = Served::start(folder, |command| {
        command.env("ZAPBUS_LOG_LEVEL", level).env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN);
        if let Some(database) = &database {
            command.env("ZAPBUS_DATABASE_URL", database.url());
            command.env("ZAPBUS_ENCRYPTION_KEY", crate::postgres::KEY);
        }
    })
    .await;
    (served, database)
}

/// Browsers have no other place for tokens than URLs. Those that lead in are not to be read in a log
/// afterwards, nor those that somebody has tried.
#[tokio::test]
async fn a_token_in_a_url_reaches_no_log() {
    const WRONG: &str = "a-token-that-nobody-has";
    for level in ["debug", "trace"] {
        let folder = tempfile::tempdir().unwrap();
        let (served, _database) = talkative(folder.path(), level).await;
        let client = reqwest::Client::new();
        let made = client.post(format!("{}/v1/instances", served.url)).bearer_auth(ADMIN_TOKEN);
        let made = made.json(&json!({ "name": "shop" })).send().await.unwrap();
        let made = expect_json(made, 201).await;
        let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
        let mut opened = 0;
        for given in [ADMIN_TOKEN, token, WRONG] {
            for path in [
                format!("/v1/instances/{id}/stream?token={given}"),
                format!("/v1/instances/{id}/stream?ticket={given}"),
                format!("/events/ws?instance_id={id}&instance_token={token}&access_token={given}"),
                format!("/events/ws?instance_id={id}&instance_token={token}&client_token={given}"),
                format!("/ws/shop?token={given}"),
                format!("/shop?apikey={given}"),
                format!("/socket.io/?EIO=4&transport=websocket&apikey={given}"),
            ] {
                match Socket::connect(&served.url, &path, &[]).await {
                    Ok(socket) => {
                        opened += 1;
                        socket.close().await;
                    }
                    Err((status, _)) => assert!((400..500).contains(&status), "{path}: {status}"),
                }
            }
        }
        assert!(opened >= 5, "{opened}");
        served.kill().await;
        let log = std::fs::read_to_string(folder.path().join("stderr.log")).unwrap();
        assert!(log.contains("http.request"), "{log}");
        for secret in [ADMIN_TOKEN, token, WRONG] {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{level}");
        }
    }
}

/// Whatever the level: neither we nor the libraries we use tell what is in an event.
#[tokio::test]
async fn nothing_of_an_event_reaches_the_log() {
    const TEXT: &str = "the-words-of-a-customer";
    const PHONE: &str = "5511987650123";
    for level in ["debug", "trace", "info,tokio_postgres=trace"] {
        let folder = tempfile::tempdir().unwrap();
        let (served, _database) = talkative(folder.path(), level).await;
        let client = reqwest::Client::new();
        let send = async |method: Method,
                          path: &str,
                          change: &dyn Fn(RequestBuilder) -> RequestBuilder| {
            let request = client.request(method, format!("{}{path}", served.url));
            change(request.bearer_auth(ADMIN_TOKEN)).send().await.unwrap()
        };
        let shop = json!({ "name": "shop" });
        let made = send(Method::POST, "/v1/instances", &|it| it.json(&shop)).await;
        expect_json(made, 201).await;
        // One that takes it, and one that does not.
        let receiver =
            Receiver::scripted(|it| if it.path == "/a" { Reply::ok() } else { Reply::status(400) })
                .await;
        for label in ["a", "b"] {
            let body = json!({
                "label": label,
                "channel": { "type": "webhook", "url": receiver.url(&format!("/{label}")), "headers": { "x-mark": TEXT } },
            });
            let path = "/v1/instances/shop/destinations";
            let made = send(Method::POST, path, &|it| it.json(&body)).await;
            expect_json(made, 201).await;
        }
        let event = text_message(PHONE, "m1", TEXT);
        for _ in 0..2 {
            let path = "/v1/instances/shop/events";
            let posted = send(Method::POST, path, &|it| it.json(&event)).await;
            expect_json(posted, 200).await;
        }
        receiver.wait_for(2).await;
        let read = send(Method::GET, "/v1/instances/shop/events?limit=10", &|it| it).await;
        let read = expect_json(read, 200).await.to_string();
        assert!(read.contains(TEXT) && read.contains(PHONE), "{read}");
        let erasure = json!({ "type": "chat", "instance": "shop", "chat": PHONE });
        let erased = send(Method::POST, "/v1/erasures", &|it| it.json(&erasure)).await;
        assert!(erased.status().is_success(), "{}", erased.status());
        served.kill().await;
        let log = std::fs::read_to_string(folder.path().join("stderr.log")).unwrap();
        assert!(log.contains("gateway.started"), "{log}");
        assert_eq!(log.contains("http.request"), !level.starts_with("info"), "our own are told");
        for secret in [TEXT, PHONE, ADMIN_TOKEN] {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{level}");
        }
    }
}
