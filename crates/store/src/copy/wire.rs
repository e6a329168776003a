//! Rows as `COPY … WITH (FORMAT binary)` takes them, and the sum by which both sides are compared.
//!
//! The sum is taken over exactly the bytes that were sent. The server finds the same ones with the
//! send functions of its types, which is how it writes that format itself.

use sha2::{Digest as _, Sha256};

use crate::postgres::text;

/// The type of a column in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Int,
    Bigint,
    Bool,
    Bytes,
    Text,
    Bigints,
}

impl Type {
    fn send_function(self) -> &'static str {
        match self {
            Self::Int => "int4send",
            Self::Bigint => "int8send",
            Self::Bool => "boolsend",
            Self::Bytes => "byteasend",
            Self::Text => "textsend",
            Self::Bigints => "array_send",
        }
    }
}

/// What begins and ends a stream of rows.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
const BIGINT_OID: i32 = 20;
/// Bytes of a row's SHA-256 that count: the sum of so many rows as there may be fits its type.
const SUMMED: usize = 7;

/// Rows on their way.
pub(super) struct Rows {
    bytes: Vec<u8>,
    begun: usize,
    columns: i16,
    pub(super) count: u64,
    pub(super) sum: u128,
}

impl Rows {
    /// Of so many columns.
    pub(super) fn new(columns: usize) -> Self {
        let columns = i16::try_from(columns).unwrap_or(i16::MAX);
        Self { bytes: HEADER.to_vec(), begun: HEADER.len(), columns, count: 0, sum: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The next row. Every column has to be put, in order, and then [`Rows::end`] be called.
    pub(super) fn begin(&mut self) {
        self.bytes.extend_from_slice(&self.columns.to_be_bytes());
        self.begun = self.bytes.len();
    }

    pub(super) fn end(&mut self) {
        let digest = Sha256::digest(&self.bytes[self.begun..]);
        let mut counted = [0; 8];
        counted[8 - SUMMED..].copy_from_slice(&digest[..SUMMED]);
        self.sum += u128::from(u64::from_be_bytes(counted));
        self.count += 1;
    }

    fn field(&mut self, value: &[u8]) {
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
    }

    pub(super) fn null(&mut self) {
        self.bytes.extend_from_slice(&NULL);
    }

    pub(super) fn int(&mut self, value: Option<i64>) {
        match value {
            Some(value) => {
                let value = i32::try_from(value).unwrap_or(i32::MAX);
                self.field(&value.to_be_bytes());
            }
            None => self.null(),
        }
    }

    pub(super) fn bigint(&mut self, value: Option<i64>) {
        match value {
            Some(value) => self.field(&value.to_be_bytes()),
            None => self.null(),
        }
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.field(&[u8::from(value)]);
    }

    pub(super) fn bytes(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.field(value),
            None => self.null(),
        }
    }

    /// Text as far as the server has it: without NUL, and Unicode.
    pub(super) fn text(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => {
                let value = String::from_utf8_lossy(value);
                self.field(text(&value).as_bytes());
            }
            None => self.null(),
        }
    }

    pub(super) fn bigints(&mut self, values: Option<&[i64]>) {
        let Some(values) = values else {
            self.null();
            return;
        };
        let length = i32::try_from(values.len()).unwrap_or(i32::MAX);
        let mut array = Vec::with_capacity(20 + values.len() * 12);
        // One dimension, no nulls, the type, how many from which index on.
        for number in [1, 0, BIGINT_OID, length, 1] {
            array.extend_from_slice(&number.to_be_bytes());
        }
        for value in values {
            array.extend_from_slice(&8_i32.to_be_bytes());
            array.extend_from_slice(&value.to_be_bytes());
        }
        self.field(&array);
    }

    /// The whole stream.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(&TRAILER);
        self.bytes
    }
}

/// The question for how many rows a table has and their sum, as text.
pub(super) fn sum_query(table: &str, columns: &[(&str, Type)]) -> String {
    let fields: Vec<String> = columns
        .iter()
        .map(|(name, kind)| {
            let sent = format!("{}({name})", kind.send_function());
            format!("coalesce(int4send(octet_length({sent})) || {sent}, '\\xffffffff'::bytea)")
        })
        .collect();
    format!(
        "SELECT count(*), coalesce(sum(('x' || encode(substring(sha256({}) FROM 1 FOR {SUMMED}), \
         'hex'))::bit({})::bigint), 0)::text FROM {table}",
        fields.join(" || "),
        SUMMED * 8
    )
}
