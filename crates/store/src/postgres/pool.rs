//! Connections: bounded in number and in time, and over TLS only to whom the certificate names.

use std::{
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use deadpool_postgres::{
    Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime, Status, TimeoutType,
    Timeouts,
};
use futures_util::SinkExt as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{
    Config, Row, Statement,
    config::{Host, SslMode, TargetSessionAttrs},
    types::ToSql,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::{Fault, Result};
use crate::{OpenError, options::Postgres};

/// What the server may take for a statement, a lock, or a transaction that waits for us.
const SERVER_LIMIT_MS: u32 = 2_000;
/// What we wait for an answer: a server that has gone silent must not hold us for longer.
const ANSWER: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(4);
/// The same of what takes its time by nature: a step of the schema, a day that goes as a whole.
const LONG: Duration = Duration::from_secs(3600);
/// What we wait for a free connection.
const ROOM: Duration = Duration::from_secs(3);

pub(crate) type Param<'a> = &'a (dyn ToSql + Sync);

/// A database that is named by its URL without its password.
pub(crate) struct Address {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
    /// For people: never with a secret.
    pub(crate) shown: String,
}

impl Address {
    /// The same, whether it can be written there or not.
    pub(crate) fn anywhere(&self) -> Self {
        let mut config = self.config.clone();
        config.target_session_attrs(TargetSessionAttrs::Any);
        Self { config, tls: self.tls.clone(), shown: self.shown.clone() }
    }
}

/// Takes from the URL what `tokio-postgres` knows nothing of.
fn split_tls(url: &str) -> Result<(String, Option<String>, Option<PathBuf>), String> {
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), None, None));
    };
    let (mut mode, mut root) = (None, None);
    let mut rest = Vec::new();
    for part in query.split('&') {
        match part.split_once('=') {
            Some(("sslmode", value)) => mode = Some(value.to_owned()),
            Some(("sslrootcert", value)) => root = Some(PathBuf::from(value)),
            _ => rest.push(part),
        }
    }
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((url, mode, root))
}

fn is_local(config: &Config) -> bool {
    // Where it is given, it is what is connected to, whatever the host is called.
    if config.get_hostaddrs().iter().any(|address| !address.is_loopback()) {
        return false;
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    })
}

/// How to reach the database of these options.
pub(crate) fn address(options: &Postgres) -> Result<Address, OpenError> {
    let wrong = |reason: String| OpenError::Url { reason };
    let (url, mode, root) = split_tls(&options.url).map_err(wrong)?;
    let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
        wrong(std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string))
    })?;
    let mode = match mode.as_deref() {
        None if is_local(&config) => SslMode::Disable,
        Some("disable") => SslMode::Disable,
        None | Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
        Some(other) => {
            return Err(wrong(format!(
                "sslmode={other} is not offered: give verify-full, or disable on a network that \
                 nobody else can listen to"
            )));
        }
    };
    config.ssl_mode(mode);
    config.connect_timeout(CONNECT);
    config.keepalives_idle(Duration::from_secs(10));
    config.keepalives_interval(Duration::from_secs(3));
    config.keepalives_retries(3);
    // Of several servers the one that takes writes. A single one may be read meanwhile.
    if config.get_hosts().len() > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    if config.get_application_name().is_none() {
        config.application_name("zapbus");
    }
    // Every question goes through an index; statistics of a table that grew an hour ago must not
    // talk the planner out of it.
    let limits = format!(
        "-c statement_timeout={SERVER_LIMIT_MS} -c lock_timeout={SERVER_LIMIT_MS} \
         -c idle_in_transaction_session_timeout={SERVER_LIMIT_MS} -c jit=off \
         -c enable_seqscan=off -c TimeZone=UTC"
    );
    // Last, so that nobody takes it away: who waits for a lock and then looks has to see what the
    // last holder of the lock wrote.
    let isolation = "-c default_transaction_isolation=read\\ committed";
    let own = config.get_options().unwrap_or_default();
    config.options(format!("{limits} {own} {isolation}"));
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let shown = format!(
        "postgres://{}/{}",
        hosts.join(","),
        config.get_dbname().or(config.get_user()).unwrap_or_default()
    );
    let tls = connector(mode, root.or_else(|| options.root_cert.clone()))?;
    Ok(Address { config, tls, shown })
}

