//! What is handed to compose and systemd says what the gateway expects.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use saphyr::{LoadableYamlNode as _, YamlOwned};
use zapbus_gateway::config::{Config, Environment, Flags};

use crate::binary::{Served, command, run};

pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> YamlOwned {
    YamlOwned::load_from_str(&read(path)).unwrap().remove(0)
}

/// What the gateway makes of these variables; no mistake in them.
pub(crate) fn check_environment(settings: Vec<(&str, &str)>, check: impl FnOnce(&Config)) {
    let mut environment = Environment::default();
    for (name, value) in settings {
        environment.set(name, value);
    }
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("zapbus.toml");
    std::fs::write(&config, "").unwrap();
    let flags = Flags { config: Some(config), ..Flags::default() };
    let loaded = Config::load(&flags, &environment);
    assert!(loaded.mistakes.is_empty(), "{:?}", loaded.mistakes);
    check(&loaded.config);
}

#[test]
fn compose_keeps_data_restarts_and_shows_itself_to_this_machine_only() {
    let compose = yaml("compose.yaml");
    let zapbus = &compose["services"]["zapbus"];
    assert_eq!(zapbus["restart"].as_str(), Some("unless-stopped"));
    assert_eq!(zapbus["env_file"].as_str(), Some("zapbus.env"));
    for port in zapbus["ports"].as_vec().unwrap() {
        assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{port:?}");
    }
    let volume = zapbus["volumes"][0].as_str().unwrap();
    let (name, folder) = volume.split_once(':').unwrap();
    assert!(compose["volumes"].as_mapping_get(name).is_some(), "{name} is a volume");
    assert!(read("Dockerfile").contains(&format!("VOLUME [\"{folder}\"]")));
    let grace = zapbus["stop_grace_period"].as_str().unwrap().trim_end_matches('s');
    assert!(grace.parse::<u64>().unwrap() >= whole_stop().as_secs());
    // TLS is an option, and finds its file.
    let caddy = &compose["services"]["caddy"];
    assert_eq!(caddy["profiles"][0].as_str(), Some("tls"));
    assert_eq!(caddy["depends_on"]["zapbus"]["condition"].as_str(), Some("service_healthy"));
    let mounted = caddy["volumes"][0].as_str().unwrap().split(':').next().unwrap();
    assert!(read(mounted).contains("reverse_proxy zapbus:8080"));
}

#[test]
fn the_cluster_of_compose_has_equal_nodes_behind_a_proxy_that_asks_them() {
    let compose = yaml("deploy/compose.cluster.yaml");
    let node = &compose["x-node"];
    let grace = node["stop_grace_period"].as_str().unwrap().trim_end_matches('s');
    assert!(grace.parse::<u64>().unwrap() >= whole_stop().as_secs());
    assert!(node.as_mapping_get("ports").is_none(), "nodes are reached through the proxy");
    assert!(node.as_mapping_get("volumes").is_none(), "nodes keep nothing");
    let url = node["environment"]["ZAPBUS_DATABASE_URL"].as_str().unwrap();
    let (before, rest) = url.split_once("${POSTGRES_PASSWORD").unwrap();
    let url = format!("{before}x{}", rest.split_once('}').unwrap().1);
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let settings = vec![("ZAPBUS_DATABASE_URL", url.as_str()), ("ZAPBUS_ENCRYPTION_KEY", key)];
    check_environment(settings, |config| {
        assert_eq!(config.store_place(), "postgres://postgres/zapbus");
    });

    let services = compose["services"].as_mapping().unwrap();
    let names: Vec<&str> = services.keys().filter_map(|name| name.as_str()).collect();
    let caddy = &compose["services"]["caddy"];
    let mounted = caddy["volumes"][0].as_str().unwrap().split(':').next().unwrap();
    let proxy = read(mounted);
    let nodes: Vec<&&str> = names.iter().filter(|name| name.starts_with("zapbus")).collect();
    assert_eq!(nodes.len(), 3);
    for name in nodes {
        assert!(proxy.contains(&format!("{name}:8080")), "{name} is not in {mounted}");
        assert_eq!(compose["services"][*name]["hostname"].as_str(), Some(*name));
    }
    assert!(proxy.contains("health_uri /readyz"));
    let back = &compose["networks"]["back"];
    assert_eq!(back["internal"].as_bool(), Some(true), "nobody else reaches the database");
}

