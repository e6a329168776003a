//! `zapbus tail`: events as they come, in the terminal.

use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::{
    Exit, Failure, ago,
    client::{Call, Connection},
    live::{Backoff, Heard, Live},
    signals::Signals,
};

/// Flags of `tail`.
#[derive(Debug, Args)]
pub(super) struct Tail {
    /// The instance, by id or name [default: all that the token reaches].
    instance: Option<String>,
    /// Only these types, for example message.* [default: all].
    #[arg(long, value_delimiter = ',', value_name = "TYPES")]
    types: Vec<String>,
    /// From after this event id or cursor [default: from now on].
    #[arg(long, value_name = "PLACE", conflicts_with = "since")]
    after: Option<String>,
    /// From the first event at or after this time, or so long ago (15m, 2h, 3d).
    #[arg(long, value_name = "TIME", value_parser = ago::time)]
    since: Option<String>,
    /// With the untouched upstream element (with --json or --ndjson).
    #[arg(long)]
    include_raw: bool,
    /// Stop after so many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

impl Tail {
    pub(super) fn run(
        self,
        connection: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        super::runtime()?.block_on(self.follow(connection, out, err))
    }

    async fn follow(
        self,
        connection: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let signals = Signals::watch()?;
        let mut after = self.after.clone().or_else(|| self.since.clone());
        let mut left = self.count;
        let mut backoff = Backoff::new();
        let mut connected = false;
        loop {
            let open = Live::open(connection, self.call(after.as_deref()));
            let opened = tokio::select! {
                opened = open => opened,
                () = signals.first.cancelled() => return Ok(()),
            };
            let ended = match opened {
                Ok(mut live) => {
                    connected = true;
                    loop {
                        let heard = tokio::select! {
                            heard = live.next() => heard,
                            () = signals.first.cancelled() => {
                                live.close().await;
                                return Ok(());
                            }
                        };
                        let document = match heard {
                            Heard::Document(_, document) => document,
                            Heard::Ended(reason) => break reason,
                        };
                        backoff.reset();
                        if self.show(connection, &document, &mut after, out, err)? {
                            left = left.map(|left| left.saturating_sub(1));
                        }
                        if left == Some(0) {
                            live.close().await;
                            return Ok(());
                        }
                    }
                }
                // Only what was reached once is waited for.
                Err(failure) if connected && failure.exit == Exit::Unreachable => failure.message,
                Err(failure) => return Err(failure),
            };
            writeln!(err, "zapbus: {ended}; connecting again")?;
            tokio::select! {
                () = backoff.wait() => {}
                () = signals.first.cancelled() => return Ok(()),
            }
        }
    }

    fn call(&self, after: Option<&str>) -> Call {
        let path: &[&str] = match &self.instance {
            Some(instance) => &["v1", "instances", instance, "stream"],
            None => &["v1", "stream"],
        };
        let mut call = Call::get(path);
        if !self.types.is_empty() {
            call = call.query("types", self.types.join(","));
        }
        if let Some(after) = after {
            call = call.query("after", after);
        }
        if self.include_raw {
            call = call.query("include_raw", "true");
        }
        call
    }

    /// Whether it was an event.
    fn show(
        &self,
        connection: &Connection,
        document: &Value,
        after: &mut Option<String>,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<bool, Failure> {
        let text = |name: &str| document[name].as_str().unwrap_or_default();
        match text("type") {
            "stream.opened" => {
                after.get_or_insert_with(|| text("cursor").to_owned());
                return Ok(false);
            }
            "stream.gap" => {
                writeln!(err, "zapbus: events before this are past their retention")?;
                return Ok(false);
            }
            other if other.starts_with("stream.") => return Ok(false),
            _ => {}
        }
        *after = Some(text("id").to_owned());
        if connection.wants_json() {
            writeln!(out, "{document}")?;
        } else {
            let instance = document["instance"]["name"].as_str().unwrap_or_default();
            writeln!(
                out,
                "{}  {:<24}  {instance}  {}  {}",
                text("occurred_at"),
                text("type"),
                text("id"),
                summary(&document["data"])
            )?;
        }
        out.flush()?;
        Ok(true)
    }
}

/// What a person wants to see of an event at first sight.
fn summary(data: &Value) -> String {
    let chat = data["chat"]["id"].as_str().or_else(|| data["message"]["chat"].as_str());
    let text = data["content"]["body"].as_str();
    let kind = data["content"]["kind"].as_str();
    let said = text.map(|text| {
        let short: String = text.chars().take(60).collect();
        // A message must not move the cursor of somebody's terminal.
        format!("{short:?}")
    });
    [chat.map(str::to_owned), said.or_else(|| kind.map(str::to_owned))]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("  ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_summary_is_short_and_harmless() {
        let data = json!({
            "chat": { "id": "5511@s.whatsapp.net" },
            "content": { "kind": "text", "body": format!("a\u{1b}[2J\n{}", "x".repeat(99)) },
        });
        let shown = summary(&data);
        assert!(shown.starts_with(r#"5511@s.whatsapp.net  "a\u{1b}[2J\nxxx"#), "{shown}");
        assert!(shown.len() < 100);
        assert_eq!(summary(&json!({ "content": { "kind": "image" } })), "image");
        assert_eq!(summary(&json!({})), "");
    }
}
