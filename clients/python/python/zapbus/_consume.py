"""Events handed to a function, several at a time and in order where it counts."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from ._errors import SubscriptionClosedError
from ._events import DeadEvent, Event, Gap
from ._subscription import AsyncSubscription, Subscription, log

Order = Literal["chat", "none"]

#: Pauses before an event comes again double so often at most.
MOST_DOUBLINGS = 6


@dataclass(frozen=True)
class Consumed:
    """What was done until the end: events that were done, times that one was handed back."""

    done: int
    failed: int


class _Work:
    """Whose turn it is, and what becomes of events. For one thread."""

    def __init__(self, order: Order, concurrency: int, retry_after: float) -> None:
        if order not in ("chat", "none"):
            raise ValueError(f"order: expected 'chat' or 'none', not {order!r}")
        if concurrency < 1:
            raise ValueError("concurrency: expected 1 or more")
        self.order = order
        self.concurrency = concurrency
        self.retry_after = retry_after
        self.ready: deque[Event] = deque()
        self.behind: dict[str, deque[Event]] = {}
        self.running: set[Event] = set()
        self.failures: dict[str, int] = {}
        self.done = 0
        self.failed = 0

    def _key(self, event: Event) -> str | None:
        return event.ordering_key if self.order == "chat" else None

    def waiting(self) -> int:
        return len(self.ready) + sum(len(behind) for behind in self.behind.values())

    def take(self, event: Event) -> None:
        key = self._key(event)
        if key is not None:
            if key in self.behind:
                self.behind[key].append(event)
                return
            self.behind[key] = deque()
        self.ready.append(event)

    def next(self) -> Event | None:
        """One that may begin."""
        if not self.ready or len(self.running) >= self.concurrency:
            return None
        event = self.ready.popleft()
        self.running.add(event)
        return event

    def ended(self, event: Event, error: BaseException | None) -> None:
        self.running.discard(event)
        try:
            if error is None:
                self.done += 1
                self.failures.pop(event.id, None)
                event.ack()
            else:
                self.failed += 1
                times = self.failures.get(event.id, 0)
                self.failures[event.id] = times + 1
                event.nack(self.retry_after * 2 ** min(times, MOST_DOUBLINGS))
        except SubscriptionClosedError:
            # It comes again to whoever subscribes next.
            log.debug("an event was handled after the end of its subscription")
        key = self._key(event)
        if key is not None:
            behind = self.behind.get(key)
            if behind:
                self.ready.append(behind.popleft())
            else:
                self.behind.pop(key, None)

    def still_at_it(self) -> None:
        """Nothing of this comes again while it is worked on or waits for its turn."""
        try:
            for event in (*self.running, *self.ready):
                event.in_progress()
            for behind in self.behind.values():
                for event in behind:
                    event.in_progress()
        except SubscriptionClosedError:
            # Its end shows elsewhere.
            return

    def forget(self, dead: DeadEvent) -> None:
        self.failures.pop(dead.id or "", None)
        log.warning("event %s was given up after %s deliveries", dead.id, dead.deliveries)


def _told(event: Event, error: BaseException, on_failure: Callable[..., Any] | None) -> None:
    if on_failure is None:
        log.error("the handler of %r has failed", event, exc_info=error)
        return
    try:
        on_failure(event, error)
    except Exception:
        log.exception("on_failure has failed itself, for %r", event)


def _gap(gap: Gap, on_gap: Callable[[Gap], Any] | None) -> None:
    if on_gap is None:
        log.warning("events are missing: %s", gap)
    else:
        on_gap(gap)


async def consume_async(
    subscription: AsyncSubscription,
    handler: Callable[[Event], Any],
    *,
    concurrency: int,
    order: Order,
    retry_after: float,
    drain_within: float,
    stop: asyncio.Event | None,
    on_failure: Callable[[Event, BaseException], Any] | None,
    on_gap: Callable[[Gap], Any] | None,
) -> Consumed:
    """Consumes in an event loop; handlers are coroutine functions or plain ones."""
    work = _Work(order, concurrency, retry_after)
    tasks: dict[asyncio.Task[Any], Event] = {}
    most_waiting = subscription.max_unacked
    beat = subscription.ack_wait / 3
    stopping = asyncio.ensure_future((stop or asyncio.Event()).wait())
    pulling: asyncio.Future[Any] | None = None

    async def handle(event: Event) -> None:
        result = handler(event)
        if inspect.isawaitable(result):
            await result

    def reap(done: set[asyncio.Future[Any]]) -> None:
        for task in [task for task in tasks if task in done]:
            event = tasks.pop(task)
            error: BaseException | None
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is not None:
                _told(event, error, on_failure)
            work.ended(event, error)

    await subscription.open()
    beaten = time.monotonic()
    try:
        while not stopping.done():
            while (event := work.next()) is not None:
                tasks[asyncio.ensure_future(handle(event))] = event
            if pulling is None and work.waiting() < most_waiting:
                pulling = asyncio.ensure_future(subscription.next())
            waits: set[asyncio.Future[Any]] = {stopping, *tasks}
            if pulling is not None:
                waits.add(pulling)
            done, _ = await asyncio.wait(
                waits, timeout=beat, return_when=asyncio.FIRST_COMPLETED
            )
            reap(done)
            if time.monotonic() - beaten >= beat:
                beaten = time.monotonic()
                work.still_at_it()
            if pulling is not None and pulling in done:
                item, pulling = pulling.result(), None
                if item is None:
                    break
                if isinstance(item, Event):
                    work.take(item)
                elif isinstance(item, Gap):
                    _gap(item, on_gap)
                else:
                    work.forget(item)
    finally:
        stopping.cancel()
        if pulling is not None:
            pulling.cancel()
        work.ready.clear()
        work.behind.clear()
        if tasks:
            done, late = await asyncio.wait(tasks, timeout=drain_within)
            for task in late:
                task.cancel()
            if late:
                done |= (await asyncio.wait(late))[0]
            reap(set(done))
        await subscription.close()
    return Consumed(work.done, work.failed)


def consume(
    subscription: Subscription,
    handler: Callable[[Event], Any],
    *,
    concurrency: int,
    order: Order,
    retry_after: float,
    drain_within: float,
    stop: threading.Event | None,
    on_failure: Callable[[Event, BaseException], Any] | None,
    on_gap: Callable[[Gap], Any] | None,
) -> Consumed:
    """Consumes on threads, and waits for the end."""
    if inspect.iscoroutinefunction(handler):
        raise TypeError("the handler is a coroutine function: use AsyncClient.consume")
    work = _Work(order, concurrency, retry_after)
    futures: dict[Future[Any], Event] = {}
    most_waiting = subscription.max_unacked
    beat = subscription.ack_wait / 3
    stopping = stop or threading.Event()

    def reap() -> None:
        for future in [future for future in futures if future.done()]:
            event = futures.pop(future)
            error = future.exception()
            if error is not None:
                _told(event, error, on_failure)
            work.ended(event, error)

    subscription.open()
    beaten = time.monotonic()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="zapbus.consume")
    try:
        while not stopping.is_set():
            reap()
            while (event := work.next()) is not None:
                futures[pool.submit(handler, event)] = event
            if time.monotonic() - beaten >= beat:
                beaten = time.monotonic()
                work.still_at_it()
            if work.waiting() >= most_waiting:
                time.sleep(0.005)
                continue
            try:
                # A handler that ends is seen soon.
                item = subscription.next(timeout=0.01 if futures else 0.25)
            except TimeoutError:
                continue
            if item is None:
                break
            if isinstance(item, Event):
                work.take(item)
            elif isinstance(item, Gap):
                _gap(item, on_gap)
            else:
                work.forget(item)
    finally:
        work.ready.clear()
        work.behind.clear()
        deadline = time.monotonic() + drain_within
        while futures and time.monotonic() < deadline:
            time.sleep(0.005)
            reap()
            work.still_at_it()
        pool.shutdown(wait=False, cancel_futures=True)
        subscription.close()
    return Consumed(work.done, work.failed)
