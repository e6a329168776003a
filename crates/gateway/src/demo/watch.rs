//! How the demo learns what is going on.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

use super::{
    api::{Api, Destination},
    ledger,
    receiver::{self, Attempt, PLACES},
    scene::{Row, Tone},
    stage::Demo,
};

/// How often the destinations are asked after.
const ASK: Duration = Duration::from_millis(400);

/// Over which time rates are taken.
const LATELY: Duration = Duration::from_secs(3);

/// What a row says before the gateway was asked.
const UNKNOWN: &str = "…";

/// The destinations before anything happened.
pub(super) fn rows() -> Vec<Row> {
    let row = |place: &receiver::Place| Row {
        label: place.label.to_owned(),
        takes: place.events.join(","),
        endpoint: String::new(),
        state: UNKNOWN.to_owned(),
        figures: ledger::Figures::default(),
        waited: 0,
        per_s: 0.0,
        retrying: 0,
        dead: 0,
        last_error: None,
    };
    PLACES.iter().map(row).collect()
}

impl Demo {
    /// Shows an attempt.
    pub(super) fn note(&mut self, attempt: &Attempt) {
        let (label, nth) = (PLACES[attempt.place].label, attempt.nth);
        if attempt.status.is_success() {
            let text = format!("out  {label} took it at attempt {nth}");
            self.scene.came(Tone::Good, &text);
        } else {
            let status = attempt.status.as_u16();
            let text = format!("out  {label} answered {status} at attempt {nth}: again later");
            self.scene.came(Tone::Bad, &text);
        }
    }

    /// Brings the scene up to date.
    pub(super) fn look(&mut self) {
        let (now, elapsed) = (Instant::now(), self.begun.elapsed());
        let (accepted, figures) = {
            let ledger = self.ledger();
            (ledger.accepted, [0, 1, 2, 3].map(|nth| ledger.figures(nth)))
        };
        let arrived: Vec<u64> = figures.iter().map(|figures| figures.arrived).collect();
        while self.lately.front().is_some_and(|(at, ..)| now.duration_since(*at) > LATELY) {
            self.lately.pop_front();
        }
        let before = self.lately.front().cloned().unwrap_or((now, accepted, arrived.clone()));
        let seconds = now.duration_since(before.0).as_secs_f64().max(0.5);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        self.scene.elapsed = elapsed;
        self.scene.accepted = accepted;
        self.scene.ingest = self.tally.totals();
        self.scene.in_per_s = rate(accepted, before.1);
        self.scene.out_per_s = rate(arrived.iter().sum(), before.2.iter().sum());
        let healed = self.receiver.is_healed();
        for (nth, row) in self.scene.rows.iter_mut().enumerate() {
            row.figures = figures[nth];
            row.waited = row.waited.max(row.figures.owed);
            row.per_s = rate(arrived[nth], before.2[nth]);
            row.endpoint = PLACES[nth].character.describe(elapsed, healed).to_owned();
        }
        self.lately.push_back((now, accepted, arrived));
        if self.asked.has_changed().unwrap_or(false) {
            let asked = self.asked.borrow_and_update().clone();
            for (nth, destination) in asked.into_iter().enumerate() {
                if let Some(destination) = destination {
                    self.learn(nth, destination);
                }
            }
        }
    }

    /// Takes what the gateway says of a destination, and says what is new.
    fn learn(&mut self, nth: usize, destination: Destination) {
        let state = match destination.state.as_str() {
            "active" => destination.status.health.clone(),
            other => other.to_owned(),
        };
        let row = &mut self.scene.rows[nth];
        let before = std::mem::replace(&mut row.state, state.clone());
        row.retrying = destination.status.retrying;
        row.dead = destination.status.dead;
        let troubled = state != "flowing" || row.retrying > 0;
        row.last_error = destination.status.last_error.filter(|_| troubled);
        if before == state || before == UNKNOWN {
            return;
        }
        let label = row.label.clone();
        let waited = std::mem::replace(&mut row.waited, row.figures.owed);
        let (tone, text) = match state.as_str() {
            "flowing" => {
                (Tone::Good, format!("{label} flows again; up to {waited} were waiting for it"))
            }
            "probing" => {
                let error = row.last_error.as_deref().unwrap_or("it fails as a whole");
                (Tone::Bad, format!("{label} is probed, the rest waits in order: {error}"))
            }
            other => (Tone::Warning, format!("{label} is {other}; its events wait in the journal")),
        };
        self.scene.happen(tone, &text);
    }
}

/// Asks after the destinations from time to time, until nobody listens.
pub(super) fn ask_after(api: Api, ids: Vec<String>) -> watch::Receiver<Vec<Option<Destination>>> {
    let (tell, asked) = watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(ASK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !tell.is_closed() {
            ticks.tick().await;
            let mut all = Vec::new();
            for id in &ids {
                // A gateway that was killed does not answer.
                all.push(api.destination(id).await.ok());
            }
            tell.send_replace(all);
        }
    });
    asked
}
