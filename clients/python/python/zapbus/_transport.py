"""Calls of the native API, awaited or waited for. The Rust half keeps connections and repeats."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, cast

from . import _core
from ._loop import awaited


def given(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The parameters that are there, as they are written in a query."""
    return [(name, _text(value)) for name, value in parameters.items() if value is not None]


def given_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are there."""
    return {name: value for name, value in fields.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(str(one) for one in cast("Sequence[object]", value))
    return str(value)


def _key(key: str | None, keyed: bool) -> str | None:
    """What makes repeats harmless: the caller's, or one of our own."""
    return key or (uuid.uuid4().hex if keyed else None)


def _body(body: Any) -> str | None:
    return None if body is None else json.dumps(body)


class AsyncTransport:
    """Awaited."""

    def __init__(self, core: _core.NativeClient) -> None:
        self.core = core

    async def ask(
        self,
        method: str,
        path: list[str],
        query: list[tuple[str, str]],
        body: Any = None,
        *,
        key: str | None = None,
        keyed: bool = False,
    ) -> Any:
        text, key = _body(body), _key(key, keyed)
        answer = await awaited(
            lambda done: self.core.start_request(done, method, path, query, text, key)
        )
        return json.loads(answer)


class Transport:
    """Waited for."""

    def __init__(self, core: _core.NativeClient) -> None:
        self.core = core

    def ask(
        self,
        method: str,
        path: list[str],
        query: list[tuple[str, str]],
        body: Any = None,
        *,
        key: str | None = None,
        keyed: bool = False,
    ) -> Any:
        answer = self.core.request(method, path, query, _body(body), _key(key, keyed))
        return json.loads(answer)
