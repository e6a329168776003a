//! A track against a model of the journal and of the rows in the store, under any interleaving.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use proptest::prelude::*;
use zapbus_event::{EventId, InstanceId, Kind, Raw, Source, SourceKind};
use zapbus_store::{DeadReason, Health, LIVE, LaneStart, Page};

use super::*;

const NOW: i64 = 1_767_225_600_000;

fn now() -> Timestamp {
    Timestamp::from_millis(NOW)
}

fn event(seq: u64, chat: u8) -> Arc<Event> {
    Arc::new(Event {
        id: EventId::new(now(), u128::from(seq)),
        seq: Position(seq),
        instance: InstanceId::new(now(), 1),
        kind: Kind::MessageReceived,
        facet: None,
        occurred_at: now(),
        occurred_at_estimated: false,
        received_at: now(),
        source: Source {
            kind: SourceKind::Native,
            event: "message.received".to_owned(),
            version: None,
            delivery_id: None,
            index: 0,
        },
        dedup_key: None,
        partition: format!("chat-{chat}"),
        history: false,
        ephemeral: false,
        client_id: None,
        hops: 0,
        data: Bytes::from_static(b"{}"),
        raw: Raw::Data,
    })
}

fn lane() -> LaneId {
    LaneId { destination: DestinationId::new(now(), 1), run: LIVE }
}

/// The store as far as one lane can tell.
#[derive(Debug, Default)]
struct Model {
    journal: Vec<Arc<Event>>,
    rows: BTreeMap<Position, Row>,
    cursor: Position,
}

impl Model {
    fn start(&self) -> LaneStart {
        let mut held: HashMap<u64, HeldKey> = HashMap::new();
        for row in self.rows.values() {
            let waiting = row.state == State::Waiting;
            if !waiting && !matches!(row.state, State::Retrying { .. }) {
                continue;
            }
            let key = held.entry(row.key).or_insert(HeldKey {
                key: row.key,
                first: row.seq,
                rows: 0,
                waiting: 0,
            });
            key.rows += 1;
            key.waiting += u64::from(waiting);
        }
        LaneStart {
            cursor: self.cursor,
            health: Health::Flowing,
            beyond: self.rows.keys().copied().filter(|seq| *seq > self.cursor).collect(),
            held: held.into_values().collect(),
            next_due: self.next_due(),
        }
    }

    fn next_due(&self) -> Option<Timestamp> {
        self.rows
            .values()
            .filter_map(|row| match row.state {
                State::Retrying { due } => Some(due),
                _ => None,
            })
            .min()
    }

    fn page(&self, after: Position, events: usize) -> Page {
        let rest = self.journal.iter().filter(|event| event.seq > after);
        let events: Vec<_> = rest.take(events.max(1)).cloned().collect();
        let head = self.journal.last().map_or(Position::START, |event| event.seq);
        let upto = events.last().map_or(head.max(after), |event| event.seq);
        Page { at_head: upto >= head, upto, events }
    }

    fn due_row(&self, row: &Row, due: Timestamp) -> DueRow {
        DueRow {
            shard: zapbus_store::ShardId::default(),
            event: self.journal.iter().find(|event| event.seq == row.seq).cloned(),
            seq: row.seq,
            due,
            attempts: row.attempts,
            parts_done: row.parts_done,
            key: row.key,
            manual: row.manual,
        }
    }

    fn due(&self, limit: usize) -> Vec<DueRow> {
        let mut rows: Vec<_> = self
            .rows
            .values()
            .filter_map(|row| match row.state {
                State::Retrying { due } => Some(self.due_row(row, due)),
                _ => None,
            })
            .collect();
        rows.sort_by_key(|row| (row.due, row.seq));
        rows.truncate(limit);
        rows
    }

    fn waiting(&self, key: u64) -> Option<DueRow> {
        self.rows
            .values()
            .find(|row| row.key == key && row.state == State::Waiting)
            .map(|row| self.due_row(row, now()))
    }

    fn is_settled(&self, seq: Position) -> bool {
        self.rows
            .get(&seq)
            .is_some_and(|row| matches!(row.state, State::Delivered | State::Dead { .. }))
    }

