//! One live connection from its first frame to its last: the same for every dialect and transport.

mod time;

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use zapbus_event::{
    Dialect, Event, Timestamp,
    dialect::{self, evolution::Form},
};
use zapbus_store::{Place, StoreError};

use super::{
    Realtime, Standing,
    feed::{Feed, Step},
    hub::Hung,
    ledger::Ledger,
    protocol::{Dead, Gap, Opened, Protocol, Said},
    slots::Slot,
    subscription::{Acks, Subscription},
    wire::{Heard, Wire},
};
use crate::{
    reading::Places,
    rendering::{RenderFailure, Wanted},
    telemetry::Realtime as Figures,
};

/// Frames that are written together.
const BATCH: usize = 64;
/// Bytes of them; the last frame may go beyond it.
const BATCH_BYTES: usize = 16 << 10;
/// Pause before the store is asked again after it could not answer.
const STORE_PAUSE: Duration = Duration::from_millis(500);
/// Messages that nobody can read, in a minute.
const MAX_NONSENSE: u32 = 100;
/// Why a connection is closed on which a client said too much.
const TOO_LONG: &str = "a message is longer than it may be";
/// Positions that may be passed over without being written down.
const UNWRITTEN: u64 = 10_000;

/// What a connection is made of.
pub(super) struct Connection<P> {
    pub(super) realtime: Realtime,
    pub(super) protocol: P,
    pub(super) wire: Wire,
    pub(super) hung: Hung,
    pub(super) subscription: Subscription,
    pub(super) feed: Feed,
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) dialect: Dialect,
    pub(super) options: dialect::Options,
    pub(super) standing: Standing,
    pub(super) slot: Slot,
    pub(super) figures: Figures,
    pub(super) state: State,
}

/// What it remembers between two waits.
#[derive(Default)]
pub(super) struct State {
    /// Something is on its way out.
    flushing: bool,
    /// Where the cursor is when that is written.
    upto: Option<Places>,
    /// Where it was when it was last written down.
    noted: u64,
    /// There may be something to send.
    work: bool,
    seen_settled: u64,
    retry_at: Option<Instant>,
    pinged_at: Option<Instant>,
    flushing_since: Option<Instant>,
    /// When it last looked for something to send.
    produced_at: Option<Instant>,
    nonsense: u32,
    unacked: i64,
    behind: bool,
}

/// Why a connection ends.
enum End {
    /// The client has gone.
    Gone,
    /// We close it.
    Close(u16, &'static str),
}

enum Woken {
    Heard(Heard),
    Written(bool),
    Rung,
    Time,
}

impl<P: Protocol> Connection<P> {
    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        let end = self.converse().await;
        self.note_changes();
        self.part();
        let Self { wire, ledger, realtime, slot, figures, state, .. } = self;
        if let Some(ledger) = ledger {
            realtime.inner.ledgers.leave(ledger);
        }
        match end {
            End::Gone => wire.echo_close().await,
            End::Close(code, reason) => wire.close(code, reason).await,
        }
        figures.closed(state.unacked, state.behind);
        drop(slot);
    }

    async fn converse(&mut self) -> End {
        self.begin();
        let every = self.ping_every();
        let mut ping_at = Instant::now() + every;
        let mut sleep = pin!(tokio::time::sleep(every));
        loop {
            if self.realtime.is_closed() {
                return End::Close(1001, "the gateway restarts: connect again");
            }
            if self.ledger.as_ref().is_some_and(|ledger| ledger.is_gone()) {
                return End::Close(1008, "the subscriber was deleted");
            }
            if self.may_produce() {
                // On the heap: thousands of idle connections do not pay for it.
                if !Box::pin(self.produce()).await {
                    return End::Gone;
                }
            }
            sleep.as_mut().reset(self.deadline(ping_at));
            let woken = {
                let (wire, flushing) = (&mut self.wire, self.state.flushing);
                let talk = poll_fn(|cx| {
                    if flushing && let Poll::Ready(written) = wire.poll_flush(cx) {
                        return Poll::Ready(Woken::Written(written));
                    }
                    wire.poll_heard(cx).map(Woken::Heard)
                });
                tokio::select! {
                    biased;
                    woken = talk => woken,
                    () = self.hung.bell.rung() => Woken::Rung,
                    () = sleep.as_mut() => Woken::Time,
                }
            };
            match woken {
                Woken::Heard(Heard::Closed) | Woken::Written(false) => return End::Gone,
                Woken::Heard(Heard::TooLong) => return End::Close(1009, TOO_LONG),
                Woken::Heard(Heard::Alive) => self.state.pinged_at = None,
                Woken::Heard(Heard::Message(message)) => {
                    self.state.pinged_at = None;
                    if let Some(end) = self.hear(&message) {
                        return end;
                    }
                }
                Woken::Written(true) => self.written(),
                Woken::Rung => self.rung(),
                Woken::Time => {
                    let now = Instant::now();
                    if let Some(end) = self.pass(now) {
                        return end;
                    }
                    if now >= ping_at {
                        ping_at = now + every;
                        self.ping(now);
                        self.state.nonsense = 0;
                        if !Box::pin(self.realtime.still_welcome(&self.standing)).await {
                            return End::Close(1008, "the token is not valid any more");
                        }
                    }
                }
            }
        }
    }

