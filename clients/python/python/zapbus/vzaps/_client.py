"""The clients: one that is awaited, one that is waited for."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeVar

from . import _resources as resources
from ._realtime import AsyncEventsResource
from ._threaded import EventsResource
from ._transport import AsyncTransport, Transport, make_core

_Async = TypeVar("_Async", bound="AsyncVZapsClient")
_Sync = TypeVar("_Sync", bound="VZapsClient")


class AsyncVZapsClient:
    """VZaps's API, awaited. ``async with`` closes it.

    ``base_url`` and ``realtime_url`` say where the server is; without them, ``VZAPS_BASE_URL`` and
    ``VZAPS_REALTIME_URL`` in the environment do, else it is VZaps's own. Credentials go in headers;
    the access token is kept and exchanged ``token_skew_seconds`` before its end. Requests that may be
    repeated are, ``max_retries`` times.
    """

    def __init__(
        self,
        *,
        client_token: str,
        client_secret: str,
        base_url: str | None = None,
        realtime_url: str | None = None,
        timeout: float = 30.0,
        token_skew_seconds: float = 60.0,
        max_retries: int = 2,
        user_agent: str | None = None,
    ) -> None:
        core = make_core(
            client_token=client_token,
            client_secret=client_secret,
            base_url=base_url,
            realtime_url=realtime_url,
            timeout=timeout,
            token_skew_seconds=token_skew_seconds,
            max_retries=max_retries,
            user_agent=user_agent,
        )
        self._transport = AsyncTransport(core)
        self.auth = resources.AsyncAuthResource(self._transport)
        self.instances = resources.AsyncInstancesResource(self._transport)
        self.sessions = resources.AsyncSessionsResource(self._transport)
        self.webhooks = resources.AsyncWebhooksResource(self._transport)
        self.events = AsyncEventsResource(core)

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        instance_token: str | None = None,
        auth: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Makes a call that has no method of its own here."""
        return await self._transport.request(
            method,
            path,
            body=body,
            query=query,
            instance_token=instance_token,
            auth=auth,
            headers=headers,
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


class VZapsClient:
    """VZaps's API, waited for: no event loop is needed. ``with`` closes it.

    Its arguments are those of :class:`AsyncVZapsClient`.
    """

    def __init__(
        self,
        *,
        client_token: str,
        client_secret: str,
        base_url: str | None = None,
        realtime_url: str | None = None,
        timeout: float = 30.0,
        token_skew_seconds: float = 60.0,
        max_retries: int = 2,
        user_agent: str | None = None,
    ) -> None:
        core = make_core(
            client_token=client_token,
            client_secret=client_secret,
            base_url=base_url,
            realtime_url=realtime_url,
            timeout=timeout,
            token_skew_seconds=token_skew_seconds,
            max_retries=max_retries,
            user_agent=user_agent,
        )
        self._transport = Transport(core)
        self.auth = resources.AuthResource(self._transport)
        self.instances = resources.InstancesResource(self._transport)
        self.sessions = resources.SessionsResource(self._transport)
        self.webhooks = resources.WebhooksResource(self._transport)
        self.events = EventsResource(core)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
        instance_token: str | None = None,
        auth: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Makes a call that has no method of its own here."""
        return self._transport.request(
            method,
            path,
            body=body,
            query=query,
            instance_token=instance_token,
            auth=auth,
            headers=headers,
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