    /// Each event at or below the cursor is accounted for by a row.
    fn check_cursor(&self) {
        for event in self.journal.iter().filter(|event| event.seq <= self.cursor) {
            assert!(
                self.rows.contains_key(&event.seq),
                "cursor passed {} without a row",
                event.seq
            );
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Commit { chat: u8 },
    AskPage { events: usize },
    TakePage,
    Stop,
    GoOn,
    Send,
    Outcome { pick: usize, accepted: bool },
    TakeOutbox,
    Written { ok: bool },
    Ask,
    Answer,
    Rewind,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_u8).prop_map(|chat| Step::Commit { chat }),
        3 => (1..5_usize).prop_map(|events| Step::AskPage { events }),
        3 => Just(Step::TakePage),
        1 => Just(Step::Stop),
        2 => Just(Step::GoOn),
        5 => Just(Step::Send),
        5 => (any::<usize>(), prop::bool::weighted(0.6))
            .prop_map(|(pick, accepted)| Step::Outcome { pick, accepted }),
        3 => Just(Step::TakeOutbox),
        3 => prop::bool::weighted(0.8).prop_map(|ok| Step::Written { ok }),
        2 => Just(Step::Ask),
        2 => Just(Step::Answer),
        1 => Just(Step::Rewind),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 0..200)
}

/// An answer of the store on its way.
enum Answer {
    Due { rows: Vec<DueRow>, complete: bool },
    Waiting { key: u64, row: Option<DueRow> },
    Held(Vec<HeldKey>),
}

struct Run {
    model: Model,
    track: Track,
    ordering: Ordering,
    sent: Vec<Task>,
    /// In their order: each may fail, whatever becomes of the later ones.
    writing: VecDeque<(Vec<Row>, Option<Position>)>,
    /// What the store was asked, as it was then: the answer may come late.
    asked: Option<Answer>,
    /// A page on its way, and after which position it was asked for.
    paged: Option<(Position, Page)>,
    /// Nothing happened since the store was asked that may call for another look.
    undisturbed: bool,
    /// When it is: rows that failed are due an hour later.
    now: Timestamp,
    /// First arrivals at the destination, by key.
    arrived: HashMap<u64, Vec<Position>>,
    ever: HashSet<Position>,
}

impl Run {
    fn new(ordering: Ordering) -> Self {
        let model = Model::default();
        let track = open(&model, ordering);
        Self {
            model,
            track,
            ordering,
            sent: Vec::new(),
            writing: VecDeque::new(),
            asked: None,
            paged: None,
            undisturbed: false,
            now: now(),
            arrived: HashMap::new(),
            ever: HashSet::new(),
        }
    }

    fn step(&mut self, step: Step) {
        self.undisturbed &= matches!(step, Step::Ask | Step::Answer | Step::TakePage);
        match step {
            Step::Commit { chat } => {
                let seq = self.model.journal.last().map_or(0, |event| event.seq.0) + 2;
                self.model.journal.push(event(seq, chat));
                self.track.wake();
            }
            Step::AskPage { events } => {
                if self.track.wants_page() && self.paged.is_none() {
                    let after = self.track.ask_page();
                    self.paged = Some((after, self.model.page(after, events)));
                }
            }
            Step::TakePage => {
                if let Some((after, page)) = self.paged.take() {
                    self.track.offer_after(after, &page, now());
                }
            }
            Step::Stop => self.track.stop(),
            Step::GoOn => self.track.go_on(self.now),
            Step::Send => self.send(),
            Step::Outcome { pick, accepted } => self.outcome(pick, accepted),
            Step::TakeOutbox => {
                if self.writing.len() < 3 {
                    self.writing.push_back(self.track.take_outbox());
                }
            }
            Step::Written { ok } => self.written(ok),
            Step::Ask => self.ask(),
            Step::Answer => self.answer(),
            Step::Rewind => self.track.rewind(),
            Step::Crash => {
                self.sent.clear();
                self.writing.clear();
                self.asked = None;
                self.paged = None;
                self.track = open(&self.model, self.ordering);
            }
        }
        self.model.check_cursor();
    }

    fn send(&mut self) {
        let stopped = self.track.is_stopped();
        let Some(Sending::Task(task)) = self.track.next() else { return };
        assert!(!stopped, "a stopped run sends");
        let (seq, key) = (task.event.seq, key_of(&task.event));
        assert!(!self.model.is_settled(seq), "{seq} was settled and is sent again");
        assert!(!self.sent.iter().any(|other| other.event.seq == seq), "{seq} is on its way twice");
        if task.origin == Origin::First && self.ordering != Ordering::None {
            let overtaking = self.sent.iter().any(|other| {
                key_of(&other.event) == key
                    && (other.origin == Origin::First || self.ordering == Ordering::Strict)
            });
            assert!(!overtaking, "{seq} overtakes an event of its chat");
        }
        if self.ordering == Ordering::Strict {
            let open = self.model.journal.iter().find(|event| {
                event.seq < seq && key_of(event) == key && !self.knows_settled(event.seq)
            });
            assert!(open.is_none(), "strict: {seq} is sent before {:?} is settled", open);
        }
        if self.ever.insert(seq) {
            self.arrived.entry(key).or_default().push(seq);
        }
        self.sent.push(task);
    }

