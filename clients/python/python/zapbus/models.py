"""The bodies of requests and answers, as typed dictionaries: what a later version adds is in them
too.

Made from the description of the API by clients/generate.py: do not change it by hand.
"""

from __future__ import annotations

import builtins
from typing import Any, Literal, Optional, TypedDict, Union

ExchangeType = Union[Literal["topic", "direct", "fanout", "headers"], str]
"""Kinds of exchanges."""

Files = Union[Literal["none", "ids", "all"], str]
"""Which files are fetched that events only name."""

Http2 = Union[Literal["auto", "prior_knowledge", "never"], str]
"""When to speak HTTP/2."""

Preset = Union[Literal["native", "vzaps", "ryze", "evolution"], str]
"""Whose retry schedule and reading of answers to use."""

PusherOversize = Union[Literal["pointer", "refuse"], str]
"""What becomes of an event that is too large."""

QueueType = Union[Literal["quorum", "classic"], str]
"""Kinds of queues."""

RabbitmqPreset = Union[Literal["native", "evolution_instance", "evolution_global", "evolution_topic"], str]
"""Names to start from."""

SqsPreset = Union[Literal["native", "evolution_instance", "evolution_global", "evolution_single"], str]
"""Names to start from."""

ChannelConfig = Union["WebhookChannel", "RabbitmqChannel", "SqsChannel", "PusherChannel"]
"""Where a destination sends to."""

Paste = Union["MetaPaste", "BridgePaste"]
"""What to enter upstream."""


class _AccountRequired(TypedDict):
    created_at: str
    id: str
    name: str


class Account(_AccountRequired, total=False):
    """An account: a tenant that owns instances."""

    origins: Optional[builtins.list[str]]


class AccountRequest(TypedDict):
    """A name for an account."""

    name: str


class _AttemptRequired(TypedDict):
    at: str
    latency_ms: int
    number: int
    request_headers: builtins.list[builtins.list[Any]]
    response_excerpt: str
    response_headers: builtins.list[builtins.list[Any]]


class Attempt(_AttemptRequired, total=False):
    """One attempt."""

    error: Optional[str]
    http_status: Optional[int]


class _AuditRequired(TypedDict):
    action: str
    actor: str
    at: str
    detail: builtins.dict[str, Any]
    id: str
    target: str


class Audit(_AuditRequired, total=False):
    """One change of the configuration."""

    account: Optional[str]


class Backlog(TypedDict):
    """What waits in the journal for a destination."""

    complete: bool
    events: int


class _BackupRequired(TypedDict):
    began_at: str
    name: str
    path: str
    state: Union[Literal["running", "done", "failed"], str]


class Backup(_BackupRequired, total=False):
    """A backup."""

    blobs: int
    bytes: int
    keys: builtins.list[str]
    version: str
    copied_pages: Optional[int]
    error: Optional[str]
    pages: Optional[int]


class BackupRequest(TypedDict, total=False):
    """A backup to take."""

    name: Optional[str]


class BridgePaste(TypedDict):
    """What to set in Evolution API, wuzapi or WAHA."""

    requests: builtins.list[UpstreamRequest]
    secret: str
    url_with_secret: str


class ChangeAccount(TypedDict, total=False):
    """What to change of an account. What is left out stays as it is."""

    name: Optional[str]
    origins: Optional[builtins.list[str]]


class ChangeDestination(TypedDict, total=False):
    """What to change of a destination. What is left out stays as it is; `channel` is merged,
    with `null` taking a member away.
    """

    channel: Optional[builtins.dict[str, Any]]
    dialect: Optional[str]
    disable_after_s: Optional[int]
    events: Optional[builtins.list[str]]
    evolution: Optional[EvolutionChoices]
    exclude_ephemeral: Optional[bool]
    fallback: Optional[str]
    include_raw: Optional[bool]
    inline_media: Optional[bool]
    label: Optional[str]
    max_in_flight: Optional[int]
    media_key: Optional[bool]
    ordering: Optional[Union[Literal["none", "key", "strict"], str]]
    rate_limit_per_s: Optional[float]
    retry: Optional[Retry]
    ryze: Optional[RyzeChoices]
    wait_for_media_s: Optional[int]


