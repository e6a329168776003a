//! What is copied: every table of the target, and how its rows are found in the source.

use rusqlite::Row;
use zapbus_event::EventId;

use super::{
    mapping::{
        Mapping, Periods, WEEK_MS, bytes, must, number, plain, put_attempt, put_delivery,
        put_event, put_lane, put_subscriber, sealed,
    },
    wire::{
        Rows,
        Type::{self, Bigint, Bigints, Bool, Bytes, Int, Text},
    },
};
use crate::{
    fault::{Fault, Result},
    postgres::{answer_id, answer_place},
    seal::Place,
};

/// A table of the target.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, Type)],
    pub(super) rows: Found,
    pub(super) put: fn(&Row<'_>, &Mapping, &mut Rows, &mut Periods) -> Result<()>,
}

/// Where the rows are in the source: always in the same order.
pub(super) enum Found {
    /// A row for each of a table.
    In { table: &'static str, select: &'static str },
    /// Deduplication keys: in a table for the newest and one for each sealed segment.
    InSegments,
}

/// All of them, in the order of copying: small ones first.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "account",
        columns: &[("id", Bytes), ("name", Text), ("source", Bytes), ("created_at", Bigint)],
        rows: Found::In {
            table: "account",
            select: "SELECT id, name, source, created_at FROM account ORDER BY id",
        },
        put: |row, mapping, rows, _| {
            let id = bytes(row, 0)?.unwrap_or_default();
            rows.bytes(Some(id));
            rows.text(bytes(row, 1)?);
            let place = Place { table: "account", id, column: "source" };
            sealed(row, 2, place, mapping, rows)?;
            rows.bigint(number(row, 3)?);
            Ok(())
        },
    },
    Table {
        name: "instance",
        columns: &[
            ("id", Bytes),
            ("account", Bytes),
            ("name", Text),
            ("token", Bytes),
            ("token_hash", Bytes),
            ("source", Bytes),
            ("route", Text),
            ("settings", Text),
            ("created_at", Bigint),
            ("deleted_at", Bigint),
        ],
        rows: Found::In {
            table: "instance",
            select: "SELECT id, account, name, token, token_hash, source, route, settings, created_at, \
             deleted_at FROM instance ORDER BY id",
        },
        put: |row, mapping, rows, _| {
            let id = bytes(row, 0)?.unwrap_or_default();
            rows.bytes(Some(id));
            rows.bytes(bytes(row, 1)?);
            rows.text(bytes(row, 2)?);
            let place = |column| Place { table: "instance", id, column };
            sealed(row, 3, place("token"), mapping, rows)?;
            rows.bytes(bytes(row, 4)?);
            sealed(row, 5, place("source"), mapping, rows)?;
            rows.text(bytes(row, 6)?);
            rows.text(bytes(row, 7)?);
            rows.bigint(number(row, 8)?);
            rows.bigint(number(row, 9)?);
            Ok(())
        },
    },
    Table {
        name: "instance_state",
        columns: STATE,
        rows: Found::In {
            table: "instance_state",
            select: "SELECT instance, state, last_event_at, pruned_upto FROM instance_state \
             ORDER BY instance",
        },
        put: |row, _, rows, _| plain(row, STATE, rows),
    },
    Table {
        name: "destination",
        columns: DESTINATION,
        rows: Found::In {
            table: "destination",
            select: "SELECT n, id, account, instance, label, filter, exclude_ephemeral, activity, active, \
             runs, created_at, updated_at, deleted_at FROM destination ORDER BY n",
        },
        put: |row, _, rows, _| plain(row, DESTINATION, rows),
    },
    Table {
        name: "destination_spec",
        columns: &[("n", Bigint), ("spec", Bytes)],
        rows: Found::In {
            table: "destination_spec",
            select: "SELECT s.n, s.spec, d.id FROM destination_spec s LEFT JOIN destination d ON d.n = s.n \
             ORDER BY s.n",
        },
        put: |row, mapping, rows, _| {
            rows.bigint(number(row, 0)?);
            let id = bytes(row, 2)?.unwrap_or_default();
            let place = Place { table: "destination", id, column: "spec" };
            sealed(row, 1, place, mapping, rows)
        },
    },
    Table {
        name: "lane",
        columns: &[
            ("destination", Bigint),
            ("run", Int),
            ("shard", Int),
            ("cursor", Bigint),
            ("cursors", Bigints),
            ("probing_since", Bigint),
            ("probes", Int),
            ("next_probe", Bigint),
            ("state", Text),
            ("from_seq", Bigint),
            ("to_seq", Bigint),
            ("froms", Bigints),
            ("tos", Bigints),
            ("filter", Text),
            ("created_at", Bigint),
        ],
        rows: Found::In {
            table: "lane",
            select: "SELECT l.destination, l.run, l.cursor, l.probing_since, l.probes, l.next_probe, \
             l.state, l.from_seq, l.to_seq, l.filter, l.created_at, d.instance \
             FROM lane l LEFT JOIN destination d ON d.n = l.destination \
             ORDER BY l.destination, l.run",
        },
        put: put_lane,
    },
    Table {
        name: "subscriber",
        columns: &[
            ("id", Bytes),
            ("account", Bytes),
            ("instance", Bytes),
            ("owner", Text),
            ("name", Text),
            ("dialect", Text),
            ("filter", Text),
            ("progress", Bytes),
            ("version", Bigint),
            ("created_at", Bigint),
            ("used_at", Bigint),
        ],
        rows: Found::In {
            table: "subscriber",
            select: "SELECT id, account, instance, owner, name, dialect, filter, progress, created_at, \
             used_at FROM subscriber ORDER BY id",
        },
        put: put_subscriber,
    },
    Table {
        name: "credential",
        columns: CREDENTIAL,
        rows: Found::In {
            table: "credential",
            select: "SELECT id, role, account, instance, name, public_id, created_at, expires_at \
             FROM credential ORDER BY id",
        },
        put: |row, _, rows, _| plain(row, CREDENTIAL, rows),
    },
    Table {
        name: "credential_secret",
        columns: SECRET,
        rows: Found::In {
            table: "credential_secret",
            select: "SELECT hash, credential, expires_at FROM credential_secret ORDER BY hash",
        },
        put: |row, _, rows, _| plain(row, SECRET, rows),
    },
    Table {
        name: "setting",
        columns: SETTING,
        rows: Found::In {
            table: "setting",
            select: "SELECT name, value FROM setting ORDER BY name",
        },
        put: |row, _, rows, _| plain(row, SETTING, rows),
    },
    Table {
        name: "answer",
        columns: &[
            ("caller", Text),
            ("key", Text),
            ("request", Bytes),
            ("answer", Bytes),
            ("created_at", Bigint),
        ],
        rows: Found::In {
            table: "answer",
            select: "SELECT caller, key, request, answer, created_at FROM answer ORDER BY caller, key",
        },
        put: |row, mapping, rows, _| {
            let (caller, key): (String, String) = (row.get(0)?, row.get(1)?);
            rows.text(Some(caller.as_bytes()));
            rows.text(Some(key.as_bytes()));
            rows.bytes(bytes(row, 2)?);
            let id = answer_id(&caller, &key);
            sealed(row, 3, answer_place(&id), mapping, rows)?;
            rows.bigint(number(row, 4)?);
            Ok(())
        },
    },
    Table {
        name: "audit",
        columns: AUDIT,
        rows: Found::In {
            table: "audit",
            select: "SELECT id, at, account, actor, action, target, detail FROM audit ORDER BY id",
        },
        put: |row, _, rows, _| plain(row, AUDIT, rows),
    },
    Table {
        name: "figures_delivery",
        columns: FIGURES,
        rows: Found::In {
            table: "delivery_slot",
            select: "SELECT destination, slot, accepted, failed, dead, expired, last_delivered, latencies \
             FROM delivery_slot ORDER BY slot, destination",
        },
        put: |row, _, rows, _| plain(row, FIGURES, rows),
    },
    Table {
        name: "figures_event",
        columns: EVENTS,
        rows: Found::In {
            table: "event_slot",
            select: "SELECT instance, slot, events FROM event_slot ORDER BY slot, instance",
        },
        put: |row, _, rows, _| plain(row, EVENTS, rows),
    },
    Table {
        name: "address_alias",
        columns: ALIAS,
        rows: Found::In {
            table: "address_alias",
            select: "SELECT instance, lid, phone FROM address_alias ORDER BY instance, lid, phone",
        },
        put: |row, _, rows, _| plain(row, ALIAS, rows),
    },
    Table {
        name: "dedup",
        columns: &[("received_at", Bigint), ("seq", Bigint), ("hash", Bytes), ("id", Bytes)],
        rows: Found::InSegments,
        put: |row, _, rows, periods| {
            let id: [u8; 16] = row.get(1)?;
            // The id of an event carries the time it was received.
            let at = EventId::from_bytes(id).timestamp().as_millis();
            periods.weeks.insert(at.div_euclid(WEEK_MS));
            rows.bigint(Some(at));
            rows.bigint(number(row, 2)?);
            rows.bytes(bytes(row, 0)?);
            rows.bytes(Some(&id));
            Ok(())
        },
    },
    Table {
        name: "blob",
        columns: &[
            ("sha256", Bytes),
            ("bytes", Bigint),
            ("refs", Bigint),
            ("content", Bytes),
            ("object", Text),
            ("there", Bool),
            ("touched", Bigint),
        ],
        rows: Found::In {
            table: "blob",
            select: "SELECT sha256, bytes, refs, object, there, touched FROM blob ORDER BY sha256",
        },
        put: |row, mapping, rows, _| {
            let sha: [u8; 32] = row.get(0)?;
            let object = bytes(row, 3)?;
            // What lies in the bucket stays there.
            let content = if object.is_none() { Some(content(mapping, &sha)?) } else { None };
            rows.bytes(Some(&sha));
            rows.bigint(number(row, 1)?);
            rows.bigint(number(row, 2)?);
            rows.bytes(content.as_deref());
            rows.text(object);
            rows.bool(must(row, 4)? != 0);
            rows.bigint(number(row, 5)?);
            Ok(())
        },
    },
    Table {
        name: "stray",
        columns: &[("object", Text)],
        rows: Found::In { table: "stray", select: "SELECT object FROM stray ORDER BY object" },
        put: |row, _, rows, _| plain(row, &[("object", Text)], rows),
    },
    Table {
        name: "wanted_file",
        columns: &[
            ("event", Bytes),
            ("instance", Bytes),
            ("shard", Int),
            ("seq", Bigint),
            ("state", Int),
            ("due", Bigint),
            ("attempts", Int),
            ("sha256", Bytes),
            ("bytes", Bigint),
            ("mime", Text),
            ("problem", Text),
        ],
        rows: Found::In {
            table: "wanted_file",
            select: "SELECT event, instance, seq, state, due, attempts, sha256, bytes, mime, \
             problem FROM wanted_file ORDER BY event",
        },
        put: |row, mapping, rows, _| {
            let instance = bytes(row, 1)?.unwrap_or_default();
            rows.bytes(bytes(row, 0)?);
            rows.bytes(Some(instance));
            rows.int(Some(mapping.shard(instance)?.0.into()));
            rows.bigint(number(row, 2)?);
            rows.int(number(row, 3)?);
            rows.bigint(number(row, 4)?);
            rows.int(number(row, 5)?);
            rows.bytes(bytes(row, 6)?);
            rows.bigint(number(row, 7)?);
            rows.text(bytes(row, 8)?);
            rows.text(bytes(row, 9)?);
            Ok(())
        },
    },
    Table {
        name: "body",
        columns: &[
            ("shard", Int),
            ("sha256", Bytes),
            ("instance", Bytes),
            ("first_seq", Bigint),
            ("last_seq", Bigint),
            ("received_at", Bigint),
            ("body", Bytes),
        ],
        rows: Found::In {
            table: "body",
            select: "SELECT sha256, instance, first_seq, last_seq, received_at, body FROM body \
             ORDER BY sha256, instance",
        },
        put: |row, mapping, rows, _| {
            let instance = bytes(row, 1)?.unwrap_or_default();
            rows.int(Some(mapping.shard(instance)?.0.into()));
            rows.bytes(bytes(row, 0)?);
            rows.bytes(Some(instance));
            for column in 2..5 {
                rows.bigint(number(row, column)?);
            }
            rows.bytes(bytes(row, 5)?);
            Ok(())
        },
    },
    Table {
        name: "journal",
        columns: &[
            ("shard", Int),
            ("class", Int),
            ("seq", Bigint),
            ("received_at", Bigint),
            ("kind", Int),
            ("flags", Int),
            ("id", Bytes),
            ("instance", Bytes),
            ("head", Bytes),
            ("data", Bytes),
            ("raw", Bytes),
        ],
        rows: Found::In {
            table: "journal",
            select: "SELECT seq, received_at, kind, flags, id, instance, head, data, raw FROM journal \
             ORDER BY seq",
        },
        put: put_event,
    },
    Table {
        name: "delivery",
        columns: &[
            ("destination", Bigint),
            ("run", Int),
            ("shard", Int),
            ("seq", Bigint),
            ("class", Int),
            ("event_at", Bigint),
            ("n", Bigint),
            ("key", Bigint),
            ("created_at", Bigint),
            ("updated_at", Bigint),
            ("attempted_at", Bigint),
            ("due", Bigint),
            ("upto", Bigint),
            ("lost", Bigint),
            ("latency_ms", Bigint),
            ("status", Int),
            ("reason", Int),
            ("attempts", Int),
            ("parts_done", Int),
            ("code", Int),
            ("manual", Bool),
            ("error", Text),
            ("excerpt", Bytes),
        ],
        rows: Found::In {
            table: "delivery",
            select: "SELECT d.destination, d.run, d.seq, d.n, d.key, d.created_at, d.updated_at, \
             d.attempted_at, d.due, d.upto, d.lost, d.latency_ms, d.status, d.reason, d.attempts, \
             d.parts_done, d.code, d.manual, d.error, d.excerpt, \
             x.id, x.instance, j.instance, j.received_at, j.flags \
             FROM delivery d LEFT JOIN destination x ON x.n = d.destination \
             LEFT JOIN journal j ON j.seq = d.seq ORDER BY d.n",
        },
        put: put_delivery,
    },
    Table {
        name: "attempt",
        columns: &[
            ("destination", Bigint),
            ("run", Int),
            ("shard", Int),
            ("seq", Bigint),
            ("number", Int),
            ("class", Int),
            ("event_at", Bigint),
            ("at", Bigint),
            ("latency_ms", Bigint),
            ("code", Int),
            ("error", Text),
            ("excerpt", Bytes),
            ("request_headers", Text),
            ("response_headers", Text),
        ],
        rows: Found::In {
            table: "attempt",
            select: "SELECT a.destination, a.run, a.seq, a.number, a.at, a.latency_ms, a.code, a.error, \
             a.excerpt, a.request_headers, a.response_headers, x.id, x.instance, j.instance, \
             j.received_at, j.flags, d.created_at \
             FROM attempt a LEFT JOIN destination x ON x.n = a.destination \
             LEFT JOIN journal j ON j.seq = a.seq \
             LEFT JOIN delivery d ON d.destination = a.destination AND d.run = a.run \
                 AND d.seq = a.seq \
             ORDER BY a.destination, a.run, a.seq, a.number",
        },
        put: put_attempt,
    },
];

