//! The native API and its streams.

use std::{sync::Arc, time::Duration};

use http::Method;
use pyo3::{prelude::*, types::PyTuple};
use tokio::{sync::Mutex, time::timeout};
use zapbus_client::{Client, Error, Item, State, Subscribe, Subscription};

use crate::{
    bridge::{self, Found, Home, Task},
    delivery::{Delivery, seconds},
    errors,
};

/// A client of one gateway.
#[pyclass(frozen, module = "zapbus._core")]
#[derive(Debug)]
pub(crate) struct NativeClient {
    client: Client,
    home: Home,
}

/// A call, owned.
struct Asked {
    method: Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    body: Option<serde_json::Value>,
    key: Option<String>,
}

fn asked(
    method: &str,
    path: Vec<String>,
    query: Vec<(String, String)>,
    body: Option<&str>,
    key: Option<String>,
) -> Found<Asked> {
    let wrong = |what: String| Error::Usage(what);
    let method = Method::from_bytes(method.as_bytes())
        .map_err(|_| wrong("method: expected GET, POST, …".to_owned()))?;
    let body = body
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| wrong(format!("the body is no JSON: {error}")))?;
    Ok(Asked { method, path, query, body, key })
}

async fn ask(client: Client, asked: Found<Asked>) -> Found<String> {
    let Asked { method, path, query, body, key } = asked?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let answer = client.request(method, &path, &query, body.as_ref(), key.as_deref()).await?;
    Ok(answer.to_string())
}

#[pymethods]
impl NativeClient {
    #[new]
    #[pyo3(signature = (*, url, token, account, timeout, max_retries, user_agent))]
    fn new(
        py: Python<'_>,
        url: &str,
        token: &str,
        account: Option<&str>,
        timeout: f64,
        max_retries: u32,
        user_agent: &str,
    ) -> PyResult<Self> {
        let mut builder = Client::builder(url)
            .token(token)
            .timeout(seconds(timeout)?)
            .max_retries(max_retries)
            .user_agent(user_agent);
        if let Some(account) = account {
            builder = builder.account(account);
        }
        let client = builder.build().map_err(|error| errors::exception(py, &error))?;
        Ok(Self { client, home: Home::here() })
    }

    /// Makes a call: `done(text, exception)`.
    fn start_request(
        &self,
        done: Py<PyAny>,
        method: &str,
        path: Vec<String>,
        query: Vec<(String, String)>,
        body: Option<&str>,
        key: Option<String>,
    ) -> PyResult<Task> {
        self.home.check()?;
        let asked = asked(method, path, query, body, key);
        bridge::spawn(ask(self.client.clone(), asked), done)
    }

    /// The same, waiting.
    fn request(
        &self,
        py: Python<'_>,
        method: &str,
        path: Vec<String>,
        query: Vec<(String, String)>,
        body: Option<&str>,
        key: Option<String>,
    ) -> PyResult<String> {
        self.home.check()?;
        bridge::wait(py, ask(self.client.clone(), asked(method, path, query, body, key)))
    }

    /// A subscription that is not open yet.
    #[pyo3(signature = (
        *, instance, subscriber, after, types, dialect, include_raw, exclude_ephemeral,
        inline_media, fallback, max_unacked, ack_wait, reconnect, max_retries, retry_pauses,
        patient, keep_alive, max_frame_bytes
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are named where it is called")]
    fn subscribe(
        &self,
        instance: Option<&str>,
        subscriber: Option<&str>,
        after: Option<&str>,
        types: Vec<String>,
        dialect: &str,
        include_raw: bool,
        exclude_ephemeral: bool,
        inline_media: bool,
        fallback: Option<&str>,
        max_unacked: u32,
        ack_wait: f64,
        reconnect: bool,
        max_retries: Option<u32>,
        retry_pauses: (f64, f64),
        patient: bool,
        keep_alive: f64,
        max_frame_bytes: usize,
    ) -> PyResult<Stream> {
        self.home.check()?;
        let mut subscribe = match instance {
            Some(instance) => self.client.subscribe(instance),
            None => self.client.subscribe_all(),
        };
        subscribe = subscribe
            .types(types)
            .dialect(dialect)
            .include_raw(include_raw)
            .exclude_ephemeral(exclude_ephemeral)
            .inline_media(inline_media)
            .max_unacked(max_unacked)
            .ack_wait(seconds(ack_wait)?)
            .reconnect(reconnect)
            .retry_pauses(seconds(retry_pauses.0)?, seconds(retry_pauses.1)?)
            .patient(patient)
            .keep_alive(seconds(keep_alive)?)
            .max_frame_bytes(max_frame_bytes);
        if let Some(subscriber) = subscriber {
            subscribe = subscribe.named(subscriber);
        }
        if let Some(after) = after {
            subscribe = subscribe.after(after);
        }
        if let Some(fallback) = fallback {
            subscribe = subscribe.fallback(fallback);
        }
        if let Some(retries) = max_retries {
            subscribe = subscribe.max_retries(retries);
        }
        Ok(Stream { subscribe, open: Arc::default(), home: self.home })
    }
}

/// A subscription of the native API.
#[pyclass(frozen, module = "zapbus._core")]
#[derive(Debug)]
pub(crate) struct Stream {
    subscribe: Subscribe,
    open: Arc<Mutex<Option<Subscription>>>,
    home: Home,
}

