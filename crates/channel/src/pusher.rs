//! Triggers events in an app of Pusher's, or of a server that speaks its HTTP API.

mod config;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, StatusCode, header, uri::PathAndQuery};
use md5::{Digest, Md5};
use serde::Serialize;
use serde_json::json;
use sha2::Sha256;
use zapbus_event::Timestamp;

pub use config::{Config, Oversize};

use crate::{
    Fault, Message, Opening, Outcome, Report, Scope,
    exchange::{Answer, Body, Call, Target},
    gather::{Gather, Item, Limits, Peer, failed},
    pool::{Pool, Route},
    template::{Template, fitted},
    webhook::{Http2, retry_after, shown_headers},
};

/// What the batch endpoint takes at once.
const BATCH: usize = 10;
/// Requests under way at one time.
const REQUESTS: usize = 8;
/// The longest names of channels and events.
const CHANNEL_LIMIT: usize = 164;
const EVENT_LIMIT: usize = 200;

/// An app ready to be triggered in.
pub struct Pusher {
    gather: Arc<Gather<App>>,
    channel: Template,
    event: Template,
    limit: usize,
    oversize: Oversize,
    /// Where events can be fetched.
    public_url: Option<Arc<str>>,
}

impl std::fmt::Debug for Pusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let app = self.gather.peer();
        f.debug_struct("Pusher").field("pool", &app.pool).field("path", &app.path).finish()
    }
}

/// The app, and how to ask.
struct App {
    pool: Arc<Pool>,
    target: Target,
    path: String,
    key: String,
    signer: Hmac<Sha256>,
    headers: HeaderMap,
    timeout: Duration,
    connect_timeout: Duration,
}

/// One event as the API wants it.
#[derive(Serialize)]
struct Trigger<'a> {
    name: &'a str,
    channel: &'a str,
    data: &'a str,
}

/// What a message becomes.
struct Named {
    channel: String,
    event: String,
    data: Data,
}

enum Data {
    Body,
    Pointer(String),
}

impl Pusher {
    /// Prepares everything that is the same for each message.
    pub(crate) fn open(config: &Config, opening: &Opening) -> Result<Self, Vec<Fault>> {
        let faults = config.form_faults();
        if !faults.is_empty() {
            return Err(faults);
        }
        let one = |fault: Fault| vec![fault];
        let url = config.url().map_err(one)?;
        let unfit = || one(Fault::new("host", "cannot be written in a request"));
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(unfit());
        };
        let target = Target::of(&url).map_err(|_| unfit())?;
        let connecting = config.connecting();
        let route = Route {
            guard: Arc::clone(&opening.guard),
            https: url.scheme() == "https",
            host: host.to_owned(),
            port,
            http2: Http2::Never,
            identity: connecting.identity().map_err(one)?,
            proxy: None,
        };
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(header::HOST, target.host().clone());
        headers.insert(header::USER_AGENT, opening.user_agent.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let signer = Hmac::new_from_slice(config.secret.expose().as_bytes())
            .map_err(|_| one(Fault::new("secret", "cannot be used to sign")))?;
        let timeout = connecting.timeout().unwrap_or(opening.timeout);
        let app = App {
            pool: opening.pools.pool(route),
            target,
            path: config.app_path().map_err(one)?,
            key: config.key.clone(),
            signer,
            headers,
            timeout,
            connect_timeout: connecting.connect_timeout(),
        };
        let limit = config.limit();
        let limits =
            Limits { count: BATCH, bytes: BATCH * limit, requests: REQUESTS, patience: timeout };
        let (channel, event) = config.names();
        Ok(Self {
            gather: Gather::new(app, limits),
            channel,
            event,
            limit,
            oversize: config.oversize,
            public_url: opening.public_url.clone(),
        })
    }

    /// Sends the messages one after another.
    pub(crate) async fn send(&self, batch: &[Message]) -> Vec<Report> {
        let mut reports = Vec::with_capacity(batch.len());
        for message in batch {
            reports.push(match self.named(message) {
                Ok(named) => {
                    let item = Item {
                        place: String::new(),
                        bytes: message.body.len().min(self.limit),
                        message: message.clone(),
                        more: named,
                    };
                    self.gather.send(item).await
                }
                Err(error) => failed(Outcome::Refused, error),
            });
        }
        reports
    }

