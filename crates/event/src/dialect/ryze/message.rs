//! `message.exchange` and `message.status`.

use serde_json::{Map, Value, json};

use super::{MessageContent, Scene, bare_chat, chat, jid, object, person, put};
use crate::{
    Data,
    data::{MessageStatus, MessageVote, Status},
    shape::{
        Address, AddressKind, Body, Content, InteractiveReply, Media, MediaContent, MediaKind,
        MediaState, MessageRef, ReplyKind,
    },
};

/// What a message is, in all places.
struct Exchange<'a> {
    id: &'a str,
    from_me: bool,
    chat: &'a Address,
    sender: &'a Address,
    kind: &'static str,
    /// What `content` and `text` say.
    text: Option<&'a str>,
    /// The members of its kind.
    parts: Map<String, Value>,
    content: Option<&'a Content>,
    source: Option<&'static str>,
}

pub(super) fn exchange(scene: &Scene<'_>, data: &Data) -> Option<Map<String, Value>> {
    let exchange = match data {
        Data::MessageReceived(said) => {
            let shown = Shown::of(scene, &said.content);
            Exchange::new(&said.message, &said.chat, &said.sender, shown, &said.content)
        }
        Data::MessageSent(said) => {
            let shown = Shown::of(scene, &said.content);
            let mut exchange =
                Exchange::new(&said.message, &said.chat, &said.sender, shown, &said.content);
            exchange.from_me = true;
            exchange.source = Some(said.origin.as_str());
            exchange
        }
        Data::MessageEdited(edited) => {
            let shown = Shown::of(scene, &edited.content);
            let text = shown.text;
            let mut exchange = Exchange::new(
                &edited.message,
                &edited.chat,
                &edited.sender,
                shown,
                &edited.content,
            );
            exchange.kind = "message_edit";
            exchange.parts.insert("isEdit".to_owned(), true.into());
            let change = json!({ "original_id": edited.message.id, "text": text });
            exchange.parts.insert("edit".to_owned(), change);
            exchange.id = edited.edit_message_id.as_deref().unwrap_or(exchange.id);
            exchange.source = edited.origin.map(crate::data::Origin::as_str);
            exchange
        }
        Data::MessageDeleted(deleted) => {
            let mut exchange =
                Exchange::act(&deleted.message, &deleted.chat, &deleted.sender, "message_revoke");
            let revoked = json!({ "original_id": deleted.message.id });
            exchange.parts.insert("revoke".to_owned(), revoked);
            exchange.id = deleted.carrier_message_id.as_deref().unwrap_or(exchange.id);
            exchange
        }
        Data::MessageReaction(reaction) => {
            let mut exchange =
                Exchange::act(&reaction.message, &reaction.chat, &reaction.sender, "reaction");
            let emoji = reaction.emoji.as_deref().unwrap_or_default();
            exchange.text = Some(emoji);
            let shown = json!({
                "message_id": reaction.target.id,
                "emoji": emoji,
                "text": emoji,
                "removed": reaction.removed,
            });
            exchange.parts.insert("reaction".to_owned(), shown);
            exchange
        }
        Data::MessageVote(vote) => voted(vote),
        _ => return None,
    };
    Some(exchange.render(scene))
}

/// A vote has the type of the poll it answers, and says which one.
fn voted(vote: &MessageVote) -> Exchange<'_> {
    let mut exchange = Exchange::act(&vote.message, &vote.chat, &vote.sender, "poll");
    let options: Vec<_> = vote.selected.iter().map(|name| json!({ "name": name })).collect();
    let mut poll = object([("options", options.into()), ("isVote", true.into())]);
    poll.insert("original_id".to_owned(), vote.target.id.clone().into());
    let counted = vote.aggregate.as_ref().map(|all| {
        let count = all.iter().map(|one| json!({ "name": one.option, "voters": one.voters }));
        count.collect::<Value>()
    });
    put(&mut poll, "votes", counted);
    exchange.parts.insert("poll".to_owned(), poll.into());
    exchange
}

impl<'a> Exchange<'a> {
    /// Something that is done to another message.
    fn act(
        message: &'a MessageRef,
        chat: &'a Address,
        sender: &'a Address,
        kind: &'static str,
    ) -> Self {
        Self {
            id: &message.id,
            from_me: message.from_me.unwrap_or(false),
            chat,
            sender,
            kind,
            text: None,
            parts: Map::new(),
            content: None,
            source: None,
        }
    }

    fn new(
        message: &'a MessageRef,
        chat: &'a Address,
        sender: &'a Address,
        shown: Shown<'a>,
        content: &'a Content,
    ) -> Self {
        let mut exchange = Self::act(message, chat, sender, shown.kind);
        exchange.text = shown.text;
        exchange.parts = shown.parts;
        exchange.content = Some(content);
        exchange
    }