    fn begin(&mut self) {
        let opened = Opened {
            places: self.feed.places(),
            subscriber: self.ledger.as_ref().map(|ledger| ledger.id),
            explicit: self.subscription.acks() != Acks::Auto,
        };
        if let Some(frame) = self.protocol.opened(&opened) {
            self.state.flushing = self.wire.push(frame);
        }
        self.state.noted = total(self.feed.places());
        self.state.work = true;
    }

    fn may_produce(&self) -> bool {
        self.state.work
            && !self.state.flushing
            && self.state.retry_at.is_none()
            && !self.realtime.is_frozen()
    }

    /// Sends what there is to send, up to a batch. False: the connection is broken.
    async fn produce(&mut self) -> bool {
        let now = self.realtime.now();
        self.subscription.pass(now);
        let mut frames = Vec::new();
        self.bury(&mut frames);
        let filled = self.fill(now, &mut frames).await;
        if let Err(error) = &filled {
            tracing::debug!(event = "realtime.store_unavailable", %error, "a subscription waits for the store");
            self.state.retry_at = Some(Instant::now() + STORE_PAUSE);
        }
        self.figures.sent(frames.len());
        let is_some = !frames.is_empty();
        for frame in frames {
            if !self.wire.push(frame) {
                return false;
            }
        }
        self.note_changes();
        self.state.flushing |= is_some;
        self.state.work = is_some && filled.is_ok();
        self.note_place(is_some);
        self.state.produced_at = Some(Instant::now());
        self.show();
        true
    }

    /// The subscriber's cursor moves past what is listed as open, or is written.
    fn note_place(&mut self, is_some: bool) {
        if self.ledger.is_none() {
            return;
        }
        if is_some && self.subscription.acks() == Acks::Auto {
            // Not before it is written.
            self.state.upto = Some(self.feed.places().clone());
            return;
        }
        // What was only passed over is written when it has become much.
        let passed = total(self.feed.places()).saturating_sub(self.state.noted);
        if is_some || (passed >= UNWRITTEN && !self.state.flushing) {
            self.note_sent(&self.feed.places().clone());
        }
    }

    fn note_sent(&mut self, places: &Places) {
        self.state.noted = total(places);
        if let Some(ledger) = &self.ledger {
            ledger.note(&[], [], &[], &places.0, &self.hung.bell);
        }
    }

    async fn fill(&mut self, now: Timestamp, frames: &mut Vec<Bytes>) -> Result<(), StoreError> {
        let mut bytes = 0;
        while frames.len() < BATCH && bytes < BATCH_BYTES {
            let before = frames.len();
            if let Some(place) = self.subscription.next_again() {
                self.send_again(place, now, frames).await?;
            } else if self.subscription.takes() {
                let store = self.realtime.store().clone();
                match self.feed.next(&store, now).await? {
                    Step::Event(event) => {
                        self.render(&event, frames).await?;
                        let place = (store.shard_of(event.instance), event.seq);
                        let size = size(&frames[before..]);
                        let waits =
                            self.ledger.as_ref().is_none_or(|ledger| !ledger.is_settled(place));
                        if frames.len() > before {
                            self.subscription.offer(place, event.id, size, waits, now);
                        }
                        self.feed.take(&store, &event);
                    }
                    Step::Gap { after, first, resumes } => {
                        self.figures.gaps.inc();
                        tracing::info!(
                            event = "realtime.gap",
                            after = after.cursor(),
                            resumes = resumes.cursor(),
                            protocol = self.protocol.name(),
                            "a subscription has missed events that were past their retention"
                        );
                        let gap = Gap { after: &after, first, resumes: &resumes };
                        frames.extend(self.protocol.gap(&gap));
                    }
                    Step::AtHead => break,
                }
            } else {
                break;
            }
            bytes += size(&frames[before..]);
        }
        Ok(())
    }

    async fn send_again(
        &mut self,
        place: Place,
        now: Timestamp,
        frames: &mut Vec<Bytes>,
    ) -> Result<(), StoreError> {
        let before = frames.len();
        match self.realtime.store().event_at_in(place.0, place.1).await? {
            Some(event) => {
                self.render(&event, frames).await?;
                if frames.len() == before {
                    self.subscription.gone(place);
                    return Ok(());
                }
                self.figures.redelivered.inc();
                self.subscription.offer(place, event.id, size(&frames[before..]), true, now);
            }
            None => self.subscription.gone(place),
        }
        Ok(())
    }

