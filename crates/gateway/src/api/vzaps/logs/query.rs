//! What a search of the log asks for, and finding it.
//!
//! The store searches newest first and knows no totals: they are counted here, over lines just large
//! enough to sort them, and up to a limit.

use serde_json::{Value, json};
use zapbus_event::{EventId, Filter, Kind, Timestamp, dialect::vzaps::names};
use zapbus_store::{Delivery, DeliveryId, DeliveryQuery, Destination, Status};

use crate::{
    api::vzaps::{
        answer::Failure,
        body::{Members, malformed},
    },
    app::App,
};

/// Logs of a page when nobody says, and at most.
const SIZE: u64 = 20;
const MAX_SIZE: u64 = 100;

/// Lines that one search counts at most.
const MAX_FOUND: usize = 10_000;

/// Steps in which the store is asked at most: each stops after a while by itself.
const MAX_READS: usize = 100;

/// Lines read at one time.
const READ: usize = 500;

/// A search.
#[derive(Debug)]
pub(super) struct Query {
    /// `None`: in any state.
    status: Option<Vec<Status>>,
    only_processing: bool,
    types: Option<Filter>,
    event: Option<EventId>,
    /// An event id was given that is none: nothing has it.
    no_event: bool,
    code: Option<u16>,
    url: Option<String>,
    text: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    page: u64,
    size: u64,
    sort: Sort,
    descending: bool,
    /// Lines of the list hold what was sent.
    pub(super) include_payload: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Created,
    Updated,
    Status,
    Attempts,
}

/// What was found.
pub(super) struct Found {
    /// The lines of the page asked for.
    pub(super) page: Vec<DeliveryId>,
    /// All that match, up to a limit.
    pub(super) total: u64,
}

/// A line as it is sorted.
struct Line {
    id: DeliveryId,
    created_at: Timestamp,
    updated_at: Timestamp,
    status: u8,
    attempts: u32,
}

/// Flat, or under `filter`: both are looked at.
struct Both<'a> {
    inner: Members,
    outer: &'a Members,
}

impl Both<'_> {
    fn text(&self, names: &[&str]) -> Result<Option<String>, Failure> {
        let found = match self.inner.text(names)? {
            Some(text) => Some(text),
            None => self.outer.text(names)?,
        };
        Ok(found.map(str::to_owned).filter(|text| !text.is_empty()))
    }

    fn list(&self, names: &[&str]) -> Result<Vec<String>, Failure> {
        Ok(match self.inner.list(names)? {
            Some(list) => list,
            None => self.outer.list(names)?.unwrap_or_default(),
        })
    }

    fn number(
        &self,
        names: &[&str],
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, Failure> {
        match self.inner.number(names, range.clone())? {
            Some(number) => Ok(Some(number)),
            None => self.outer.number(names, range),
        }
    }

    fn truth(&self, names: &[&str]) -> Result<Option<bool>, Failure> {
        match self.inner.truth(names)? {
            Some(truth) => Ok(Some(truth)),
            None => self.outer.truth(names),
        }
    }

    fn time(&self, names: &[&str]) -> Result<Option<Timestamp>, Failure> {
        let Some(text) = self.text(names)? else {
            return Ok(None);
        };
        let time = text.parse().or_else(|_| format!("{text}T00:00:00Z").parse());
        let expected = "an RFC 3339 time such as 2026-01-01T00:00:00Z, or a date";
        time.map(Some).map_err(|_| malformed(names, expected))
    }
}

