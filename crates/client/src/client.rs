//! A client of one gateway.

use std::{future::Future, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName};
use serde::de::DeserializeOwned;

use crate::{
    Error, Lease, Subscribe,
    bearer::{Bearer, Source},
    transport::{Call, Settings, Transport, header_value, server_url},
};

/// A client of one gateway. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    transport: Transport,
    bearer: Bearer,
    account: Option<String>,
}

/// How to reach a gateway.
#[derive(Clone)]
#[must_use = "it is a client only once it is built"]
pub struct ClientBuilder {
    url: String,
    source: Option<Source>,
    account: Option<String>,
    settings: Settings,
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder").field("url", &self.url).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// With this token: the admin's, an account's or an instance's.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        let token: String = token.into();
        self.source = Some(Source::Fixed(token.into()));
        self
    }

    /// With tokens from somebody else: asked for before the first request, when one has run out, and
    /// when one is refused.
    pub fn token_from<F, A>(mut self, ask: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<Lease, Error>> + Send + 'static,
    {
        self.source = Some(Source::asked(ask));
        self
    }

    /// The account to act in, by id or name, with the admin token.
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// How long one request may take; 30 seconds if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How often a request is repeated where that does no harm; twice, if not said.
    pub fn max_retries(mut self, retries: u32) -> Self {
        self.settings.max_retries = retries;
        self
    }

    /// Who asks: the header `User-Agent`.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.settings.user_agent = user_agent.into();
        self
    }

    /// The client.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] without a token, or when the URL is none.
    pub fn build(self) -> Result<Client, Error> {
        let url = server_url(&self.url, ["http", "https"])?;
        let missing = || Error::usage("a token is needed: .token(…) or .token_from(…)");
        let source = self.source.ok_or_else(missing)?;
        if matches!(&source, Source::Fixed(token) if token.trim().is_empty()) {
            return Err(missing());
        }
        Ok(Client(Arc::new(Inner {
            transport: Transport::new(url, &self.settings)?,
            bearer: Bearer::new(source),
            account: self.account,
        })))
    }
}

impl Client {
    /// A client of the gateway at a URL, for example `https://bus.example.com`. What stands before
    /// `/v1` in its paths belongs to it.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            url: url.into(),
            source: None,
            account: None,
            settings: Settings::default(),
        }
    }

    /// Live events of an instance, by id or name.
    pub fn subscribe(&self, instance: impl Into<String>) -> Subscribe {
        Subscribe::new(self.clone(), Some(instance.into()))
    }

    /// Live events of everything the token reaches.
    pub fn subscribe_all(&self) -> Subscribe {
        Subscribe::new(self.clone(), None)
    }

    /// Makes a call that has no method of its own here, and reads the answer's JSON; `null` when it
    /// has none.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn request(
        &self,
        method: http::Method,
        path: &[&str],
        query: &[(String, String)],
        body: Option<&serde_json::Value>,
        idempotency_key: Option<&str>,
    ) -> Result<serde_json::Value, Error> {
        let mut call = Call::new(method, path);
        call.query = query.iter().cloned().map(|(name, value)| (name.into(), value)).collect();
        if let Some(body) = body {
            call = call.json(body)?;
        }
        if idempotency_key.is_some() {
            call = call.keyed(idempotency_key)?;
        }
        // A long poll is answered when it is over.
        let wait = query.iter().find(|(name, _)| name == "wait");
        if let Some(seconds) = wait.and_then(|(_, wait)| wait.parse().ok()) {
            call.timeout = Some(self.transport().timeout() + Duration::from_secs(seconds));
        }
        let answer = self.send(call).await?;
        if answer.is_empty() {
            return Ok(serde_json::Value::Null);
        }
        read(&answer)
    }

    /// Makes a call and reads the answer.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        read(&self.send(call).await?)
    }

    /// Makes a call that answers nothing.
    pub(crate) async fn command(&self, call: Call) -> Result<(), Error> {
        self.send(call).await.map(drop)
    }

    async fn send(&self, mut call: Call) -> Result<bytes::Bytes, Error> {
        self.add_account(&mut call.headers)?;
        self.0.transport.call(call, Some(&self.0.bearer)).await
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.0.transport
    }

    pub(crate) fn bearer(&self) -> &Bearer {
        &self.0.bearer
    }

    /// What a live connection is opened with.
    pub(crate) async fn headers(&self) -> Result<HeaderMap, Error> {
        let token = self.0.bearer.token().await?;
        let mut headers = self.0.transport.headers(Some(&token))?;
        self.add_account(&mut headers)?;
        Ok(headers)
    }

    fn add_account(&self, headers: &mut HeaderMap) -> Result<(), Error> {
        if let Some(account) = &self.0.account {
            let name = HeaderName::from_static("zapbus-account");
            headers.insert(name.clone(), header_value(&name, account)?);
        }
        Ok(())
    }
}

/// Reads an answer.
pub(crate) fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(answer).map_err(|error| {
        Error::Unreadable(format!(
            "the answer is not one of Zapbus as this client knows it: {error}"
        ))
    })
}
