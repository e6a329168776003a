//! What an instance's events say about it: connection, QR, who it is.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;

use crate::{Event, Kind, Timestamp};

/// Whether an instance can send and receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// The session is opening, or waits to be linked.
    Connecting,
    /// The session is usable.
    Connected,
    /// Down, with credentials that are still valid.
    Disconnected,
    /// The credentials are no longer valid.
    LoggedOut,
    /// Banned or locked.
    Banned,
    /// Nothing was heard of it yet.
    #[default]
    Unknown,
}

/// A QR code that waits to be scanned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qr {
    /// The text behind the picture.
    pub code: Option<String>,
    /// The picture as a `data:` URL.
    pub image: Option<String>,
    /// When it stops working, if the upstream says so.
    pub expires_at: Option<Timestamp>,
}

/// A pairing code that waits to be typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCode {
    /// The code.
    pub code: String,
    /// When it stops working, if the upstream says so.
    pub expires_at: Option<Timestamp>,
}

/// The last known state of an instance, folded from its events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceState {
    /// Whether it can send and receive.
    pub connection: Connection,
    /// Since when.
    pub since: Option<Timestamp>,
    /// Why it is down, logged out or banned, in the catalog's word.
    pub reason: Option<String>,
    /// A QR code that waits to be scanned.
    pub qr: Option<Qr>,
    /// A pairing code that waits to be typed.
    pub pair_code: Option<PairCode>,
    /// Its own address.
    pub address: Option<String>,
    /// Its own number, digits only.
    pub phone: Option<String>,
    /// Its own name.
    pub name: Option<String>,
    /// Where its picture is.
    pub picture_url: Option<String>,
    /// The kind of phone or client it is linked to.
    pub platform: Option<String>,
    /// Its business name.
    pub business_name: Option<String>,
}

/// The members of `data` that matter here, each of them optional and of any type: an upstream's
/// surprise in one must not hide the others.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Members<'a> {
    #[serde(default, borrow)]
    account: Option<&'a RawValue>,
    #[serde(default, borrow)]
    reason: Option<&'a RawValue>,
    #[serde(default, borrow)]
    code: Option<&'a RawValue>,
    #[serde(default, borrow)]
    image_data_url: Option<&'a RawValue>,
    #[serde(default, borrow)]
    expires_in_s: Option<&'a RawValue>,
    #[serde(default, borrow)]
    exhausted: Option<&'a RawValue>,
    #[serde(default, borrow)]
    action: Option<&'a RawValue>,
    #[serde(default, borrow)]
    topic: Option<&'a RawValue>,
    #[serde(default, borrow)]
    details: Option<&'a RawValue>,
}

impl InstanceState {
    /// Whether [`Self::apply`] may change anything at all, so that callers need not load a state
    /// for every message.
    pub fn concerns(&self, kind: Kind, history: bool) -> bool {
        match kind {
            Kind::InstanceConnecting
            | Kind::InstanceConnected
            | Kind::InstanceDisconnected
            | Kind::InstanceLoggedOut
            | Kind::InstanceBanned
            | Kind::InstanceQr
            | Kind::InstancePairCode
            | Kind::InstancePaired
            | Kind::InstanceLifecycle
            | Kind::AccountUpdated => !history,
            // A number that never announces itself (Cloud API) is connected once it talks.
            Kind::MessageReceived | Kind::MessageSent | Kind::MessageStatus => {
                self.connection == Connection::Unknown && !history
            }
            _ => false,
        }
    }

