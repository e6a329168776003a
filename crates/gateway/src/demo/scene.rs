//! What the demo shows, at one moment: told as a screen, as a line, or as JSON.

use std::{collections::VecDeque, time::Duration};

use serde_json::{Value, json};

use super::ledger::Figures;
use crate::simulator::Totals;

/// Lines that are remembered of what came and what happened.
const REMEMBERED: usize = 60;

/// How a word is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Dim,
    Strong,
    Good,
    Warning,
    Bad,
}

/// One line of what came or happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// From the start of the demo.
    pub(super) at: Duration,
    /// How it is meant.
    pub(super) tone: Tone,
    /// In words, without control characters.
    pub(super) text: String,
}

/// What the gateway does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    /// It runs.
    Up,
    /// It was killed and is being started again.
    Down,
}

/// Whether more comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The simulator posts.
    Running,
    /// What was accepted has yet to arrive.
    Finishing,
}

/// One destination.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// Its label.
    pub(super) label: String,
    /// Which events it takes.
    pub(super) takes: String,
    /// How its endpoint behaves right now.
    pub(super) endpoint: String,
    /// `flowing`, `probing`, `paused`, `disabled`, or `…` before anything is known.
    pub(super) state: String,
    /// What arrived, what is owed (its lag), what came twice.
    pub(super) figures: Figures,
    /// The most that was owed since its state last changed.
    pub(super) waited: u64,
    /// Arrivals per second lately.
    pub(super) per_s: f64,
    /// Deliveries that will be tried again.
    pub(super) retrying: u64,
    /// Deliveries given up.
    pub(super) dead: u64,
    /// The last failure while something is wrong.
    pub(super) last_error: Option<String>,
}

/// Everything that is shown.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    /// Since the demo began.
    pub(super) elapsed: Duration,
    /// What reproduces the traffic.
    pub(super) seed: u64,
    /// Where the gateway is.
    pub(super) address: String,
    /// Whether it is there.
    pub(super) power: Power,
    /// How often it was killed.
    pub(super) kills: u32,
    /// Whether more comes in.
    pub(super) phase: Phase,
    /// What the simulator did.
    pub(super) ingest: Totals,
    /// Events accepted, each once.
    pub(super) accepted: u64,
    /// Events accepted and arrived per second lately.
    pub(super) in_per_s: f64,
    pub(super) out_per_s: f64,
    /// The destinations.
    pub(super) rows: Vec<Row>,
    /// Which of them the keys are about.
    pub(super) chosen: usize,
    /// What came and went, newest last.
    pub(super) feed: VecDeque<Note>,
    /// What is worth a line, newest last.
    pub(super) happened: VecDeque<Note>,
}

impl Scene {
    /// Adds what came in or went out.
    pub(super) fn came(&mut self, tone: Tone, text: &str) {
        remember(&mut self.feed, self.elapsed, tone, text);
    }

    /// Adds what is worth a line.
    pub(super) fn happen(&mut self, tone: Tone, text: &str) {
        remember(&mut self.happened, self.elapsed, tone, text);
    }

    /// All destinations together.
    pub(super) fn totals(&self) -> Figures {
        self.rows.iter().fold(Figures::default(), |sum, row| Figures {
            arrived: sum.arrived + row.figures.arrived,
            owed: sum.owed + row.figures.owed,
            duplicates: sum.duplicates + row.figures.duplicates,
        })
    }

    /// One line for a log.
    pub(super) fn line(&self) -> String {
        let totals = self.totals();
        let rows: Vec<String> = self
            .rows
            .iter()
            .map(|row| {
                let mut text = format!("{} {}", row.label, row.state);
                if row.figures.owed > 0 {
                    text.push_str(&format!(" lag {}", row.figures.owed));
                }
                if row.retrying > 0 {
                    text.push_str(&format!(" retrying {}", row.retrying));
                }
                text
            })
            .collect();
        let gateway = match self.power {
            Power::Up => "",
            Power::Down => "  gateway down",
        };
        format!(
            "{:>4} s  in {:.0}/s accepted {}  out {:.0}/s arrived {} owed {}{gateway}  | {}",
            self.elapsed.as_secs(),
            self.in_per_s,
            self.accepted,
            self.out_per_s,
            totals.arrived,
            totals.owed,
            rows.join(" | ")
        )
    }

    /// One object for a program.
    pub(super) fn json(&self) -> Value {
        let totals = self.totals();
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "label": row.label,
                    "state": row.state,
                    "arrived": row.figures.arrived,
                    "owed": row.figures.owed,
                    "duplicates": row.figures.duplicates,
                    "retrying": row.retrying,
                    "dead": row.dead,
                    "last_error": row.last_error,
                })
            })
            .collect();
        json!({
            "seconds": self.elapsed.as_secs(),
            "gateway": match self.power { Power::Up => "up", Power::Down => "down" },
            "kills": self.kills,
            "accepted": self.accepted,
            "arrived": totals.arrived,
            "owed": totals.owed,
            "duplicates": totals.duplicates,
            "requests_repeated": self.ingest.repeated_requests,
            "destinations": rows,
        })
    }
}

fn remember(notes: &mut VecDeque<Note>, at: Duration, tone: Tone, text: &str) {
    if notes.len() == REMEMBERED {
        notes.pop_front();
    }
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    notes.push_back(Note { at, tone, text });
}
