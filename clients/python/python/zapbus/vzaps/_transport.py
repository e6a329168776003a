"""Calls of VZaps's API, awaited or waited for. The Rust half keeps connections and tokens."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

from .. import _core
from .._errors import ZapbusError
from .._loop import awaited
from .._version import __version__
from ._errors import of

BASE_URL = "https://api.vzaps.com"
REALTIME_URL = "wss://realtime.vzaps.com"
USER_AGENT = f"zapbus-python/{__version__}"


def make_core(
    *,
    client_token: str,
    client_secret: str,
    base_url: str | None,
    realtime_url: str | None,
    timeout: float,
    token_skew_seconds: float,
    max_retries: int,
    user_agent: str | None,
) -> _core.VZapsClient:
    """The client of the Rust half."""
    try:
        return _core.VZapsClient(
            client_token=client_token,
            client_secret=client_secret,
            base_url=base_url or os.environ.get("VZAPS_BASE_URL") or BASE_URL,
            realtime_url=realtime_url or os.environ.get("VZAPS_REALTIME_URL") or REALTIME_URL,
            timeout=timeout,
            token_skew_seconds=token_skew_seconds,
            max_retries=max_retries,
            user_agent=user_agent or USER_AGENT,
        )
    except ZapbusError as error:
        raise of(error) from None


def segment(value: str) -> str:
    """A value as a segment of a path."""
    return quote(str(value), safe="")


def plain(value: Any) -> Any:
    """A body as JSON has it; what is ``None`` is left out, as VZaps's package does."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        value = dump(by_alias=True, exclude_none=True)
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        return {key: plain(inner) for key, inner in fields.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in cast("Sequence[Any]", value)]
    return value


def merged(request: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A request given as one object, as arguments, or as both."""
    found: Any = {} if request is None else plain(request)
    if not isinstance(found, dict):
        raise TypeError("request must be a mapping")
    return {**cast("dict[str, Any]", found), **{key: value for key, value in fields.items() if value is not None}}


def of_instance(request: dict[str, Any]) -> tuple[str, str | None, dict[str, Any]]:
    """Whose it is, with which token, and the rest."""
    instance = request.pop("instance_id", None) or request.pop("instanceId", None)
    if not instance:
        raise ValueError("instance_id is required")
    request.pop("instanceId", None)
    token = request.pop("instance_token", None) or request.pop("instanceToken", None)
    request.pop("instanceToken", None)
    return str(instance), str(token) if token else None, request


class _Arguments:
    """A call, as the Rust half takes it."""

    def __init__(
        self,
        method: str,
        path: str,
        body: Any,
        query: Mapping[str, Any] | None,
        instance_token: str | None,
        auth: bool,
        headers: Mapping[str, str] | None,
    ) -> None:
        self.values = (
            method,
            path,
            [(key, str(value)) for key, value in (query or {}).items() if value is not None],
            None if body is None else json.dumps(plain(body)),
            list((headers or {}).items()),
            instance_token,
            auth,
        )


class AsyncTransport:
    """Awaited."""

    def __init__(self, core: _core.VZapsClient) -> None:
        self.core = core

    async def access_token(self) -> str:
        try:
            token: str = await awaited(self.core.start_access_token)
        except ZapbusError as error:
            raise of(error) from None
        return token

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
        call = _Arguments(method, path, body, query, instance_token, auth, headers)
        try:
            answer = await awaited(lambda done: self.core.start_request(done, *call.values))
        except ZapbusError as error:
            raise of(error) from None
        return json.loads(answer)


class Transport:
    """Waited for."""

    def __init__(self, core: _core.VZapsClient) -> None:
        self.core = core

    def access_token(self) -> str:
        try:
            return self.core.access_token()
        except ZapbusError as error:
            raise of(error) from None

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
        call = _Arguments(method, path, body, query, instance_token, auth, headers)
        try:
            return json.loads(self.core.request(*call.values))
        except ZapbusError as error:
            raise of(error) from None