class ChangeInstance(TypedDict, total=False):
    """What to change of an instance."""

    media: Optional[ChangeInstanceMedia]
    name: Optional[str]
    rotate_token: bool
    token: Optional[str]


class ChangeInstanceMedia(TypedDict, total=False):
    """What to change about the files of an instance."""

    fetch: Optional[Union[Literal["none", "ids", "all"], str]]
    wait_for_media_s: Optional[int]


class ClientCertificate(TypedDict):
    """A certificate and its key."""

    cert_pem: str
    key_pem: str


class Cluster(TypedDict):
    """The nodes and shards of a store."""

    engine: str
    node: str
    nodes: builtins.list[ClusterNode]
    shards: builtins.list[ClusterShard]


class _ClusterNodeRequired(TypedDict):
    id: str
    name: str
    seen_s: float
    shards: int
    up_s: float


class ClusterNode(_ClusterNodeRequired, total=False):
    """One process of the gateway."""

    lag_s: Optional[float]


class _ClusterShardRequired(TypedDict):
    epoch: int
    head: int
    shard: int


class ClusterShard(_ClusterShardRequired, total=False):
    """A part of the journal."""

    last_event_at: Optional[str]
    lease_s: Optional[float]
    node: Optional[str]


class Contents(TypedDict):
    """What a finished backup holds."""

    blobs: int
    bytes: int
    keys: builtins.list[str]
    version: str


class _CreateCredentialRequired(TypedDict):
    name: str


class CreateCredential(_CreateCredentialRequired, total=False):
    """A new credential."""

    client_token: Optional[str]
    expires_at: Optional[str]
    instance: Optional[str]
    role: Union[Literal["account", "instance"], str]


class _CreateDestinationRequired(TypedDict):
    channel: ChannelConfig


class CreateDestination(_CreateDestinationRequired, total=False):
    """A new destination. Only `channel` is required."""

    dialect: Optional[str]
    disable_after_s: Optional[int]
    events: Optional[builtins.list[str]]
    evolution: Optional[EvolutionChoices]
    exclude_ephemeral: bool
    fallback: Optional[str]
    include_raw: bool
    inline_media: bool
    label: Optional[str]
    max_in_flight: Optional[int]
    media_key: Optional[bool]
    ordering: Optional[Union[Literal["none", "key", "strict"], str]]
    rate_limit_per_s: Optional[float]
    retry: Optional[Retry]
    ryze: Optional[RyzeChoices]
    start: Optional[str]
    wait_for_media_s: Optional[int]


class _CreateInstanceRequired(TypedDict):
    name: str


class CreateInstance(_CreateInstanceRequired, total=False):
    """A new instance."""

    token: Optional[str]


class CreateTicket(TypedDict, total=False):
    """What a ticket is for."""

    instance: Optional[str]


class _CredentialRequired(TypedDict):
    created_at: str
    id: str
    name: str
    role: str


class Credential(_CredentialRequired, total=False):
    """A token without its secret."""

    account: Optional[str]
    client_token: Optional[str]
    expires_at: Optional[str]
    instance: Optional[str]
    secret: Optional[str]


class _DeadAnswerRequired(TypedDict):
    deliveries: int
    sent_at: str
    seq: int


class DeadAnswer(_DeadAnswerRequired, total=False):
    """An event that is dead for a subscriber."""

    event_id: Optional[str]


class _DeliveryRequired(TypedDict):
    attempts: int
    created_at: str
    destination_id: str
    id: str
    seq: int
    status: str
    updated_at: str


