//! The scene as a screen: a pure function of scene and size.

use std::time::Duration;

use super::scene::{Note, Phase, Power, Row, Scene, Tone};

/// A column of the table.
struct Column {
    heading: &'static str,
    width: usize,
    /// Figures stand to the right.
    right: bool,
    /// The narrowest screen on which it is shown.
    from: usize,
}

const fn column(heading: &'static str, width: usize, right: bool, from: usize) -> Column {
    Column { heading, width, right, from }
}

/// The table. A common terminal is 80 wide: what can be told from elsewhere is left out there.
const COLUMNS: [Column; 9] = [
    column("destination", 11, false, 0),
    column("takes", 16, false, 116),
    column("endpoint", 19, false, 100),
    column("state", 8, false, 0),
    column("lag", 6, true, 0),
    column("/s", 5, true, 0),
    column("retrying", 8, true, 0),
    column("dead", 4, true, 0),
    column("last error", 80, false, 0),
];

/// Rows that are kept for what is worth a line, at most.
const HAPPENINGS: usize = 6;

/// The screen: at most `rows` lines of at most `columns` characters.
pub(super) fn render(scene: &Scene, columns: usize, rows: usize, colours: bool) -> Vec<String> {
    let line = || Line::new(columns, colours);
    let mut lines = vec![
        title(scene, line()),
        incoming(scene, line()),
        outgoing(scene, line()),
        String::new(),
        headings(columns, line()),
    ];
    lines.extend(
        scene.rows.iter().enumerate().map(|(nth, row)| table_row(scene, nth, row, columns, line())),
    );
    lines.push(String::new());
    let free = rows.saturating_sub(lines.len() + 2);
    let happenings = HAPPENINGS.min(free / 2).min(scene.happened.len());
    lines.extend(notes(&scene.happened, happenings, &line));
    lines.push(String::new());
    let free = rows.saturating_sub(lines.len() + 1);
    lines.extend(notes(&scene.feed, free.min(scene.feed.len()), &line));
    lines.resize(lines.len().min(rows.saturating_sub(1)), String::new());
    lines.resize(rows.saturating_sub(1), String::new());
    lines.push(keys(scene, line()));
    lines
}

fn title(scene: &Scene, line: Line) -> String {
    let line = line
        .add(Tone::Strong, "Zapbus demo")
        .add(Tone::Plain, &format!("  {}  ", clock(scene.elapsed)))
        .add(Tone::Dim, &format!("seed {}  {}  gateway ", scene.seed, scene.address));
    let line = match scene.power {
        Power::Up => line.add(Tone::Good, "up"),
        Power::Down => line.add(Tone::Bad, "killed, starting again"),
    };
    let line = match scene.kills {
        0 => line,
        kills => line.add(Tone::Dim, &format!("  killed {kills}×")),
    };
    match scene.phase {
        Phase::Running => line,
        Phase::Finishing => line.add(Tone::Warning, "  nothing more comes in: finishing"),
    }
    .end()
}

fn incoming(scene: &Scene, line: Line) -> String {
    let repeated = scene.ingest.repeated_requests;
    let line = line
        .add(Tone::Strong, &format!(" in  {:>5.0}/s", scene.in_per_s))
        .add(Tone::Plain, &format!("  accepted {}", scene.accepted))
        .add(Tone::Dim, &format!("  reported twice {}", scene.ingest.duplicates));
    match repeated {
        0 => line,
        _ => line.add(Tone::Warning, &format!("  requests repeated {repeated}")),
    }
    .end()
}

fn outgoing(scene: &Scene, line: Line) -> String {
    let totals = scene.totals();
    line.add(Tone::Strong, &format!(" out {:>5.0}/s", scene.out_per_s))
        .add(Tone::Plain, &format!("  arrived {}", totals.arrived))
        .add(
            if totals.owed == 0 { Tone::Good } else { Tone::Warning },
            &format!("  still to come {}", totals.owed),
        )
        .add(Tone::Dim, &format!("  came twice {}", totals.duplicates))
        .end()
}