    /// What stands in `data` and again in `data.message`.
    fn common(&self, scene: &Scene<'_>) -> Map<String, Value> {
        let direction = if self.from_me { "outgoing" } else { "incoming" };
        object([
            ("id", self.id.into()),
            ("direction", direction.into()),
            ("timestamp", scene.timestamp()),
        ])
    }

    fn render(mut self, scene: &Scene<'_>) -> Map<String, Value> {
        let mut data = self.common(scene);
        data.insert("chat".to_owned(), chat(self.chat).into());
        data.insert("sender".to_owned(), person(self.sender).into());
        put(&mut data, "recipient", self.from_me.then(|| jid(self.chat)));

        let mut message = self.common(scene);
        message.insert("type".to_owned(), self.kind.into());
        if let Some(text) = self.text {
            let content = match scene.options.content {
                MessageContent::Text => text.into(),
                MessageContent::Object => json!({ "text": text }),
            };
            message.insert("content".to_owned(), content);
            message.insert("text".to_owned(), text.into());
            message.insert("body".to_owned(), json!({ "text": text }));
        }
        put(&mut message, "source", self.source);
        message.insert("chat".to_owned(), chat(self.chat).into());
        message.insert("sender".to_owned(), person(self.sender).into());
        message.append(&mut self.parts);
        for (name, value) in self.surroundings() {
            data.insert(name.to_owned(), value.clone());
            message.insert(name.to_owned(), value);
        }
        data.insert("message".to_owned(), message.into());
        data
    }

    /// What it answers and whom it mentions.
    fn surroundings(&self) -> Vec<(&'static str, Value)> {
        let mut found = Vec::new();
        if let Some(quoted) = self.content.and_then(|content| content.quoted.as_ref()) {
            let mut reply = object([("message_id", quoted.message.id.clone().into())]);
            put(&mut reply, "text", quoted.body.clone());
            found.push(("reply", reply.into()));
        }
        if let Some(Body::Text(text)) = self.content.map(|content| &content.body)
            && !text.mentions.is_empty()
        {
            found.push(("mentions", json!({ "mentionedUsers": text.mentions })));
        }
        found
    }
}

/// A content by its kind.
struct Shown<'a> {
    kind: &'static str,
    text: Option<&'a str>,
    parts: Map<String, Value>,
}

impl<'a> Shown<'a> {
    fn of(scene: &Scene<'_>, content: &'a Content) -> Self {
        let plain = |kind, text| Self { kind, text, parts: Map::new() };
        let with = |kind, text, name: &str, part: Value| Self {
            kind,
            text,
            parts: object([(name, part)]),
        };
        let file = |kind, it: &'a MediaContent| {
            with(kind, it.caption.as_deref(), "media", media(scene, it))
        };
        match &content.body {
            Body::Text(it) => plain("text", Some(&*it.body)),
            Body::Image(it) => file("image", it),
            Body::Video(it) => file("video", it),
            Body::Audio(it) => file("audio", it),
            Body::Document(it) => file("document", it),
            Body::Sticker(it) => file("sticker", it),
            Body::Location(it) => {
                let mut part =
                    object([("latitude", it.latitude.into()), ("longitude", it.longitude.into())]);
                put(&mut part, "name", it.name.clone());
                put(&mut part, "address", it.address.clone());
                with("location", None, "location", part.into())
            }
            Body::Contacts(it) => {
                let mut cards: Vec<Value> = it.contacts.iter().map(card).collect();
                let first = cards.first().cloned().unwrap_or_else(|| json!({}));
                let mut shown = with("contact", None, "contact", first);
                if cards.len() > 1 {
                    shown.parts.insert("contacts".to_owned(), cards.drain(..).collect());
                }
                shown
            }
            Body::Poll(it) => {
                let options: Vec<_> =
                    it.options.iter().map(|name| json!({ "name": name })).collect();
                let part = json!({ "title": it.name, "options": options });
                with("poll", Some(&*it.name), "poll", part)
            }
            Body::InteractiveReply(it) => reply(it),
            Body::Interactive(it) => {
                let choices = it.options.iter().map(|choice| {
                    json!({
                        "id": choice.id,
                        "title": choice.title,
                        "description": choice.description,
                    })
                });
                let mut part = object([("type", it.sub_kind.as_str().into())]);
                put(&mut part, "header", it.header.clone());
                put(&mut part, "body", it.body.clone());
                put(&mut part, "footer", it.footer.clone());
                part.insert("options".to_owned(), choices.collect());
                with("interactive", it.body.as_deref(), "interactive", part.into())
            }
            Body::Order(it) => with("order", it.text.as_deref(), "order", json!(it)),
            Body::Product(it) => with("product", it.text.as_deref(), "product", json!(it)),
            Body::Event(it) => with("event", Some(&*it.name), "eventInvite", json!(it)),
            Body::GroupInvite(it) => with("group_invite", None, "groupInvite", json!(it)),
            Body::System(it) => plain("system", it.text.as_deref()),
            Body::Unsupported(_) => plain("unsupported", None),
        }
    }
}

