//! Which web pages may open live connections: those that the account names, else those that the
//! operator does.
//!
//! An account's list stands in the settings of its reserved instance, so that every node learns of a
//! change as it learns of any other.

use serde_json::{Value, json};
use zapbus_event::AccountId;
use zapbus_store::Instance;

use super::error::{ApiError, Fault};
use crate::{app::App, realtime::is_origin};

/// Where it stands in the settings.
const PLACE: &str = "/realtime/origins";

/// Origins that an account may name.
const MOST: usize = 100;

/// What an account names; empty: nothing of its own.
pub(super) async fn of_account(app: &App, account: AccountId) -> Result<Vec<String>, ApiError> {
    Ok(listed(&app.directory.reserved(account).await?.instance))
}

fn listed(reserved: &Instance) -> Vec<String> {
    let stored = reserved.settings.pointer(PLACE).and_then(Value::as_array);
    let texts = stored.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// What to merge into the settings for such a list.
pub(super) fn settings(origins: &[String]) -> Value {
    let list = if origins.is_empty() { Value::Null } else { json!(origins) };
    json!({ "realtime": { "origins": list } })
}

/// What is wrong with a list.
pub(super) fn faults(origins: &[String]) -> Vec<Fault> {
    if origins.len() > MOST {
        return vec![Fault::new("origins", format!("expected at most {MOST}"))];
    }
    let wrong = origins.iter().enumerate().filter(|(_, origin)| !is_origin(origin));
    wrong
        .map(|(index, _)| {
            let expected = "expected * or an origin such as https://app.example.com";
            Fault::new(format!("origins[{index}]"), expected)
        })
        .collect()
}

/// Whether a page of this origin may connect to what is an account's; `None` is the operator's. What
/// is no browser names no origin.
pub(super) async fn admits(
    app: &App,
    account: Option<AccountId>,
    origin: Option<&str>,
) -> Result<bool, ApiError> {
    let Some(origin) = origin else { return Ok(true) };
    let own = match account {
        Some(account) => of_account(app, account).await?,
        None => Vec::new(),
    };
    Ok(match own.is_empty() {
        true => app.realtime.config().admits(Some(origin)),
        false => own.iter().any(|known| known == "*" || known == origin),
    })
}