    fn named(&self, message: &Message) -> Result<Named, String> {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "_-=@,.;".contains(letter);
        let channel = fitted(&self.channel.render(message), fits, CHANNEL_LIMIT);
        let event = fitted(&self.event.render(message), |it| !it.is_control(), EVENT_LIMIT);
        if channel.is_empty() || event.is_empty() {
            return Err("the name of the channel or the event is empty; change the template".into());
        }
        let bytes = message.body.len();
        let data = if bytes <= self.limit {
            if std::str::from_utf8(&message.body).is_err() {
                return Err("the event is no text, and Pusher carries nothing else".into());
            }
            Data::Body
        } else if self.oversize == Oversize::Refuse {
            return Err(format!(
                "the event takes {bytes} bytes and the app takes {}; raise `max_bytes` if the server \
                 takes more, or set `oversize` to pointer",
                self.limit
            ));
        } else {
            Data::Pointer(self.pointer(message).to_string())
        };
        Ok(Named { channel, event, data })
    }

    /// What goes in place of an event that is too large.
    fn pointer(&self, message: &Message) -> serde_json::Value {
        let id = message.event_id();
        json!({
            "pointer": true,
            "event": message.event_name,
            "instance": &*message.instance_name,
            "event_id": id,
            "url": self.public_url.as_ref().map(|base| format!("{base}/v1/events/{id}")),
            "bytes": message.body.len(),
        })
    }
}

impl Peer for App {
    type More = Named;

    async fn post(&self, items: Vec<Item<Named>>) -> Vec<Report> {
        if let [item] = items.as_slice() {
            return vec![self.trigger(item).await];
        }
        let events: Vec<Trigger<'_>> = items.iter().filter_map(trigger).collect();
        let body = serde_json::to_vec(&json!({ "batch": events })).unwrap_or_default();
        let messages: Vec<&Message> = items.iter().map(|item| &item.message).collect();
        let answer = self.ask("batch_events", body.into(), &messages).await;
        let first = self.report(&answer, messages[0]);
        // It is not said which of them is meant: each has to be asked about by itself.
        let one_of_them =
            matches!(&first.outcome, Outcome::Refused | Outcome::Withheld) && items.len() > 1;
        if !one_of_them {
            return vec![first; items.len()];
        }
        let mut reports = Vec::with_capacity(items.len());
        for item in &items {
            reports.push(self.trigger(item).await);
        }
        reports
    }
}

fn trigger<'a>(item: &'a Item<Named>) -> Option<Trigger<'a>> {
    let Named { channel, event, data } = &item.more;
    let data = match data {
        Data::Body => std::str::from_utf8(&item.message.body).ok()?,
        Data::Pointer(text) => text,
    };
    Some(Trigger { name: event, channel, data })
}

impl App {
    /// One event by itself.
    async fn trigger(&self, item: &Item<Named>) -> Report {
        let body = serde_json::to_vec(&trigger(item)).unwrap_or_default();
        let answer = self.ask("events", body.into(), &[&item.message]).await;
        self.report(&answer, &item.message)
    }

    async fn ask(&self, endpoint: &str, body: Bytes, messages: &[&Message]) -> Answer {
        let call = Call {
            pool: &self.pool,
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            body: Body::Excerpt,
        };
        let now = messages.iter().map(|message| message.timestamp).max().unwrap_or_default();
        let may_go = || messages.iter().all(|message| message.may_go());
        call.send(may_go, |form| {
            let path = self.signed_path(endpoint, &body, now);
            let path = PathAndQuery::try_from(path)?;
            self.target.post(form, path, self.headers.clone(), body.clone())
        })
        .await
    }

