//! A gateway with something in it, and a folder in which examples are run.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use super::blocks::Block;
use crate::{
    engine::Database,
    postgres::KEY,
    server::{Gateway, Receiver, eventually, expect_json, text_message},
    socket::Socket,
};

/// How long an example may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a command that goes on until it is stopped is left alone.
const A_WHILE: Duration = Duration::from_secs(2);

/// Commands that go on until somebody stops them.
const UNTIL_STOPPED: [&str; 4] = ["zapbus simulate", "zapbus demo", "zapbus tail", "zapbus listen"];

/// What `secret.txt` holds.
const SECRET: &str = "app-secret-0123456789";

/// Where an example happens.
pub(super) struct World {
    gateway: Gateway,
    receiver: Receiver,
    folder: TempDir,
    destination: String,
    credential: String,
    delivery: String,
    event: String,
    subscriber: String,
    /// An empty one, for an example that copies into it.
    database: Option<Database>,
}

impl World {
    /// Makes what an example needs to be there: an account `acme`, an instance `shop` with a
    /// destination that has got an event, a credential, a backup, a replay. What the example makes
    /// itself is left out.
    pub(super) async fn make(example: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backups = folder.path().join("backups");
        let with_subscriber = example.contains("sub_01ARZ3NDEKTSV4RRFFQ69G5FAV");
        let gateway = Gateway::start(|config| {
            config.backup.dir = Some(backups);
            if with_subscriber {
                config.realtime.max_deliveries = 1;
            }
        })
        .await;
        let receiver = Receiver::start().await;
        if !example.contains("account create acme") {
            let made = gateway.post("/v1/accounts", &json!({ "name": "acme" })).await;
            expect_json(made, 201).await;
        }
        let made = gateway.post("/v1/accounts/default/credentials", &json!({ "name": "c" })).await;
        let credential = text(&expect_json(made, 201).await, "id");
        let mut world = Self {
            gateway,
            receiver,
            folder,
            destination: String::new(),
            credential,
            delivery: String::new(),
            event: String::new(),
            subscriber: String::new(),
            database: None,
        };
        if !example.contains("instance create shop") {
            world.make_shop().await;
        }
        if example.contains("zapbus simulate") {
            world.gateway.create_instance("support").await;
            let source = json!({
                "type": "cloud-api", "app_secret": SECRET, "phone_number_id": "1234567890",
            });
            let put = world.gateway.request(reqwest::Method::PUT, "/v1/instances/shop/source");
            expect_json(put.json(&source).send().await.unwrap(), 200).await;
        }
        if with_subscriber {
            world.make_subscriber().await;
        }
        world.make_files();
        if example.contains("restore ") || example.contains("backup show") {
            let name = json!({ "name": "before-upgrade" });
            expect_json(world.gateway.post("/v1/backups", &name).await, 202).await;
            eventually("there is a backup", async || {
                let backup = world.gateway.read("/v1/backups/before-upgrade").await;
                (backup["state"] == "done").then_some(())
            })
            .await;
            let key = world.gateway.config.data_dir.join("encryption.key");
            std::fs::copy(key, world.path("encryption.key")).unwrap();
        }
        world.make_replay(example).await;
        if example.contains("zapbus copy") {
            world.database = Some(Database::make(false).await);
            let data_dir = world.path("var/lib/zapbus");
            Gateway::start_on_sqlite(|config| config.data_dir = data_dir).await.stop().await;
        }
        world
    }

    async fn make_shop(&mut self) {
        let gateway = &self.gateway;
        gateway.create_instance("shop").await;
        // Not `default`: that is the label of the one an example makes.
        let more = json!({ "label": "example" });
        let made = gateway.create_webhook("shop", &self.receiver.url("/hook"), more).await;
        self.destination = text(&made, "id");
        let event = text_message("5511999990001", "example", "Hello");
        self.event = text(&gateway.post_event("shop", &event).await, "id");
        let path = format!("/v1/deliveries?event_id={}", self.event);
        self.delivery = eventually("it is delivered", async || {
            let found = gateway.read(&path).await;
            found["data"][0]["id"].as_str().map(str::to_owned)
        })
        .await;
    }

