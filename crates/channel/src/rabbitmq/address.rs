//! Where a broker is, and how to log in: `amqp://user:password@host:port/vhost`.

use std::{fmt, str::FromStr};

use url::{Host, Url};

use crate::{MASK, pool::percent_decoded};

/// Seconds between signs of life when the URI does not say.
const HEARTBEAT: u16 = 20;
/// The least that AMQP lets a frame be, and the most that we take.
const FRAME_MAX: std::ops::RangeInclusive<u32> = 4096..=1_048_576;

/// A broker's URI, read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    url: Url,
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) heartbeat: u16,
    pub(super) frame_max: Option<u32>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

/// Text that names no broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    #[error(
        "expected amqp://user:password@host:5672/vhost, or amqps:// for TLS; special characters \
         in user and password are percent-encoded, @ is %40"
    )]
    Form,
    #[error("has `{0}` behind the question mark; expected only `heartbeat` and `frame_max`")]
    Query(String),
    #[error("has a `heartbeat` that is no number of seconds; expected 0 to 3600")]
    Heartbeat,
    #[error(
        "has a `frame_max` that is no number of bytes; expected {} to {}",
        FRAME_MAX.start(),
        FRAME_MAX.end()
    )]
    FrameMax,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text.trim()).map_err(|_| AddressError::Form)?;
        let default_port = match url.scheme() {
            "amqp" => 5672,
            "amqps" => 5671,
            _ => return Err(AddressError::Form),
        };
        if url.fragment().is_some() {
            return Err(AddressError::Form);
        }
        // The URL leaves hosts of a foreign scheme as they are: read as those of the web, odd
        // forms of addresses (0x7f000001) become addresses that the guard can check.
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(AddressError::Form)?;
        let host = Host::parse(host).map_err(|_| AddressError::Form)?;
        let (mut heartbeat, mut frame_max) = (HEARTBEAT, None);
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "heartbeat" => {
                    let seconds = value.parse().ok().filter(|seconds| *seconds <= 3600);
                    heartbeat = seconds.ok_or(AddressError::Heartbeat)?;
                }
                "frame_max" => {
                    let bytes = value.parse().ok().filter(|bytes| FRAME_MAX.contains(bytes));
                    frame_max = Some(bytes.ok_or(AddressError::FrameMax)?);
                }
                other => return Err(AddressError::Query(other.to_owned())),
            }
        }
        Ok(Self { port: url.port().unwrap_or(default_port), url, host, heartbeat, frame_max })
    }
}

impl Address {
    pub(super) fn is_tls(&self) -> bool {
        self.url.scheme() == "amqps"
    }

    pub(super) fn user(&self) -> String {
        match (self.url.username(), self.url.password()) {
            ("", None) => "guest".to_owned(),
            (user, _) => percent_decoded(user),
        }
    }

    pub(super) fn password(&self) -> String {
        match (self.url.username(), self.url.password()) {
            ("", None) => "guest".to_owned(),
            (_, password) => percent_decoded(password.unwrap_or_default()),
        }
    }

    /// The virtual host: `/` when the URI has no path.
    pub(super) fn vhost(&self) -> String {
        match self.url.path().strip_prefix('/').unwrap_or_default() {
            "" => "/".to_owned(),
            encoded => percent_decoded(encoded),
        }
    }

    /// What tells apart connections; holds the password.
    pub(super) fn exact(&self) -> String {
        self.url.to_string()
    }

    /// For showing: with the password masked.
    pub(super) fn masked(&self) -> String {
        let mut shown = self.url.clone();
        if shown.password().is_some() && shown.set_password(Some(MASK)).is_err() {
            return MASK.to_owned();
        }
        shown.into()
    }

    /// The same with the password of another.
    pub(super) fn with_password_of(&self, other: &Self) -> String {
        // It is percent-encoded already, and what is encoded stays as it is.
        let mut whole = self.url.clone();
        match whole.set_password(other.url.password()) {
            Ok(()) => whole.into(),
            Err(()) => self.url.to_string(),
        }
    }

    /// Whether both are one server, spoken to in one way.
    pub(super) fn is_same_server(&self, other: &Self) -> bool {
        (self.is_tls(), &self.host, self.port) == (other.is_tls(), &other.host, other.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_read_and_shown() {
        let table = [
            ("amqp://h", ("h", 5672, "guest", "guest", "/"), "amqp://h"),
            ("amqps://h/", ("h", 5671, "guest", "guest", "/"), "amqps://h/"),
            ("amqp://me@h:80/v", ("h", 80, "me", "", "v"), "amqp://me@h:80/v"),
            (
                "amqp://a%40b:p%26&+q@h/%2Fx",
                ("h", 5672, "a@b", "p&&+q", "/x"),
                "amqp://a%40b:***@h/%2Fx",
            ),
            (
                "amqp://u:p@0x7f000001",
                ("127.0.0.1", 5672, "u", "p", "/"),
                "amqp://u:***@0x7f000001",
            ),
            ("amqp://u:p@[::1]:9", ("[::1]", 9, "u", "p", "/"), "amqp://u:***@[::1]:9"),
        ];
        for (text, (host, port, user, password, vhost), shown) in table {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.host.to_string(), host, "{text}");
            assert_eq!(address.port, port, "{text}");
            assert_eq!((address.user().as_str(), address.password().as_str()), (user, password));
            assert_eq!(address.vhost(), vhost, "{text}");
            assert_eq!(format!("{address:?}"), shown);
        }
        let address: Address = "amqp://h?heartbeat=7&frame_max=8192".parse().unwrap();
        assert_eq!((address.heartbeat, address.frame_max), (7, Some(8192)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in ["", "h", "http://h", "amqp://", "amqp:h", "amqp://h#x", "amqp://:5672"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Form), "{text}");
        }
        for (text, error) in [
            ("amqp://h?heartbeat=no", AddressError::Heartbeat),
            ("amqp://h?frame_max=1", AddressError::FrameMax),
            ("amqp://h?ssl=1", AddressError::Query("ssl".to_owned())),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
    }
}