class Delivery(_DeliveryRequired, total=False):
    """One event for one destination, in one run."""

    dead_reason: Optional[str]
    error: Optional[str]
    event_id: Optional[str]
    event_type: Optional[str]
    expired_events: Optional[int]
    expired_to: Optional[int]
    http_status: Optional[int]
    instance_id: Optional[str]
    latency_ms: Optional[int]
    next_attempt_at: Optional[str]
    response_excerpt: Optional[str]
    run: Optional[int]


class _DeliveryDetailRequired(TypedDict):
    attempts: builtins.list[Attempt]
    delivery: Delivery


class DeliveryDetail(_DeliveryDetailRequired, total=False):
    """A delivery with its attempts and what was sent."""

    no_request: Optional[Union[Literal["event_expired", "destination_deleted", "no_channel", "render_failed"], str]]
    request: Optional[RenderedRequest]


class _DeliveryFiguresRequired(TypedDict):
    accepted: int
    attempts: int
    dead: int
    expired: int
    failed: int


class DeliveryFigures(_DeliveryFiguresRequired, total=False):
    """What became of deliveries. Replays count too; a probe that was not an attempt of its event
    does not.
    """

    latency_p50_ms: Optional[int]
    latency_p99_ms: Optional[int]
    success_rate: Optional[float]


class _DeliveryPageRequired(TypedDict):
    data: builtins.list[Delivery]


class DeliveryPage(_DeliveryPageRequired, total=False):
    """A page of the delivery log, newest first. It may hold few lines and still have a `next`: a
    search stops after a while, so that it holds up nobody.
    """

    backlog: Optional[Backlog]
    next: Optional[str]


class _DestinationRequired(TypedDict):
    account: str
    created_at: str
    dialect: str
    disable_after_s: int
    events: builtins.list[str]
    exclude_ephemeral: bool
    fallback: str
    id: str
    include_raw: bool
    inline_media: bool
    label: str
    max_in_flight: int
    media_key: bool
    ordering: Union[Literal["none", "key", "strict"], str]
    retry: Retry
    state: str
    updated_at: str


class Destination(_DestinationRequired, total=False):
    """A destination: a push target of an instance, or of a whole account."""

    channel: Optional[ChannelConfig]
    evolution: Optional[EvolutionChoices]
    instance: Optional[str]
    rate_limit_per_s: Optional[float]
    reason: Optional[str]
    ryze: Optional[RyzeChoices]
    since: Optional[str]
    status: Optional[DestinationStatus]
    wait_for_media_s: Optional[int]


class _DestinationStatisticsRequired(TypedDict):
    destination_id: str
    last_day: DestinationWindow
    last_hour: DestinationWindow


class DestinationStatistics(_DestinationStatisticsRequired, total=False):
    """The last hour and day of a destination."""

    last_event_at: Optional[str]
    seconds_since_last_event: Optional[float]


class _DestinationStatusRequired(TypedDict):
    dead: int
    health: str
    in_flight: int
    retrying: int
    waiting: int


class DestinationStatus(_DestinationStatusRequired, total=False):
    """How delivery goes."""

    cursor: Optional[int]
    last_error: Optional[str]
    next_probe_at: Optional[str]
    oldest_unsettled_at: Optional[str]
    probing_since: Optional[str]


DestinationWindow = TypedDict(
    "DestinationWindow",
    {
        "deliveries": 'DeliveryFigures',
        "from": 'str',
    },
    total=False,
)
"""Figures of a destination since a time."""


class DestinationsHealth(TypedDict):
    """All destinations, and those that need attention."""

    attention: builtins.list[TroubledDestination]
    disabled: int
    looked_at: int
    more: bool
    paused: int
    probing: int


class EgressHealth(TypedDict):
    """What destinations may reach."""

    allow: builtins.list[str]
    loopback_allowed: bool


class EncryptionHealth(TypedDict):
    """Encryption of what is secret in the store."""

    key_in_data_folder: bool
    keys: builtins.list[str]