const STATE: &[(&str, Type)] =
    &[("instance", Bytes), ("state", Text), ("last_event_at", Bigint), ("pruned_upto", Bigint)];
const DESTINATION: &[(&str, Type)] = &[
    ("n", Bigint),
    ("id", Bytes),
    ("account", Bytes),
    ("instance", Bytes),
    ("label", Text),
    ("filter", Text),
    ("exclude_ephemeral", Bool),
    ("activity", Text),
    ("active", Bool),
    ("runs", Int),
    ("created_at", Bigint),
    ("updated_at", Bigint),
    ("deleted_at", Bigint),
];
const CREDENTIAL: &[(&str, Type)] = &[
    ("id", Bytes),
    ("role", Text),
    ("account", Bytes),
    ("instance", Bytes),
    ("name", Text),
    ("public_id", Text),
    ("created_at", Bigint),
    ("expires_at", Bigint),
];
const SECRET: &[(&str, Type)] = &[("hash", Bytes), ("credential", Bytes), ("expires_at", Bigint)];
const SETTING: &[(&str, Type)] = &[("name", Text), ("value", Text)];
const AUDIT: &[(&str, Type)] = &[
    ("id", Bytes),
    ("at", Bigint),
    ("account", Bytes),
    ("actor", Text),
    ("action", Text),
    ("target", Text),
    ("detail", Text),
];
const FIGURES: &[(&str, Type)] = &[
    ("destination", Bigint),
    ("slot", Bigint),
    ("accepted", Bigint),
    ("failed", Bigint),
    ("dead", Bigint),
    ("expired", Bigint),
    ("last_delivered", Bigint),
    ("latencies", Bytes),
];
const EVENTS: &[(&str, Type)] = &[("instance", Bytes), ("slot", Bigint), ("events", Bigint)];
const ALIAS: &[(&str, Type)] = &[("instance", Bytes), ("lid", Text), ("phone", Text)];

/// What a file of the folder holds.
fn content(mapping: &Mapping, sha: &[u8; 32]) -> Result<Vec<u8>> {
    let content = mapping.blobs.read(sha).map_err(|error| {
        Fault::Broken(format!("blob {} cannot be read ({error})", hex::encode(sha)))
    })?;
    if crate::prepared::sha256(&content) != *sha {
        return Err(Fault::Damaged(format!("blob {} has changed", hex::encode(sha))));
    }
    Ok(content)
}
