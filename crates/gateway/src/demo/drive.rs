//! The demo's course: keys, kills, and its end.

use std::{
    io::{self, Write},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    DemoError, Options, Show,
    process::Gateway,
    scene::{Phase, Power, Tone},
    stage::{Demo, Starting},
    terminal::{Key, Screen},
    view,
};
use crate::simulator::Stopped;

/// How often the screen is drawn, and a line is written.
const FRAME: Duration = Duration::from_millis(150);
const LINE: Duration = Duration::from_secs(1);

/// How long what was accepted may take to arrive once nothing more comes in.
const FINISH: Duration = Duration::from_secs(60);

/// People a burst writes to.
const CROWD: usize = 120;

impl Demo {
    /// Until everything has arrived, or nobody wants to wait for it.
    pub(super) async fn go(
        &mut self,
        options: &Options,
        insist: &CancellationToken,
        out: &mut dyn Write,
    ) -> Result<(), DemoError> {
        let (screen, mut keys) = match options.show {
            Show::Screen { .. } => {
                let (screen, keys) = Screen::open().map_err(DemoError::io("use the terminal"))?;
                (Some(screen), keys)
            }
            Show::Lines | Show::Json => (None, mpsc::unbounded_channel().1),
        };
        let mut frames = tokio::time::interval(FRAME);
        let mut lines = tokio::time::interval_at(self.begun + LINE, LINE);
        let kill_every = options.kill_every.unwrap_or(Duration::MAX / 4);
        let mut next_kill = self.begun.checked_add(kill_every);
        let mut finishing: Option<Instant> = None;
        loop {
            tokio::select! {
                ended = &mut self.simulator, if finishing.is_none() => {
                    simulated(ended)?;
                    self.finish();
                    finishing = Some(Instant::now());
                }
                started = started(&mut self.starting) => self.back(started?),
                () = ended(&mut self.gateway) => return Err(self.died()),
                Some(attempt) = self.attempts.recv() => self.note(&attempt),
                Some(text) = self.came.recv() => self.scene.came(Tone::Plain, &text),
                Some(text) = self.complaints.1.recv() => self.scene.happen(Tone::Bad, &text),
                Some(key) = keys.recv() => {
                    // Who asks twice does not want to wait.
                    if key == Key::Quit && self.stop.is_cancelled() {
                        return Ok(());
                    }
                    self.press(key).await?;
                }
                () = insist.cancelled() => return Ok(()),
                _ = frames.tick() => {
                    self.look();
                    if finishing.is_none() && next_kill.is_some_and(|at| at <= Instant::now()) {
                        self.kill().await?;
                        next_kill = Instant::now().checked_add(kill_every);
                    }
                    if let (Some(screen), Show::Screen { colours }) = (&screen, options.show) {
                        let (columns, rows) = screen.size();
                        let frame = view::render(&self.scene, columns, rows, colours);
                        screen.show(&frame).map_err(DemoError::io("draw"))?;
                    }
                    let over = |since: Instant| {
                        self.scene.totals().owed == 0 || since.elapsed() > FINISH
                    };
                    if finishing.is_some_and(over) && self.starting.is_none() {
                        return Ok(());
                    }
                }
                _ = lines.tick(), if screen.is_none() => {
                    self.look();
                    self.tell(options.show, out).map_err(DemoError::io("write the output"))?;
                }
            }
        }
    }

    /// A line of what is, and before it what happened since the last one.
    fn tell(&mut self, show: Show, out: &mut dyn Write) -> io::Result<()> {
        if show == Show::Json {
            writeln!(out, "{}", self.scene.json())?;
        } else {
            for note in self.scene.happened.drain(..) {
                writeln!(out, "        {}", note.text)?;
            }
            writeln!(out, "{}", self.scene.line())?;
        }
        out.flush()
    }

