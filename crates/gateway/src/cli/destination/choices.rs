//! What can be chosen for a new destination and changed later.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::{Exit, Failure, instance::text_or_file};

/// Where to, and how to get in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where to")]
pub(in crate::cli) struct Channel {
    /// The URL to post to.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// A channel of any kind as JSON, or @FILE that holds it; for a change, the members to change.
    #[arg(long, value_name = "JSON", value_parser = text_or_file, conflicts_with = "webhook")]
    channel: Option<String>,
    /// The webhook's signing secret (whsec_…), or @FILE that holds it [default: made and shown].
    #[arg(long, value_parser = text_or_file)]
    secret: Option<String>,
    /// A header of each request, as 'name: value'; without a value it is taken away.
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(String, Option<String>)>,
    /// Sent as it is in `Authorization`; or @FILE that holds it.
    #[arg(long, value_name = "TEXT", value_parser = text_or_file)]
    authorization: Option<String>,
    /// Append the event's name to the URL's path.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    by_events: Option<bool>,
}

/// `name: value`, or `name:`.
fn header(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = text.split_once(':').ok_or("expected 'name: value'")?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() {
        return Err("expected 'name: value'".to_owned());
    }
    Ok((name.to_owned(), (!value.is_empty()).then(|| value.to_owned())))
}

impl Channel {
    /// The channel's members; none when nothing is said of it.
    pub(super) fn members(self) -> Result<Option<Map<String, Value>>, Failure> {
        let wrong = |message: String| Failure::new(Exit::Usage, message);
        let mut members = match self.channel {
            None => Map::new(),
            Some(text) => match serde_json::from_str(&text) {
                Ok(Value::Object(members)) => members,
                Ok(_) => return Err(wrong("--channel: expected a JSON object".to_owned())),
                Err(error) => return Err(wrong(format!("--channel: {error}"))),
            },
        };
        let of_webhook = [
            ("url", self.webhook.map(Value::from)),
            ("secret", self.secret.map(Value::from)),
            ("authorization", self.authorization.map(Value::from)),
            ("by_events", self.by_events.map(Value::from)),
        ];
        let mut is_webhook = !self.headers.is_empty();
        for (name, value) in of_webhook {
            if let Some(value) = value {
                members.insert(name.to_owned(), value);
                is_webhook = true;
            }
        }
        if !self.headers.is_empty() {
            let headers: Map<String, Value> =
                self.headers.into_iter().map(|(name, value)| (name, value.into())).collect();
            members.insert("headers".to_owned(), headers.into());
        }
        if is_webhook {
            members.entry("type").or_insert_with(|| Value::from("webhook"));
        }
        Ok((!members.is_empty()).then_some(members))
    }
}

/// What is sent, in which form, how fast, and how often it is tried.
#[derive(Debug, Args)]
pub(in crate::cli) struct Choices {
    /// Unique for the instance [default: default].
    #[arg(long)]
    label: Option<String>,
    /// Types, families or facets, for example message.*,call.updated:offer
    #[arg(long, value_delimiter = ',')]
    events: Vec<String>,
    /// Leave out presence and the like.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    exclude_ephemeral: Option<bool>,
    /// none, key or strict.
    #[arg(long)]
    ordering: Option<String>,
    /// Sends under way at one time.
    #[arg(long)]
    max_in_flight: Option<u32>,
    /// Sends per second at most, or none.
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    rate_limit_per_s: Option<Rate>,
    /// Seconds without any success after which it is disabled.
    #[arg(long, value_name = "SECONDS")]
    disable_after_s: Option<u64>,
    #[command(flatten)]
    retry: RetryChoices,
    #[command(flatten)]
    form: Form,
}

/// A number of sends per second, or no limit.
#[derive(Debug, Clone, Copy)]
struct Rate(Option<f64>);

fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "none" => Ok(Rate(None)),
        number => number
            .parse()
            .map(|number| Rate(Some(number)))
            .map_err(|_| "expected a number of sends per second, or none".to_owned()),
    }
}