class _EraseRequestRequired(TypedDict):
    type: Union[Literal["chat", "person", "instance"], str]


class EraseRequest(_EraseRequestRequired, total=False):
    """What to erase. Names of instances and destinations, and their settings, stay."""

    address: Optional[str]
    chat: Optional[str]
    dry_run: bool
    instance: Optional[str]


class Erased(TypedDict):
    """What was erased."""

    blobs: int
    bodies: int
    deliveries: int
    dry_run: bool
    events: int


class _EventPageRequired(TypedDict):
    cursor: str
    data: builtins.list[builtins.dict[str, Any]]


class EventPage(_EventPageRequired, total=False):
    """A page of events."""

    gap: bool
    next: Optional[str]


class _EventTypeRequired(TypedDict):
    ephemeral: bool
    operational: bool
    samples: builtins.dict[str, Any]
    schema: builtins.dict[str, Any]
    summary: str
    type: str


class EventType(_EventTypeRequired, total=False):
    """An event type."""

    facet: Optional[str]
    facet_values: Optional[builtins.list[str]]


class _EventTypesRequired(TypedDict):
    data: builtins.list[EventType]


class EventTypes(_EventTypesRequired, total=False):
    """Every event type."""

    next: Optional[str]


class EvolutionChoices(TypedDict, total=False):
    """What only `dialect: "evolution"` lets a destination choose. What is left out of a change
    stays as it is.
    """

    lite: Optional[bool]
    names: Optional[builtins.list[str]]
    show_key: Optional[bool]


class _ExchangeRequired(TypedDict):
    excerpt: str
    latency_ms: int
    outcome: str
    request_headers: builtins.list[builtins.list[Any]]
    response_headers: builtins.list[builtins.list[Any]]


class Exchange(_ExchangeRequired, total=False):
    """One message and the answer to it."""

    error: Optional[str]
    status: Optional[int]


class ExpireCredential(TypedDict, total=False):
    """When a credential ends."""

    at: Optional[str]


class _HealthRequired(TypedDict):
    at: str
    destinations: DestinationsHealth
    egress: EgressHealth
    encryption: EncryptionHealth
    instances: InstancesHealth
    listener: ListenerHealth
    media: MediaHealth
    store: StoreHealth
    version: str


class Health(_HealthRequired, total=False):
    """How the gateway is."""

    last_backup_at: Optional[str]
    not_ready: Optional[str]


class _InstanceRequired(TypedDict):
    account: str
    created_at: str
    id: str
    ids: InstanceIds
    media: InstanceMedia
    name: str
    source: str
    state: InstanceState


class Instance(_InstanceRequired, total=False):
    """An instance: one WhatsApp number or session."""

    last_event_at: Optional[str]
    token: Optional[str]


class InstanceIds(TypedDict):
    """An instance's id in the forms of other products."""

    uuid: str
    vzaps: str


class InstanceMedia(TypedDict, total=False):
    """What an instance chooses about files."""

    fetch: Files
    wait_for_media_s: int


class _InstanceStateRequired(TypedDict):
    connection: str


class InstanceState(_InstanceStateRequired, total=False):
    """The last known state of an instance, as its events told it."""

    name: Optional[str]
    pair_code: Optional[PairCode]
    phone: Optional[str]
    picture_url: Optional[str]
    platform: Optional[str]
    qr: Optional[Qr]
    reason: Optional[str]
    since: Optional[str]


class _InstanceStatisticsRequired(TypedDict):
    instance_id: str
    last_day: InstanceWindow
    last_hour: InstanceWindow


class InstanceStatistics(_InstanceStatisticsRequired, total=False):
    """The last hour and day of an instance."""

    last_event_at: Optional[str]
    seconds_since_last_event: Optional[float]


InstanceWindow = TypedDict(
    "InstanceWindow",
    {
        "deliveries": 'DeliveryFigures',
        "events": 'int',
        "from": 'str',
    },
    total=False,
)
"""Figures of an instance since a time."""


