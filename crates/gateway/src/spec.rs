//! What a destination is set to do: the part of it that the store keeps as a sealed document.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zapbus_channel as channel;
use zapbus_event::{
    Dialect,
    dialect::{evolution, ryze},
};
use zapbus_store::Activity;

/// Whether events of one chat wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ordering {
    /// No order at all.
    None,
    /// First attempts in order per chat; a retry holds nobody up.
    #[default]
    Key,
    /// A chat waits until its unsettled event is delivered or dead.
    Strict,
}

/// Whose retry schedule and reading of answers to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Eleven attempts over a day and more; 410 disables the destination.
    #[default]
    Native,
    /// Ten attempts, 1 s doubling to 1 h; 410 disables the destination.
    Vzaps,
    /// Five attempts, 1 s growing to 1 h; 410 is a dead letter.
    Ryze,
    /// Ten attempts, 5 s doubling to 300 s; 400, 401, 403, 404 and 422 end an event whose
    /// neighbours succeed; 410 is an ordinary failure.
    Evolution,
}

/// When a failed delivery is tried again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// The schedule to start from.
    #[serde(default)]
    pub preset: Preset,
    /// Seconds to wait before the second, third, … attempt; the last one repeats.
    /// 1 to 50 values of 0 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_s: Option<Vec<f64>>,
    /// Attempts in all, the first included: 1 to 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Seconds one attempt may take: 0.1 to 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// The share by which a wait is stretched or shortened at most: 0 to 1; 0.2 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
    /// Answers (300 to 599) after which an event is not tried again while others are taken: at most
    /// 50. Those of the preset when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_statuses: Option<Vec<u16>>,
}

impl Retry {
    /// The same with what it does not say taken from `others`, if that is about the same preset.
    pub fn or(&self, others: &Self) -> Self {
        if self.preset != others.preset {
            return self.clone();
        }
        // A list of waits of its own has as many attempts as it has waits.
        let attempts = match (self.max_attempts, &self.waits_s) {
            (None, None) => others.max_attempts,
            (own, _) => own,
        };
        Self {
            preset: self.preset,
            waits_s: self.waits_s.clone().or_else(|| others.waits_s.clone()),
            max_attempts: attempts,
            timeout_s: self.timeout_s.or(others.timeout_s),
            jitter: self.jitter.or(others.jitter),
            final_statuses: self.final_statuses.clone().or_else(|| others.final_statuses.clone()),
        }
    }
}

/// How a destination delivers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Where to, and how to get in.
    pub channel: channel::Config,
    /// In whose vocabulary.
    pub dialect: Dialect,
    /// In which order.
    pub ordering: Ordering,
    /// Sends whose settlement is not durable yet: 1 to 1,000.
    pub max_in_flight: u32,
    /// Sends per second at most, if limited: 0.01 to 10,000.
    pub rate_limit_per_s: Option<f64>,
    /// When a failed delivery is tried again.
    pub retry: Retry,
    /// Seconds of probing without success after which the destination is disabled.
    pub disable_after_s: u64,
    /// Carry the untouched upstream element.
    pub include_raw: bool,
    /// What to do with events the dialect has no name for.
    pub fallback: zapbus_event::dialect::Fallback,
    /// Let dialects carry the keys that decrypt media.
    pub media_key: bool,
    /// Put a file that is there into the body, where the dialect has a place for it.
    #[serde(default)]
    pub inline_media: bool,
    /// Seconds that an event, and its chat, is held for a file that is still to be fetched: 0 to
    /// 300. Left out: what its instance says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_media_s: Option<u32>,
    /// What only Evolution's form lets one choose.
    #[serde(default)]
    pub evolution: evolution::Choice,
    /// What only Ryze's form lets one choose.
    #[serde(default)]
    pub ryze: ryze::Choice,
    /// The connection is that of the server's own broker ([`crate::brokers`]): `channel` says only
    /// what kind it is, and what is the instance's own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub server_broker: bool,
    /// The URL of a webhook as it was written, where that is not how URLs are written out: Evolution's
    /// rows and bodies show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_url: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The label of the destination that is an instance's webhook in Evolution's API.
pub const EVOLUTION_WEBHOOK: &str = "evolution/webhook";

/// Why a destination is paused that was switched off through the API of `RyzeAPI`. It leads nowhere
/// until it is switched on there.
pub const RYZE_OFF: &str = "switched off through the API of RyzeAPI";

/// Whether it is for that API to switch it on again.
pub fn is_off_for_ryze(activity: &Activity) -> bool {
    matches!(activity, Activity::Paused { reason, .. } if reason == RYZE_OFF)
}

/// Sends in flight when a destination does not say.
pub const DEFAULT_MAX_IN_FLIGHT: u32 = 64;

/// Five days.
pub const DEFAULT_DISABLE_AFTER_S: u64 = 5 * 24 * 3600;

impl Spec {
    /// The default choices for a channel.
    pub fn new(channel: channel::Config) -> Self {
        Self {
            channel,
            dialect: Dialect::Native,
            ordering: Ordering::default(),
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            rate_limit_per_s: None,
            retry: Retry::default(),
            disable_after_s: DEFAULT_DISABLE_AFTER_S,
            include_raw: false,
            fallback: zapbus_event::dialect::Fallback::default(),
            media_key: false,
            inline_media: false,
            wait_for_media_s: None,
            evolution: evolution::Choice::default(),
            ryze: ryze::Choice::default(),
            server_broker: false,
            written_url: None,
        }
    }

    /// Another channel, with nothing left of what belonged to the one before.
    pub fn set_channel(&mut self, channel: channel::Config) {
        self.channel = channel;
        self.server_broker = false;
        self.written_url = None;
    }

    /// [`Self::set_channel`] with a webhook whose URL was written like this.
    pub fn set_webhook(&mut self, webhook: channel::webhook::Config, written: &str) {
        let is_other = webhook.url.as_str() != written;
        self.set_channel(channel::Config::Webhook(webhook));
        self.written_url = is_other.then(|| written.to_owned());
    }

    /// The URL of a webhook as it was written.
    pub fn shown_url(&self) -> Option<&str> {
        let url = &self.channel.webhook()?.url;
        Some(self.written_url.as_deref().unwrap_or(url.as_str()))
    }

    /// How long probing may last before the destination is disabled.
    pub fn disable_after(&self) -> Duration {
        Duration::from_secs(self.disable_after_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_destination_does_not_say_is_the_operators() {
        let operators = Retry {
            preset: Preset::Evolution,
            waits_s: Some(vec![1.0, 2.0]),
            max_attempts: Some(7),
            timeout_s: Some(60.0),
            jitter: Some(0.0),
            final_statuses: Some(Vec::new()),
        };
        let plain = Retry { preset: Preset::Evolution, ..Retry::default() };
        assert_eq!(plain.or(&operators), operators);
        assert_eq!(Retry::default().or(&operators), Retry::default(), "another preset");
        let own = Retry { waits_s: Some(vec![3.0]), ..plain };
        let found = own.or(&operators);
        assert_eq!((found.waits_s, found.max_attempts), (Some(vec![3.0]), None));
        assert_eq!(found.timeout_s, Some(60.0));
    }
}
