//! The resources of the API.
//!
//! Made from the description of the API by clients/generate.py: do not change it by hand.

use http::Method;

use crate::{Client, Error, Event, Pages, model::*, transport::Call};

impl Client {
    /// See [`Accounts`].
    pub fn accounts(&self) -> Accounts<'_> {
        Accounts { client: self, key: None }
    }

    /// See [`Credentials`].
    pub fn credentials(&self) -> Credentials<'_> {
        Credentials { client: self, key: None }
    }

    /// See [`Instances`].
    pub fn instances(&self) -> Instances<'_> {
        Instances { client: self, key: None }
    }

    /// See [`Sources`].
    pub fn sources(&self) -> Sources<'_> {
        Sources { client: self, key: None }
    }

    /// See [`Events`].
    pub fn events(&self) -> Events<'_> {
        Events { client: self, key: None }
    }

    /// See [`Destinations`].
    pub fn destinations(&self) -> Destinations<'_> {
        Destinations { client: self, key: None }
    }

    /// See [`Deliveries`].
    pub fn deliveries(&self) -> Deliveries<'_> {
        Deliveries { client: self, key: None }
    }

    /// See [`Realtime`].
    pub fn realtime(&self) -> Realtime<'_> {
        Realtime { client: self, key: None }
    }

    /// See [`Operations`].
    pub fn operations(&self) -> Operations<'_> {
        Operations { client: self, key: None }
    }
}

/// What the API offers under `accounts`.
#[derive(Debug, Clone)]
pub struct Accounts<'a> {
    client: &'a Client,
    key: Option<String>,
}

impl Accounts<'_> {
    /// Under a key of your own: a repeat with it, of this process or another, does
    /// nothing twice for a day. Without, each call makes one.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Lists the accounts the token reaches.
    pub fn list(&self) -> Pages<Account> {
        Pages::new(self.client.clone(), Call::new(Method::GET, &["v1", "accounts"]))
    }

    /// Creates an account.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn create(&self, body: &AccountRequest) -> Result<Account, Error> {
        self.client
            .call(
                Call::new(Method::POST, &["v1", "accounts"])
                    .json(body)?
                    .keyed(self.key.as_deref())?,
            )
            .await
    }

    /// Shows an account.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn get(&self, account: &str) -> Result<Account, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "accounts", account])).await
    }

    /// Deletes an account that has no instances left.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn delete(&self, account: &str) -> Result<(), Error> {
        self.client.command(Call::new(Method::DELETE, &["v1", "accounts", account])).await
    }

    /// Renames an account, or says which web pages may open its live connections.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn change(&self, account: &str, body: &ChangeAccount) -> Result<Account, Error> {
        self.client.call(Call::new(Method::PATCH, &["v1", "accounts", account]).json(body)?).await
    }
}

/// What the API offers under `credentials`.
#[derive(Debug, Clone)]
pub struct Credentials<'a> {
    client: &'a Client,
    key: Option<String>,
}

impl Credentials<'_> {
    /// Under a key of your own: a repeat with it, of this process or another, does
    /// nothing twice for a day. Without, each call makes one.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Lists the credentials of an account.
    pub fn list(&self, account: &str) -> Pages<Credential> {
        Pages::new(
            self.client.clone(),
            Call::new(Method::GET, &["v1", "accounts", account, "credentials"]),
        )
    }

    /// Creates a credential and shows its secret, this once.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn create(
        &self,
        account: &str,
        body: &CreateCredential,
    ) -> Result<Credential, Error> {
        self.client
            .call(
                Call::new(Method::POST, &["v1", "accounts", account, "credentials"])
                    .json(body)?
                    .keyed(self.key.as_deref())?,
            )
            .await
    }

    /// Revokes a credential: it is refused from now on.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn revoke(&self, account: &str, credential: &str) -> Result<(), Error> {
        self.client
            .command(Call::new(
                Method::DELETE,
                &["v1", "accounts", account, "credentials", credential],
            ))
            .await
    }

    /// Lets a credential end, now or at a time to come.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn expire(
        &self,
        account: &str,
        credential: &str,
        body: &ExpireCredential,
    ) -> Result<Credential, Error> {
        self.client
            .call(
                Call::new(
                    Method::POST,
                    &["v1", "accounts", account, "credentials", credential, "expire"],
                )
                .json(body)?,
            )
            .await
    }

    /// Makes a new secret and shows it. The old one works beside it for a while.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn rotate(
        &self,
        account: &str,
        credential: &str,
        body: &RotateCredential,
    ) -> Result<Credential, Error> {
        self.client
            .call(
                Call::new(
                    Method::POST,
                    &["v1", "accounts", account, "credentials", credential, "rotate"],
                )
                .json(body)?,
            )
            .await
    }
}

