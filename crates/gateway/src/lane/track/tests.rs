//! A track against a model of the journal and of the rows in the store, under any interleaving, in
//! one shard and in several.

mod model;

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;
use zapbus_event::Position;
use zapbus_store::{DeadReason, Page, ShardStart};

use self::model::{Model, event, lane, now};
use super::{reach::MAX_BEYOND, *};

#[derive(Debug, Clone)]
enum Step {
    Commit {
        chat: u8,
    },
    AskPage {
        shard: u16,
        events: usize,
    },
    TakePage,
    Stop,
    GoOn,
    Send,
    Outcome {
        pick: usize,
        accepted: bool,
    },
    Recall {
        pick: usize,
    },
    TakeOutbox {
        shard: u16,
    },
    /// It is in the store, and the track has not been told.
    Stored,
    Written {
        ok: bool,
    },
    Reorder {
        ordering: Ordering,
    },
    Ask,
    Answer,
    Rewind,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_u8).prop_map(|chat| Step::Commit { chat }),
        4 => (0..3_u16, 1..5_usize).prop_map(|(shard, events)| Step::AskPage { shard, events }),
        3 => Just(Step::TakePage),
        1 => Just(Step::Stop),
        2 => Just(Step::GoOn),
        5 => Just(Step::Send),
        5 => (any::<usize>(), prop::bool::weighted(0.6))
            .prop_map(|(pick, accepted)| Step::Outcome { pick, accepted }),
        1 => any::<usize>().prop_map(|pick| Step::Recall { pick }),
        4 => (0..3_u16).prop_map(|shard| Step::TakeOutbox { shard }),
        1 => Just(Step::Stored),
        3 => prop::bool::weighted(0.8).prop_map(|ok| Step::Written { ok }),
        1 => orderings().prop_map(|ordering| Step::Reorder { ordering }),
        2 => Just(Step::Ask),
        2 => Just(Step::Answer),
        1 => Just(Step::Rewind),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 0..200)
}

fn orderings() -> impl Strategy<Value = Ordering> {
    prop_oneof![Just(Ordering::None), Just(Ordering::Key), Just(Ordering::Strict)]
}

/// A write on its way into the store.
struct Write {
    shard: ShardId,
    rows: Vec<Row>,
    cursor: Option<Position>,
    /// It is there already.
    stored: bool,
}

/// An answer of the store on its way.
enum Answer {
    Due { rows: Vec<DueRow>, complete: bool },
    Waiting { key: u64, row: Option<DueRow> },
    Held(Vec<ShardStart>),
}

struct Run {
    model: Model,
    track: Track,
    ordering: Ordering,
    sent: Vec<Task>,
    /// In their order: each may fail, whatever becomes of the later ones.
    writing: VecDeque<Write>,
    /// What the store was asked, as it was then: the answer may come late.
    asked: Option<Answer>,
    /// A page of a shard on its way, and after which position it was asked for.
    paged: Option<(ShardId, Position, Page)>,
    /// Nothing happened since the store was asked that may call for another look.
    undisturbed: bool,
    /// When it is: rows that failed are due an hour later.
    now: Timestamp,
    /// First arrivals at the destination, by key.
    arrived: HashMap<u64, Vec<Position>>,
    ever: HashSet<Place>,
    /// What had been sent when the order was changed last: nobody promised anything of its order.
    before: HashSet<Place>,
    /// There was a time without any order.
    ever_unordered: bool,
}

