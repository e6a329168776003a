//! VZaps: its API, and its realtime events.

use std::sync::Arc;

use http::Method;
use pyo3::{prelude::*, types::PyTuple};
use tokio::{sync::Mutex, time::timeout};
use zapbus_client::{
    Error,
    vzaps::{self, Happening, Request, Watch},
};

use crate::{
    bridge::{self, Found, Home, Task},
    delivery::{Delivery, seconds},
    errors,
};

/// A client with the credentials of VZaps.
#[pyclass(frozen, module = "zapbus._core")]
#[derive(Debug)]
pub(crate) struct VZapsClient {
    client: vzaps::Client,
    home: Home,
}

/// A call, owned.
struct Asked {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    body: Option<serde_json::Value>,
    headers: Vec<(String, String)>,
    instance_token: Option<String>,
    auth: bool,
    is_read: bool,
}

fn asked(
    method: &str,
    path: String,
    query: Vec<(String, String)>,
    body: Option<&str>,
    headers: Vec<(String, String)>,
    instance_token: Option<String>,
    auth: bool,
) -> Found<Asked> {
    let wrong = |what: &str| Error::Usage(what.to_owned());
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| wrong("method: expected GET, …"))?;
    let body = body
        .map(|body| serde_json::from_str(body).map_err(|_| wrong("body: expected JSON")))
        .transpose()?;
    // These POSTs change nothing, or the same thing again.
    let is_read = method == Method::POST
        && ["/list", "/search", "/get", "/webhook"].iter().any(|end| path.ends_with(end));
    Ok(Asked { method, path, query, body, headers, instance_token, auth, is_read })
}

async fn ask(client: vzaps::Client, asked: Found<Asked>) -> Found<String> {
    let asked = asked?;
    let request = Request {
        method: asked.method,
        path: &asked.path,
        query: &asked.query,
        body: asked.body.as_ref(),
        headers: &asked.headers,
        instance_token: asked.instance_token.as_deref(),
        auth: asked.auth,
        is_read: asked.is_read,
    };
    Ok(client.request(request).await?.to_string())
}

#[pymethods]
impl VZapsClient {
    #[new]
    #[pyo3(signature = (
        *, client_token, client_secret, base_url, realtime_url, timeout, token_skew_seconds,
        max_retries, user_agent
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are named where it is called")]
    fn new(
        py: Python<'_>,
        client_token: &str,
        client_secret: &str,
        base_url: &str,
        realtime_url: &str,
        timeout: f64,
        token_skew_seconds: f64,
        max_retries: u32,
        user_agent: &str,
    ) -> PyResult<Self> {
        let client = vzaps::Client::builder(client_token, client_secret)
            .base_url(base_url)
            .realtime_url(realtime_url)
            .timeout(seconds(timeout)?)
            .token_skew(seconds(token_skew_seconds)?)
            .max_retries(max_retries)
            .user_agent(user_agent)
            .build()
            .map_err(|error| errors::exception(py, &error))?;
        Ok(Self { client, home: Home::here() })
    }

    /// Makes a call: `done(text, exception)`.
    #[expect(clippy::too_many_arguments, reason = "they are those of the call")]
    fn start_request(
        &self,
        done: Py<PyAny>,
        method: &str,
        path: String,
        query: Vec<(String, String)>,
        body: Option<&str>,
        headers: Vec<(String, String)>,
        instance_token: Option<String>,
        auth: bool,
    ) -> PyResult<Task> {
        self.home.check()?;
        let asked = asked(method, path, query, body, headers, instance_token, auth);
        bridge::spawn(ask(self.client.clone(), asked), done)
    }

    /// The same, waiting.
    #[expect(clippy::too_many_arguments, reason = "they are those of the call")]
    fn request(
        &self,
        py: Python<'_>,
        method: &str,
        path: String,
        query: Vec<(String, String)>,
        body: Option<&str>,
        headers: Vec<(String, String)>,
        instance_token: Option<String>,
        auth: bool,
    ) -> PyResult<String> {
        self.home.check()?;
        let asked = asked(method, path, query, body, headers, instance_token, auth);
        bridge::wait(py, ask(self.client.clone(), asked))
    }

    /// The access token: `done(text, exception)`.
    fn start_access_token(&self, done: Py<PyAny>) -> PyResult<Task> {
        self.home.check()?;
        let client = self.client.clone();
        bridge::spawn(async move { client.access_token().await }, done)
    }

    /// The same, waiting.
    fn access_token(&self, py: Python<'_>) -> PyResult<String> {
        self.home.check()?;
        bridge::wait(py, self.client.access_token())
    }

