"""The clients of the native API: one that is awaited, one that is waited for."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from . import _core
from . import _resources as resources
from ._consume import Consumed, Order, consume, consume_async
from ._errors import UsageError
from ._events import Event, Gap, seconds
from ._subscription import AsyncSubscription, Options, Subscription
from ._transport import AsyncTransport, Transport
from ._version import __version__

_Async = TypeVar("_Async", bound="AsyncClient")
_Sync = TypeVar("_Sync", bound="Client")

#: Events in one request, and bytes of them.
BATCH = 500
BATCH_BYTES = 1 << 20


@dataclass(frozen=True)
class Published:
    """What became of an event: its id and position if it is stored (``duplicate``: it was before),
    the problem if it was refused, neither if it is of a kind that is not stored."""

    id: str | None
    seq: int | None
    duplicate: bool
    error: Mapping[str, Any] | None


def _published(result: dict[str, Any]) -> Published:
    return Published(
        result.get("id"),
        result.get("seq"),
        bool(result.get("duplicate")),
        result.get("error"),
    )


def _batches(events: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    batch: list[Mapping[str, Any]] = []
    size = 0
    for event in events:
        bytes_ = len(json.dumps(event))
        if batch and (len(batch) >= BATCH or size + bytes_ > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += bytes_
    if batch:
        yield batch


def _core_client(
    url: str | None,
    token: str | None,
    account: str | None,
    timeout: float | timedelta,
    max_retries: int,
    user_agent: str | None,
) -> _core.NativeClient:
    url = url or os.environ.get("ZAPBUS_URL") or "http://127.0.0.1:8080"
    token = token or os.environ.get("ZAPBUS_TOKEN")
    if not token:
        raise UsageError("a token is needed: token=…, or ZAPBUS_TOKEN in the environment")
    return _core.NativeClient(
        url=url,
        token=token,
        account=account,
        timeout=seconds(timeout),
        max_retries=max_retries,
        user_agent=user_agent or f"zapbus-python/{__version__}",
    )


class AsyncClient:
    """A client of one gateway, awaited. ``async with`` closes it.

    ``url`` and ``token`` come from ``ZAPBUS_URL`` and ``ZAPBUS_TOKEN`` if they are not given.
    ``account``: the account to act in, with the admin token. Requests that may be repeated are,
    ``max_retries`` times.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        token: str | None = None,
        account: str | None = None,
        timeout: float | timedelta = 30.0,
        max_retries: int = 2,
        user_agent: str | None = None,
    ) -> None:
        self._core = _core_client(url, token, account, timeout, max_retries, user_agent)
        self._transport = AsyncTransport(self._core)
        self.accounts = resources.AsyncAccounts(self._transport)
        self.credentials = resources.AsyncCredentials(self._transport)
        self.instances = resources.AsyncInstances(self._transport)
        self.sources = resources.AsyncSources(self._transport)
        self.events = resources.AsyncEvents(self._transport)
        self.destinations = resources.AsyncDestinations(self._transport)
        self.deliveries = resources.AsyncDeliveries(self._transport)
        self.realtime = resources.AsyncRealtime(self._transport)
        self.operations = resources.AsyncOperations(self._transport)

    async def publish(
        self, instance: str, events: Iterable[Mapping[str, Any]]
    ) -> list[Published]:
        """Publishes events of an instance (``type``, ``data``, and if wanted ``id``,
        ``occurred_at``, ``dedup_key``, ``ordering_key``), in order, and says for each what became of
        it. They are stored when this returns; requests that fail are repeated under the same key, so
        that nothing is stored twice."""
        published: list[Published] = []
        path = ["v1", "instances", instance, "events"]
        for batch in _batches(events):
            answer = await self._transport.ask("POST", path, [], batch, keyed=True)
            published += [_published(result) for result in answer["results"]]
        return published

    def subscribe(self, instance: str | None = None, **options: Any) -> AsyncSubscription:
        """Live events of an instance, by id or name; without one, of everything the token reaches.

        ``subscriber``: a name under which the gateway keeps what was acknowledged. ``after``: begin
        after an event id, a cursor, a time or a position. ``types``: patterns. ``dialect``,
        ``include_raw``, ``exclude_ephemeral``, ``inline_media``, ``fallback``: how events are
        written. ``max_unacked``, ``ack_wait``: how many may wait for their acknowledgement, and how
        long. ``reconnect``, ``max_retries``, ``retry_pause``, ``longest_retry_pause``, ``patient``
        (wait for a gateway that is not there yet), ``keep_alive``, ``max_frame_bytes``.
        """
        return AsyncSubscription(self._core, Options(instance, **options))

    async def consume(
        self,
        instance: str | None = None,
        *,
        handler: Callable[[Event], Any],
        concurrency: int = 1,
        order: Order = "chat",
        retry_after: float | timedelta = 1.0,
        drain_within: float | timedelta = 30.0,
        stop: asyncio.Event | None = None,
        on_failure: Callable[[Event, BaseException], Any] | None = None,
        on_gap: Callable[[Gap], Any] | None = None,
        **options: Any,
    ) -> Consumed:
        """Hands events to a function: acknowledged when it returns, handed back for ``retry_after``
        (doubling) when it raises, which ``on_failure`` is told, else the log. Events of one chat one
        after the other, ``concurrency`` at a time. Runs until ``stop`` is set or it is cancelled,
        and lets what has begun finish within ``drain_within``."""
        return await consume_async(
            self.subscribe(instance, **options),
            handler,
            concurrency=concurrency,
            order=order,
            retry_after=seconds(retry_after),
            drain_within=seconds(drain_within),
            stop=stop,
            on_failure=on_failure,
            on_gap=on_gap,
        )

    async def aclose(self) -> None:
        """Nothing is left to close: subscriptions are closed by themselves, and idle connections
        end with the client."""

    async def __aenter__(self: _Async) -> _Async:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