fn headings(columns: usize, mut line: Line) -> String {
    line = line.add(Tone::Dim, "    ");
    for column in COLUMNS.iter().filter(|column| column.from <= columns) {
        line = line.add(Tone::Dim, &padded(column.heading, column));
    }
    line.end()
}

fn table_row(scene: &Scene, nth: usize, row: &Row, columns: usize, line: Line) -> String {
    let marker = if nth == scene.chosen { '›' } else { ' ' };
    let state = match row.state.as_str() {
        "flowing" => Tone::Good,
        "probing" | "disabled" => Tone::Bad,
        "paused" => Tone::Warning,
        _ => Tone::Dim,
    };
    let warning = |some: bool| if some { Tone::Warning } else { Tone::Dim };
    let cells = [
        (Tone::Strong, row.label.clone()),
        (Tone::Dim, row.takes.clone()),
        (Tone::Dim, row.endpoint.clone()),
        (state, row.state.clone()),
        (warning(row.figures.owed > 0), row.figures.owed.to_string()),
        (Tone::Plain, format!("{:.0}", row.per_s)),
        (warning(row.retrying > 0), row.retrying.to_string()),
        (if row.dead > 0 { Tone::Bad } else { Tone::Dim }, row.dead.to_string()),
        (Tone::Bad, row.last_error.clone().unwrap_or_default()),
    ];
    let mut line = line.add(Tone::Strong, &format!(" {marker}{} ", nth + 1));
    let shown = cells.iter().zip(&COLUMNS).filter(|(_, column)| column.from <= columns);
    for ((tone, text), column) in shown {
        line = line.add(*tone, &padded(text, column));
    }
    line.end()
}

fn notes(
    notes: &std::collections::VecDeque<Note>,
    count: usize,
    line: &impl Fn() -> Line,
) -> Vec<String> {
    notes
        .iter()
        .skip(notes.len() - count)
        .map(|note| {
            line()
                .add(Tone::Dim, &format!(" {}  ", clock(note.at)))
                .add(note.tone, &note.text)
                .end()
        })
        .collect()
}

fn keys(scene: &Scene, line: Line) -> String {
    let pause = match scene.rows.get(scene.chosen) {
        Some(row) if row.state == "paused" => format!("resume {}", row.label),
        Some(row) => format!("pause {}", row.label),
        None => "pause".to_owned(),
    };
    let mut line = line;
    for (key, does) in [
        ("q", "quit"),
        ("1-4", "choose"),
        ("p", pause.as_str()),
        ("b", "burst"),
        ("k", "kill the gateway, start it again"),
    ] {
        line = line.add(Tone::Strong, &format!(" {key} ")).add(Tone::Dim, &format!("{does}  "));
    }
    line.end()
}

