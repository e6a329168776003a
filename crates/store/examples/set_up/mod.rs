//! What the measurements begin with: a store, a shop with destinations, events of a usual size.

use std::path::Path;

use bytes::Bytes;
use serde_json::json;
use zapbus_event::{
    DestinationId, Draft, Filter, InstanceId, Kind, Position, Raw, Source, SourceKind, Timestamp,
};
use zapbus_store::{
    Activity, Actor, Attempt, Destination, Instance, Key, LIVE, LaneId, Options, Postgres, Row,
    Settlement, ShardId, Start, State, Store,
};

/// A store in this folder, or on the server that `ZAPBUS_DATABASE_URL` names.
pub(crate) fn options(folder: &Path) -> Options {
    let mut options = Options::new(folder);
    if let Ok(url) = std::env::var("ZAPBUS_DATABASE_URL") {
        options.keys = vec![Key::parse(&"00".repeat(32)).unwrap()];
        options.postgres = Some(Postgres::new(url));
    }
    options
}

/// A text message of 1 KiB.
pub(crate) fn draft(key: String) -> Draft {
    Draft {
        kind: Kind::MessageReceived,
        facet: Some("text".to_owned()),
        data: Bytes::from(format!(r#"{{"body":"{}"}}"#, "x".repeat(1_000))),
        raw: Raw::Data,
        occurred_at: None,
        source: Source {
            kind: SourceKind::Native,
            event: "message.received".to_owned(),
            version: None,
            delivery_id: None,
            index: 0,
        },
        keys: vec![key],
        partition: "5511999999999@s.whatsapp.net".to_owned(),
        history: false,
        ephemeral: false,
        client_id: None,
        hops: 0,
        aliases: Vec::new(),
    }
}

/// An instance with so many destinations that take everything: their live lanes. `salt` makes the
/// ids of destinations others than those of another process.
pub(crate) async fn open_shop(
    store: &Store,
    id: InstanceId,
    destinations: u128,
    (now, salt): (Timestamp, u128),
) -> Vec<LaneId> {
    let account = store.accounts().await.unwrap().remove(0).id;
    let actor = Actor("bench".to_owned());
    let instance = Instance {
        id,
        account,
        name: format!("bench {id}"),
        token: "token".to_owned(),
        source: None,
        route: None,
        settings: json!({}),
        created_at: now,
        deleted_at: None,
    };
    store.create_instance(instance, draft("made".to_owned()), &actor, None).await.unwrap();
    let mut lanes = Vec::new();
    for number in 0..destinations {
        let destination = Destination {
            id: DestinationId::new(now, salt + number),
            account,
            instance: Some(id),
            label: number.to_string(),
            filter: Filter::parse(&["*"]).unwrap(),
            exclude_ephemeral: false,
            activity: Activity::Active,
            spec: json!({}),
            created_at: now,
            updated_at: now,
        };
        lanes.push(LaneId { destination: destination.id, run: LIVE });
        store.create_destination(destination, Start::Now, &actor, None).await.unwrap();
    }
    lanes
}

/// These rows of a lane, and that its cursor has passed them.
pub(crate) fn settlement(lane: LaneId, cursor: Option<Position>, rows: Vec<Row>) -> Settlement {
    let shard = ShardId::default();
    Settlement { lane, epoch: None, shard, cursor, health: None, rows, events: Vec::new() }
}

/// What became of an event after one attempt, which is kept if it is given.
pub(crate) fn row(seq: Position, state: State, attempt: Option<Attempt>) -> Row {
    Row { seq, state, attempts: 1, parts_done: 1, key: 7, manual: false, attempt }
}

/// An attempt that succeeded.
pub(crate) fn accepted(at: Timestamp) -> Attempt {
    Attempt {
        at,
        number: 1,
        code: Some(200),
        latency_ms: 3,
        error: None,
        excerpt: Bytes::from_static(b"ok"),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
    }
}
