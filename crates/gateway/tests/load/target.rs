//! A destination and its receiver.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    receiver::{Received, Receiver, Reply},
    tally::Tally,
};

pub(crate) const MAX_IN_FLIGHT: usize = 8;

/// How long nothing new may arrive while something is still owed.
const QUIET: Duration = Duration::from_secs(60);

/// A destination, its receiver, and what arrived there.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) receiver: Receiver,
    pub(crate) tally: Tally,
    ordering: &'static str,
    more: Value,
    /// It asks for repeats itself: they are not counted against the gateway.
    refuses: bool,
}

impl Target {
    /// One that takes everything after up to a few milliseconds: so that something is in flight
    /// at every instant.
    pub(crate) async fn good(name: impl Into<String>, ordering: &'static str) -> Self {
        let target = Self::with(name, ordering, json!({}), |request, _| {
            Reply::ok().after(Duration::from_millis(request.index as u64 * 7 % 5))
        });
        target.await.that_takes_everything()
    }

    /// One whose answer to a request `script` decides, told how often the event came before;
    /// `more` is merged into the destination. What it answers 2xx it has taken.
    pub(crate) async fn with(
        name: impl Into<String>,
        ordering: &'static str,
        more: Value,
        script: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let tally = Tally::default();
        let receiver = Receiver::forgetful(tallied(&tally, script)).await;
        Self { name: name.into(), receiver, tally, ordering, more, refuses: true }
    }

    /// Its answers are good from the beginning: what comes again was not asked for.
    pub(crate) fn that_takes_everything(self) -> Self {
        Self { refuses: false, ..self }
    }

    /// Answers something else from now on.
    pub(crate) fn script(
        &self,
        script: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static,
    ) {
        self.receiver.script(tallied(&self.tally, script));
    }

    /// Where its destination is made.
    pub(crate) fn path(&self) -> &'static str {
        if self.name == "global" { "/v1/destinations" } else { "/v1/instances/shop/destinations" }
    }

    /// The body that makes its destination.
    pub(crate) fn destination(&self) -> Value {
        let mut body = json!({
            "label": self.name,
            "channel": { "type": "webhook", "url": self.receiver.url("/") },
            "events": ["message.*"],
            "ordering": self.ordering,
            "max_in_flight": MAX_IN_FLIGHT,
        });
        let more = self.more.as_object().expect("members of the destination").clone();
        for (name, value) in more {
            match (&mut body[&name], value) {
                (Value::Object(into), Value::Object(more)) => into.extend(more),
                (into, value) => *into = value,
            }
        }
        body
    }

    /// Waits until all of `owed` is taken; else it fails.
    pub(crate) async fn expect_all(&self, owed: &[String]) {
        let missing = self.never_arrived(owed).await;
        assert!(
            missing.is_empty(),
            "{}: {} of {} acknowledged events never arrived, for example {:?}",
            self.name,
            missing.len(),
            owed.len(),
            missing.iter().take(5).collect::<Vec<_>>()
        );
    }

    /// Waits until all of `owed` is taken, or nothing new comes any more. Gives what is missing.
    pub(crate) async fn never_arrived<'a>(&self, owed: &'a [String]) -> Vec<&'a str> {
        let (mut seen, mut last) = (self.tally.accepted_count(), Instant::now());
        loop {
            let missing = self.tally.missing(owed);
            let count = self.tally.accepted_count();
            if count > seen {
                (seen, last) = (count, Instant::now());
            }
            if missing.is_empty() || last.elapsed() > QUIET {
                return missing;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// First arrivals were in order per chat, and no more than so many came again.
    pub(crate) fn expect_order(&self, repeats: usize) {
        let tallied = self.tally.so_far();
        let ordered = self.ordering == "none" || tallied.disorder.is_empty();
        let first: Vec<_> = tallied.disorder.iter().take(5).collect();
        assert!(
            ordered,
            "{}: {} first arrivals out of order (chat, newest, older): {first:?}",
            self.name,
            tallied.disorder.len(),
        );
        assert!(
            self.refuses || tallied.repeats() <= repeats,
            "{}: {} repeats, at most {repeats} expected",
            self.name,
            tallied.repeats()
        );
    }
}

fn tallied(
    tally: &Tally,
    script: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    let tally = tally.clone();
    move |request| {
        let (id, before) = tally.arrived(request);
        let reply = script(request, before);
        if reply.is_good() {
            tally.accepted(&id);
        }
        reply
    }
}
