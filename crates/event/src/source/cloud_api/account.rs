//! The business account, its templates, and failures of the API.

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

use super::phone::{ApiError, Phone};
use crate::{
    Data, Timestamp,
    data::{AccountUpdated, ErrorStage, InstanceError, Template, TemplateAspect, TemplateUpdated},
    nesting,
    shape::{Json, UpstreamError},
    source::{
        compound::Object,
        delivery::{Key, Misfit, Understood},
        scalar::{Text, filled, owned},
    },
};

/// The longest change whose members are sorted for its key; a longer one counts as posted.
const MAX_SORTED: usize = 64 * 1024;

/// A change that is one event as a whole.
pub(super) struct Change<'a> {
    pub(super) raw: &'a RawValue,
    pub(super) value: &'a RawValue,
    pub(super) field: &'a str,
    pub(super) waba_id: &'a str,
    /// When the entry was made.
    pub(super) at: Option<Timestamp>,
}

impl Change<'_> {
    fn understood(&self, data: Data) -> Result<Understood, Misfit> {
        if !nesting::is_bounded(self.value.get().as_bytes()) {
            return Err(Misfit::SHAPE);
        }
        let key = Key::Composed(self.key()?);
        Ok(Understood { data, occurred_at: self.at, key, history: false, aliases: Vec::new() })
    }

    /// Such changes have no id: what they say, of whom and when stands for it.
    fn key(&self) -> Result<String, Misfit> {
        let hash = hex::encode(match self.raw.get() {
            posted if posted.len() > MAX_SORTED => Sha256::digest(posted),
            posted => {
                let mut change: Value = serde_json::from_str(posted)?;
                change.sort_all_objects();
                Sha256::digest(change.to_string())
            }
        });
        Ok(match self.at {
            Some(at) => format!("h|{}|{hash}|{}", self.waba_id, at.as_secs()),
            None => format!("h|{}|{hash}", self.waba_id),
        })
    }
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    event: Text<'a>,
    #[serde(borrow)]
    decision: Text<'a>,
    #[serde(borrow)]
    alert_type: Text<'a>,
    #[serde(borrow)]
    alert_info: Object<AlertInfo<'a>>,
}

#[derive(Deserialize)]
struct AlertInfo<'a> {
    #[serde(borrow)]
    alert_type: Text<'a>,
}

/// A field of the account or of the number as such.
pub(super) fn updated(change: &Change<'_>) -> Result<Understood, Misfit> {
    let named: Named<'_> = serde_json::from_str(change.value.get())?;
    let alert = named.alert_info.0.as_ref().and_then(|alert| filled(&alert.alert_type));
    let event = filled(&named.event)
        .or(filled(&named.decision))
        .or(alert)
        .or(filled(&named.alert_type))
        .map(str::to_owned);
    change.understood(Data::AccountUpdated(AccountUpdated {
        topic: change.field.to_owned(),
        event,
        details: Json::from(change.value),
    }))
}

#[derive(Deserialize)]
struct PostedTemplate<'a> {
    #[serde(borrow)]
    message_template_id: Text<'a>,
    #[serde(borrow)]
    message_template_name: Text<'a>,
    #[serde(borrow)]
    message_template_language: Text<'a>,
    #[serde(borrow)]
    event: Text<'a>,
    #[serde(borrow)]
    reason: Text<'a>,
    #[serde(borrow)]
    previous_quality_score: Text<'a>,
    #[serde(borrow)]
    new_quality_score: Text<'a>,
    #[serde(borrow)]
    previous_category: Text<'a>,
    #[serde(borrow)]
    new_category: Text<'a>,
    /// What it is to become; then the new category is the one it still has.
    #[serde(borrow)]
    correct_category: Text<'a>,
}

/// A field of a message template.
pub(super) fn template(change: &Change<'_>) -> Result<Understood, Misfit> {
    let posted: PostedTemplate<'_> = serde_json::from_str(change.value.get())?;
    let scheduled = filled(&posted.correct_category);
    let (aspect, old, new) = match change.field {
        "message_template_status_update" => (TemplateAspect::Status, None, filled(&posted.event)),
        "message_template_quality_update" => (
            TemplateAspect::Quality,
            filled(&posted.previous_quality_score),
            filled(&posted.new_quality_score),
        ),
        "template_category_update" if scheduled.is_some() => (
            TemplateAspect::Category,
            filled(&posted.new_category).or(filled(&posted.previous_category)),
            scheduled,
        ),
        "template_category_update" => (
            TemplateAspect::Category,
            filled(&posted.previous_category),
            filled(&posted.new_category),
        ),
        _ => (TemplateAspect::Components, None, None),
    };
    let new = match aspect {
        TemplateAspect::Components => Json::from(change.value),
        _ => Json::string(new.ok_or(Misfit::SHAPE)?),
    };
    let reason = filled(&posted.reason).or(match aspect {
        TemplateAspect::Category => scheduled.map(|_| "scheduled"),
        _ => None,
    });
    change.understood(Data::TemplateUpdated(TemplateUpdated {
        template: Template {
            id: owned(&posted.message_template_id).ok_or(Misfit::SHAPE)?,
            name: owned(&posted.message_template_name),
            language: owned(&posted.message_template_language),
        },
        aspect,
        old: old.map(Json::string),
        new,
        reason: reason.filter(|reason| *reason != "NONE").map(str::to_owned),
    }))
}

/// An element of `errors` beside or instead of messages.
pub(super) fn error(_: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let error: ApiError<'_> = serde_json::from_str(raw.get())?;
    Ok(failed(ErrorStage::UpstreamApi, &error))
}

/// A failure without an id or time of its own.
pub(super) fn failed(stage: ErrorStage, error: &ApiError<'_>) -> Understood {
    let data = failure(stage, UpstreamError::from(error));
    Understood { data, occurred_at: None, key: Key::Timeless, history: false, aliases: Vec::new() }
}

pub(super) fn failure(stage: ErrorStage, error: UpstreamError) -> Data {
    Data::InstanceError(InstanceError {
        stage,
        code: error.code.map(|code| code.to_string()),
        title: error.title,
        message: error.message.or(error.details),
        fatal: false,
    })
}
