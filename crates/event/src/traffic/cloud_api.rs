//! Traffic as Meta's Cloud API would report it.

use serde_json::{Value, json};

use super::{Simulated, cast};
use crate::{
    Data, Timestamp,
    data::{
        CallDirection, CallState, CallUpdated, MessageDeleted, MessageEdited, MessageReaction,
        MessageStatus, Origin, ParticipantAction, TemplateAspect,
    },
    shape::{Address, Body, Content, InteractiveKind, Media, MessageRef, ReplyKind},
};

/// The business account of all simulated numbers.
const BUSINESS: &str = "900000000000001";

impl Simulated {
    /// The change that Meta would report for it, for the number with this id; `None` for what
    /// Meta does not report: presence, sessions, labels, what an API sent, polls and the like.
    pub fn cloud_api(&self, phone_number_id: &str) -> Option<Value> {
        let of_number = |field: &str, list: &str, who: Option<&Address>, item: Value| {
            let own = cast::own(self.instance);
            let mut value = json!({
                "messaging_product": "whatsapp",
                "metadata": {
                    "display_phone_number": own.phone,
                    "phone_number_id": phone_number_id,
                },
            });
            if let Some(who) = who {
                value["contacts"] =
                    json!([{ "profile": { "name": who.name }, "wa_id": who.phone }]);
            }
            value[list] = json!([item]);
            json!({ "value": value, "field": field })
        };
        // Messages of others, or of this account from its phone.
        let message = |message: &MessageRef, chat: &Address, sender: &Address, says: Says| {
            let mut item = json!({
                "from": sender.phone,
                "id": says.id,
                "timestamp": seconds(self.occurred_at),
                "type": says.kind,
            });
            item[says.kind] = says.value;
            if let Some(quoted) = says.quoted {
                item["context"] = json!({ "id": quoted });
            }
            match chat.id.strip_suffix("@g.us") {
                Some(group) => item["group_id"] = group.into(),
                None if message.from_me == Some(true) => item["to"] = json!(chat.phone),
                None => {}
            }
            match message.from_me {
                Some(true) => of_number("smb_message_echoes", "message_echoes", None, item),
                _ => of_number("messages", "messages", Some(sender), item),
            }
        };
        Some(match &self.data {
            Data::MessageReceived(data) => {
                let says = Says::content(&data.message.id, &data.content)?;
                message(&data.message, &data.chat, &data.sender, says)
            }
            Data::MessageSent(data) if data.origin == Origin::Device => {
                let says = Says::content(&data.message.id, &data.content)?;
                message(&data.message, &data.chat, &data.sender, says)
            }
            Data::MessageEdited(data) => {
                message(&data.message, &data.chat, &data.sender, Says::edit(data)?)
            }
            Data::MessageDeleted(data) => {
                message(&data.message, &data.chat, &data.sender, Says::revoke(data)?)
            }
            Data::MessageReaction(data) => {
                message(&data.message, &data.chat, &data.sender, Says::reaction(data))
            }
            Data::MessageStatus(data) => {
                of_number("messages", "statuses", None, receipt(data, self.occurred_at))
            }
            Data::CallUpdated(data) => {
                let (list, item) = call(data, self.occurred_at)?;
                of_number("calls", list, None, item)
            }
            Data::GroupParticipants(data) if data.action == ParticipantAction::Add => {
                let added: Vec<Value> = data
                    .participants
                    .iter()
                    .map(|member| json!({ "wa_id": member.address.phone }))
                    .collect();
                let item = json!({
                    "timestamp": seconds(self.occurred_at),
                    "group_id": data.group.id.strip_suffix("@g.us")?,
                    "type": "group_participants_add",
                    "reason": data.method,
                    "added_participants": added,
                });
                of_number("group_participants_update", "groups", None, item)
            }
            Data::TemplateUpdated(data) if data.aspect == TemplateAspect::Status => json!({
                "value": {
                    "event": serde_json::from_str::<Value>(data.new.get()).ok()?,
                    "message_template_id": data.template.id.parse::<u64>().ok()?,
                    "message_template_name": data.template.name,
                    "message_template_language": data.template.language,
                },
                "field": "message_template_status_update",
            }),
            Data::AccountUpdated(data) => json!({
                "value": {
                    "display_phone_number": cast::own(self.instance).phone,
                    "event": data.event,
                    "current_limit": "TIER_1K",
                },
                "field": data.topic,
            }),
            _ => return None,
        })
    }
}

