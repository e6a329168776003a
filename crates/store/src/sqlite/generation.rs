//! A store that was restored from a backup goes on elsewhere than the one it was copied from.
//!
//! Both may have given out positions after the copy was made, so the restored one jumps far beyond
//! them and notes where: who comes with a position in between has seen events that are not here.

use rusqlite::{Connection, OptionalExtension, params};
use zapbus_event::{Position, Timestamp};

use super::{
    View,
    append::MAX_SEQ,
    fault::Result,
    row::{position, sql},
    writer,
};
use crate::registry::Activity;

/// How far positions jump with a new generation.
const JUMP: u64 = 1 << 32;
/// What a backup leaves in `meta` of its copy.
const MARK: &str = "copied";
/// Why destinations of a restored store stand still.
const REASON: &str = "restored from a backup: resume when this is the store that should deliver";

/// The mark of a copy whose destinations stand still until somebody resumes them.
const COPY: i64 = 1;
/// The mark of a copy that delivers at once.
const LIVE_COPY: i64 = 2;

/// Marks a database as a copy, which is to deliver at once or not.
pub(super) fn mark(copy: &Connection, live: bool) -> Result<()> {
    let mark = if live { LIVE_COPY } else { COPY };
    copy.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)", params![MARK, mark])?;
    Ok(())
}

/// What [`begin`] did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Begun {
    /// It was a copy.
    pub(super) restored: bool,
    /// Destinations that were paused.
    pub(super) paused: u64,
}

/// Starts a new generation if this is a copy that is opened for the first time. Unless it is to be
/// `live`, its destinations are paused: one opened to have a look at it must not send everybody's
/// backlog.
pub(super) fn begin(conn: &Connection, live: bool, now: Timestamp) -> Result<Begun> {
    let marked: Option<i64> = conn
        .query_row("SELECT value FROM meta WHERE name = ?1", [MARK], |row| row.get(0))
        .optional()?;
    let Some(mark) = marked else {
        return Ok(Begun::default());
    };
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let (old_head, last) = writer::heads(conn)?;
    let now = now.max(last);
    // Numbers stay below 2^53, however often it happens.
    let head = Position(old_head.0 + JUMP.min((MAX_SEQ - 1).saturating_sub(old_head.0) / 2));
    conn.execute(
        "INSERT INTO generation (number, old_head, first, last_received_at, began_at) \
         SELECT value + 1, ?1, ?2, ?3, ?4 FROM meta WHERE name = 'generation'",
        params![sql(old_head), sql(head) + 1, last.as_millis(), now.as_millis()],
    )?;
    conn.execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'", [])?;
    conn.execute("UPDATE meta SET value = ?1 WHERE name = 'head'", [sql(head)])?;
    conn.execute("UPDATE meta SET value = ?1 WHERE name = 'received_at'", [now.as_millis()])?;
    let mut count = 0;
    if !live && mark != LIVE_COPY {
        let paused = Activity::Paused { reason: REASON.to_owned(), since: now };
        count = conn.execute(
            "UPDATE destination SET activity = ?1, active = 0, updated_at = ?2 \
             WHERE active = 1 AND deleted_at IS NULL",
            params![serde_json::to_string(&paused)?, now.as_millis()],
        )?;
    }
    conn.execute("DELETE FROM meta WHERE name = ?1", [MARK])?;
    conn.execute_batch("COMMIT")?;
    Ok(Begun { restored: true, paused: count as u64 })
}

/// Whether a position was given out by the store that this one was copied from, after the copy.
pub(super) fn is_lost(view: View<'_>, after: Position) -> Result<bool> {
    Ok(view
        .conn
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM generation WHERE old_head < ?1 AND ?1 < first - 1)",
        )?
        .query_row([sql(after)], |row| row.get(0))?)
}

/// A position that [`is_lost`], for an event that is not here and was received at `time`, if that
/// was after the copy was made and before it was opened.
pub(super) fn lost_at(view: View<'_>, time: Timestamp) -> Result<Option<Position>> {
    let old_head: Option<i64> = view
        .conn
        .prepare_cached(
            "SELECT old_head FROM generation WHERE last_received_at <= ?1 AND ?1 < began_at \
             AND old_head + 2 < first ORDER BY number DESC LIMIT 1",
        )?
        .query_row([time.as_millis()], |row| row.get(0))
        .optional()?;
    Ok(old_head.map(|old_head| position(old_head + 1)))
}