/// What the API offers under `instances`.
#[derive(Debug, Clone)]
pub struct Instances<'a> {
    client: &'a Client,
    key: Option<String>,
}

impl Instances<'_> {
    /// Under a key of your own: a repeat with it, of this process or another, does
    /// nothing twice for a day. Without, each call makes one.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Lists the instances the token reaches. The account's own, `_account`, is not among them:
    /// ask for it by its name.
    pub fn list(&self) -> Pages<Instance> {
        Pages::new(self.client.clone(), Call::new(Method::GET, &["v1", "instances"]))
    }

    /// Creates an instance. An admin creates it in the default account, or in that of the header
    /// `zapbus-account`.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn create(&self, body: &CreateInstance) -> Result<Instance, Error> {
        self.client
            .call(
                Call::new(Method::POST, &["v1", "instances"])
                    .json(body)?
                    .keyed(self.key.as_deref())?,
            )
            .await
    }

    /// Shows an instance: connection, QR code, who it is.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn get(&self, instance: &str) -> Result<Instance, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "instances", instance])).await
    }

    /// Deletes an instance. It takes no more events at once; its destinations still get what is
    /// waiting, up to the event `instance.lifecycle` with action `deleted`, for ten minutes at
    /// most.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn delete(&self, instance: &str) -> Result<(), Error> {
        self.client.command(Call::new(Method::DELETE, &["v1", "instances", instance])).await
    }

    /// Renames an instance, gives it another token, or says what to do about files.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn update(&self, instance: &str, body: &ChangeInstance) -> Result<Instance, Error> {
        self.client.call(Call::new(Method::PATCH, &["v1", "instances", instance]).json(body)?).await
    }

    /// Shows how an instance and its own destinations did in the last hour and day.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn statistics(&self, instance: &str) -> Result<InstanceStatistics, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "instances", instance, "statistics"])).await
    }
}

/// What the API offers under `sources`.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    client: &'a Client,
    #[expect(dead_code, reason = "nothing here is made twice")]
    key: Option<String>,
}

impl Sources<'_> {
    /// Shows where an instance's events enter, and what to set in a bridged product for that.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn get(&self, instance: &str) -> Result<Source, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "instances", instance, "source"])).await
    }

    /// Sets where an instance's events enter. What is posted natively is taken beside any source.
    /// A change is the event `instance.lifecycle` with action `loaded`.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn set(&self, instance: &str, body: &SourceRequest) -> Result<Source, Error> {
        self.client
            .call(Call::new(Method::PUT, &["v1", "instances", instance, "source"]).json(body)?)
            .await
    }

    /// Shows the source that serves all numbers of an account's Meta app.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn get_of_account(&self) -> Result<Source, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "source"])).await
    }

    /// Sets the source that serves all numbers of an account's Meta app: each change goes to the
    /// instance with its `phone_number_id`, all else to the account's instance `_account`.
    /// `native` takes it away.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn set_of_account(&self, body: &SourceRequest) -> Result<Source, Error> {
        self.client.call(Call::new(Method::PUT, &["v1", "source"]).json(body)?).await
    }
}

/// What the API offers under `events`.
#[derive(Debug, Clone)]
pub struct Events<'a> {
    client: &'a Client,
    #[expect(dead_code, reason = "nothing here is made twice")]
    key: Option<String>,
}

impl Events<'_> {
    /// Lists every event type with its schema and a sample per dialect.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn types(&self) -> Result<EventTypes, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "event-types"])).await
    }

    /// Reads the events of all instances of the account, oldest first. With the admin token: of
    /// all accounts, or of that of the header `zapbus-account`.
    pub fn list_all(&self, query: &ListEvents) -> Pages<Event> {
        Pages::new(
            self.client.clone(),
            Call::new(Method::GET, &["v1", "events"])
                .query("types", query.types.as_deref())
                .query("include_raw", query.include_raw),
        )
    }

    /// Shows one event, with the untouched upstream element.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn get(&self, event: &str) -> Result<Event, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "events", event])).await
    }

    /// Reads the events of one instance, oldest first.
    pub fn list(&self, instance: &str, query: &ListInstanceEvents) -> Pages<Event> {
        Pages::new(
            self.client.clone(),
            Call::new(Method::GET, &["v1", "instances", instance, "events"])
                .query("types", query.types.as_deref())
                .query("include_raw", query.include_raw),
        )
    }
}

