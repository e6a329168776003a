//! A restart that refuses nobody: somebody else keeps the port open, as systemd does.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::Client;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
};

use crate::{server::text_message, socket::Socket};

const TOKEN: &str = "zb_admin_of_the_handover_0123456789";

/// Holds a socket, gives it to the gateway as descriptor 3, and restarts the gateway for each line.
const KEEPER: &str = r#"
import os, signal, socket, sys
keeper = socket.socket()
keeper.bind(("127.0.0.1", 0))
keeper.listen(1024)
print(keeper.getsockname()[1], flush=True)
def start():
    pid = os.fork()
    if pid == 0:
        os.dup2(keeper.fileno(), 9)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(9, 3)
        os.environ["LISTEN_FDS"] = "1"
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.execv(sys.argv[1], sys.argv[1:])
    return pid
def stop(pid):
    os.kill(pid, signal.SIGTERM)
    if os.waitpid(pid, 0)[1] != 0:
        sys.exit("it did not stop well")
pid = start()
for line in sys.stdin:
    stop(pid)
    pid = start()
    print("restarted", flush=True)
stop(pid)
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_refused_while_somebody_keeps_the_port_open() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Command::new("python3");
    keeper
        .args(["-c", KEEPER, env!("CARGO_BIN_EXE_zapbus")])
        .args(["serve", "--data-dir", "data", "--log-level", "warn"])
        .env("ZAPBUS_ADMIN_TOKEN", TOKEN)
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut keeper = keeper.spawn().unwrap();
    let mut input = keeper.stdin.take().unwrap();
    let mut lines = BufReader::new(keeper.stdout.take().unwrap()).lines();
    let port = lines.next_line().await.unwrap().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let fresh = || Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(60));
    let made = fresh().build().unwrap().post(format!("{url}/v1/instances")).bearer_auth(TOKEN);
    let made = made.json(&serde_json::json!({ "name": "shop" })).send().await.unwrap();
    assert_eq!(made.status(), 201);
    let headers = [("authorization", format!("Bearer {TOKEN}"))];
    let stream = "/v1/instances/shop/stream";
    let mut socket = Socket::connect(&url, stream, &headers).await.ok().unwrap();
    assert_eq!(socket.document().await["type"], "stream.opened");

    // Callers that come all the while, each time anew.
    let (stop, posted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for caller in 0..4 {
        let (stop, posted, url) = (Arc::clone(&stop), Arc::clone(&posted), url.clone());
        let client = fresh().build().unwrap();
        callers.push(tokio::spawn(async move {
            let mut number = 0;
            while !stop.load(Ordering::SeqCst) {
                number += 1;
                let event = text_message("1", &format!("c{caller}-{number}"), "x");
                let request = client.post(format!("{url}/v1/instances/shop/events"));
                let answer = request.bearer_auth(TOKEN).json(&event).send().await;
                let answer = answer.unwrap_or_else(|error| panic!("refused: {error:?}"));
                assert_eq!(answer.status(), 200);
                posted.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    let goes_on = async |more: usize| {
        let before = posted.load(Ordering::SeqCst);
        let goes_on = async {
            while posted.load(Ordering::SeqCst) < before + more {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), goes_on).await.expect("callers go on");
    };
    goes_on(20).await;
    for _ in 0..3 {
        input.write_all(b"again\n").await.unwrap();
        let restarted = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
        assert_eq!(restarted.unwrap().unwrap().unwrap(), "restarted");
        assert_eq!(socket.closed().await.0, 1001);
        // At once: the port is open.
        socket = Socket::connect(&url, stream, &headers).await.ok().unwrap();
        goes_on(20).await;
    }
    stop.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    drop(input);
    let ended = tokio::time::timeout(Duration::from_secs(30), keeper.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}