class Client:
    """A client of one gateway, waited for: no event loop is needed. ``with`` closes it.

    Its arguments are those of :class:`AsyncClient`.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        token: str | None = None,
        account: str | None = None,
        timeout: float | timedelta = 30.0,
        max_retries: int = 2,
        user_agent: str | None = None,
    ) -> None:
        self._core = _core_client(url, token, account, timeout, max_retries, user_agent)
        self._transport = Transport(self._core)
        self.accounts = resources.Accounts(self._transport)
        self.credentials = resources.Credentials(self._transport)
        self.instances = resources.Instances(self._transport)
        self.sources = resources.Sources(self._transport)
        self.events = resources.Events(self._transport)
        self.destinations = resources.Destinations(self._transport)
        self.deliveries = resources.Deliveries(self._transport)
        self.realtime = resources.Realtime(self._transport)
        self.operations = resources.Operations(self._transport)

    def publish(self, instance: str, events: Iterable[Mapping[str, Any]]) -> list[Published]:
        """See :meth:`AsyncClient.publish`."""
        published: list[Published] = []
        path = ["v1", "instances", instance, "events"]
        for batch in _batches(events):
            answer = self._transport.ask("POST", path, [], batch, keyed=True)
            published += [_published(result) for result in answer["results"]]
        return published

    def subscribe(self, instance: str | None = None, **options: Any) -> Subscription:
        """See :meth:`AsyncClient.subscribe`."""
        return Subscription(self._core, Options(instance, **options))

    def consume(
        self,
        instance: str | None = None,
        *,
        handler: Callable[[Event], Any],
        concurrency: int = 1,
        order: Order = "chat",
        retry_after: float | timedelta = 1.0,
        drain_within: float | timedelta = 30.0,
        stop: threading.Event | None = None,
        on_failure: Callable[[Event, BaseException], Any] | None = None,
        on_gap: Callable[[Gap], Any] | None = None,
        **options: Any,
    ) -> Consumed:
        """See :meth:`AsyncClient.consume`; handlers run on threads."""
        return consume(
            self.subscribe(instance, **options),
            handler,
            concurrency=concurrency,
            order=order,
            retry_after=seconds(retry_after),
            drain_within=seconds(drain_within),
            stop=stop,
            on_failure=on_failure,
            on_gap=on_gap,
        )

    def close(self) -> None:
        """Nothing is left to close: subscriptions are closed by themselves, and idle connections
        end with the client."""

    def __enter__(self: _Sync) -> _Sync:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
