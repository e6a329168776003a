//! Asks a running gateway, and turns its refusals into exit codes.

use std::{io::Write, time::Duration};

use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy, rt::TokioExecutor};
use serde_json::Value;
use zapbus_store::DEFAULT_ACCOUNT;

use super::{
    Exit, Failure,
    output::{write_fields, write_json, write_table},
};
use crate::simulator::chain;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which gateway, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// The gateway.
    #[arg(
        // Ids of their own: commands have arguments of these names too.
        id = "connection_url",
        long = "url",
        env = "ZAPBUS_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080",
        global = true,
        value_name = "URL"
    )]
    url: String,
    /// The admin token, or the token of an account or instance [also: ZAPBUS_ADMIN_TOKEN].
    #[arg(
        id = "connection_token",
        long = "token",
        env = "ZAPBUS_TOKEN",
        hide_env_values = true,
        global = true,
        value_name = "TOKEN"
    )]
    token: Option<String>,
    /// The account to work in, by id or name, with the admin token [default: the default account].
    #[arg(id = "connection_account", long = "in-account", global = true, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Print the gateway's JSON answer.
    #[arg(id = "connection_json", long = "json", global = true)]
    json: bool,
    /// Print lists as JSON lines, as they come.
    #[arg(
        id = "connection_ndjson",
        long = "ndjson",
        global = true,
        conflicts_with = "connection_json"
    )]
    ndjson: bool,
}

/// One call of the API.
pub(super) struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    patience: Option<Duration>,
}

impl Call {
    /// `path` in segments, which are escaped.
    pub(super) fn new(method: Method, path: &[&str]) -> Self {
        let path = path.iter().map(|segment| (*segment).to_owned()).collect();
        Self { method, path, query: Vec::new(), body: None, patience: Some(PATIENCE) }
    }

    pub(super) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, path) }
    }

    pub(super) fn patch(path: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PATCH, path) }
    }

    pub(super) fn put(path: &[&str], body: Value) -> Self {
        Self { body: Some(body), ..Self::new(Method::PUT, path) }
    }

    pub(super) fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Its answer may take as long as it takes.
    pub(super) fn patient(self) -> Self {
        Self { patience: None, ..self }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
}

impl Connection {
    /// The output is for programs.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// The account to work in.
    pub(super) fn account_or_default(&self) -> &str {
        self.account.as_deref().unwrap_or(DEFAULT_ACCOUNT)
    }

    /// Makes the call and shows the one thing it answers.
    pub(super) fn show(&self, call: Call, out: &mut dyn Write) -> Result<(), Failure> {
        let answer = self.ask(call)?;
        self.say(&answer, out)
    }

    /// Shows one thing.
    pub(super) fn say(&self, answer: &Value, out: &mut dyn Write) -> Result<(), Failure> {
        if self.ndjson {
            writeln!(out, "{answer}")?;
        } else if self.json {
            write_json(out, answer)?;
        } else if answer.is_null() {
            writeln!(out, "done")?;
        } else {
            write_fields(out, answer)?;
        }
        Ok(())
    }

    /// Follows a list to its end and shows it.
    pub(super) fn list(
        &self,
        path: &[&str],
        columns: &[&str],
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let mut rows = Vec::new();
        self.pages(path, |page| {
            if self.ndjson {
                return self.lines(&page, out);
            }
            rows.extend(page);
            Ok(())
        })?;
        if self.ndjson { Ok(()) } else { self.rows(rows, columns, out) }
    }

    /// Shows several things of which all are there.
    pub(super) fn rows(
        &self,
        rows: Vec<Value>,
        columns: &[&str],
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        if self.ndjson {
            self.lines(&rows, out)
        } else if self.json {
            Ok(write_json(out, &Value::Array(rows))?)
        } else {
            Ok(write_table(out, &rows, columns)?)
        }
    }

    /// Shows several things as JSON lines.
    pub(super) fn lines(&self, rows: &[Value], out: &mut dyn Write) -> Result<(), Failure> {
        for row in rows {
            writeln!(out, "{row}")?;
        }
        Ok(())
    }

    /// Whether the output is for a machine.
    pub(super) fn wants_json(&self) -> bool {
        self.json || self.ndjson
    }

    /// Whether the output is one JSON document for each thing, on a line.
    pub(super) fn wants_lines(&self) -> bool {
        self.ndjson
    }

    /// Everything in a list.
    pub(super) fn all(&self, path: &[&str]) -> Result<Vec<Value>, Failure> {
        let mut rows = Vec::new();
        self.pages(path, |page| {
            rows.extend(page);
            Ok(())
        })?;
        Ok(rows)
    }

