//! Buttons, lists and forms, and what was chosen of them.

use serde_json::{Map, Value, json};

use super::super::{object, put};
use crate::shape::{Interactive, InteractiveKind, InteractiveReply, ReplyKind};

type Named = (&'static str, Map<String, Value>);

pub(super) fn offer(offer: &Interactive) -> Named {
    match offer.sub_kind {
        InteractiveKind::Buttons => ("buttonsMessage", buttons(offer)),
        InteractiveKind::List => ("listMessage", list(offer)),
        InteractiveKind::Template => {
            let shown = template(offer);
            ("templateMessage", object([("hydratedTemplate", shown.into())]))
        }
        InteractiveKind::Flow | InteractiveKind::Carousel | InteractiveKind::Cta => {
            ("interactiveMessage", native(offer))
        }
    }
}

fn buttons(offer: &Interactive) -> Map<String, Value> {
    let mut part = Map::new();
    put(&mut part, "text", offer.header.clone());
    put(&mut part, "contentText", offer.body.clone());
    put(&mut part, "footerText", offer.footer.clone());
    let buttons = offer.options.iter().map(|option| {
        json!({
            "buttonId": option.id,
            "buttonText": { "displayText": option.title },
            "type": "RESPONSE",
        })
    });
    part.insert("buttons".to_owned(), buttons.collect());
    part
}

fn list(offer: &Interactive) -> Map<String, Value> {
    let mut part = Map::new();
    put(&mut part, "title", offer.header.clone());
    put(&mut part, "description", offer.body.clone());
    put(&mut part, "footerText", offer.footer.clone());
    put(&mut part, "listType", Some("SINGLE_SELECT"));
    let rows = offer.options.iter().map(|option| {
        let mut row =
            object([("title", option.title.clone().into()), ("rowId", option.id.clone().into())]);
        put(&mut row, "description", option.description.clone());
        Value::from(row)
    });
    part.insert("sections".to_owned(), json!([{ "rows": rows.collect::<Value>() }]));
    part
}

fn template(offer: &Interactive) -> Map<String, Value> {
    let mut part = Map::new();
    put(&mut part, "hydratedTitleText", offer.header.clone());
    put(&mut part, "hydratedContentText", offer.body.clone());
    put(&mut part, "hydratedFooterText", offer.footer.clone());
    let buttons = offer.options.iter().enumerate().map(|(index, option)| {
        let button = json!({ "displayText": option.title, "id": option.id });
        json!({ "index": index, "quickReplyButton": button })
    });
    part.insert("hydratedButtons".to_owned(), buttons.collect());
    part
}

fn native(offer: &Interactive) -> Map<String, Value> {
    let name = match offer.sub_kind {
        InteractiveKind::Flow => "flow",
        InteractiveKind::Cta => "cta_url",
        _ => "quick_reply",
    };
    let mut part = Map::new();
    put(&mut part, "header", offer.header.as_ref().map(|text| json!({ "title": text })));
    put(&mut part, "body", offer.body.as_ref().map(|text| json!({ "text": text })));
    put(&mut part, "footer", offer.footer.as_ref().map(|text| json!({ "text": text })));
    let buttons = offer.options.iter().map(|option| {
        let value = if offer.sub_kind == InteractiveKind::Cta { "url" } else { "id" };
        let parameters = json!({ "display_text": option.title, value: option.id });
        json!({ "name": name, "buttonParamsJson": parameters.to_string() })
    });
    part.insert("nativeFlowMessage".to_owned(), json!({ "buttons": buttons.collect::<Value>() }));
    part
}

pub(super) fn reply(reply: &InteractiveReply) -> Named {
    let mut part = Map::new();
    // A template's button has what its sender attached in the place of an id.
    let id = reply.id.clone().or_else(|| reply.payload.clone());
    match reply.sub_kind {
        ReplyKind::Button => {
            put(&mut part, "selectedButtonId", id);
            put(&mut part, "selectedDisplayText", reply.title.clone());
            put(&mut part, "type", Some("DISPLAY_TEXT"));
            ("buttonsResponseMessage", part)
        }
        ReplyKind::List => {
            put(&mut part, "title", reply.title.clone());
            put(&mut part, "listType", Some("SINGLE_SELECT"));
            put(&mut part, "singleSelectReply", id.map(|id| json!({ "selectedRowId": id })));
            put(&mut part, "description", reply.description.clone());
            ("listResponseMessage", part)
        }
        ReplyKind::TemplateButton => {
            put(&mut part, "selectedId", id);
            put(&mut part, "selectedDisplayText", reply.title.clone());
            ("templateButtonReplyMessage", part)
        }
        ReplyKind::Flow | ReplyKind::CallPermission => {
            let name = match reply.sub_kind {
                ReplyKind::CallPermission => "call_permission_request",
                _ => reply.id.as_deref().unwrap_or("flow"),
            };
            put(&mut part, "body", reply.title.as_ref().map(|text| json!({ "text": text })));
            let mut flow = object([("name", name.into())]);
            let answers = reply.response_json.as_ref().map(|json| json.get().to_owned());
            put(&mut flow, "paramsJson", answers.or(id.map(|id| json!({ "id": id }).to_string())));
            put(&mut part, "nativeFlowResponseMessage", Some(flow));
            ("interactiveResponseMessage", part)
        }
    }
}
