//! `RABBITMQ_*`, `SQS_*` and `PUSHER_*`. A broker is read only where it is switched on: other programs
//! have variables of these names too.

use serde_json::Value;

use super::{Environment, Layers, positive, variable};

/// The variables of one broker.
struct Broker {
    /// Its section below `evolution`.
    section: &'static str,
    /// Switches it on.
    enabled: &'static str,
    /// Switches its global mode on.
    global: &'static str,
    /// What the global mode cannot do without.
    needs: &'static [&'static str],
    /// What flags of events begin with, and what else begins so.
    events: &'static [&'static str],
    others: &'static [&'static str],
    texts: &'static [(&'static str, &'static str)],
    truths: &'static [(&'static str, &'static str)],
    numbers: &'static [(&'static str, &'static str)],
}

const BROKERS: [Broker; 3] = [
    Broker {
        section: "rabbitmq",
        enabled: "RABBITMQ_ENABLED",
        global: "RABBITMQ_GLOBAL_ENABLED",
        needs: &["RABBITMQ_URI"],
        events: &["RABBITMQ_EVENTS_"],
        others: &[],
        texts: &[
            ("RABBITMQ_URI", "uri"),
            ("RABBITMQ_EXCHANGE_NAME", "exchange"),
            ("RABBITMQ_PREFIX_KEY", "prefix"),
        ],
        truths: &[],
        numbers: &[("RABBITMQ_FRAME_MAX", "frame_max")],
    },
    Broker {
        section: "sqs",
        enabled: "SQS_ENABLED",
        global: "SQS_GLOBAL_ENABLED",
        needs: &["SQS_REGION"],
        // Upstream reads the first only; the second is what one would expect.
        events: &["SQS_GLOBAL_", "SQS_EVENTS_"],
        others: &["ENABLED", "FORCE_SINGLE_QUEUE", "PREFIX_NAME"],
        texts: &[
            ("SQS_REGION", "region"),
            ("SQS_BASE_URL", "endpoint"),
            ("SQS_ACCESS_KEY_ID", "access_key_id"),
            ("SQS_SECRET_ACCESS_KEY", "secret_access_key"),
            ("SQS_GLOBAL_PREFIX_NAME", "prefix"),
        ],
        truths: &[("SQS_GLOBAL_FORCE_SINGLE_QUEUE", "single_queue")],
        numbers: &[],
    },
    Broker {
        section: "pusher",
        enabled: "PUSHER_ENABLED",
        global: "PUSHER_GLOBAL_ENABLED",
        needs: &[
            "PUSHER_GLOBAL_APP_ID",
            "PUSHER_GLOBAL_KEY",
            "PUSHER_GLOBAL_SECRET",
            "PUSHER_GLOBAL_CLUSTER",
        ],
        events: &["PUSHER_EVENTS_"],
        others: &[],
        texts: &[
            ("PUSHER_GLOBAL_APP_ID", "app_id"),
            ("PUSHER_GLOBAL_KEY", "key"),
            ("PUSHER_GLOBAL_SECRET", "secret"),
            ("PUSHER_GLOBAL_CLUSTER", "cluster"),
        ],
        truths: &[("PUSHER_GLOBAL_USE_TLS", "tls")],
        numbers: &[],
    },
];

impl Layers {
    pub(super) fn brokers(&mut self, environment: &Environment) {
        for broker in &BROKERS {
            self.broker(environment, broker);
        }
    }

    fn broker(&mut self, environment: &Environment, broker: &Broker) {
        let Broker { section, enabled, global, needs, .. } = *broker;
        let key = |name: &str| format!("evolution.{section}.{name}");
        let is_on = self.truth(environment, enabled);
        if let Some(is_on) = is_on {
            self.set(&key("enabled"), Value::Bool(is_on), variable(enabled));
        }
        if is_on != Some(true) {
            if let Some(name) = needs.iter().find(|name| environment.get(name).is_some()) {
                self.note(format!("{name} is ignored: {enabled} is not true"));
            }
            return;
        }
        for (name, own) in broker.texts {
            if let Some(value) = environment.get(name) {
                self.set_text(&key(own), value, variable(name));
            }
        }
        for (name, own) in broker.truths {
            if let Some(value) = self.truth(environment, name) {
                self.set(&key(own), Value::Bool(value), variable(name));
            }
        }
        for (name, own) in broker.numbers {
            match environment.get(name).map(|text| (text, positive(text))) {
                None => {}
                Some((_, Some(value))) => self.set(&key(own), value, variable(name)),
                Some((text, None)) => self
                    .note(format!("{name} is {text:?}, not a number above 0: the default is used")),
            }
        }
        let missing = needs.iter().find(|name| environment.get(name).is_none()).copied();
        // Apps at Pusher are the instances' own.
        if let (Some(name), true) = (missing, section != "pusher") {
            self.note(format!("{enabled} is true without {name}: there is no {section}"));
        }
        let events = self.events(environment, section, broker.events, broker.others);
        if let Some(wanted) = self.truth(environment, global) {
            if let (true, Some(name)) = (wanted, missing) {
                self.note(format!("{global} is true without {name}: nothing is sent"));
            }
            self.set(&key("global"), Value::Bool(wanted && missing.is_none()), variable(global));
            if wanted && events.is_none_or(|events| events == 0) {
                let beginning = broker.events[0];
                self.note(format!("{global} is true, and no {beginning}… is: nothing is sent"));
            }
        }
    }
}