fn media(scene: &Scene<'_>, content: &MediaContent) -> Value {
    let media = &content.media;
    let mut part = object([
        ("type", media_type(media).into()),
        ("mimetype", media.mime.clone().into()),
        ("mimeType", media.mime.clone().into()),
    ]);
    if media.kind == MediaKind::Audio {
        part.insert("isVoiceNote".to_owned(), media.voice.into());
    }
    put(&mut part, "url", media.url.clone());
    let stored = media.url.clone().filter(|_| media.state == MediaState::Url);
    put(&mut part, "s3Url", stored);
    put(&mut part, "base64", media.base64.clone().filter(|_| scene.options.media_base64));
    put(&mut part, "caption", content.caption.clone());
    put(&mut part, "fileName", media.file_name.clone());
    part.into()
}

fn media_type(media: &Media) -> &'static str {
    match media.kind {
        MediaKind::Audio if media.voice => "ptt",
        MediaKind::Video if media.voice => "ptv",
        kind => kind.as_str(),
    }
}

fn card(card: &crate::shape::ContactCard) -> Value {
    let phone = card.phones.first();
    let number = phone.map(|phone| phone.wa_id.clone().unwrap_or_else(|| phone.phone.clone()));
    let mut part = object([("display_name", card.display_name.clone().into())]);
    put(&mut part, "phone_number", number);
    put(&mut part, "vcard", card.vcard.clone());
    part.into()
}

fn reply(reply: &InteractiveReply) -> Shown<'_> {
    let id = reply.id.clone().or_else(|| reply.payload.clone());
    let title = reply.title.clone();
    let mut parts = Map::new();
    let kind = match reply.sub_kind {
        ReplyKind::Button | ReplyKind::TemplateButton => {
            let button = json!({ "title": title, "body": title, "selected_button_id": id });
            parts.insert("button_response".to_owned(), button);
            let shown = json!({ "selectedButtonId": id, "title": title });
            parts.insert("interactive".to_owned(), shown);
            "buttons_response"
        }
        ReplyKind::List => {
            let list = json!({
                "title": title,
                "body": reply.description,
                "single_select_reply": { "option_name": id },
            });
            parts.insert("list_response".to_owned(), list);
            let shown = json!({
                "selectedRowId": id,
                "selectedReply": { "selectedRowID": id },
                "title": title,
            });
            parts.insert("interactive".to_owned(), shown);
            "list_response"
        }
        ReplyKind::Flow | ReplyKind::CallPermission => {
            let mut shown = object([("type", reply.sub_kind.as_str().into())]);
            put(&mut shown, "id", id);
            put(&mut shown, "title", title);
            let answers = reply.response_json.as_ref().map(|json| json.get());
            let answers: Option<Value> = answers.and_then(|text| serde_json::from_str(text).ok());
            put(&mut shown, "response", answers);
            parts.insert("interactive".to_owned(), shown.into());
            "interactive_response"
        }
    };
    Shown { kind, text: reply.title.as_deref(), parts }
}

/// `data` of `message.status`; `None` for states without a name.
pub(super) fn status(scene: &Scene<'_>, status: &MessageStatus) -> Option<Map<String, Value>> {
    let is_group = status.chat.kind == AddressKind::Group;
    let name = match status.status {
        Status::Failed => "server_error",
        Status::Delivered
        | Status::Read
        | Status::Played
        | Status::Sender
        | Status::ReadSelf
        | Status::PlayedSelf
        | Status::Retry
        | Status::Inactive => status.status.as_str(),
        Status::Pending | Status::Sent | Status::Deleted | Status::Warning => return None,
    };
    let id = status.message.id.as_str();
    let direction = match status.message.from_me {
        Some(false) => "incoming",
        _ => "outgoing",
    };
    let mut data = object([
        ("messageIds", json!([id])),
        ("status", name.into()),
        ("chat", bare_chat(&status.chat)),
        ("recipient", jid(&status.recipient).into()),
    ]);
    put(&mut data, "messageSender", is_group.then(|| jid(&status.sender)));
    data.insert("timestamp".to_owned(), scene.timestamp());
    data.insert("id".to_owned(), id.into());
    let message = json!({ "id": id, "status": name, "direction": direction });
    data.insert("message".to_owned(), message);
    Some(data)
}
