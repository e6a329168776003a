//! The terminal as a screen: its size, its keys, and how it was before.

use std::io::{self, Write};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// End the demo.
    Quit,
    /// Choose the destination in this row, from 0.
    Choose(usize),
    /// Choose the one above or below.
    Up,
    Down,
    /// Pause the chosen destination, or let it go on.
    Pause,
    /// A storm.
    Burst,
    /// Kill the gateway.
    Kill,
}

/// Standard input and output as a screen. Dropping it gives the terminal back as it was.
pub(super) struct Screen {
    before: Termios,
}

impl Screen {
    /// Takes the terminal. The keys come through the receiver.
    ///
    /// # Errors
    /// When standard input is no terminal that can be set.
    pub(super) fn open() -> io::Result<(Self, mpsc::UnboundedReceiver<Key>)> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let screen = Self { before };
        // Alternate screen, no cursor.
        write_all("\x1b[?1049h\x1b[?25l")?;
        let (keys, pressed) = mpsc::unbounded_channel();
        // It ends with the process: a read from a terminal cannot be called off.
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok(count @ 1..) = io::Read::read(&mut io::stdin(), &mut bytes) {
                if read_keys(&bytes[..count]).into_iter().any(|key| keys.send(key).is_err()) {
                    return;
                }
            }
        });
        Ok((screen, pressed))
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            _ => (80, 24),
        }
    }

    /// Shows these lines from the top, at once where the terminal can.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn show(&self, lines: &[String]) -> io::Result<()> {
        let mut frame = String::from("\x1b[?2026h\x1b[H");
        for (nth, line) in lines.iter().enumerate() {
            if nth > 0 {
                frame.push_str("\r\n");
            }
            frame.push_str(line);
            frame.push_str("\x1b[K");
        }
        frame.push_str("\x1b[J\x1b[?2026l");
        write_all(&frame)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nobody left to tell when this fails.
        let _ = write_all("\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn write_all(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The keys in what was read at once. Arrows are three bytes.
fn read_keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        bytes = rest;
        keys.extend(match first {
            b'q' | b'Q' | 3 => Some(Key::Quit),
            b'p' | b'P' => Some(Key::Pause),
            b'b' | b'B' => Some(Key::Burst),
            b'k' | b'K' => Some(Key::Kill),
            digit @ b'1'..=b'9' => Some(Key::Choose(usize::from(digit - b'1'))),
            0x1b => match rest {
                [b'[' | b'O', arrow, rest @ ..] => {
                    bytes = rest;
                    match arrow {
                        b'A' => Some(Key::Up),
                        b'B' => Some(Key::Down),
                        _ => None,
                    }
                }
                _ => None,
            },
            _ => None,
        });
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_arrows_and_from_noise() {
        assert_eq!(read_keys(b"q"), [Key::Quit]);
        assert_eq!(read_keys(&[3]), [Key::Quit]);
        assert_eq!(read_keys(b"\x1b[B\x1b[Apk"), [Key::Down, Key::Up, Key::Pause, Key::Kill]);
        assert_eq!(read_keys(b"\x1b[C3x\xc3\xa9\x1b"), [Key::Choose(2)]);
    }
}
