//! A gateway with the shim in it, and the knobs that make it misbehave.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;

use crate::load::{Api, Load, MAX_IN_FLIGHT, Shape, Target, binary::Served, configure};

/// The numbers in the control file, in the order of the shim's `enum knob`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Knob {
    /// What writes and truncations fail with; 0: they work.
    WriteErrno,
    /// Which files that concerns.
    WriteFiles,
    /// What syncs fail with.
    SyncErrno,
    /// So many syncs fail; -1: all.
    SyncLeft,
    /// Which files that concerns.
    SyncFiles,
    /// 1: a failed sync loses what was written since the last good one.
    SyncLoses,
    /// A sync takes so much longer.
    SyncDelayMs,
    /// What opening for writing, making and renaming fail with.
    OpenErrno,
    /// What the disk says is free, plus 1; 0: the truth.
    FreeBytes,
    /// How far the clock of the computer is off.
    ClockMs,
    /// The n-th write from now stops half-way, and the process with it.
    TornLeft,
    /// Which files that concerns.
    TornFiles,
    /// Faults that happened.
    Hits,
    /// How many there are.
    Count,
}

/// Files that a fault concerns; sums of them too.
pub(crate) const DATABASE: i64 = 1;
pub(crate) const LOG: i64 = 2;
pub(crate) const ALL: i64 = 7;

/// Linux's numbers, the same on every architecture that matters here.
pub(crate) const EIO: i64 = 5;
pub(crate) const ENOSPC: i64 = 28;
pub(crate) const EROFS: i64 = 30;

/// The control file, as the shim has it mapped.
pub(crate) struct Control(File);

impl Control {
    fn make(path: &Path) -> Self {
        let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(Knob::Count as u64 * 8).unwrap();
        Self(file)
    }

    pub(crate) fn set(&self, knob: Knob, value: i64) {
        self.0.write_all_at(&value.to_ne_bytes(), knob as u64 * 8).unwrap();
    }

    pub(crate) fn get(&self, knob: Knob) -> i64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, knob as u64 * 8).unwrap();
        i64::from_ne_bytes(bytes)
    }

    /// Everything works again.
    pub(crate) fn heal(&self) {
        for knob in [
            Knob::WriteErrno,
            Knob::SyncErrno,
            Knob::SyncLeft,
            Knob::SyncLoses,
            Knob::SyncDelayMs,
            Knob::OpenErrno,
            Knob::FreeBytes,
            Knob::TornLeft,
        ] {
            self.set(knob, 0);
        }
    }
}

/// Compiled once per test process.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/shim.c");
        let made = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("fault-shim-{}.so", std::process::id()));
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let compiled = Command::new(&compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&made)
            .arg(&source)
            .args(["-ldl", "-lpthread"])
            .status();
        let status =
            compiled.unwrap_or_else(|error| panic!("{compiler}: {error}: a C compiler is needed"));
        assert!(status.success(), "{compiler} does not compile {}", source.display());
        made
    })
}

/// A gateway under load whose disk and clock can be made to misbehave.
pub(crate) struct Rig {
    pub(crate) control: Control,
    pub(crate) gateway: Served,
    pub(crate) api: Api,
    pub(crate) load: Load,
    pub(crate) targets: Vec<Target>,
    folder: TempDir,
}

impl Rig {
    /// Started, set up, and some events on their way.
    pub(crate) async fn start() -> Self {
        Self::start_with(Shape { writers: 4, ..Shape::default() }, Vec::new()).await
    }

    /// With this load, and with more targets than the two good ones.
    pub(crate) async fn start_with(shape: Shape, more: Vec<Target>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = Control::make(&folder.path().join("control"));
        let gateway = serve(folder.path()).await;
        let mut targets =
            vec![Target::good("key", "key").await, Target::good("strict", "strict").await];
        targets.extend(more);
        let api = Api::new(&gateway.url);
        api.set_up(&targets).await;
        let load = Load::start(&gateway.url, shape);
        load.goes_on(50).await;
        Self { control, gateway, api, load, targets, folder }
    }

    /// Starts it again after its end.
    pub(crate) async fn start_again(&mut self) {
        self.gateway = serve(self.folder.path()).await;
        self.api = Api::new(&self.gateway.url);
        self.load.moved_to(&self.gateway.url);
    }

    /// The fault is on: callers are refused, readiness says why, nothing is answered 2xx.
    pub(crate) async fn expect_refusals(&self, why: &str) {
        self.load.is_refused(20).await;
        let (status, said) = self.api.readiness().await;
        assert_eq!(status, 503, "{said}");
        assert_eq!(said["reason"], "store_unavailable", "{said}");
        let detail = said["detail"].as_str().unwrap();
        assert!(detail.contains(why), "{why:?} expected in: {said}");
        let taken = self.load.acknowledged();
        self.load.is_refused(20).await;
        assert_eq!(self.load.acknowledged(), taken, "answered 2xx while nothing can be written");
    }

    /// The fault is over: events are taken again without a restart, and it is ready.
    pub(crate) async fn expect_recovery(&self) {
        self.control.heal();
        self.load.goes_on(100).await;
        let (status, said) = self.api.readiness().await;
        assert_eq!(status, 200, "{said}");
    }

    /// All that was answered has arrived, in order and once, before and after a kill and a
    /// restart.
    pub(crate) async fn finish(mut self) {
        let acknowledged = self.load.stop().await;
        let hits = self.control.get(Knob::Hits);
        println!("{} events acknowledged, {hits} faults", acknowledged.len());
        for target in &self.targets {
            target.expect_all(&acknowledged).await;
            target.expect_order(0);
        }
        self.end_killed(&acknowledged, 1).await;
    }

    /// A last kill and start: what was in flight may come again, and nothing else does.
    pub(crate) async fn end_killed(self, acknowledged: &[String], kills: usize) {
        let Self { gateway, folder, targets, .. } = self;
        gateway.kill().await;
        let gateway = serve(folder.path()).await;
        let mut load = Load::start(&gateway.url, Shape { writers: 1, ..Shape::default() });
        // The first events are known: they are answered as the duplicates they are.
        load.goes_on(acknowledged.len().min(200)).await;
        load.stop().await;
        for target in &targets {
            target.expect_all(acknowledged).await;
            target.expect_order(MAX_IN_FLIGHT * kills);
        }
        gateway.kill().await;
    }
}

async fn serve(folder: &Path) -> Served {
    // The data folder as the kernel calls it, whatever link the temporary folder is behind.
    let data = folder.canonicalize().unwrap().join("data");
    Served::start(folder, |command| {
        configure(command);
        command
            .env("LD_PRELOAD", shim())
            .env("FAULT_SHIM_FOLDER", data)
            .env("FAULT_SHIM_CONTROL", folder.join("control"));
    })
    .await
}