    /// A list page by page, to its end.
    fn pages(
        &self,
        path: &[&str],
        mut take: impl FnMut(Vec<Value>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut after: Option<String> = None;
        loop {
            let mut call = Call::get(path);
            if let Some(after) = after {
                call = call.query("after", after);
            }
            let mut page = self.ask(call)?;
            if let Value::Array(data) = page["data"].take() {
                take(data)?;
            }
            match page["next"].as_str() {
                Some(next) => after = Some(next.to_owned()),
                None => return Ok(()),
            }
        }
    }

    /// The answer's JSON; null when it has none.
    pub(super) fn ask(&self, call: Call) -> Result<Value, Failure> {
        super::runtime()?.block_on(self.answer(call))
    }

    /// [`Connection::ask`] where something else is waited for beside it.
    pub(super) async fn answer(&self, call: Call) -> Result<Value, Failure> {
        let patience = call.patience;
        let request = self.request(call)?;
        let answer = match patience {
            Some(patience) => tokio::time::timeout(patience, send(request))
                .await
                .map_err(|_| self.unreachable("no answer within a minute"))?,
            None => send(request).await,
        };
        let (status, body) = answer.map_err(|error| self.unreachable(&error))?;
        let answer = match body.as_slice() {
            [] => Value::Null,
            body => serde_json::from_slice(body)
                .map_err(|_| self.unreachable("the answer is not one of Zapbus"))?,
        };
        if status.is_success() { Ok(answer) } else { Err(refusal(status, &answer)) }
    }

    /// The call as a request, for callers that keep connections of their own.
    pub(super) fn request(&self, call: Call) -> Result<Request<Full<bytes::Bytes>>, Failure> {
        let wrong = |reason: &str| {
            let message =
                format!("--url {}: {reason}, for example http://127.0.0.1:8080", self.url);
            Failure::new(Exit::Usage, message)
        };
        let mut url: url::Url = self.url.parse().map_err(|_| wrong("expected a URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("expected http:// or https://"));
        }
        url.path_segments_mut()
            .map_err(|()| wrong("expected a URL with a host"))?
            .pop_if_empty()
            .extend(&call.path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let given = |token: &String| !token.is_empty();
        let token = self
            .token
            .clone()
            .filter(given)
            .or_else(|| std::env::var("ZAPBUS_ADMIN_TOKEN").ok().filter(given))
            .ok_or_else(|| {
                Failure::new(
                    Exit::Usage,
                    "a token is needed: --token, ZAPBUS_TOKEN or ZAPBUS_ADMIN_TOKEN. `zapbus serve` printed the admin token at its first start.",
                )
            })?;
        let mut request = Request::builder()
            .method(call.method)
            .uri(url.as_str())
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::USER_AGENT, concat!("zapbus-cli/", env!("CARGO_PKG_VERSION")));
        if let Some(account) = &self.account {
            request = request.header("zapbus-account", account);
        }
        let body = match call.body {
            None => Full::default(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Full::from(body.to_string())
            }
        };
        request.body(body).map_err(|error| Failure::new(Exit::Usage, error.to_string()))
    }

    /// Nothing of ours answers there.
    pub(super) fn unreachable(&self, reason: &str) -> Failure {
        Failure::new(
            Exit::Unreachable,
            format!(
                "cannot reach {}: {reason}. Is `zapbus serve` running there? (--url, ZAPBUS_URL)",
                self.url
            ),
        )
    }
}

/// Asks a server of any kind; its status and what it says.
pub(super) async fn fetch<const N: usize>(
    method: Method,
    url: &str,
    headers: [(&'static str, &str); N],
    body: Option<&Value>,
) -> Result<(StatusCode, Vec<u8>), String> {
    let mut request = Request::builder()
        .method(method)
        .uri(url)
        .header(header::USER_AGENT, concat!("zapbus-cli/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map(|body| Full::from(body.to_string())).unwrap_or_default();
    send(request.body(body).map_err(|error| error.to_string())?).await
}

async fn send(request: Request<Full<bytes::Bytes>>) -> Result<(StatusCode, Vec<u8>), String> {
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|error| format!("no trusted certificates: {error}"))?
        .https_or_http()
        .enable_http1()
        .build();
    let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
    let response = client.request(request).await.map_err(|error| chain(&error))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| chain(&error))?;
    Ok((status, body.to_bytes().to_vec()))
}

/// What the problem document says, and its exit code.
pub(super) fn refusal(status: StatusCode, problem: &Value) -> Failure {
    let exit = match status {
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
        _ => Exit::Failure,
    };
    let text = |name: &str| problem[name].as_str().map(str::to_owned);
    let mut message =
        text("detail").or_else(|| text("title")).unwrap_or_else(|| status.to_string());
    for error in problem["errors"].as_array().into_iter().flatten() {
        let part = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        message.push_str(&format!("\n  {}: {}", part("path"), part("message")));
    }
    if let Some(code) = text("code") {
        message.push_str(&format!(" ({code})"));
    }
    Failure::new(exit, message)
}
