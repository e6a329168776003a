//! Groups.

use serde_json::{Value, json};
use zapbus_event::Kind;

use crate::{contains, one};

#[test]
fn groups_change() {
    let group = |kind: &str, members: Value| {
        let mut group = json!({ "group_id": "G1", "timestamp": "1767225601", "type": kind });
        group.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        group
    };
    let table = [
        (
            "group_settings_update",
            group(
                "group_settings_update",
                json!({
                    "request_id": "R1",
                    "group_subject": { "text": "Novo", "update_successful": true },
                    "group_description": { "text": "x", "update_successful": false },
                    "profile_picture": { "mime_type": "image/jpeg" },
                }),
            ),
            Kind::GroupUpdated,
            json!({ "name": "Novo", "changed": ["name", "picture"], "request_result": "partial" }),
            "g|G1|R1|group_settings_update",
        ),
        (
            "group_lifecycle_update",
            group(
                "group_create",
                json!({
                    "request_id": "R2", "subject": "Clientes",
                    "invite_link": "https://chat.whatsapp.com/CODE",
                    "join_approval_mode": "approval_required",
                }),
            ),
            Kind::GroupLifecycle,
            json!({ "action": "created", "metadata": {
                "name": "Clientes", "invite_code": "CODE", "join_approval": true } }),
            "g|G1|R2|group_create",
        ),
        (
            "group_lifecycle_update",
            group("group_create", json!({ "errors": [{ "code": 131000, "title": "Failed" }] })),
            Kind::InstanceError,
            json!({ "stage": "upstream_api", "code": "131000", "title": "Failed" }),
            "g|G1|1767225601|group_create",
        ),
        (
            "group_lifecycle_update",
            group("group_delete", json!({})),
            Kind::GroupLifecycle,
            json!({ "action": "deleted" }),
            "g|G1|1767225601|group_delete",
        ),
        (
            "group_status_update",
            group("group_suspend", json!({})),
            Kind::GroupLifecycle,
            json!({ "action": "suspended" }),
            "g|G1|1767225601|group_suspend",
        ),
        (
            "group_status_update",
            group("group_suspend_cleared", json!({})),
            Kind::GroupLifecycle,
            json!({ "action": "unsuspended" }),
            "g|G1|1767225601|group_suspend_cleared",
        ),
        (
            "group_participants_update",
            group(
                "group_participants_remove",
                json!({
                    "initiated_by": "business",
                    "removed_participants": [{ "wa_id": "5511999990000" }],
                    "failed_participants": [
                        { "input": "5511999990002", "errors": [{ "code": 1, "title": "No" }] }],
                }),
            ),
            Kind::GroupParticipants,
            json!({ "action": "remove", "self_affected": true }),
            "g|G1|1767225601|group_participants_remove|5511999990000",
        ),
        (
            "group_participants_update",
            group(
                "group_join_request_created",
                json!({
                "join_request_id": "J1", "wa_id": "5511999990001" }),
            ),
            Kind::GroupParticipants,
            json!({ "action": "request_created", "self_affected": false }),
            "g|G1|J1|group_join_request_created",
        ),
        (
            "group_participants_update",
            group(
                "group_participants_remove",
                json!({
                    "initiated_by": "participant",
                    "removed_participants": [{ "user_id": "BR.2", "username": "@bia" }],
                }),
            ),
            Kind::GroupParticipants,
            json!({
                "action": "remove",
                "actor": { "id": "BR.2@bsuid" },
                "participants": [{ "address": {
                    "id": "BR.2@bsuid", "kind": "bsuid", "user_id": "BR.2", "username": "@bia" } }],
            }),
            "g|G1|1767225601|group_participants_remove|BR.2",
        ),
        (
            "group_participants_update",
            group(
                "group_join_request_revoked",
                json!({ "join_request_id": "J1", "user_id": "BR.2", "username": "@bia" }),
            ),
            Kind::GroupParticipants,
            json!({ "action": "request_revoked", "participants": [{ "address": {
                "id": "BR.2@bsuid", "kind": "bsuid", "user_id": "BR.2", "username": "@bia" } }] }),
            "g|G1|J1|group_join_request_revoked",
        ),
        (
            "group_settings_update",
            group(
                "group_settings_update",
                json!({ "group_subject": { "text": "x", "update_successful": false } }),
            ),
            Kind::GroupUpdated,
            json!({ "changed": [], "request_result": "failed" }),
            "g|G1|1767225601|group_settings_update",
        ),
    ];
    for (field, posted, kind, expected, key) in table {
        let (found, data, routed) = one(field, "groups", posted);
        assert_eq!(found, kind, "{data}");
        assert!(contains(&data, &expected), "{data}\nlacks {expected}");
        assert_eq!(routed.draft.keys, [key]);
    }
}
