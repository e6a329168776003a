//! What an instance says of its app at Pusher.

use serde_json::{Map, Value};
use zapbus_channel::{Config as Channel, Hidden, MASK, pusher};

use super::super::{answer::Failure, body::Members};
use crate::app::App;

/// Texts that upstream's schema asks for, by what the channel calls them.
const TEXTS: [(&str, &str); 4] =
    [("appId", "app_id"), ("key", "key"), ("secret", "secret"), ("cluster", "cluster")];

/// What a request says; what is `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Pusher {
    app_id: Option<String>,
    key: Option<String>,
    secret: Option<Hidden>,
    cluster: Option<String>,
    tls: Option<bool>,
}

impl Pusher {
    /// What is asked for; what is wrong is added to `faults`. What is switched off needs no app.
    pub(super) fn read(members: &Members, is_on: bool, faults: &mut Vec<String>) -> Self {
        let mut text = |name: &'static str| match members.text(&[name]) {
            Ok(None) if is_on => {
                faults.push(members.requires(name));
                None
            }
            Ok(text) => text.filter(|text| is_on || !text.is_empty()),
            Err(fault) => {
                faults.push(fault);
                None
            }
        };
        let [app_id, key, secret, cluster] = TEXTS.map(|(name, _)| text(name));
        let tls = members.truth(&["useTLS"]).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        Self { app_id, key, secret: secret.map(Into::into), cluster, tls }
    }

    /// Whether it names an app without looking at what is known already.
    pub(super) fn is_whole(&self) -> bool {
        self.app_id.is_some()
            && self.key.is_some()
            && self.secret.is_some()
            && self.cluster.is_some()
    }

    /// The channel's config, with what is not said taken from the stored one; or what is wrong with
    /// it.
    pub(super) fn config(
        &self,
        app: &App,
        stored: Option<&pusher::Config>,
    ) -> Result<pusher::Config, Failure> {
        let known = |text: &Option<String>, stored: Option<&String>| {
            text.as_ref().or(stored).cloned().unwrap_or_default()
        };
        let secret = self.secret.clone().or_else(|| stored.map(|stored| stored.secret.clone()));
        let config = pusher::Config {
            app_id: known(&self.app_id, stored.map(|stored| &stored.app_id)),
            key: known(&self.key, stored.map(|stored| &stored.key)),
            secret: secret.unwrap_or_else(|| "".into()),
            cluster: self.cluster.clone().or_else(|| stored?.cluster.clone()),
            host: None,
            port: None,
            path: None,
            tls: self.tls.or_else(|| stored?.tls),
            channel: None,
            event: None,
            max_bytes: None,
            oversize: pusher::Oversize::default(),
            timeout_s: None,
            connect_timeout_s: None,
            ca_pem: None,
        };
        let config = match stored {
            // Rows show a mask, and clients write back what they have read.
            Some(stored) => config.with_kept_secrets(stored),
            None => config,
        };
        match Channel::Pusher(config.clone()).validate(&app.egress) {
            Ok(()) => Ok(config),
            Err(faults) => Err(Failure::schema(faults.iter().map(said).collect())),
        }
    }
}

/// A fault by the name that the block has for the member.
fn said(fault: &zapbus_channel::Fault) -> String {
    let known = TEXTS.iter().find(|(_, of_channel)| *of_channel == fault.path);
    let name = known.map_or(fault.path.as_str(), |(name, _)| name);
    format!("pusher.{name} {}", fault.message)
}

/// What a row shows of an app. Its secret is written, and not read.
pub(super) fn members(app: &pusher::Config) -> Map<String, Value> {
    let shown = [
        ("appId", Value::from(app.app_id.as_str())),
        ("key", app.key.as_str().into()),
        ("secret", MASK.into()),
        ("cluster", app.cluster.as_deref().into()),
        ("useTLS", app.tls.unwrap_or(true).into()),
    ];
    shown.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
