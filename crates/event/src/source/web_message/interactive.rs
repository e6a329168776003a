//! Buttons, lists and forms, and what was chosen of them.

use serde_json::value::RawValue;

use crate::{
    nesting,
    shape::{Body, Choice, Interactive, InteractiveKind, InteractiveReply, Json, ReplyKind},
    source::members::Members,
};

fn offer(sub_kind: InteractiveKind, body: Option<String>, options: Vec<Choice>) -> Interactive {
    Interactive { sub_kind, header: None, body, footer: None, options }
}

fn choices(list: Vec<&RawValue>, read: impl Fn(&Members<'_>) -> Option<Choice>) -> Vec<Choice> {
    list.into_iter().filter_map(|raw| read(&Members::of(raw)?)).collect()
}

fn choice(id: Option<String>, title: Option<String>) -> Option<Choice> {
    let title = title?;
    Some(Choice { id: id.unwrap_or_else(|| title.clone()), title, description: None })
}

pub(super) fn buttons(part: &Members<'_>) -> Option<Body> {
    let options = choices(part.list("buttons"), |button| {
        let shown = button.object("buttonText").and_then(|text| text.text("displayText"));
        choice(button.text("buttonId"), shown)
    });
    let mut offered = offer(InteractiveKind::Buttons, part.text("contentText"), options);
    offered.header = part.text("text");
    offered.footer = part.text("footerText");
    Some(Body::Interactive(offered))
}

pub(super) fn list(part: &Members<'_>) -> Option<Body> {
    let mut options = Vec::new();
    for section in part.list("sections") {
        let Some(section) = Members::of(section) else { continue };
        options.extend(choices(section.list("rows"), |row| {
            let mut choice = choice(row.text("rowId"), row.text("title"))?;
            choice.description = row.text("description");
            Some(choice)
        }));
    }
    let mut offered = offer(InteractiveKind::List, part.text("description"), options);
    offered.header = part.text("title");
    offered.footer = part.text("footerText");
    Some(Body::Interactive(offered))
}

pub(super) fn template(part: &Members<'_>) -> Option<Body> {
    let shown = ["hydratedTemplate", "hydratedFourRowTemplate"]
        .iter()
        .find_map(|name| part.object(name))?;
    let options = choices(shown.list("hydratedButtons"), |button| {
        let kinds = ["quickReplyButton", "urlButton", "callButton"];
        let button = kinds.iter().find_map(|kind| button.object(kind))?;
        choice(button.text_of(&["id", "url", "phoneNumber"]), button.text("displayText"))
    });
    let mut offered = offer(InteractiveKind::Template, shown.text("hydratedContentText"), options);
    offered.header = shown.text("hydratedTitleText");
    offered.footer = shown.text("hydratedFooterText");
    Some(Body::Interactive(offered))
}

pub(super) fn native(part: &Members<'_>) -> Option<Body> {
    let flow = part.object("nativeFlowMessage");
    let listed = flow.as_ref().map(|flow| flow.list("buttons")).unwrap_or_default();
    let names: Vec<_> = listed.iter().filter_map(|raw| Members::of(raw)?.text("name")).collect();
    let sub_kind = match names.first().map(String::as_str) {
        _ if part.raw("carouselMessage").is_some() => InteractiveKind::Carousel,
        Some("flow" | "galaxy_message") => InteractiveKind::Flow,
        Some("single_select") => InteractiveKind::List,
        Some("cta_url" | "cta_call" | "cta_copy") => InteractiveKind::Cta,
        _ => InteractiveKind::Buttons,
    };
    let options = choices(listed, |button| {
        let name = button.text("name");
        // What is shown stands in a text that is JSON itself.
        let parameters = button.text("buttonParamsJson").unwrap_or_default();
        let parameters = serde_json::from_str::<Members<'_>>(&parameters).unwrap_or_default();
        let title = parameters.text_of(&["display_text", "title"]).or_else(|| name.clone());
        choice(parameters.text_of(&["id", "url", "phone_number", "copy_code"]).or(name), title)
    });
    let words = |name: &str, member: &str| part.object(name).and_then(|it| it.text(member));
    let mut offered = offer(sub_kind, words("body", "text"), options);
    offered.header = words("header", "title");
    offered.footer = words("footer", "text");
    Some(Body::Interactive(offered))
}

fn chosen(sub_kind: ReplyKind, id: Option<String>, title: Option<String>) -> InteractiveReply {
    InteractiveReply { sub_kind, id, title, description: None, payload: None, response_json: None }
}

pub(super) fn button_reply(part: &Members<'_>) -> Option<Body> {
    let id = part.text("selectedButtonId");
    Some(Body::InteractiveReply(chosen(ReplyKind::Button, id, part.text("selectedDisplayText"))))
}

pub(super) fn list_reply(part: &Members<'_>) -> Option<Body> {
    let row = part.object("singleSelectReply").and_then(|row| row.text("selectedRowId"));
    let mut reply = chosen(ReplyKind::List, row, part.text("title"));
    reply.description = part.text("description");
    Some(Body::InteractiveReply(reply))
}

pub(super) fn template_reply(part: &Members<'_>) -> Option<Body> {
    let id = part.text("selectedId");
    let title = part.text("selectedDisplayText");
    Some(Body::InteractiveReply(chosen(ReplyKind::TemplateButton, id, title)))
}

pub(super) fn native_reply(part: &Members<'_>) -> Option<Body> {
    let flow = part.object("nativeFlowResponseMessage")?;
    let title = part.object("body").and_then(|body| body.text("text"));
    let answer = flow.text("paramsJson").unwrap_or_default();
    let members = serde_json::from_str::<Members<'_>>(&answer).unwrap_or_default();
    let sub_kind = match flow.text("name").as_deref() {
        Some("call_permission_request") => ReplyKind::CallPermission,
        Some("quick_reply" | "menu_options" | "single_select") => ReplyKind::Button,
        _ => ReplyKind::Flow,
    };
    // A form's name stands for what was answered.
    let name = flow.text("name").filter(|_| sub_kind == ReplyKind::Flow);
    let mut reply = chosen(sub_kind, members.text("id").or(name), title);
    reply.response_json = Some(answer.as_str())
        .filter(|answer| nesting::is_bounded(answer.as_bytes()))
        .and_then(Json::parse);
    Some(Body::InteractiveReply(reply))
}