    /// Settled in the store, or its outcome is known and waits to be written.
    fn knows_settled(&self, seq: Position) -> bool {
        let closed = |row: &Row| {
            row.seq == seq && matches!(row.state, State::Delivered | State::Dead { .. })
        };
        self.model.is_settled(seq)
            || self.track.outbox.iter().any(closed)
            || self.writing.iter().any(|(rows, _)| rows.iter().any(closed))
    }

    fn outcome(&mut self, pick: usize, accepted: bool) {
        if self.sent.is_empty() {
            return;
        }
        let task = self.sent.remove(pick % self.sent.len());
        let attempts = task.attempts + 1;
        let state = match (accepted, attempts) {
            (true, _) => State::Delivered,
            (false, 3..) => State::Dead { reason: DeadReason::Attempts },
            (false, 2) => State::Retrying { due: now() + std::time::Duration::from_secs(3_600) },
            (false, _) => State::Retrying { due: now() },
        };
        let row = Row {
            seq: task.event.seq,
            state,
            attempts,
            parts_done: 0,
            key: key_of(&task.event),
            manual: false,
            attempt: None,
        };
        self.track.closed(row, task.origin);
    }

    fn written(&mut self, ok: bool) {
        let Some((rows, cursor)) = self.writing.pop_front() else { return };
        if !ok {
            self.track.not_written(rows);
            return;
        }
        for row in rows {
            self.model.rows.insert(row.seq, row);
        }
        if let Some(cursor) = cursor {
            assert!(cursor >= self.model.cursor, "the cursor went back");
            self.model.cursor = cursor;
        }
        self.track.written(cursor);
    }

    fn ask(&mut self) {
        if self.asked.is_some() {
            return;
        }
        self.undisturbed = true;
        self.asked = if self.track.wants_recount() {
            self.track.ask();
            Some(Answer::Held(self.model.start().held))
        } else if self.track.wants_due(self.now) {
            let limit = self.track.begin_look();
            let rows = self.model.due(limit);
            Some(Answer::Due { complete: rows.len() < limit, rows })
        } else if let Some(key) = self.track.wants_waiting() {
            self.track.ask();
            Some(Answer::Waiting { key, row: self.model.waiting(key) })
        } else {
            None
        };
    }

    fn answer(&mut self) {
        match self.asked.take() {
            Some(Answer::Due { rows, complete }) => {
                self.track.offer_due(rows, complete, self.now);
                let due = self.model.due(usize::MAX).into_iter().any(|row| row.due <= self.now);
                let again = self.undisturbed && !due && self.track.wants_due(self.now);
                assert!(!again, "it looks for rows without end");
            }
            Some(Answer::Waiting { key, row }) => self.track.offer_waiting(key, row),
            Some(Answer::Held(held)) => self.track.recount(&held),
            None => {}
        }
    }

    /// Lets everything end well, and checks that it does.
    fn finish(mut self) {
        self.now = self.now + std::time::Duration::from_secs(7_200);
        for _ in 0..10_000 {
            self.step(Step::GoOn);
            self.step(Step::AskPage { events: 100 });
            self.step(Step::TakePage);
            self.step(Step::Ask);
            self.step(Step::Answer);
            self.step(Step::Send);
            self.step(Step::Outcome { pick: 0, accepted: true });
            self.step(Step::TakeOutbox);
            while !self.writing.is_empty() {
                self.step(Step::Written { ok: true });
            }
            let done = self.model.journal.iter().all(|event| self.model.is_settled(event.seq));
            if done && self.track.is_quiet() && !self.track.is_dirty() {
                break;
            }
        }
        for event in &self.model.journal {
            assert!(self.model.is_settled(event.seq), "{} was never settled", event.seq);
        }
        assert!(self.track.is_quiet());
        let head = self.model.journal.last().map_or(Position::START, |event| event.seq);
        assert_eq!((self.track.cursor(), self.model.cursor), (head, head));
        if self.ordering != Ordering::None {
            for (key, arrivals) in &self.arrived {
                assert!(arrivals.is_sorted(), "key {key}: {arrivals:?}");
            }
        }
    }
}

