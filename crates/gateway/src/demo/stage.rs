//! What takes part in the demo, and how it is put together.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use zapbus_event::{
    Filter,
    traffic::{Plan, Simulated},
};

use super::{
    DemoError, Options,
    api::{Api, Destination},
    ledger::Ledger,
    process::{Gateway, Setup},
    receiver::{Attempt, PLACES, Receiver},
    scene::{Phase, Power, Scene},
    watch::{ask_after, rows},
};
use crate::{
    api::token,
    simulator::{self, Simulator, Stopped, Storms, Tally},
};

/// A gateway that is being started.
pub(super) type Starting = Pin<Box<dyn Future<Output = Result<Gateway, DemoError>> + Send>>;

/// The demo while it runs.
pub(super) struct Demo {
    pub(super) setup: Setup,
    pub(super) log: PathBuf,
    pub(super) api: Api,
    pub(super) ids: Vec<String>,
    pub(super) receiver: Receiver,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) attempts: mpsc::UnboundedReceiver<Attempt>,
    pub(super) came: mpsc::UnboundedReceiver<String>,
    pub(super) complaints: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
    pub(super) asked: watch::Receiver<Vec<Option<Destination>>>,
    pub(super) simulator: JoinHandle<Result<(), Stopped>>,
    pub(super) tally: Arc<Tally>,
    pub(super) storms: Storms,
    pub(super) stop: CancellationToken,
    pub(super) begun: Instant,
    pub(super) gateway: Option<Gateway>,
    /// The gateway that is being started after a kill, and since when.
    pub(super) starting: Option<(Instant, Starting)>,
    pub(super) scene: Scene,
    /// Accepted, and arrived at each destination, at moments of the recent past.
    pub(super) lately: VecDeque<(Instant, u64, Vec<u64>)>,
}

impl Demo {
    /// Everything that takes part, in the order in which it is needed.
    pub(super) async fn start(
        options: &Options,
        folder: PathBuf,
        stop: CancellationToken,
    ) -> Result<Self, DemoError> {
        let filters = PLACES.map(|place| {
            // The patterns are constants, and a test reads them.
            Filter::parse(place.events).unwrap_or_default()
        });
        let ledger = Arc::new(Mutex::new(Ledger::new(filters)));
        let (attempted, attempts) = mpsc::unbounded_channel();
        let (receiver, endpoints) = Receiver::start(options.seed, ledger.clone(), attempted)
            .await
            .map_err(DemoError::io("start the receiver"))?;

        let setup = Setup {
            listen: free_address().map_err(DemoError::io("find a free port"))?,
            data_dir: folder.join("data"),
            admin_token: random_token()?,
        };
        let log = folder.join("gateway.log");
        let gateway = Gateway::start(&setup, &log).await?;
        let api = Api::new(setup.listen, &setup.admin_token)?;
        let ids = api.set_up(endpoints).await?;

        let mut simulator =
            Simulator::new(plan(options), vec![api.entry()?]).map_err(DemoError::Simulator)?;
        let (tally, storms) = (simulator.tally(), simulator.storms());
        let (arrives, came) = mpsc::unbounded_channel();
        let (book, ends) = (ledger.clone(), stop.clone());
        let simulator = tokio::spawn(async move {
            let told = |answered: simulator::Answered<'_>| {
                let mut ledger = book.lock().unwrap_or_else(PoisonError::into_inner);
                ledger.accepted(answered.event, answered.id);
                // Nobody looks any more only when the demo ends.
                let _ = arrives.send(described(answered.event, answered.duplicate));
            };
            simulator.run(&ends, told).await
        });
        let asked = ask_after(api.clone(), ids.clone());
        let scene = Scene {
            elapsed: Duration::ZERO,
            seed: options.seed,
            address: format!("http://{}", setup.listen),
            power: Power::Up,
            kills: 0,
            phase: Phase::Running,
            ingest: simulator::Totals::default(),
            accepted: 0,
            in_per_s: 0.0,
            out_per_s: 0.0,
            rows: rows(),
            chosen: 0,
            feed: VecDeque::new(),
            happened: VecDeque::new(),
        };
        Ok(Self {
            setup,
            log,
            api,
            ids,
            receiver,
            ledger,
            attempts,
            came,
            complaints: mpsc::unbounded_channel(),
            asked,
            simulator,
            tally,
            storms,
            stop,
            begun: Instant::now(),
            gateway: Some(gateway),
            starting: None,
            scene,
            lately: VecDeque::new(),
        })
    }

    /// The books, for a look.
    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn plan(options: &Options) -> simulator::Options {
    simulator::Options {
        plan: Plan {
            seed: options.seed,
            rate_per_s: options.rate_per_s,
            start: (crate::clock::system())(),
            ..Plan::default()
        },
        speed: options.speed,
        count: None,
        duration: options.duration,
        // It may be killed as often as anybody likes.
        patience: Duration::MAX,
    }
}

/// An event in a few words: its type, and who it is about.
fn described(event: &Simulated, duplicate: bool) -> String {
    use zapbus_event::Data;

    let who = match &event.data {
        Data::MessageReceived(data) => data.sender.name.as_deref(),
        Data::MessageSent(data) => data.chat.name.as_deref(),
        Data::MessageStatus(data) => data.recipient.name.as_deref(),
        Data::MessageReaction(data) => data.sender.name.as_deref(),
        Data::PresenceChat(data) => data.participant.name.as_deref(),
        Data::PresenceUser(data) => data.user.name.as_deref(),
        Data::CallUpdated(data) => data.from.name.as_deref(),
        Data::GroupParticipants(data) => data.group.name.as_deref(),
        _ => None,
    };
    let facet = event.data.facet().map(|facet| format!(":{facet}")).unwrap_or_default();
    let kind = format!("{}{facet}", event.kind());
    let twice = if duplicate { "  reported twice, stored once" } else { "" };
    format!("in   {kind:<28} {}{twice}", who.unwrap_or_default())
}

/// A port of this machine that nobody has. Somebody may take it before the gateway does; then its
/// start says so.
fn free_address() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

fn random_token() -> Result<String, DemoError> {
    token::make("zb_demo_")
        .map_err(|error| DemoError::Gateway(format!("the system has no randomness: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_destinations_take_is_a_filter() {
        for place in PLACES {
            assert!(Filter::parse(place.events).is_ok(), "{}", place.label);
        }
    }
}
