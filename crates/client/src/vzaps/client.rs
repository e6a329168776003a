//! A client with the credentials of VZaps: a public token and a secret, exchanged for a short-lived
//! one.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Method};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Events, Instances, Sessions, Webhooks};
use crate::{
    Error, Lease,
    bearer::{Bearer, Source},
    client::read,
    transport::{Call, Repeat, Settings, Transport, header_value, server_url},
};

const BASE_URL: &str = "https://api.vzaps.com";
const REALTIME_URL: &str = "wss://realtime.vzaps.com";
const CLIENT_TOKEN: HeaderName = HeaderName::from_static("x-client-token");
const INSTANCE_TOKEN: HeaderName = HeaderName::from_static("x-instance-token");

/// A client. Cheap to clone; clones share connections and the access token.
#[derive(Debug, Clone)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    transport: Transport,
    realtime: Transport,
    bearer: Bearer,
    client_token: String,
}

/// How to reach a server.
#[derive(Clone)]
#[must_use = "it is a client only once it is built"]
pub struct ClientBuilder {
    client_token: String,
    client_secret: String,
    base_url: String,
    realtime_url: String,
    token_skew: Duration,
    settings: Settings,
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("base_url", &self.base_url)
            .field("realtime_url", &self.realtime_url)
            .finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// Where the API is; VZaps's own, if not said.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Where realtime events are, `ws://` or `wss://`; VZaps's own, if not said.
    pub fn realtime_url(mut self, url: impl Into<String>) -> Self {
        self.realtime_url = url.into();
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

    /// How long before its end an access token is exchanged for a new one; a minute if not said.
    pub fn token_skew(mut self, skew: Duration) -> Self {
        self.token_skew = skew;
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
    /// [`Error::Usage`] when a credential is empty or a URL is none.
    pub fn build(self) -> Result<Client, Error> {
        for (name, value) in
            [("client_token", &self.client_token), ("client_secret", &self.client_secret)]
        {
            if value.trim().is_empty() {
                return Err(Error::usage(format!("{name} is needed")));
            }
        }
        let base = server_url(&self.base_url, ["http", "https"])?;
        let mut live = server_url(&self.realtime_url, ["ws", "wss"])?;
        let scheme = if live.scheme() == "wss" { "https" } else { "http" };
        // Both are special schemes with a host.
        let _ = live.set_scheme(scheme);
        let transport = Transport::new(base, &self.settings)?;
        let bearer = exchange(transport.clone(), &self);
        let realtime = transport.at(live);
        let client_token = self.client_token;
        Ok(Client(Arc::new(Inner { transport, realtime, bearer, client_token })))
    }
}

#[derive(Deserialize)]
struct Granted {
    #[serde(alias = "accessToken")]
    access_token: String,
    #[serde(alias = "expiresIn")]
    expires_in: f64,
}

/// Gets an access token when one is needed.
fn exchange(transport: Transport, builder: &ClientBuilder) -> Bearer {
    let body = json!({
        "client_token": builder.client_token,
        "client_secret": builder.client_secret,
    });
    let skew = builder.token_skew;
    Bearer::new(Source::asked(move || {
        let (transport, body) = (transport.clone(), body.clone());
        async move {
            let mut call = Call::new(Method::POST, &["token"]).json(&body)?;
            // Tokens are made of nothing and leave nothing behind.
            call.repeat = Repeat::Harmless;
            let Granted { access_token, expires_in } = read(&transport.call(call, None).await?)?;
            let lasts = Duration::try_from_secs_f64(expires_in).unwrap_or(skew);
            Ok(Lease { token: access_token, lasts: Some(lasts.saturating_sub(skew)) })
        }
    }))
}

impl Client {
    /// A client with these credentials.
    pub fn builder(
        client_token: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> ClientBuilder {
        ClientBuilder {
            client_token: client_token.into(),
            client_secret: client_secret.into(),
            base_url: BASE_URL.to_owned(),
            realtime_url: REALTIME_URL.to_owned(),
            token_skew: Duration::from_secs(60),
            settings: Settings::default(),
        }
    }

    /// Instances.
    pub fn instances(&self) -> Instances<'_> {
        Instances(self)
    }

    /// The webhook of an instance, and its delivery log.
    pub fn webhooks(&self) -> Webhooks<'_> {
        Webhooks(self)
    }

    /// The WhatsApp session of an instance.
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions(self)
    }