/// How long a stop takes at most by default: the deadline, the last bytes of answers, the last
/// spans, and closing the store.
fn whole_stop() -> Duration {
    Duration::from_secs(Config::default().shutdown.deadline_s + 1 + 2 + 5)
}

#[test]
fn the_sample_environment_is_understood() {
    let text = read("deploy/zapbus.env.example");
    let samples = [
        ("ZAPBUS_ADMIN_TOKEN", "0123456789abcdef0123456789abcdef"),
        ("ZAPBUS_ENCRYPTION_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
    ];
    let settings: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#').unwrap_or(line).split_once('='))
        .filter(|(name, _)| name.starts_with("ZAPBUS_"))
        .map(|(name, value)| {
            let sample = samples.iter().find(|(sample, _)| *sample == name);
            sample.map_or((name, value), |sample| *sample)
        })
        .collect();
    assert!(settings.len() >= 5, "{settings:?}");
    check_environment(settings, |config| {
        assert_eq!(config.public_url.as_deref(), Some("https://bus.example.com"));
    });
}

#[test]
fn the_unit_is_hardened_and_gives_time_to_stop() {
    let path = "deploy/systemd/zapbus.service";
    let text = read(path);
    let value = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{key} in {path}"))
    };
    assert_eq!(value("ExecStart"), "/usr/local/bin/zapbus serve");
    assert_eq!(value("User"), "zapbus");
    assert_eq!(value("StateDirectory"), "zapbus");
    assert_eq!(value("StateDirectoryMode"), "0700");
    assert_eq!(value("ProtectSystem"), "strict");
    assert_eq!(value("NoNewPrivileges"), "yes");
    assert_eq!(value("CapabilityBoundingSet"), "");
    assert!(value("LimitNOFILE").parse::<u64>().unwrap() >= 20_000);
    assert!(value("TimeoutStopSec").parse::<u64>().unwrap() >= whole_stop().as_secs());
    let settings = value("Environment").split(' ').map(|pair| pair.split_once('=').unwrap());
    check_environment(settings.collect(), |config| {
        assert_eq!(config.data_dir, Path::new("/var/lib/zapbus"));
    });

    // systemd's own opinion, where it is installed.
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("zapbus.service");
    let program = env!("CARGO_BIN_EXE_zapbus");
    std::fs::write(&unit, text.replace("/usr/local/bin/zapbus", program)).unwrap();
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output();
    if let Ok(said) = verify {
        let complaints = String::from_utf8_lossy(&said.stderr).into_owned();
        let ours: Vec<&str> =
            complaints.lines().filter(|line| line.contains("zapbus.service")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

#[test]
fn the_socket_unit_belongs_to_the_service() {
    let text = read("deploy/systemd/zapbus.socket");
    assert!(text.contains("\nListenStream=127.0.0.1:8080\n"), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("zapbus.socket");
    std::fs::write(&socket, &text).unwrap();
    let service = read("deploy/systemd/zapbus.service");
    let program = env!("CARGO_BIN_EXE_zapbus");
    let service = service.replace("/usr/local/bin/zapbus", program);
    std::fs::write(folder.path().join("zapbus.service"), service).unwrap();
    let verify = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&socket).output();
    if let Ok(said) = verify {
        let complaints = String::from_utf8_lossy(&said.stderr).into_owned();
        let ours: Vec<&str> =
            complaints.lines().filter(|line| line.contains("zapbus.socket")).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

#[tokio::test]
async fn the_health_check_asks_the_gateway_of_the_same_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path(), |_| {}).await;
    let address = served.url.trim_start_matches("http://").to_owned();
    for more in [&[][..], &["--ready"]] {
        let mut check = command(folder.path());
        check.arg("healthcheck").args(more).env("ZAPBUS_LISTEN", &address);
        let said = run(check).await;
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stdout.contains("\"status\""), "{said:?}");
    }
    served.signal("TERM").await;
    served.ended().await;
    let mut check = command(folder.path());
    check.args(["healthcheck", "--listen", &address]);
    let said = run(check).await;
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.stderr.contains("no answer from"), "{said:?}");
}