    /// Path and query, signed.
    fn signed_path(&self, endpoint: &str, body: &[u8], now: Timestamp) -> String {
        let path = format!("{}/{endpoint}", self.path);
        let query = format!(
            "auth_key={}&auth_timestamp={}&auth_version=1.0&body_md5={}",
            self.key,
            now.as_secs(),
            hex::encode(Md5::digest(body))
        );
        let mut mac = self.signer.clone();
        mac.update(format!("POST\n{path}\n{query}").as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        format!("{path}?{query}&auth_signature={signature}")
    }

    fn report(&self, answer: &Answer, message: &Message) -> Report {
        let (outcome, error) = match &answer.result {
            Ok(status) => {
                let asked = answer.headers.get(header::RETRY_AFTER);
                let after =
                    asked.and_then(|it| retry_after(it, message.timestamp + answer.until_head));
                let outcome = classify(*status, after);
                let error = (outcome != Outcome::Accepted).then(|| answer_error(*status));
                (outcome, error)
            }
            Err(failure) => (failure.outcome(), Some(failure.to_string())),
        };
        let (request_headers, response_headers) = match outcome {
            Outcome::Accepted => (Vec::new(), Vec::new()),
            _ => (shown_headers(&self.headers), shown_headers(&answer.headers)),
        };
        Report {
            outcome,
            status: answer.status.map(|status| status.as_u16()),
            latency: answer.latency,
            error,
            request_headers,
            response_headers,
            excerpt: Bytes::copy_from_slice(&answer.body),
        }
    }
}

/// What an answer means.
///
/// - 2xx: accepted.
/// - 400, 413 and 422 refuse the event: sent again, it is the same event.
/// - 500: this event, again.
/// - Everything else speaks of the app, or of the way to it: its key or secret is wrong, it is
///   disabled, unknown or over its quota, or what answers there is no Pusher at all (404, 405, 410, a
///   redirect, 502). An outage of that kind makes no dead letters.
fn classify(status: StatusCode, after: Option<Duration>) -> Outcome {
    let scope = match status.as_u16() {
        200..=299 => return Outcome::Accepted,
        400 | 413 | 422 => return Outcome::Refused,
        500 => Scope::Event,
        _ => Scope::Destination,
    };
    Outcome::Retry { after, scope }
}

/// What an answer that is no success means for the destination's owner.
fn answer_error(status: StatusCode) -> String {
    let advice = match status.as_u16() {
        401 => "check `key` and `secret`, and that this machine's clock is right",
        402 | 403 => "the app is disabled or over its quota",
        404 | 410 => "there is no such app; check `app_id`, and `cluster` or `host`",
        405 | 406 | 411 | 415 => {
            "what answers there does not speak Pusher's HTTP API; check `host`, `port` and `path`"
        }
        413 => "the event is too large for the app; lower `max_bytes`",
        429 => "the app gets more than it wants",
        400 | 422 => "the app does not take this event",
        300..=399 => {
            "redirects are not followed; set `host`, `port`, `path` and `tls` to where it leads"
        }
        _ => "expected 2xx",
    };
    format!("Pusher answered {status}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_outcome() {
        let retry = |scope| Outcome::Retry { after: None, scope };
        for (statuses, expected) in [
            (&[200, 202][..], Outcome::Accepted),
            (
                &[
                    301, 308, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 414, 415, 421,
                    425, 426, 429, 431, 451, 501, 502, 503, 504, 520,
                ],
                retry(Scope::Destination),
            ),
            (&[400, 413, 422], Outcome::Refused),
            (&[500], retry(Scope::Event)),
        ] {
            for status in statuses {
                let found = classify(StatusCode::from_u16(*status).unwrap(), None);
                assert_eq!(found, expected, "{status}");
            }
        }
    }

    /// The example of the protocol's documentation.
    #[test]
    fn requests_are_signed_as_documented() {
        let config: Config = crate::fault::read(json!({
            "app_id": "3", "key": "278d425bdf160c739803", "secret": "7ad3773142a6692b25b8",
            "cluster": "mt1",
        }))
        .unwrap();
        let opening = Opening::new(Arc::new(crate::egress::Guard::trusted()));
        let pusher = Pusher::open(&config, &opening).unwrap();
        let body = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let path = pusher.gather.peer().signed_path(
            "events",
            body.as_bytes(),
            Timestamp::from_millis(1_353_088_179_000),
        );
        assert_eq!(
            path,
            "/apps/3/events?auth_key=278d425bdf160c739803&auth_timestamp=1353088179\
             &auth_version=1.0&body_md5=ec365a775a4cd0599faeb73354201b6f\
             &auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
        );
        assert!(!format!("{pusher:?}").contains("7ad3773142a6692b25b8"));
    }
}
