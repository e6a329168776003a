//! What is neither event nor delivery: whole bodies, deduplication keys, answers, the audit log,
//! files nobody refers to.

use std::time::Duration;

use zapbus_event::Timestamp;

use super::{Ages, Ground, Left, Progress};
use crate::{fault::Result, retention::Pruned};

/// How often the folders of blobs are looked through.
const SWEEP: Duration = Duration::from_secs(24 * 3600);
const SHELVES: u16 = 256;

/// Where these passes stand.
#[derive(Clone, Default)]
pub(crate) struct Others {
    /// The time and row of the last body that was looked at.
    body_at: (i64, i64),
    /// The next of the folders of blobs that a crash may have left something in.
    shelf: u16,
    /// When the last of them was looked through.
    swept_at: Option<Timestamp>,
}

/// Whole bodies are kept as long as the events of their instance.
pub(super) fn bodies(
    tx: &mut dyn Ground,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let young = ages.before(ages.shortest());
    loop {
        let wanted = left.page();
        let (time, row) = tx.pruner().others.body_at;
        let page = tx.bodies((time, row), young, wanted)?;
        left.spend(page.len());
        let ended = page.len() < wanted;
        for (row, instance, received_at) in page {
            tx.pruner().others.body_at = (received_at, row);
            if received_at < ages.before(ages.of(instance)) {
                tx.delete_body(row)?;
                pruned.others += 1;
            }
        }
        if ended {
            tx.pruner().others.body_at = (0, 0);
            return Ok(Progress::Round);
        }
        if left.is_used_up() {
            return Ok(Progress::Going);
        }
    }
}

/// Deduplication keys, answers, the audit log, secrets and destinations deleted long ago.
pub(super) fn small_things(
    tx: &mut dyn Ground,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    Ok(if tx.small_things(ages, left, pruned)? { Progress::Going } else { Progress::Round })
}

/// What nobody refers to and a crash may have left: looked for in small parts, once a day.
pub(super) fn leftovers(
    tx: &mut dyn Ground,
    _: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let now = tx.now();
    let others = &mut tx.pruner().others;
    let Ok(shelf) = u8::try_from(others.shelf) else {
        if others.swept_at.is_none_or(|last| now.since(last) >= SWEEP) {
            others.shelf = 0;
            return Ok(Progress::Going);
        }
        return Ok(Progress::Round);
    };
    others.shelf += 1;
    if others.shelf == SHELVES {
        others.swept_at = Some(now);
    }
    let removed = tx.sweep(shelf)?;
    pruned.others += removed;
    left.spend(usize::try_from(removed).unwrap_or(usize::MAX));
    Ok(if tx.pruner().others.shelf < SHELVES { Progress::Going } else { Progress::Round })
}