/// What the API offers under `destinations`.
#[derive(Debug, Clone)]
pub struct Destinations<'a> {
    client: &'a Client,
    key: Option<String>,
}

impl Destinations<'_> {
    /// Under a key of your own: a repeat with it, of this process or another, does
    /// nothing twice for a day. Without, each call makes one.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Lists the destinations the token reaches.
    pub fn list(&self, query: &ListDestinations) -> Pages<Destination> {
        Pages::new(
            self.client.clone(),
            Call::new(Method::GET, &["v1", "destinations"])
                .query("global", query.global)
                .query("instance", query.instance.as_deref()),
        )
    }

    /// Creates a destination of a whole account: it gets the events of all its instances.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn create(&self, body: &CreateDestination) -> Result<Destination, Error> {
        self.client
            .call(
                Call::new(Method::POST, &["v1", "destinations"])
                    .json(body)?
                    .keyed(self.key.as_deref())?,
            )
            .await
    }

    /// Shows a destination and how delivery goes.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn get(&self, destination: &str) -> Result<Destination, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "destinations", destination])).await
    }

    /// Deletes a destination. What waits for it is called off; its log stays for a while.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn delete(&self, destination: &str) -> Result<(), Error> {
        self.client.command(Call::new(Method::DELETE, &["v1", "destinations", destination])).await
    }

    /// Changes a destination. What is sent from then on is sent by the new settings, what waits
    /// already included.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn update(
        &self,
        destination: &str,
        body: &ChangeDestination,
    ) -> Result<Destination, Error> {
        self.client
            .call(Call::new(Method::PATCH, &["v1", "destinations", destination]).json(body)?)
            .await
    }

    /// Stops a destination. What is under way finishes; everything else waits.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn pause(
        &self,
        destination: &str,
        body: &PauseRequest,
    ) -> Result<Destination, Error> {
        self.client
            .call(
                Call::new(Method::POST, &["v1", "destinations", destination, "pause"])
                    .json(body)?,
            )
            .await
    }

    /// Sends a stretch of the past again, up to where live delivery stands, beside live delivery.
    /// With `dry_run`, only counts.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn replay(&self, destination: &str, body: &ReplayRequest) -> Result<Replay, Error> {
        self.client
            .call(
                Call::new(Method::POST, &["v1", "destinations", destination, "replay"])
                    .json(body)?
                    .keyed(self.key.as_deref())?,
            )
            .await
    }

    /// Lets a paused or disabled destination go on.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn resume(
        &self,
        destination: &str,
        body: &ResumeRequest,
    ) -> Result<Destination, Error> {
        self.client
            .call(
                Call::new(Method::POST, &["v1", "destinations", destination, "resume"])
                    .json(body)?,
            )
            .await
    }

    /// Makes a new signing secret and shows it. The old one signs beside it for a while, so that
    /// receivers can change over.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn rotate_secret(
        &self,
        destination: &str,
        body: &RotateSecretRequest,
    ) -> Result<Destination, Error> {
        self.client
            .call(
                Call::new(Method::POST, &["v1", "destinations", destination, "rotate-secret"])
                    .json(body)?,
            )
            .await
    }

    /// Lists the replays of a destination.
    pub fn runs(&self, destination: &str) -> Pages<Run> {
        Pages::new(
            self.client.clone(),
            Call::new(Method::GET, &["v1", "destinations", destination, "runs"]),
        )
    }

    /// Shows a replay and how far it is.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn run(&self, destination: &str, run: u32) -> Result<Run, Error> {
        self.client
            .call(Call::new(
                Method::GET,
                &["v1", "destinations", destination, "runs", &run.to_string()],
            ))
            .await
    }

    /// Stops a replay for now, lets it go on, or calls it off.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn change_run(
        &self,
        destination: &str,
        run: u32,
        change: &str,
    ) -> Result<Run, Error> {
        self.client
            .call(Call::new(
                Method::POST,
                &["v1", "destinations", destination, "runs", &run.to_string(), change],
            ))
            .await
    }

    /// Shows how a destination did in the last hour and day.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn statistics(&self, destination: &str) -> Result<DestinationStatistics, Error> {
        self.client
            .call(Call::new(Method::GET, &["v1", "destinations", destination, "statistics"]))
            .await
    }

    /// Sends a sample event to a destination, now and once. It leaves no trace in journal and
    /// log.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn test(&self, destination: &str, body: &TestRequest) -> Result<TestResult, Error> {
        self.client
            .call(Call::new(Method::POST, &["v1", "destinations", destination, "test"]).json(body)?)
            .await
    }

    /// Lists the destinations of an instance. Those of the whole account are not among them.
    pub fn list_of(&self, instance: &str) -> Pages<Destination> {
        Pages::new(
            self.client.clone(),
            Call::new(Method::GET, &["v1", "instances", instance, "destinations"]),
        )
    }

    /// Creates a destination of an instance.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn create_for(
        &self,
        instance: &str,
        body: &CreateDestination,
    ) -> Result<Destination, Error> {
        self.client
            .call(
                Call::new(Method::POST, &["v1", "instances", instance, "destinations"])
                    .json(body)?
                    .keyed(self.key.as_deref())?,
            )
            .await
    }
}

