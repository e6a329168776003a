//! Who connects to a socket, and what it asks for.
//!
//! A key is in a header or in the query when a connection begins, or in what a client of Socket.IO
//! says when it joins a namespace. An instance's token reaches that instance, the operator's key all
//! of the default account.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use serde_json::Value;
use zapbus_event::AccountId;
use zapbus_store::{DEFAULT_ACCOUNT, Role};

use crate::{
    api::{
        auth::{Caller, bearer, find_account, is_near},
        error::ApiError,
        evolution::access::is_operators,
    },
    app::App,
    server::proxy::Peer,
};

const APIKEY: HeaderName = HeaderName::from_static("apikey");

/// Why somebody is not let in, in upstream's words.
#[derive(Debug)]
pub(super) enum Refused {
    /// There is no key.
    NoKey,
    /// Nobody has this key.
    WrongKey,
    /// There is no such namespace, or it is none of the caller's.
    NoNamespace,
    /// What was asked for makes no sense.
    Bad(String),
    /// It would be right, but cannot be done.
    Failed(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Unauthenticated { .. } | ApiError::Forbidden { .. } => Self::WrongKey,
            ApiError::NotFound(_) => Self::NoNamespace,
            error => Self::Failed(error),
        }
    }
}

impl From<zapbus_store::StoreError> for Refused {
    fn from(error: zapbus_store::StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Refused {
    /// For the client.
    pub(super) fn message(&self) -> String {
        match self {
            Self::NoKey => "apiKey is required".to_owned(),
            Self::WrongKey => "Authentication error".to_owned(),
            Self::NoNamespace => "Invalid namespace".to_owned(),
            Self::Bad(message) => message.clone(),
            Self::Failed(error) => error.problem().detail,
        }
    }
}

/// Whoever has begun a connection.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// Whose the key is that it began with, if there was one.
    pub(super) caller: Option<Access>,
    /// It may do without.
    anonymous: bool,
    /// It is on this machine, or the connection is not: what a URL holds is written down nowhere
    /// else.
    is_near: bool,
    pub(super) wishes: Wishes,
}

/// A caller, in the account that it asks about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    pub(super) caller: Caller,
    pub(super) account: AccountId,
    /// It needed no key.
    pub(super) anonymous: bool,
}

/// What a client asks for beside a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    key: Option<String>,
    /// Go on behind this event.
    pub(super) last_event_id: Option<String>,
    /// Each event comes with its id.
    pub(super) ids: bool,
    /// Each event waits for an acknowledgement.
    pub(super) ack: bool,
    /// The name under which the gateway keeps where it stands.
    pub(super) subscriber: Option<String>,
    /// What a client of Socket.IO remembers by itself: whom it was, and the last id that it saw.
    pub(super) pid: Option<String>,
    pub(super) offset: Option<String>,
}

impl Wishes {
    /// What a query asks for.
    pub(super) fn of_query(query: &str) -> Self {
        let mut wishes = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            wishes.set(&name, value.trim());
        }
        // Only what a client says when it joins is its memory.
        (wishes.pid, wishes.offset) = (None, None);
        wishes
    }

    /// The same, with what a client says when it joins a namespace: that comes first.
    pub(super) fn with(&self, auth: &Value) -> Self {
        let mut wishes = self.clone();
        for (name, value) in auth.as_object().into_iter().flatten() {
            match value {
                Value::String(value) => wishes.set(name, value.trim()),
                Value::Bool(value) => wishes.set(name, if *value { "true" } else { "false" }),
                _ => {}
            }
        }
        wishes
    }

    fn set(&mut self, name: &str, value: &str) {
        let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
        let truth = || matches!(value, "true" | "1" | "explicit");
        match name {
            "apikey" | "apiKey" | "token" => self.key = text().or_else(|| self.key.take()),
            "last_event_id" | "lastEventId" => {
                // Whoever remembers ids, be it none yet, wants to see them.
                self.ids = true;
                self.last_event_id = text();
            }
            "event_ids" | "eventIds" => self.ids = truth(),
            "ack" => self.ack = truth(),
            "subscriber" => self.subscriber = text(),
            "pid" => self.pid = text(),
            "offset" => self.offset = text(),
            _ => {}
        }
    }
}

