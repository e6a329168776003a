//! The simulator: posts realistic traffic to a running gateway, as fast as its virtual time goes.
//!
//! It uses the door that everybody uses, the HTTP API. One event is posted as one; when the
//! gateway takes longer than events take to happen, what has gathered goes in one request. What
//! was not answered is posted again: the events' ids make repeats harmless. Traffic can also enter
//! as Meta's signed webhooks, without what Meta does not report.

mod door;

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zapbus_event::traffic::{Plan, Simulated, Traffic};

use self::door::{Answer, Door};
pub(crate) use self::door::{Entry, Form, Meta, Refusal, chain};

/// Events that go into one request at most.
const BATCH: usize = 500;

/// How long an unreachable gateway is left alone; doubles up to the second.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// How the simulator runs.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The traffic; its rate is that of real time.
    pub(crate) plan: Plan,
    /// Virtual seconds in a real one.
    pub(crate) speed: f64,
    /// Events to post, repetitions included.
    pub(crate) count: Option<u64>,
    /// How long to go on, in real time.
    pub(crate) duration: Option<Duration>,
    /// How long the gateway may be away once it was there.
    pub(crate) patience: Duration,
}

/// What was done so far. Read by others while the simulator runs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    accepted: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    requests: AtomicU64,
    repeated_requests: AtomicU64,
    behind_ms: AtomicU64,
}

/// A [`Tally`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Totals {
    /// Events that are in the journal.
    pub(crate) accepted: u64,
    /// Events that the gateway knew already.
    pub(crate) duplicates: u64,
    /// Events that it did not want.
    pub(crate) refused: u64,
    /// Requests answered.
    pub(crate) requests: u64,
    /// Requests posted again after 503, an error or silence.
    pub(crate) repeated_requests: u64,
    /// Milliseconds between the moment an event happened and the moment it was posted.
    pub(crate) behind_ms: u64,
}

impl Tally {
    /// What was done so far.
    pub(crate) fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Totals {
            accepted: read(&self.accepted),
            duplicates: read(&self.duplicates),
            refused: read(&self.refused),
            requests: read(&self.requests),
            repeated_requests: read(&self.repeated_requests),
            behind_ms: read(&self.behind_ms),
        }
    }
}

/// What the gateway said to one event.
pub(crate) struct Answered<'a> {
    /// The event.
    pub(crate) event: &'a Simulated,
    /// The id that the gateway gave it, or its first report.
    pub(crate) id: &'a str,
    /// It was known already.
    pub(crate) duplicate: bool,
}

/// Why the simulator ended early.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Nothing answers there.
    Unreachable(String),
    /// The gateway refuses whatever is posted.
    Refused(Refusal),
}

/// Lets others make a storm.
#[derive(Debug, Clone, Default)]
pub(crate) struct Storms(Arc<AtomicUsize>);

impl Storms {
    /// A campaign to so many people starts at the simulator's next step.
    pub(crate) fn start(&self, people: usize) {
        self.0.fetch_add(people, Ordering::Relaxed);
    }
}

/// Traffic and where it goes.
pub(crate) struct Simulator {
    options: Options,
    traffic: Traffic,
    next: Option<Simulated>,
    door: Door,
    tally: Arc<Tally>,
    storms: Storms,
    /// The gateway has answered once.
    reached: bool,
    /// The first refusal of a single event, in words.
    complaint: Option<String>,
}

impl Simulator {
    /// `entries` are the instances of the plan, in their order.
    ///
    /// # Errors
    /// When the system's certificates cannot be read.
    pub(crate) fn new(options: Options, entries: Vec<Entry>) -> Result<Self, String> {
        let mut options = options;
        options.plan.instances = entries.len();
        let rate_per_s = options.plan.rate_per_s / options.speed;
        Ok(Self {
            traffic: Traffic::new(&Plan { rate_per_s, ..options.plan.clone() }),
            next: None,
            door: Door::new(entries)?,
            tally: Arc::default(),
            storms: Storms::default(),
            reached: false,
            complaint: None,
            options,
        })
    }

    /// What it does, for whoever shows it.
    pub(crate) fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// A way to make storms while it runs.
    pub(crate) fn storms(&self) -> Storms {
        self.storms.clone()
    }