impl Run {
    fn new(ordering: Ordering, shards: usize) -> Self {
        let model = Model::new(shards);
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
            before: HashSet::new(),
            ever_unordered: ordering == Ordering::None,
        }
    }

    fn step(&mut self, step: Step) {
        self.undisturbed &= matches!(step, Step::Ask | Step::Answer | Step::TakePage);
        match step {
            Step::Commit { chat } => {
                let shard = self.model.commit(chat);
                self.track.wake(|concerned| concerned == shard);
            }
            Step::AskPage { shard, events } => {
                let shard = self.shard(shard);
                let stopped = self.track.is_stopped();
                let reach = &mut self.track.reaches_mut()[usize::from(shard.0)];
                if !stopped && reach.wants_page() && self.paged.is_none() {
                    let after = reach.ask_page();
                    self.paged = Some((shard, after, self.model.part(shard).page(after, events)));
                }
            }
            Step::TakePage => {
                if let Some((shard, after, page)) = self.paged.take() {
                    self.track.offer_after(shard, after, &page, now());
                }
            }
            Step::Stop => self.track.stop(),
            Step::GoOn => self.track.go_on(self.now),
            Step::Send => self.send(),
            Step::Outcome { pick, accepted } => self.outcome(pick, accepted),
            Step::Recall { pick } => {
                if !self.sent.is_empty() {
                    let task = self.sent.remove(pick % self.sent.len());
                    self.track.recall(task, self.now);
                }
            }
            Step::TakeOutbox { shard } => {
                let shard = self.shard(shard);
                if self.writing.len() < 3 {
                    let reach = &mut self.track.reaches_mut()[usize::from(shard.0)];
                    let (rows, cursor) = reach.take_outbox();
                    self.writing.push_back(Write { shard, rows, cursor, stored: false });
                }
            }
            Step::Stored => {
                // Commits are made in their order.
                if let Some(at) = self.writing.iter().position(|write| !write.stored) {
                    self.store(at);
                }
            }
            Step::Written { ok } => self.written(ok),
            Step::Reorder { ordering } => {
                self.ordering = ordering;
                self.ever_unordered |= ordering == Ordering::None;
                self.before.clone_from(&self.ever);
                let selection = self.track.selection().reordered(ordering);
                self.track.select(selection, &self.model.starts());
                if !self.track.is_stopped() {
                    self.track.look_again(self.now);
                }
                self.track.rewind();
            }
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
        self.model.check_cursors();
    }

    fn shard(&self, number: u16) -> ShardId {
        ShardId(number % self.model.parts.len() as u16)
    }

    fn send(&mut self) {
        let stopped = self.track.is_stopped();
        let Some(Sending::Task(task)) = self.track.next() else { return };
        assert!(!stopped, "a stopped run sends");
        let (place, key) = (task.place, key_of(&task.event));
        assert!(!self.model.is_settled(place), "{place:?} was settled and is sent again");
        assert!(!self.sent.iter().any(|it| it.place == place), "{place:?} is on its way twice");
        if task.origin == Origin::First && self.ordering != Ordering::None {
            let overtaking = self.sent.iter().any(|other| {
                let first = other.origin == Origin::First && !self.before.contains(&other.place);
                key_of(&other.event) == key && (first || self.ordering == Ordering::Strict)
            });
            assert!(!overtaking, "{place:?} overtakes an event of its chat");
        }
        if self.ordering == Ordering::Strict && !self.before.contains(&place) {
            let open = self.model.open_before(place, key, |other| self.knows_settled(other));
            assert!(open.is_none(), "strict: {place:?} is sent before {open:?} is settled");
        }
        if self.ever.insert(place) {
            self.arrived.entry(key).or_default().push(place.seq);
        }
        self.sent.push(task);
    }

    /// Settled in the store, or its outcome is known and waits to be written.
    fn knows_settled(&self, place: Place) -> bool {
        let closed = |row: &Row| {
            row.seq == place.seq && matches!(row.state, State::Delivered | State::Dead { .. })
        };
        let outbox = self.track.reaches()[usize::from(place.shard.0)].outbox();
        let mut written = self.writing.iter().filter(|write| write.shard == place.shard);
        self.model.is_settled(place)
            || outbox.iter().any(closed)
            || written.any(|write| write.rows.iter().any(closed))
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
        self.track.closed(task.place.shard, row, task.origin);
    }

    fn store(&mut self, at: usize) {
        let Write { shard, rows, cursor, stored } = &mut self.writing[at];
        *stored = true;
        let part = self.model.part(*shard);
        for row in rows {
            part.rows.insert(row.seq, row.clone());
        }
        if let Some(cursor) = *cursor {
            assert!(cursor >= part.cursor, "the cursor went back");
            part.cursor = cursor;
        }
    }

    fn written(&mut self, ok: bool) {
        match self.writing.front() {
            None => return,
            Some(write) if ok && !write.stored => self.store(0),
            Some(_) => {}
        }
        let Some(Write { shard, rows, cursor, stored }) = self.writing.pop_front() else { return };
        if stored {
            self.track.written(shard, cursor);
        } else {
            self.track.not_written(shard, rows);
        }
    }

    fn ask(&mut self) {
        if self.asked.is_some() {
            return;
        }
        self.undisturbed = true;
        self.asked = if self.track.wants_recount() {
            self.track.ask();
            Some(Answer::Held(self.model.starts()))
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
            Some(Answer::Held(starts)) => self.track.recount(&starts),
            None => {}
        }
    }

    /// Lets everything end well, and checks that it does.
    fn finish(mut self) {
        self.now = self.now + std::time::Duration::from_secs(7_200);
        for round in 0..10_000 {
            let shard = round % self.model.parts.len() as u16;
            self.step(Step::GoOn);
            self.step(Step::AskPage { shard, events: 100 });
            self.step(Step::TakePage);
            self.step(Step::Ask);
            self.step(Step::Answer);
            self.step(Step::Send);
            self.step(Step::Outcome { pick: 0, accepted: true });
            self.step(Step::TakeOutbox { shard });
            while !self.writing.is_empty() {
                self.step(Step::Written { ok: true });
            }
            let done = self.model.events().all(|(place, _)| self.model.is_settled(place));
            if done && self.track.is_quiet() && !self.track.is_dirty() {
                break;
            }
        }
        for (place, _) in self.model.events() {
            assert!(self.model.is_settled(place), "{place:?} was never settled");
        }
        assert!(self.track.is_quiet());
        let heads: Vec<_> = self.model.shards().map(|(shard, part)| (shard, part.head())).collect();
        assert_eq!(self.track.cursors(), heads);
        let stored: Vec<_> = self.model.parts.iter().map(|part| part.cursor).collect();
        assert!(stored.iter().eq(heads.iter().map(|(_, head)| head)), "{stored:?}");
        if !self.ever_unordered {
            for (key, arrivals) in &self.arrived {
                assert!(arrivals.is_sorted(), "key {key}: {arrivals:?}");
            }
        }
    }
}

