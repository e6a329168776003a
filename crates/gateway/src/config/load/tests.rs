use std::path::Path;

use super::*;

fn load(file: Option<&str>, environment: Environment, flags: &[(&'static str, &str)]) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zapbus.toml");
    std::fs::write(&path, file.unwrap_or_default()).unwrap();
    let settings = flags.iter().map(|(key, value)| (*key, (*value).to_owned(), "--flag")).collect();
    Config::load(&Flags { config: Some(path), settings }, &environment)
}

fn only_mistake(loaded: &Loaded) -> &Mistake {
    assert_eq!(loaded.mistakes.len(), 1, "{:?}", loaded.mistakes);
    &loaded.mistakes[0]
}

#[test]
fn later_layers_win() {
    let file = "listen = \"127.0.0.1:1\"\npublic_url = \"https://file\"\n[log]\nlevel = \"warn\"";
    let loaded = load(
        Some(file),
        Environment::from([
            ("SERVER_URL", "https://evolution"),
            ("LOG_LEVEL", "ERROR,WARN,DEBUG"),
            ("ZAPBUS_LISTEN", "127.0.0.1:2"),
        ]),
        &[("listen", "127.0.0.1:3")],
    );
    assert_eq!(loaded.mistakes, []);
    assert_eq!(loaded.config.listen.port(), 3);
    assert_eq!(loaded.config.public_url.as_deref(), Some("https://evolution"));
    assert_eq!(loaded.config.log.level, "debug");
    let origin = |key: &str| {
        loaded.settings.iter().find(|setting| setting.key == key).unwrap().origin.to_string()
    };
    assert_eq!(origin("listen"), "--flag");
    assert_eq!(origin("public_url"), "SERVER_URL");
    assert_eq!(origin("data_dir"), "default");
}

#[test]
fn every_key_has_a_variable() {
    let loaded = load(
        None,
        Environment::from([
            ("ZAPBUS_HTTP_MAX_CONNECTIONS", "12"),
            ("ZAPBUS_EGRESS_ALLOW", "10.0.0.0/8, n8n"),
            ("ZAPBUS_TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/8"),
            ("ZAPBUS_BOOTSTRAP_CLIENT_TOKEN", "id"),
            ("ZAPBUS_BOOTSTRAP_CLIENT_SECRET", "1234567890123456"),
            ("ZAPBUS_ADMIN_TOKEN", ""),
        ]),
        &[],
    );
    assert_eq!(loaded.mistakes, []);
    assert_eq!(loaded.config.http.max_connections, 12);
    assert_eq!(loaded.config.egress.allow, ["10.0.0.0/8", "n8n"]);
    assert_eq!(loaded.config.trusted_proxies.len(), 2);
    // A secret of digits stays text.
    assert_eq!(
        loaded.config.bootstrap.client_secret,
        Some(super::super::Secret::new("1234567890123456"))
    );
    assert_eq!(loaded.config.admin_token, None, "an empty variable is an unset one");
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    let loaded = load(Some("[http]\nmax_conections = 1"), Environment::default(), &[]);
    let mistake = only_mistake(&loaded);
    assert_eq!(mistake.key, "http.max_conections");
    assert_eq!(mistake.problem, "unknown key; did you mean http.max_connections?");

    let loaded = load(Some("max_connections = 1"), Environment::default(), &[]);
    assert_eq!(only_mistake(&loaded).problem, "unknown key; did you mean http.max_connections?");

    let loaded = load(Some("[htp]\nx = 1"), Environment::default(), &[]);
    assert_eq!(only_mistake(&loaded).problem, "unknown section; did you mean [http]?");

    let loaded = load(None, Environment::from([("ZAPBUS_DATADIR", "x")]), &[]);
    assert_eq!(
        only_mistake(&loaded).to_string(),
        "ZAPBUS_DATADIR: unknown variable; did you mean ZAPBUS_DATA_DIR?"
    );
}

#[test]
fn wrong_types_name_path_found_and_expected() {
    let loaded = load(Some("[http]\nmax_connections = \"many\""), Environment::default(), &[]);
    let mistake = only_mistake(&loaded);
    assert_eq!(mistake.key, "http.max_connections");
    assert!(mistake.problem.contains("string \"many\", expected usize"), "{mistake}");

    let loaded = load(None, Environment::from([("ZAPBUS_LISTEN", "8080")]), &[]);
    assert!(only_mistake(&loaded).problem.contains("expected an IP address and a port"));

    let loaded = load(Some("tls = 3"), Environment::default(), &[]);
    assert!(only_mistake(&loaded).problem.contains("expected a section [tls]"));
}

#[test]
fn ryzes_name_of_the_key_is_understood_and_ours_counts() {
    let theirs = ("ENCRYPTION_KEY", "11".repeat(32));
    let ours = ("ZAPBUS_ENCRYPTION_KEY", "22".repeat(32));
    let key = |environment| {
        let loaded = load(None, environment, &[]);
        assert_eq!(loaded.mistakes, []);
        let keys = &loaded.config.encryption_key;
        keys.iter().map(|key| key.expose().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(key(Environment::from([(theirs.0, &*theirs.1)])), [theirs.1.as_str()]);
    let both = Environment::from([(theirs.0, &*theirs.1), (ours.0, &*ours.1)]);
    assert_eq!(key(both), [ours.1.as_str()]);
    let wrong = load(None, Environment::from([("ENCRYPTION_KEY", "hunter2")]), &[]);
    let mistake = only_mistake(&wrong);
    assert_eq!(mistake.origin, Origin::Variable("ENCRYPTION_KEY".to_owned()));
    assert!(!mistake.to_string().contains("hunter2"), "{mistake}");
}

#[test]
fn all_mistakes_are_told_at_once_and_no_secret_with_them() {
    let file = "admin_token = 1234567890123456\nlissten = \"x\"\n[log]\nlevel = \"a=b=c\"";
    let environment = Environment::from([
        ("ZAPBUS_DATABASE_URL", "mysql://user:hunter2@db/zapbus"),
        ("ZAPBUS_ENCRYPTION_KEY", "hunter2"),
    ]);
    let loaded = load(Some(file), environment, &[]);
    let text: Vec<String> = loaded.mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 5, "{text:#?}");
    let text = format!("{text:?} {:?} {:?}", loaded.settings, loaded.config);
    assert!(text.contains("expected postgres://user:password@host/database"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("1234567890123456"), "{text}");
}

#[test]
fn what_a_url_hides_is_not_printed() {
    let environment = Environment::from([
        ("ZAPBUS_PUBLIC_URL", "https://operator:hunter2@bus.example.com/"),
        ("ZAPBUS_TRACES_ENDPOINT", "https://traces.example.com/v1/traces?key=hunter2#hunter2"),
    ]);
    let loaded = load(None, environment, &[]);
    let text = format!("{:?} {:?}", loaded.settings, loaded.mistakes);
    assert!(!text.contains("hunter2") && !text.contains("operator"), "{text}");
    let value = |key: &str| {
        loaded.settings.iter().find(|setting| setting.key == key).unwrap().value.clone()
    };
    assert_eq!(value("traces.endpoint"), "\"https://traces.example.com/v1/traces?***\"");
    let plain = Environment::from([("ZAPBUS_PUBLIC_URL", "https://bus.example.com")]);
    let loaded = load(None, plain, &[]);
    let shown = loaded.settings.iter().find(|setting| setting.key == "public_url").unwrap();
    assert_eq!(shown.value, "\"https://bus.example.com\"", "as it was written");
}

#[test]
fn a_database_is_led_to_without_repeating_its_password() {
    let given = "postgres://user:hunter2@db.example.com/zapbus";
    let key = ("ZAPBUS_ENCRYPTION_KEY", "00".repeat(32));
    let load_with = |url: &str, more: &[(&str, &str)]| {
        let mut environment = Environment::from([("ZAPBUS_DATABASE_URL", url)]);
        for (name, value) in more {
            environment.set(name, value);
        }
        load(None, environment, &[])
    };
    let key = [(key.0, key.1.as_str())];

    let loaded = load_with(given, &key);
    assert_eq!(loaded.mistakes, []);
    assert_eq!(loaded.config.store_place(), "postgres://db.example.com/zapbus");
    assert!(!format!("{:?} {:?}", loaded.settings, loaded.config).contains("hunter2"));
    let postgres = loaded.config.postgres().expect("it is on a server");
    assert!(!postgres.node.is_empty(), "the name of the machine");

    // No node may make a key of its own.
    let without = load_with(given, &[]);
    assert_eq!(only_mistake(&without).key, "encryption_key");

    for (url, expected) in [
        ("host=db password=hunter2", "expected postgres://"),
        ("sqlite:///var/lib/zapbus", "expected postgres://"),
        ("postgres://user:hunter2@hunter2@db/zapbus", "written %3F"),
        ("postgres://user:hunter2?hunter2=1@db/zapbus", "written %3F"),
        ("postgres://user:hunter2@db/zapbus?sslmode=prefer", "verify-full"),
        ("postgres://user:hunter2@db/zapbus?sslrootcert=/nowhere.pem", "/nowhere.pem"),
    ] {
        let loaded = load_with(url, &key);
        let mistake = only_mistake(&loaded);
        assert_eq!(mistake.key, "database_url");
        assert!(mistake.problem.contains(expected), "{url}: {mistake}");
        assert!(!mistake.to_string().contains("hunter2"), "{mistake}");
    }
}

#[test]
fn what_would_break_later_is_found_now() {
    for (file, key) in [
        ("[lanes]\nprobe_first_s = -1.0", "lanes.probe_first_s"),
        ("[lanes]\nprobe_first_s = nan", "lanes.probe_first_s"),
        ("[lanes]\nprobe_max_s = 1.0", "lanes.probe_max_s"),
        ("[lanes]\nlinger_s = inf", "lanes.linger_s"),
        ("[lanes]\nmax_in_flight = 0", "lanes.max_in_flight"),
        ("[lanes]\nread_ahead_bytes = 1", "lanes.read_ahead_bytes"),
        ("data_dir = \"/dev/null\"", "data_dir"),
        ("[backup]\ndir = \"/dev/null\"", "backup.dir"),
        ("[database]\nconnections = 0", "database.connections"),
        ("[database]\nshards = 0", "database.shards"),
        ("[cluster]\nlease_s = nan", "cluster.lease_s"),
        ("[cluster]\nlease_s = 0.1", "cluster.lease_s"),
        ("[cluster]\nhandover_s = -1.0", "cluster.handover_s"),
        ("[cluster]\nnode = \"a\\nb\"", "cluster.node"),
    ] {
        let loaded = load(Some(file), Environment::default(), &[]);
        assert!(loaded.mistakes.iter().any(|it| it.key == key), "{file}: {:?}", loaded.mistakes);
    }
}

#[test]
fn a_broken_file_names_the_place_and_not_the_line() {
    let loaded =
        load(Some("listen = \"x\"\nadmin_token = \"hunter2\n"), Environment::default(), &[]);
    let text = only_mistake(&loaded).to_string();
    assert!(text.contains("line 2, column"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_named_file_must_exist() {
    let flags = Flags { config: Some(PathBuf::from("/nowhere/zapbus.toml")), ..Flags::default() };
    let loaded = Config::load(&flags, &Environment::default());
    assert!(only_mistake(&loaded).to_string().contains("cannot be read"));
}

#[test]
fn the_example_holds_every_key_at_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../zapbus.example.toml");
    let example = std::fs::read_to_string(path).unwrap();
    let uncommented: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest,
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let loaded = load(Some(&uncommented), Environment::default(), &[]);
    assert_eq!(loaded.mistakes, []);
    assert_eq!(serde_json::to_value(&loaded.config).unwrap(), default_tree());
    let missing: Vec<_> = loaded
        .settings
        .iter()
        .filter(|setting| setting.origin == Origin::Default)
        .map(|setting| &setting.key)
        .collect();
    assert!(missing.is_empty(), "not in zapbus.example.toml: {missing:?}");
}

#[test]
fn what_kubernetes_sets_for_a_service_is_not_ours() {
    let loaded = load(
        None,
        Environment::from([
            ("ZAPBUS_SERVICE_HOST", "10.0.0.1"),
            ("ZAPBUS_SERVICE_PORT", "8080"),
            ("ZAPBUS_SERVICE_PORT_HTTP", "8080"),
            ("ZAPBUS_PORT", "tcp://10.0.0.1:8080"),
            ("ZAPBUS_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("ZAPBUS_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("ZAPBUS_PORT_8080_TCP_PORT", "8080"),
            ("ZAPBUS_PORT_8080_TCP_PROTO", "tcp"),
            ("ZAPBUS_DEMO_SERVICE_HOST", "10.0.0.1"),
            ("ZAPBUS_DEMO_PORT", "tcp://10.0.0.1:8080"),
            ("ZAPBUS_DEMO_PORT_53_UDP", "udp://10.0.0.1:53"),
        ]),
        &[],
    );
    assert_eq!(loaded.mistakes, []);
    let loaded = load(None, Environment::from([("ZAPBUS_PORT", "8080")]), &[]);
    assert!(only_mistake(&loaded).problem.contains("unknown variable"), "a person wrote that");
}

#[test]
fn a_weak_bootstrap_secret_is_refused_and_a_password_is_not_repeated() {
    let loaded = load(
        None,
        Environment::from([
            ("ZAPBUS_BOOTSTRAP_CLIENT_TOKEN", "client"),
            ("ZAPBUS_BOOTSTRAP_CLIENT_SECRET", "x"),
        ]),
        &[],
    );
    assert!(only_mistake(&loaded).to_string().contains("16 to 256"), "{:?}", loaded.mistakes);
    let url = "https://me:hush@bus.example.com";
    let loaded = load(None, Environment::from([("ZAPBUS_PUBLIC_URL", url)]), &[]);
    let said = only_mistake(&loaded).to_string();
    assert!(said.contains("without user") && !said.contains("hush"), "{said}");
}