    /// A subscription that connects at once.
    #[pyo3(signature = (
        *, instance_id, instance_token, events, reconnect, last_event_id, max_retries,
        retry_delay_seconds, keep_alive_seconds, max_frame_bytes
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are named where it is called")]
    fn feed(
        &self,
        instance_id: &str,
        instance_token: &str,
        events: Vec<String>,
        reconnect: bool,
        last_event_id: Option<&str>,
        max_retries: Option<u32>,
        retry_delay_seconds: f64,
        keep_alive_seconds: f64,
        max_frame_bytes: usize,
    ) -> PyResult<Feed> {
        self.home.check()?;
        let mut watch = Watch::new(instance_id, instance_token)
            .events(events)
            .reconnect(reconnect)
            .retry_delay(seconds(retry_delay_seconds)?)
            .keep_alive(seconds(keep_alive_seconds)?)
            .max_frame_bytes(max_frame_bytes);
        if let Some(retries) = max_retries {
            watch = watch.max_retries(retries);
        }
        if let Some(id) = last_event_id {
            watch = watch.last_event_id(id);
        }
        // What it starts needs the runtime around it.
        let runtime = bridge::runtime()?;
        let _entered = runtime.enter();
        let feed = self.client.events().feed(watch);
        Ok(Feed { feed: Arc::new(Mutex::new(Some(feed))), home: self.home })
    }
}

/// What happens to a subscription, pulled.
#[pyclass(frozen, module = "zapbus._core")]
#[derive(Debug)]
pub(crate) struct Feed {
    feed: Arc<Mutex<Option<vzaps::Feed>>>,
    home: Home,
}

/// A happening as Python's half sees it: what it is, and the delivery or the exception.
pub(crate) struct Happened(Happening);

impl<'py> IntoPyObject<'py> for Happened {
    type Target = PyTuple;
    type Output = Bound<'py, PyTuple>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let exception = |error: Error| errors::exception(py, &error).into_value(py);
        match self.0 {
            Happening::Opened => ("opened", py.None()).into_pyobject(py),
            Happening::Event(delivery) => ("event", Delivery::from(delivery)).into_pyobject(py),
            Happening::Trouble(error) => ("trouble", exception(error)).into_pyobject(py),
            Happening::Closed => ("closed", py.None()).into_pyobject(py),
            Happening::Ended(error) => ("ended", error.map(exception)).into_pyobject(py),
            _ => ("other", py.None()).into_pyobject(py),
        }
    }
}

async fn pull(
    feed: Arc<Mutex<Option<vzaps::Feed>>>,
    most: usize,
    patience: std::time::Duration,
) -> Found<Option<Vec<Happened>>> {
    let mut feed = feed.lock().await;
    let Some(feed) = &mut *feed else { return Ok(Some(Vec::new())) };
    // Nothing is lost when the time is over: what is pulled is taken in one step.
    let pulled = timeout(patience, feed.next_many(most)).await;
    Ok(pulled.ok().map(|pulled| pulled.into_iter().map(Happened).collect()))
}

async fn close(feed: Arc<Mutex<Option<vzaps::Feed>>>) -> Found<()> {
    let feed = feed.lock().await.take();
    if let Some(feed) = feed {
        feed.close().await;
    }
    Ok(())
}

#[pymethods]
impl Feed {
    /// What has happened, up to `most`; `None` when `patience` is over, an empty list at the end:
    /// `done(list, exception)`.
    fn start_pull(&self, done: Py<PyAny>, most: usize, patience: f64) -> PyResult<Task> {
        self.home.check()?;
        bridge::spawn(pull(self.feed.clone(), most, seconds(patience)?), done)
    }

    /// The same, waiting.
    fn pull<'py>(
        &self,
        py: Python<'py>,
        most: usize,
        patience: f64,
    ) -> PyResult<Option<Vec<Bound<'py, PyTuple>>>> {
        self.home.check()?;
        let pulled = bridge::wait(py, pull(self.feed.clone(), most, seconds(patience)?))?;
        let Some(pulled) = pulled else { return Ok(None) };
        let pulled: PyResult<Vec<_>> =
            pulled.into_iter().map(|happened| happened.into_pyobject(py)).collect();
        pulled.map(Some)
    }

    /// What has happened already, up to `most`; nothing is waited for.
    fn ready<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        self.home.check()?;
        // Whoever pulls has what there is.
        let ready = match self.feed.try_lock() {
            Ok(mut feed) => feed.as_mut().map(|feed| feed.ready_many(most)).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        ready.into_iter().map(|happening| Happened(happening).into_pyobject(py)).collect()
    }

    /// Sends what is to be sent and closes the connection: `done(None, exception)`.
    fn start_close(&self, done: Py<PyAny>) -> PyResult<Task> {
        self.home.check()?;
        bridge::spawn(close(self.feed.clone()), done)
    }

    /// The same, waiting.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.home.check()?;
        bridge::wait(py, close(self.feed.clone()))
    }
}
