//! One seed from its beginning to its end: what is done, when, and how lives begin and end.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{runtime::Builder, task::LocalSet, time::timeout};
use zapbus_gateway::lane;
use zapbus_store::{
    RetentionPolicy,
    simulation::{Chance, Mutation, Simulation, Temper, seed_ids},
};

use crate::{
    erasing,
    node::{Bounds, Node, WallClock},
    panics,
    world::World,
};

/// Virtual days that the wall clock may leap in all: what is kept for longer is never lost to age.
const LEAPS: Duration = Duration::from_secs(20 * 24 * 3_600);

/// Every so many seeds one also erases, and may have little room.
const WIDE: u64 = 5;

/// Others erase chats and people too, and delete instances.
const MORTAL: u64 = 2;

/// Of so many seeds these have live consumers. Only they: the store is asked by them too, so that
/// every other story would become another. Those that delete instances have none: beside consumers
/// seed 47 shows a lane that sends what was erased, as `docs/design/simulation.md` says.
const LIVE: u64 = 7;
const WITH_CONSUMERS: [u64; 2] = [5, 6];

/// No life has as much to do as would take this long, in virtual time.
const LONGEST_LIFE: Duration = Duration::from_secs(60 * 24 * 3_600);

/// How a seed went.
pub(crate) struct Finished {
    pub(crate) violations: Vec<String>,
    pub(crate) hash: u64,
    pub(crate) trace: Vec<String>,
    pub(crate) lives: u32,
    pub(crate) events: usize,
    pub(crate) sends: u64,
}

/// How a life ended.
enum End {
    Crashed,
    Stopped { clean: bool },
    Done,
}

/// What drives one seed.
pub(crate) struct Driver {
    pub(crate) chance: Chance,
    pub(crate) world: Arc<World>,
    pub(crate) wall: WallClock,
    pub(crate) simulation: Simulation,
    pub(crate) temper: Temper,
    pub(crate) bounds: Bounds,
    pub(crate) policy: RetentionPolicy,
    /// Also erases.
    erases: bool,
    /// Erases chats and people too, and deletes instances.
    pub(crate) mortal: bool,
    /// Has little room.
    pub(crate) tight: bool,
    pub(crate) made: u64,
    pub(crate) made_at: u64,
    folder: PathBuf,
    steps: u64,
    pub(crate) leapt: Duration,
    /// Decides about live consumers, where there are any.
    pub(crate) live: Option<Chance>,
}

