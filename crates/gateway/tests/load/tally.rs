//! What arrived: how often, and in which order.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use super::receiver::Received;

/// Counts arrivals. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Tally(Arc<Mutex<Tallied>>);

/// What was counted so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tallied {
    /// Requests.
    pub(crate) arrivals: usize,
    /// Events that arrived, and how often.
    pub(crate) events: HashMap<String, usize>,
    /// Those that the receiver took.
    pub(crate) accepted: HashSet<String>,
    /// Chat, the newest number seen, and the older one that arrived first after it.
    pub(crate) disorder: Vec<(String, u64, u64)>,
    newest: BTreeMap<String, u64>,
}

impl Tallied {
    /// Arrivals beyond the first of each event.
    pub(crate) fn repeats(&self) -> usize {
        self.arrivals - self.events.len()
    }
}

impl Tally {
    /// Notes a request and gives the event's id and how often it had come before.
    pub(crate) fn arrived(&self, request: &Received) -> (String, usize) {
        let id = message_id(request);
        let (chat, number) = place_of(&id);
        let mut all = self.0.lock().unwrap();
        all.arrivals += 1;
        let count = all.events.entry(id.clone()).or_default();
        *count += 1;
        let before = *count - 1;
        if before == 0 {
            let newest = all.newest.entry(chat.clone()).or_insert(number);
            if *newest > number {
                let newest = *newest;
                all.disorder.push((chat, newest, number));
            } else {
                *newest = number;
            }
        }
        (id, before)
    }

    /// Notes that the receiver takes it.
    pub(crate) fn accepted(&self, id: &str) {
        self.0.lock().unwrap().accepted.insert(id.to_owned());
    }

    /// What was counted so far.
    pub(crate) fn so_far(&self) -> Tallied {
        self.0.lock().unwrap().clone()
    }

    /// How many events were taken so far.
    pub(crate) fn accepted_count(&self) -> usize {
        self.0.lock().unwrap().accepted.len()
    }

    /// Those of `ids` that were not taken so far.
    pub(crate) fn missing<'a>(&self, ids: &'a [String]) -> Vec<&'a str> {
        let all = self.0.lock().unwrap();
        ids.iter().filter(|id| !all.accepted.contains(*id)).map(String::as_str).collect()
    }
}

/// Both sources carry it: `c<chat>-<number>`.
fn message_id(request: &Received) -> String {
    let body = request.json();
    let id = body["data"]["message"]["id"].as_str().unwrap_or_else(|| panic!("{body}"));
    id.trim_start_matches("wamid.").to_owned()
}

fn place_of(id: &str) -> (String, u64) {
    let (chat, number) = id.split_once('-').unwrap();
    (chat.to_owned(), number.parse().unwrap())
}