/// The body that Meta would post with these changes, in their order.
pub fn cloud_api_body(changes: Vec<Value>) -> String {
    json!({
        "object": "whatsapp_business_account",
        "entry": [{ "id": BUSINESS, "changes": changes }],
    })
    .to_string()
}

/// What a message of Meta's says: its type, and the member of that name.
struct Says {
    id: String,
    kind: &'static str,
    value: Value,
    quoted: Option<String>,
}

impl Says {
    fn new(id: &str, kind: &'static str, value: Value) -> Self {
        Self { id: id.to_owned(), kind, value, quoted: None }
    }

    fn content(id: &str, content: &Content) -> Option<Self> {
        let (kind, value) = match &content.body {
            Body::Text(text) => ("text", json!({ "body": text.body })),
            Body::Image(of) => ("image", media(&of.media, of.caption.as_deref())),
            Body::Video(of) => ("video", media(&of.media, of.caption.as_deref())),
            Body::Audio(of) => ("audio", media(&of.media, None)),
            Body::Document(of) => ("document", media(&of.media, of.caption.as_deref())),
            Body::Sticker(of) => ("sticker", media(&of.media, None)),
            Body::Location(place) => (
                "location",
                json!({
                    "latitude": place.latitude,
                    "longitude": place.longitude,
                    "name": place.name,
                    "address": place.address,
                }),
            ),
            Body::Contacts(cards) => {
                let card = cards.contacts.first()?;
                let phones: Vec<Value> = card
                    .phones
                    .iter()
                    .map(|phone| json!({ "phone": phone.phone, "wa_id": phone.wa_id }))
                    .collect();
                let name = json!({ "formatted_name": card.display_name });
                ("contacts", json!([{ "name": name, "phones": phones }]))
            }
            Body::InteractiveReply(reply) => {
                let kind = match reply.sub_kind {
                    ReplyKind::List => "list_reply",
                    _ => "button_reply",
                };
                let mut value = json!({ "type": kind });
                value[kind] = json!({ "id": reply.id, "title": reply.title });
                ("interactive", value)
            }
            Body::Interactive(offer) if offer.sub_kind == InteractiveKind::Buttons => {
                let buttons: Vec<Value> = offer
                    .options
                    .iter()
                    .map(|choice| {
                        json!({
                            "type": "reply",
                            "reply": { "id": choice.id, "title": choice.title },
                        })
                    })
                    .collect();
                let value = json!({
                    "type": "button",
                    "body": { "text": offer.body },
                    "action": { "buttons": buttons },
                });
                ("interactive", value)
            }
            Body::Order(order) => {
                let items: Result<Vec<Value>, std::num::ParseFloatError> = order
                    .items
                    .iter()
                    .map(|item| {
                        let price = item.price.as_deref().unwrap_or("0").parse::<f64>()?;
                        Ok(json!({
                            "product_retailer_id": item.product_id,
                            "quantity": item.quantity,
                            "item_price": price,
                            "currency": item.currency,
                        }))
                    })
                    .collect();
                let mut value =
                    json!({ "catalog_id": order.catalog_id, "product_items": items.ok()? });
                if let Some(text) = &order.text {
                    value["text"] = json!(text);
                }
                ("order", value)
            }
            _ => return None,
        };
        let quoted = content.quoted.as_ref().map(|quoted| quoted.message.id.clone());
        Some(Self { quoted, ..Self::new(id, kind, value) })
    }

