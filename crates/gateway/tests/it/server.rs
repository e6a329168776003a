//! A real gateway on port 0 in a folder of its own, and a client that holds its admin token.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use zapbus_event::Timestamp;
use zapbus_gateway::{
    Hooks, Listeners, RunError, Started,
    app::App,
    config::{Config, Secret},
    run,
};
use zapbus_store::Clock;

use crate::engine::{Database, is_postgres};
pub(crate) use crate::receiver::{PATIENCE, Receiver, Reply};

/// The operator's token in every test gateway that does not set another.
pub(crate) const ADMIN_TOKEN: &str = "zb_admin_of_the_tests_0123456789";

/// The computer's clock, moved by hand.
#[derive(Clone, Default)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    /// Lets time pass at once: for the injected clock only, not for tokio's timers.
    pub(crate) fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap();
        self.0.fetch_add(millis, Ordering::SeqCst);
    }

    /// The time it shows.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock())()
    }

    fn clock(&self) -> Clock {
        let offset = self.0.clone();
        let system = zapbus_gateway::clock::system();
        Arc::new(move || {
            let now = system().as_millis() + offset.load(Ordering::SeqCst);
            Timestamp::from_millis(now)
        })
    }
}

/// A running gateway. Stops when dropped; [`Gateway::stop`] says whether it stopped well.
pub(crate) struct Gateway {
    /// `http://127.0.0.1:<port>`, without a slash at the end.
    pub(crate) url: String,
    /// A client without credentials; [`Gateway::get`] and its like send the admin token.
    pub(crate) client: Client,
    /// Its clock.
    pub(crate) clock: TestClock,
    /// What it was started with.
    pub(crate) config: Config,
    /// Its parts.
    pub(crate) app: App,
    token: String,
    home: Home,
    running: Option<Running>,
}

/// Where a gateway keeps what outlives it; gone with the last gateway that is at home there.
#[derive(Clone)]
struct Home {
    _folder: Arc<TempDir>,
    database: Option<Database>,
}

struct Running {
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Gateway {
    /// Starts one in a new folder, and with [`is_postgres`] on a new database.
    pub(crate) async fn start(configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(is_postgres(), configure).await
    }

    /// Starts one in a new folder (or where `configure` says), whatever the others of this run are
    /// on.
    pub(crate) async fn start_on_sqlite(configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_on(false, configure).await
    }

    async fn start_on(postgres: bool, configure: impl FnOnce(&mut Config)) -> Self {
        show_logs();
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let mut config = Config {
            data_dir: folder.path().join("data"),
            admin_token: Some(Secret::new(ADMIN_TOKEN)),
            ..Config::default()
        };
        config.listen.set_port(0);
        configure(&mut config);
        let mut database = None;
        if postgres {
            // What databases are copied from was made with the usual key.
            let made = Database::make(config.encryption_key.is_empty()).await;
            made.configure(&mut config);
            database = Some(made);
        }
        let home = Home { _folder: folder, database };
        let clock = TestClock::default();
        Self::start_with(config, clock, home, None).await.expect("the gateway starts")
    }

    /// Starts one beside this one, on the same folder; it is not expected to succeed.
    pub(crate) async fn start_beside(&self) -> RunError {
        let (config, clock, home) = (self.config.clone(), self.clock.clone(), self.home.clone());
        let started = Self::start_with(config, clock, home, None).await;
        started.err().expect("one folder has one gateway")
    }

    /// Starts another node on the same database, with the same clock.
    pub(crate) async fn start_node(&self, configure: impl FnOnce(&mut Config)) -> Self {
        assert!(self.home.database.is_some(), "only a database has several nodes");
        let (mut config, clock) = (self.config.clone(), self.clock.clone());
        configure(&mut config);
        let (home, token) = (self.home.clone(), self.token.clone());
        Self::start_with(config, clock, home, Some(token)).await.expect("the node starts")
    }

    /// Its database, if it is on one.
    pub(crate) fn database(&self) -> &Database {
        self.home.database.as_ref().expect("it is on PostgreSQL")
    }

    async fn start_with(
        config: Config,
        clock: TestClock,
        home: Home,
        token: Option<String>,
    ) -> Result<Self, RunError> {
        let http = TcpListener::bind(config.listen).await.unwrap();
        let (started, mut on_start) = oneshot::channel::<Started>();
        let hooks = Hooks {
            clock: clock.clock(),
            database_clock: false,
            started: Box::new(move |facts| drop(started.send(facts))),
            ..Hooks::default()
        };
        let (shutdown, on_shutdown) = oneshot::channel();
        let mut task = tokio::spawn(run(
            config.clone(),
            Listeners { http, inherited: false },
            hooks,
            async move {
                // A dropped gateway stops too.
                let _ = on_shutdown.await;
            },
        ));
        let facts = tokio::select! {
            facts = &mut on_start => match facts {
                Ok(facts) => facts,
                Err(_) => return Err(task.await.unwrap().expect_err("it did not start")),
            },
            ended = &mut task => return Err(ended.unwrap().expect_err("it did not start")),
        };
        let scheme = if config.tls.is_on() { "https" } else { "http" };
        let configured = facts.new_admin_token.as_ref().or(config.admin_token.as_ref());
        let token = configured.map(|token| token.expose().to_owned()).or(token);
        Ok(Self {
            url: format!("{scheme}://{}", facts.address),
            client: Client::builder().timeout(PATIENCE).build().unwrap(),
            clock,
            config,
            app: facts.app,
            token: token.expect("an admin token is configured, made or known"),
            home,
            running: Some(Running { shutdown, task }),
        })
    }

    /// Stops it and starts another on the same folder, with the same clock and a new port.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    /// [`Gateway::restart`] with another configuration.
    pub(crate) async fn restart_with(mut self, configure: impl FnOnce(&mut Config)) -> Self {
        self.end().await;
        configure(&mut self.config);
        self.restart_stopped().await
    }

    /// Starts another on the same folder, after [`Gateway::begin_stop`] has ended.
    pub(crate) async fn restart_stopped(self) -> Self {
        let Self { config, clock, home, token, .. } = self;
        Self::start_with(config, clock, home, Some(token)).await.expect("the gateway starts again")
    }

    /// Stops it and waits until everything is put away.
    pub(crate) async fn stop(mut self) {
        self.end().await;
    }

    /// Begins to stop it; the returned task ends when it has stopped.
    pub(crate) fn begin_stop(&mut self) -> JoinHandle<Result<(), RunError>> {
        let Running { shutdown, task } = self.running.take().expect("it runs");
        shutdown.send(()).expect("it has not ended by itself");
        task
    }

    async fn end(&mut self) {
        let task = self.begin_stop();
        task.await.expect("it does not panic").expect("it stops well");
    }

    /// A request with the admin token.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(self.token())
    }