/// What the API offers under `deliveries`.
#[derive(Debug, Clone)]
pub struct Deliveries<'a> {
    client: &'a Client,
    #[expect(dead_code, reason = "nothing here is made twice")]
    key: Option<String>,
}

impl Deliveries<'_> {
    /// Searches the delivery log, newest first.
    pub fn list(&self, query: &ListDeliveries) -> Pages<Delivery> {
        Pages::new(
            self.client.clone(),
            Call::new(Method::GET, &["v1", "deliveries"])
                .query("instance", query.instance.as_deref())
                .query("destination", query.destination.as_deref())
                .query("status", query.status.as_deref())
                .query("event_type", query.event_type.as_deref())
                .query("event_id", query.event_id.as_deref())
                .query("http_status", query.http_status)
                .query("from", query.from.as_deref())
                .query("to", query.to.as_deref()),
        )
    }

    /// Sends every delivery that matches again, now. Ask with `dry_run` first.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn retry_matching(&self, body: &RetryRequest) -> Result<RetryAnswer, Error> {
        self.client.call(Call::new(Method::POST, &["v1", "deliveries", "retry"]).json(body)?).await
    }

    /// Shows a delivery with every attempt.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn get(&self, delivery: &str) -> Result<DeliveryDetail, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "deliveries", delivery])).await
    }

    /// Sends one delivery again, now, whatever became of it.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn retry(&self, delivery: &str) -> Result<Delivery, Error> {
        self.client.call(Call::new(Method::POST, &["v1", "deliveries", delivery, "retry"])).await
    }
}

/// What the API offers under `realtime`.
#[derive(Debug, Clone)]
pub struct Realtime<'a> {
    client: &'a Client,
    #[expect(dead_code, reason = "nothing here is made twice")]
    key: Option<String>,
}

impl Realtime<'_> {
    /// Lists named subscribers.
    pub fn subscribers(&self, query: &ListSubscribers) -> Pages<Subscriber> {
        Pages::new(
            self.client.clone(),
            Call::new(Method::GET, &["v1", "subscribers"])
                .query("instance", query.instance.as_deref()),
        )
    }

    /// Shows a named subscriber, with the events that are dead for it.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn subscriber(&self, subscriber: &str) -> Result<Subscriber, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "subscribers", subscriber])).await
    }

    /// Forgets a named subscriber: its connections are closed, and who connects with its name
    /// next begins anew.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn delete_subscriber(&self, subscriber: &str) -> Result<(), Error> {
        self.client.command(Call::new(Method::DELETE, &["v1", "subscribers", subscriber])).await
    }

    /// Sends a named subscriber again what is dead for it, as if for the first time: at once if
    /// it is connected, else when it comes.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn retry_subscriber(
        &self,
        subscriber: &str,
        body: &RetrySubscriber,
    ) -> Result<SubscriberRetry, Error> {
        self.client
            .call(Call::new(Method::POST, &["v1", "subscribers", subscriber, "retry"]).json(body)?)
            .await
    }

    /// Makes a ticket that opens one connection within a minute.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn create_ticket(&self, body: &CreateTicket) -> Result<Ticket, Error> {
        self.client.call(Call::new(Method::POST, &["v1", "tickets"]).json(body)?).await
    }
}

/// What the API offers under `operations`.
#[derive(Debug, Clone)]
pub struct Operations<'a> {
    client: &'a Client,
    #[expect(dead_code, reason = "nothing here is made twice")]
    key: Option<String>,
}

