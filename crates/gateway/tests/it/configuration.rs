//! What happens when the configuration, the port or the folder is wrong: each time a message that
//! says what to do, and the right exit code.

use std::net::TcpListener;

use serde_json::json;
use zapbus_gateway::config::Secret;

use crate::{
    binary::{self, Served},
    engine::skips_on_postgres,
    server::{ADMIN_TOKEN, Gateway},
};

#[tokio::test]
async fn check_config_tells_what_it_understood_and_from_where() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("zapbus.toml"),
        "admin_token = \"a-secret-nobody-may-see\"\n[http]\nmax_connections = 5\n",
    )
    .unwrap();
    let mut command = binary::command(folder.path());
    command.arg("check-config").env("ZAPBUS_LISTEN", "127.0.0.1:7777");
    let said = binary::run(command).await;
    assert_eq!(said.code, 0, "{said:?}");
    let line = |key: &str| said.stdout.lines().find(|line| line.contains(key)).unwrap().to_owned();
    assert!(
        line("listen ").ends_with("\"127.0.0.1:7777\"  <- ZAPBUS_LISTEN"),
        "{}",
        line("listen ")
    );
    assert!(line("max_connections").ends_with("5  <- ./zapbus.toml"));
    assert!(!said.stdout.contains("nobody-may-see"), "{}", said.stdout);
}

#[tokio::test]
async fn mistakes_end_with_exit_code_2_and_are_all_told() {
    let folder = tempfile::tempdir().unwrap();
    let configure = |verb: &str| {
        let mut command = binary::command(folder.path());
        command
            .arg(verb)
            .env("ZAPBUS_LISTEN", "nowhere")
            .env("ZAPBUS_DATADIR", "x")
            .env("ZAPBUS_DATABASE_URL", "postgres://zapbus:hunter2@db/zapbus?sslmode=prefer");
        command
    };
    for verb in ["check-config", "serve", "migrate"] {
        let said = binary::run(configure(verb)).await;
        assert_eq!(said.code, 2, "{said:?}");
        let text = format!("{}{}", said.stdout, said.stderr);
        for part in [
            "expected an IP address and a port",
            "did you mean ZAPBUS_DATA_DIR?",
            "sslmode=prefer is not offered",
            "is needed with database_url",
        ] {
            assert!(text.contains(part), "{verb}: {part}: {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(!folder.path().join("zapbus-data").exists(), "nothing is made by a wrong start");
}

#[tokio::test]
async fn a_taken_port_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary::command(folder.path());
    command.args(["serve", "--listen", &address]);
    let said = binary::run(command).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains(&address) && said.stderr.contains("--listen"), "{said:?}");
}

#[tokio::test]
async fn a_folder_has_one_gateway() {
    if skips_on_postgres("a database has many nodes") {
        return;
    }
    let gateway = Gateway::start(|_| {}).await;
    let error = gateway.start_beside().await.to_string();
    assert!(error.contains("is in use by another process"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let migrate = |plan: &[&str]| {
        let mut command = binary::command(folder.path());
        command.arg("migrate").args(plan).env("ZAPBUS_DATA_DIR", &gateway.config.data_dir);
        binary::run(command)
    };
    let said = migrate(&[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    let pid = std::process::id().to_string();
    assert!(said.stderr.contains(&format!("pid {pid}")), "{said:?}");
    // Looking is allowed.
    assert_eq!(migrate(&["--plan"]).await.code, 0);

    gateway.stop().await;
}

#[tokio::test]
async fn a_stopped_folder_can_be_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let migrate = || {
        let mut command = binary::command(folder.path());
        command.args(["migrate", "--data-dir", "data"]);
        binary::run(command)
    };
    let said = migrate().await;
    assert!(said.code == 0 && said.stdout.contains("There is no database"), "{said:?}");
    let served = Served::start(folder.path(), |command| {
        command.env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN);
    })
    .await;
    served.kill().await;
    let said = migrate().await;
    assert!(said.code == 0 && said.stdout.contains("Nothing to do"), "{said:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path(), |command| {
        command.env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN);
    })
    .await;
    served.kill().await;
    let files = std::fs::read_dir(folder.path().join("data")).unwrap();
    let database = files
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "db"))
        .expect("there is a database");
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.pragma_update(None, "user_version", 9_999).unwrap();
    drop(connection);

    for verb in ["serve", "migrate"] {
        let mut command = binary::command(folder.path());
        command.args([verb, "--listen", "127.0.0.1:0", "--data-dir", "data"]);
        let said = binary::run(command).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.contains("9999"), "{said:?}");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // Works for root too, whom permissions do not stop.
    std::fs::write(folder.path().join("file"), "no folder").unwrap();
    let mut command = binary::command(folder.path());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "file/data"]);
    let said = binary::run(command).await;
    assert_eq!(said.code, 1, "{said:?}");
    let names_it = said.stderr.contains("file/data") && said.stderr.contains("ZAPBUS_DATA_DIR");
    assert!(names_it, "{said:?}");

    std::fs::create_dir(folder.path().join("closed")).unwrap();
    let mut read_only = std::fs::metadata(folder.path().join("closed")).unwrap().permissions();
    read_only.set_readonly(true);
    std::fs::set_permissions(folder.path().join("closed"), read_only).unwrap();
    if std::fs::create_dir(folder.path().join("closed/try")).is_err() {
        let mut command = binary::command(folder.path());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "closed"]);
        let said = binary::run(command).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.contains("closed"), "{said:?}");
    }
}