    /// The admin token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// `GET` with the admin token.
    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// `POST` of JSON with the admin token.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    /// `GET` that must succeed, as JSON.
    pub(crate) async fn read(&self, path: &str) -> Value {
        expect_json(self.get(path).await, 200).await
    }

    /// Creates an instance and returns the answer.
    pub(crate) async fn create_instance(&self, name: &str) -> Value {
        expect_json(self.post("/v1/instances", &json!({ "name": name })).await, 201).await
    }

    /// Creates a webhook destination of an instance; `more` is merged into the body.
    pub(crate) async fn create_webhook(&self, instance: &str, url: &str, more: Value) -> Value {
        let mut body = json!({ "channel": { "type": "webhook", "url": url } });
        merge(&mut body, more);
        let path = format!("/v1/instances/{instance}/destinations");
        expect_json(self.post(&path, &body).await, 201).await
    }

    /// Posts one native event and returns its result.
    pub(crate) async fn post_event(&self, instance: &str, event: &Value) -> Value {
        let path = format!("/v1/instances/{instance}/events");
        let answer = expect_json(self.post(&path, event).await, 200).await;
        answer["results"][0].clone()
    }
}

/// `RUST_LOG=zapbus_gateway=debug` shows the logs of a failing test.
fn show_logs() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Every test of the process tries; the first one sets it.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// The answer's JSON, if its status is the expected one; else the test fails with the body.
pub(crate) async fn expect_json(response: Response, status: u16) -> Value {
    let (found, url) = (response.status().as_u16(), response.url().clone());
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{url}: {text}");
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}"))
}

/// Puts the members of `more` into `into`, objects member by member.
pub(crate) fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// A `message.received` of a chat with a text: the smallest that the catalog allows.
pub(crate) fn text_message(chat: &str, id: &str, text: &str) -> Value {
    let address = json!({ "id": format!("{chat}@s.whatsapp.net"), "kind": "user", "phone": chat });
    json!({
        "type": "message.received",
        "id": id,
        "data": {
            "message": { "id": id, "chat": format!("{chat}@s.whatsapp.net"), "from_me": false },
            "chat": address,
            "sender": address,
            "content": { "kind": "text", "body": text },
        },
    })
}

/// Asks until `done` says so, or fails with `what`.
pub(crate) async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