/// When a failed delivery is tried again.
#[derive(Debug, Args)]
#[command(next_help_heading = "Retries")]
struct RetryChoices {
    /// Whose schedule to start from: native, vzaps, ryze or evolution [default: the dialect's].
    #[arg(long, value_name = "PRESET")]
    retry_preset: Option<String>,
    /// Seconds to wait before the second, third, … attempt.
    #[arg(long, value_name = "SECONDS", value_delimiter = ',')]
    retry_waits_s: Vec<f64>,
    /// Attempts in all.
    #[arg(long, value_name = "NUMBER")]
    retry_max_attempts: Option<u32>,
    /// Seconds that one attempt may take.
    #[arg(long, value_name = "SECONDS")]
    retry_timeout_s: Option<f64>,
}

/// In whose form, and what may be chosen of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Form")]
struct Form {
    /// The vocabulary of what is sent: native, vzaps, ryze or evolution.
    #[arg(long)]
    dialect: Option<String>,
    /// What becomes of events the dialect has no name for: skip, extended or native.
    #[arg(long)]
    fallback: Option<String>,
    /// Carry the untouched upstream element.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    include_raw: Option<bool>,
    /// Carry the keys that decrypt media.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    media_key: Option<bool>,
    /// Put the file of a message into the body as base64.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    inline_media: Option<bool>,
    /// Of the events, only what goes out under these names of RyzeAPI; '' for all.
    #[arg(long, value_name = "NAMES")]
    ryze_names: Option<String>,
    /// The shape of RyzeAPI's message.content: text or object.
    #[arg(long, value_name = "SHAPE")]
    ryze_message_content: Option<String>,
    /// Leave RyzeAPI's instanceData.token empty.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ryze_blank_token: Option<bool>,
    /// Add id and timestamp to RyzeAPI's envelope.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ryze_extended_envelope: Option<bool>,
    /// Of the events, only what goes out under these names of Evolution API; '' for all.
    #[arg(long, value_name = "NAMES")]
    evolution_names: Option<String>,
    /// Write what Evolution API Lite writes.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    evolution_lite: Option<bool>,
    /// Show the instance's token in Evolution's form, as apikey.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    evolution_show_key: Option<bool>,
}

/// A member that was given.
fn put(into: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    into.extend(value.map(|value| (name.to_owned(), value.into())));
}

impl Choices {
    /// Puts what is given into a request. `stored` is the schedule of the destination that is
    /// changed: the API takes one as a whole.
    pub(super) fn put_into(
        self,
        body: &mut Map<String, Value>,
        stored: impl FnOnce() -> Result<Value, Failure>,
    ) -> Result<(), Failure> {
        put(body, "label", self.label);
        put(body, "events", (!self.events.is_empty()).then_some(self.events));
        put(body, "exclude_ephemeral", self.exclude_ephemeral);
        put(body, "ordering", self.ordering);
        put(body, "max_in_flight", self.max_in_flight);
        put(body, "rate_limit_per_s", self.rate_limit_per_s.map(|Rate(rate)| json!(rate)));
        put(body, "disable_after_s", self.disable_after_s);
        self.form.put_into(body);
        if self.retry.says_something() {
            let mut retry = match self.retry.retry_preset {
                // Another preset is another schedule.
                Some(_) => json!({}),
                None => stored()?,
            };
            let members = retry.as_object_mut();
            members.into_iter().for_each(|members| self.retry.put_into(members));
            body.insert("retry".to_owned(), retry);
        }
        Ok(())
    }

    /// The schedule of a new destination that names none: that of its dialect.
    pub(super) fn preset_of_dialect(&self) -> Value {
        json!({ "preset": self.form.dialect.as_deref().unwrap_or("native") })
    }
}

impl RetryChoices {
    fn says_something(&self) -> bool {
        self.retry_preset.is_some()
            || !self.retry_waits_s.is_empty()
            || self.retry_max_attempts.is_some()
            || self.retry_timeout_s.is_some()
    }

    fn put_into(&self, retry: &mut Map<String, Value>) {
        put(retry, "preset", self.retry_preset.clone());
        let waits = (!self.retry_waits_s.is_empty()).then(|| self.retry_waits_s.clone());
        put(retry, "waits_s", waits);
        put(retry, "max_attempts", self.retry_max_attempts);
        put(retry, "timeout_s", self.retry_timeout_s);
    }
}

