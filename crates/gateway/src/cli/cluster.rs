//! `zapbus cluster`

use std::io::Write;

use clap::Args;
use serde_json::Value;

use super::{
    Failure,
    client::{Call, Connection},
    output::{heading, write_table},
};

const NODES: [&str; 6] = ["name", "id", "shards", "lag", "up", "seen"];
const SHARDS: [&str; 6] = ["shard", "node", "epoch", "lease", "head", "last_event_at"];

/// Flags of `cluster`.
#[derive(Debug, Args)]
pub(super) struct Cluster {}

impl Cluster {
    pub(super) fn run(self, to: &Connection, out: &mut dyn Write) -> Result<(), Failure> {
        let answer = to.ask(Call::get(&["v1", "cluster"]))?;
        if to.wants_json() {
            return to.say(&answer, out);
        }
        let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
        let nodes = list("nodes");
        heading(out, "Nodes")?;
        let rows: Vec<Value> = nodes.iter().map(|node| shown_node(node, &answer["node"])).collect();
        write_table(out, &rows, &NODES)?;
        writeln!(out)?;
        heading(out, "Shards")?;
        let rows: Vec<Value> =
            list("shards").into_iter().map(|shard| shown_shard(shard, &nodes)).collect();
        Ok(write_table(out, &rows, &SHARDS)?)
    }
}

/// Times with their units, and the node that answered marked.
fn shown_node(node: &Value, own: &Value) -> Value {
    let mut shown = node.clone();
    if node["id"] == *own {
        shown["name"] = Value::from(format!("{} *", node["name"].as_str().unwrap_or_default()));
    }
    for (name, member) in [("lag", "lag_s"), ("up", "up_s"), ("seen", "seen_s")] {
        shown[name] = seconds(&node[member]);
    }
    shown
}

/// With the name of its node, which says more to people than the id.
fn shown_shard(mut shard: Value, nodes: &[Value]) -> Value {
    let owner = nodes.iter().find(|node| node["id"] == shard["node"]);
    if let Some(owner) = owner {
        shard["node"] = owner["name"].clone();
    } else if shard["node"].is_null() {
        shard["node"] = Value::from("nobody");
    }
    shard["lease"] = seconds(&shard["lease_s"]);
    shard
}

/// `1.2 s`, `3.4 min`, `5.6 h`; nothing where there is no number.
fn seconds(value: &Value) -> Value {
    let Some(seconds) = value.as_f64() else { return Value::Null };
    let (number, unit) = match seconds {
        ..120.0 => (seconds, "s"),
        ..7_200.0 => (seconds / 60.0, "min"),
        _ => (seconds / 3_600.0, "h"),
    };
    Value::from(format!("{number:.1} {unit}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shard_is_shown_with_the_name_of_its_node() {
        let nodes = [json!({ "id": "aa", "name": "left", "up_s": 7_300.0, "seen_s": 0.25 })];
        let shard = json!({ "shard": 3, "node": "aa", "lease_s": 2.5 });
        let shown = shown_shard(shard, &nodes);
        assert_eq!((&shown["node"], &shown["lease"]), (&json!("left"), &json!("2.5 s")));
        let shown = shown_shard(json!({ "shard": 4, "node": null, "lease_s": null }), &nodes);
        assert_eq!((&shown["node"], &shown["lease"]), (&json!("nobody"), &Value::Null));
        let shown = shown_node(&nodes[0], &json!("aa"));
        assert_eq!((&shown["name"], &shown["up"]), (&json!("left *"), &json!("2.0 h")));
    }
}
