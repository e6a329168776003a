"""Who handles what: the same for subscriptions of both kinds."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, overload

from ._models import RealtimeEvent

log = logging.getLogger("zapbus.vzaps")

EventHandler = Callable[[RealtimeEvent], Any]
ErrorHandler = Callable[[BaseException], Any]
LifecycleHandler = Callable[[], Any]

_Event = TypeVar("_Event", bound=EventHandler)
_Error = TypeVar("_Error", bound=ErrorHandler)
_Lifecycle = TypeVar("_Lifecycle", bound=LifecycleHandler)
_Self = TypeVar("_Self", bound="Handlers")


class Handlers:
    """Handlers of events by name, and of what happens to a subscription. They may be added and
    removed at any time; each is called once, in the order of their registration."""

    def __init__(self) -> None:
        self._handlers: dict[str, dict[EventHandler, None]] = {}
        self._error_handlers: dict[ErrorHandler, None] = {}
        self._open_handlers: dict[LifecycleHandler, None] = {}
        self._close_handlers: dict[LifecycleHandler, None] = {}

    @overload
    def on(self, event: str) -> Callable[[_Event], _Event]: ...

    @overload
    def on(self, event: str, handler: _Event) -> _Event: ...

    def on(self, event: str, handler: EventHandler | None = None) -> Any:
        """Handles events of a name, or every event with ``All``. Also a decorator."""

        def register(handler: _Event) -> _Event:
            self._check(handler)
            self._handlers.setdefault(event, {})[handler] = None
            return handler

        return register if handler is None else register(handler)

    def off(self: _Self, event: str, handler: EventHandler) -> _Self:
        """Takes a handler away."""
        self._handlers.get(event, {}).pop(handler, None)
        return self

    def on_error(self, handler: _Error) -> _Error:
        """Is told what goes wrong. Without any, it is logged. Also a decorator."""
        self._check(handler)
        self._error_handlers[handler] = None
        return handler

    def on_open(self, handler: _Lifecycle) -> _Lifecycle:
        """Is called each time a connection is open. Also a decorator."""
        self._check(handler)
        self._open_handlers[handler] = None
        return handler

    def on_close(self, handler: _Lifecycle) -> _Lifecycle:
        """Is called each time a connection has ended. Also a decorator."""
        self._check(handler)
        self._close_handlers[handler] = None
        return handler

    def _check(self, handler: Callable[..., Any]) -> None:
        """Whether it can be called here."""

    def _of(self, event: RealtimeEvent) -> list[EventHandler]:
        named = self._handlers.get(event.type, {})
        return [*named, *self._handlers.get("All", {})]