    /// Events as they happen.
    pub fn events(&self) -> Events<'_> {
        Events(self)
    }

    /// The access token that requests carry now.
    ///
    /// # Errors
    ///
    /// When the credentials are refused, or the server cannot be reached.
    pub async fn access_token(&self) -> Result<String, Error> {
        Ok(self.0.bearer.token().await?.as_ref().to_owned())
    }

    /// Makes a call that has no method of its own here. `path` begins with `/` and is escaped
    /// already.
    ///
    /// # Errors
    ///
    /// Whatever the server refuses, and that it cannot be reached.
    pub async fn request(&self, request: Request<'_>) -> Result<Value, Error> {
        let segments: Vec<String> =
            request.path.trim_start_matches('/').split('/').map(unescape).collect();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        let mut call = Call::new(request.method, &path);
        let query = request.query.iter().cloned();
        call.query = query.map(|(name, value)| (name.into(), value)).collect();
        if let Some(body) = request.body {
            call = call.json(body)?;
        }
        for (name, value) in request.headers {
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| Error::usage(format!("{name:?} is no name of a header")))?;
            call = call.header(name, value)?;
        }
        if request.is_read {
            call.repeat = Repeat::Harmless;
        }
        let answer = self.send(call, request.instance_token, request.auth).await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        // Other servers may answer with a text.
        Ok(serde_json::from_slice(&answer)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&answer).into_owned())))
    }

    /// Makes a call and reads the answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        call: Call,
        instance_token: Option<&str>,
    ) -> Result<T, Error> {
        let answer = self.send(call, instance_token, true).await?;
        read(if answer.is_empty() { b"null" } else { &answer })
    }

    async fn send(
        &self,
        mut call: Call,
        instance_token: Option<&str>,
        auth: bool,
    ) -> Result<bytes::Bytes, Error> {
        if auth {
            call = call.header(CLIENT_TOKEN, &self.0.client_token)?;
        }
        if let Some(token) = instance_token {
            call = call.header(INSTANCE_TOKEN, token)?;
        }
        self.0.transport.call(call, auth.then_some(&self.0.bearer)).await
    }

    pub(super) fn realtime(&self) -> &Transport {
        &self.0.realtime
    }

    pub(super) fn bearer(&self) -> &Bearer {
        &self.0.bearer
    }

    /// What a live connection is opened with: credentials go nowhere else.
    pub(super) async fn headers(&self, instance_token: &str) -> Result<HeaderMap, Error> {
        let token = self.0.bearer.token().await?;
        let mut headers = self.0.realtime.headers(Some(&token))?;
        headers.insert(CLIENT_TOKEN, header_value(&CLIENT_TOKEN, &self.0.client_token)?);
        headers.insert(INSTANCE_TOKEN, header_value(&INSTANCE_TOKEN, instance_token)?);
        Ok(headers)
    }
}

/// A call of [`Client::request`].
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path, escaped.
    pub path: &'a str,
    /// The query.
    pub query: &'a [(String, String)],
    /// The JSON body.
    pub body: Option<&'a Value>,
    /// Further headers.
    pub headers: &'a [(String, String)],
    /// The token of the instance it is about.
    pub instance_token: Option<&'a str>,
    /// Whether to authenticate.
    pub auth: bool,
    /// It changes nothing, so that it may be repeated.
    pub is_read: bool,
}

fn unescape(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = (first == b'%').then(|| behind.get(..2)).flatten();
        let digits = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read() {
        assert_eq!(unescape("log%2F1%zz%"), "log/1%zz%");
        assert_eq!(unescape("%C3%A9"), "é");
    }

    #[test]
    fn credentials_are_needed_and_urls_checked() {
        let error = Client::builder(" ", "x").build().unwrap_err();
        assert_eq!(error.to_string(), "client_token is needed");
        let error = Client::builder("x", "y").realtime_url("http://a").build().unwrap_err();
        assert!(error.to_string().contains("ws://"), "{error}");
    }
}