/// Minutes and seconds.
fn clock(elapsed: Duration) -> String {
    format!("{:02}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

/// Cut or filled to the width of a column, and a gap.
fn padded(text: &str, column: &Column) -> String {
    let width = column.width;
    let mut text = text.to_owned();
    if text.chars().count() > width {
        text = text.chars().take(width.saturating_sub(1)).chain(['…']).collect();
    }
    if column.right { format!("{text:>width$}  ") } else { format!("{text:<width$}  ") }
}

/// A line in the making, as wide as the screen at most.
struct Line {
    text: String,
    left: usize,
    colours: bool,
}

impl Line {
    fn new(columns: usize, colours: bool) -> Self {
        Self { text: String::new(), left: columns, colours }
    }

    fn add(mut self, tone: Tone, text: &str) -> Self {
        let fits: String = text.chars().take(self.left).collect();
        self.left -= fits.chars().count();
        match code(tone).filter(|_| self.colours) {
            Some(code) => self.text.push_str(&format!("\x1b[{code}m{fits}\x1b[0m")),
            None => self.text.push_str(&fits),
        }
        self
    }

    fn end(self) -> String {
        if self.colours { self.text } else { self.text.trim_end().to_owned() }
    }
}

fn code(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Plain => None,
        Tone::Dim => Some("2"),
        Tone::Strong => Some("1"),
        Tone::Good => Some("32"),
        Tone::Warning => Some("33"),
        Tone::Bad => Some("31"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::{demo::ledger::Figures, simulator::Totals};

    fn row(label: &str, takes: &str, endpoint: &str, state: &str, owed: u64) -> Row {
        Row {
            label: label.to_owned(),
            takes: takes.to_owned(),
            endpoint: endpoint.to_owned(),
            state: state.to_owned(),
            figures: Figures { arrived: 300, owed, duplicates: 1 },
            waited: owed,
            per_s: 12.4,
            retrying: owed / 10,
            dead: 0,
            last_error: (owed > 100).then(|| "HTTP 503 Service Unavailable".to_owned()),
        }
    }

    fn scene() -> Scene {
        let mut scene = Scene {
            elapsed: Duration::from_secs(72),
            seed: 7,
            address: "http://127.0.0.1:40123".to_owned(),
            power: Power::Up,
            kills: 1,
            phase: Phase::Running,
            ingest: Totals { duplicates: 9, repeated_requests: 3, ..Totals::default() },
            accepted: 1_480,
            in_per_s: 25.2,
            out_per_s: 61.0,
            rows: vec![
                row("crm", "*", "answers at once", "flowing", 0),
                row("n8n", "message.*", "500 for one in six", "flowing", 20),
                row("erp", "*", "down: 503 for all", "probing", 130),
                row("archive", "message.received,message.sent", "takes 0.1 to 0.4 s", "paused", 4),
            ],
            chosen: 3,
            feed: VecDeque::new(),
            happened: VecDeque::new(),
        };
        scene.happen(Tone::Bad, "erp is probing: HTTP 503");
        scene.happen(Tone::Good, "gateway back after 0.4 s");
        scene.came(Tone::Plain, "in   message.received:text  Ana Lima");
        scene.came(Tone::Bad, "out  n8n answered 500, \u{1b}[2Jit goes again");
        scene
    }

    #[test]
    fn the_screen_as_people_see_it() {
        insta::assert_snapshot!(render(&scene(), 120, 20, false).join("\n"));
    }

    #[test]
    fn a_common_terminal_shows_what_matters() {
        insta::assert_snapshot!(render(&scene(), 80, 24, false).join("\n"));
    }

    #[test]
    fn a_line_for_logs() {
        insta::assert_snapshot!(scene().line());
    }

    #[test]
    fn it_keeps_to_the_screen_whatever_its_size() {
        let mut scene = scene();
        for nth in 0..100 {
            scene.came(Tone::Plain, &format!("in {nth}"));
            scene.happen(Tone::Plain, "again");
        }
        for (columns, rows) in [(0, 0), (1, 1), (10, 3), (40, 12), (80, 24), (300, 100)] {
            let lines = render(&scene, columns, rows, false);
            assert_eq!(lines.len(), rows.max(1), "{columns}×{rows}");
            assert!(lines.iter().all(|line| line.chars().count() <= columns));
        }
        let last = render(&scene, 80, 24, false);
        assert!(last.iter().any(|line| line.ends_with("in 99")), "the newest is seen: {last:?}");
    }

    #[test]
    fn colours_add_nothing_but_colours() {
        let plain = render(&scene(), 100, 20, false);
        for (coloured, plain) in render(&scene(), 100, 20, true).iter().zip(plain) {
            let mut bare = String::new();
            let mut rest = coloured.as_str();
            while let Some((before, after)) = rest.split_once("\x1b[") {
                bare.push_str(before);
                rest = after.split_once('m').unwrap().1;
            }
            bare.push_str(rest);
            assert_eq!(bare.trim_end(), plain);
        }
    }
}
