//! Choices that are offered, and what people choose.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Message, read, unsupported};
use crate::{
    nesting,
    shape::{
        Body, Choice, Interactive, InteractiveKind, InteractiveReply, Json, Product, ReplyKind,
    },
    source::{
        compound::{List, Object, read_member},
        delivery::Misfit,
        scalar::{Text, filled, owned},
    },
};

#[derive(Deserialize)]
pub(super) struct Posted<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    button_reply: Object<Chosen<'a>>,
    #[serde(borrow)]
    list_reply: Object<Chosen<'a>>,
    #[serde(borrow)]
    nfm_reply: Object<Form<'a>>,
    #[serde(borrow)]
    call_permission_reply: Option<&'a RawValue>,
    #[serde(borrow)]
    header: Object<Caption<'a>>,
    #[serde(borrow)]
    body: Object<Caption<'a>>,
    #[serde(borrow)]
    footer: Object<Caption<'a>>,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
    #[serde(borrow)]
    product: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Chosen<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    title: Text<'a>,
    #[serde(borrow)]
    description: Text<'a>,
}

#[derive(Deserialize)]
struct Form<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    body: Text<'a>,
    #[serde(borrow)]
    response_json: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Permission<'a> {
    #[serde(borrow)]
    response: Text<'a>,
}

#[derive(Deserialize)]
struct Caption<'a> {
    #[serde(borrow)]
    text: Text<'a>,
}

#[derive(Deserialize)]
struct Action<'a> {
    #[serde(borrow)]
    buttons: List<Button<'a>>,
    #[serde(borrow)]
    sections: List<Section<'a>>,
}

#[derive(Deserialize)]
struct Button<'a> {
    #[serde(borrow)]
    reply: Object<Chosen<'a>>,
}

#[derive(Deserialize)]
struct Section<'a> {
    #[serde(borrow)]
    rows: List<Chosen<'a>>,
}

#[derive(Deserialize)]
struct PostedProduct<'a> {
    #[serde(borrow)]
    catalog_id: Text<'a>,
    #[serde(borrow)]
    product_retailer_id: Text<'a>,
}

pub(super) fn body(posted: Posted<'_>, message: &Message<'_>) -> Result<Body, Misfit> {
    Ok(match &*posted.kind {
        "button_reply" => choice(ReplyKind::Button, posted.button_reply)?,
        "list_reply" => choice(ReplyKind::List, posted.list_reply)?,
        "nfm_reply" => form(posted.nfm_reply)?,
        "call_permission_reply" => permission(posted.call_permission_reply)?,
        "button" => offer(InteractiveKind::Buttons, &posted)?,
        "list" => offer(InteractiveKind::List, &posted)?,
        "flow" => offer(InteractiveKind::Flow, &posted)?,
        "carousel" => offer(InteractiveKind::Carousel, &posted)?,
        "cta_url" => offer(InteractiveKind::Cta, &posted)?,
        "product" => product(&posted)?,
        other => unsupported(&format!("interactive.{other}"), message),
    })
}

fn choice(sub_kind: ReplyKind, chosen: Object<Chosen<'_>>) -> Result<Body, Misfit> {
    let chosen = chosen.0.ok_or(Misfit::SHAPE)?;
    Ok(Body::InteractiveReply(InteractiveReply {
        sub_kind,
        id: owned(&chosen.id),
        title: owned(&chosen.title),
        description: owned(&chosen.description),
        payload: None,
        response_json: None,
    }))
}

/// The answers of a form come as JSON inside a JSON string; text that is none stays text.
fn form(form: Object<Form<'_>>) -> Result<Body, Misfit> {
    let form = form.0.ok_or(Misfit::SHAPE)?;
    let answers = match form.response_json {
        Some(raw) if raw.get().starts_with('"') => {
            let text: String = serde_json::from_str(raw.get())?;
            let parsed =
                Json::parse(&text).filter(|json| nesting::is_bounded(json.get().as_bytes()));
            Some(parsed.unwrap_or_else(|| Json::string(&text)))
        }
        Some(raw) if nesting::is_bounded(raw.get().as_bytes()) => Some(Json::from(raw)),
        Some(_) => return Err(Misfit::SHAPE),
        None => None,
    };
    Ok(Body::InteractiveReply(InteractiveReply {
        sub_kind: ReplyKind::Flow,
        id: owned(&form.name),
        title: owned(&form.body),
        description: None,
        payload: None,
        response_json: answers,
    }))
}

fn permission(part: Option<&RawValue>) -> Result<Body, Misfit> {
    let permission: Permission<'_> = read(part)?;
    Ok(Body::InteractiveReply(InteractiveReply {
        sub_kind: ReplyKind::CallPermission,
        id: owned(&permission.response),
        title: None,
        description: None,
        payload: None,
        response_json: part.filter(|raw| nesting::is_bounded(raw.get().as_bytes())).map(Json::from),
    }))
}

/// People name the product itself, a business the action of its message.
fn product(posted: &Posted<'_>) -> Result<Body, Misfit> {
    let product: PostedProduct<'_> = read(posted.product.or(posted.action))?;
    Ok(Body::Product(Product {
        product_id: owned(&product.product_retailer_id).ok_or(Misfit::SHAPE)?,
        catalog_id: owned(&product.catalog_id),
        title: caption(&posted.header),
        description: None,
        price: None,
        currency: None,
        url: None,
        text: caption(&posted.body),
    }))
}

fn caption(part: &Object<Caption<'_>>) -> Option<String> {
    owned(&part.0.as_ref()?.text)
}

fn offer(sub_kind: InteractiveKind, posted: &Posted<'_>) -> Result<Body, Misfit> {
    let action: Option<Action<'_>> = read_member(posted.action);
    let options = action.iter().flat_map(|action| {
        let buttons = action.buttons.items.iter().filter_map(|button| button.reply.0.as_ref());
        let rows = action.sections.items.iter().flat_map(|section| &section.rows.items);
        buttons.chain(rows)
    });
    Ok(Body::Interactive(Interactive {
        sub_kind,
        header: caption(&posted.header),
        body: caption(&posted.body),
        footer: caption(&posted.footer),
        options: options
            .filter_map(|chosen| {
                Some(Choice {
                    id: filled(&chosen.id)?.to_owned(),
                    title: filled(&chosen.title)?.to_owned(),
                    description: owned(&chosen.description),
                })
            })
            .collect(),
    }))
}