impl Query {
    /// What is asked for, or what is wrong with it. Unknown members are ignored.
    pub(super) fn read(body: &Members) -> Result<Self, Failure> {
        let inner = match body.first(&["filter"]) {
            None => Members::default(),
            Some(Value::Object(members)) => Members::of(members.clone()),
            Some(_) => return Err(malformed(&["filter"], "an object")),
        };
        let both = Both { inner, outer: body };
        let (status, only_processing) = status_of(&both.list(&["status"])?)?;
        let event = both.text(&["event_id", "eventId"])?;
        let parsed = event.as_ref().and_then(|text| text.parse().ok());
        let code =
            both.number(&["http_status", "httpStatus", "status_code", "statusCode"], 0..=999)?;
        let sort = match both.text(&["sort"])?.as_deref() {
            None | Some("created_at" | "createdAt") => Sort::Created,
            Some("updated_at" | "updatedAt") => Sort::Updated,
            Some("status") => Sort::Status,
            Some("attempts") => Sort::Attempts,
            Some(_) => {
                return Err(malformed(&["sort"], "created_at, updated_at, status or attempts"));
            }
        };
        let descending = both.truth(&["sort_desc", "sortDesc"])?;
        let size = both.number(&["size", "page_size", "pageSize", "limit"], 1..=MAX_SIZE)?;
        Ok(Self {
            status,
            only_processing,
            types: types_of(&both.list(&["event", "event_type", "eventType", "type"])?)?,
            no_event: event.is_some() && parsed.is_none(),
            event: parsed,
            code: code.and_then(|code| u16::try_from(code).ok()),
            url: both.text(&["url"])?,
            text: both.text(&["query", "search"])?.map(|text| text.to_lowercase()),
            from: both.time(&[
                "from",
                "start_date",
                "startDate",
                "date_from",
                "dateFrom",
                "created_after",
                "createdAfter",
            ])?,
            to: both.time(&[
                "to",
                "end_date",
                "endDate",
                "date_to",
                "dateTo",
                "created_before",
                "createdBefore",
            ])?,
            page: both.number(&["page"], 1..=u64::from(u32::MAX))?.unwrap_or(1),
            size: size.unwrap_or(SIZE),
            sort,
            descending: descending.unwrap_or(true),
            include_payload: both.truth(&["include_payload", "includePayload"])?.unwrap_or(false),
        })
    }

    /// What is asked for is a page that there can be.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn check(&self) {
        assert!(self.page >= 1 && (1..=MAX_SIZE).contains(&self.size));
        assert!(!self.no_event || self.event.is_none());
        drop(self.page(Vec::new(), u64::MAX));
    }

    /// The page as it is answered.
    pub(super) fn page(&self, content: Vec<Value>, total: u64) -> Value {
        json!({
            "content": content,
            "page": self.page,
            "size": self.size,
            "total": total,
            "total_pages": total.div_ceil(self.size),
        })
    }

    /// Finds what is asked for among the deliveries of a webhook, which go to `url`.
    pub(super) async fn run(
        &self,
        app: &App,
        destination: &Destination,
        url: &str,
    ) -> Result<Found, Failure> {
        let elsewhere = self.url.as_ref().is_some_and(|part| !url.contains(part.as_str()));
        let nothing = self.status.as_ref().is_some_and(Vec::is_empty);
        if elsewhere || nothing || self.no_event {
            return Ok(Found { page: Vec::new(), total: 0 });
        }
        let wanted = DeliveryQuery {
            account: Some(destination.account),
            destination: Some(destination.id),
            status: self.status.clone().unwrap_or_default(),
            types: self.types.clone(),
            event: self.event,
            code: self.code,
            from: self.from,
            to: self.to,
            ..DeliveryQuery::default()
        };
        let mut lines = Vec::new();
        let mut after = None;
        for _ in 0..MAX_READS {
            let page = app.store.search(wanted.clone(), after, READ).await?;
            for delivery in page.deliveries {
                if self.matches(app, &delivery, url).await {
                    lines.push(line(&delivery));
                }
            }
            after = page.next;
            if after.is_none() || lines.len() >= MAX_FOUND {
                break;
            }
        }
        lines.truncate(MAX_FOUND);
        lines.sort_unstable_by(|a, b| {
            let order = match self.sort {
                Sort::Created => a.created_at.cmp(&b.created_at),
                Sort::Updated => a.updated_at.cmp(&b.updated_at),
                Sort::Status => a.status.cmp(&b.status),
                Sort::Attempts => a.attempts.cmp(&b.attempts),
            };
            let order = order.then_with(|| (a.created_at, a.id).cmp(&(b.created_at, b.id)));
            if self.descending { order.reverse() } else { order }
        });
        let total = lines.len() as u64;
        let skipped = usize::try_from((self.page - 1).saturating_mul(self.size));
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let page = lines.iter().skip(skipped.unwrap_or(usize::MAX)).take(size);
        Ok(Found { page: page.map(|line| line.id).collect(), total })
    }

    async fn matches(&self, app: &App, delivery: &Delivery, url: &str) -> bool {
        if self.only_processing && !app.lanes.is_sending(delivery.id).await {
            return false;
        }
        let Some(text) = &self.text else {
            return true;
        };
        let has = |candidate: &str| candidate.to_lowercase().contains(text.as_str());
        has(&super::log_id(delivery.id))
            || delivery.event.as_ref().is_some_and(|event| has(&event.id.to_string()))
            || has(url)
            || delivery.error.as_deref().is_some_and(has)
    }
}

