//! Erasing what the journal holds about a chat, a person or an instance.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zapbus_store::Erase;

use super::{complete, refuse_if_any};
use crate::{
    api::{
        auth::Caller,
        body::Json,
        error::{ApiError, Changing, Fault},
    },
    app::App,
};

/// What to erase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Subject {
    /// Every event of an instance that concerns a chat.
    Chat,
    /// Every event of the account that names a person.
    Person,
    /// Every event of an instance.
    Instance,
}

/// What to erase. Names of instances and destinations, and their settings, stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EraseRequest {
    /// `chat` (with `instance` and `chat`), `person` (with `address`) or `instance` (with
    /// `instance`).
    #[schema(inline)]
    r#type: Subject,
    /// Id in any form, or name.
    #[serde(default)]
    instance: Option<String>,
    /// The address of a chat.
    #[serde(default)]
    #[schema(example = "5511999990001@s.whatsapp.net")]
    chat: Option<String>,
    /// The address of a person, or a phone number with its country code. Other addresses known
    /// to be the same person count too.
    #[serde(default)]
    #[schema(example = "5511999990001@s.whatsapp.net")]
    address: Option<String>,
    /// Only count the events.
    #[serde(default)]
    dry_run: bool,
}

/// What was erased.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Erased)]
pub(super) struct ErasedAnswer {
    /// Nothing was erased: only the events were counted.
    dry_run: bool,
    /// Events.
    events: u64,
    /// Lines of the delivery log; what was still to be sent of them is called off.
    deliveries: u64,
    /// Whole upstream bodies.
    bodies: u64,
    /// Files that held large binaries.
    blobs: u64,
}

/// Erases every trace of a chat, a person or an instance from journal, log and files. What was
/// delivered already is at its receiver. Ask with `dry_run` first.
#[utoipa::path(
    post, path = "/v1/erasures", tag = "operations", request_body = EraseRequest,
    params(("zapbus-account" = Option<String>, Header, description = "With the admin token: the account to act in, by id or name.")),
    responses((status = 200, body = ErasedAnswer), Changing)
)]
pub(super) async fn erase(
    State(app): State<App>,
    caller: Caller,
    body: Json<EraseRequest>,
) -> Result<axum::Json<ErasedAnswer>, ApiError> {
    caller.need_account()?;
    let dry_run = body.value.dry_run;
    let what = body.value.what(&app, &caller).await?;
    if dry_run {
        let events = app.store.erasable(what).await?;
        return Ok(axum::Json(ErasedAnswer { dry_run, events, ..ErasedAnswer::default() }));
    }
    complete(async move {
        let erased = app.store.erase(what, &caller.actor()).await;
        // Even if it broke off in the middle: some of it is gone.
        app.lanes.erased();
        let erased = erased?;
        Ok(axum::Json(ErasedAnswer {
            dry_run,
            events: erased.events,
            deliveries: erased.deliveries,
            bodies: erased.bodies,
            blobs: erased.blobs,
        }))
    })
    .await
}

impl EraseRequest {
    async fn what(self, app: &App, caller: &Caller) -> Result<Erase, ApiError> {
        let (instance, wants_chat, wants_address) = match self.r#type {
            Subject::Chat => (true, true, false),
            Subject::Person => (false, false, true),
            Subject::Instance => (true, false, false),
        };
        let members = [
            ("instance", instance, self.instance.as_deref()),
            ("chat", wants_chat, self.chat.as_deref()),
            ("address", wants_address, self.address.as_deref()),
        ];
        let faults = members.into_iter().filter_map(|(name, wanted, given)| match given {
            None if wanted => Some(Fault::new(name, "is needed for this type")),
            Some(_) if !wanted => Some(Fault::new(name, "does not go with this type")),
            Some(text) if text.is_empty() || text.len() > 256 => {
                Some(Fault::new(name, "expected 1 to 256 characters"))
            }
            _ => None,
        });
        let mut faults: Vec<Fault> = faults.collect();
        let mut address = |name: &str, given: Option<String>| {
            let given = given?;
            let read = address_of(&given);
            if read.is_none() {
                faults.push(Fault::new(
                    name,
                    "expected an address such as 5511999990001@s.whatsapp.net, or a phone number \
                     with its country code",
                ));
            }
            read
        };
        let chat = address("chat", self.chat.filter(|chat| !chat.is_empty()));
        let person = address("address", self.address.filter(|address| !address.is_empty()));
        refuse_if_any(faults)?;
        let text = |text: Option<String>| text.unwrap_or_default();
        Ok(match self.r#type {
            Subject::Chat => Erase::Chat {
                instance: caller.instance(app, &text(self.instance)).await?.instance.id,
                chat: text(chat),
            },
            Subject::Person => {
                Erase::Person { account: caller.acting_account(app).await?, address: text(person) }
            }
            Subject::Instance => {
                Erase::Instance(caller.instance(app, &text(self.instance)).await?.instance.id)
            }
        })
    }
}

/// An address as events name it. A phone number may be written as people write it; what is
/// neither would find nothing, and say so as if there were nothing.
fn address_of(text: &str) -> Option<String> {
    let text = text.trim();
    if text.contains('@') {
        let fits = text.split_once('@').is_some_and(|(user, server)| {
            !user.is_empty() && !server.is_empty() && !text.contains(char::is_whitespace)
        });
        return fits.then(|| text.to_owned());
    }
    if text.contains(|c: char| c.is_ascii_alphabetic()) {
        // Meta's ids of persons and groups.
        return (!text.contains(char::is_whitespace)).then(|| text.to_owned());
    }
    let is_ornament = |c: char| c.is_whitespace() || matches!(c, '+' | '-' | '(' | ')' | '.' | '/');
    let digits: String = text.chars().filter(|c| !is_ornament(*c)).collect();
    let is_phone = (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    is_phone.then(|| format!("{digits}@s.whatsapp.net"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_the_forms_people_write() {
        for (text, read) in [
            ("+1 555 000 1111", Some("15550001111@s.whatsapp.net")),
            ("(55) 11 99999-0001", Some("5511999990001@s.whatsapp.net")),
            ("5511999990001@s.whatsapp.net", Some("5511999990001@s.whatsapp.net")),
            ("120363000000000001@g.us", Some("120363000000000001@g.us")),
            ("US.13491208655302741918", Some("US.13491208655302741918")),
            ("12345", None),
            ("Ana Souza", None),
            ("@", None),
            ("1 2@s.whatsapp.net", None),
        ] {
            assert_eq!(address_of(text).as_deref(), read, "{text}");
        }
    }
}