#[tokio::test]
async fn keys_are_changed_by_putting_the_new_one_first() {
    let key = |byte: u8| Secret::new(hex::encode([byte; 32]));
    let gateway = Gateway::start(|config| config.encryption_key = vec![key(1)]).await;
    gateway.create_instance("shop").await;
    gateway.create_webhook("shop", "https://example.com/hook", json!({})).await;
    let mut gateway = gateway;
    gateway.begin_stop().await.unwrap().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mut command = binary::command(folder.path());
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("ZAPBUS_DATA_DIR", &gateway.config.data_dir)
        .envs(gateway.config.database_url.iter().map(|url| ("ZAPBUS_DATABASE_URL", url.expose())))
        .env("ZAPBUS_ENCRYPTION_KEY", key(2).expose());
    let said = binary::run(command).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("ZAPBUS_ENCRYPTION_KEY"), "{said:?}");
    assert!(!said.stderr.contains(key(2).expose()), "{said:?}");

    gateway.config.encryption_key = vec![key(2), key(1)];
    let gateway = gateway.restart_stopped().await;
    let page = gateway.read("/v1/instances/shop/destinations").await;
    let url = &page["data"][0]["channel"]["url"];
    assert_eq!(url, "https://example.com/hook", "it was read with the old key");
    gateway.stop().await;
}

#[tokio::test]
async fn the_names_of_opentelemetry_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let check = |settings: &[(&str, &str)]| {
        let mut command = binary::command(folder.path());
        command.arg("check-config").envs(settings.iter().copied());
        binary::run(command)
    };
    let said = check(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2,x-tenant=a"),
        ("OTEL_SERVICE_NAME", "bus"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ("ZAPBUS_TRACES_SERVICE_NAME", "zapbus-eu"),
    ])
    .await;
    assert_eq!(said.code, 0, "{said:?}");
    let line = |key: &str| said.stdout.lines().find(|line| line.contains(key)).unwrap().to_owned();
    assert!(line("traces.endpoint").contains("\"http://collector:4318/v1/traces\""));
    assert!(line("traces.endpoint").ends_with("<- OTEL_EXPORTER_OTLP_ENDPOINT"));
    assert!(line("traces.sample_ratio").contains("0.25"));
    assert!(line("traces.service_name").ends_with("\"zapbus-eu\"  <- ZAPBUS_TRACES_SERVICE_NAME"));
    assert!(!said.stdout.contains("hunter2"), "{}", said.stdout);

    let said = check(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ])
    .await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.stdout.contains("4317"), "no spans go where they are not understood: {said:?}");
    let said = check(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318")]).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stdout.contains("traces.endpoint") || said.stderr.contains("traces.endpoint"));
}