class InstancesHealth(TypedDict):
    """All instances, and those that need attention."""

    attention: builtins.list[QuietInstance]
    looked_at: int
    more: bool
    with_source: int


class _ListenerHealthRequired(TypedDict):
    address: str
    behind_proxy: bool
    loopback: bool
    public_url: str
    public_url_set: bool
    tls: bool


class ListenerHealth(_ListenerHealthRequired, total=False):
    """The listener."""

    certificate_expires_at: Optional[str]


class _MediaHealthRequired(TypedDict):
    failed_last_day: int
    pending: int


class MediaHealth(_MediaHealthRequired, total=False):
    """Files that events only name."""

    bucket: Optional[str]


class MetaPaste(TypedDict):
    """What to enter under WhatsApp → Configuration → Webhook in Meta's app dashboard."""

    callback_url: str
    fields: builtins.list[str]
    verify_token: str


class _PairCodeRequired(TypedDict):
    code: str


class PairCode(_PairCodeRequired, total=False):
    """A pairing code that waits to be typed."""

    expires_at: Optional[str]


class PauseRequest(TypedDict, total=False):
    """Why a destination is stopped."""

    reason: Optional[str]


class PreviousSecret(TypedDict):
    """A signing secret on its way out."""

    expires_at: str
    secret: str


class Qr(TypedDict, total=False):
    """A QR code that waits to be scanned."""

    code: Optional[str]
    expires_at: Optional[str]
    image: Optional[str]


class _QuietInstanceRequired(TypedDict):
    account: str
    id: str
    name: str
    no_destination: bool
    silent: bool
    source: str


class QuietInstance(_QuietInstanceRequired, total=False):
    """An instance that needs attention."""

    last_event_at: Optional[str]


class RedecodeFailure(TypedDict):
    """An event that could not be decoded again."""

    event: str
    problem: str


class RedecodeRequest(TypedDict, total=False):
    """Which events to decode again."""

    after: Optional[str]
    dry_run: bool
    instance: Optional[str]
    reason: Optional[str]
    source: Optional[str]
    until: Optional[str]


class _RedecodedRequired(TypedDict):
    dry_run: bool
    events: builtins.dict[str, int]
    failed: int
    failures: builtins.list[RedecodeFailure]
    ignored: int
    known: int
    looked_at: int
    stored: int
    understood: int


class Redecoded(_RedecodedRequired, total=False):
    """What became of them."""

    next: Optional[str]


class RekeyAnswer(TypedDict):
    """What rekeying came to."""

    keys: builtins.list[str]
    rewritten: int
    unreadable: int


class RenderedPart(TypedDict):
    """One message."""

    body: builtins.dict[str, Any]
    name: str


class RenderedRequest(TypedDict):
    """What was sent, as it would be sent now."""

    parts: builtins.list[RenderedPart]
    rendered_again: bool


class _ReplayCountRequired(TypedDict):
    complete: bool
    dry_run: bool
    events: int


class ReplayCount(_ReplayCountRequired, total=False):
    """How many events a replay would send."""

    first: Optional[str]
    last: Optional[str]


ReplayRequest = TypedDict(
    "ReplayRequest",
    {
        "dry_run": 'bool',
        "from": 'Optional[str]',
        "since": 'Optional[str]',
        "types": 'Optional[builtins.list[str]]',
        "until": 'Optional[str]',
    },
    total=False,
)
"""Which stretch of the past to send again. One of `since` and `from` is required."""


ResumeRequest = TypedDict(
    "ResumeRequest",
    {
        "from": 'Union[Literal["cursor", "now"], str]',
    },
    total=False,
)
"""Where to go on."""


class Retry(TypedDict, total=False):
    """When a failed delivery is tried again."""

    final_statuses: Optional[builtins.list[int]]
    jitter: Optional[float]
    max_attempts: Optional[int]
    preset: Preset
    timeout_s: Optional[float]
    waits_s: Optional[builtins.list[float]]


