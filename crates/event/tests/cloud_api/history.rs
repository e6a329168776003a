//! The past of a phone that was connected.

use serde_json::json;
use zapbus_event::Kind;

use crate::{contains, element, one, text};

#[test]
fn the_past_comes_in_chunks() {
    let chunk = json!({
        "metadata": { "phase": 1, "chunk_order": 3, "progress": 40 },
        "threads": [{ "id": "5511999990001", "messages": [
            element(text("Oi")),
            element(json!({ "from": "5511999990000", "id": "wamid.V2", "type": "text",
                "text": { "body": "Olá" }, "history_context": { "status": "READ" } })),
        ] }],
    });
    let (kind, data, routed) = one("history", "history", chunk);
    assert_eq!((kind, routed.draft.facet.as_deref()), (Kind::HistorySync, Some("recent")));
    assert!(routed.draft.history);
    let expected = json!({ "chunk": 3, "progress_pct": 40,
        "counts": { "chats": 1, "contacts": 0, "messages": 2 } });
    assert!(contains(&data, &expected), "{data}");
    assert_eq!(data["messages"][1]["message"]["from_me"], true);
    assert_eq!(data["messages"][1]["status"], "read");

    let refused = json!({ "errors": [{ "code": 2593109, "title": "Declined" }] });
    let (kind, data, _) = one("history", "history", refused);
    assert_eq!((kind, &data["stage"]), (Kind::InstanceError, &json!("sync")));
}