impl Form {
    fn put_into(self, body: &mut Map<String, Value>) {
        put(body, "dialect", self.dialect);
        put(body, "fallback", self.fallback);
        put(body, "include_raw", self.include_raw);
        put(body, "media_key", self.media_key);
        put(body, "inline_media", self.inline_media);
        let mut ryze = Map::new();
        put(&mut ryze, "names", self.ryze_names.map(|text| names(&text)));
        put(&mut ryze, "message_content", self.ryze_message_content);
        put(&mut ryze, "blank_token", self.ryze_blank_token);
        put(&mut ryze, "extended_envelope", self.ryze_extended_envelope);
        put(body, "ryze", (!ryze.is_empty()).then_some(ryze));
        let mut evolution = Map::new();
        put(&mut evolution, "names", self.evolution_names.map(|text| names(&text)));
        put(&mut evolution, "lite", self.evolution_lite);
        put(&mut evolution, "show_key", self.evolution_show_key);
        put(body, "evolution", (!evolution.is_empty()).then_some(evolution));
    }
}

/// Names with commas between them; none is an empty list.
fn names(text: &str) -> Vec<String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        channel: Channel,
        #[command(flatten)]
        choices: Choices,
    }

    fn body(arguments: &[&str], stored: Value) -> Value {
        let command = Command::parse_from(["x"].iter().chain(arguments));
        let mut body = Map::new();
        put(&mut body, "channel", command.channel.members().unwrap());
        command.choices.put_into(&mut body, || Ok(stored)).unwrap();
        body.into()
    }

    #[test]
    fn flags_become_members() {
        let none = Value::Null;
        for (arguments, expected) in [
            (&[][..], json!({})),
            (
                &["--webhook", "http://a/", "--header", "X-A: b: c", "--header", "x-gone:"],
                json!({ "channel": {
                    "type": "webhook", "url": "http://a/",
                    "headers": { "X-A": "b: c", "x-gone": null },
                } }),
            ),
            (
                &["--authorization", "Bearer x", "--by-events"],
                json!({ "channel": {
                    "type": "webhook", "authorization": "Bearer x", "by_events": true,
                } }),
            ),
            (
                &["--channel", r#"{"type":"sqs","region":"us-east-1"}"#],
                json!({ "channel": { "type": "sqs", "region": "us-east-1" } }),
            ),
            (&["--rate-limit-per-s", "2.5"], json!({ "rate_limit_per_s": 2.5 })),
            (&["--rate-limit-per-s", "none"], json!({ "rate_limit_per_s": null })),
            (
                &["--include-raw", "--media-key=false", "--dialect", "ryze", "--ryze-names", ""],
                json!({
                    "dialect": "ryze", "include_raw": true, "media_key": false,
                    "ryze": { "names": [] },
                }),
            ),
            (
                &["--evolution-names", "CALL, CHATS_SET", "--evolution-lite"],
                json!({ "evolution": { "names": ["CALL", "CHATS_SET"], "lite": true } }),
            ),
        ] {
            assert_eq!(body(arguments, none.clone()), expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_schedule_goes_on_from_the_one_there_is() {
        let stored = json!({ "preset": "ryze", "timeout_s": 5.0, "max_attempts": 5 });
        let changed = body(&["--retry-max-attempts", "9"], stored.clone());
        let expected = json!({ "preset": "ryze", "timeout_s": 5.0, "max_attempts": 9 });
        assert_eq!(changed["retry"], expected);
        let arguments = ["--retry-preset", "native", "--retry-waits-s", "1,2.5"];
        let changed = body(&arguments, stored);
        assert_eq!(changed["retry"], json!({ "preset": "native", "waits_s": [1.0, 2.5] }));
    }

    #[test]
    fn what_is_no_channel_or_header_is_said() {
        let refused = |arguments: &[&str]| {
            let parsed = Command::try_parse_from(["x"].iter().chain(arguments));
            match parsed {
                Err(error) => error.to_string(),
                Ok(command) => command.channel.members().unwrap_err().message,
            }
        };
        assert!(refused(&["--channel", "[]"]).contains("--channel: expected a JSON object"));
        assert!(refused(&["--channel", "{"]).starts_with("--channel: "));
        assert!(refused(&["--header", "nothing"]).contains("expected 'name: value'"));
    }
}
