//! The names that Evolution API gave to what we have too, read as it reads them: a truth value is true
//! only when it is `true`, and a number that is none, or 0, means the default.

mod brokers;
mod files;

use serde_json::Value;
use zapbus_event::dialect::evolution::Name;

use super::{Environment, Layers, Note, Origin, number};

/// Texts, under the key of ours.
const TEXTS: [(&str, &str); 6] = [
    ("SERVER_URL", "public_url"),
    ("SERVER_NAME", "evolution.server_name"),
    ("CORS_ORIGIN", "cors.origins"),
    ("CORS_METHODS", "cors.methods"),
    ("AUTHENTICATION_API_KEY", "evolution.api_key"),
    ("WEBSOCKET_ALLOWED_HOSTS", "evolution.websocket.allow_anonymous_from"),
];

const TRUTHS: [(&str, &str); 6] = [
    ("PROMETHEUS_METRICS", "evolution.metrics"),
    ("CORS_CREDENTIALS", "cors.credentials"),
    ("AUTHENTICATION_EXPOSE_IN_FETCH_INSTANCES", "evolution.expose_api_key"),
    ("WEBHOOK_GLOBAL_WEBHOOK_BY_EVENTS", "evolution.webhook.by_events"),
    ("WEBSOCKET_ENABLED", "evolution.websocket.enabled"),
    ("WEBSOCKET_GLOBAL_EVENTS", "evolution.websocket.global_events"),
];

const NUMBERS: [(&str, &str); 5] = [
    ("WEBHOOK_REQUEST_TIMEOUT_MS", "evolution.webhook.timeout_ms"),
    ("WEBHOOK_RETRY_MAX_ATTEMPTS", "evolution.webhook.max_attempts"),
    ("WEBHOOK_RETRY_INITIAL_DELAY_SECONDS", "evolution.webhook.initial_delay_s"),
    ("WEBHOOK_RETRY_MAX_DELAY_SECONDS", "evolution.webhook.max_delay_s"),
    ("WEBHOOK_RETRY_JITTER_FACTOR", "evolution.webhook.jitter"),
];

/// Variables by which an environment is known to be one of Evolution's: without any of these, what is
/// called `DATABASE_…` is somebody else's.
const SIGNS: [&str; 9] = [
    "AUTHENTICATION_API_KEY",
    "AUTHENTICATION_EXPOSE_IN_FETCH_INSTANCES",
    "WEBHOOK_GLOBAL_ENABLED",
    "WEBHOOK_GLOBAL_URL",
    "WEBSOCKET_ENABLED",
    "RABBITMQ_ENABLED",
    "RABBITMQ_URI",
    "SQS_ENABLED",
    "PUSHER_ENABLED",
];

/// Beginnings of names that mean nothing here, with what does instead.
const IGNORED: [(&str, &str); 31] = [
    ("SQS_ACCOUNT_ID", "the addresses of queues are asked for"),
    ("SQS_MAX_PAYLOAD_SIZE", "what a queue does not take is a dead letter, with both sizes"),
    ("RABBITMQ_MESSAGE_TTL", "queues have what the broker's policies say"),
    ("RABBITMQ_MAX_LENGTH", "queues have what the broker's policies say"),
    ("NATS_", "there is no NATS channel"),
    ("KAFKA_", "there is no Kafka channel"),
    ("DATABASE_", "the store is set by data_dir or database_url"),
    ("CACHE_", "nothing is cached outside the store"),
    ("REDIS_", "nothing is cached outside the store"),
    ("S3_SKIP_POLICY", "the bucket's policy is left as it is"),
    ("S3_SAVE_VIDEO", "films are kept like other files"),
    ("SERVER_PORT", "the port is set by listen"),
    ("SERVER_TYPE", "HTTPS is set by tls.cert and tls.key"),
    ("SERVER_DISABLE_", "there is no manager"),
    ("SSL_CONF_", "HTTPS is set by tls.cert and tls.key"),
    ("CONFIG_SESSION_PHONE_", "Zapbus holds no session"),
    ("QRCODE_", "Zapbus holds no session"),
    ("WA_BUSINESS_", "Cloud API sources are set for each instance"),
    ("DEL_INSTANCE", "instances stay until they are deleted"),
    ("DEL_TEMP_INSTANCES", "instances stay until they are deleted"),
    ("STORE_", "what is kept is set by retention.*"),
    ("CLEAN_STORE_", "what is kept is set by retention.*"),
    ("LOG_COLOR", "terminals get colours by themselves"),
    ("LOG_BAILEYS", "Zapbus holds no session"),
    ("EVENT_EMITTER_MAX_LISTENERS", "there is no such limit"),
    ("TELEMETRY_", "nothing is told to anybody"),
    ("METRICS_", "/metrics is for whoever reaches the listener"),
    ("PROVIDER_", "Zapbus holds no session"),
    ("CHATWOOT_", "chatbots and desks connect to webhooks"),
    ("TYPEBOT_", "chatbots and desks connect to webhooks"),
    ("OPENAI_", "chatbots and desks connect to webhooks"),
];

