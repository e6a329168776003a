"""Realtime events in an event loop of asyncio."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar

from .. import _core
from .._errors import SubscriptionClosedError, ZapbusError
from .._loop import BATCH, WAKE_EVERY, awaited
from ._errors import VZapsRealtimeError, of, realtime
from ._handlers import Handlers, log
from ._models import RealtimeEvent

_Self = TypeVar("_Self", bound="EventSubscription")

#: How long a handler may take to finish when its subscription is closed, in seconds.
FINISH_WITHIN = 5.0

#: Seconds without a sign of life after which a connection is asked for one.
KEEP_ALIVE = 20.0

#: Bytes of the largest frame that is read.
LARGEST_FRAME = 64 << 20


class Options:
    """What to watch, and how."""

    def __init__(
        self,
        *,
        instance_id: str,
        instance_token: str,
        events: Sequence[str] | None,
        reconnect: bool,
        last_event_id: str | None,
        max_retries: int | None,
        retry_delay_seconds: float,
        keep_alive_seconds: float,
        max_frame_bytes: int,
    ) -> None:
        if isinstance(events, str):
            raise TypeError("events: expected a list of names, not one text")
        self.instance_id = instance_id
        self.instance_token = instance_token
        self.events = list(events or ())
        self.reconnect = reconnect
        self.last_event_id = last_event_id
        self.max_retries = max_retries
        self.retry_delay_seconds = retry_delay_seconds
        self.keep_alive_seconds = keep_alive_seconds
        self.max_frame_bytes = max_frame_bytes

    def feed(self, core: _core.VZapsClient) -> _core.Feed:
        """The connection, which is begun."""
        try:
            return core.feed(
                instance_id=self.instance_id,
                instance_token=self.instance_token,
                events=self.events,
                reconnect=self.reconnect,
                last_event_id=self.last_event_id,
                max_retries=self.max_retries,
                retry_delay_seconds=self.retry_delay_seconds,
                keep_alive_seconds=self.keep_alive_seconds,
                max_frame_bytes=self.max_frame_bytes,
            )
        except ZapbusError as error:
            raise of(error) from None


class EventSubscription(Handlers):
    """A subscription. Each event goes to the handlers of its name and to those of ``All``, one after
    the other, and is acknowledged when all of them have returned. When one raises it is not, and
    comes again.

    ``async with`` opens it and closes it.
    """

    def __init__(self, core: _core.VZapsClient, options: Options) -> None:
        super().__init__()
        self._core = core
        self._options = options
        self._task: asyncio.Task[None] | None = None
        self._pulling: asyncio.Task[Any] | None = None
        self._closing = False
        self._is_open = False

    async def __aenter__(self: _Self) -> _Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._is_open

    async def open(self) -> None:
        """Connects in the background, and goes on trying. Does nothing when it is open."""
        if self._task is not None and not self._task.done():
            return
        self._closing = False
        feed = self._options.feed(self._core)
        self._task = asyncio.create_task(self._run(feed), name="zapbus.vzaps.events")
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Closes it, and waits until that is done. An event that is being handled is finished, for
        which there are five seconds; then its handler is cancelled, and the event comes again.
        Called by a handler, it does not wait for that handler."""
        task = self._task
        self._closing = True
        if self._pulling is not None:
            self._pulling.cancel()
        if task is None or task is asyncio.current_task():
            return
        await asyncio.wait([task], timeout=FINISH_WITHIN)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])

    async def wait_closed(self) -> None:
        """Waits for its end. Raises why it has ended, if it was not closed and no handler of errors
        was told."""
        if self._task is not None:
            # Whoever waits may be cancelled without ending it.
            await asyncio.shield(self._task)

    async def _run(self, feed: _core.Feed) -> None:
        try:
            await self._pump(feed)
        finally:
            await awaited(feed.start_close)
            if self._is_open:
                self._is_open = False
                await self._lifecycle(list(self._close_handlers))

    async def _pump(self, feed: _core.Feed) -> None:
        while not self._closing:
            # Without a change of threads, while there is something.
            pulled: list[tuple[str, Any]] | None = feed.ready(BATCH)
            if pulled:
                # Others have their turn too.
                await asyncio.sleep(0)
            else:
                pulled = await self._pull(feed)
                if pulled is None:
                    continue
                if not pulled:
                    return
            for what, value in pulled:
                if self._closing:
                    # Not handled: it comes again.
                    return
                if what == "event":
                    await self._handle(value)
                elif what == "opened":
                    self._is_open = True
                    await self._lifecycle(list(self._open_handlers))
                elif what == "closed":
                    self._is_open = False
                    await self._lifecycle(list(self._close_handlers))
                elif what == "trouble":
                    await self._tell(realtime(value))
                elif what == "ended":
                    if value is not None:
                        await self._end(realtime(value))
                    return

    async def _pull(self, feed: _core.Feed) -> list[tuple[str, Any]] | None:
        """Waits for what happens; nothing at the end, or when it is closed."""
        self._pulling = asyncio.ensure_future(
            awaited(lambda done: feed.start_pull(done, BATCH, WAKE_EVERY))
        )
        try:
            pulled: list[tuple[str, Any]] | None = await self._pulling
        except asyncio.CancelledError:
            if self._closing and self._pulling.cancelled():
                return []
            self._pulling.cancel()
            raise
        finally:
            self._pulling = None
        return pulled

    async def _handle(self, delivery: _core.Delivery) -> None:
        try:
            event = RealtimeEvent.of_document(delivery.document)
            for handler in self._of(event):
                result = handler(event)
                if inspect.isawaitable(result):
                    await result
        except asyncio.CancelledError as error:
            delivery.give_back()
            if _is_cancelled():
                raise
            # Something inside the handler was cancelled, not this.
            await self._tell(realtime(error))
        except Exception as error:
            delivery.give_back()
            await self._tell(realtime(error))
        else:
            try:
                delivery.ack()
            except SubscriptionClosedError:
                # It was handled while the connection ended for good: it comes again.
                return

    async def _end(self, error: VZapsRealtimeError) -> None:
        if not self._error_handlers:
            raise error
        await self._tell(error)

    async def _tell(self, error: VZapsRealtimeError) -> None:
        if not self._error_handlers:
            log.error("realtime subscription: %s", error, exc_info=error.__cause__)
            return
        for handler in list(self._error_handlers):
            try:
                result = handler(error)
                if inspect.isawaitable(result):
                    await result
            except Exception:
                log.exception("a handler of errors has failed, for: %s", error)

    async def _lifecycle(self, handlers: list[Any]) -> None:
        for handler in handlers:
            try:
                result = handler()
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                await self._tell(realtime(error))


def _is_cancelled() -> bool:
    """Whether it is this task that somebody cancels."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    # Before Python 3.11 nobody knows: then it is.
    return cancelling is None or cancelling() > 0


class AsyncEventsResource:
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
    ) -> EventSubscription:
        """A subscription; it connects when it is opened.

        ``events``: names; without, those that the instance subscribes to. ``max_retries``: attempts
        in a row that may fail after the first; without, for ever. ``retry_delay_seconds``: the pause
        before the first; it doubles up to 30 seconds, with jitter. ``last_event_id``: begin after it.
        """
        return EventSubscription(
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
