//! What the operator may set about Evolution's API.

use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// `[evolution]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The operator's key, which means the default account.
    pub api_key: Option<Secret>,
    /// Whether bodies carry the instance's token as `apikey`.
    pub expose_api_key: Option<bool>,
    /// Sockets.
    pub websocket: Websocket,
}

/// `[evolution.websocket]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Websocket {
    /// Whether sockets are served.
    pub enabled: bool,
    /// Whether the events of all instances are offered together.
    pub global_events: bool,
    /// Addresses and networks that need no key.
    pub allow_anonymous_from: Vec<String>,
}

impl Default for Websocket {
    fn default() -> Self {
        Self { enabled: true, global_events: false, allow_anonymous_from: Vec::new() }
    }
}

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        for text in &self.websocket.allow_anonymous_from {
            let is_network = text.parse::<ipnet::IpNet>().is_ok();
            if text != "*" && !is_network && text.parse::<std::net::IpAddr>().is_err() {
                let problem =
                    format!("found {text:?}, expected networks or addresses such as 10.0.0.0/8");
                wrong.push(("websocket.allow_anonymous_from", problem));
            }
        }
        wrong
    }
}