fn line(delivery: &Delivery) -> Line {
    use zapbus_store::State;
    Line {
        id: delivery.id,
        created_at: delivery.created_at,
        updated_at: delivery.updated_at,
        status: match delivery.state {
            State::Waiting | State::Retrying { .. } => 0,
            State::Delivered => 1,
            State::Dead { .. } | State::Cancelled | State::Expired { .. } => 2,
        },
        attempts: delivery.attempts,
    }
}

/// The states behind VZaps's names, and whether only what is being sent is wanted.
fn status_of(names: &[String]) -> Result<(Option<Vec<Status>>, bool), Failure> {
    if names.is_empty() {
        return Ok((None, false));
    }
    let mut states = Vec::new();
    let mut only_processing = true;
    for name in names {
        let found: &[Status] = match name.to_lowercase().as_str() {
            // What is being sent again stands in the log as what waits to be.
            "processing" => &[Status::Retrying],
            "pending" => &[Status::Retrying, Status::Waiting],
            "success" | "delivered" | "sent" => &[Status::Delivered],
            "failed" | "error" | "dead" => &[Status::Dead, Status::Cancelled, Status::Expired],
            _ => {
                return Err(malformed(&["status"], "pending, processing, success or failed"));
            }
        };
        only_processing &= name.eq_ignore_ascii_case("processing");
        states.extend(found.iter().filter(|state| !states.contains(*state)).collect::<Vec<_>>());
    }
    Ok((Some(states), only_processing))
}

fn types_of(given: &[String]) -> Result<Option<Filter>, Failure> {
    if given.is_empty() {
        return Ok(None);
    }
    let names =
        names::read(given).map_err(|error| Failure::bad("unknown_event", format!("{error}.")))?;
    Ok(Some(names::filter(&names)))
}

/// The name under which every event of a type goes out, if there is one.
pub(super) fn only_name(kind: Kind) -> Option<&'static str> {
    // Only where the type alone decides.
    match kind {
        Kind::GroupParticipants | Kind::MessageStatus => None,
        kind => {
            let filter = Filter::parse(&[kind.as_str()]).ok()?;
            names::names(&filter).first().copied()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(body: Value) -> Result<Query, Failure> {
        let Value::Object(members) = body else { panic!("an object") };
        Query::read(&Members::of(members))
    }

    #[test]
    fn filters_may_stand_flat_or_nested_in_either_case() {
        for body in [
            json!({"status": "FAILED", "pageSize": 5, "page": 2, "createdAfter": "2026-01-01"}),
            json!({"filter": {"status": ["failed"], "date_from": "2026-01-01T00:00:00Z"},
                   "size": 5, "page": 2, "nonsense": {}}),
        ] {
            let query = query(body).unwrap();
            let failed = [Status::Dead, Status::Cancelled, Status::Expired];
            assert_eq!(query.status.as_deref(), Some(&failed[..]));
            assert_eq!((query.page, query.size, query.descending), (2, 5, true));
            assert_eq!(query.from.unwrap().to_string(), "2026-01-01T00:00:00.000Z");
        }
    }

    #[test]
    fn an_empty_search_asks_for_everything() {
        let query = query(json!({})).unwrap();
        assert!(query.status.is_none() && query.types.is_none() && !query.no_event);
        assert_eq!((query.page, query.size, query.sort), (1, 20, Sort::Created));
    }

    #[test]
    fn malformed_values_are_refused() {
        for body in [
            json!({"status": "lost"}),
            json!({"page": 0}),
            json!({"size": 101}),
            json!({"from": "yesterday"}),
            json!({"sort": "colour"}),
            json!({"filter": 7}),
            json!({"event": "Receipt"}),
            json!({"http_status": "x"}),
            json!({"include_payload": "perhaps"}),
        ] {
            assert!(query(body.clone()).is_err(), "{body}");
        }
        assert!(query(json!({"event_id": "evt_nobody"})).unwrap().no_event);
    }

    #[test]
    fn every_type_of_one_name_is_known_by_it() {
        assert_eq!(only_name(Kind::MessageReceived), Some("Message"));
        assert_eq!(only_name(Kind::InstanceLoggedOut), Some("Disconnected"));
        assert_eq!(only_name(Kind::ChatUpdated), None);
        assert_eq!(only_name(Kind::GroupParticipants), None);
    }
}