fn connector(mode: SslMode, root: Option<PathBuf>) -> Result<MakeRustlsConnect, OpenError> {
    let wrong = |reason: String| OpenError::Url { reason };
    let mut roots = RootCertStore::empty();
    if mode != SslMode::Disable {
        match root {
            Some(path) => {
                let unreadable =
                    |error: String| wrong(format!("sslrootcert {}: {error}", path.display()));
                let found = CertificateDer::pem_file_iter(&path)
                    .map_err(|error| unreadable(error.to_string()))?;
                for certificate in found {
                    let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
                    roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(unreadable("it holds no certificate".to_owned()));
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(found.certs);
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// The connections of a node, apart from the one that listens. One is for the lease alone, and
/// questions never have all of the others: however much is asked, leases are renewed, and events and
/// settlements are taken.
pub(crate) struct Pool {
    pool: deadpool_postgres::Pool,
    lease: deadpool_postgres::Pool,
    questions: Arc<Semaphore>,
}

fn in_use() -> Fault {
    Fault::Contended("all connections are in use".to_owned())
}

fn pool(address: &Address, size: usize) -> Result<deadpool_postgres::Pool, OpenError> {
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(address.config.clone(), address.tls.clone(), config);
    let timeouts = Timeouts { wait: Some(ROOM), create: Some(CONNECT), recycle: Some(CONNECT) };
    deadpool_postgres::Pool::builder(manager)
        .max_size(size)
        .timeouts(timeouts)
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| OpenError::Url { reason: error.to_string() })
}

async fn session(
    pool: &deadpool_postgres::Pool,
    permit: Option<OwnedSemaphorePermit>,
) -> Result<Session> {
    let object = pool.get().await.map_err(|error| match error {
        PoolError::Timeout(TimeoutType::Wait) => in_use(),
        other => Fault::Broken(reason(&other)),
    })?;
    Ok(Session { object: Some(object), spoiled: AtomicBool::new(false), _permit: permit })
}

impl Pool {
    /// With so many connections, and three at least.
    pub(crate) fn new(address: &Address, size: usize) -> Result<Self, OpenError> {
        let others = size.saturating_sub(1).max(2);
        Ok(Self {
            pool: pool(address, others)?,
            lease: pool(address, 1)?,
            questions: Arc::new(Semaphore::new(others - others.div_ceil(4))),
        })
    }

    /// For what must go on.
    pub(crate) async fn session(&self) -> Result<Session> {
        session(&self.pool, None).await
    }

    /// For questions, which wait for each other. Nobody may ask for a second one meanwhile.
    pub(crate) async fn question(&self) -> Result<Session> {
        let permit = tokio::time::timeout(ROOM, Arc::clone(&self.questions).acquire_owned());
        let permit = permit.await.map_err(|_| in_use())?;
        let permit = permit.map_err(|_| Fault::Broken("it is closed".to_owned()))?;
        session(&self.pool, Some(permit)).await
    }

    /// For the lease, one at a time.
    pub(crate) async fn lease(&self) -> Result<Session> {
        session(&self.lease, None).await
    }

    /// Connections in use, and how many there may be.
    pub(crate) fn in_use(&self) -> (usize, usize) {
        let both = [self.pool.status(), self.lease.status()];
        let used = |status: &Status| status.size.saturating_sub(status.available);
        (both.iter().map(used).sum(), both.iter().map(|status| status.max_size).sum())
    }

    pub(crate) fn close(&self) {
        self.pool.close();
        self.lease.close();
        self.questions.close();
    }
}

/// The whole chain of an error, on one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// A connection for as long as somebody needs it. One in an unknown state does not go back.
pub(crate) struct Session {
    object: Option<Object>,
    spoiled: AtomicBool,
    /// Of a question: given back with the connection.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Session {
    fn client(&self) -> Result<&Object> {
        self.object.as_ref().ok_or_else(|| Fault::Broken("the connection is gone".to_owned()))
    }

    /// What happens until [`Session::keep`] must be undone if nobody gets that far.
    pub(crate) fn risk(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn keep(&self) {
        self.spoiled.store(false, Ordering::Relaxed);
    }

    /// Gives the connection back: whoever still has the session has no more to ask.
    pub(crate) fn give_back(&mut self) {
        if !self.spoiled.load(Ordering::Relaxed) {
            self.object = None;
        }
    }

    async fn timed<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        self.timed_for(ANSWER, work).await
    }

    async fn timed_for<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let was = self.spoiled.swap(true, Ordering::Relaxed);
        let done = match tokio::time::timeout(limit, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(Fault::from(error)),
            Err(_) => Err(Fault::Broken("the database does not answer".to_owned())),
        };
        // An error of a statement leaves the connection as it was; any other does not.
        if done.as_ref().err().is_none_or(|fault| !matches!(fault, Fault::Broken(_))) {
            self.spoiled.store(was, Ordering::Relaxed);
        }
        done
    }

    pub(crate) async fn prepare(&self, sql: &str) -> Result<Statement> {
        let client = self.client()?;
        self.timed(client.prepare_cached(sql)).await
    }

    pub(crate) async fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let client = self.client()?;
        self.timed(async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, params).await
        })
        .await
    }

    pub(crate) async fn one(&self, sql: &str, params: &[Param<'_>]) -> Result<Row> {
        let mut rows = self.query(sql, params).await?;
        rows.pop().ok_or_else(|| Fault::malformed("a row that must be there is not"))
    }

    pub(crate) async fn first(&self, sql: &str, params: &[Param<'_>]) -> Result<Option<Row>> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    pub(crate) async fn execute(&self, sql: &str, params: &[Param<'_>]) -> Result<u64> {
        let client = self.client()?;
        self.timed(async {
            let statement = client.prepare_cached(sql).await?;
            client.execute(&statement, params).await
        })
        .await
    }

    pub(crate) async fn batch(&self, sql: &str) -> Result<()> {
        let client = self.client()?;
        self.timed(client.batch_execute(sql)).await
    }

    /// [`Session::batch`] for what may take its time: migrations, detaching.
    pub(crate) async fn long_batch(&self, sql: &str) -> Result<()> {
        let client = self.client()?;
        self.risk();
        self.timed_for(LONG, client.batch_execute(sql)).await?;
        self.keep();
        Ok(())
    }

    /// One row, however long it takes.
    pub(crate) async fn long_one(&self, sql: &str) -> Result<Row> {
        let client = self.client()?;
        self.timed_for(LONG, client.query_one(sql, &[])).await
    }

    /// [`Session::query`] for what may take its time, or names a partition: it is not remembered.
    pub(crate) async fn long_query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let client = self.client()?;
        self.timed_for(LONG, client.query(sql, params)).await
    }

    /// Sends a whole stream of rows to a `COPY … FROM STDIN`.
    pub(crate) async fn copy_in(&self, sql: &str, stream: Vec<u8>) -> Result<u64> {
        let sink = self.client()?.copy_in::<_, Bytes>(sql).await?;
        let mut sink = std::pin::pin!(sink);
        sink.send(stream.into()).await?;
        Ok(sink.finish().await?)
    }

    /// Several calls in one transaction and one message: nobody else waits for us in between.
    pub(crate) async fn together(
        &self,
        calls: &[(&Statement, Vec<Param<'_>>)],
        begin: bool,
    ) -> Result<Vec<Vec<Row>>> {
        let client = self.client()?;
        self.timed(async {
            let start = async { if begin { client.batch_execute("BEGIN").await } else { Ok(()) } };
            let queries = futures_util::future::join_all(
                calls.iter().map(|(statement, params)| client.query(*statement, params)),
            );
            let end = client.batch_execute("COMMIT");
            // Polled in this order, so sent in this order.
            let (start, queries, end) = tokio::join!(biased; start, queries, end);
            start?;
            let rows = queries.into_iter().collect::<Result<Vec<_>, _>>()?;
            end?;
            Ok(rows)
        })
        .await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.spoiled.load(Ordering::Relaxed)
            && let Some(object) = self.object.take()
        {
            // Dropped, and not given back: the server rolls back what was begun.
            drop(Object::take(object));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> Result<SslMode, OpenError> {
        let options = Postgres { url: url.to_owned(), ..Postgres::default() };
        address(&options).map(|address| address.config.get_ssl_mode())
    }

    #[test]
    fn only_a_neighbour_is_trusted_without_tls() {
        assert_eq!(mode("postgres://u@127.0.0.1/d").unwrap(), SslMode::Disable);
        assert_eq!(mode("postgres://u@localhost/d").unwrap(), SslMode::Disable);
        assert_eq!(mode("postgres://u@db.example/d").unwrap(), SslMode::Require);
        assert_eq!(mode("postgres://u@db.example/d?sslmode=disable").unwrap(), SslMode::Disable);
        assert_eq!(mode("postgres://u@127.0.0.1/d?sslmode=verify-full").unwrap(), SslMode::Require);
        assert!(mode("postgres://u@db.example/d?sslmode=prefer").is_err());
        assert!(mode("postgres://u@db/d?sslmode=require&sslrootcert=nowhere.pem").is_err());
        assert!(mode("mysql://u@db/d").is_err());
    }

    #[test]
    fn an_address_beside_a_name_is_what_counts() {
        let url = "postgres://u@localhost/d?hostaddr=192.0.2.1";
        assert_eq!(mode(url).unwrap(), SslMode::Require);
        assert_eq!(mode("postgres://u@db/d?hostaddr=192.0.2.1").unwrap(), SslMode::Require);
        assert_eq!(mode("postgres://u@localhost/d?hostaddr=127.0.0.1").unwrap(), SslMode::Disable);
    }

    #[test]
    fn nobody_takes_away_what_appends_rely_on() {
        let url =
            "postgres://u@localhost/d?options=-c%20default_transaction_isolation%3Dserializable";
        let options = Postgres { url: url.to_owned(), ..Postgres::default() };
        let told = address(&options).unwrap().config.get_options().unwrap().to_owned();
        assert!(told.ends_with(r"-c default_transaction_isolation=read\ committed"), "{told}");
        assert!(told.contains("serializable"), "what was given stays: {told}");
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = "postgres://u:very-secret@127.0.0.1:5433/zap".to_owned();
        let options = Postgres { url, ..Postgres::default() };
        assert_eq!(address(&options).unwrap().shown, "postgres://127.0.0.1/zap");
        assert!(!format!("{options:?}").contains("very-secret"));
    }
}