/// Keys that stand in public places: whoever has one of them is nobody in particular.
const PUBLIC_KEYS: [&str; 2] = ["BQYHJGJHJ", "429683C4C977415CAAFCCE10F7D57E11"];

impl Layers {
    pub(super) fn evolution(&mut self, environment: &Environment) {
        for (name, key) in TEXTS {
            if let Some(value) = environment.get(name) {
                self.set_text(key, value, variable(name));
            }
        }
        for (name, key) in TRUTHS {
            if let Some(value) = self.truth(environment, name) {
                self.set(key, Value::Bool(value), variable(name));
            }
        }
        for (name, key) in NUMBERS {
            match environment.get(name).map(|text| (text, positive(text))) {
                None => {}
                Some((_, Some(value))) => self.set(key, value, variable(name)),
                Some((text, None)) => self
                    .note(format!("{name} is {text:?}, not a number above 0: the default is used")),
            }
        }
        self.log_level(environment);
        self.webhook(environment);
        self.backoff(environment);
        self.files(environment);
        if environment.get("AUTHENTICATION_API_KEY").is_some_and(|key| PUBLIC_KEYS.contains(&key)) {
            self.note(
                "AUTHENTICATION_API_KEY is a key that stands in Evolution's documentation: choose \
                 another one"
                    .to_owned(),
            );
        }
        self.brokers(environment);
        self.ignored(environment);
    }

    fn note(&mut self, text: String) {
        self.notes.push(Note(text));
    }

    /// A truth value, as Evolution reads it.
    fn truth(&mut self, environment: &Environment, name: &str) -> Option<bool> {
        let text = environment.get(name)?;
        if !matches!(text, "true" | "false") {
            self.note(format!("{name} is {text:?}, which means false: only true switches it on"));
        }
        Some(text == "true")
    }

    fn log_level(&mut self, environment: &Environment) {
        if let Some(levels) = environment.get("LOG_LEVEL") {
            match level(levels) {
                Some(level) => self.set("log.level", Value::from(level), variable("LOG_LEVEL")),
                // A filter of ours, perhaps; the check of log.level tells.
                None => self.set_text("log.level", levels, variable("LOG_LEVEL")),
            }
        }
    }

    /// The webhook for all instances, and that for errors.
    fn webhook(&mut self, environment: &Environment) {
        let enabled = self.truth(environment, "WEBHOOK_GLOBAL_ENABLED");
        let url = environment.get("WEBHOOK_GLOBAL_URL");
        if let Some(url) = url {
            self.set_text("evolution.webhook.url", url, variable("WEBHOOK_GLOBAL_URL"));
        }
        if let Some(enabled) = enabled {
            let is_on = enabled && url.is_some();
            if enabled && !is_on {
                self.note(
                    "WEBHOOK_GLOBAL_ENABLED is true without WEBHOOK_GLOBAL_URL: nothing is posted"
                        .to_owned(),
                );
            }
            let origin = variable("WEBHOOK_GLOBAL_ENABLED");
            self.set("evolution.webhook.enabled", Value::Bool(is_on), origin);
        }
        let others = ["ERRORS", "ERRORS_WEBHOOK"];
        let events = self.events(environment, "webhook", &["WEBHOOK_EVENTS_"], &others);
        if enabled == Some(true) && events.is_none_or(|events| events == 0) {
            self.note(
                "WEBHOOK_GLOBAL_ENABLED is true, and no WEBHOOK_EVENTS_… is: nothing is posted"
                    .to_owned(),
            );
        }
        if self.truth(environment, "WEBHOOK_EVENTS_ERRORS") == Some(true) {
            let name = "WEBHOOK_EVENTS_ERRORS_WEBHOOK";
            match environment.get(name) {
                Some(url) => self.set_text("evolution.webhook.errors_url", url, variable(name)),
                None => self.note(format!(
                    "WEBHOOK_EVENTS_ERRORS is true without {name}: errors are told nowhere"
                )),
            }
        }
    }

