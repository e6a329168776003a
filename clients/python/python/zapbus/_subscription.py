"""Live subscriptions of the native API: awaited, and waited for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from . import _core
from ._errors import ZapbusError
from ._events import DeadEvent, Event, Gap, Item, State, seconds
from ._loop import BATCH, WAKE_EVERY, awaited

log = logging.getLogger("zapbus")

_Async = TypeVar("_Async", bound="AsyncSubscription")
_Sync = TypeVar("_Sync", bound="Subscription")


class Options:
    """What to subscribe to, and how: the arguments of ``subscribe``."""

    def __init__(
        self,
        instance: str | None,
        *,
        subscriber: str | None = None,
        after: str | int | None = None,
        types: Sequence[str] = (),
        dialect: str = "native",
        include_raw: bool = False,
        exclude_ephemeral: bool = False,
        inline_media: bool = False,
        fallback: str | None = None,
        max_unacked: int = 256,
        ack_wait: float | timedelta = 30.0,
        reconnect: bool = True,
        max_retries: int | None = None,
        retry_pause: float | timedelta = 0.5,
        longest_retry_pause: float | timedelta = 30.0,
        patient: bool = False,
        keep_alive: float | timedelta = 20.0,
        max_frame_bytes: int = 64 << 20,
    ) -> None:
        self.instance = instance
        self.subscriber = subscriber
        self.after = None if after is None else str(after)
        self.types = [types] if isinstance(types, str) else list(types)
        self.dialect = dialect
        self.include_raw = include_raw
        self.exclude_ephemeral = exclude_ephemeral
        self.inline_media = inline_media
        self.fallback = fallback
        self.max_unacked = max_unacked
        self.ack_wait = seconds(ack_wait)
        self.reconnect = reconnect
        self.max_retries = max_retries
        self.retry_pauses = (seconds(retry_pause), seconds(longest_retry_pause))
        self.patient = patient
        self.keep_alive = seconds(keep_alive)
        self.max_frame_bytes = max_frame_bytes

    def stream(self, core: _core.NativeClient) -> _core.Stream:
        return core.subscribe(**self.__dict__)


class _Glanced:
    """How a subscription is."""

    def __init__(self, core: _core.NativeClient, options: Options) -> None:
        self._options = options
        self._stream = options.stream(core)
        self._glance: _core.Glance | None = None
        self._ready: deque[Item] = deque()
        self._ended: ZapbusError | None = None
        self._is_over = False

    @property
    def max_unacked(self) -> int:
        """How many events may wait for their acknowledgement at once."""
        return self._options.max_unacked

    @property
    def ack_wait(self) -> float:
        """After how many seconds an event that waits comes again."""
        return self._options.ack_wait

    @property
    def state(self) -> State:
        """How it is."""
        if self._glance is None:
            return State("closed" if self._is_over else "connecting")
        return State(*self._glance.state)

    @property
    def lag(self) -> timedelta | None:
        """By how much the last event that arrived was late, by the gateway's clock."""
        lag = None if self._glance is None else self._glance.lag
        return None if lag is None else timedelta(seconds=lag)

    @property
    def cursor(self) -> str | None:
        """Up to where everything is settled: to be kept by those who subscribe without a name."""
        return None if self._glance is None else self._glance.cursor

    @property
    def unsettled(self) -> int:
        """Events that were handed out and are not settled."""
        return 0 if self._glance is None else self._glance.unsettled

    def _take(self, pulled: list[tuple[str, Any]]) -> None:
        """Puts what has come where it is handed out from."""
        if not pulled:
            self._is_over = True
        for what, value in pulled:
            if what == "event":
                self._ready.append(Event(value.document, value))
            elif what == "gap":
                self._ready.append(Gap(*value))
            elif what == "dead":
                self._ready.append(DeadEvent(*value))
            elif what == "trouble":
                log.warning("subscription: %s", value)
            elif what == "ended":
                self._ended = value
                self._is_over = True

    def _end(self) -> ZapbusError | None:
        """Why it has ended, once."""
        ended, self._ended = self._ended, None
        return ended


class AsyncSubscription(_Glanced):
    """A subscription, to be iterated over with ``async for``; ``async with`` opens and closes it.

    What comes is an :class:`Event` to be settled, a :class:`Gap`, or a :class:`DeadEvent`. It ends
    when it is closed, or raises why it can go on no more.
    """

    async def __aenter__(self: _Async) -> _Async:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connects, and waits until that has succeeded once. Raises what the gateway refuses."""
        if self._glance is None:
            self._glance = await awaited(self._stream.start_open)

    def __aiter__(self: _Async) -> _Async:
        return self

    async def __anext__(self) -> Item:
        item = await self.next()
        if item is None:
            raise StopAsyncIteration
        return item

    async def next(self) -> Item | None:
        """The next item; ``None`` after the end."""
        while not self._ready:
            if self._is_over:
                ended = self._end()
                if ended is not None:
                    raise ended
                return None
            await self.open()
            # Without a change of threads, while there is something.
            pulled: list[tuple[str, Any]] | None = self._stream.ready(BATCH)
            if pulled:
                # Others have their turn too.
                await asyncio.sleep(0)
            else:
                pulled = await awaited(
                    lambda done: self._stream.start_pull(done, BATCH, WAKE_EVERY)
                )
            if pulled is not None:
                self._take(pulled)
        return self._ready.popleft()

    async def close(self) -> None:
        """Ends it: what was said about events is sent, and the connection closed in order. What was
        not settled comes again with the next subscription."""
        self._is_over = True
        self._ready.clear()
        await asyncio.shield(awaited(self._stream.start_close))


class Subscription(_Glanced):
    """A subscription, to be iterated over with ``for``; ``with`` opens and closes it. No event loop
    is needed. Otherwise it is what :class:`AsyncSubscription` is. One thread at a time reads it;
    events may be settled by others."""

    def __enter__(self: _Sync) -> _Sync:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open(self) -> None:
        """Connects, and waits until that has succeeded once. Raises what the gateway refuses."""
        if self._glance is None:
            self._glance = self._stream.open()

    def __iter__(self: _Sync) -> _Sync:
        return self

    def __next__(self) -> Item:
        item = self.next()
        if item is None:
            raise StopIteration
        return item

    def next(self, timeout: float | timedelta | None = None) -> Item | None:
        """The next item; ``None`` after the end. Raises :class:`TimeoutError` when nothing has come
        in ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + seconds(timeout)
        while not self._ready:
            if self._is_over:
                ended = self._end()
                if ended is not None:
                    raise ended
                return None
            self.open()
            patience = WAKE_EVERY
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"nothing came within {timeout} seconds")
                patience = min(patience, left)
            # In short steps: another thread may close it meanwhile.
            pulled = self._stream.pull(BATCH, patience)
            if pulled is not None:
                self._take(pulled)
        return self._ready.popleft()

    def close(self) -> None:
        """Ends it: what was said about events is sent, and the connection closed in order. What was
        not settled comes again with the next subscription."""
        self._is_over = True
        self._ready.clear()
        self._stream.close()
