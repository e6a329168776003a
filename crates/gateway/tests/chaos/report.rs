//! How long takeovers took.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    cluster::Done,
    leases::{History, Takeover},
    schedule::Fault,
};

/// After `SIGKILL` others run a node's lanes within this.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// A node that is asked to stop gives its lanes away: others must not wait for the end of the lease.
const AFTER_STOP: Duration = Duration::from_secs(3);

/// What became of the lanes of the node that a fault concerned.
fn takeovers(done: &Done, history: &History) -> Vec<Takeover> {
    let node = done.node.as_deref();
    node.map_or_else(Vec::new, |node| history.takeovers(node, done.began))
}

/// Per kind of fault: how many there were, how many shards went to another node, and how long that
/// took.
pub(crate) fn table(all: &[Done], history: &History) -> String {
    let mut kinds: BTreeMap<&str, (usize, Vec<Duration>, Vec<Duration>)> = BTreeMap::new();
    for done in all {
        let (count, after, gaps) = kinds.entry(done.fault.kind()).or_default();
        *count += 1;
        // A short fault takes nothing from a node: what happens to its shards later is another story.
        let lasted = done.ended.saturating_sub(done.began) + AFTER_KILL;
        for takeover in takeovers(done, history) {
            if takeover.after.is_some_and(|after| after < lasted) {
                after.extend(takeover.after);
                gaps.extend(takeover.gap);
            }
        }
    }
    let mut text = "| fault | times | shards taken over | after, median (most) | without anybody, \
                    median (most) |\n| --- | --- | --- | --- | --- |\n"
        .to_owned();
    for (kind, (count, mut after, mut gaps)) in kinds {
        let taken = after.len();
        let (after, gaps) = (spread(&mut after), spread(&mut gaps));
        text.push_str(&format!("| {kind} | {count} | {taken} | {after} | {gaps} |\n"));
    }
    text.push_str(&format!("{} requests were on their way at a takeover", history.stale()));
    text
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    match &*times {
        [] => "–".to_owned(),
        [.., most] => {
            let most = most.as_secs_f64();
            let median = times[times.len() / 2].as_secs_f64();
            format!("{median:.1} s ({most:.1})")
        }
    }
}

/// Processes per processor that want to run, beyond which times say nothing.
const SWAMPED: f64 = 4.0;

/// Where nothing else was wrong, lanes of a node that is gone are run by others soon.
pub(crate) fn expect_quick_takeovers(all: &[Done], history: &History) {
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    for done in all.iter().filter(|done| done.alone) {
        let limit = match done.fault {
            Fault::Kill(_) => AFTER_KILL,
            Fault::Restart(_) => AFTER_STOP,
            _ => continue,
        };
        if done.load > SWAMPED * processors {
            println!("{:?}: not held to its time under a load of {}", done.fault, done.load);
            continue;
        }
        for takeover in takeovers(done, history) {
            let in_time = takeover.after.is_some_and(|after| after <= limit);
            assert!(in_time, "{:?}: expected within {limit:?}, got {takeover:?}", done.fault);
        }
    }
}