fn open(model: &Model, ordering: Ordering) -> Track {
    let selection = Selection { filter: Filter::default(), exclude_ephemeral: false, ordering };
    Track::new(lane(), selection, &model.starts(), &[])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_event_is_settled_once_and_in_order(
        steps in steps(),
        ordering in orderings(),
        shards in 1..=3_usize,
    ) {
        let mut run = Run::new(ordering, shards);
        for step in steps {
            run.step(step);
        }
        run.finish();
    }
}

/// A model with one shard, and its track.
fn single(journal: impl IntoIterator<Item = Arc<Event>>, ordering: Ordering) -> (Model, Track) {
    let mut model = Model::new(1);
    model.parts[0].journal.extend(journal);
    let track = open(&model, ordering);
    (model, track)
}

const ONLY: ShardId = ShardId(0);

#[test]
fn a_filter_that_takes_little_moves_the_cursor_without_rows() {
    let (model, _) = single((1..=50).map(|seq| event(seq, 0)), Ordering::Key);
    let selection = Selection {
        filter: Filter::parse(&["call.updated"]).unwrap(),
        exclude_ephemeral: false,
        ordering: Ordering::Key,
    };
    let mut track = Track::new(lane(), selection, &model.starts(), &[]);
    track.offer(ONLY, &model.parts[0].page(Position::START, 100), now());
    assert!(track.is_quiet());
    assert!(!track.is_dirty());
    let reach = &track.reaches()[0];
    assert_eq!((reach.cursor(), reach.unwritten_skips()), (Position(50), 50));
}

#[test]
fn a_run_holds_no_more_than_a_thousand_events_beyond_its_cursor() {
    // One chat whose first event never comes back: everything behind it stays open.
    let (model, mut track) = single((1..=2_000).map(|seq| event(seq, 0)), Ordering::Key);
    assert!(track.next().is_none());
    while track.wants_page() {
        let reach = &track.reaches()[0];
        let page = model.parts[0].page(reach.scanned(), reach.page_room());
        track.offer(ONLY, &page, now());
        let sent = track.next();
        let room = track.reaches()[0].page_room();
        assert!(sent.is_some() || !track.wants_page() || room > 0);
    }
    assert_eq!(track.reaches()[0].scanned(), Position(MAX_BEYOND as u64));
}

#[test]
fn a_stale_presence_is_passed_over() {
    let mut typing = Arc::unwrap_or_clone(event(1, 0));
    typing.ephemeral = true;
    typing.received_at = now() - EPHEMERAL_LIFE - std::time::Duration::from_millis(1);
    let (model, mut track) = single([Arc::new(typing)], Ordering::Key);
    track.offer(ONLY, &model.parts[0].page(Position::START, 10), now());
    assert!(track.is_quiet());
    assert_eq!(track.cursors(), [(ONLY, Position(1))]);
}

