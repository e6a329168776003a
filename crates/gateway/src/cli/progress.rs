//! How far something is, on standard error: a bar on a terminal, a line at every tenth elsewhere.

use std::io::{IsTerminal as _, Write};

/// Characters of the bar.
const WIDTH: usize = 30;

/// Tells how far something is.
pub(super) struct Progress<'a> {
    err: &'a mut dyn Write,
    terminal: bool,
    what: &'static str,
    /// Tenths told, where lines are written.
    told: Option<u64>,
    /// Characters of the line that stands on the terminal.
    drawn: usize,
}

impl<'a> Progress<'a> {
    /// Of `what`, for example "backup".
    pub(super) fn new(err: &'a mut dyn Write, what: &'static str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { err, terminal, what, told: None, drawn: 0 }
    }

    /// `done` of `total`; `note` says it in units that people count in.
    pub(super) fn show(&mut self, done: u64, total: u64, note: &str) {
        let done = done.min(total);
        let share = if total == 0 { 0.0 } else { done as f64 / total as f64 };
        if self.terminal {
            let filled = (share * WIDTH as f64) as usize;
            let bar = "█".repeat(filled) + &"░".repeat(WIDTH - filled);
            self.draw(&format!("{} {bar} {:3.0} %  {note}", self.what, share * 100.0));
            return;
        }
        let tenth = (share * 10.0) as u64;
        if self.told.is_none_or(|told| tenth > told) {
            self.told = Some(tenth);
            // Progress that nobody can be told of is no reason to stop.
            let _ = writeln!(self.err, "{}: {} %  {note}", self.what, tenth * 10);
        }
    }

    fn draw(&mut self, line: &str) {
        let length = line.chars().count();
        let blank = " ".repeat(self.drawn.saturating_sub(length));
        let _ = write!(self.err, "\r{line}{blank}");
        let _ = self.err.flush();
        self.drawn = length;
    }

    /// The next thing of the same kind, on a line of its own.
    pub(super) fn begin_again(&mut self) {
        self.end();
        self.told = None;
    }

    /// Leaves the line, so that something else can be said.
    pub(super) fn end(&mut self) {
        if self.drawn > 0 {
            let _ = writeln!(self.err);
            self.drawn = 0;
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_where_there_is_no_terminal() {
        let mut err = Vec::new();
        let mut progress =
            Progress { err: &mut err, terminal: false, what: "backup", told: None, drawn: 0 };
        for done in 0..=100 {
            progress.show(done, 100, "x");
        }
        drop(progress);
        let text = String::from_utf8(err).unwrap();
        assert_eq!(text.lines().count(), 11, "{text}");
        assert!(text.ends_with("backup: 100 %  x\n"), "{text}");
    }

    #[test]
    fn a_shorter_line_covers_a_longer_one() {
        let mut err = Vec::new();
        let mut progress =
            Progress { err: &mut err, terminal: true, what: "x", told: None, drawn: 0 };
        progress.show(1, 2, "a long note");
        progress.show(2, 2, "b");
        progress.end();
        drop(progress);
        let text = String::from_utf8(err).unwrap();
        let lines: Vec<usize> = text.split('\r').skip(1).map(|it| it.chars().count()).collect();
        assert_eq!(lines[0] + 1, lines[1], "{text:?}");
        assert!(text.contains("100 %"), "{text:?}");
    }
}
