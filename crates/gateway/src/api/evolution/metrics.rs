//! Upstream's series of its instances, for dashboards that are there already. They carry names of
//! instances, so they are shown only where the operator asks for them.

use std::fmt::Write as _;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use zapbus_event::InstanceId;
use zapbus_store::{DEFAULT_ACCOUNT, Instance, RESERVED_INSTANCE};

use super::{
    session::state_name,
    settings::{self, About},
};
use crate::{
    api::{auth::find_account, error::ApiError},
    app::App,
};

/// Instances that have series at most.
const MOST: usize = 10_000;

/// Instances read at a time.
const PAGE: usize = 500;

/// States asked for at the same time.
const AT_ONCE: usize = 16;

/// Whether they are shown.
pub(crate) fn are_shown(app: &App) -> bool {
    app.config.evolution.enabled && app.config.evolution.metrics
}

/// The families, in text, without an end mark: of the default account, whose instances are what the
/// operator's key means.
pub(crate) async fn families(app: &App) -> Result<String, ApiError> {
    let instances = instances(app).await?;
    let count = instances.len();
    let rows: Vec<Row> = stream::iter(instances.into_iter().take(MOST))
        .map(|instance| row(app, instance))
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(written(count, &rows))
}

struct Row {
    name: String,
    integration: String,
    state: &'static str,
}

async fn row(app: &App, instance: Instance) -> Result<Row, ApiError> {
    let state = app.store.instance_status(instance.id).await?.state;
    let about: About = settings::read(&instance, "about").unwrap_or_default();
    Ok(Row {
        integration: about.integration.unwrap_or_else(|| "WHATSAPP-BAILEYS".to_owned()),
        name: instance.name,
        state: state_name(state.connection),
    })
}

async fn instances(app: &App) -> Result<Vec<Instance>, ApiError> {
    let account = find_account(app, DEFAULT_ACCOUNT).await?.id;
    let mut found = Vec::new();
    let mut after: Option<InstanceId> = None;
    loop {
        let page = app.store.instances(Some(account), after, PAGE).await?;
        after = page.last().map(|instance| instance.id);
        let is_last = page.len() < PAGE;
        found.extend(page.into_iter().filter(|instance| {
            instance.deleted_at.is_none() && instance.name != RESERVED_INSTANCE
        }));
        if is_last {
            return Ok(found);
        }
    }
}

fn written(count: usize, rows: &[Row]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut family = |name: &str, help: &str, series: &mut dyn Iterator<Item = String>| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for line in series {
            let _ = writeln!(text, "{name}{line}");
        }
    };
    let total = format!(" {count}");
    family("evolution_instances_total", "Total number of instances", &mut [total].into_iter());
    let of = |row: &Row| {
        let (name, integration) = (escaped(&row.name), escaped(&row.integration));
        format!("instance=\"{name}\",integration=\"{integration}\"")
    };
    let mut up =
        rows.iter().map(|row| format!("{{{}}} {}", of(row), u8::from(row.state == "open")));
    family("evolution_instance_up", "1 if the instance is connected, else 0", &mut up);
    let mut states = rows.iter().map(|row| format!("{{{},state=\"{}\"}} 1", of(row), row.state));
    family("evolution_instance_state", "1, with the state of the instance as a label", &mut states);
    text
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_those_of_upstream() {
        let row = |name: &str, state| Row {
            name: name.to_owned(),
            integration: "EVOLUTION".to_owned(),
            state,
        };
        let text = written(2, &[row("shop", "open"), row("a \"b\" \\", "close")]);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "evolution_instances_total 2",
                "evolution_instance_up{instance=\"shop\",integration=\"EVOLUTION\"} 1",
                "evolution_instance_up{instance=\"a \\\"b\\\" \\\\\",integration=\"EVOLUTION\"} 0",
                "evolution_instance_state{instance=\"shop\",integration=\"EVOLUTION\",state=\"open\"} 1",
                "evolution_instance_state{instance=\"a \\\"b\\\" \\\\\",integration=\"EVOLUTION\",state=\"close\"} 1",
            ]
        );
        assert!(written(0, &[]).contains("# TYPE evolution_instance_up gauge"));
    }
}
