"""Realtime events without an event loop: a thread handles them."""

from __future__ import annotations

import atexit
import inspect
import threading
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from .. import _core
from .._errors import SubscriptionClosedError
from .._loop import BATCH, WAKE_EVERY
from ._errors import VZapsRealtimeError, realtime
from ._handlers import Handlers, log
from ._models import RealtimeEvent
from ._realtime import FINISH_WITHIN, KEEP_ALIVE, LARGEST_FRAME, Options

_Self = TypeVar("_Self", bound="ThreadedEventSubscription")

#: Those that are open, to be closed with the interpreter.
_open: weakref.WeakSet[ThreadedEventSubscription] = weakref.WeakSet()


def _close_all() -> None:
    subscriptions = list(_open)
    for subscription in subscriptions:
        subscription.ask_to_close()
    for subscription in subscriptions:
        subscription.close()


# The interpreter ends daemons in the middle of whatever they do: they are asked before.
atexit.register(_close_all)


class ThreadedEventSubscription(Handlers):
    """A subscription whose handlers run on a thread of its own, one after the other. Otherwise it is
    what :class:`EventSubscription` is.

    ``with`` opens it and closes it.
    """

    def __init__(self, core: _core.VZapsClient, options: Options) -> None:
        super().__init__()
        self._core = core
        self._options = options
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._end: VZapsRealtimeError | None = None
        self._is_open = False

    def __enter__(self: _Self) -> _Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._is_open

    def open(self) -> None:
        """Connects in the background, and goes on trying. Does nothing when it is open."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._closing.clear()
        self._end = None
        feed = self._options.feed(self._core)
        self._thread = threading.Thread(
            target=self._run, args=(feed,), name="zapbus.vzaps.events", daemon=True
        )
        _open.add(self)
        self._thread.start()

    def close(self) -> None:
        """Closes it, and waits until that is done: an event that is being handled is finished, for
        which there are five seconds. Called by a handler, it does not wait for that handler."""
        self.ask_to_close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(FINISH_WITHIN)
            if thread.is_alive():
                log.warning("a handler goes on after its subscription was closed")

    def wait_closed(self, timeout: float | None = None) -> None:
        """Waits for its end, or for so many seconds. Raises why it has ended, if it was not closed
        and no handler of errors was told."""
        if self._thread is not None:
            self._thread.join(timeout)
        if self._end is not None:
            raise self._end

    def ask_to_close(self) -> None:
        """Begins to close it, and does not wait: from a handler of signals, for example."""
        self._closing.set()

    def _check(self, handler: Callable[..., Any]) -> None:
        if inspect.iscoroutinefunction(handler):
            raise TypeError(
                f"{handler!r} is a coroutine function: nothing awaits it here, "
                "subscribe with AsyncVZapsClient"
            )

    def _run(self, feed: _core.Feed) -> None:
        try:
            self._pump(feed)
        finally:
            feed.close()
            if self._is_open:
                self._is_open = False
                self._lifecycle(list(self._close_handlers))
            _open.discard(self)

    def _pump(self, feed: _core.Feed) -> None:
        while not self._closing.is_set():
            pulled = feed.pull(BATCH, WAKE_EVERY)
            if pulled is None:
                continue
            if not pulled:
                return
            for what, value in pulled:
                if self._closing.is_set():
                    # Not handled: it comes again.
                    return
                if what == "event":
                    self._handle(value)
                elif what == "opened":
                    self._is_open = True
                    self._lifecycle(list(self._open_handlers))
                elif what == "closed":
                    self._is_open = False
                    self._lifecycle(list(self._close_handlers))
                elif what == "trouble":
                    self._tell(realtime(value))
                elif what == "ended":
                    if value is not None:
                        self._ended(realtime(value))
                    return

    def _handle(self, delivery: _core.Delivery) -> None:
        try:
            event = RealtimeEvent.of_document(delivery.document)
            for handler in self._of(event):
                handler(event)
        except Exception as error:
            delivery.give_back()
            self._tell(realtime(error))
        else:
            try:
                delivery.ack()
            except SubscriptionClosedError:
                # It was handled while the connection ended for good: it comes again.
                return

    def _ended(self, error: VZapsRealtimeError) -> None:
        if self._error_handlers:
            self._tell(error)
        else:
            self._end = error
            log.error("realtime subscription has ended: %s", error)

    def _tell(self, error: VZapsRealtimeError) -> None:
        if not self._error_handlers:
            log.error("realtime subscription: %s", error, exc_info=error.__cause__)
            return
        for handler in list(self._error_handlers):
            try:
                handler(error)
            except Exception:
                log.exception("a handler of errors has failed, for: %s", error)

    def _lifecycle(self, handlers: list[Any]) -> None:
        for handler in handlers:
            try:
                handler()
            except Exception as error:
                self._tell(realtime(error))


class EventsResource:
    """Events as they happen."""

    def __init__(self, core: _core.VZapsClient) -> None:
        self._core = core

    def subscribe(
        self,
        *,
        instance_id: str,
        instance_token: str,
        events: Sequence[str] | None = None,
        reconnect: bool = True,
        last_event_id: str | None = None,
        max_retries: int | None = None,
        retry_delay_seconds: float = 1.0,
        keep_alive_seconds: float = KEEP_ALIVE,
        max_frame_bytes: int = LARGEST_FRAME,
    ) -> ThreadedEventSubscription:
        """A subscription; it connects when it is opened. See :class:`AsyncEventsResource`."""
        return ThreadedEventSubscription(
            self._core,
            Options(
                instance_id=instance_id,
                instance_token=instance_token,
                events=events,
                reconnect=reconnect,
                last_event_id=last_event_id,
                max_retries=max_retries,
                retry_delay_seconds=retry_delay_seconds,
                keep_alive_seconds=keep_alive_seconds,
                max_frame_bytes=max_frame_bytes,
            ),
        )