    async fn render(
        &mut self,
        event: &Arc<Event>,
        frames: &mut Vec<Bytes>,
    ) -> Result<(), StoreError> {
        if let Some(options) = self.protocol.options(&self.realtime.inner.directory).await {
            self.options = options;
        }
        let rendering = &self.realtime.inner.rendering;
        let wanted = Wanted {
            dialect: self.dialect,
            options: self.options,
            form: Form::Queue,
            shared: !self.feed.lags(),
        };
        match rendering.parts(event, &wanted).await {
            Ok(parts) => {
                self.protocol.look().await;
                self.protocol.event(event, &parts, frames);
            }
            Err(error) if error.is_final() => {
                tracing::warn!(event = "realtime.render_failed", of = %event.id, %error, "an event cannot be written in the dialect of a subscription, and was left out");
            }
            Err(RenderFailure::Store(error)) => return Err(error),
            Err(RenderFailure::Dialect(_)) => {}
        }
        Ok(())
    }

    /// Says which events are given up.
    fn bury(&mut self, frames: &mut Vec<Bytes>) {
        let changes = self.subscription.take_changes();
        for (event, id) in &changes.dead {
            self.figures.dead.inc();
            tracing::info!(event = "realtime.dead", of = ?id, deliveries = event.deliveries, protocol = self.protocol.name(), "a subscriber has not acknowledged an event however often it was sent");
            frames.extend(self.protocol.dead(&Dead { id: *id, deliveries: event.deliveries }));
        }
        if let Some(ledger) = &self.ledger {
            let parked = changes.dead.iter().map(|(event, _)| *event);
            ledger.note(&changes.opened, parked, &changes.done, &[], &self.hung.bell);
        }
    }

    /// Everything offered by now is written.
    fn written(&mut self) {
        self.state.flushing = false;
        self.state.flushing_since = None;
        self.subscription.written();
        self.note_changes();
        if let Some(upto) = self.state.upto.take() {
            self.note_sent(&upto);
        }
        self.state.work = true;
    }

    fn note_changes(&mut self) {
        let changes = self.subscription.take_changes();
        if let Some(ledger) = &self.ledger {
            let parked = changes.dead.iter().map(|(event, _)| *event);
            ledger.note(&changes.opened, parked, &changes.done, &[], &self.hung.bell);
        }
    }

    /// What was passed over is written down when the connection ends, if nothing is on its way.
    fn part(&mut self) {
        if self.subscription.acks() != Acks::Auto || !self.state.flushing {
            self.note_sent(&self.feed.places().clone());
        }
    }

    fn hear(&mut self, message: &str) -> Option<End> {
        match self.protocol.read(message) {
            Said::Acks(ids) => {
                let mut news = false;
                for id in ids {
                    news |= self.subscription.acknowledge(id);
                }
                if news {
                    self.note_changes();
                    self.state.work = true;
                    self.show();
                } else if self.subscription.acks() != Acks::Auto {
                    self.figures.ignored.inc();
                }
            }
            Said::Later(id, pause) => {
                let now = self.realtime.now();
                self.state.work |= self.subscription.postpone(id, pause, now);
            }
            Said::Working(ids) => {
                let now = self.realtime.now();
                for id in ids {
                    self.subscription.keep(id, now);
                }
            }
            Said::Rejects(ids) => {
                let subscription = &mut self.subscription;
                let count = ids.into_iter().filter(|id| subscription.reject(*id)).count();
                if count > 0 {
                    self.figures.dead.inc_by(count as u64);
                    // Whoever asked for it is not told.
                    self.note_changes();
                    self.state.work = true;
                    self.show();
                }
            }
            Said::Part => {}
            Said::Ask(answer) => self.answer(answer),
            Said::Nothing => {
                self.figures.ignored.inc();
            }
            Said::TooLong => return Some(End::Close(1009, TOO_LONG)),
            Said::Nonsense(answer) => {
                self.figures.ignored.inc();
                self.state.nonsense += 1;
                if self.state.nonsense > MAX_NONSENSE {
                    return Some(End::Close(1008, "too many messages that cannot be read"));
                }
                if let Some(answer) = answer {
                    self.answer(answer);
                }
            }
        }
        None
    }

    /// Whoever asks without reading is not answered: answers must not pile up.
    fn answer(&mut self, frame: Bytes) {
        if !self.state.flushing {
            self.state.flushing = self.wire.push(frame);
        }
    }

    fn rung(&mut self) {
        let (rung, quiet) = self.hung.bell.take();
        self.feed.heed(rung, &quiet);
        self.state.work |= rung;
        if let Some(ledger) = &self.ledger {
            let settled = ledger.settled();
            if settled != self.state.seen_settled {
                self.state.seen_settled = settled;
                self.subscription
                    .keep_open(|place| ledger.open(place).is_some_and(|open| !open.parked));
                self.subscription.revive(ledger.revived());
                self.state.work = true;
            }
        }
    }

    /// Keeps the figures up.
    fn show(&mut self) {
        let unacked = i64::try_from(self.subscription.unacked()).unwrap_or(i64::MAX);
        let behind = !self.feed.is_caught_up();
        self.figures.moved(unacked - self.state.unacked, self.state.behind, behind);
        (self.state.unacked, self.state.behind) = (unacked, behind);
    }
}

fn size(frames: &[Bytes]) -> usize {
    frames.iter().map(Bytes::len).sum()
}

fn total(places: &Places) -> u64 {
    places.0.iter().map(|(_, position)| position.0).sum()
}