    /// Why single events were refused, if any were.
    pub(crate) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Posts until the plan's end or `stop`; what is being posted then is finished.
    ///
    /// # Errors
    /// When nothing answers at the start or for longer than `patience`, or everything is refused.
    pub(crate) async fn run(
        &mut self,
        stop: &CancellationToken,
        mut told: impl FnMut(Answered<'_>),
    ) -> Result<(), Stopped> {
        let begun = Instant::now();
        let ends = self.options.duration.map(|duration| begun + duration);
        let mut left = self.options.count.unwrap_or(u64::MAX);
        let over = || ends.is_some_and(|ends| ends <= Instant::now());
        while left > 0 && !stop.is_cancelled() && !over() {
            let people = self.storms.0.swap(0, Ordering::Relaxed);
            if people > 0 {
                self.traffic.burst(people);
            }
            let due = self.due(begun.elapsed(), left);
            if due.is_empty() {
                let wake = begun + self.upcoming().div_f64(self.options.speed);
                // A storm does not wait for the next event.
                let wake = wake.min(Instant::now() + PAUSE).min(ends.unwrap_or(wake));
                tokio::select! {
                    () = tokio::time::sleep_until(wake) => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            left -= due.len() as u64;
            let happened = begun + due[0].after.div_f64(self.options.speed);
            let behind = Instant::now().saturating_duration_since(happened);
            self.tally.behind_ms.store(behind.as_millis() as u64, Ordering::Relaxed);
            for batch in self.by_instance(due) {
                self.post(batch, stop, &mut told).await?;
            }
        }
        Ok(())
    }

    /// What has happened by now, as far as it fits into one request.
    fn due(&mut self, elapsed: Duration, left: u64) -> Vec<Simulated> {
        let until = elapsed.mul_f64(self.options.speed);
        let most = BATCH.min(usize::try_from(left).unwrap_or(BATCH));
        let mut due: Vec<Simulated> = Vec::new();
        while due.len() < most {
            if self.upcoming() > until {
                break;
            }
            due.extend(self.next.take());
        }
        due
    }

    /// The same, a request for each instance.
    fn by_instance(&self, due: Vec<Simulated>) -> Vec<Vec<Simulated>> {
        let mut batches = vec![Vec::new(); self.options.plan.instances];
        for event in due {
            batches[event.instance].push(event);
        }
        batches.retain(|batch| !batch.is_empty());
        batches
    }

    fn peek(&mut self) -> Option<&Simulated> {
        if self.next.is_none() {
            let door = &self.door;
            self.next = self.traffic.find(|event| door.takes(event));
        }
        self.next.as_ref()
    }

    /// When the next event happens, in virtual time.
    fn upcoming(&mut self) -> Duration {
        self.peek().map_or(Duration::ZERO, |next| next.after)
    }

    /// Posts these events of one instance until each is answered, or `stop`.
    async fn post(
        &mut self,
        due: Vec<Simulated>,
        stop: &CancellationToken,
        told: &mut impl FnMut(Answered<'_>),
    ) -> Result<(), Stopped> {
        let mut open: VecDeque<Simulated> = due.into();
        let mut away: Option<(Instant, Duration)> = None;
        while !open.is_empty() {
            let wait = match self.door.post(open.make_contiguous()).await {
                Answer::Results(results) => {
                    self.tally.requests.fetch_add(1, Ordering::Relaxed);
                    (self.reached, away) = (true, None);
                    let before = std::mem::take(&mut open);
                    for (event, result) in before.into_iter().zip(results) {
                        if let Some(event) = self.take(event, result, told) {
                            open.push_back(event);
                        }
                    }
                    if open.is_empty() {
                        return Ok(());
                    }
                    Duration::from_secs(1)
                }
                Answer::Later(after) => {
                    (self.reached, away) = (true, None);
                    after
                }
                Answer::Refused(refusal) => return Err(Stopped::Refused(refusal)),
                Answer::Unreachable(reason) => {
                    let (since, pause) = away.unwrap_or((Instant::now(), PAUSE));
                    if !self.reached || since.elapsed() >= self.options.patience {
                        return Err(Stopped::Unreachable(reason));
                    }
                    away = Some((since, (pause * 2).min(LONGEST_PAUSE)));
                    pause
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // Nobody was told that these are stored.
                () = stop.cancelled() => return Ok(()),
            }
            self.tally.repeated_requests.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts one answer; gives the event back when it is to be posted again.
    fn take(
        &mut self,
        event: Simulated,
        result: door::Item,
        told: &mut impl FnMut(Answered<'_>),
    ) -> Option<Simulated> {
        match result {
            door::Item::Stored { id, duplicate } => {
                let counter = if duplicate { &self.tally.duplicates } else { &self.tally.accepted };
                counter.fetch_add(1, Ordering::Relaxed);
                told(Answered { event: &event, id: &id, duplicate });
                None
            }
            door::Item::Later => Some(event),
            door::Item::Refused(reason) => {
                self.tally.refused.fetch_add(1, Ordering::Relaxed);
                self.complaint.get_or_insert(format!("{}: {reason}", event.kind()));
                None
            }
        }
    }
}