impl Visitor {
    /// Whoever sends these headers and this query.
    pub(super) async fn of(
        app: &App,
        peer: Option<Peer>,
        headers: &HeaderMap,
        query: &str,
    ) -> Result<Self, Refused> {
        let wishes = Wishes::of_query(query);
        let mut visitor = Self {
            caller: None,
            // Behind a proxy that nobody vouches for, everybody has the proxy's address.
            anonymous: peer.is_some_and(|peer| !peer.disguised && is_allowed(app, peer.address)),
            is_near: is_near(app, peer),
            wishes,
        };
        let given = match headers.get(APIKEY) {
            Some(key) => Some(key.to_str().map_err(|_| Refused::WrongKey)?.trim()),
            None if headers.contains_key(header::AUTHORIZATION) => Some(bearer(headers)?),
            None => None,
        };
        // What stands in the URL beside a header means nothing, now and later.
        let in_url = visitor.wishes.key.take();
        visitor.caller = match given.filter(|key| !key.is_empty()) {
            Some(key) => Some(holder_of(app, key, headers).await?),
            None => match in_url {
                Some(key) => Some(visitor.holder_in_url(app, &key, headers).await?),
                None => None,
            },
        };
        Ok(visitor)
    }

    async fn holder_in_url(
        &self,
        app: &App,
        key: &str,
        headers: &HeaderMap,
    ) -> Result<Access, Refused> {
        let access = holder_of(app, key, headers).await?;
        let is_admin = access.caller.role == Role::Admin;
        if is_admin && !self.is_near && !is_operators(app, key) {
            return Err(Refused::Bad(
                "The admin token is not taken from a URL: URLs are logged in many places."
                    .to_owned(),
            ));
        }
        Ok(access)
    }

    /// Whether it has shown no key, and would have to.
    pub(super) fn is_stranger(&self) -> bool {
        self.caller.is_none() && !self.anonymous
    }

    /// Another key, from where only texts that stand in URLs can be.
    pub(super) async fn admit(&mut self, app: &App, key: &str) -> Result<(), Refused> {
        self.caller = Some(holder_of(app, key, &HeaderMap::new()).await?);
        Ok(())
    }

    /// Who it is, by the key that it gives now, or else by that it began with.
    pub(super) async fn access(&self, app: &App, wishes: &Wishes) -> Result<Access, Refused> {
        if let Some(key) = &wishes.key {
            return holder_of(app, key, &HeaderMap::new()).await;
        }
        match self.caller {
            Some(access) => Ok(access),
            None if self.anonymous => {
                let account = find_account(app, DEFAULT_ACCOUNT).await?.id;
                let caller = Caller::of_account(account);
                Ok(Access { caller, account, anonymous: true })
            }
            None => Err(Refused::NoKey),
        }
    }
}

async fn holder_of(app: &App, key: &str, headers: &HeaderMap) -> Result<Access, Refused> {
    if is_operators(app, key) {
        let account = find_account(app, DEFAULT_ACCOUNT).await?.id;
        return Ok(Access { caller: Caller::of_account(account), account, anonymous: false });
    }
    let caller = Caller::of_token(app, key, headers).await.map_err(|error| match error {
        // The account that a header names is none of the caller's.
        ApiError::NotFound(_) => Refused::WrongKey,
        error => error.into(),
    })?;
    let account = caller.acting_account(app).await?;
    Ok(Access { caller: caller.within(account), account, anonymous: false })
}

/// Whether whoever connects from there needs no key.
fn is_allowed(app: &App, address: IpAddr) -> bool {
    let allowed = &app.config.evolution.websocket.allow_anonymous_from;
    allowed.iter().any(|text| match text.parse::<IpNet>() {
        _ if text == "*" => true,
        Ok(network) => network.contains(&address),
        Err(_) => text.parse::<IpAddr>().is_ok_and(|known| known.to_canonical() == address),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wishes_are_read_from_the_query_and_from_what_is_said_later() {
        let query = Wishes::of_query("EIO=4&apikey=k&last_event_id=&ack=true&pid=p&offset=o");
        assert_eq!(query.key.as_deref(), Some("k"));
        assert!(query.ids && query.ack && query.last_event_id.is_none());
        assert_eq!((query.pid.clone(), query.offset.clone()), (None, None));
        let auth = json!({
            "apiKey": "l", "ack": false, "lastEventId": "evt_1", "pid": "p", "offset": "evt_2",
            "subscriber": "crm", "n": 7,
        });
        let both = query.with(&auth);
        assert_eq!((both.key.as_deref(), both.ack), (Some("l"), false));
        assert_eq!(both.last_event_id.as_deref(), Some("evt_1"));
        assert_eq!((both.pid.as_deref(), both.offset.as_deref()), (Some("p"), Some("evt_2")));
        assert_eq!(both.subscriber.as_deref(), Some("crm"));
        // A key that is empty is none.
        assert_eq!(query.with(&json!({ "apikey": "" })).key.as_deref(), Some("k"));
        assert_eq!(query.with(&Value::Null), query);
    }
}