/// An item as Python's half sees it: what it is, and what belongs to it.
struct Came(Result<Item, Error>);

impl<'py> IntoPyObject<'py> for Came {
    type Target = PyTuple;
    type Output = Bound<'py, PyTuple>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let exception = |error: Error| errors::exception(py, &error).into_value(py);
        match self.0 {
            Ok(Item::Delivery(delivery)) => ("event", Delivery::from(delivery)).into_pyobject(py),
            Ok(Item::Gap(gap)) => ("gap", (gap.after, gap.first, gap.cursor)).into_pyobject(py),
            Ok(Item::Dead(dead)) => ("dead", (dead.id, dead.deliveries)).into_pyobject(py),
            Ok(Item::Trouble(error)) => ("trouble", exception(error)).into_pyobject(py),
            Ok(_) => ("other", py.None()).into_pyobject(py),
            Err(error) => ("ended", exception(error)).into_pyobject(py),
        }
    }
}

async fn pull(
    open: Arc<Mutex<Option<Subscription>>>,
    most: usize,
    patience: Duration,
) -> Found<Option<Vec<Came>>> {
    let mut open = open.lock().await;
    let Some(subscription) = &mut *open else { return Ok(Some(Vec::new())) };
    // Nothing is lost when the time is over: what is pulled is taken in one step.
    let pulled = timeout(patience, subscription.next_many(most)).await;
    Ok(pulled.ok().map(|pulled| pulled.into_iter().map(Came).collect()))
}

async fn open(
    subscribe: Subscribe,
    place: Arc<Mutex<Option<Subscription>>>,
) -> Found<zapbus_client::Glance> {
    let subscription = subscribe.open().await?;
    let glance = subscription.glance();
    *place.lock().await = Some(subscription);
    Ok(glance)
}

async fn close(place: Arc<Mutex<Option<Subscription>>>) -> Found<()> {
    let subscription = place.lock().await.take();
    if let Some(subscription) = subscription {
        subscription.close().await;
    }
    Ok(())
}

/// What a stream can be looked at with.
#[pyclass(frozen, module = "zapbus._core")]
#[derive(Debug)]
pub(crate) struct Glance(zapbus_client::Glance);

#[pymethods]
impl Glance {
    /// `connecting`, `open`, `waiting` or `closed`; attempts that failed; the pause in seconds.
    #[getter]
    fn state(&self) -> (&'static str, u32, f64) {
        match self.0.state() {
            State::Connecting => ("connecting", 0, 0.0),
            State::Open => ("open", 0, 0.0),
            State::Waiting { attempts, pause } => ("waiting", attempts, pause.as_secs_f64()),
            _ => ("closed", 0, 0.0),
        }
    }

    #[getter]
    fn lag(&self) -> Option<f64> {
        self.0.lag().map(|lag| lag.as_secs_f64())
    }

    #[getter]
    fn cursor(&self) -> Option<String> {
        self.0.cursor()
    }

    #[getter]
    fn unsettled(&self) -> usize {
        self.0.unsettled()
    }
}

#[pymethods]
impl Stream {
    /// Connects: `done(glance, exception)`.
    fn start_open(&self, done: Py<PyAny>) -> PyResult<Task> {
        self.home.check()?;
        let opening = open(self.subscribe.clone(), self.open.clone());
        bridge::spawn(async move { opening.await.map(Glance) }, done)
    }

    /// The same, waiting.
    fn open(&self, py: Python<'_>) -> PyResult<Glance> {
        self.home.check()?;
        bridge::wait(py, open(self.subscribe.clone(), self.open.clone())).map(Glance)
    }

    /// What has come, up to `most`; `None` when `patience` is over, an empty list at the end:
    /// `done(list, exception)`.
    fn start_pull(&self, done: Py<PyAny>, most: usize, patience: f64) -> PyResult<Task> {
        self.home.check()?;
        bridge::spawn(pull(self.open.clone(), most, seconds(patience)?), done)
    }

    /// The same, waiting.
    fn pull<'py>(
        &self,
        py: Python<'py>,
        most: usize,
        patience: f64,
    ) -> PyResult<Option<Vec<Bound<'py, PyTuple>>>> {
        self.home.check()?;
        let pulled = bridge::wait(py, pull(self.open.clone(), most, seconds(patience)?))?;
        let Some(pulled) = pulled else { return Ok(None) };
        let pulled: PyResult<Vec<_>> =
            pulled.into_iter().map(|came| came.into_pyobject(py)).collect();
        pulled.map(Some)
    }

    /// What is there already, up to `most`; nothing is waited for.
    fn ready<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        self.home.check()?;
        // Whoever pulls has what there is.
        let ready = match self.open.try_lock() {
            Ok(mut open) => open.as_mut().map(|open| open.ready_many(most)).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        ready.into_iter().map(|item| Came(item).into_pyobject(py)).collect()
    }

    /// Sends what is to be sent and closes the connection: `done(None, exception)`.
    fn start_close(&self, done: Py<PyAny>) -> PyResult<Task> {
        self.home.check()?;
        bridge::spawn(close(self.open.clone()), done)
    }

    /// The same, waiting.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.home.check()?;
        bridge::wait(py, close(self.open.clone()))
    }
}