class _RetryAnswerRequired(TypedDict):
    dry_run: bool
    expired: int
    matched: int
    more: bool
    redelivered: int


class RetryAnswer(_RetryAnswerRequired, total=False):
    """What a bulk retry came to."""

    next: Optional[str]


RetryRequest = TypedDict(
    "RetryRequest",
    {
        "after": 'Optional[str]',
        "destination": 'Optional[str]',
        "dry_run": 'bool',
        "event_id": 'Optional[str]',
        "event_type": 'Optional[builtins.list[str]]',
        "from": 'Optional[str]',
        "http_status": 'Optional[int]',
        "instance": 'Optional[str]',
        "limit": 'Optional[int]',
        "status": 'Optional[builtins.list[str]]',
        "to": 'Optional[str]',
    },
    total=False,
)
"""Which deliveries to send again. At least one filter is required."""


class RetrySubscriber(TypedDict, total=False):
    """What to send a subscriber again."""

    event_id: Optional[str]


class RotateCredential(TypedDict, total=False):
    """How long the old secret goes on working."""

    overlap_s: Optional[int]


class RotateSecretRequest(TypedDict, total=False):
    """How long the old secret goes on signing."""

    overlap_s: Optional[int]


Run = TypedDict(
    "Run",
    {
        "created_at": 'str',
        "cursor": 'Optional[int]',
        "destination": 'str',
        "from": 'Optional[int]',
        "run": 'int',
        "shards": 'builtins.list[RunShard]',
        "state": 'str',
        "to": 'Optional[int]',
        "types": 'builtins.list[str]',
    },
    total=False,
)
"""A replay."""


RunShard = TypedDict(
    "RunShard",
    {
        "cursor": 'int',
        "from": 'int',
        "shard": 'int',
        "to": 'int',
    },
    total=False,
)
"""How far a replay is in one shard of the journal."""


class RyzeChoices(TypedDict, total=False):
    """What only `dialect: "ryze"` lets a destination choose. What is left out of a change stays
    as it is.
    """

    blank_token: Optional[bool]
    extended_envelope: Optional[bool]
    message_content: Optional[str]
    names: Optional[builtins.list[str]]


class _ServerHealthRequired(TypedDict):
    fsync: bool
    full_page_writes: bool
    locks_of_a_look: int
    max_connections: int
    max_locks_per_transaction: int
    read_only: bool
    supported: bool
    synchronous_commit: str
    synchronous_standby_names: str
    version: str


class ServerHealth(_ServerHealthRequired, total=False):
    """A database server."""

    synchronous_standbys: Optional[int]


class _SourceRequired(TypedDict):
    type: str
    url: str


class Source(_SourceRequired, total=False):
    """A source as it is set, and what to do upstream."""

    has_access_token: Optional[bool]
    paste: Optional[Paste]
    phone_number_id: Optional[str]


class _SourceRequestRequired(TypedDict):
    type: str


class SourceRequest(_SourceRequestRequired, total=False):
    """Where events enter. `native` needs nothing else, nor do `evolution`, `wuzapi` and `waha`;
    `cloud-api` needs the app secret.
    """

    access_token: Optional[str]
    app_secret: Optional[str]
    phone_number_id: Optional[str]
    secret: Optional[str]
    verify_token: Optional[str]


class _StoreHealthRequired(TypedDict):
    blob_bytes: int
    busy: int
    busy_last_hour: int
    commit_ms: float
    commits: int
    engine: str
    failed_commits: int
    failed_commits_last_hour: int
    max_bytes: int
    min_free_bytes: int
    owed_s: int
    unreadable_events: int
    used_bytes: int
    when_full: str


class StoreHealth(_StoreHealthRequired, total=False):
    """The store."""

    commit_p99_ms: Optional[float]
    free_bytes: Optional[int]
    server: Optional[ServerHealth]
    stopped: Optional[str]


