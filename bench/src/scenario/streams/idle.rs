//! What a live connection occupies that has nothing to do, before its first event and after it.

use std::time::{Duration, Instant};

use super::{Server, fits};
use crate::{
    Failure,
    bench::{Bench, Load},
    swarm::Swarm,
};

/// Connections that come first and go again: what a server keeps from its first ones is not
/// counted as theirs.
const FIRST: usize = 64;

/// How long a server is left alone before its memory is read: longer than it keeps what was read
/// ahead for a connection.
const REST: Duration = Duration::from_secs(3);

/// What so many connections took.
struct Measured {
    rest_mib: f64,
    now_mib: f64,
    each_kib: f64,
    each_after_event_kib: f64,
    opened_per_s: f64,
    frame_bytes: usize,
}

pub(super) fn run(bench: &mut Bench) -> Result<(), Failure> {
    for &connections in bench.size.idle_streams {
        if !fits(bench, connections)? {
            continue;
        }
        let before = bench.weather()?;
        let server = Server::gateway(bench)?;
        let ours = measure(bench, &server, connections)?;
        server.stop()?;
        let server = Server::bare(ours.frame_bytes)?;
        let bare = measure(bench, &server, connections)?;
        server.stop()?;
        bench.record(
            "streams",
            format!("idle: {connections} connections"),
            vec![
                ("rest_mib", ours.rest_mib),
                ("now_mib", ours.now_mib),
                ("each_kib", ours.each_kib),
                ("each_after_event_kib", ours.each_after_event_kib),
                ("opened_per_s", ours.opened_per_s),
                ("bare_each_kib", bare.each_kib),
                ("bare_each_after_event_kib", bare.each_after_event_kib),
                ("bare_opened_per_s", bare.opened_per_s),
            ],
            before,
        )?;
    }
    Ok(())
}

fn measure(bench: &mut Bench, server: &Server, connections: usize) -> Result<Measured, Failure> {
    let once = Load::closed(1, 1);
    let first = Swarm::open(&server.door(), 0..FIRST, &[])?;
    server.through(bench, &first, 0..FIRST, once)?;
    drop(first);
    std::thread::sleep(REST);
    let rest = server.memory()?.now_mib;

    let started = Instant::now();
    let swarm = Swarm::open(&server.door(), 0..connections, &[])?;
    let took = started.elapsed();
    std::thread::sleep(REST);
    let now = server.memory()?.now_mib;
    // Each of them is alive: what is posted now reaches all.
    server.through(bench, &swarm, 0..connections, once)?;
    std::thread::sleep(REST);
    let after = server.memory()?.now_mib;
    let each = |mib: f64| (mib - rest) * 1_024.0 / connections as f64;
    Ok(Measured {
        rest_mib: rest,
        now_mib: now,
        each_kib: each(now),
        each_after_event_kib: each(after),
        opened_per_s: connections as f64 / took.as_secs_f64(),
        frame_bytes: swarm.frame_bytes(),
    })
}