    /// Takes in one event of the instance. Events must come in journal order.
    pub fn apply(&mut self, event: &Event) {
        if !self.concerns(event.kind, event.history) {
            return;
        }
        let Ok(members) = serde_json::from_slice::<Members<'_>>(&event.data) else {
            return;
        };
        let expires_at = read::<u64>(members.expires_in_s)
            .map(|seconds| event.received_at + Duration::from_secs(seconds));
        match event.kind {
            Kind::InstanceConnecting => self.turn(Connection::Connecting, event, None),
            Kind::InstanceConnected => {
                self.turn(Connection::Connected, event, None);
                self.learn(members.account);
            }
            Kind::InstanceDisconnected => {
                self.turn(Connection::Disconnected, event, read(members.reason));
            }
            Kind::InstanceLoggedOut => {
                self.turn(Connection::LoggedOut, event, read(members.reason));
            }
            Kind::InstanceBanned => self.turn(Connection::Banned, event, read(members.reason)),
            Kind::InstanceQr => {
                let code: Option<String> = read(members.code);
                let image: Option<String> = read(members.image_data_url);
                let over = read::<bool>(members.exhausted).unwrap_or(false);
                self.turn(Connection::Connecting, event, None);
                self.qr = (!over && (code.is_some() || image.is_some())).then_some(Qr {
                    code,
                    image,
                    expires_at,
                });
            }
            Kind::InstancePairCode => {
                self.turn(Connection::Connecting, event, None);
                self.pair_code = read(members.code).map(|code| PairCode { code, expires_at });
            }
            Kind::InstancePaired => {
                self.qr = None;
                self.pair_code = None;
                self.learn(members.account);
            }
            Kind::InstanceLifecycle => {
                if read::<String>(members.action).as_deref() == Some("unloaded") {
                    self.turn(Connection::Disconnected, event, Some("unloaded".to_owned()));
                }
            }
            Kind::AccountUpdated => {
                if read::<String>(members.topic).as_deref() == Some("push_name") {
                    self.learn(members.details);
                }
            }
            _ => self.turn(Connection::Connected, event, None),
        }
    }

    fn turn(&mut self, connection: Connection, event: &Event, reason: Option<String>) {
        if self.connection != connection {
            self.since = Some(event.occurred_at);
        }
        // A code is of use only while the session opens.
        if connection != Connection::Connecting {
            self.qr = None;
            self.pair_code = None;
        }
        self.connection = connection;
        self.reason = reason;
    }

    /// Takes what an `account` object (`address`, `name`, …) says and keeps what it does not.
    fn learn(&mut self, account: Option<&RawValue>) {
        #[derive(Deserialize)]
        #[serde(bound(deserialize = "'de: 'a"))]
        struct Account<'a> {
            #[serde(default, borrow)]
            address: Option<&'a RawValue>,
            #[serde(default, borrow)]
            name: Option<&'a RawValue>,
            #[serde(default, borrow)]
            push_name: Option<&'a RawValue>,
            #[serde(default, borrow)]
            picture_url: Option<&'a RawValue>,
            #[serde(default, borrow)]
            platform: Option<&'a RawValue>,
            #[serde(default, borrow)]
            business_name: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        #[serde(bound(deserialize = "'de: 'a"))]
        struct Address<'a> {
            #[serde(default, borrow)]
            id: Option<&'a RawValue>,
            #[serde(default, borrow)]
            phone: Option<&'a RawValue>,
        }

        let Some(account) = read::<Account<'_>>(account) else {
            return;
        };
        if let Some(address) = read::<Address<'_>>(account.address) {
            keep(&mut self.address, read(address.id));
            keep(&mut self.phone, read(address.phone));
        }
        keep(&mut self.name, read(account.name).or_else(|| read(account.push_name)));
        keep(&mut self.picture_url, read(account.picture_url));
        keep(&mut self.platform, read(account.platform));
        keep(&mut self.business_name, read(account.business_name));
    }
}

/// The member as a `T`, or `None` when it is absent, null or something else.
fn read<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

fn keep(known: &mut Option<String>, said: Option<String>) {
    if said.is_some() {
        *known = said;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventId, InstanceId, Position, Raw, Source, SourceKind};
    use bytes::Bytes;

    fn event(kind: Kind, data: &'static str) -> Event {
        let at = Timestamp::from_millis(1_000);
        Event {
            id: EventId::new(at, 1),
            seq: Position(1),
            instance: InstanceId::new(at, 1),
            kind,
            facet: None,
            occurred_at: at,
            occurred_at_estimated: false,
            received_at: at,
            source: Source {
                kind: SourceKind::Gateway,
                event: String::new(),
                version: None,
                delivery_id: None,
                index: 0,
            },
            dedup_key: None,
            partition: "_instance".to_owned(),
            history: false,
            ephemeral: false,
            client_id: None,
            hops: 0,
            data: Bytes::from_static(data.as_bytes()),
            raw: Raw::Data,
        }
    }

    #[test]
    fn a_qr_stands_until_the_session_opens() {
        let mut state = InstanceState::default();
        state.apply(&event(
            Kind::InstanceQr,
            r#"{"code":"2@x","expires_in_s":20,"exhausted":false}"#,
        ));
        assert_eq!(state.connection, Connection::Connecting);
        assert_eq!(
            state.qr.as_ref().and_then(|qr| qr.expires_at),
            Some(Timestamp::from_millis(21_000))
        );
        state.apply(&event(
            Kind::InstanceConnected,
            r#"{"account":{"address":{"id":"5511@s.whatsapp.net","phone":"5511"},"name":"Shop"}}"#,
        ));
        assert_eq!(state.connection, Connection::Connected);
        assert_eq!(state.qr, None);
        assert_eq!(state.phone.as_deref(), Some("5511"));
        assert_eq!(state.name.as_deref(), Some("Shop"));
    }

    #[test]
    fn an_exhausted_qr_leaves_none() {
        let mut state = InstanceState::default();
        state.apply(&event(Kind::InstanceQr, r#"{"code":"2@x"}"#));
        state.apply(&event(Kind::InstanceQr, r#"{"exhausted":true}"#));
        assert_eq!(state.qr, None);
    }

    #[test]
    fn a_number_that_talks_is_connected_but_not_one_that_was_logged_out() {
        let mut state = InstanceState::default();
        state.apply(&event(Kind::MessageReceived, "{}"));
        assert_eq!(state.connection, Connection::Connected);
        state.apply(&event(Kind::InstanceLoggedOut, r#"{"reason":"unlinked"}"#));
        state.apply(&event(Kind::MessageReceived, "{}"));
        assert_eq!(state.connection, Connection::LoggedOut);
        assert_eq!(state.reason.as_deref(), Some("unlinked"));
    }

    #[test]
    fn a_member_of_the_wrong_type_hides_nothing_else() {
        let mut state = InstanceState::default();
        state.apply(&event(Kind::InstanceConnected, r#"{"account":{"address":7,"name":"Shop"}}"#));
        assert_eq!(state.name.as_deref(), Some("Shop"));
    }
}
