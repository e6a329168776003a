//! The delivery log.

use std::collections::HashMap;

use super::{Ages, Ground, Left, Progress};
use crate::{fault::Result, retention::Pruned};

/// Walks through the log, oldest rows first.
pub(super) fn by_age(
    tx: &mut dyn Ground,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let young = ages.before(ages.policy.log);
    let dead_young = ages.before(ages.policy.dead.max(ages.policy.log));
    let mut cursors = HashMap::new();
    loop {
        let wanted = left.page();
        let at = tx.pruner().log_at;
        let mut page = tx.lines(at, wanted)?;
        page.truncate(page.partition_point(|line| line.created_at < young));
        left.spend(page.len());
        for line in &page {
            tx.pruner().log_at = line.n;
            let old = match line.status {
                0 | 4 | 5 => line.updated_at < young,
                // A dead letter is kept as long as its event.
                3 => line.updated_at < dead_young,
                _ => false,
            };
            if !old {
                continue;
            }
            // Beyond the cursor a row is what keeps its event from being sent again.
            let cursor = match cursors.get(&(line.destination, line.run)) {
                Some(cursor) => *cursor,
                None => {
                    let cursor = tx.cursor(line.destination, line.run)?;
                    cursors.insert((line.destination, line.run), cursor);
                    cursor
                }
            };
            if line.seq <= cursor {
                tx.delete_line(line)?;
                pruned.deliveries += 1;
            }
        }
        if page.len() < wanted {
            tx.pruner().log_at = 0;
            return Ok(Progress::Round);
        }
        if left.is_used_up() {
            return Ok(Progress::Going);
        }
    }
}