    /// The events that flags with one of these beginnings switch on, under `evolution.<channel>.events`,
    /// and how many they are; `None` when there is no such flag. What else begins so is named in
    /// `others`.
    fn events(
        &mut self,
        environment: &Environment,
        channel: &str,
        beginnings: &[&str],
        others: &[&str],
    ) -> Option<usize> {
        let event_of =
            |name: &str| beginnings.iter().find_map(|it| name.strip_prefix(it)).map(str::to_owned);
        let flags: Vec<(String, String)> = environment
            .0
            .keys()
            .filter_map(|name| Some((name.clone(), event_of(name)?)))
            .filter(|(_, event)| !others.contains(&event.as_str()))
            .collect();
        let mut names: Vec<Name> = Vec::new();
        let mut any = false;
        for (variable, event) in flags {
            let Some(value) = self.truth(environment, &variable) else { continue };
            any = true;
            match Name::find(&event) {
                Some(name) if value && !names.contains(&name) => names.push(name),
                Some(_) => {}
                None => self.note(format!("{variable} is ignored: there is no such event")),
            }
        }
        if !any {
            return None;
        }
        names.sort_unstable();
        let list: Vec<Value> = names.iter().map(|name| name.subscription().into()).collect();
        let named: Vec<String> = beginnings.iter().map(|it| format!("{it}*")).collect();
        let origin = variable(&named.join(", "));
        self.set(&format!("evolution.{channel}.events"), Value::Array(list), origin);
        Some(names.len())
    }

    /// What numbers do not say about retrying.
    fn backoff(&mut self, environment: &Environment) {
        let name = "WEBHOOK_RETRY_USE_EXPONENTIAL_BACKOFF";
        if let Some(text) = environment.get(name) {
            // The one that only `false` switches off.
            let value = Value::Bool(text != "false");
            self.set("evolution.webhook.exponential", value, variable(name));
        }
        let name = "WEBHOOK_RETRY_NON_RETRYABLE_STATUS_CODES";
        // Here an empty one says something: none.
        if let Some(text) = environment.0.get(name) {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let (codes, others): (Vec<&str>, Vec<&str>) = items
                .partition(|item| item.parse::<u16>().is_ok_and(|it| (300..=599).contains(&it)));
            for other in others {
                self.note(format!(
                    "{name}: {other:?} is ignored, expected answers from 300 to 599"
                ));
            }
            let codes: Vec<Value> = codes.into_iter().filter_map(number).collect();
            self.set("evolution.webhook.final_statuses", Value::Array(codes), variable(name));
        }
    }

    /// Says what is set and does nothing.
    fn ignored(&mut self, environment: &Environment) {
        if SIGNS.iter().all(|sign| environment.get(sign).is_none()) {
            return;
        }
        for (beginning, instead) in IGNORED {
            let names: Vec<&str> = environment
                .0
                .iter()
                .filter(|(name, value)| name.starts_with(beginning) && !value.is_empty())
                .map(|(name, _)| name.as_str())
                .collect();
            match names[..] {
                [] => {}
                [name] => self.note(format!("{name} is ignored: {instead}")),
                [first, ..] => {
                    let more = names.len() - 1;
                    self.note(format!(
                        "{first} and {more} more {beginning}* are ignored: {instead}"
                    ));
                }
            }
        }
    }
}

fn variable(name: &str) -> Origin {
    Origin::Variable(name.to_owned())
}

fn positive(text: &str) -> Option<Value> {
    let value = number(text.trim())?;
    value.as_f64().is_some_and(|value| value > 0.0 && value.is_finite()).then_some(value)
}

/// Evolution lists the levels it wants, the order being of no meaning.
fn level(levels: &str) -> Option<&'static str> {
    levels
        .split(',')
        .map(|level| match level.trim() {
            "ERROR" => Some((0, "error")),
            "WARN" => Some((1, "warn")),
            "INFO" | "LOG" | "WEBHOOKS" | "WEBSOCKET" => Some((2, "info")),
            "DEBUG" | "DARK" => Some((3, "debug")),
            "VERBOSE" => Some((4, "trace")),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .max()
        .map(|(_, level)| level)
}

#[cfg(test)]
mod tests;