#[test]
fn shards_take_turns_whatever_their_positions() {
    let mut model = Model::new(2);
    // One has much to send, and lower positions than the other.
    model.parts[0].journal.extend((1..=10).map(|seq| event(seq, 2 * seq as u8)));
    model.parts[1].journal.extend((101..=110).map(|seq| event(seq, 2 * seq as u8 + 1)));
    let mut track = open(&model, Ordering::Key);
    for (shard, part) in model.shards() {
        track.offer(shard, &part.page(Position::START, 100), now());
    }
    let shard_of_next = |track: &mut Track| match track.next() {
        Some(Sending::Task(task)) => task.place.shard.0,
        other => panic!("nothing to send: {other:?}"),
    };
    let order: Vec<_> = (0..6).map(|_| shard_of_next(&mut track)).collect();
    assert!(order == [0, 1, 0, 1, 0, 1] || order == [1, 0, 1, 0, 1, 0], "{order:?}");
}

#[test]
fn what_was_not_sent_after_all_keeps_its_turn() {
    let (model, mut track) = single([event(1, 0), event(2, 0)], Ordering::Key);
    track.offer(ONLY, &model.parts[0].page(Position::START, 10), now());
    let Some(Sending::Task(first)) = track.next() else { panic!("there is something to send") };
    assert!(track.next().is_none(), "the chat has one turn");
    track.recall(first, now());
    assert!(track.is_still());
    let Some(Sending::Task(again)) = track.next() else { panic!("it is to be sent again") };
    assert_eq!((again.place.seq, again.attempts), (Position(1), 0));
}

#[test]
fn a_chat_is_not_freed_by_an_answer_that_is_out_of_date() {
    let mut run = Run::new(Ordering::Strict, 1);
    let write = |run: &mut Run| {
        run.step(Step::TakeOutbox { shard: 0 });
        run.step(Step::Written { ok: true });
    };
    run.step(Step::Commit { chat: 0 });
    run.step(Step::AskPage { shard: 0, events: 1 });
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
    run.step(Step::AskPage { shard: 0, events: 1 });
    run.step(Step::TakePage);
    write(&mut run);
    run.step(Step::Answer);
    run.finish();
}

/// What a run has in its reach is sent, fails, and its row is about to be written.
fn with_a_failure_on_its_way(ordering: Ordering) -> Run {
    let mut run = Run::new(ordering, 1);
    run.step(Step::Commit { chat: 0 });
    run.step(Step::AskPage { shard: 0, events: 1 });
    run.step(Step::TakePage);
    run.step(Step::Send);
    run.step(Step::Outcome { pick: 0, accepted: false });
    run.step(Step::TakeOutbox { shard: 0 });
    run
}

#[test]
fn an_event_that_was_read_before_its_chat_was_known_to_be_held_waits() {
    for ordering in [Ordering::None, Ordering::Key, Ordering::Strict] {
        let mut run = with_a_failure_on_its_way(ordering);
        run.step(Step::Reorder { ordering: Ordering::Strict });
        // The store did not know of the failure yet: this one seems to be the first of its chat.
        run.step(Step::Commit { chat: 0 });
        run.step(Step::AskPage { shard: 0, events: 5 });
        run.step(Step::TakePage);
        run.step(Step::Written { ok: true });
        run.step(Step::Ask);
        run.step(Step::Answer);
        run.step(Step::Send);
        assert!(run.sent.iter().all(|task| task.origin != Origin::First), "{ordering:?}");
        run.finish();
    }
}

#[test]
fn what_waited_in_rows_that_were_not_stored_yet_is_sent_when_the_order_is_not_strict_any_more() {
    for ordering in [Ordering::None, Ordering::Key] {
        let mut run = Run::new(Ordering::Strict, 1);
        run.step(Step::Commit { chat: 0 });
        run.step(Step::Commit { chat: 0 });
        run.step(Step::AskPage { shard: 0, events: 5 });
        run.step(Step::TakePage);
        run.step(Step::Send);
        run.step(Step::Outcome { pick: 0, accepted: false });
        run.step(Step::TakeOutbox { shard: 0 });
        run.step(Step::Reorder { ordering });
        run.step(Step::Written { ok: true });
        run.finish();
    }
}

#[test]
fn many_rows_that_are_due_later_are_looked_for_once() {
    let mut model = Model::new(1);
    let later = now() + std::time::Duration::from_secs(3_600);
    for seq in 1..=100 {
        model.parts[0].journal.push(event(seq, 0));
        let row = Row {
            seq: Position(seq),
            state: State::Retrying { due: later },
            attempts: 1,
            parts_done: 0,
            key: seq,
            manual: false,
            attempt: None,
        };
        model.parts[0].rows.insert(Position(seq), row);
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