    /// A subscriber for which the event is dead.
    async fn make_subscriber(&mut self) {
        let path = "/v1/instances/shop/stream?subscriber=example&ack=explicit&ack_wait=1\
                    &after=2020-01-01T00:00:00Z&types=message.*";
        let headers = [("authorization", format!("Bearer {}", self.gateway.token()))];
        let Ok(socket) = Socket::connect(&self.gateway.url, path, &headers).await else {
            panic!("the subscriber is refused");
        };
        self.subscriber = eventually("an event is dead for it", async || {
            let found = self.gateway.read("/v1/subscribers").await["data"][0].clone();
            let is_dead = found["dead"].as_array().is_some_and(|dead| !dead.is_empty());
            is_dead.then(|| text(&found, "id"))
        })
        .await;
        socket.close().await;
    }

    fn make_files(&self) {
        for folder in ["bin", "etc", "var/lib", "target/release", "home"] {
            std::fs::create_dir_all(self.path(folder)).unwrap();
        }
        let zapbus = env!("CARGO_BIN_EXE_zapbus");
        for link in ["bin/zapbus", "target/release/zapbus"] {
            std::os::unix::fs::symlink(zapbus, self.path(link)).unwrap();
        }
        // A refused request fails the example.
        let curl =
            "#!/bin/sh\nPATH=${PATH#*:} exec curl --silent --show-error --fail-with-body \"$@\"\n";
        std::fs::write(self.path("bin/curl"), curl).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.path("bin/curl"), executable).unwrap();
        std::fs::write(self.path("secret.txt"), format!("{SECRET}\n")).unwrap();
        std::fs::write(self.path("key.txt"), self.gateway.token()).unwrap();
        std::fs::write(self.path("own-token.txt"), "a-token-of-their-own\n").unwrap();
        std::fs::write(self.path("verify.txt"), "made-up\n").unwrap();
        let event = text_message("5511999990001", "posted", "Hello").to_string();
        std::fs::write(self.path("event.json"), event).unwrap();
        std::fs::write(self.path("etc/zapbus.toml"), "listen = \"127.0.0.1:0\"\n").unwrap();
    }

    /// The replay number 1 that an example lists, pauses, resumes or cancels.
    async fn make_replay(&self, example: &str) {
        let Some(verb) = example.split("replay ").nth(1).and_then(|rest| rest.split(' ').next())
        else {
            return;
        };
        if !["list", "show", "pause", "resume", "cancel"].contains(&verb) {
            return;
        }
        let path = format!("/v1/destinations/{}", self.destination);
        let post = async |path: &str, body: Value| {
            let answer = self.gateway.post(path, &body).await;
            assert!(answer.status().is_success(), "{path}: {}", answer.status());
        };
        // So that it does not end before the example comes.
        post(&format!("{path}/pause"), json!({})).await;
        post(&format!("{path}/replay"), json!({ "from": "beginning" })).await;
        if verb == "resume" {
            post(&format!("{path}/runs/1/pause"), json!({})).await;
            post(&format!("{path}/resume"), json!({})).await;
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts in what an example cannot know:
    ///
    /// - ids that end in `01ARZ3NDEKTSV4RRFFQ69G5FAV` are those of this world;
    /// - `https://example.com` is a receiver, `https://bus.example.com`,
    ///   `https://evolution.example.com` and `http://127.0.0.1:8080` and `127.0.0.1:9090` are the gateway, other ports 8080 free ones;
    /// - `postgres://zapbus@db.example.com/zapbus` is an empty database;
    /// - `/etc`, `/var` and `/backups` are below the example's folder;
    /// - `<admin token>` is the admin token, `<phone number id>` a number, and other words in angle
    ///   brackets are themselves.
    pub(super) fn put_in(&self, example: &str) -> String {
        let receiver = self.receiver.url("");
        let root = self.folder.path().display().to_string();
        let database = self.database.as_ref().map(Database::url).unwrap_or_default();
        let mut text = example.to_owned();
        for (placeholder, known) in [
            ("dst_01ARZ3NDEKTSV4RRFFQ69G5FAV", self.destination.as_str()),
            ("crd_01ARZ3NDEKTSV4RRFFQ69G5FAV", self.credential.as_str()),
            ("dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_17", self.delivery.as_str()),
            ("evt_01ARZ3NDEKTSV4RRFFQ69G5FAV", self.event.as_str()),
            ("sub_01ARZ3NDEKTSV4RRFFQ69G5FAV", self.subscriber.as_str()),
            ("postgres://zapbus@db.example.com/zapbus", database.as_str()),
            ("sqlite:///var/lib/", &format!("sqlite://{root}/var/lib/")),
            ("https://bus.example.com", self.gateway.url.as_str()),
            ("https://evolution.example.com", self.gateway.url.as_str()),
            ("https://example.com", receiver.trim_end_matches('/')),
            ("http://127.0.0.1:8080", self.gateway.url.as_str()),
            ("0.0.0.0:8080", "127.0.0.1:0"),
            ("127.0.0.1:9090", self.address()),
            (" /etc/", &format!(" {root}/etc/")),
            (" /var/lib/", &format!(" {root}/var/lib/")),
            (" /backups/", &format!(" {root}/backups/")),
            ("<admin token>", self.gateway.token()),
            ("<phone number id>", "1234567890"),
        ] {
            text = text.replace(placeholder, known);
        }
        words_in_brackets(&text)
    }

    /// Where the gateway listens.
    fn address(&self) -> &str {
        self.gateway.url.trim_start_matches("http://")
    }

    fn shell(&self, script: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", script])
            .env_clear()
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.path("home"))
            .env("ZAPBUS_URL", &self.gateway.url)
            .env("ZAPBUS_TOKEN", self.gateway.token())
            // For commands that go by the configuration of this machine.
            .env("ZAPBUS_LISTEN", self.address())
            .envs(self.database.iter().map(|_| ("ZAPBUS_ENCRYPTION_KEY", KEY)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs one example of a help.
    pub(super) async fn run_example(&self, whose: &str, example: &str) {
        if example.contains("zapbus serve") {
            self.serve(whose, example).await;
        } else if UNTIL_STOPPED.iter().any(|command| example.contains(command)) {
            self.stop(whose, example).await;
        } else {
            self.run(&format!("{whose} --help"), example).await;
        }
    }

    /// Runs a script to its end, which must be a good one.
    pub(super) async fn run(&self, whose: &str, script: &str) {
        let script = self.put_in(script);
        let output = tokio::time::timeout(PATIENCE, self.shell(&script).output()).await;
        let output =
            output.unwrap_or_else(|_| panic!("{whose} takes too long:\n{script}")).unwrap();
        assert!(
            output.status.success(),
            "{whose}: {}\n{script}\n--\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts a gateway as the example says, waits until it is ready, and stops it.
    async fn serve(&self, whose: &str, example: &str) {
        let script = format!("export ZAPBUS_LISTEN=127.0.0.1:0\n{}", self.put_in(example));
        // So that the signal reaches it.
        let script = script.replace("zapbus serve", "exec zapbus serve");
        let script = script.replace(
            "ZAPBUS_EGRESS_ALLOW=n8n,10.0.0.0/8 exec",
            "export ZAPBUS_EGRESS_ALLOW=n8n,10.0.0.0/8\nexec",
        );
        let mut child = self.shell(&script).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if line.contains("is ready") {
                    return true;
                }
            }
            false
        };
        let ready = tokio::time::timeout(PATIENCE, ready).await.unwrap_or(false);
        assert!(ready, "{whose}: it did not start\n{script}");
        let pid = child.id().unwrap().to_string();
        assert!(Command::new("kill").arg(&pid).status().await.unwrap().success());
        while lines.next_line().await.unwrap().is_some() {}
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert!(ended.success(), "{whose}: {ended}\n{script}");
    }

    /// Runs an example for a while, then presses Ctrl-C. Both ways it must end well.
    async fn stop(&self, whose: &str, example: &str) {
        let script = self.put_in(example);
        let mut command = self.shell(&script);
        // No terminal: the signal goes to all that the script has started.
        let child = command.process_group(0).spawn().unwrap();
        let group = format!("-{}", child.id().unwrap());
        let mut ending = std::pin::pin!(child.wait_with_output());
        let output = match tokio::time::timeout(A_WHILE, ending.as_mut()).await {
            Ok(output) => output,
            Err(_) => {
                let sent = Command::new("kill").args(["-s", "INT", "--", &group]).status().await;
                assert!(sent.is_ok());
                let ended = tokio::time::timeout(PATIENCE, ending).await;
                ended.unwrap_or_else(|_| panic!("{whose}: it does not stop\n{script}"))
            }
        };
        let output = output.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{whose}: {}\n{script}\n--\n{stderr}", output.status);
    }

    pub(super) async fn end(self) {
        self.gateway.stop().await;
    }
}

/// Checks a block that no shell runs.
pub(super) async fn check(page: &str, block: &Block) {
    if block.info.contains("no-run") {
        return;
    }
    match block.language() {
        "toml" => check_toml(page, &block.text).await,
        "json" => {
            // What is left out at the end of an object.
            let whole = block.text.replace(",…", "");
            let value: Value = serde_json::from_str(&whole)
                .unwrap_or_else(|error| panic!("{page}: {error}:\n{}", block.text));
            let mut words = block.info.split_whitespace().skip(1);
            if let (Some(method), Some(path)) = (words.next(), words.next()) {
                let world = World::make("").await;
                let body: Value = serde_json::from_str(&world.put_in(&value.to_string())).unwrap();
                let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
                let request = world.gateway.request(method, &world.put_in(path)).json(&body);
                let answer = request.send().await.unwrap();
                let status = answer.status();
                let said = answer.text().await.unwrap();
                assert!(status.is_success(), "{page}: {status}: {said}\n{body}");
                assert!(!said.contains("\"error\""), "{page}: {said}");
                world.end().await;
            }
        }
        _ => {}
    }
}

async fn check_toml(page: &str, text: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("zapbus.toml"), text).unwrap();
    let mut command = crate::binary::command(folder.path());
    command.arg("check-config");
    let said = crate::binary::run(command).await;
    assert_eq!(said.code, 0, "{page}: {said:?}\n{text}");
}

/// `<made up>` becomes `made-up`.
fn words_in_brackets(text: &str) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        let (before, from) = rest.split_at(open);
        done.push_str(before);
        let inner = from[1..].find('>').map(|close| &from[1..=close]);
        match inner {
            Some(words)
                if words.starts_with(|c: char| c.is_ascii_lowercase())
                    && words.chars().all(|c| c.is_ascii_lowercase() || c == ' ') =>
            {
                done.push_str(&words.replace(' ', "-"));
                rest = &from[words.len() + 2..];
            }
            _ => {
                done.push('<');
                rest = &from[1..];
            }
        }
    }
    done.push_str(rest);
    done
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name}: {value}")).to_owned()
}

#[test]
fn only_words_in_brackets_are_placeholders() {
    for (text, read) in [
        ("--token <app secret> x", "--token app-secret x"),
        ("source <(zapbus completions bash)", "source <(zapbus completions bash)"),
        ("a < b > c", "a < b > c"),
        ("<x", "<x"),
    ] {
        assert_eq!(words_in_brackets(text), read);
    }
}
