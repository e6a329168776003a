//! The demo's receiver: four endpoints, each with a character of its own.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    routing::post,
};
use http::{HeaderMap, StatusCode};
use tokio::{net::TcpListener, sync::mpsc, time::Instant};

use super::ledger::Ledger;

/// How an endpoint behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Character {
    /// Takes everything at once.
    Prompt,
    /// Answers 500 to one request in six.
    Flaky,
    /// Is down from time to time.
    Outages,
    /// Takes its time.
    Slow,
}

/// One destination of the demo and the endpoint behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The destination's label, and the endpoint's path.
    pub(super) label: &'static str,
    /// What it wants.
    pub(super) events: &'static [&'static str],
    /// How its endpoint behaves.
    pub(super) character: Character,
    /// Sends under way at one time.
    pub(super) max_in_flight: u32,
}

/// The destinations of the demo.
pub(super) const PLACES: [Place; 4] = [
    Place { label: "crm", events: &["*"], character: Character::Prompt, max_in_flight: 64 },
    Place { label: "n8n", events: &["message.*"], character: Character::Flaky, max_in_flight: 32 },
    Place { label: "erp", events: &["*"], character: Character::Outages, max_in_flight: 32 },
    Place {
        label: "archive",
        events: &["message.received", "message.sent"],
        character: Character::Slow,
        max_in_flight: 4,
    },
];

/// The first outage, how long each is, and from one beginning to the next.
const OUTAGE_FIRST: Duration = Duration::from_secs(4);
const OUTAGE: Duration = Duration::from_secs(6);
const OUTAGE_EVERY: Duration = Duration::from_secs(25);

/// One request in so many fails at the flaky endpoint.
const FLAKY: u64 = 6;

impl Character {
    /// What it answers, after what time, to a request that comes `elapsed` after the start.
    /// `random` is any number.
    fn reply(self, elapsed: Duration, random: u64) -> (Duration, StatusCode) {
        let quick = Duration::from_millis(1 + random % 4);
        match self {
            Self::Prompt => (quick, StatusCode::OK),
            Self::Flaky if random.is_multiple_of(FLAKY) => {
                (quick, StatusCode::INTERNAL_SERVER_ERROR)
            }
            Self::Flaky => (quick, StatusCode::OK),
            Self::Outages if down(elapsed) => (quick, StatusCode::SERVICE_UNAVAILABLE),
            Self::Outages => (quick, StatusCode::OK),
            Self::Slow => (Duration::from_millis(120 + random % 240), StatusCode::OK),
        }
    }

    /// How it behaves right now, in words.
    pub(super) fn describe(self, elapsed: Duration, healed: bool) -> &'static str {
        match self {
            Self::Prompt => "answers at once",
            _ if healed => "well again",
            Self::Flaky => "500 for one in six",
            Self::Outages if down(elapsed) => "down: 503 for all",
            Self::Outages => "up, goes down soon",
            Self::Slow => "takes 0.1 to 0.4 s",
        }
    }
}

/// Whether the endpoint with outages has one.
fn down(elapsed: Duration) -> bool {
    elapsed
        .checked_sub(OUTAGE_FIRST)
        .is_some_and(|since| since.as_millis() % OUTAGE_EVERY.as_millis() < OUTAGE.as_millis())
}

/// An attempt that somebody may want to see: one that failed, or came after one that did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Which of [`PLACES`].
    pub(super) place: usize,
    /// What it answered.
    pub(super) status: StatusCode,
    /// Which of its event, from 1.
    pub(super) nth: u32,
}

/// The receiver. Cheap to clone.
#[derive(Clone)]
pub(super) struct Receiver {
    shared: Arc<Shared>,
}

struct Shared {
    begun: Instant,
    seed: u64,
    requests: AtomicU64,
    healed: AtomicBool,
    ledger: Arc<Mutex<Ledger>>,
    /// Failed attempts of events that have not arrived, by place and id.
    open: Mutex<HashMap<(usize, String), u32>>,
    attempts: mpsc::UnboundedSender<Attempt>,
}

impl Receiver {
    /// Takes requests on a free port of this machine until the runtime ends. Gives its address.
    ///
    /// # Errors
    /// When no port can be had.
    pub(super) async fn start(
        seed: u64,
        ledger: Arc<Mutex<Ledger>>,
        attempts: mpsc::UnboundedSender<Attempt>,
    ) -> std::io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let receiver = Self {
            shared: Arc::new(Shared {
                begun: Instant::now(),
                seed,
                requests: AtomicU64::new(0),
                healed: AtomicBool::new(false),
                ledger,
                open: Mutex::default(),
                attempts,
            }),
        };
        let routes = Router::new().route("/{label}", post(receive)).with_state(receiver.clone());
        // It ends with the process.
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok((receiver, address))
    }

    /// From now on everything is taken at once.
    pub(super) fn heal(&self) {
        self.shared.healed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_healed(&self) -> bool {
        self.shared.healed.load(Ordering::Relaxed)
    }

    /// Counts an attempt of an event: which one it is.
    fn attempted(&self, place: usize, id: &str, status: StatusCode) -> u32 {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        let event = (place, id.to_owned());
        if status.is_success() {
            return open.remove(&event).unwrap_or(0) + 1;
        }
        let failed = open.entry(event).or_default();
        *failed += 1;
        *failed
    }

    fn reply(&self, character: Character) -> (Duration, StatusCode) {
        if self.is_healed() {
            return (Duration::ZERO, StatusCode::OK);
        }
        let nth = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        character.reply(self.shared.begun.elapsed(), mixed(self.shared.seed.wrapping_add(nth)))
    }
}

/// Spreads a counter, as SplitMix64 does.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The whole body is read before the answer; only the event's id matters here.
async fn receive(
    State(receiver): State<Receiver>,
    Path(label): Path<String>,
    headers: HeaderMap,
    _body: Bytes,
) -> StatusCode {
    let Some(place) = PLACES.iter().position(|place| place.label == label) else {
        return StatusCode::NOT_FOUND;
    };
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let (delay, status) = receiver.reply(PLACES[place].character);
    tokio::time::sleep(delay).await;
    let nth = receiver.attempted(place, id, status);
    if status.is_success() {
        let mut ledger = receiver.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.arrived(place, id);
    }
    if nth > 1 || !status.is_success() {
        // Nobody watches any more only when the demo ends.
        let _ = receiver.shared.attempts.send(Attempt { place, status, nth });
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outage_comes_early_ends_and_comes_again() {
        let at = |seconds| down(Duration::from_secs(seconds));
        assert_eq!(
            [0, 3, 4, 9, 10, 28, 29, 34, 35].map(at),
            [false, false, true, true, false, false, true, true, false]
        );
    }

    #[test]
    fn each_endpoint_keeps_to_its_character() {
        let share = |character: Character, elapsed| {
            let failed = (0..6_000)
                .filter(|nth| !character.reply(elapsed, mixed(7 + nth)).1.is_success())
                .count();
            failed as f64 / 6_000.0
        };
        let (calm, outage) = (Duration::from_secs(1), Duration::from_secs(5));
        assert_eq!(share(Character::Prompt, outage), 0.0);
        assert_eq!(share(Character::Slow, outage), 0.0);
        assert_eq!(
            (share(Character::Outages, calm), share(Character::Outages, outage)),
            (0.0, 1.0)
        );
        assert!((0.12..0.21).contains(&share(Character::Flaky, calm)));
        assert!(Character::Slow.reply(calm, 3).0 >= Duration::from_millis(100));
    }
}
