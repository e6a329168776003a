//! What only the form of another product lets a destination choose.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zapbus_event::{
    Dialect,
    dialect::{evolution, ryze},
};

use crate::{api::error::Fault, spec::Spec};

/// What only `dialect: "ryze"` lets a destination choose. What is left out of a change stays as it
/// is.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[schema(as = RyzeChoices)]
#[serde(default, deny_unknown_fields)]
pub(in crate::api::native) struct RyzeChoices {
    /// Of what `events` lets through, only what goes out under these names of RyzeAPI. All, when
    /// the list is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["message.exchange"]))]
    names: Option<Vec<String>>,
    /// The shape of `message.content`: `text`, as RyzeAPI sends it, or `object`, as it documents it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "text")]
    message_content: Option<ryze::MessageContent>,
    /// Leave `instanceData.token` empty: whoever gets the body may not act for the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    blank_token: Option<bool>,
    /// Add `id` and `timestamp` beside `event`.
    #[serde(skip_serializing_if = "Option::is_none")]
    extended_envelope: Option<bool>,
}

/// What only `dialect: "evolution"` lets a destination choose. What is left out of a change stays
/// as it is.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[schema(as = EvolutionChoices)]
#[serde(default, deny_unknown_fields)]
pub(in crate::api::native) struct EvolutionChoices {
    /// Of what `events` lets through, only what goes out under these names of Evolution API. All,
    /// when the list is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["MESSAGES_UPSERT"]))]
    names: Option<Vec<String>>,
    /// Write what Evolution API Lite writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    lite: Option<bool>,
    /// Show the instance's token, as `apikey`.
    #[serde(skip_serializing_if = "Option::is_none")]
    show_key: Option<bool>,
}

/// Those of both products that are given.
#[derive(Debug, Clone, Default)]
pub(super) struct Choices {
    pub(super) ryze: Option<RyzeChoices>,
    pub(super) evolution: Option<EvolutionChoices>,
}

impl Choices {
    /// Puts what is given into `spec`, or says what is wrong with it. `spec` has its dialect.
    pub(super) fn put_in(self, spec: &mut Spec, faults: &mut Vec<Fault>) {
        let mut belongs = |path: &str, to: Dialect| {
            let fits = spec.dialect == to;
            if !fits {
                let message = format!("goes with `dialect: \"{to}\"` only");
                faults.push(Fault::new(path, message));
            }
            fits
        };
        let ryze = self.ryze.filter(|_| belongs("ryze", Dialect::Ryze));
        let evolution = self.evolution.filter(|_| belongs("evolution", Dialect::Evolution));
        if let Some(given) = ryze {
            given.put_in(&mut spec.ryze, faults);
        }
        if let Some(given) = evolution {
            given.put_in(&mut spec.evolution, faults);
        }
    }

    /// As a destination of this dialect is shown.
    pub(super) fn of(spec: &Spec) -> Self {
        Self {
            ryze: (spec.dialect == Dialect::Ryze).then(|| RyzeChoices::of(&spec.ryze)),
            evolution: (spec.dialect == Dialect::Evolution)
                .then(|| EvolutionChoices::of(&spec.evolution)),
        }
    }
}

impl RyzeChoices {
    fn put_in(self, choice: &mut ryze::Choice, faults: &mut Vec<Fault>) {
        if let Some(names) = self.names {
            let known: Vec<_> = ryze::Name::ALL.iter().map(|name| name.as_str()).collect();
            match ryze::Names::parse(&names) {
                Ok(names) => choice.names = names,
                Err(error) => {
                    let message = format!("{error}; expected some of {}", known.join(", "));
                    faults.push(Fault::new("ryze.names", message));
                }
            }
        }
        choice.content = self.message_content.unwrap_or(choice.content);
        choice.blank_token = self.blank_token.unwrap_or(choice.blank_token);
        choice.extended_envelope = self.extended_envelope.unwrap_or(choice.extended_envelope);
    }

    fn of(choice: &ryze::Choice) -> Self {
        Self {
            names: Some(choice.names.list().into_iter().map(str::to_owned).collect()),
            message_content: Some(choice.content),
            blank_token: Some(choice.blank_token),
            extended_envelope: Some(choice.extended_envelope),
        }
    }
}

impl EvolutionChoices {
    fn put_in(self, choice: &mut evolution::Choice, faults: &mut Vec<Fault>) {
        if let Some(names) = self.names {
            match evolution::Names::parse(&names) {
                Ok(names) => choice.names = names,
                Err(error) => {
                    let path = format!("evolution.names[{}]", error.place);
                    let message = "expected a name of Evolution API, such as MESSAGES_UPSERT";
                    faults.push(Fault::new(path, message));
                }
            }
        }
        choice.lite = self.lite.unwrap_or(choice.lite);
        choice.show_key = self.show_key.unwrap_or(choice.show_key);
    }

    fn of(choice: &evolution::Choice) -> Self {
        Self {
            names: Some(choice.names.list()),
            lite: Some(choice.lite),
            show_key: Some(choice.show_key),
        }
    }
}
