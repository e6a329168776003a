//! The events that are posted: one KiB of native ingest, stamped with run and number.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use serde_json::json;

use crate::ledger::CHATS;

/// Bytes of one event as it is posted.
pub(crate) const SIZE: usize = 1_024;

/// What every id begins with; then four digits of the run, a dash, ten of the event.
const MARK: &[u8] = b"zbench-";

/// Digits that stand for them in the template.
const RUN: &[u8] = b"7777";
const NUMBER: &[u8] = b"8888888888";
const CHAT: &[u8] = b"9999955555";

/// What stands before the position in an envelope of the gateway.
const SEQ: &[u8] = b"\"seq\":";

static FIND_MARK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));
static FIND_SEQ: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(SEQ));

/// An event of one run with the places that change from one to the next.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    text: Vec<u8>,
    numbers: Vec<usize>,
    chats: Vec<usize>,
}

impl Template {
    /// Events of this run. They carry their id as the key by which a repeat is recognised.
    pub(crate) fn new(run: u32) -> Self {
        Self::sized(run, SIZE)
    }

    /// The same with so many bytes each, if they are enough for what an event must have.
    pub(crate) fn sized(run: u32, size: usize) -> Self {
        let chat = String::from_utf8_lossy(CHAT);
        let id = format!(
            "{}{}-{}",
            String::from_utf8_lossy(MARK),
            String::from_utf8_lossy(RUN),
            String::from_utf8_lossy(NUMBER)
        );
        let event = |text: &str| {
            let address = json!({
                "id": format!("551{chat}@s.whatsapp.net"), "kind": "user", "phone": format!("551{chat}"),
            });
            json!({
                "type": "message.received",
                "id": id,
                "data": {
                    "message": { "id": id, "chat": address["id"], "from_me": false },
                    "chat": address,
                    "sender": address,
                    "content": { "kind": "text", "body": text },
                },
            })
            .to_string()
        };
        let room = size.saturating_sub(event("").len());
        let words = "Bom dia! O pedido saiu hoje e chega amanha de manha. ".repeat(room / 50 + 1);
        let mut text = event(&words[..room]).into_bytes();
        let runs: Vec<usize> = memmem::find_iter(&text, RUN).collect();
        for at in runs {
            text[at..at + RUN.len()].copy_from_slice(format!("{:04}", run % 10_000).as_bytes());
        }
        let numbers = memmem::find_iter(&text, NUMBER).collect();
        let chats = memmem::find_iter(&text, CHAT).collect();
        Self { text, numbers, chats }
    }

    /// Appends event `number`.
    pub(crate) fn write(&self, number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.text);
        for at in &self.numbers {
            put(&mut out[start + at..start + at + NUMBER.len()], number);
        }
        for at in &self.chats {
            put(&mut out[start + at..start + at + CHAT.len()], number % CHATS);
        }
    }

    /// Bytes of one event.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }
}

/// Decimal digits, filled with zeros.
fn put(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Run and number of the first event in `body`.
pub(crate) fn read_id(body: &[u8]) -> Option<(u32, u64)> {
    let at = FIND_MARK.find(body)? + MARK.len();
    let id = body.get(at..at + RUN.len() + 1 + NUMBER.len())?;
    let number = |digits: &[u8]| -> Option<u64> {
        digits.iter().try_fold(0_u64, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0'))
        })
    };
    Some((number(&id[..RUN.len()])? as u32, number(&id[RUN.len() + 1..])?))
}

/// Where the journal has the first event in `body`; what comes straight from the generator has no
/// position.
pub(crate) fn position(body: &[u8]) -> Option<u64> {
    digits(&body[FIND_SEQ.find(body)? + SEQ.len()..])
}

/// The number that `bytes` begin with.
pub(crate) fn digits(bytes: &[u8]) -> Option<u64> {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..count]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_kib_and_knows_its_number() {
        let template = Template::new(42);
        let mut out = Vec::new();
        template.write(1_234_567, &mut out);
        assert_eq!(out.len(), SIZE);
        assert_eq!(template.len(), SIZE);
        assert_eq!(read_id(&out), Some((42, 1_234_567)));
        let event: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(event["data"]["chat"]["phone"], "5510000000567");
        assert_eq!(event["id"], event["data"]["message"]["id"]);
        assert_eq!(read_id(b"nothing"), None);
        assert_eq!(Template::sized(1, 1_300).len(), 1_300);
        assert_eq!(position(br#"{"seq":1204,"id":"x"}"#), Some(1_204));
        assert_eq!(position(&out), None);
    }
}