/// Runs one seed on a copy of `template`.
pub(crate) fn simulate(
    seed: u64,
    mutation: Option<Mutation>,
    template: &Path,
    instances: &[String],
) -> Finished {
    let folder = tempfile::tempdir_in(crate::roomy()).expect("a folder");
    copy(template, folder.path());
    panics::forget();
    let mut chance = Chance::new(seed);
    seed_ids(chance.fork());
    let temper = Temper {
        read: Duration::from_millis(*chance.pick(&[0, 2, 10, 60])),
        commit: Duration::from_millis(*chance.pick(&[1, 5, 20, 200])),
        failing: *chance.pick(&[0, 0, 0, 400, 60]),
    };
    let temper = match mutation {
        Some(_) => Temper { failing: 40, ..temper },
        None => temper,
    };
    let bounds = Bounds {
        lanes: lane::Config {
            max_in_flight: *chance.pick(&[2, 16, 4_096]),
            read_ahead_bytes: *chance.pick(&[1 << 10, 1 << 20, 32 << 20]),
            linger_s: *chance.pick(&[0.0, 0.5, 2.0]),
            ..lane::Config::default()
        },
        queue_bytes: *chance.pick(&[40 << 10, 16 << 20]),
        tail_bytes: *chance.pick(&[0, 20 << 10, 16 << 20]),
        batch_events: *chance.pick(&[3, 1_000]),
    };
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    let policy = RetentionPolicy {
        journal: hours(*chance.pick(&[1, 24, 24 * 7])),
        log: hours(*chance.pick(&[1, 24 * 7])),
        owed: hours(24 * 300),
        dead: hours(24 * 300),
        ..RetentionPolicy::default()
    };
    // The other seeds tell the stories that they told before there was any of this.
    let wide = seed.is_multiple_of(WIDE);
    let tight = wide && chance.one_in(2);
    let policy = if tight { erasing::tight(policy, &mut chance) } else { policy };
    let steps = 40 + chance.below(120);
    let mut driver = Driver {
        world: World::new(chance.fork(), instances.to_vec()),
        wall: WallClock::new(),
        simulation: Simulation::new(chance.fork(), temper, mutation),
        temper,
        bounds,
        policy,
        erases: wide,
        mortal: seed % WIDE == MORTAL,
        tight,
        made: 0,
        made_at: 0,
        folder: folder.path().to_owned(),
        steps,
        leapt: Duration::ZERO,
        live: (WITH_CONSUMERS.contains(&(seed % LIVE)) && seed % WIDE != MORTAL)
            .then(|| Chance::new(!seed)),
        chance,
    };
    driver.make_consumers();
    driver.world.lock().disk_fails = driver.temper.failing > 0;
    // Before the database is asked and after it; and times have steps of a millisecond.
    driver.world.lock().late = 2 * driver.temper.read.as_millis() as u64 + 2;
    let mut clean = true;
    loop {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let tasks = LocalSet::new();
        driver.world.lock().begins(clean);
        let end = tasks.block_on(&runtime, driver.live());
        // A crash: whatever was under way is gone.
        drop(tasks);
        drop(runtime);
        match end {
            End::Crashed => clean = false,
            End::Stopped { clean: drained } => clean = drained,
            End::Done => break,
        }
    }
    let world = &mut *driver.world.lock();
    Finished {
        violations: world.violations.clone(),
        hash: world.trace.hash(),
        trace: world.trace.take(),
        lives: world.life,
        events: world.events.len(),
        sends: world.targets.iter().map(|target| target.accepted).sum(),
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("the template") {
        let path = entry.expect("the template").path();
        if path.is_file() {
            let name = path.file_name().expect("a file has a name");
            std::fs::copy(&path, to.join(name)).expect("the template can be copied");
        }
    }
}

impl Driver {
    pub(crate) fn note(&self, what: &str) {
        self.world.lock().trace.note(what);
    }

    fn is_over(&self) -> bool {
        let mut world = self.world.lock();
        if let Some(panic) = panics::take() {
            world.violated(format!("panicked: {panic}"));
        }
        !world.violations.is_empty()
    }

    async fn live(&mut self) -> End {
        self.world.lock().trace.begin();
        let life = self.world.lock().life;
        self.note(&format!("life {life} begins"));
        let seed = self.chance.bits();
        let simulation = self.simulation.clone();
        let node =
            Node::start(&self.folder, &self.wall, simulation, &self.world, &self.bounds, seed)
                .await;
        let mut end = match timeout(LONGEST_LIFE, self.pass_life(&node)).await {
            Ok(end) => end,
            Err(_) => self.stuck("a request is never answered"),
        };
        if let End::Stopped { .. } = end {
            self.note("stops in order");
            self.ends(true);
            end = match timeout(LONGEST_LIFE, node.clone().stop()).await {
                Ok(clean) => End::Stopped { clean },
                Err(_) => self.stuck("the stop never ends"),
            };
        }
        if matches!(end, End::Crashed) {
            self.ends(false);
        }
        self.finish(&node);
        end
    }

    /// What consumers were promised depends on when and how a life ended.
    fn ends(&self, orderly: bool) {
        let world = &mut *self.world.lock();
        let now = world.trace.now();
        world.endings_of_lives.insert(world.life, (now, orderly));
    }

    /// Time passes, and nothing else: who waits would wait for ever.
    fn stuck(&self, what: &str) -> End {
        self.world.lock().violated(what.to_owned());
        End::Done
    }

    fn finish(&self, node: &Node) {
        let mut world = self.world.lock();
        world.trace.note("the life ends");
        world.trace.end();
        self.wall.end(node.started);
    }

    async fn pass_life(&mut self, node: &Node) -> End {
        self.allow_deaths(node).await;
        self.check_cursors(node).await;
        while self.steps > 0 {
            self.steps -= 1;
            if self.is_over() {
                return End::Done;
            }
            if self.erases && self.chance.one_in(25) {
                self.erase(node);
            }
            if self.mortal {
                match self.chance.below(75) {
                    0..3 => self.erase_some(node),
                    3 => self.end_instance(node),
                    4..7 => self.put_away(node).await,
                    _ => {}
                }
            }
            self.touch_consumers(node);
            match self.chance.below(100) {
                0..2 => {
                    self.wait(Duration::from_millis(self.chance.clone().below(30))).await;
                    self.note("crash");
                    return End::Crashed;
                }
                2 => return End::Stopped { clean: false },
                3..38 => self.post(node),
                38..56 => self.pass_time().await,
                56..66 => self.change_mood(),
                66..85 => self.touch_target(node).await,
                85..89 => self.touch_run(node),
                89..93 => self.redeliver(node),
                93..96 => self.prune(node),
                96 => self.leap(),
                97 => self.check_cursors(node).await,
                _ => self.check_deaths(node).await,
            }
            self.check_bounds(node);
            let breath = self.chance.delay(Duration::from_millis(300));
            self.wait(breath).await;
        }
        if !self.is_over() {
            self.heal(node).await;
        }
        if !self.is_over() {
            self.settle_consumers(node).await;
        }
        if !self.is_over() {
            self.check_all(node).await;
        }
        self.is_over();
        End::Done
    }

    pub(crate) async fn wait(&self, time: Duration) {
        if time.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(time).await;
        }
    }

    async fn pass_time(&mut self) {
        let longest = *self.chance.pick(&[50, 1_000, 20_000, 120_000, 120_000, 900_000]);
        let time = Duration::from_millis(self.chance.below(longest));
        self.wait(time).await;
    }

    fn leap(&mut self) {
        if self.chance.one_in(4) {
            let back = self.chance.below(3_600_000) as i64;
            self.wall.jump(-back);
            self.note(&format!("the clock goes back by {back} ms"));
        } else {
            let longest = *self.chance.pick(&[60, 3_600, 3 * 24 * 3_600, 6 * 24 * 3_600]);
            let leap = Duration::from_secs(self.chance.below(longest));
            if self.leapt + leap <= LEAPS {
                self.leapt += leap;
                self.wall.jump(leap.as_millis() as i64);
                self.note(&format!("the clock leaps by {leap:?}"));
            }
        }
        self.world.lock().forget_rates();
    }
}