class _SubscriberRequired(TypedDict):
    created_at: str
    cursor: str
    dead: builtins.list[DeadAnswer]
    dialect: str
    id: str
    name: str
    owner: str
    types: builtins.list[str]
    unacked: int
    used_at: str


class Subscriber(_SubscriberRequired, total=False):
    """A subscriber."""

    account: Optional[str]
    instance: Optional[str]


class SubscriberRetry(TypedDict):
    """What is sent again."""

    retried: int


class TestRequest(TypedDict, total=False):
    """Which sample to send."""

    type: Optional[str]


class TestResult(TypedDict):
    """What became of a sample."""

    messages: builtins.list[Exchange]
    ok: bool
    type: str


class Ticket(TypedDict):
    """A ticket."""

    expires_at: str
    ticket: str


class _TroubledDestinationRequired(TypedDict):
    account: str
    dead: int
    dead_last_hour: int
    id: str
    label: str
    probing: bool
    retrying: int
    state: str


class TroubledDestination(_TroubledDestinationRequired, total=False):
    """A destination that needs attention."""

    backlog: Optional[Backlog]
    instance: Optional[str]
    last_error: Optional[str]
    oldest_unsettled_at: Optional[str]
    reason: Optional[str]
    since: Optional[str]


class UpstreamRequest(TypedDict):
    """A request to the API of a bridged product."""

    body: builtins.dict[str, Any]
    request: str


class _WebhookChannelRequired(TypedDict):
    type: Literal["webhook"]
    url: str


class WebhookChannel(_WebhookChannelRequired, total=False):
    """Where and how to post."""

    authorization: Optional[str]
    by_events: bool
    ca_pem: Optional[str]
    client_certificate: Optional[ClientCertificate]
    connect_timeout_s: Optional[float]
    headers: builtins.dict[str, str]
    http2: Http2
    jwt_key: Optional[str]
    previous_secrets: builtins.list[PreviousSecret]
    proxy: Optional[str]
    secret: Optional[str]
    timeout_s: Optional[float]


class _RabbitmqChannelRequired(TypedDict):
    type: Literal["rabbitmq"]
    uri: str


class RabbitmqChannel(_RabbitmqChannelRequired, total=False):
    """Which broker to publish to, and under which names."""

    ca_pem: Optional[str]
    client_certificate: Optional[ClientCertificate]
    connect_timeout_s: Optional[float]
    declare: bool
    exchange: Optional[str]
    exchange_type: Optional[ExchangeType]
    mandatory: bool
    prefix: Optional[str]
    preset: RabbitmqPreset
    queue: Optional[str]
    queue_type: Optional[QueueType]
    routing_key: Optional[str]
    timeout_s: Optional[float]
    transient: bool


class _SqsChannelRequired(TypedDict):
    region: str
    type: Literal["sqs"]


class SqsChannel(_SqsChannelRequired, total=False):
    """Which queues to send to."""

    access_key_id: Optional[str]
    ca_pem: Optional[str]
    connect_timeout_s: Optional[float]
    create: bool
    endpoint: Optional[str]
    fifo: Optional[bool]
    prefix: Optional[str]
    preset: SqsPreset
    queue: Optional[str]
    secret_access_key: Optional[str]
    session_token: Optional[str]
    timeout_s: Optional[float]


class _PusherChannelRequired(TypedDict):
    app_id: str
    key: str
    secret: str
    type: Literal["pusher"]


class PusherChannel(_PusherChannelRequired, total=False):
    """Which app to trigger events in."""

    ca_pem: Optional[str]
    channel: Optional[str]
    cluster: Optional[str]
    connect_timeout_s: Optional[float]
    event: Optional[str]
    host: Optional[str]
    max_bytes: Optional[int]
    oversize: PusherOversize
    path: Optional[str]
    port: Optional[int]
    timeout_s: Optional[float]
    tls: Optional[bool]