    /// Nothing more comes in: whatever stands in the way of what is owed is taken away.
    fn finish(&mut self) {
        self.scene.phase = Phase::Finishing;
        self.stop.cancel();
        self.receiver.heal();
        self.scene.happen(Tone::Strong, "nothing more comes in; every endpoint is well now");
        for nth in 0..self.scene.rows.len() {
            if self.scene.rows[nth].state == "paused" {
                self.pause(nth, false);
            }
        }
    }

    async fn press(&mut self, key: Key) -> Result<(), DemoError> {
        let last = self.scene.rows.len() - 1;
        match key {
            Key::Quit => self.stop.cancel(),
            Key::Choose(nth) => self.scene.chosen = nth.min(last),
            Key::Up => self.scene.chosen = self.scene.chosen.saturating_sub(1),
            Key::Down => self.scene.chosen = (self.scene.chosen + 1).min(last),
            Key::Pause => {
                let chosen = self.scene.chosen;
                self.pause(chosen, self.scene.rows[chosen].state != "paused");
            }
            Key::Burst => {
                self.storms.start(CROWD);
                let text = format!("a campaign goes to {CROWD} people; they will answer");
                self.scene.happen(Tone::Strong, &text);
            }
            Key::Kill => self.kill().await?,
        }
        Ok(())
    }

    /// Pauses a destination or lets it go on, beside everything else.
    fn pause(&mut self, nth: usize, pause: bool) {
        let (api, id, complain) =
            (self.api.clone(), self.ids[nth].clone(), self.complaints.0.clone());
        tokio::spawn(async move {
            if let Err(error) = api.pause(&id, pause).await {
                let _ = complain.send(error.to_string());
            }
        });
    }

    /// Kills the gateway and begins to start it again.
    async fn kill(&mut self) -> Result<(), DemoError> {
        let Some(gateway) = self.gateway.take() else { return Ok(()) };
        gateway.kill().await?;
        self.scene.kills += 1;
        self.scene.power = Power::Down;
        let owed = self.ledger().totals().owed;
        let text = format!("gateway killed (SIGKILL) with {owed} deliveries still to come");
        self.scene.happen(Tone::Bad, &text);
        let (setup, log) = (self.setup.clone(), self.log.clone());
        let start = Box::pin(async move { Gateway::start(&setup, &log).await });
        self.starting = Some((Instant::now(), start));
        Ok(())
    }

    /// The gateway takes events again.
    fn back(&mut self, (gateway, took): (Gateway, Duration)) {
        self.gateway = Some(gateway);
        self.starting = None;
        self.scene.power = Power::Up;
        let text = format!("gateway back after {:.1} s, over the same folder", took.as_secs_f64());
        self.scene.happen(Tone::Good, &text);
    }

    fn died(&mut self) -> DemoError {
        self.gateway = None;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().last().unwrap_or("no word in its log");
        DemoError::Gateway(format!("it ended by itself: {last}"))
    }
}

/// Waits for the gateway that is being started; for ever when none is.
async fn started(
    starting: &mut Option<(Instant, Starting)>,
) -> Result<(Gateway, Duration), DemoError> {
    match starting {
        Some((since, start)) => {
            let gateway = start.await?;
            Ok((gateway, since.elapsed()))
        }
        None => std::future::pending().await,
    }
}

/// Waits for the gateway to end by itself; for ever when none runs.
async fn ended(gateway: &mut Option<Gateway>) {
    match gateway {
        Some(gateway) => gateway.ended().await,
        None => std::future::pending().await,
    }
}

fn simulated(ended: Result<Result<(), Stopped>, tokio::task::JoinError>) -> Result<(), DemoError> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Stopped::Unreachable(reason))) => Err(DemoError::Simulator(reason)),
        Ok(Err(Stopped::Refused(refusal))) => {
            Err(DemoError::Simulator(format!("{}: {}", refusal.status, refusal.problem)))
        }
        Err(error) => Err(DemoError::Simulator(error.to_string())),
    }
}