    fn edit(data: &MessageEdited) -> Option<Self> {
        let inner = Self::content(&data.message.id, &data.content)?;
        let mut message = json!({ "type": inner.kind });
        message[inner.kind] = inner.value;
        let value = json!({ "original_message_id": data.message.id, "message": message });
        Some(Self::new(data.edit_message_id.as_deref()?, "edit", value))
    }

    fn revoke(data: &MessageDeleted) -> Option<Self> {
        let value = json!({ "original_message_id": data.message.id });
        Some(Self::new(data.carrier_message_id.as_deref()?, "revoke", value))
    }

    fn reaction(data: &MessageReaction) -> Self {
        let mut value = json!({ "message_id": data.target.id });
        if let Some(emoji) = &data.emoji {
            value["emoji"] = json!(emoji);
        }
        Self::new(&data.message.id, "reaction", value)
    }
}

fn media(media: &Media, caption: Option<&str>) -> Value {
    let mut value = json!({ "id": media.media_id, "mime_type": media.mime, "url": media.url });
    if let Some(caption) = caption {
        value["caption"] = json!(caption);
    }
    if let Some(name) = &media.file_name {
        value["filename"] = json!(name);
    }
    if media.voice {
        value["voice"] = json!(true);
    }
    value
}

fn receipt(data: &MessageStatus, at: Timestamp) -> Value {
    let mut item = json!({
        "id": data.message.id,
        "status": data.status.as_str(),
        "timestamp": seconds(at),
    });
    match data.recipient_chat.as_ref().and_then(|chat| chat.id.strip_suffix("@g.us")) {
        Some(group) => {
            item["recipient_id"] = group.into();
            item["recipient_type"] = "group".into();
            item["recipient_participant_id"] = json!(data.recipient.phone);
        }
        None => item["recipient_id"] = json!(data.recipient.phone),
    }
    if let Some(pricing) = &data.pricing {
        item["pricing"] = json!({
            "billable": pricing.billable,
            "pricing_model": pricing.model,
            "type": pricing.kind,
            "category": pricing.category,
        });
    }
    let errors: Vec<Value> = data
        .errors
        .iter()
        .map(|error| json!({ "code": error.code, "title": error.title, "message": error.message }))
        .collect();
    if !errors.is_empty() {
        item["errors"] = errors.into();
    }
    item
}

/// Of calls, Meta reports the beginning and the end, and what becomes of those we make.
fn call(data: &CallUpdated, at: Timestamp) -> Option<(&'static str, Value)> {
    let direction = match data.direction {
        CallDirection::In => "USER_INITIATED",
        CallDirection::Out => "BUSINESS_INITIATED",
    };
    let called = data.to.as_ref()?;
    let event = match (data.state, data.direction) {
        (CallState::Offer, CallDirection::In) => "connect",
        (CallState::Terminated | CallState::Missed, _) => "terminate",
        (CallState::Ringing | CallState::Rejected | CallState::Accepted, CallDirection::Out) => {
            let item = json!({
                "id": data.call_id,
                "type": "call",
                "status": data.state.as_str().to_uppercase(),
                "timestamp": seconds(at),
                "recipient_id": called.phone,
            });
            return Some(("statuses", item));
        }
        _ => return None,
    };
    let mut item = json!({
        "id": data.call_id,
        "event": event,
        "from": data.from.phone,
        "to": called.phone,
        "timestamp": seconds(at),
        "direction": direction,
    });
    if event == "terminate" {
        let completed = data.state == CallState::Terminated;
        item["status"] = if completed { "COMPLETED" } else { "FAILED" }.into();
        if let Some(duration) = data.duration_s {
            item["duration"] = duration.into();
        }
    }
    Some(("calls", item))
}

fn seconds(at: Timestamp) -> String {
    at.as_secs().to_string()
}