fn open(model: &Model, ordering: Ordering) -> Track {
    let selection = Selection { filter: Filter::default(), exclude_ephemeral: false, ordering };
    Track::new(lane(), selection, None, &model.start(), model.cursor)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_event_is_settled_once_and_in_order(
        steps in steps(),
        ordering in prop_oneof![
            Just(Ordering::None),
            Just(Ordering::Key),
            Just(Ordering::Strict),
        ],
    ) {
        let mut run = Run::new(ordering);
        for step in steps {
            run.step(step);
        }
        run.finish();
    }
}

#[test]
fn a_filter_that_takes_little_moves_the_cursor_without_rows() {
    let mut model = Model::default();
    model.journal.extend((1..=50).map(|seq| event(seq, 0)));
    let selection = Selection {
        filter: Filter::parse(&["call.updated"]).unwrap(),
        exclude_ephemeral: false,
        ordering: Ordering::Key,
    };
    let mut track = Track::new(lane(), selection, None, &model.start(), Position::START);
    track.offer(&model.page(Position::START, 100), now());
    assert!(track.is_quiet());
    assert!(!track.is_dirty());
    assert_eq!((track.cursor(), track.unwritten_skips()), (Position(50), 50));
}

#[test]
fn a_run_holds_no_more_than_a_thousand_events_beyond_its_cursor() {
    let mut model = Model::default();
    // One chat whose first event never comes back: everything behind it stays open.
    model.journal.extend((1..=2_000).map(|seq| event(seq, 0)));
    let mut track = open(&model, Ordering::Key);
    assert!(track.next().is_none());
    while track.wants_page() {
        let page = model.page(track.scanned, track.page_room());
        track.offer(&page, now());
        let sent = track.next();
        assert!(sent.is_some() || !track.wants_page() || track.page_room() > 0);
    }
    assert_eq!(track.scanned, Position(MAX_BEYOND as u64));
}

#[test]
fn a_stale_presence_is_passed_over() {
    let mut model = Model::default();
    let mut typing = Arc::unwrap_or_clone(event(1, 0));
    typing.ephemeral = true;
    typing.received_at = now() - EPHEMERAL_LIFE - std::time::Duration::from_millis(1);
    model.journal.push(Arc::new(typing));
    let mut track = open(&model, Ordering::Key);
    track.offer(&model.page(Position::START, 10), now());
    assert!(track.is_quiet());
    assert_eq!(track.cursor(), Position(1));
}

#[test]
fn a_chat_is_not_freed_by_an_answer_that_is_out_of_date() {
    let mut run = Run::new(Ordering::Strict);
    let write = |run: &mut Run| {
        run.step(Step::TakeOutbox);
        run.step(Step::Written { ok: true });
    };
    run.step(Step::Commit { chat: 0 });
    run.step(Step::AskPage { events: 1 });
    run.step(Step::TakePage);
    run.step(Step::Send);
    run.step(Step::Outcome { pick: 0, accepted: false });
    write(&mut run);
    run.step(Step::Ask);
    run.step(Step::Answer);
    run.step(Step::Send);
    run.step(Step::Outcome { pick: 0, accepted: true });
    write(&mut run);
    // Nothing waits in this chat, says the store; before it has said so, something does.
    run.step(Step::Ask);
    run.step(Step::Commit { chat: 0 });
    run.step(Step::AskPage { events: 1 });
    run.step(Step::TakePage);
    write(&mut run);
    run.step(Step::Answer);
    run.finish();
}

#[test]
fn many_rows_that_are_due_later_are_looked_for_once() {
    let mut model = Model::default();
    let later = now() + std::time::Duration::from_secs(3_600);
    for seq in 1..=100 {
        model.journal.push(event(seq, 0));
        let row = Row {
            seq: Position(seq),
            state: State::Retrying { due: later },
            attempts: 1,
            parts_done: 0,
            key: seq,
            manual: false,
            attempt: None,
        };
        model.rows.insert(Position(seq), row);
    }
    let mut track = open(&model, Ordering::Key);
    track.look_again(now());
    let limit = track.begin_look();
    let rows = model.due(limit);
    assert!(rows.len() == limit, "there are more than one look finds");
    track.offer_due(rows, false, now());
    assert!(!track.wants_due(now()));
    assert_eq!(track.look_at(), Some(later));
}