impl Operations<'_> {
    /// Lists the changes of the configuration, newest first. With the admin token: of all
    /// accounts, or of that of the header `zapbus-account`.
    pub fn audit(&self) -> Pages<Audit> {
        Pages::new(self.client.clone(), Call::new(Method::GET, &["v1", "audit"]))
    }

    /// Lists the backups in the gateway's folder, oldest first. Needs the admin token.
    pub fn backups(&self) -> Pages<Backup> {
        Pages::new(self.client.clone(), Call::new(Method::GET, &["v1", "backups"]))
    }

    /// Takes a backup of everything but the encryption key, while events go on. Ask for it by its
    /// name to hear how far it is. Not where the database is on a server, which has backups of
    /// its own. Needs the admin token.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn take_backup(&self, body: &BackupRequest) -> Result<Backup, Error> {
        self.client.call(Call::new(Method::POST, &["v1", "backups"]).json(body)?).await
    }

    /// Shows a backup and how far it is. Needs the admin token.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn backup(&self, backup: &str) -> Result<Backup, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "backups", backup])).await
    }

    /// Shows the nodes of the cluster, and which of them runs the lanes of which shard. Needs the
    /// admin token.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn cluster(&self) -> Result<Cluster, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "cluster"])).await
    }

    /// Erases every trace of a chat, a person or an instance from journal, log and files. What
    /// was delivered already is at its receiver. Ask with `dry_run` first.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn erase(&self, body: &EraseRequest) -> Result<Erased, Error> {
        self.client.call(Call::new(Method::POST, &["v1", "erasures"]).json(body)?).await
    }

    /// Shows how the gateway is: store, listener, destinations that need attention, instances
    /// that are silent. Of very many destinations and instances only the first thousand are
    /// looked at. Needs the admin token.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn health(&self) -> Result<Health, Error> {
        self.client.call(Call::new(Method::GET, &["v1", "health"])).await
    }

    /// Decodes again what was kept as `event.unknown`, for the day a decoder has learned more.
    /// What is understood now is stored under new ids and with `history: true`; the unknown event
    /// stays. Doing it again stores nothing twice. Ask with `dry_run` first.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn redecode(&self, body: &RedecodeRequest) -> Result<Redecoded, Error> {
        self.client.call(Call::new(Method::POST, &["v1", "redecode"]).json(body)?).await
    }

    /// Encrypts every stored secret with the first of the keys that the gateway was given, so
    /// that the others need not be given any more. Needs the admin token.
    ///
    /// # Errors
    ///
    /// Whatever the gateway refuses, and that it cannot be reached.
    pub async fn rekey(&self) -> Result<RekeyAnswer, Error> {
        self.client.call(Call::new(Method::POST, &["v1", "rekey"])).await
    }
}

/// Parameters of [`Events::list_all`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListEvents {
    /// Which types, separated by commas: `message.*,call.updated:offer`. All when left out.
    pub types: Option<String>,
    /// With the untouched upstream element.
    pub include_raw: Option<bool>,
}

/// Parameters of [`Events::list`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListInstanceEvents {
    /// Which types, separated by commas: `message.*,call.updated:offer`. All when left out.
    pub types: Option<String>,
    /// With the untouched upstream element.
    pub include_raw: Option<bool>,
}

/// Parameters of [`Destinations::list`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListDestinations {
    /// Only those of the whole account (`true`), or only those of instances (`false`).
    pub global: Option<bool>,
    /// Only those of this instance: id in any form, or name.
    pub instance: Option<String>,
}

/// Parameters of [`Deliveries::list`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListDeliveries {
    /// Of events of this instance: id in any form, or name.
    pub instance: Option<String>,
    /// Of this destination.
    pub destination: Option<String>,
    /// In one of these states, separated by commas: `delivered`, `retrying`, `waiting`, `dead`,
    /// `cancelled`, `expired`; or `pending`: what is still to be sent, with the count of what
    /// waits in the journal (needs `destination`).
    pub status: Option<String>,
    /// Of these event types, separated by commas: `message.*,call.updated:offer`.
    pub event_type: Option<String>,
    /// Of this event.
    pub event_id: Option<String>,
    /// Whose last attempt was answered with this HTTP status.
    pub http_status: Option<u32>,
    /// Written at or after this RFC 3339 time.
    pub from: Option<String>,
    /// Written before this RFC 3339 time.
    pub to: Option<String>,
}

/// Parameters of [`Realtime::subscribers`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ListSubscribers {
    /// Of this instance, by id or name.
    pub instance: Option<String>,
}
